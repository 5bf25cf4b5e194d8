import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attribution.index import ExactIndex, Exhaustive, score_blocks
from attribution.scan import Scan


def unit(seed: int, rows: int, dim: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 80), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_search_finds_what_looking_at_every_work_finds(rows: int, queries: int, k: int, seed: int) -> None:
    vectors, asked = unit(seed, rows), unit(seed + 100, queries)
    scores, found = ExactIndex(vectors).search(asked, k)
    every = asked @ vectors.T
    assert scores.shape == found.shape == (queries, min(k, rows))
    assert np.allclose(scores, -np.sort(-every, axis=1)[:, :k], atol=1e-6)
    assert np.allclose(np.take_along_axis(every, found, axis=1), scores, atol=1e-6)
    ((first, scores),) = score_blocks(vectors, asked)
    assert first == 0
    assert np.allclose(scores, every, atol=1e-6)


def test_the_best_comes_first_and_equal_works_keep_their_order() -> None:
    vectors = unit(0, 5)
    index = ExactIndex(np.concatenate([vectors, vectors]))
    scores, rows = index.search(vectors[3:4], 4)
    assert rows[0, :2].tolist() == [3, 8]
    assert scores[0, 0] == scores[0, 1] <= 1.0
    assert (np.diff(scores[0]) <= 0).all()


def test_cosines_never_leave_their_range() -> None:
    vectors = unit(1, 200, dim=3000)
    assert ExactIndex(vectors).search(vectors, 1)[0].max() <= 1.0
    assert all(np.abs(scores).max() <= 1.0 for _, scores in score_blocks(vectors, vectors))


def test_an_empty_collection_and_no_query_give_nothing() -> None:
    empty = ExactIndex(np.empty((0, 16), np.float32))
    assert len(empty) == 0
    assert empty.search(unit(0, 2), 5)[0].shape == (2, 0)
    assert not list(score_blocks(np.empty((0, 16), np.float32), unit(0, 2)))
    assert ExactIndex(unit(0, 3)).search(np.empty((0, 16), np.float32), 5)[1].shape == (0, 0)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(4, np.float32), np.zeros((2, 2)), np.full((2, 2), np.nan, np.float32)],
    ids=["1-d", "float64", "nan"],
)
def test_vectors_that_are_none_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="float32"):
        ExactIndex(wrong)


@pytest.mark.parametrize(
    "wrong", [np.full((1, 16), np.nan, np.float32), np.ones((1, 3), np.float32)], ids=["nan", "3-d"]
)
def test_queries_that_are_none_are_refused(wrong: np.ndarray) -> None:
    index = ExactIndex(unit(0, 5))
    with pytest.raises(ValueError, match="finite"):
        index.search(wrong, 1)


def test_an_exhaustive_answer_can_say_that_nothing_reaches_a_score() -> None:
    vectors = unit(0, 50)
    found = ExactIndex(vectors).search(np.stack([vectors[7], -vectors[7]]), 1)
    assert isinstance(found, Exhaustive)
    assert found.nothing_reaches(0.999).tolist() == [False, True]
    assert ExactIndex(np.empty((0, 16), np.float32)).search(vectors[:2], 1).nothing_reaches(-1.0).tolist() == [
        True,
        True,
    ]


@pytest.mark.parametrize("copies", [30, 700])
def test_among_many_equal_works_the_first_ones_are_named(copies: int) -> None:
    """More of them than a first scan brings along."""
    vectors = np.concatenate([unit(0, 400), np.repeat(unit(1, 1), copies, axis=0), unit(2, 400)])
    scores, rows = ExactIndex(vectors).search(unit(1, 1), 5)
    assert rows[0].tolist() == [400, 401, 402, 403, 404]
    assert len(set(scores[0].tolist())) == 1


@given(st.integers(0, 30))
@settings(max_examples=15, deadline=None)
def test_a_difference_that_float32_rounds_away_still_decides(seed: int) -> None:
    """Works that differ by less than the rounding of a scan stand in the order that float64 gives them."""
    generator = np.random.default_rng(seed)
    base = unit(seed, 1, dim=512)
    vectors = (base + generator.normal(size=(300, 512)) * 1e-4).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) * np.float32(1.001)
    scores, rows = ExactIndex(vectors).search(base, 10)
    every = (base.astype(np.float64) @ vectors.astype(np.float64).T)[0]
    assert (scores[0] == np.sort(every.astype(np.float32))[::-1][:10]).all()
    assert (every[rows[0]].astype(np.float32) == scores[0]).all()


@given(st.integers(1, 40_000), st.integers(1, 3), st.integers(1, 70))
@settings(max_examples=12, deadline=None)
def test_a_scan_finds_the_largest_values_however_the_rows_are_parted(rows: int, queries: int, most: int) -> None:
    matrix = torch.from_numpy(unit(rows, rows, dim=4))
    asked = unit(7, queries, dim=4)
    most = min(most, rows)
    scan = Scan(matrix)
    values, places = scan.best(asked, most)
    every = asked.astype(np.float64) @ matrix.double().numpy().T
    assert np.allclose(values, -np.sort(-every, axis=1)[:, :most], atol=float(scan.slack(asked).max()))
    assert np.allclose(np.take_along_axis(every, places, axis=1), values, atol=float(scan.slack(asked).max()))
    assert all(len(set(row)) == most for row in places.tolist())
