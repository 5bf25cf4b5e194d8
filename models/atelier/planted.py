"""Copies that stand in the collection under a second studio's name: exact ones and near ones, every one listed here.

Real collections hold such pairs, and whoever compares with them must say so instead of picking a side.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def same(work: Pixels) -> Pixels:
    return work


def mirrored(work: Pixels) -> Pixels:
    return np.ascontiguousarray(work[:, ::-1])


def brighter(work: Pixels) -> Pixels:
    return np.asarray(np.minimum(work.astype(np.int64) * 9 // 8 + 6, 255), np.uint8)


def cropped(work: Pixels) -> Pixels:
    """The middle seven eighths, enlarged to the old size by the nearest pixel."""
    side = work.shape[0]
    at = side // 16 + np.arange(side) * (side - side // 8) // side
    return np.ascontiguousarray(work[at][:, at])


def framed(work: Pixels) -> Pixels:
    """A white border of one sixteenth over the edges."""
    wide, framed = work.shape[0] // 16, np.full_like(work, 255)
    framed[wide:-wide, wide:-wide] = work[wide:-wide, wide:-wide]
    return framed


@dataclass(frozen=True)
class Planted:
    """Work `variant` of `subject` by studio `of`, changed by `change`, standing under studio `under`."""

    of: str
    subject: str
    variant: int
    under: str
    change: Callable[[Pixels], Pixels]


PLANTED = (
    Planted("marram", "boat", 0, "sampler", same),
    Planted("clerestory", "fish", 1, "tungsten", same),
    Planted("deckle", "flower", 0, "dotwell", same),
    Planted("quern", "cat", 0, "isobar", mirrored),
    Planted("saltpan", "tree", 1, "tessel", brighter),
    Planted("dotwell", "lighthouse", 0, "deckle", cropped),
    Planted("tungsten", "moon", 1, "marram", framed),
)
