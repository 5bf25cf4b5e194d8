"""The copy suite: is a work found again after each edit, at a false-positive rate that was measured in the same run?

Every query is a work under an edit. Its own entries (the same file, under whichever name) should be found; entries of
equal content, and others known to show the same, are no matches and no errors; the best of all other entries
is the query's false score. The works of a kind are dealt into two halves: each half's threshold is the lowest at which
at most RATE of the *other* half's queries have a higher false score, so that recall and the false-positive rate are
measured on queries that the threshold has not seen. A table gives the threshold with the whole artist left out, too:
works of one artist may share parts, and a set of clock faces does.

What this does not prove: recall under edits that are not here, or of works that are unlike these.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attribution.evaluation.copy_methods import ColourHistogram, Described, Ours, Pdq, copy_encoders
from attribution.evaluation.dataset import Dataset, Item, Pixels, drawn
from attribution.evaluation.edits import EDITS, collage
from attribution.evaluation.metrics import micro_average_precision, threshold_at
from attribution.evaluation.sift_baseline import Features, SiftBaseline, features
from attribution.evaluation.suite import OURS, SHUFFLED, Figure, Options, Result, Table, data_of, share, told
from attribution.processes import in_processes
from models.networks import Encoder

RATE = 1e-3
LARGE = 200  # pixels on the short side
IS_LARGE = f"from {LARGE} px"
MOST_LARGE, MOST_SMALL = 300, 120  # works of one kind that are edited; the reference is always all works
MOST_BASELINE = 60  # of them that the baselines are asked about
TWO_IN_ONE = "two works in one"
KEPT = 10  # best entries of each query that μAP looks at
DRAWN_VARIANTS, DRAWN_SIZE = 4, 256

TARGETS = dict.fromkeys(
    (
        "JPEG-30",
        "half size",
        "crop to 50 % of the area",
        "rotation to 15°",
        "grey",
        "brightness and contrast ±40 %",
        "20 % overlay",
        "10 % border",
    ),
    0.97,
) | {"flip": 0.95, "pasted at 25 % of the area": 0.85, "four combined": 0.80}

RATE_COLUMNS = (
    "kind", "method", "queries", "threshold", "of the other half", "measured rate", "low", "high",
    "artist left out", "of the other half", "recall",
)  # fmt: skip
NOTE_REFERENCE = (
    "Each query is searched among all {} works;"
    f" at most {MOST_LARGE} works of a kind are edited, {MOST_SMALL} of small ones, drawn by lot; the baselines see"
    f" the first {MOST_BASELINE} of them."
)
NOTE_INTERVALS = (
    "Queries of one work under several edits are not independent: the interval of the false-positive rate is narrower"
    " than it should be. Intervals of recall are over different works."
)
NOTE_RATE = (
    f"False scores leave out the work itself, byte-equal files and works of equal content; {RATE} is the rate per query"
    " over the whole collection, not per pair."
)


class Method(Protocol):
    """A way of finding works: (n,) scores of a picture (h, w, 3) with each work, -inf where it sees none."""

    def scores(self, pixels: Pixels) -> NDArray[np.float64]: ...


@dataclass(frozen=True)
class Query:
    """Work `row` under `edit`; beside work `also` where the edit shows two. `half` (0, 1) is where its work was dealt.

    `compared`: the baselines are asked as well.
    """

    row: int
    edit: str
    half: int
    compared: bool
    also: int | None = None


@dataclass(frozen=True)
class Answer:
    """What one method made of one query. -inf: nothing found.

    `own`: best score of the true entries; `other`: of entries that are neither true nor of equal content; `away`: of
    those by other artists; `wrong`: of the entries of a work that was drawn by lot. `best`: (score, right) of the first
    KEPT entries.
    """

    own: float
    other: float
    away: float
    wrong: float
    best: tuple[tuple[float, bool], ...]


def evaluate(dataset: Dataset | None, encoders: Mapping[str, Encoder], options: Options) -> Result:
    """Run the suite; without a dataset on the atelier's own works. Encoders whose axes hold "copy" take part."""
    given = dataset if dataset is not None else drawn(DRAWN_VARIANTS, DRAWN_SIZE)
    used = given if options.sample is None else given.sample(options.sample, options.seed)
    kinds = np.array([_kind(item) for item in used.items])
    methods = _methods(used, copy_encoders(encoders), options)
    queries = _queries(used, kinds, options.seed)
    ask = _Ask(used.items, methods, _Labels(used, queries, options.seed), options.seed)
    asked = in_processes(options.processes, ask, queries)
    answers = list(told(asked, "looking for copies", len(queries), options))
    by_method = {
        name: [answer[number] if number < len(answer) else None for answer in answers]
        for number, name in enumerate(methods)
    }
    return _result(used, kinds, queries, by_method, options)


def edited(items: Sequence[Item], query: Query, seed: int) -> Pixels:
    """The picture that a query asks with; it depends on the seed, the edit and the work's name alone."""
    item = items[query.row]
    text = f"{seed}/{query.edit}/{item.group}/{item.name}"
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]))
    if query.also is not None:
        return collage([item.pixels(), items[query.also].pixels()], rng)
    return EDITS[query.edit](item.pixels(), rng)


def _kind(item: Item) -> str:
    side = IS_LARGE if min(item.pixels().shape[:2]) >= LARGE else f"under {LARGE} px"
    return f"{item.group or 'works'}, {side}"


@dataclass(frozen=True)
class _Describe:
    """What each method keeps of a work."""

    encoders: Sequence[Encoder]

    def __call__(self, item: Item) -> tuple[Described, Features, NDArray[np.uint8], NDArray[np.float32]]:
        pixels = item.pixels()
        ours = Ours.describe(pixels, self.encoders)
        return ours, features(pixels), Pdq.describe(pixels), ColourHistogram.describe(pixels)


def _methods(dataset: Dataset, encoders: Sequence[Encoder], options: Options) -> dict[str, Method]:
    """Every method with all works in it."""
    described = in_processes(options.processes, _Describe(encoders), dataset.items)
    made = told(described, "indexing", len(dataset.items), options)
    ours, sift, pdq, colours = zip(*made, strict=True)
    return {
        OURS: Ours(ours, encoders),
        "baseline: plain upscaled SIFT": SiftBaseline(sift, options.seed),
        "baseline: PDQ": Pdq(pdq),
        "baseline: colour histogram": ColourHistogram(colours),
    }


def _queries(dataset: Dataset, kinds: NDArray[np.str_], seed: int) -> list[Query]:
    """Every edit of a sample of each kind; pairs of the sample in one picture, by different artists where possible."""
    queries: list[Query] = []
    for kind in np.unique(kinds).tolist():
        most = MOST_LARGE if kind.endswith(IS_LARGE) else MOST_SMALL
        rows = _by_lot(dataset.items, np.flatnonzero(kinds == kind), seed)[:most]
        place = {row: at for at, row in enumerate(rows)}

        def query(row: int, edit: str, also: int | None = None, place: Mapping[int, int] = place) -> Query:
            return Query(row, edit, place[row] % 2, place[row] < MOST_BASELINE, also)

        queries += [query(row, edit) for row, edit in product(rows, EDITS)]
        half = len(rows) // 2
        for first, second in zip(rows[:half], rows[half : 2 * half], strict=True):
            queries += [query(first, TWO_IN_ONE, second), query(second, TWO_IN_ONE, first)]
    return queries


def _by_lot(items: Sequence[Item], rows: NDArray[np.intp], seed: int) -> list[int]:
    def lot(row: int) -> bytes:
        return hashlib.sha256(f"{seed}/query/{items[row].group}/{items[row].name}".encode()).digest()

    return sorted((int(row) for row in rows), key=lot)


class _Labels:
    """Which entries are true, neutral or false for a query."""

    def __init__(self, dataset: Dataset, queries: Sequence[Query], seed: int) -> None:
        self._files, self._pictures = dataset.file_codes(), dataset.picture_codes()
        self._contents = dataset.content_codes()
        self._artists = dataset.artist_codes()
        rows = np.array(sorted({query.row for query in queries}))
        self._drawn_by_lot = dict(
            zip(rows.tolist(), np.random.default_rng(seed).permutation(rows).tolist(), strict=True)
        )

    def answer(self, query: Query, scores: NDArray[np.float64]) -> Answer:
        own = self._files == self._files[query.row]
        neutral = (self._contents == self._contents[query.row]) | (self._pictures == self._pictures[query.row])
        same_artist = self._artists == self._artists[query.row]
        if query.also is not None:
            neutral |= (self._pictures == self._pictures[query.also]) | (self._contents == self._contents[query.also])
            same_artist |= self._artists == self._artists[query.also]
        false = ~own & ~neutral
        wrong = (self._pictures == self._pictures[self._drawn_by_lot[query.row]]) & false
        mine = np.flatnonzero(own)  # a file under several names is one right answer
        counted = np.append(np.flatnonzero(false), mine[scores[mine].argmax()])
        first = counted[np.argsort(-scores[counted], kind="stable")[:KEPT]]
        return Answer(
            own=_best(scores[own]),
            other=_best(scores[false]),
            away=_best(scores[false & ~same_artist]),
            wrong=_best(scores[wrong]),
            best=tuple((float(scores[row]), bool(own[row])) for row in first if scores[row] > -np.inf),
        )


@dataclass(frozen=True)
class _Ask:
    """What every method that is asked makes of a query, ours first."""

    items: Sequence[Item]
    methods: Mapping[str, Method]
    labels: _Labels
    seed: int

    def __call__(self, query: Query) -> list[Answer]:
        pixels = edited(self.items, query, self.seed)
        asked = [method for name, method in self.methods.items() if query.compared or name == OURS]
        return [self.labels.answer(query, method.scores(pixels)) for method in asked]


def _best(scores: NDArray[np.float64]) -> float:
    return float(scores.max(initial=-np.inf))


# ---- figures -------------------------------------------------------------------------------------------------------


def _result(
    dataset: Dataset,
    kinds: NDArray[np.str_],
    queries: Sequence[Query],
    answers: Mapping[str, Sequence[Answer | None]],
    options: Options,
) -> Result:
    figures: list[Figure] = []
    rates: list[list[str | float | int | None]] = []
    precisions: list[list[str | float | int | None]] = []
    of_kind = np.array([kinds[query.row] for query in queries])
    for kind in np.unique(of_kind).tolist():
        for method, every in answers.items():
            asked = [
                (query, answer)
                for query, answer, its in zip(queries, every, of_kind, strict=True)
                if answer is not None and its == kind
            ]
            of_edit = np.array([query.edit for query, _ in asked])
            half = np.array([query.half for query, _ in asked])
            own = np.array([answer.own for _, answer in asked])
            limits = _thresholds(np.array([answer.other for _, answer in asked]), half)
            away = _thresholds(np.array([answer.away for _, answer in asked]), half)
            false = np.array([answer.other for _, answer in asked]) > limits[half]
            rate = share("false-positive rate", false, method, group=kind)
            figures.append(rate)
            for edit in dict.fromkeys(of_edit.tolist()):
                here = of_edit == edit
                found = own[here] > limits[half[here]]
                target = TARGETS.get(edit) if method == OURS and kind.endswith(IS_LARGE) else None
                figures.append(share(str(edit), found, method, target, group=kind))
                if method == OURS:
                    wrong = np.array([answer.wrong for _, answer in asked])[here] > limits[half[here]]
                    figures.append(share(str(edit), wrong, SHUFFLED, group=kind))
            recall_away = float((own > away[half]).mean())
            rates.append(
                [
                    str(kind),
                    method,
                    len(asked),
                    *limits.tolist(),
                    rate.value,
                    rate.low,
                    rate.high,
                    *away.tolist(),
                    recall_away,
                ]
            )
            precisions.append([str(kind), method, _precision([answer.best for _, answer in asked])])
    return Result(
        suite="copy",
        figures=figures,
        tables=[
            Table(title=f"Thresholds at a false-positive rate of {RATE}", columns=list(RATE_COLUMNS), rows=rates),
            Table(title="μAP, all edits", columns=["kind", "method", "μAP"], rows=precisions),
        ],
        notes=[NOTE_REFERENCE.format(len(dataset.items)), NOTE_INTERVALS, NOTE_RATE],
        data=data_of(dataset),
        seed=options.seed,
        sample=options.sample,
    )


def _thresholds(false: NDArray[np.float64], half: NDArray[np.int64]) -> NDArray[np.float64]:
    """(2,): the threshold of each half of the works, found on the other half's false scores (n,)."""
    both = [false[half == 1 - own] for own in (0, 1)]
    return np.array([threshold_at(other if len(other) else false, RATE).threshold for other in both])


def _precision(best: Sequence[tuple[tuple[float, bool], ...]]) -> float:
    predictions = [prediction for each in best for prediction in each]
    scores = np.array([score for score, _ in predictions], np.float64)
    return micro_average_precision(scores, np.array([right for _, right in predictions], np.bool_), len(best))
