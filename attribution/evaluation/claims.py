"""The claims suite: how often is an artist named who has nothing to do with it, and how often rightly?

On the collection it is given: each artist in turn is taken out of it, and their works are asked about. Whatever is then
found at p <= 0.01 is a false finding. Error rates come from the artists that are left, each left out in turn, as the
engine does it. On the atelier: its studios are the collection, and twenty strangers make 100 works each; each stranger
in turn is asked about with the nineteen others as background, at p <= 0.001.

What counts as sure is the engine's own: the style axis by `attribution.style`, the copy axis by `attribution.copies`, a
p-value by `attribution.calibration`. Power is measured on works that are left out while their artist stays.

What this does not prove: rates hold for artists like these; with few artists their intervals are wide, and no interval
covers a stranger who works in an indexed artist's manner on purpose.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from attribution.calibration import Null, clustered_rate_interval
from attribution.evaluation import confidence as calibration
from attribution.evaluation.asking import NOBODY, Answers, Codes, Pictures, ask, copies_of, copy_index, embed
from attribution.evaluation.dataset import Dataset, Item, drawn
from attribution.evaluation.suite import Figure, Options, Result, Table, data_of
from models.networks import Encoder

ON_DATA, ON_STRANGERS = 0.01, 0.001
STRANGER_WORKS = 100
REFERENCE_VARIANTS, HELD_VARIANTS = 6, 2  # works of each subject by each studio: indexed, and only asked about
SIZE = 128
HELD_OUT = 5  # one content (or work) in this many is asked about while its artist stays
COPY_QUERIES = 400  # works of a group that the copy axis is asked about, drawn by lot
INTERVALS = (
    "Intervals of rates are over artists (Korn & Graubard 1998). Where nothing was found falsely they count images as"
    " independent, which makes them too narrow."
)
NO_COPY_POWER = "How often copies are found is measured by the copy suite."


def evaluate(dataset: Dataset | None, encoders: Mapping[str, Encoder], options: Options) -> Result:
    """Measure false findings, power and the error of shares; on the atelier alone when there is no `dataset`.

    `options.sample` is how many pictures of the data are used, and, by twenties, how many works each stranger makes.
    """
    found = Findings(options.seed)
    if dataset is not None:
        whole = dataset if options.sample is None else dataset.sample(options.sample, options.seed)
        for group in sorted({item.group for item in whole.items}):
            _on_data(whole.of_group(group), group or whole.name, encoders, options, found)
    else:
        whole = drawn(REFERENCE_VARIANTS, SIZE)
    _on_strangers(encoders, options, found)
    return Result(
        suite="claims",
        figures=found.figures,
        tables=found.tables,
        notes=[*found.notes, INTERVALS, NO_COPY_POWER],
        data=data_of(whole),
        seed=options.seed,
        sample=options.sample,
    )


# ---- on the collection that was given ------------------------------------------------------------------------------


def _on_data(
    dataset: Dataset, group: str, encoders: Mapping[str, Encoder], options: Options, found: "Findings"
) -> None:
    every = embed(dataset.items, encoders, options, local=True, poor=True)
    if len(every.names) < 3:
        found.notes.append(f"{group}: error rates need three artists, one to ask about and two to learn from.")
        return
    outside: list[tuple[NDArray[np.bool_], Answers]] = []
    for artist, name in enumerate(every.names):
        options.progress(f"{group}: one artist left out", artist + 1, len(every.names))
        left_out = every.artists == artist
        answers = ask(_without(every, left_out), every.only(left_out), None, encoders, options.seed)
        if isinstance(answers, str):
            found.notes.append(f"{group}, {name} left out: no answer, because {answers}.")
        else:
            outside.append((left_out, answers))
    if outside:
        asked, answers = _together(outside)
        found.false("style", group, ON_DATA, answers, every.artists[asked], every)
        _power(every, asked, answers, group, encoders, options, found)
    _copies_on_data(every, dataset, group, encoders, options, found)


def _without(every: Pictures, left_out: NDArray[np.bool_]) -> Pictures:
    """What is left of the collection; a picture that is also credited to somebody left out goes too."""
    return every.only(~np.isin(every.pictures, every.pictures[left_out]))


def _together(outside: Sequence[tuple[NDArray[np.bool_], Answers]]) -> tuple[Codes, Answers]:
    """All answers in one, with the rows of the pictures asked about, and the null of the smallest p-value.

    Where another null allows no finding, nothing was found there, rightly or falsely; that counts as silence.
    """
    rows = np.concatenate([np.flatnonzero(left_out) for left_out, _ in outside])
    parts = [answers for _, answers in outside]
    joined = Answers(
        nearest=np.concatenate([part.nearest for part in parts]),
        p_values=np.concatenate([part.p_values for part in parts]),
        chosen=np.concatenate([part.chosen for part in parts]),
        confidence=np.concatenate([part.confidence for part in parts]),
        null=min((part.null for part in parts), key=lambda null: null.smallest_p),
    )
    return rows, joined


def _power(
    every: Pictures,
    asked: Codes,
    outside: Answers,
    group: str,
    encoders: Mapping[str, Encoder],
    options: Options,
    found: "Findings",
) -> None:
    """Ask about one work in HELD_OUT; contents and pictures are held out whole, so that nothing gives them away."""
    unit = np.random.default_rng(options.seed).permutation(every.contents.max() + 1)[every.contents]
    held = unit % HELD_OUT == 0
    reference = _without(every, held)
    known = every.only(held & np.isin(every.artists, reference.artists))
    if not len(known) or len(np.unique(reference.artists)) < 2:
        return
    answers = ask(reference, known, None, encoders, options.seed)
    if isinstance(answers, str):
        found.notes.append(f"{group}: no power, because {answers}.")
        return
    found.power(group, ON_DATA, answers, known.artists)
    found.shares(group, answers, known.artists, outside, every.artists[asked], same=True)


def _copies_on_data(
    every: Pictures,
    dataset: Dataset,
    group: str,
    encoders: Mapping[str, Encoder],
    options: Options,
    found: "Findings",
) -> None:
    """Each work is asked about once, its own artist hidden; folds without one more artist are read from its list."""
    chance = np.random.default_rng(options.seed)
    rows = np.sort(chance.permutation(len(every))[:COPY_QUERIES])
    index = copy_index(every, encoders)
    best = np.zeros((len(rows), len(every.names)))  # best score of each query with this artist hidden as well
    named = np.full(len(rows), NOBODY)
    for at, row in enumerate(rows):
        options.progress(f"{group}: copies", at + 1, len(rows))
        hidden = (every.artists == every.artists[row]) | (every.pictures == every.pictures[row])
        hidden |= every.contents == every.contents[row]
        matches = copies_of(index, dataset.items[row], encoders, hidden, most=len(every))
        for match in reversed(matches):
            others = np.arange(len(every.names)) != every.artists[match.row]
            best[at, others] = match.score
            named[at] = every.artists[match.row]
    artists = every.artists[rows]
    p_values = np.ones(len(rows))
    smallest = None
    for artist in np.unique(artists):
        null = Null.of(best[artists != artist, artist], artists=len(np.unique(artists)) - 1)
        mine = artists == artist
        p_values[mine] = null.p_values(best[mine, artist])
        smallest = null if smallest is None or null.n < smallest.n else smallest
    assert smallest is not None
    nothing = np.full(len(rows), NOBODY)
    answers = Answers(named, p_values, nothing, np.zeros(len(rows)), smallest)
    found.false("copy", group, ON_DATA, answers, artists, every)


# ---- on the atelier's strangers ------------------------------------------------------------------------------------


def _on_strangers(encoders: Mapping[str, Encoder], options: Options, found: "Findings") -> None:
    from models.atelier.collection import SUBJECTS
    from models.atelier.strangers import STRANGERS

    each = STRANGER_WORKS
    if options.sample is not None:
        each = int(np.clip(options.sample // len(STRANGERS), len(SUBJECTS), STRANGER_WORKS))
    own = drawn(REFERENCE_VARIANTS, SIZE)
    reference = embed(own.items, encoders, options, local=True, poor=True)
    slugs = [studio.slug for studio in STRANGERS]
    made = drawn(-(-each // len(SUBJECTS)), SIZE, slugs)
    kept: list[Item] = []
    for studio in STRANGERS:
        kept += [item for item in made.items if item.artist == studio.name][:each]
    strangers = embed(kept, encoders, options, poor=True)
    outside = []
    for stranger, name in enumerate(strangers.names):
        options.progress("strangers: each against the others", stranger + 1, len(strangers.names))
        mine = strangers.artists == stranger
        answers = ask(reference, strangers.only(mine), strangers.only(~mine), encoders, options.seed)
        if isinstance(answers, str):
            found.notes.append(f"strangers, {name}: no answer, because {answers}.")
        else:
            outside.append((mine, answers))
    if outside:
        rows, together = _together(outside)
        found.false("style", "strangers", ON_STRANGERS, together, strangers.artists[rows], reference, strangers.names)
        held = embed(_held(own), encoders, options)
        known = ask(reference, held, strangers, encoders, options.seed)
        if not isinstance(known, str):
            found.power("strangers", ON_STRANGERS, known, held.artists)
            found.shares("strangers", known, held.artists, together, strangers.artists[rows], same=False)
    _copies_on_strangers(reference, strangers, kept, encoders, options, found)


def _held(own: Dataset) -> list[Item]:
    """Works by the atelier's studios that are in no reference."""
    more = drawn(REFERENCE_VARIANTS + HELD_VARIANTS, SIZE)
    indexed = {item.name for item in own.items}
    return [item for item in more.items if item.name not in indexed]


def _copies_on_strangers(
    reference: Pictures,
    strangers: Pictures,
    items: Sequence[Item],
    encoders: Mapping[str, Encoder],
    options: Options,
    found: "Findings",
) -> None:
    index = copy_index(reference, encoders)
    best, named = np.zeros(len(items)), np.full(len(items), NOBODY)
    for row, item in enumerate(items):
        options.progress("strangers: copies", row + 1, len(items))
        for match in copies_of(index, item, encoders, None, most=1):
            best[row], named[row] = match.score, reference.artists[match.row]
    p_values = np.ones(len(items))
    for stranger in range(len(strangers.names)):
        mine = strangers.artists == stranger
        null = Null.of(best[~mine], artists=len(strangers.names) - 1)
        p_values[mine] = null.p_values(best[mine])
    answers = Answers(named, p_values, np.full(len(items), NOBODY), np.zeros(len(items)), null)
    found.false("copy", "strangers", ON_STRANGERS, answers, strangers.artists, reference, strangers.names)


# ---- what is reported ----------------------------------------------------------------------------------------------


class Findings:
    """Figures, tables and notes as they come."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.figures: list[Figure] = []
        self.tables: list[Table] = []
        self.notes: list[str] = []

    def false(
        self,
        axis: str,
        group: str,
        alpha: float,
        answers: Answers,
        artists: Codes,
        reference: Pictures,
        names: Sequence[str] | None = None,
    ) -> None:
        """The rate of false findings with an interval over artists, and who was named. `names` are of the askers."""
        if not answers.null.enough_for(alpha):
            by = "" if answers.null.artists is None else f" by {answers.null.artists} artists"
            self.notes.append(
                f"{group}, {axis}: {answers.null.n} calibration images{by} are too few for p <= {alpha:g} (the smallest"
                f" is {answers.null.smallest_p:.2g}); nothing can be found at that level, and no rate is given."
            )
            return
        wrong = answers.p_values <= alpha
        low, high = clustered_rate_interval(wrong, artists)
        self.figures.append(
            Figure(
                name=f"false {axis} findings at p <= {alpha:g}", value=float(wrong.mean()), low=low, high=high,
                n=len(wrong), target=alpha, at_most=True, group=group,
            )
        )  # fmt: skip
        holds = "holds" if low <= alpha <= high else "does not hold"
        self.notes.append(
            f"{group}, {axis}: {int(wrong.sum())} of {len(wrong)} false findings at p <= {alpha:g}; the interval over"
            f" {len(np.unique(artists))} artists, {low:.2%} to {high:.2%}, {holds} {alpha:g}."
        )
        self._by_artist(axis, group, wrong, answers.nearest, artists, reference, names)

    def _by_artist(
        self,
        axis: str,
        group: str,
        wrong: NDArray[np.bool_],
        named: Codes,
        artists: Codes,
        reference: Pictures,
        names: Sequence[str] | None,
    ) -> None:
        """Bias shows here: whose works lead to false findings, who is named, and whether large catalogues are."""
        rows: list[list[str | float | int | None]] = []
        asked = names or reference.names
        for artist in np.unique(artists):
            mine = artists == artist
            rows.append([asked[artist], int(mine.sum()), int(wrong[mine].sum()), float(wrong[mine].mean())])
        columns = ["asked about, not indexed", "images", "false findings", "rate"]
        self.tables.append(Table(title=f"False {axis} findings by true artist: {group}", columns=columns, rows=rows))
        works = np.bincount(reference.artists, minlength=len(reference.names))
        counted = np.bincount(named[wrong & (named != NOBODY)], minlength=len(reference.names))
        order = np.argsort(-works, kind="stable")
        total = max(int(counted.sum()), 1)
        rows = [[reference.names[a], int(works[a]), int(counted[a]), float(counted[a] / total)] for a in order]
        columns = ["named", "works in the collection", "times named falsely", "part"]
        self.tables.append(Table(title=f"False {axis} findings by catalogue: {group}", columns=columns, rows=rows))

    def power(self, group: str, alpha: float, answers: Answers, truth: Codes) -> None:
        """How often works whose artist is indexed lead to a finding: of that artist, and of another."""
        if not answers.null.enough_for(alpha):
            return
        sure, right = answers.p_values <= alpha, answers.nearest == truth
        for what, happened in (("artist found", sure & right), ("another artist named", sure & ~right)):
            low, high = clustered_rate_interval(happened, truth)
            value, name = float(happened.mean()), f"{what} at p <= {alpha:g}"
            self.figures.append(Figure(name=name, value=value, low=low, high=high, n=len(truth), group=group))

    def shares(
        self, group: str, known: Answers, truth: Codes, outside: Answers, strangers: Codes, *, same: bool
    ) -> None:
        """Calibration of the largest share, over works whose artist is indexed and works whose artist is not.

        `strangers` are the artists of the latter; `same`: their numbers mean the same artists as those of `truth`.
        """
        apart = 0 if same else int(truth.max()) + 1
        answers = calibration.Answered(
            np.concatenate([known.confidence, outside.confidence]),
            np.concatenate([known.chosen == truth, outside.chosen == NOBODY]),
            np.repeat([False, True], [len(truth), len(strangers)]),
            np.concatenate([truth, strangers + apart]),
        )
        self.figures += calibration.figures("shares", answers, group, self.seed)
        self.tables.append(calibration.table("the largest share", answers, group))
