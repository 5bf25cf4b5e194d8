import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from attribution.errors import VectorError
from attribution.index import ExactIndex, search_files
from attribution.vector_sets import MOST_SEGMENTS, VectorSet, sweep

ENCODER = "clip@0123456789abcdef"
DIM = 4


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Of about unit length, and exact in binary16."""
    vectors = np.random.default_rng(seed).normal(size=(count, DIM))
    return (0.99 * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


def works(first: int, last: int) -> list[str]:
    return [f"w{number:04}" for number in range(first, last)]


def content(vectors: VectorSet) -> dict[str, tuple[float, ...]]:
    return {
        name: tuple(row)
        for name, row in zip(vectors.ids(), vectors.take(np.arange(len(vectors))).tolist(), strict=True)
    }


class Collections(RuleBasedStateMachine):
    """Whatever is added, taken out, merged and swept, a set holds what a dictionary holds."""

    folder: Path

    @initialize()
    def found(self) -> None:
        self.set = VectorSet.empty(self.folder, ENCODER, DIM)
        self.expected: dict[str, tuple[float, ...]] = {}

    @rule(numbers=st.sets(st.integers(0, 30), min_size=1, max_size=5), seed=st.integers(0, 99))
    def add(self, numbers: set[int], seed: int) -> None:
        ids, vectors = [f"w{number:04}" for number in sorted(numbers)], rows(len(numbers), seed)
        if set(ids) & set(self.expected):
            with pytest.raises(VectorError, match="in the set already"):
                self.set.add(ids, vectors)
        else:
            self.set = self.set.add(ids, vectors)
            self.expected |= {name: tuple(row) for name, row in zip(ids, vectors.tolist(), strict=True)}

    @rule(numbers=st.sets(st.integers(0, 30), max_size=8))
    def take_out(self, numbers: set[int]) -> None:
        self.set = self.set.without([f"w{number:04}" for number in numbers])
        for number in numbers:
            self.expected.pop(f"w{number:04}", None)

    @rule(most=st.integers(1, 4))
    def merge(self, most: int) -> None:
        self.set = self.set.merged(most)
        assert len(self.set.segments) <= most

    @rule()
    def sweep_and_open_again(self) -> None:
        sweep(self.folder, [self.set])
        self.set = VectorSet.open(self.folder, self.set.name, encoder=ENCODER)

    @invariant()
    def holds_the_same(self) -> None:
        if hasattr(self, "set"):
            assert content(self.set) == self.expected
            assert len(self.set) == len(self.expected)
            assert len(self.set.segments) <= MOST_SEGMENTS
            streamed = [row for block in self.set.blocks() for row in block.tolist()]
            assert streamed == self.set.take(np.arange(len(self.set))).tolist()


def test_a_set_holds_what_was_added_and_not_taken_out(tmp_path: Path) -> None:
    Collections.folder = tmp_path
    few = settings(max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Collections, settings=few)


def test_adding_writes_one_segment_and_touches_no_other(tmp_path: Path) -> None:
    first = VectorSet.empty(tmp_path, ENCODER, DIM).add(works(0, 9), rows(9))
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.vectors")}
    second = first.add(works(9, 12), rows(3, seed=1))
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.vectors")}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 1
    assert second.ids()[:9] == first.ids()
    assert second.name != first.name


def test_equal_content_has_an_equal_name(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = (VectorSet.empty(tmp_path / name, ENCODER, DIM).add(works(0, 9), rows(9)) for name in ("one", "two"))
    assert one.name == two.name
    assert one.without(["w0003"]).name != one.name


def test_a_work_taken_out_may_come_back_with_another_vector(tmp_path: Path) -> None:
    vectors = VectorSet.empty(tmp_path, ENCODER, DIM).add(works(0, 5), rows(5))
    again = vectors.without(["w0002"]).add(["w0002"], rows(1, seed=7))
    assert content(again)["w0002"] == tuple(rows(1, seed=7)[0].tolist())
    assert len(again) == 5


def test_a_set_of_another_encoder_or_altered_or_gone_is_refused(tmp_path: Path) -> None:
    vectors = VectorSet.empty(tmp_path, ENCODER, DIM).add(works(0, 5), rows(5))
    with pytest.raises(VectorError, match="asked for"):
        VectorSet.open(tmp_path, vectors.name, encoder="csd@f00")
    with pytest.raises(VectorError, match="width 4"):
        vectors.add(["w0009"], np.ones((1, 3), np.float32))
    path = tmp_path / f"{vectors.name}.set"
    path.write_bytes(path.read_bytes().replace(b'"dim":4', b'"dim":5'))
    with pytest.raises(VectorError, match="not what its name says"):
        VectorSet.open(tmp_path, vectors.name, encoder=ENCODER)
    path.unlink()
    with pytest.raises(VectorError) as caught:
        VectorSet.open(tmp_path, vectors.name, encoder=ENCODER)
    assert caught.value.code == "vectors_missing"


def test_a_reader_never_sees_two_states_while_a_writer_adds_takes_out_merges_and_sweeps(tmp_path: Path) -> None:
    """State g has every vector times 2^g, so a row of another state shows at once."""
    base = rows(40)
    newest = VectorSet.empty(tmp_path, ENCODER, DIM).add(works(0, 40), base)
    states: dict[str, int] = {newest.name: 0}
    published, done, seen, wrong = [newest.name], threading.Event(), set(), []

    def read() -> None:
        while not (done.is_set() and published[-1] in seen):
            name = published[-1]
            try:
                vectors = VectorSet.open(tmp_path, name, encoder=ENCODER)
            except VectorError as error:
                if error.code != "vectors_missing" or name == published[-1]:
                    wrong.append(error)
                continue
            order = np.argsort(vectors.ids())
            for _ in range(2):  # the second time it may have been swept away under the reader
                rows_now = vectors.take(np.arange(len(vectors)))[order]
                if not np.array_equal(rows_now, base * np.float32(2 ** states[name])):
                    wrong.append(name)
            seen.add(name)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for state in range(1, 13):
            grown = newest.without(works(0, 40))
            for first in range(0, 40, 10):
                grown = grown.add(works(first, first + 10), base[first : first + 10] * 2**state)
            newest = grown.merged(1 + state % 3)
            states[newest.name] = state
            published.append(newest.name)
            sweep(tmp_path, [newest])
    finally:
        done.set()
        reader.join(30)
    assert not reader.is_alive()
    assert wrong == []
    assert len(seen) > 1


def test_an_exact_index_over_files_answers_as_one_over_their_rows(tmp_path: Path) -> None:
    vectors = VectorSet.empty(tmp_path, ENCODER, DIM).add(works(0, 60), rows(60)).add(works(60, 90), rows(30, seed=1))
    vectors = vectors.without(["w0007", "w0065"])
    asked = rows(5, seed=2)
    of_rows = ExactIndex(vectors.take(np.arange(len(vectors)))).search(asked, 7)
    for found in (ExactIndex(vectors).search(asked, 7), search_files(vectors, asked, 7)):
        assert (found.rows == of_rows.rows).all()
        assert (found.scores == of_rows.scores).all()
    assert vectors.ids(of_rows.rows[0])[0] == vectors.ids()[of_rows.rows[0, 0]]
