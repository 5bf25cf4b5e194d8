"""Retrieval figures by hand, and thresholds that keep the rate they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.evaluation.metrics import map_at_k, micro_average_precision, ranked, recall_at_k, threshold_at


def test_csds_map_is_the_mean_of_the_precisions_at_every_rank() -> None:
    found = np.array([[True, False, True, False], [False, False, False, True], [False] * 4])
    # first row: precisions 1/1, 1/2, 2/3, 2/4; second: 0, 0, 0, 1/4
    assert map_at_k(found, 4) == pytest.approx([(1 + 1 / 2 + 2 / 3 + 1 / 2) / 4, 1 / 16, 0])
    assert map_at_k(found, 1) == pytest.approx([1, 0, 0])


def test_recall_asks_for_one_relevant_work() -> None:
    found = np.array([[True, True, True], [False, False, True], [False] * 3])
    assert recall_at_k(found, 2).tolist() == [1, 0, 0]
    assert recall_at_k(found, 3).tolist() == [1, 1, 0]
    with pytest.raises(ValueError, match="k must be 1 to 3"):
        recall_at_k(found, 4)


def test_at_rank_one_both_figures_are_the_same() -> None:
    found = np.random.default_rng(0).random((50, 7)) < 0.3
    assert map_at_k(found, 1).tolist() == recall_at_k(found, 1).tolist()


def test_a_query_does_not_find_itself() -> None:
    scores = np.array([[9.0, 1.0, 2.0], [1.0, 9.0, 3.0]])
    relevant = np.array([[True, True, False], [True, True, False]])
    hidden = np.eye(2, 3, dtype=bool)
    assert ranked(scores, relevant, 3, hidden).tolist() == [[False, True, False], [False, True, False]]


def test_ranks_beyond_the_last_work_are_not_relevant() -> None:
    found = ranked(np.array([[1.0, 2.0]]), np.array([[True, True]]), 4)
    assert found.tolist() == [[True, True, False, False]]


def test_micro_average_precision_ranks_all_predictions_together() -> None:
    right = np.array([True, False, True])
    assert micro_average_precision(np.array([0.9, 0.8, 0.7]), right, 2) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert micro_average_precision(np.array([0.9, 0.8, 0.7]), right, 4) == pytest.approx(1 / 4 * 1 + 1 / 4 * 2 / 3)
    assert micro_average_precision(np.empty(0), np.empty(0, bool), 3) == 0


def test_equal_scores_do_not_profit_from_their_order() -> None:
    scores = np.array([0.5, 0.5, 0.5, 0.5])
    lucky, unlucky = np.array([True, False, False, False]), np.array([False, False, False, True])
    assert (
        micro_average_precision(scores, lucky, 1) == micro_average_precision(scores, unlucky, 1) == pytest.approx(0.25)
    )


@given(
    st.lists(st.one_of(st.just(-np.inf), st.floats(-10, 10), st.integers(0, 3).map(float)), min_size=1, max_size=300),
    st.floats(0.0005, 0.5),
)
def test_no_more_than_the_rate_lies_above_the_threshold(null: list[float], rate: float) -> None:
    limit = threshold_at(np.array(null), rate)
    above = sum(score > limit.threshold for score in null)
    assert (limit.false, limit.n) == (above, len(null))
    assert limit.measured <= rate + 1e-9
    lower = [score for score in null if score < limit.threshold]
    if lower:  # it is the lowest: one score further down, and too many would lie above it
        assert sum(score > max(lower) for score in null) > rate * len(null) - 1e-6
