import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attribution.calibration import MIN_WORKS, Calibration, ShareModel, fit, share_weights
from attribution.index import ExactIndex


def hands(artists: int, each: int, spread: float, seed: int = 0, dim: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of artists whose works lie around one direction each; a small `spread` makes them easy to tell."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(artists), each)
    rows = rng.normal(size=(artists, dim))[codes] + spread * rng.normal(size=(artists * each, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), codes


def calibrated(vectors: np.ndarray, artists: np.ndarray, pictures: np.ndarray | None = None) -> Calibration:
    ids = [f"work-{row}" for row in range(len(vectors))]
    return fit(ExactIndex(vectors), ids, artists, np.arange(len(vectors)) if pictures is None else pictures)


# p-values ---------------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=200),
    st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20),
)
def test_a_p_value_is_one_plus_the_nulls_at_least_as_high(null: list[float], scores: list[float]) -> None:
    calibration = Calibration(np.sort(np.array(null, np.float32)), None, None, len(null), 2)
    p_values = calibration.p_values(np.array(scores, np.float32))
    assert ((p_values > 0) & (p_values <= 1)).all()
    assert (p_values >= calibration.smallest_p).all()
    order = np.argsort(scores)
    assert (np.diff(p_values[order]) <= 0).all()
    for score, p in zip(scores, p_values, strict=True):
        at_least = sum(value >= np.float32(score) for value in null)
        assert p >= (1 + at_least) / (len(null) + 1) - 1e-12  # ties within rounding only make it larger


def test_a_score_equal_to_a_null_but_for_rounding_counts_as_equal() -> None:
    calibration = Calibration(np.array([0.5], np.float32), None, None, 1, 2)
    assert calibration.p_values(np.array([0.5 + 1e-7], np.float32))[0] == 1.0
    assert calibration.p_values(np.array([0.51], np.float32))[0] == 0.5


def test_the_null_is_the_best_score_with_the_artist_left_out() -> None:
    vectors, artists = hands(4, 10, 1.0)
    scores = (vectors @ vectors.T).astype(np.float32)
    by_hand = np.sort([scores[row][artists != artists[row]].max() for row in range(len(vectors))])
    assert np.allclose(calibrated(vectors, artists).null, by_hand, atol=1e-6)


def test_strangers_are_called_near_as_often_as_p_says() -> None:
    """Works by artists outside the collection: p <= a happens in about a part a of them, never far more."""
    vectors, artists = hands(80, 10, 1.2, seed=5)
    inside = artists < 60
    calibration = calibrated(vectors[inside], artists[inside])
    best = (vectors[~inside] @ vectors[inside].T).max(axis=1)
    p_values = calibration.p_values(best)
    for level in (0.05, 0.1, 0.3):
        assert (p_values <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 20)  # 20 artists, not 200 works


def test_works_of_artists_inside_get_small_p_values() -> None:
    vectors, artists = hands(12, 20, 0.6, seed=2)
    asked = np.arange(len(vectors)) % 20 == 0
    calibration = calibrated(vectors[~asked], artists[~asked])
    p_values = calibration.p_values((vectors[asked] @ vectors[~asked].T).max(axis=1))
    assert (p_values == calibration.smallest_p).mean() > 0.9


def test_one_picture_under_two_artists_is_no_null() -> None:
    """A copy credited to somebody else would otherwise make a cosine of 1 look ordinary."""
    vectors, artists = hands(3, 15, 0.8)
    doubled = np.concatenate([vectors, vectors[:15]])
    credited = np.concatenate([artists, np.full(15, 2)])
    pictures = np.concatenate([np.arange(45), np.arange(15)])
    assert calibrated(doubled, credited, pictures).null.max() < 0.99
    assert calibrated(doubled, credited).null.max() > 0.99


# Shares -----------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.floats(-1, 1, width=32), st.integers(0, 4)), min_size=1, max_size=60),
    st.floats(0.003, 0.6),
    st.sampled_from([0.0, -0.01, -0.2]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.floats(-1, 1),
)
@settings(max_examples=200, deadline=None)
def test_shares_sum_to_one_with_none_of_these(
    works: list[tuple[float, int]], tau: float, cutoff: float, gamma: float, none: float
) -> None:
    scores = np.array([score for score, _ in works], np.float32)
    artists = np.array([artist for _, artist in works])
    weights, none_share = share_weights(ShareModel(tau, cutoff, gamma, none, 1, 1.0, 1.0), scores, artists)
    assert (weights >= 0).all()
    assert 0 <= none_share <= 1
    assert weights.sum() + none_share == pytest.approx(1, abs=1e-12)


def test_a_nearer_work_never_has_a_smaller_share_than_another_by_the_same_artist() -> None:
    scores = np.array([0.9, 0.2, 0.5, 0.5, 0.7], np.float32)
    weights, _ = share_weights(ShareModel(0.1, -0.01, 0.5, 0.6, 1, 1.0, 1.0), scores, np.zeros(5, np.int64))
    assert (np.diff(weights[np.argsort(scores)]) >= 0).all()


def test_a_far_image_belongs_to_none_and_a_near_one_to_its_artist() -> None:
    vectors, artists = hands(8, 25, 0.7, seed=1)
    model = calibrated(vectors, artists).shares
    assert model is not None
    stranger = hands(1, 1, 0.1, seed=99)[0]
    assert share_weights(model, (stranger @ vectors.T)[0], artists)[1] > 0.5
    copy = (vectors[40:41] @ vectors.T)[0]
    weights, none = share_weights(model, copy, artists)
    assert np.bincount(artists, weights).argmax() == artists[40]
    assert none < 0.1


def test_a_fitted_model_says_how_often_it_was_right() -> None:
    easy, artists = hands(8, 25, 0.5)
    model = calibrated(easy, artists).shares
    assert model is not None
    assert model.artist_right > 0.95
    assert model.none_right > 0.95
    chance = np.random.default_rng(4).permutation(artists)
    lost = calibrated(easy, chance).shares
    assert lost is not None
    assert lost.artist_right < 0.6  # labels without meaning cannot be guessed


def test_a_large_catalogue_is_not_an_advantage_in_itself() -> None:
    """Works without any hand: nine times as many of them do not bring nine times the share."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(632, 48)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors, asked = vectors[:612], vectors[612:]
    artists = np.array([0] * 500 + [1] * 56 + [2] * 56)
    model = calibrated(vectors, artists).shares
    assert model is not None
    shares = [np.bincount(artists, share_weights(model, scores, artists)[0]) for scores in asked @ vectors.T]
    mean = np.mean(shares, axis=0)
    assert mean[0] < 3 * mean[1:].mean()


# Fitting ----------------------------------------------------------------------------------------------


def test_fitting_twice_gives_the_same_calibration() -> None:
    vectors, artists = hands(6, 30, 0.9)
    one, other = calibrated(vectors, artists), calibrated(vectors, artists)
    assert one.shares == other.shares
    assert (one.null == other.null).all()


def test_the_order_of_works_does_not_matter() -> None:
    vectors, artists = hands(6, 30, 0.9)
    order = np.random.default_rng(1).permutation(len(vectors))
    ids = [f"work-{row}" for row in range(len(vectors))]
    pictures = np.arange(len(vectors))
    one = fit(ExactIndex(vectors), ids, artists, pictures)
    other = fit(ExactIndex(vectors[order]), [ids[row] for row in order], artists[order], pictures[order])
    assert np.allclose(one.null, other.null, atol=1e-6)
    assert one.shares is not None
    assert other.shares is not None
    assert (one.shares.tau, one.shares.cutoff, one.shares.gamma) == (
        other.shares.tau,
        other.shares.cutoff,
        other.shares.gamma,
    )
    assert one.shares.none == pytest.approx(other.shares.none, abs=1e-5)


def test_ten_thousand_works_are_fitted_in_seconds() -> None:
    vectors, artists = hands(200, 50, 1.0, dim=256)
    started = time.perf_counter()
    assert calibrated(vectors, artists).shares is not None
    assert time.perf_counter() - started < 8  # about 1 s on two idle cores


@pytest.mark.parametrize(
    ("artists", "each", "words"),
    [(1, 50, "one artist"), (3, 2, "too few"), (2, (MIN_WORKS - 2) // 2, "too few")],
)
def test_too_little_to_calibrate_on_is_a_reason_and_no_number(artists: int, each: int, words: str) -> None:
    calibration = calibrated(*hands(artists, each, 0.5))
    assert words in (calibration.reason or "")
    assert len(calibration.null) == 0
    assert calibration.shares is None
    assert calibration.smallest_p == 1.0


def test_an_empty_collection_is_a_reason_too() -> None:
    calibration = calibrated(np.empty((0, 8), np.float32), np.empty(0, np.int64))
    assert calibration.reason
    assert calibration.works == calibration.artists == 0


def test_artists_of_one_work_each_have_p_values_and_no_shares() -> None:
    calibration = calibrated(*hands(40, 1, 0.5))
    assert len(calibration.null) == 40
    assert calibration.shares is None
    assert "two different works" in (calibration.reason or "")


def test_a_collection_that_is_one_picture_many_times_cannot_be_calibrated() -> None:
    vectors, artists = hands(2, 20, 0.5)
    same = np.repeat(vectors[:1], 40, axis=0)
    calibration = calibrated(same, artists, np.zeros(40, np.int64))
    assert len(calibration.null) == 0
    assert "too few pictures" in (calibration.reason or "")
