"""A plot of counts over time, as the numbers that a template draws: no script, no style of its own, and a table beside
it that says the same."""

from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 600.0, 140.0
GAP = 0.25
"""Part of a bar's place that stays empty."""


class Bar(NamedTuple):
    """One count with its place in a drawing of WIDTH by HEIGHT, y downwards."""

    label: str
    value: int
    x: float
    y: float
    width: float
    height: float


class Plot(NamedTuple):
    """Bars from zero, so that heights can be compared; `most` is the highest count, 0 where there is nothing."""

    bars: list[Bar]
    most: int
    width: float = WIDTH
    height: float = HEIGHT


def bars(counts: Sequence[tuple[str, int]]) -> Plot:
    """A bar for each (label, count), in the order given. A count above zero is seen, however small it is."""
    most = max((count for _, count in counts), default=0)
    place = WIDTH / max(1, len(counts))
    drawn = []
    for number, (label, count) in enumerate(counts):
        height = max(1.0, HEIGHT * count / most) if count else 0.0
        x = round(place * (number + GAP / 2), 1)
        drawn.append(Bar(label, count, x, round(HEIGHT - height, 1), round(place * (1 - GAP), 1), round(height, 1)))
    return Plot(drawn, most)
