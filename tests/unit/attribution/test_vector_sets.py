import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attribution.errors import VectorError
from attribution.index import ExactIndex, search_files
from attribution.vector_files import SUFFIX, as_names, write_segment
from attribution.vector_sets import MOST_SEGMENTS, VectorSet, open_set

ENCODER = "clip@0123456789abcdef"
DIM = 4
SAME_FOLDER = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def vector(work: str) -> np.ndarray:
    """What the truth has for a work, exact in binary16."""
    row = np.random.default_rng(int(work[1:])).normal(size=DIM)
    return (row / np.linalg.norm(row)).astype("<f2")


def works(first: int, last: int) -> list[str]:
    return [f"w{number:04}" for number in range(first, last)]


class Truth:
    """Stands where Postgres stands, and notes what it was asked for."""

    def __init__(self, each: int = 7) -> None:
        self.asked: list[str] = []
        self.each = each

    def __call__(self, ids: Sequence[str]) -> Iterator[np.ndarray]:
        self.asked += ids
        for first in range(0, len(ids), self.each):
            yield np.stack([vector(work) for work in ids[first : first + self.each]])


def opened(folder: Path, ids: Sequence[str], truth: Truth | None = None) -> VectorSet:
    return open_set(folder, ENCODER, ids, truth or Truth())


def right(vectors: VectorSet, ids: Sequence[str]) -> bool:
    expected = np.stack([vector(work) for work in ids])
    streamed = np.concatenate(list(vectors.blocks()))
    taken = vectors.take(np.arange(len(vectors))[::-1])[::-1]
    return len(vectors) == len(ids) and np.array_equal(streamed, expected) and np.array_equal(taken, expected)


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob(f"*{SUFFIX}")}


@SAME_FOLDER
@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True), min_size=1, max_size=14))
def test_a_set_is_of_just_the_works_asked_for_in_their_order_whatever_was_asked_before(
    tmp_path: Path, snapshots: list[list[int]]
) -> None:
    for snapshot in snapshots:
        ids = [f"w{number:04}" for number in snapshot]
        assert right(opened(tmp_path, ids), ids)
        assert len(files(tmp_path)) <= MOST_SEGMENTS


def test_a_collection_that_grows_keeps_its_files_and_reads_only_its_new_works(tmp_path: Path) -> None:
    opened(tmp_path, works(0, 9))
    before, truth = files(tmp_path), Truth()
    assert right(opened(tmp_path, works(0, 12), truth), works(0, 12))
    assert truth.asked == works(9, 12)
    assert before.items() < files(tmp_path).items()
    assert len(files(tmp_path)) == 2


def test_a_snapshot_that_is_there_already_asks_nothing_and_writes_nothing(tmp_path: Path) -> None:
    opened(tmp_path, works(0, 9))
    before, truth = files(tmp_path), Truth()
    assert right(opened(tmp_path, works(2, 8), truth), works(2, 8))
    assert truth.asked == []
    assert files(tmp_path) == before


def test_many_files_become_one_without_works_that_have_left_and_without_asking_again(tmp_path: Path) -> None:
    for last in range(1, MOST_SEGMENTS + 1):
        old = opened(tmp_path, works(0, last))
    assert len(files(tmp_path)) == MOST_SEGMENTS
    truth = Truth()
    ids = works(3, MOST_SEGMENTS + 2)
    grown = opened(tmp_path, ids, truth)
    assert right(grown, ids)
    assert truth.asked == works(MOST_SEGMENTS, MOST_SEGMENTS + 2)
    assert len(files(tmp_path)) == 1
    assert [len(segment) for segment in grown.segments] == [len(ids)]
    assert right(old, works(0, MOST_SEGMENTS))  # its files are gone, and it has them mapped


def test_a_set_is_named_by_its_encoder_and_works(tmp_path: Path) -> None:
    one, two = (opened(tmp_path / name, works(0, 9)) for name in ("one", "two"))
    grown = opened(tmp_path / "one", works(0, 12))
    assert one.name == two.name == grown.name_of_first(9) != grown.name
    assert open_set(tmp_path / "three", "csd@f00", works(0, 9), Truth()).name != one.name


def test_a_part_of_a_set_keeps_the_order(tmp_path: Path) -> None:
    opened(tmp_path, works(4, 7))
    vectors = opened(tmp_path, works(0, 9))
    kept = np.arange(9) % 2 == 0
    assert right(vectors.only(kept), works(0, 9)[::2])


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "cut short":
        path.write_bytes(data[:-1])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "a bit of a vector":
        data[-1] ^= 1
        path.write_bytes(data)
    elif how == "a bit of the header":
        data[40] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes(b"something else entirely")


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("cut short", "vectors_cut_short"),
        ("empty", "vectors_cut_short"),
        ("a bit of a vector", "vectors_altered"),
        ("a bit of the header", "vectors_altered"),
        ("replaced", "vectors_cut_short"),
    ],
)
def test_a_damaged_file_is_said_so_and_written_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str, code: str
) -> None:
    opened(tmp_path, works(0, 9))
    opened(tmp_path, works(0, 12))
    damaged = max(tmp_path.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_size)
    damage(damaged, how)
    truth = Truth()
    assert right(opened(tmp_path, works(0, 12), truth), works(0, 12))
    assert truth.asked == works(0, 9)
    assert code in caplog.text
    caplog.clear()
    assert right(opened(tmp_path, works(0, 12), truth), works(0, 12))
    assert truth.asked == works(0, 9)
    assert caplog.text == ""


def test_a_file_of_another_encoder_or_width_is_never_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(tmp_path, works(0, 3))
    wrong = np.ones((9, DIM), "<f2")
    write_segment(tmp_path, "csd@f00", as_names(works(3, 12)), [wrong])
    write_segment(tmp_path, ENCODER, as_names(works(12, 15)), [wrong[:3, :2]])
    assert right(opened(tmp_path, works(0, 15)), works(0, 15))
    assert "vectors_of_another_encoder" in caplog.text
    assert "vectors_foreign" in caplog.text


def test_workers_of_different_snapshots_that_build_at_once_get_their_own_works_each(tmp_path: Path) -> None:
    wrong: list[Sequence[str]] = []

    def work(number: int) -> None:
        for turn in range(12):
            ids = works(number % 2 * 10, 20 + 3 * turn + number)
            if not right(opened(tmp_path, ids), ids):
                wrong.append(ids)

    with ThreadPoolExecutor(4) as workers:
        for done in [workers.submit(work, number) for number in range(4)]:
            done.result(60)
    assert wrong == []
    assert not list(tmp_path.glob("*.partial"))


def test_a_truth_that_fails_leaves_nothing_half_written(tmp_path: Path) -> None:
    def broken(ids: Sequence[str]) -> Iterator[np.ndarray]:
        yield np.stack([vector(work) for work in ids[:2]])
        raise LookupError("the connection is gone")

    with pytest.raises(LookupError, match="the connection is gone"):
        open_set(tmp_path, ENCODER, works(0, 9), broken)
    assert not list(tmp_path.iterdir())


def test_vectors_that_are_none_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(VectorError, match="not finite"):
        open_set(tmp_path, ENCODER, works(0, 2), lambda _: [np.full((2, DIM), np.nan, "<f2")])
    assert not list(tmp_path.iterdir())


def test_what_a_process_that_died_left_behind_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    left, fresh = tmp_path / "left.partial", tmp_path / "fresh.partial"
    for path in (left, fresh):
        path.write_bytes(b"half a file")
    days_ago = time.time() - 3 * 24 * 3600
    os.utime(left, (days_ago, days_ago))
    opened(tmp_path, works(0, 2))
    assert not left.exists()
    assert fresh.exists()


def test_an_exact_index_over_files_answers_as_one_over_their_rows(tmp_path: Path) -> None:
    opened(tmp_path, works(0, 60))
    vectors = opened(tmp_path, works(7, 90))
    asked = np.stack([vector(work) for work in works(500, 505)]).astype(np.float32)
    of_rows = ExactIndex(vectors.take(np.arange(len(vectors)))).search(asked, 7)
    for found in (ExactIndex(vectors).search(asked, 7), search_files(vectors, asked, 7)):
        assert (found.rows == of_rows.rows).all()
        assert (found.scores == of_rows.scores).all()
