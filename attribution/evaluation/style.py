"""The style suite: whose hand is it, beside what simpler methods say of the same pictures.

Two questions. *Naming*: pictures of contents (code points, subjects) that nobody in the index has drawn, so that only
the hand can be recognised; where contents do not recur, plain held-out works. In colour and in grey. *Retrieval*: every
work asks for works of its artist among all others (mAP@k, Recall@k as CSD defines them), fitted without its fold.

Then what a name is worth: calibration of the shares (half of all pictures by artists who are not in the index, all
artists counting the same, which is what shares are fitted to), how often an artist who is not in the index is named all
the same, per artist and by catalogue size. Few artists make all of these rough; intervals are clustered by artist.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attribution.calibration import clustered_interval, clustered_rate_interval
from attribution.evaluation import confidence as calibration
from attribution.evaluation.asking import poor_copies_of
from attribution.evaluation.dataset import Dataset, DatasetError, drawn
from attribution.evaluation.metrics import map_at_k, ranked, recall_at_k
from attribution.evaluation.suite import OURS, SHUFFLED, Figure, Options, Result, Table, data_of
from attribution.poor_copies import PoorCopies
from attribution.style import StyleModel, StyleReference
from attribution.style_fitting import fit_style, null
from models.encoders.colour import ColourEncoder
from models.encoders.texture import TextureEncoder
from models.networks import Encoder

Pixels = NDArray[np.uint8]
Vectors = dict[str, NDArray[np.float32]]
Codes = NDArray[np.int64]

HISTOGRAM = "colour histogram"
FOLDS = 5
LEFT_OUT = 8  # artists taken out of the index, the largest first: each costs a fit
ALPHA = 0.01
RANKS = (1, 10)
CHUNK = 64


@dataclass(frozen=True)
class Pictures:
    """One group, encoded: rows by method in colour and grey, artists, contents and equal files as codes, (n,)."""

    group: str
    colour: Vectors
    grey: Vectors
    style: tuple[str, ...]
    content: tuple[str, ...]
    artists: Codes
    contents: Codes
    equal: Codes
    names: tuple[str, ...]
    recurring: bool
    poor: PoorCopies | None = None
    grey_poor: PoorCopies | None = None

    def poor_copies(self, inside: NDArray[np.bool_], *, grey: bool = False) -> PoorCopies | None:
        """Those of the pictures inside."""
        poor = self.grey_poor if grey else self.poor
        return None if poor is None else poor.only(inside)


def evaluate(dataset: Dataset | None, encoders: Mapping[str, Encoder], options: Options) -> Result:
    """Measure the style axis on every group of `dataset` (the atelier's own works when None).

    Colour and texture statistics take part whether or not they are among `encoders`. Raises DatasetError `too_small`
    where no group has two artists with ten works between them.
    """
    whole = dataset if dataset is not None else drawn(variants=4)
    whole = whole if options.sample is None else whole.sample(options.sample, options.seed)
    used: dict[str, Encoder] = {"colour": ColourEncoder(), "texture": TextureEncoder(), **encoders}
    used = {name: encoder for name, encoder in used.items() if encoder.axes & {"style", "content"}}
    figures: list[Figure] = []
    tables: list[Table] = []
    notes: list[str] = []
    for group in sorted({item.group for item in whole.items}):
        part = whole.of_group(group)
        if len(part.artists) < 2 or len(part.items) < FOLDS * 4:
            notes.append(f"{group or part.name}: too few works or artists to measure on")
            continue
        measured = measure(_encoded(part, used, options), options)
        figures += measured.figures
        tables += measured.tables
        notes += measured.notes
    if not figures:
        raise DatasetError(
            "No group of pictures has two artists and twenty works.",
            code="too_small",
            next_step="Give a folder with more artists, or take a larger sample.",
        )
    return Result(
        suite="style",
        figures=figures,
        tables=tables,
        notes=notes,
        data=data_of(whole),
        seed=options.seed,
        sample=options.sample,
    )


@dataclass(frozen=True)
class Measured:
    figures: list[Figure]
    tables: list[Table]
    notes: list[str]


def measure(pictures: Pictures, options: Options) -> Measured:
    """Everything about one group; see the module."""
    figures = naming(pictures, options, grey=False)
    if pictures.recurring:
        figures += naming(pictures, options, grey=True)
    figures += retrieval(pictures, options)
    figures += nearest(pictures)
    worth, tables, notes = trust(pictures, options)
    return Measured(figures + worth, tables, notes)


def naming(pictures: Pictures, options: Options, *, grey: bool) -> list[Figure]:
    """Error of the artist named for held-out contents (or works), by every method."""
    vectors = pictures.grey if grey else pictures.colour
    folds = _folds(pictures.contents if pictures.recurring else pictures.equal, options.seed)
    shuffled = np.random.default_rng(options.seed + 1).permutation(pictures.artists)
    wrong = {name: np.zeros(len(folds), np.bool_) for name in (OURS, HISTOGRAM, *pictures.style)}
    for fold in range(FOLDS):
        options.progress(f"naming {pictures.group}", fold, FOLDS)
        out = folds == fold
        for name in (HISTOGRAM, *pictures.style):
            near = (vectors[name][out] @ vectors[name][~out].T).argmax(axis=1)
            wrong[name][out] = pictures.artists[~out][near] != pictures.artists[out]
        named = _named(vectors, pictures, pictures.artists, out, options.seed)
        if named is None:
            wrong.pop(OURS, None)
        elif OURS in wrong:
            wrong[OURS][out] = named != pictures.artists[out]
    what = "error of the artist named" + (" (contents nobody in the index drew)" if pictures.recurring else "")
    what += ", grey" if grey else ""
    best = min(float(flags.mean()) for name, flags in wrong.items() if name != OURS)
    figures = []
    for name, flags in wrong.items():
        target = best / 2 if name == OURS and pictures.recurring else None
        method = name if name == OURS else f"baseline: {name}"
        figures.append(_figure(what, flags, pictures.artists, pictures, method, target))
    first = folds == 0
    named = _named(vectors, pictures, shuffled, first, options.seed)
    if named is not None:
        figures.append(_figure(what, named != shuffled[first], pictures.artists[first], pictures, SHUFFLED, None))
    chance, n = 1.0 - 1.0 / len(pictures.names), len(folds)
    random = Figure(
        name=what, value=chance, low=chance, high=chance, n=n, method="baseline: random", group=pictures.group
    )
    return [*figures, random]


def retrieval(pictures: Pictures, options: Options) -> list[Figure]:
    """mAP@k and Recall@k with every work as a query among all others."""
    rankings: dict[str, NDArray[np.floating]] = {}
    ours = np.full((len(pictures.artists), len(pictures.artists)), np.nan)
    folds = _folds(pictures.equal, options.seed)
    for fold in range(FOLDS):
        options.progress(f"retrieval {pictures.group}", fold, FOLDS)
        out = folds == fold
        model = _fitted(pictures.colour, pictures, pictures.artists, ~out, options.seed)
        if isinstance(model, str):
            break
        style = {name: pictures.colour[name] for name in pictures.style}
        reference = StyleReference(style, _dense(pictures.artists), pictures.artists, pictures.equal, model)
        ours[out] = reference.similarities({name: rows[out] for name, rows in style.items()})
    if np.isfinite(ours).all():
        rankings[OURS] = ours
    for name in (HISTOGRAM, *pictures.style):
        rankings[f"baseline: {name}"] = pictures.colour[name] @ pictures.colour[name].T
    rng = np.random.default_rng(options.seed)
    rankings["baseline: random"] = rng.random(ours.shape)
    same = pictures.artists[:, None] == pictures.artists
    shuffled = rng.permutation(pictures.artists)
    hidden = pictures.equal[:, None] == pictures.equal
    figures = []
    methods = [(method, scores, same) for method, scores in rankings.items()]
    methods += [(SHUFFLED, ours, shuffled[:, None] == shuffled)] if OURS in rankings else []
    for method, scores, relevant in methods:
        found = ranked(scores, relevant & ~hidden, max(RANKS), hidden)
        for k in RANKS:
            for name, values in ((f"mAP@{k}", map_at_k(found, k)), (f"Recall@{k}", recall_at_k(found, k))):
                low, high = clustered_interval(values, pictures.artists, seed=options.seed)
                figures.append(
                    Figure(
                        name=name,
                        value=float(values.mean()),
                        low=low,
                        high=high,
                        n=len(values),
                        method=method,
                        group=pictures.group,
                    )
                )
    return figures


def nearest(pictures: Pictures) -> list[Figure]:
    """Of every work, whether the nearest other work is by the same artist, and whether it shows the same content."""
    if not pictures.recurring:
        return []
    figures = []
    for name in (*pictures.style, *(name for name in pictures.content if name not in pictures.style)):
        scores = pictures.colour[name] @ pictures.colour[name].T
        scores[pictures.equal[:, None] == pictures.equal] = -np.inf
        near = scores.argmax(axis=1)
        method = f"baseline: {name}"
        for what, codes in (("artist", pictures.artists), ("content", pictures.contents)):
            hit = codes[near] == codes
            figures.append(_figure(f"nearest shares the {what}", hit, pictures.artists, pictures, method, None))
    return figures


@dataclass(frozen=True)
class Asked:
    """What was said of m pictures, (m,): rows in Pictures, who was named, the largest share, whether it fell on "none
    of these", and whether there was a finding at ALPHA. `smallest_p`: the least that could come out.
    """

    rows: Codes
    named: Codes
    confidence: NDArray[np.float64]
    abstains: NDArray[np.bool_]
    found: NDArray[np.bool_]
    smallest_p: float

    @classmethod
    def about(cls, asked: NDArray[np.bool_], pictures: Pictures, inside: NDArray[np.bool_], seed: int) -> "Asked | str":
        """Fit to the pictures `inside`, as an engine that knows no others does, and ask about those `asked`."""
        index = {name: pictures.colour[name][inside] for name in pictures.style}
        codes = pictures.artists[inside]
        fitted = (index, _dense(codes), codes, pictures.equal[inside])
        model = fit_style(*fitted, poor=pictures.poor_copies(inside), seed=seed)
        if isinstance(model, str):
            return model
        ordinary = null(*fitted, model, seed=seed)
        reference = StyleReference(*fitted, model)
        scores = reference.scores({name: pictures.colour[name][asked] for name in pictures.style})
        shares, none = reference.shares(scores)
        return cls(
            rows=np.flatnonzero(asked),
            named=reference.group_artists[shares.argmax(axis=1)],
            confidence=np.maximum(shares.max(axis=1), none),
            abstains=none >= shares.max(axis=1),
            found=ordinary.p_values(scores.max(axis=1)) <= ALPHA,
            smallest_p=ordinary.smallest_p,
        )

    @staticmethod
    def joined(parts: Sequence["Asked"]) -> "Asked":
        return Asked(
            rows=np.concatenate([part.rows for part in parts]),
            named=np.concatenate([part.named for part in parts]),
            confidence=np.concatenate([part.confidence for part in parts]),
            abstains=np.concatenate([part.abstains for part in parts]),
            found=np.concatenate([part.found for part in parts]),
            smallest_p=max(part.smallest_p for part in parts),
        )


def trust(pictures: Pictures, options: Options) -> tuple[list[Figure], list[Table], list[str]]:
    """What a name is worth: calibration of shares, abstention and false findings for artists taken out of the index.

    Every picture is asked about once while its artist stays (its fold is out), and those of the LEFT_OUT largest
    catalogues once while their artist is out.
    """
    folds = _folds(pictures.contents if pictures.recurring else pictures.equal, options.seed)
    sizes = np.bincount(pictures.artists)
    gone = np.argsort(-sizes, kind="stable")[:LEFT_OUT].tolist()
    trials = [(folds == fold, folds != fold) for fold in range(FOLDS)]
    trials += [(pictures.artists == artist, pictures.artists != artist) for artist in gone]
    parts, notes = [], []
    for step, (asked, inside) in enumerate(trials):
        options.progress(f"known and unknown artists {pictures.group}", step, len(trials))
        said = Asked.about(asked, pictures, inside, options.seed)
        if isinstance(said, str):
            return [], [], [f"{pictures.group}: {said}"]
        parts.append(said)
    known, strange = Asked.joined(parts[:FOLDS]), Asked.joined(parts[FOLDS:])
    if max(known.smallest_p, strange.smallest_p) > ALPHA:
        notes.append(
            f"{pictures.group}: some indexes hold too few artists, or artists too different, for p <= {ALPHA}; there"
            " nothing can be found, rightly or falsely."
        )
    truth, absent = pictures.artists[known.rows], pictures.artists[strange.rows]
    right = ~known.abstains & (known.named == truth)
    silent = strange.abstains | ~strange.found
    power = known.found & (known.named == truth)
    false = f"false finding at p <= {ALPHA}, artist not in the index"
    figures = [
        _figure(f"finding at p <= {ALPHA} names the artist (power)", power, truth, pictures, OURS, None),
        _figure(false, strange.found, absent, pictures, OURS, ALPHA),
        _figure("abstains, artist not in the index", silent, absent, pictures, OURS, None),
    ]
    answers = calibration.Answered(
        np.concatenate([known.confidence, strange.confidence]),
        np.concatenate([right, strange.abstains]),
        np.repeat([False, True], [len(truth), len(absent)]),
        np.concatenate([truth, absent]),
    )
    figures += calibration.figures("shares", answers, pictures.group, options.seed)
    reliability = calibration.table("the largest share", answers, pictures.group)
    return figures, [_removed(pictures, parts[FOLDS:], gone), reliability], notes


def _removed(pictures: Pictures, parts: Sequence[Asked], gone: Sequence[int]) -> Table:
    """Bias shows here: by whose works false findings come about, and who is named in them."""
    blamed = np.zeros(len(pictures.names), np.int64)
    for part in parts:
        np.add.at(blamed, part.named[part.found], 1)
    rows: list[list[str | float | int | None]] = []
    for artist, part in zip(gone, parts, strict=True):
        rates = [float(part.found.mean()), float(part.abstains.mean())]
        times = [int(blamed[artist]), float(blamed[artist] / max(1, blamed.sum()))]
        rows.append([pictures.names[artist], len(part.rows), *rates, *times])
    columns = ["artist", "works", "false findings", "largest share none", "named falsely", "part of false names"]
    return Table(title=f"Artists taken out of the index: {pictures.group}", columns=columns, rows=rows)


def histogram(image: Pixels) -> NDArray[np.float32]:
    """The baseline: an 8 x 8 x 8 histogram of RGB, (512,) float32 of length 1."""
    cell = (image >> 5).reshape(-1, 3).astype(np.int64) @ np.array([64, 8, 1])
    counts = np.bincount(cell, minlength=512).astype(np.float32)
    return np.asarray(counts / np.linalg.norm(counts), np.float32)


def without_colour(image: Pixels) -> Pixels:
    """Luma (Rec. 601) of (h, w, 3) uint8 in all three channels."""
    luma = (image.astype(np.uint32) @ np.array([299, 587, 114], np.uint32) + 500) // 1000
    return np.repeat(luma.astype(np.uint8)[..., None], 3, axis=2)


def _encoded(part: Dataset, encoders: Mapping[str, Encoder], options: Options) -> Pictures:
    group = part.items[0].group or part.name
    recurring = any(item.content is not None for item in part.items)
    rows: dict[bool, dict[str, list[NDArray[np.float32]]]] = {False: {}, True: {}}
    for start in range(0, len(part.items), CHUNK):
        options.progress(f"encoding {group}", start, len(part.items))
        images = [item.pixels() for item in part.items[start : start + CHUNK]]
        for grey in (False, True) if recurring else (False,):
            seen = [without_colour(image) for image in images] if grey else images
            rows[grey].setdefault(HISTOGRAM, []).append(np.stack([histogram(image) for image in seen]))
            for name, encoder in encoders.items():
                if not grey or "style" in encoder.axes:
                    rows[grey].setdefault(name, []).append(encoder.encode(seen))
    return Pictures(
        group=group,
        colour={name: np.concatenate(parts) for name, parts in rows[False].items()},
        grey={name: np.concatenate(parts) for name, parts in rows[True].items()},
        poor=poor_copies_of(part.items, encoders),
        grey_poor=poor_copies_of(part.items if recurring else (), encoders, without_colour),
        style=tuple(name for name, encoder in encoders.items() if "style" in encoder.axes),
        content=tuple(name for name, encoder in encoders.items() if "content" in encoder.axes),
        artists=part.artist_codes(),
        contents=part.content_codes(),
        equal=part.picture_codes(),
        names=part.artists,
        recurring=recurring,
    )


def _fitted(
    vectors: Vectors, pictures: Pictures, labels: Codes, inside: NDArray[np.bool_], seed: int
) -> StyleModel | str:
    rows = {name: vectors[name][inside] for name in pictures.style}
    poor = pictures.poor_copies(inside, grey=vectors is pictures.grey)
    return fit_style(rows, _dense(labels[inside]), labels[inside], pictures.equal[inside], poor=poor, seed=seed)


def _named(vectors: Vectors, pictures: Pictures, labels: Codes, out: NDArray[np.bool_], seed: int) -> Codes | None:
    model = _fitted(vectors, pictures, labels, ~out, seed)
    if isinstance(model, str):
        return None
    inside = {name: vectors[name][~out] for name in pictures.style}
    reference = StyleReference(inside, _dense(labels[~out]), labels[~out], pictures.equal[~out], model)
    scores = reference.scores({name: vectors[name][out] for name in pictures.style})
    return np.asarray(reference.group_artists[scores.argmax(axis=1)], np.int64)


def _figure(
    name: str, flags: NDArray[np.bool_], artists: Codes, pictures: Pictures, method: str, target: float | None
) -> Figure:
    low, high = clustered_rate_interval(flags, artists)
    return Figure(
        name=name,
        value=float(flags.mean()),
        low=low,
        high=high,
        n=len(flags),
        method=method,
        target=target,
        at_most=target is not None,
        group=pictures.group,
    )


def _folds(codes: Sequence[int] | Codes, seed: int) -> Codes:
    """A fold 0..FOLDS-1 for each picture; equal codes share one."""
    names, places = np.unique(np.asarray(codes), return_inverse=True)
    folds = np.random.default_rng(seed).permutation(len(names)) % FOLDS
    return np.asarray(folds[places], np.int64)


def _dense(codes: Codes) -> Codes:
    """The same codes numbered 0.. without gaps."""
    return np.asarray(np.unique(codes, return_inverse=True)[1], np.int64)
