"""Do the atelier's encoders see what they were trained to see, in drawn works that nobody learned from?

Manner: is the nearest of the other works, those of the same subject left out, by the same studio? Copies: every work is
edited in every way of `attribution.evaluation.edits` and looked for among all; it is found where it comes first and
above the score that one in a thousand edited works reaches with any work but its own source. Of each half of the works
that score is found on the other half, so that the rate of false findings is measured, too.

What this does not prove: everything here was drawn by one program. On other art the style encoder's neighbours share
colour and texture, and the copy encoder only proposes whom the geometric check should look at (`lawful evaluate copy`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attribution.evaluation.edits import EDITS
from attribution.evaluation.metrics import threshold_at
from attribution.evaluation.suite import OURS, Figure, Options, share, told
from attribution.processes import in_processes
from models.atelier.memorisation import thumbnails
from models.networks import Encoder

Pixels = NDArray[np.uint8]
Rows = NDArray[np.float32]
Describe = Callable[[Sequence[Pixels]], Rows]

RATE = 1e-3
REQUIRED = ("JPEG-30", "half size", "crop to 50 % of the area", "flip")
TARGET_STYLE, TARGET_COPY = 0.97, 0.95
STYLE, COPY = "atelier", "atelier-copy"
THUMBNAILS = "baseline: thumbnails"
COPIES = "the source of a copy is found"


def measured(
    works: Sequence[Pixels],
    studios: NDArray[np.str_],
    subjects: NDArray[np.str_],
    encoders: Mapping[str, Encoder],
    options: Options,
) -> list[Figure]:
    """The figures of those of the two encoders that are among `encoders`, on n works and (n,) what they show."""
    figures = []
    if STYLE in encoders:
        figures += _manner(encoders[STYLE].encode(works), thumbnails(works), studios, subjects)
    if COPY in encoders:
        figures += _copies(works, encoders[COPY].encode, options)
    return figures


def _manner(ours: Rows, plain: Rows, studios: NDArray[np.str_], subjects: NDArray[np.str_]) -> list[Figure]:
    name, figures = "the nearest work of another subject is by the same studio", []
    for method, rows, target in ((OURS, ours, TARGET_STYLE), (THUMBNAILS, plain, None)):
        nearest = np.where(subjects[:, None] == subjects, -np.inf, rows @ rows.T).argmax(1)
        figures.append(share(name, studios[nearest] == studios, method, target=target))
    return figures


def _copies(works: Sequence[Pixels], ours: Describe, options: Options) -> list[Figure]:
    figures = []
    half = np.arange(len(works)) % 2
    for method, describe in ((OURS, ours), (THUMBNAILS, thumbnails)):
        index = describe(works)
        asked = [_scores(index, _edited(works, edit, options), describe) for edit in EDITS]
        own, false = (np.stack(part) for part in zip(*asked, strict=True))
        least = np.array([threshold_at(false[:, half == 1 - each].ravel(), RATE).threshold for each in (0, 1)])[half]
        for edit, mine, others in zip(EDITS, own, false, strict=True):
            target = TARGET_COPY if method == OURS and edit in REQUIRED else None
            found = (mine > least) & (mine > others)
            figures.append(share(edit, found, method, target=target, group=COPIES))
        figures.append(
            share("something is found that is not the source", (false > least).ravel(), method, group=COPIES)
        )
    return figures


def _scores(
    index: Rows, edited: Sequence[Pixels], describe: Describe
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(n,) the score of each edited work, or its mirror image, with its source, and (n,) the best with another work."""
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in edited]
    scores = np.maximum(describe(edited) @ index.T, describe(mirrored) @ index.T)
    own = scores.diagonal().copy()
    np.fill_diagonal(scores, -np.inf)
    return own, scores.max(1)


@dataclass(frozen=True)
class _Edit:
    name: str
    seed: int

    def __call__(self, work: tuple[int, Pixels]) -> Pixels:
        number, pixels = work
        return EDITS[self.name](pixels, np.random.default_rng([self.seed, number]))


def _edited(works: Sequence[Pixels], edit: str, options: Options) -> list[Pixels]:
    edited = in_processes(options.processes, _Edit(edit, options.seed), list(enumerate(works)))
    return list(told(edited, f"editing drawn works: {edit}", len(works), options))
