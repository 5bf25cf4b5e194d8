"""Counts as bars: heights that can be compared, and nothing that is there drawn as nothing."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ledger.web.plots import HEIGHT, WIDTH, bars


def test_a_bar_is_as_high_as_its_count() -> None:
    half, whole, none = bars([("a", 5), ("b", 10), ("c", 0)]).bars
    assert (half.height, whole.height, none.height) == (HEIGHT / 2, HEIGHT, 0)
    assert half.y + half.height == whole.y + whole.height == HEIGHT


@given(st.lists(st.integers(0, 10**12), max_size=60))
def test_every_bar_lies_in_the_drawing_and_what_is_there_is_seen(counts: list[int]) -> None:
    plot = bars([(str(number), count) for number, count in enumerate(counts)])
    assert [bar.value for bar in plot.bars] == counts
    assert plot.most == max(counts, default=0)
    for bar in plot.bars:
        assert 0 <= bar.x <= bar.x + bar.width <= WIDTH
        assert bar.y >= 0
        assert (bar.height >= 1) == (bar.value > 0)
    edges = [(bar.x, bar.x + bar.width) for bar in plot.bars]
    assert all(right <= left for (_, right), (left, _) in itertools.pairwise(edges))
