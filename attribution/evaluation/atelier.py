"""The atelier suite: does the built-in generator draw what it is asked for, as finely as the works it learned from, and
without handing those works out?

An independent judge (`models.atelier.judge`), trained anew on drawn works alone, says which studio and which subject it
sees. Beside the generated pictures stand two halves of drawn works that nobody learned from, of the same studios and
subjects and as many on each side: what a perfect generator would reach. Nearest training works are found by the copy
encoder where there is one, else by thumbnails (`models.atelier.memorisation`).

What this does not prove: the judge knows the collection's studios and no others, and the Fréchet distance is one in its
features: neither sees what does not help to tell hands and subjects apart (crispness is measured apart).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from attribution.calibration import clopper_pearson, clustered_interval
from attribution.evaluation import atelier_encoders
from attribution.evaluation.copy_methods import copy_encoders
from attribution.evaluation.dataset import Dataset, drawn
from attribution.evaluation.generated import Prompted, generate
from attribution.evaluation.metrics import frechet
from attribution.evaluation.suite import OURS, Figure, Options, Result, Table, data_of, share, told
from attribution.processes import in_processes
from models.atelier.collection import SUBJECTS, draw
from models.atelier.judge import HELD_OUT_VARIANT, STUDIO_NAMES, Judge, Verdict
from models.atelier.memorisation import Describe, limit, nearest, thumbnails
from models.atelier.train import VARIANTS
from models.images import encode_png
from models.networks import Encoder

Pixels = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Work = tuple[str, str, int]  # studio, subject, variant

SAMPLE = 600  # every studio and subject five times
SPLITS = 20
PAIRS = 10
HALVES = "baseline: two halves of the drawn works"
DRAWN = "baseline: drawn works that nobody learned from"
SHUFFLED_PROMPTS = "control: shuffled prompts"
CHANCE = "control: chance"
NOTES = (
    "Intervals are Clopper and Pearson's; of the crispness over studios, of the Fréchet distance over splits.",
    "With more pictures both Fréchet distances shrink: their ratio holds for this number of pictures alone.",
    "Crispness: mean squared gradient of the brightness over that of drawn works. Noise raises it as edges do.",
    "In the contact sheet each studio's drawn works stand above the generated ones.",
)
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Seen:
    """What the judge said of n pictures: (n,) whether the studio, whether the subject is right, and what it named."""

    studio: Flags
    subject: Flags
    studios: NDArray[np.str_]
    subjects: NDArray[np.str_]


def evaluate(dataset: Dataset | None, encoders: Mapping[str, Encoder], options: Options) -> Result:
    """Generate, judge, measure. `dataset` is not looked at: only the atelier's own generator can be asked.

    `options.sample` is the number of pictures, SAMPLE if None.
    """
    prompted = generate(options.sample or SAMPLE, options)
    side = len(prompted.images[0])
    halves = _works(_halves(prompted), side, "drawing what to compare with", options)
    judge = Judge.train(progress=options.progress)
    seen = _seen(judge.look(prompted.images), prompted.studios, prompted.subjects)
    right = _seen(judge.look(halves), np.tile(prompted.studios, 2), np.tile(prompted.subjects, 2))
    crispness = _crispness(prompted, halves)
    memorised, distances, pairs = _memorised(prompted.images, halves, encoders, side, options)
    options.keep("atelier", encode_png(_sheet(prompted, halves)))
    options.keep("atelier-nearest", encode_png(pairs))
    return Result(
        suite="atelier",
        figures=[
            *_of_judge(right),
            *_recognised(seen, right, prompted, options.seed),
            *_finish(judge.features(prompted.images), judge.features(halves), crispness, prompted, options.seed),
            *memorised,
            *atelier_encoders.measured(
                halves, np.tile(prompted.studios, 2), np.tile(prompted.subjects, 2), encoders, options
            ),
            *_each("studio recognised, by studio", prompted.studios, seen.studio),
            *_each("subject recognised, by subject", prompted.subjects, seen.subject),
        ],
        tables=[
            _by("studio", prompted.studios, seen, seen.studios, crispness),
            _by("subject", prompted.subjects, seen, seen.subjects, crispness),
            distances,
        ],
        notes=[f"{len(prompted.images)} pictures of {side} px.", *NOTES],
        data=data_of(drawn(1, side)),
        seed=options.seed,
        sample=options.sample,
    )


# ---- what to compare with ------------------------------------------------------------------------------------------


def _halves(prompted: Prompted) -> list[Work]:
    """Two drawn works for every picture, of its studio and subject and never learned from: all firsts, all seconds."""
    times: dict[tuple[str, str], int] = {}
    turns = []
    for cell in zip(prompted.studios, prompted.subjects, strict=True):
        turns.append(times.get(cell, 0))
        times[cell] = turns[-1] + 1
    cells = list(zip(map(str, prompted.studios), map(str, prompted.subjects), turns, strict=True))
    return [(studio, subject, HELD_OUT_VARIANT + 2 * turn + half) for half in (0, 1) for studio, subject, turn in cells]


@dataclass(frozen=True)
class _Draw:
    side: int

    def __call__(self, work: Work) -> Pixels:
        return draw(*work, self.side)


def _works(works: Sequence[Work], side: int, stage: str, options: Options) -> list[Pixels]:
    return list(told(in_processes(options.processes, _Draw(side), works), stage, len(works), options))


# ---- the judge's word ----------------------------------------------------------------------------------------------


def _seen(verdicts: Sequence[Verdict], studios: NDArray[np.str_], subjects: NDArray[np.str_]) -> Seen:

    hands, shown = (np.array([getattr(verdict, what) for verdict in verdicts]) for what in ("studio", "subject"))
    return Seen(hands == studios, shown == subjects, hands, shown)


def _of_judge(right: Seen) -> list[Figure]:
    return [
        share("the judge on drawn works it never saw: studio right", right.studio, target=0.95),
        share("the judge on drawn works it never saw: subject right", right.subject, target=0.95),
    ]


def _recognised(seen: Seen, right: Seen, prompted: Prompted, seed: int) -> list[Figure]:

    lot = np.random.default_rng(seed).permutation(len(prompted.images))
    figures = []
    for what, target, named, asked, known, drawn_right in (
        ("studio", 0.97, seen.studios, prompted.studios, len(STUDIO_NAMES), right.studio),
        ("subject", 0.93, seen.subjects, prompted.subjects, len(SUBJECTS), right.subject),
    ):
        name, n = f"the prompted {what} is recognised", len(named)
        figures += [
            share(name, named == asked, target=target),
            share(name, drawn_right, DRAWN),
            share(name, named == asked[lot], SHUFFLED_PROMPTS),
            Figure(name=name, value=1 / known, low=1 / known, high=1 / known, n=n, method=CHANCE),
        ]
        worst = min(np.unique(asked), key=lambda each: (named == asked)[asked == each].mean())
        figures.append(share(f"the {what} that is recognised least", (named == asked)[asked == worst], target=0.85))
    return figures


def _each(group: str, asked: NDArray[np.str_], happened: Flags) -> list[Figure]:
    return [share(str(each), happened[asked == each], target=0.85, group=group) for each in np.unique(asked)]


def _by(
    what: str, asked: NDArray[np.str_], seen: Seen, named: NDArray[np.str_], crispness: NDArray[np.float64]
) -> Table:
    rows: list[list[str | float | int | None]] = []
    for each in np.unique(asked):
        mine = asked == each
        others, times = np.unique(named[mine & (named != each)], return_counts=True)
        parts = [(float(flags[mine].mean()), *clopper_pearson(int(flags[mine].sum()), int(mine.sum())))
                 for flags in (seen.studio, seen.subject)]  # fmt: skip
        taken_for = str(others[times.argmax()]) if len(others) else None
        rows.append([str(each), int(mine.sum()), *parts[0], *parts[1], float(crispness[mine].mean()), taken_for])
    columns = ["prompted", "images", "studio", "low", "high", "subject", "low", "high", "crispness", "else mostly"]
    return Table(title=f"By {what}", columns=columns, rows=rows)


# ---- finish --------------------------------------------------------------------------------------------------------


def _finish(
    made: NDArray[np.float64],
    halves: NDArray[np.float64],
    crispness: NDArray[np.float64],
    prompted: Prompted,
    seed: int,
) -> list[Figure]:
    """`made` (n, d), `halves` (2n, d): the judge's features, scaled here by their deviation over the drawn works."""
    n = len(made)
    scale = np.maximum(halves.std(axis=0), 1e-6)
    made, pair = made / scale, (halves / scale).reshape(2, n, -1)
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(SPLITS):
        first = chance.integers(2, size=n)  # every studio and subject stays on both sides
        one, other = pair[first, np.arange(n)], pair[1 - first, np.arange(n)]
        found.append((frechet(made, one), frechet(other, one)))
    ours, base = np.array(found).T
    name = "Fréchet distance to drawn works"
    figures = [_over_splits(name, ours, n, "", OURS), _over_splits(name, base, n, "", HALVES)]
    ratio = _over_splits("the same as a multiple of that of two halves", ours / base, n, "times", OURS)
    if n >= SAMPLE:
        ratio = msgspec.structs.replace(ratio, target=2.0, at_most=True)
    _, studios = np.unique(prompted.studios, return_inverse=True)
    low, high = clustered_interval(crispness, studios, seed=seed)
    value = float(crispness.mean())
    return [
        *figures, ratio,
        Figure(name="crispness", value=value, low=low, high=high, n=n, unit="times that of drawn works"),
    ]  # fmt: skip


def _over_splits(name: str, values: NDArray[np.float64], n: int, unit: str, method: str) -> Figure:
    low, high = np.quantile(values, [0.025, 0.975])
    return Figure(
        name=name, value=float(values.mean()), low=float(low), high=float(high), n=n, unit=unit, method=method
    )  # fmt: skip


def _crispness(prompted: Prompted, halves: Sequence[Pixels]) -> NDArray[np.float64]:
    """(n,) gradient energy of each picture over the mean of drawn works by its studio."""
    made = np.array([gradient_energy(image) for image in prompted.images])
    drawn_energy = np.array([gradient_energy(image) for image in halves])
    studios = np.tile(prompted.studios, 2)
    return np.asarray(made / [drawn_energy[studios == studio].mean() for studio in prompted.studios], np.float64)


def gradient_energy(image: Pixels) -> float:
    """Mean squared difference of neighbouring pixels' brightness, along both axes."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    return float(np.mean(np.diff(grey, axis=0) ** 2) + np.mean(np.diff(grey, axis=1) ** 2))


# ---- memorisation --------------------------------------------------------------------------------------------------


def descriptor(encoders: Mapping[str, Encoder]) -> tuple[str, Describe]:
    """What finds near-copies, and its name: the first copy encoder, or thumbnails where there is none."""
    for encoder in copy_encoders(encoders):
        return encoder.info.name, encoder.encode
    return "thumbnails", thumbnails


def _memorised(
    images: Sequence[Pixels], halves: Sequence[Pixels], encoders: Mapping[str, Encoder], side: int, options: Options
) -> tuple[list[Figure], Table, Pixels]:
    """Near-copies among the pictures and among drawn works, the distribution of both, and the nearest pairs to see."""
    learned = [(studio, subject, at) for studio in STUDIO_NAMES for subject in SUBJECTS for at in range(VARIANTS)]
    works = _works(learned, side, "drawing the training works", options)
    by, describe = descriptor(encoders)
    made, unseen = nearest(images, works, describe), nearest(halves, works, describe)
    least = limit(unseen.ratio)
    name = f"near-copies of a training work, by {by}"
    figures = [
        share(name, made.ratio < least),
        share(name, unseen.ratio < least, DRAWN),
    ]
    rows: list[list[str | float | int | None]] = [
        [what, *np.quantile(found.ratio, QUANTILES).tolist()]
        for what, found in (("generated", made), ("drawn, never learned from", unseen))
    ]
    table = Table(
        title=f"Distance to the nearest training work over that to the next ones, by {by}; near-copy below {least:.3f}",
        columns=["pictures", *(f"{quantile:.0%} below" for quantile in QUANTILES)],
        rows=rows,
    )
    closest = np.argsort(made.ratio)[:PAIRS]
    above, below = [images[at] for at in closest], [works[made.work[at]] for at in closest]
    return figures, table, np.concatenate([np.concatenate(above, 1), np.concatenate(below, 1)])


def _sheet(prompted: Prompted, halves: Sequence[Pixels]) -> Pixels:
    """Subjects across; for each studio a row of drawn works and, below it, one of generated pictures."""
    side = len(prompted.images[0])
    sheet = np.full((2 * len(STUDIO_NAMES) * side, len(SUBJECTS) * side, 3), 255, np.uint8)
    for at in reversed(range(len(prompted.images))):  # the first of each studio and subject stays
        top = 2 * STUDIO_NAMES.index(str(prompted.studios[at])) * side
        left = SUBJECTS.index(str(prompted.subjects[at])) * side
        sheet[top : top + side, left : left + side] = halves[at]
        sheet[top + side : top + 2 * side, left : left + side] = prompted.images[at]
    return sheet
