"""How far the confidence of answers lies from how often they are right: figures that several suites report alike.

Shares and probabilities are fitted to a population in which half of all images are by nobody who is known and all
artists count the same, so that a large catalogue is no advantage. There the calibration error is measured: images are
weighted so. What it is when every image counts the same stands beside it, and what a perfect model would show.

What this does not prove: with few artists the error of the next collection is anybody's guess, whatever the number of
images; the interval, over artists, says so as well as that many can.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attribution.calibration import balanced, calibration_noise, expected_calibration_error, reliability
from attribution.evaluation.suite import PERFECT, Figure, Table

TARGET = 0.05
RESAMPLES = 300

Codes = NDArray[np.int64]


class Answered(NamedTuple):
    """n answers, each (n,): how sure it was, whether it was right, whether the image is by nobody who is known, and the
    code of who made it."""

    confidence: NDArray[np.float64]
    right: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    artists: Codes


def figures(what: str, answers: Answered, group: str, seed: int) -> list[Figure]:
    """The error of the answers, with its target; of a perfect model with these confidences; and with images alike.

    The interval is over artists, drawn anew with all their images, of both kinds.
    """
    confidence, right, unknown, artists = answers
    weights = balanced(unknown, artists)
    rng = np.random.default_rng(seed)
    names, places = np.unique(artists, return_inverse=True)
    drawn = []
    for _ in range(RESAMPLES):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[places]
        again = _halves(weights * times, unknown)
        if again.any():
            drawn.append(expected_calibration_error(confidence, right, weights=again))
    value = expected_calibration_error(confidence, right, weights=weights)
    low, high = (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
    mean, least, most = calibration_noise(confidence, seed=seed, weights=weights)
    plain = expected_calibration_error(confidence, right)
    bias, n = f"calibration error of {what}", len(confidence)
    return [
        Figure(
            name=bias, value=value, low=min(low, value), high=max(high, value), n=n, target=TARGET, at_most=True,
            unit="gap", group=group,
        ),
        Figure(name=bias, value=mean, low=least, high=most, n=n, method=PERFECT, unit="gap", group=group),
        Figure(
            name=f"{bias}, every image counting the same", value=plain, low=plain, high=plain, n=n, unit="gap",
            group=group,
        ),
    ]  # fmt: skip


def table(what: str, answers: Answered, group: str) -> Table:
    """The reliability diagram in figures, weighted as the error is."""
    weights = balanced(answers.unknown, answers.artists)
    bars = reliability(answers.confidence, answers.right, weights=weights)
    return Table(
        title=f"Reliability of {what}: {group}",
        columns=["above", "up to", "images", "part by weight", "mean confidence", "right"],
        rows=[[bar.low, bar.high, bar.n, bar.part, bar.confidence, bar.right] for bar in bars],
    )


def _halves(weights: NDArray[np.float64], unknown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The same weights, half to each kind; nothing where one kind was not drawn and the other was."""
    found = np.zeros(len(weights))
    for kind in (unknown, ~unknown):
        total = weights[kind].sum()
        if kind.any() and total == 0:
            return np.zeros(len(weights))
        found[kind] = weights[kind] / max(total, 1e-300)
    return found
