import numpy as np
import pytest

from attribution.calibration import Null
from attribution.index import ExactIndex
from attribution.neighbours import MIN_WORKS, against_background, leave_artist_out, nearest


def hands(artists: int, each: int, spread: float, seed: int = 0, dim: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of artists whose works lie around one direction each; a small `spread` makes them easy to tell."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(artists), each)
    rows = rng.normal(size=(artists, dim))[codes] + spread * rng.normal(size=(artists * each, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), codes


def calibrated(vectors: np.ndarray, artists: np.ndarray, pictures: np.ndarray | None = None) -> Null | str:
    ids = [f"work-{row}" for row in range(len(vectors))]
    return leave_artist_out(vectors, ids, artists, np.arange(len(vectors)) if pictures is None else pictures)


def fitted(vectors: np.ndarray, artists: np.ndarray, pictures: np.ndarray | None = None) -> Null:
    null = calibrated(vectors, artists, pictures)
    assert isinstance(null, Null), null
    return null


def test_the_null_is_the_best_score_with_the_artist_left_out() -> None:
    vectors, artists = hands(4, 10, 1.0)
    scores = vectors @ vectors.T
    by_hand = np.sort([scores[row][artists != artists[row]].max() for row in range(len(vectors))])
    null = fitted(vectors, artists)
    assert np.allclose(null.scores, by_hand, atol=1e-6)
    assert null.artists == 4


def test_strangers_are_called_near_as_often_as_p_says() -> None:
    vectors, artists = hands(80, 10, 1.2, seed=5)
    inside = artists < 60
    best = (vectors[~inside] @ vectors[inside].T).max(axis=1)
    p_values = fitted(vectors[inside], artists[inside]).p_values(best)
    for level in (0.05, 0.1, 0.3):
        assert (p_values <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 20)  # 20 artists, not 200 works


def test_works_of_artists_inside_have_small_p_values() -> None:
    vectors, artists = hands(12, 20, 0.6, seed=2)
    asked = np.arange(len(vectors)) % 20 == 0
    null, index = fitted(vectors[~asked], artists[~asked]), ExactIndex(vectors[~asked])
    found = [nearest(index, null, query, 3) for query in vectors[asked]]
    assert np.mean([answer.p_values[0] == null.smallest_p for answer in found]) > 0.9
    right = [artists[~asked][answer.rows[0]] == artist for answer, artist in zip(found, artists[asked], strict=True)]
    assert all(right)


def test_nearest_works_stand_best_first_with_p_values_that_never_fall() -> None:
    vectors, artists = hands(6, 10, 1.0)
    answer = nearest(ExactIndex(vectors), fitted(vectors, artists), vectors[7], 20)
    assert answer.rows[0] == 7
    assert (np.diff(answer.scores) <= 0).all()
    assert (np.diff(answer.p_values) >= 0).all()


def test_without_a_null_there_are_works_and_no_p_values() -> None:
    vectors, _ = hands(2, 5, 1.0)
    answer = nearest(ExactIndex(vectors), None, vectors[0], 50)
    assert answer.p_values is None
    assert len(answer.rows) == 10


def test_a_broken_query_is_near_to_nothing() -> None:
    vectors, _ = hands(2, 5, 1.0)
    for query in (np.full(48, np.nan, np.float32), vectors[0][:-1]):
        with pytest.raises(ValueError, match="finite numbers"):
            nearest(ExactIndex(vectors), None, query, 3)


def test_one_picture_under_two_artists_is_no_null() -> None:
    """A copy credited to somebody else would otherwise make a cosine of 1 look ordinary."""
    vectors, artists = hands(3, 15, 0.8)
    doubled = np.concatenate([vectors, vectors[:15]])
    credited = np.concatenate([artists, np.full(15, 2)])
    pictures = np.concatenate([np.arange(45), np.arange(15)])
    assert fitted(doubled, credited, pictures).scores.max() < 0.99
    assert fitted(doubled, credited).scores.max() > 0.99


def test_a_background_is_a_null_of_its_best_scores() -> None:
    vectors, artists = hands(9, 12, 1.0, seed=8)
    inside = artists < 5
    null = against_background(vectors[inside], vectors[~inside], artists[~inside])
    assert isinstance(null, Null)
    assert np.allclose(null.scores, np.sort((vectors[~inside] @ vectors[inside].T).max(axis=1)), atol=1e-6)
    assert null.artists == 4


def test_the_order_of_works_does_not_matter() -> None:
    vectors, artists = hands(6, 30, 0.9)
    order = np.random.default_rng(1).permutation(len(vectors))
    ids = [f"work-{row}" for row in range(len(vectors))]
    pictures = np.arange(len(vectors))
    other = leave_artist_out(vectors[order], [ids[row] for row in order], artists[order], pictures[order])
    assert isinstance(other, Null)
    assert np.allclose(fitted(vectors, artists).scores, other.scores, atol=1e-6)


def test_of_ten_thousand_works_fifteen_hundred_are_asked() -> None:
    vectors, artists = hands(200, 50, 1.0, dim=256)
    assert fitted(vectors, artists).n == 1500


@pytest.mark.parametrize(
    ("artists", "each", "words"),
    [(1, 50, "one artist"), (2, (MIN_WORKS - 2) // 2, "too few")],
)
def test_too_little_to_calibrate_on_is_a_reason_and_no_number(artists: int, each: int, words: str) -> None:
    assert words in str(calibrated(*hands(artists, each, 0.5)))


def test_artists_of_one_work_each_are_enough() -> None:
    assert fitted(*hands(40, 1, 0.5)).artists == 40


def test_nothing_to_compare_with_is_a_reason() -> None:
    vectors, artists = hands(2, 20, 0.5)
    assert "too few pictures" in str(calibrated(np.repeat(vectors[:1], 40, axis=0), artists, np.zeros(40, np.int64)))
    assert "one artist" in str(calibrated(np.empty((0, 8), np.float32), np.empty(0, np.int64)))
    assert "empty" in str(against_background(np.empty((0, 48), np.float32), vectors, artists))
    assert "too few" in str(against_background(vectors, vectors[:5], artists[:5]))
