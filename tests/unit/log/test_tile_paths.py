"""Names of tiles (C2SP tlog-tiles): one for each, and each tile of a tree exactly once."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ledger.errors import NotFound
from ledger.log.merkle import MAX_SIZE, tile_width
from ledger.log.tiles import TilePath, tiles_of


@given(st.integers(0, 63), st.integers(0, MAX_SIZE), st.integers(1, 256), st.booleans())
def test_every_name_is_read_as_what_it_names(level: int, index: int, width: int, entries: bool) -> None:
    path = TilePath(0 if entries else level, index, width, entries)
    assert TilePath.parse(str(path).removeprefix("tile/")) == path


@given(st.integers(0, 2**40), st.integers(1, 255), st.data())
def test_a_name_with_one_character_changed_is_another_tiles_or_nobodys(
    index: int, width: int, data: st.DataObject
) -> None:
    name = str(TilePath(3, index, width)).removeprefix("tile/")
    position = data.draw(st.integers(0, len(name) - 1))
    changed = name[:position] + data.draw(st.characters()) + name[position + 1 :]
    assume(changed != name)
    try:
        found = TilePath.parse(changed)
    except NotFound:
        return
    assert found != TilePath(3, index, width)
    assert str(found) == f"tile/{changed}"


@pytest.mark.parametrize(
    "name", ["0/000.p/256", "0/x000/000", "64/000", "0/\u0660\u0660\u0660", "0/000\n", "", "entries", "0/1"]
)
def test_other_spellings_are_nobodys(name: str) -> None:
    with pytest.raises(NotFound):
        TilePath.parse(name)


@given(st.integers(0, 200_000), st.integers(0, 200_000))
def test_the_tiles_of_a_tree_are_those_that_the_specification_counts(size: int, since: int) -> None:
    since = min(size, since)
    found = list(tiles_of(size, since))
    assert len(set(found)) == len(found)
    every = set(tiles_of(size))
    full_before = {path for path in tiles_of(since) if path.width == 256}
    assert set(found) == every - full_before
    for level in range(3):
        full, partial = divmod(size >> 8 * level, 256)
        widths = [path.width for path in every if path.level == level and not path.entries]
        assert sorted(widths) == sorted([256] * full + [partial] * (partial > 0))
        assert all(tile_width(path.level, path.index, size) == path.width for path in every)
