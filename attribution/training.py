"""Train the artist classifier on the works that may be learnt from, and measure it on what it has not seen."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from attribution.calibration import balanced, clustered_rate_interval, expected_calibration_error
from models.head import ArtistHead, HeadError
from models.head_training import HeadReport, train_head

LEARNT_DOMAIN = b"lawful-ledger/learnt-from/1\0"


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A rate over n held-out works with its 95 % interval, clustered by artist."""

    value: float
    low: float
    high: float
    n: int


class TrainingReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a trained classifier; all of it on works that the maps behind each answer had not seen.

    `right`: works by its artists named rightly; `unknown_right`: works by left-out artists called unknown; `ece`: mean
    gap between its confidence and its being right, over both. `not_learnt`: works whose artist does not allow it.
    """

    classifier: str
    artists: int
    works: int
    not_learnt: int
    right: Measured
    unknown_right: Measured
    ece: float
    weights: dict[str, float]
    learnt_from: dict[str, str | int]


@dataclass(frozen=True)
class Trained:
    head: ArtistHead
    report: TrainingReport


def train(
    vectors: Mapping[str, NDArray[np.float32]],
    artists: Sequence[str],
    pictures: Sequence[str],
    allowed: NDArray[np.bool_],
    *,
    name: str,
    seed: int = 0,
    licence: str = "unknown",
) -> Trained:
    """Learn from those of n works that `allowed` (n) marks: their grant *train*. The others are not looked at.

    `vectors`: (n, d) unit rows by encoder key; `artists`: ids; `pictures`: hex digests of the pixels, equal for equal
    pictures, which are never on both sides of a split. A picture that stands under two artists teaches nothing and is
    left out. `name` of the collection and a digest over what was learnt from are kept with the weights. Raises
    HeadError: nothing_to_learn where no work may be learnt from, and what `train_head` raises.
    """
    under: dict[str, set[str]] = {}
    for picture, artist in zip(pictures, artists, strict=True):
        under.setdefault(picture, set()).add(artist)
    kept = np.array([bool(may) and len(under[each]) == 1 for may, each in zip(allowed, pictures, strict=True)], bool)
    if not kept.any():
        raise HeadError(
            f"None of {len(artists)} works may be learnt from.",
            code="nothing_to_learn",
            next_step="Ask the artists for the grant train; without it their works are only compared.",
        )
    chosen: list[int] = np.flatnonzero(kept).tolist()
    codes = {picture: number for number, picture in enumerate(sorted({pictures[at] for at in chosen}))}
    head, report = train_head(
        {key: rows[chosen] for key, rows in vectors.items()},
        [artists[at] for at in chosen],
        np.array([codes[pictures[at]] for at in chosen], np.int64),
        seed=seed,
        learnt_from={
            "name": name,
            "works": len(chosen),
            "digest": _digest([(artists[at], pictures[at]) for at in chosen]),
            "seed": seed,
        },
        licence=licence,
    )
    return Trained(head, told(head, report, len(artists) - len(chosen)))


def told(head: ArtistHead, report: HeadReport, not_learnt: int = 0) -> TrainingReport:
    """Put figures and intervals on what a training measured."""
    known, unknown = ~report.left_out, report.left_out
    return TrainingReport(
        classifier=head.info.weights_sha256,
        artists=report.artists,
        works=report.works,
        not_learnt=not_learnt,
        right=_measured(report.right[known], report.truth[known]),
        unknown_right=_measured(report.right[unknown], report.truth[unknown]),
        ece=expected_calibration_error(
            report.confidence, report.right, weights=balanced(report.left_out, report.truth)
        ),
        weights=dict(report.weights),
        learnt_from=dict(head.learnt_from),
    )


def _measured(right: NDArray[np.bool_], artists: NDArray[np.int64]) -> Measured:
    low, high = clustered_rate_interval(right, artists)
    return Measured(value=float(right.mean()), low=low, high=high, n=len(right))


def _digest(works: Sequence[tuple[str, str]]) -> str:
    """SHA-256 over the sorted (artist, picture) pairs, each part as u32be length and UTF-8."""
    whole = hashlib.sha256(LEARNT_DOMAIN)
    for parts in sorted(works):
        for part in parts:
            encoded = part.encode()
            whole.update(len(encoded).to_bytes(4, "big") + encoded)
    return whole.hexdigest()
