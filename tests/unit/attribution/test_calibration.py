import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attribution.calibration import (
    Between,
    Null,
    balanced,
    benjamini_hochberg,
    calibration_noise,
    clopper_pearson,
    clustered_interval,
    clustered_rate_interval,
    expected_calibration_error,
    reliability,
)

SCORES = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=200)
P_VALUES = st.lists(st.floats(0, 1), min_size=0, max_size=40)


# Conformal p-values -----------------------------------------------------------------------------------


@given(SCORES, SCORES)
def test_a_p_value_counts_the_null_scores_at_least_as_high(null: list[float], scores: list[float]) -> None:
    calibrated = Null.of(null)
    p_values = calibrated.p_values(scores)
    assert ((p_values >= calibrated.smallest_p) & (p_values <= 1)).all()
    assert (np.diff(p_values[np.argsort(scores)]) <= 0).all()
    for score, p in zip(scores, p_values, strict=True):
        assert p >= (1 + sum(value >= score for value in null)) / (len(null) + 1) - 1e-12
        assert p <= (1 + sum(value >= score - 1e-4 for value in null)) / (len(null) + 1) + 1e-12


@given(SCORES, st.sampled_from([0.001, 0.01, 0.05, 0.25, 1.0]))
def test_what_passes_the_threshold_has_a_p_value_of_at_most_alpha(null: list[float], alpha: float) -> None:
    calibrated = Null.of(null)
    cut = calibrated.threshold(alpha)
    assert calibrated.enough_for(alpha) == (cut < np.inf)
    if np.isfinite(cut):
        assert calibrated.p_values(cut + 1e-3) <= alpha
        assert calibrated.p_values(cut) > alpha


def test_images_like_the_calibration_images_pass_as_often_as_alpha_says() -> None:
    rng = np.random.default_rng(3)
    passed = [np.mean(Null.of(rng.normal(size=199)).p_values(rng.normal(size=50)) <= 0.05) for _ in range(400)]
    assert np.mean(passed) == pytest.approx(0.05, abs=0.006)


def test_a_score_equal_to_a_null_score_but_for_rounding_counts_as_equal() -> None:
    calibrated = Null.of([0.5, 800.0])
    assert calibrated.p_values([0.5 + 1e-7, 800.0001, 0.51, 801.0]).tolist() == [1.0, 2 / 3, 2 / 3, 1 / 3]


def test_a_null_of_998_images_is_too_small_for_one_in_a_thousand() -> None:
    assert not Null.of(np.arange(998)).enough_for(0.001)
    assert Null.of(np.arange(999)).enough_for(0.001)
    assert Null.of([]).smallest_p == 1.0
    assert Null.of([]).threshold(0.05) == np.inf


def test_an_image_in_which_nothing_was_found_counts_as_the_lowest_score() -> None:
    calibrated = Null.of([0.1, -np.inf, -np.inf])
    assert calibrated.p_values([-np.inf, 0.05, 0.2]).tolist() == [1.0, 0.5, 0.25]
    assert Null.from_bytes(calibrated.to_bytes()).n == 3


def test_what_is_no_number_is_no_score() -> None:
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="must be numbers"):
            Null.of([0.1, wrong])
    with pytest.raises(ValueError, match="no p-value"):
        Null.of([0.1]).p_values([np.nan])


@given(SCORES)
def test_a_null_comes_back_from_its_bytes(scores: list[float]) -> None:
    written = Null.of(scores, artists=3)
    read = Null.from_bytes(written.to_bytes(), artists=3)
    assert (read.scores == written.scores).all()
    assert read.artists == 3


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[::-1], lambda data: b"\xff" * len(data)])
def test_a_damaged_null_is_refused(damage) -> None:
    with pytest.raises(ValueError, match=r"."):
        Null.from_bytes(damage(Null.of([0.25, 0.5, 0.75]).to_bytes()))


def by_artists(rng: np.random.Generator, artists: int, each: int, between: float) -> tuple[np.ndarray, np.ndarray]:
    """Skewed scores of artists, a part `between` of whose variance lies between artists; and who made which."""
    codes = np.repeat(np.arange(artists), each)
    own, within = rng.exponential(size=artists), rng.exponential(size=artists * each)
    return np.sqrt(between) * own[codes] + np.sqrt(1 - between) * within, codes


@pytest.mark.parametrize("between", [0.0, 0.5], ids=["alike", "different"])
def test_a_ninth_artist_passes_as_often_as_alpha_says_though_only_eight_are_known(between: float) -> None:
    rng = np.random.default_rng(11)
    counted, corrected = [], []
    for _ in range(400):
        scores, codes = by_artists(rng, 9, 50, between)
        known = codes < 8
        counted.append(np.mean(Null.of(scores[known], artists=8).p_values(scores[~known]) <= 0.01))
        corrected.append(np.mean(Null.of(scores[known], artists=codes[known]).p_values(scores[~known]) <= 0.01))
    assert np.mean(corrected) <= 0.012
    if between:
        assert np.mean(counted) > 1.4 * np.mean(corrected)  # images counted as if independent promise too much


@given(st.integers(0, 10_000))
@settings(max_examples=25)
def test_knowing_the_artists_never_makes_a_p_value_smaller_nor_changes_the_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, codes = by_artists(rng, int(rng.integers(2, 9)), 12, rng.random())
    asked = rng.exponential(size=40) * 2
    counted, corrected = Null.of(scores).p_values(asked), Null.of(scores, artists=codes).p_values(asked)
    assert (corrected >= counted).all()
    assert (np.diff(corrected[np.argsort(asked)]) <= 0).all()
    assert (corrected <= 1).all()


def test_artists_of_one_image_each_are_independent_images() -> None:
    scores = np.random.default_rng(0).normal(size=300)
    told, counted = Null.of(scores, artists=np.arange(300)), Null.of(scores)
    assert told.p_values(scores) == pytest.approx(counted.p_values(scores), abs=0.002)


def test_few_artists_who_differ_cannot_support_a_small_alpha_however_many_their_images() -> None:
    rng = np.random.default_rng(2)
    codes = np.repeat(np.arange(4), 500)
    scores = 3 * codes + rng.normal(size=2000)
    assert Null.of(scores).enough_for(0.001)
    assert not Null.of(scores, artists=codes).enough_for(0.01)
    assert Null.of(scores, artists=codes).threshold(0.01) == np.inf
    assert Null.of(scores, artists=np.zeros(2000)).smallest_p == pytest.approx(0.5, abs=1e-6)


def test_a_threshold_of_artists_is_where_their_p_values_pass() -> None:
    scores, codes = by_artists(np.random.default_rng(4), 12, 80, 0.2)
    null = Null.of(scores, artists=codes)
    cut = null.threshold(0.05)
    assert cut > Null.of(scores).threshold(0.05)
    assert null.p_values(cut + 1e-3) <= 0.05 < null.p_values(cut)


def test_what_is_known_of_artists_comes_back_from_bytes_to_the_last_bit() -> None:
    scores, codes = by_artists(np.random.default_rng(6), 7, 30, 0.4)
    written = Null.of(scores, artists=codes)
    assert isinstance(written.between, Between)
    read = Null.from_bytes(written.to_bytes(), artists=7)
    assert read.between == written.between
    assert np.array_equal(read.p_values(scores), written.p_values(scores))
    with pytest.raises(ValueError, match="29 artists do not fit 30"):
        Null.of(np.zeros(30), artists=np.zeros(29))


# Intervals --------------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from([0.8, 0.95, 0.99]))
def test_clopper_pearson_is_what_scipy_calls_exact(k: int, more: int, level: float) -> None:
    low, high = clopper_pearson(k, k + more, level)
    assert 0 <= low <= high <= 1
    if k + more:
        exact = stats.binomtest(k, k + more).proportion_ci(level, method="exact")
        assert (low, high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    else:
        assert (low, high) == (0.0, 1.0)


def test_a_count_beyond_its_trials_is_refused() -> None:
    with pytest.raises(ValueError, match="3 of 2"):
        clopper_pearson(3, 2)


def clustered_trials(rng: np.random.Generator, artists: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Trials that succeed in a fifth of cases, and each artist's more or less often than another's."""
    rates = rng.beta(1, 4, size=artists)
    clusters = np.repeat(np.arange(artists), each)
    return rng.random(artists * each) < rates[clusters], clusters


def test_intervals_that_know_of_artists_cover_where_independent_ones_do_not() -> None:
    rng = np.random.default_rng(5)
    covered = np.zeros(3)
    for seed in range(200):
        happened, clusters = clustered_trials(rng, 20, 40)
        intervals = (
            clustered_rate_interval(happened, clusters),
            clustered_interval(happened, clusters, seed=seed, resamples=400),
            clopper_pearson(int(happened.sum()), len(happened)),
        )
        covered += [low <= 0.2 <= high for low, high in intervals]
    assert covered[0] / 200 >= 0.92
    assert covered[1] / 200 >= 0.86  # a bootstrap of 20 artists is a little narrow, as its docstring says
    assert covered[2] / 200 < 0.7


def test_a_clustered_interval_of_independent_trials_is_about_the_exact_one() -> None:
    happened = np.random.default_rng(0).random(900) < 0.1
    clustered = clustered_rate_interval(happened, np.arange(900))
    assert clustered == pytest.approx(clopper_pearson(int(happened.sum()), 900), abs=0.002)


def test_what_never_happened_still_has_an_upper_bound() -> None:
    low, high = clustered_rate_interval(np.zeros(100), np.repeat(np.arange(10), 10))
    assert low == 0
    assert high == pytest.approx(clopper_pearson(0, 100)[1])


def test_one_artist_says_nothing_about_others() -> None:
    assert clustered_rate_interval([True, False, True], [7, 7, 7]) == (0.0, 1.0)


def test_a_bootstrap_is_the_same_for_the_same_seed_and_the_labels_of_clusters_do_not_matter() -> None:
    values, clusters = clustered_trials(np.random.default_rng(1), 8, 10)
    assert clustered_interval(values, clusters, seed=4) == clustered_interval(values, clusters * 10 + 5, seed=4)
    assert clustered_interval(values, clusters, seed=4) != clustered_interval(values, clusters, seed=5)


def test_values_without_a_cluster_each_are_refused() -> None:
    for values, clusters in (([], []), ([1.0], [1, 2])):
        with pytest.raises(ValueError, match="as many values"):
            clustered_interval(values, clusters, seed=0)


# Batches ----------------------------------------------------------------------------------------------


@given(P_VALUES, st.sampled_from([0.01, 0.05, 0.2]))
def test_benjamini_hochberg_is_scipys_adjustment_cut_at_alpha(p_values: list[float], alpha: float) -> None:
    stands = benjamini_hochberg(p_values, alpha)
    assert len(stands) == len(p_values)
    if p_values:
        adjusted = stats.false_discovery_control(p_values, method="bh")
        clear = np.abs(adjusted - alpha) > 1e-9
        assert (stands == (adjusted <= alpha))[clear].all()


def test_of_those_that_stand_in_a_batch_at_most_alpha_are_false() -> None:
    rng = np.random.default_rng(2)
    false_parts = []
    for _ in range(200):
        null = Null.of(rng.normal(size=999))
        scores = np.concatenate([rng.normal(size=80), rng.normal(4.5, 1, size=20)])
        stands = benjamini_hochberg(null.p_values(scores), 0.1)
        false_parts.append(stands[:80].sum() / max(stands.sum(), 1))
    assert np.mean(false_parts) < 0.11


def test_a_p_value_beyond_one_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        benjamini_hochberg([0.5, 1.5], 0.05)


# Reliability ------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80), st.integers(1, 20))
def test_every_answer_is_in_one_bin_and_the_error_lies_between_zero_and_one(
    answers: list[tuple[float, bool]], bins: int
) -> None:
    confidences, right = zip(*answers, strict=True)
    bars = reliability(confidences, right, bins)
    assert sum(bar.n for bar in bars) == len(answers)
    assert all(bar.low - 1e-9 <= bar.confidence <= bar.high + 1e-9 for bar in bars)
    assert 0 <= expected_calibration_error(confidences, right, bins) <= 1


def test_a_model_that_is_as_often_right_as_it_says_has_a_small_error() -> None:
    rng = np.random.default_rng(0)
    confidences = rng.random(20_000)
    honest, boastful = rng.random(20_000) < confidences, rng.random(20_000) < confidences / 2
    assert expected_calibration_error(confidences, honest) < 0.02
    assert expected_calibration_error(confidences, boastful) == pytest.approx(0.25, abs=0.02)


def test_answers_are_weighed_as_in_the_population_they_are_meant_for() -> None:
    kinds, artists = np.repeat([0, 1], [4, 6]), np.array([0, 0, 0, 1, 0, 0, 0, 0, 2, 3])
    weights = balanced(kinds, artists)
    assert weights.sum() == pytest.approx(1)
    assert weights[:4].tolist() == pytest.approx([1 / 12, 1 / 12, 1 / 12, 1 / 4])
    assert weights[4:].tolist() == pytest.approx([1 / 24] * 4 + [1 / 6] * 2)
    confidences, right = np.array([0.9] * 8 + [0.5] * 2), np.array([False] * 8 + [True, False])
    even = expected_calibration_error(confidences, right, weights=balanced([0] * 8 + [1] * 2))
    assert expected_calibration_error(confidences, right) == pytest.approx(0.8 * 0.9)
    assert even == pytest.approx(0.5 * 0.9)
    bars = reliability(confidences, right, weights=balanced([0] * 8 + [1] * 2))
    assert [(bar.n, bar.part) for bar in bars] == [(2, pytest.approx(0.5)), (8, pytest.approx(0.5))]


def test_few_answers_of_a_perfect_model_seem_miscalibrated_by_what_is_said_beside_them() -> None:
    rng = np.random.default_rng(8)
    confidences = rng.uniform(0.3, 1, size=150)
    mean, low, high = calibration_noise(confidences, seed=0)
    assert low < mean < high
    errors = [expected_calibration_error(confidences, rng.random(150) < confidences) for _ in range(200)]
    assert np.mean(errors) == pytest.approx(mean, abs=0.005)
    assert np.mean([low <= error <= high for error in errors]) > 0.88
    assert expected_calibration_error(confidences, rng.random(150) < confidences - 0.25) > high
    assert calibration_noise(np.repeat(confidences, 40), seed=0)[0] < mean / 4


def test_certain_and_wrong_is_an_error_of_one() -> None:
    assert expected_calibration_error([1.0, 1.0], [False, False]) == 1.0
