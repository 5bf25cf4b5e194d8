import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attribution.index import ExactIndex


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
    assert np.allclose(ExactIndex(vectors).scores(asked), every, atol=1e-6)


def test_the_best_comes_first_and_equal_works_keep_their_order() -> None:
    vectors = unit(0, 5)
    index = ExactIndex(np.concatenate([vectors, vectors]))
    scores, rows = index.search(vectors[3:4], 4)
    assert rows[0, :2].tolist() == [3, 8]
    assert scores[0, 0] == scores[0, 1] <= 1.0
    assert (np.diff(scores[0]) <= 0).all()


def test_cosines_never_leave_their_range() -> None:
    vectors = unit(1, 200, dim=3000)
    index = ExactIndex(vectors)
    assert index.search(vectors, 1)[0].max() <= 1.0
    assert np.abs(index.scores(vectors)).max() <= 1.0


def test_an_empty_collection_and_no_query_give_nothing() -> None:
    empty = ExactIndex(np.empty((0, 16), np.float32))
    assert len(empty) == 0
    assert empty.search(unit(0, 2), 5)[0].shape == (2, 0)
    assert empty.scores(unit(0, 2)).shape == (2, 0)
    assert ExactIndex(unit(0, 3)).search(np.empty((0, 16), np.float32), 5)[1].shape == (0, 0)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(4, np.float32), np.zeros((2, 2)), np.full((2, 2), np.nan, np.float32)],
    ids=["1-d", "float64", "nan"],
)
def test_vectors_that_are_none_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="float32"):
        ExactIndex(wrong)
