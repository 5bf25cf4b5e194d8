"""Which axes' p-values stand, where several are asked of one image and share one promised error rate. Light.

Several axes are several chances to be wrong. Copy, style and content share one error rate `alpha` by Holm's step-down
procedure (Scandinavian Journal of Statistics 6, 1979): of m axes asked, the smallest p-value must be at most alpha / m,
the next alpha / (m - 1), and so on up to the first that is not. Then at most a part alpha of images that owe the
collection nothing gets any finding, however the axes depend on one another. An axis calibrated on too few images to
reach its level is not asked; that is settled before any image is looked at, and m is as large as the calibrations
allow. Within the content axis each encoder counts (Bonferroni). Identity is exact and the classifier states
probabilities of its own: neither is among the m.

What this does not prove: each p-value holds for images like those of its calibration, and so does what is made of them.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from attribution.evidence import Evidence, NeighbourAxis

ROUNDING = 1 + 1e-12


class AxisTest(NamedTuple):
    """One axis: its p-value, the smallest that can come out, and the `n` images that this rests on.

    `chances`: how many encoders had one; p and `reach` are multiplied by it already.
    """

    p: float
    reach: float
    n: int
    chances: int = 1


def axis_tests(evidence: Evidence) -> dict[str, AxisTest]:
    """Return those of copy, style and content, in this order, that have an error rate; p = 1: nothing came near."""
    known: dict[str, AxisTest] = {}
    if evidence.copy is not None and (note := evidence.copy.calibration) is not None:
        known["copy"] = AxisTest(_smallest(match.p_value for match in evidence.copy.matches), note.smallest_p, note.n)
    if evidence.style is not None and (note := evidence.style.calibration) is not None:
        known["style"] = AxisTest(_smallest(each.p_value for each in evidence.style.artists), note.smallest_p, note.n)
    axes = [axis for axis in content_axes(evidence).values() if axis.calibration is not None]
    notes = [axis.calibration for axis in axes if axis.calibration is not None]
    if notes:
        best, chances = min(notes, key=lambda note: note.smallest_p), len(notes)
        p = _smallest(near.p_value for axis in axes for near in axis.nearest)
        known["content"] = AxisTest(min(1.0, chances * p), min(1.0, chances * best.smallest_p), best.n, chances)
    return known


def content_axes(evidence: Evidence) -> dict[str, NeighbourAxis]:
    """The encoders that tell what an image shows, by name; evidence from before encoders named their axes has all."""
    return {name: axis for name, axis in sorted(evidence.neighbours.items()) if not axis.axes or "content" in axis.axes}


def askable(known: Mapping[str, AxisTest], alpha: float) -> list[str]:
    """Return the most axes that can all reach alpha / (their number), the best calibrated first.

    Of axes calibrated alike the earlier in `known` goes first. It looks at no p-value of the image.
    """
    ranked = sorted(known, key=lambda axis: known[axis].reach)
    for most in range(len(ranked), 0, -1):
        if known[ranked[most - 1]].reach <= alpha / most * ROUNDING:
            return [axis for axis in known if axis in ranked[:most]]
    return []


def holm(p_values: Mapping[str, float], alpha: float) -> set[str]:
    """Return the axes whose p-values stand together at `alpha` (Holm 1979)."""
    stand: set[str] = set()
    for axis in sorted(p_values, key=lambda axis: p_values[axis]):
        if p_values[axis] > alpha / (len(p_values) - len(stand)) * ROUNDING:
            break
        stand.add(axis)
    return stand


def _smallest(p_values: Iterable[float | None]) -> float:
    return min((p for p in p_values if p is not None), default=1.0)
