"""The generated suite: does the engine see whose hand the atelier's generator was asked for?

The generator makes pictures "in the manner of" each studio that it learned from. An independent judge
(`models.atelier.judge`) says whether the picture shows that hand at all; then the style axis is asked. It is asked
again with the prompted studio's works taken out of the index, where naming anybody else would be wrong. The index holds
works by all studios, the strangers are the background. Last, the whole engine is asked about pictures by and after
studios that may not be named.

What this does not prove: that the works in the index were the cause of a picture (the generator learned from them,
which is known here and not measured); or anything about other generators.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attribution.calibration import clustered_rate_interval
from attribution.evaluation.asking import NOBODY, Answers, Pictures, ask, embed, encoded
from attribution.evaluation.dataset import Dataset, drawn
from attribution.evaluation.suite import OURS, SHUFFLED, Figure, Options, Result, Table, data_of
from models.networks import Encoder

Pixels = NDArray[np.uint8]

SAMPLE = 120  # every studio and subject once
REFERENCE_VARIANTS, SIZE = 6, 128
STRANGER_VARIANTS = 5  # of each subject: 60 works each, enough for p = 0.001
ALPHA = 0.01
JUDGE = "judge"
TOGETHER = 8  # pictures generated in one call


@dataclass(frozen=True)
class Prompted:
    """What was asked for, and what came: (n,) studios by name, subjects, and pictures."""

    studios: NDArray[np.str_]
    subjects: NDArray[np.str_]
    images: tuple[Pixels, ...]


def evaluate(dataset: Dataset | None, encoders: Mapping[str, Encoder], options: Options) -> Result:
    """Generate, judge and ask. `dataset` is not looked at: only the atelier knows what its generator learned from.

    `options.sample` is the number of pictures, SAMPLE if None.
    """
    from models.atelier.judge import Judge
    from models.atelier.strangers import STRANGERS

    own = drawn(REFERENCE_VARIANTS, SIZE)
    reference = embed(own.items, encoders, options, local=True, poor=True)
    strangers = drawn(STRANGER_VARIANTS, SIZE, [studio.slug for studio in STRANGERS])
    background = embed(strangers.items, encoders, options, poor=True)
    prompted = generate(options.sample or SAMPLE, options)
    queries = _queries(prompted, reference, encoders)
    judge = Judge.train(progress=options.progress)
    verdicts = judge.look(prompted.images)
    seen = np.array([verdict.studio for verdict in verdicts]) == prompted.studios
    shown = np.array([verdict.subject for verdict in verdicts]) == prompted.subjects
    figures = _of_judge(judge.held_out(), seen, shown, prompted)
    notes: list[str] = []
    answers = ask(reference, queries, background, encoders, options.seed)
    if isinstance(answers, str):
        notes.append(f"The style axis has no answer, because {answers}.")
    else:
        figures += _indexed(answers, queries, seen, prompted)
        figures += _single_encoders(reference, queries, seen, encoders)
        figures += _shuffled(reference, queries, background, encoders, options, seen)
        figures += _removed(reference, queries, background, encoders, options, seen)
    figures += _protected(own, reference, prompted, encoders)
    return Result(
        suite="generated",
        figures=figures,
        tables=[] if isinstance(answers, str) else [_by_studio(answers, queries, seen)],
        notes=[*notes, "Intervals are over the studios that were prompted for."],
        data=data_of(own),
        seed=options.seed,
        sample=options.sample,
    )


def generate(number: int, options: Options) -> Prompted:
    """Make `number` pictures: studios in turn, subjects in turn, so that each pair comes before any comes twice."""
    from models.atelier.collection import SUBJECTS, caption
    from models.atelier.studios import STUDIOS
    from models.registry import ModelConfig, load_generator

    studios = [studio.name for studio in STUDIOS if studio.train]
    pairs = [
        (studio, SUBJECTS[(turn + at) % len(SUBJECTS)])
        for turn in range(len(SUBJECTS))
        for at, studio in enumerate(studios)
    ]
    generator = load_generator(ModelConfig())
    wanted = [pairs[at % len(pairs)] for at in range(number)]
    images: list[Pixels] = []
    for at in range(0, number, TOGETHER):
        prompts = [caption(studio, subject) for studio, subject in wanted[at : at + TOGETHER]]
        seeds = [options.seed * 1_000_003 + at + turn for turn in range(len(prompts))]
        images += [made.pixels for made in generator.generate_several(prompts, seeds=seeds)]
        options.progress("generating", len(images), number)
    return Prompted(np.array([studio for studio, _ in wanted]), np.array([what for _, what in wanted]), tuple(images))


def _queries(prompted: Prompted, reference: Pictures, encoders: Mapping[str, Encoder]) -> Pictures:
    """The generated pictures as if by the studio that was asked for; equal to no work."""
    n = len(prompted.images)
    artists = np.array([reference.names.index(studio) for studio in prompted.studios], np.int64)
    numbers = np.arange(n, dtype=np.int64)
    return Pictures(encoded(prompted.images, encoders), artists, numbers, numbers, reference.names)


# ---- figures -------------------------------------------------------------------------------------------------------


def _figure(
    name: str,
    happened: NDArray[np.bool_],
    studios: NDArray[np.int64],
    method: str = OURS,
    target: float | None = None,
    at_most: bool = False,
) -> list[Figure]:
    """No figure where there is no trial."""
    if not len(happened):
        return []
    low, high = clustered_rate_interval(happened, studios)
    value = float(happened.mean())
    return [
        Figure(
            name=name, value=value, low=low, high=high, n=len(happened), method=method, target=target, at_most=at_most
        )
    ]  # fmt: skip


def _of_judge(
    held_out: tuple[float, float], seen: NDArray[np.bool_], shown: NDArray[np.bool_], prompted: Prompted
) -> list[Figure]:
    from models.atelier.judge import HELD_OUT_WORKS

    _, studios = np.unique(prompted.studios, return_inverse=True)
    figures = []
    for what, value in zip(("studio", "subject"), held_out, strict=True):
        name = f"drawn works, never seen: {what} right"
        right = np.arange(HELD_OUT_WORKS) < round(value * HELD_OUT_WORKS)
        figures += _figure(name, right, np.arange(HELD_OUT_WORKS), JUDGE, 0.95)
    figures += _figure("generated: the prompted studio is seen", seen, studios, JUDGE)
    return figures + _figure("generated: the prompted subject is seen", shown, studios, JUDGE)


SEEN, ALL = "prompted studio has the largest share, where the judge sees it", "prompted studio has the largest share"


def _indexed(answers: Answers, queries: Pictures, seen: NDArray[np.bool_], prompted: Prompted) -> list[Figure]:
    largest = answers.chosen == queries.artists
    found = (answers.p_values <= ALPHA) & (answers.nearest == queries.artists)
    other = (answers.p_values <= ALPHA) & (answers.nearest != queries.artists)
    return [
        *_figure(SEEN, largest[seen], queries.artists[seen], target=0.9),
        *_figure(ALL, largest, queries.artists),
        *_figure(f"prompted studio found at p <= {ALPHA:g}", found, queries.artists),
        *_figure(f"another studio found at p <= {ALPHA:g}", other, queries.artists),
    ]


def _single_encoders(
    reference: Pictures, queries: Pictures, seen: NDArray[np.bool_], encoders: Mapping[str, Encoder]
) -> list[Figure]:
    """Baselines: the studio of the nearest work by the plain cosine of one encoder, which can never say "none"."""
    figures = []
    for name in reference.vectors:
        nearest = reference.artists[(queries.vectors[name] @ reference.vectors[name].T).argmax(axis=1)]
        right = nearest == queries.artists
        figures += _figure(SEEN, right[seen], queries.artists[seen], f"baseline: cosine of {name}")
        figures += _figure(ALL, right, queries.artists, f"baseline: cosine of {name}")
    return figures


def _shuffled(
    reference: Pictures,
    queries: Pictures,
    background: Pictures,
    encoders: Mapping[str, Encoder],
    options: Options,
    seen: NDArray[np.bool_],
) -> list[Figure]:
    """Control: works credited by lot. Whatever is right now is right by chance."""
    lots = np.random.default_rng(options.seed).permutation(reference.artists)
    answers = ask(reference.credited(lots), queries, background, encoders, options.seed)
    right = np.zeros(len(queries), np.bool_) if isinstance(answers, str) else answers.chosen == queries.artists
    return _figure(SEEN, right[seen], queries.artists[seen], SHUFFLED) + _figure(ALL, right, queries.artists, SHUFFLED)


def _removed(
    reference: Pictures,
    queries: Pictures,
    background: Pictures,
    encoders: Mapping[str, Encoder],
    options: Options,
    seen: NDArray[np.bool_],
) -> list[Figure]:
    """With the prompted studio out of the index: is nobody named (p), and has "none of these" the largest share?"""
    silent, nobody = np.ones(len(queries), np.bool_), np.ones(len(queries), np.bool_)
    studios = np.unique(queries.artists)
    for done, studio in enumerate(studios):
        mine = queries.artists == studio
        rest = reference.only(reference.artists != studio)
        answers = ask(rest, queries.only(mine), background, encoders, options.seed)
        if not isinstance(answers, str):  # without an answer nobody is named
            silent[mine] = answers.p_values > ALPHA
            nobody[mine] = answers.chosen == NOBODY
        options.progress("studios taken out of the index", done + 1, len(studios))
    removed = "studio removed"
    return [
        *_figure(f"{removed}: nobody is found at p <= {ALPHA:g}", silent, queries.artists, target=0.8),
        *_figure(f"{removed}: nobody is found, where the judge sees it", silent[seen], queries.artists[seen]),
        *_figure(f"{removed}: none of these has the largest share", nobody, queries.artists),
    ]


def _protected(own: Dataset, reference: Pictures, prompted: Prompted, encoders: Mapping[str, Encoder]) -> list[Figure]:
    """One work of each subject by each studio that may not be named, and every picture made after such a studio."""
    from attribution.evaluation.protected import names_that_got_out
    from models.atelier.studios import STUDIOS

    nameless = [studio.name for studio in STUDIOS if not studio.may_name]
    asked = [(item.artist, item.pixels()) for item in own.items[::REFERENCE_VARIANTS] if item.artist in nameless]
    pairs = zip(prompted.studios, prompted.images, strict=True)
    asked += [(str(studio), image) for studio, image in pairs if studio in nameless]
    got_out = names_that_got_out(own.items, reference, [image for _, image in asked], encoders)
    studios = np.array([nameless.index(studio) for studio, _ in asked])
    return _figure("a protected work is named", got_out, studios, target=0.0, at_most=True)


def _by_studio(answers: Answers, queries: Pictures, seen: NDArray[np.bool_]) -> Table:
    rows: list[list[str | float | int | None]] = []
    for studio in np.unique(queries.artists):
        mine = queries.artists == studio
        largest, found = answers.chosen[mine] == studio, answers.p_values[mine] <= ALPHA
        part = [float(flags.mean()) for flags in (seen[mine], largest, found)]
        rows.append([queries.names[studio], int(mine.sum()), *part])
    columns = ["prompted", "images", "seen by the judge", "largest share", f"some studio found at p <= {ALPHA:g}"]
    return Table(title="By studio", columns=columns, rows=rows)
