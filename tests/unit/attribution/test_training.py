import numpy as np
import pytest

from attribution.training import Trained, train
from models.head import HeadError


def works(artists: int = 5, each: int = 12) -> tuple[dict, list[str], list[str]]:
    chance = np.random.default_rng(2)
    truth = np.repeat(np.arange(artists), each)
    rows = chance.normal(size=(artists, 16))[truth] * 2 + chance.normal(size=(len(truth), 16)) + 4
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return {"one@1": unit}, [f"artist-{at}" for at in truth], [f"{at:064x}" for at in range(len(truth))]


def learnt(artists: list[str], **changes: object) -> Trained:
    vectors, _, pictures = works()
    given = {"pictures": pictures, "allowed": np.ones(len(artists), bool), "name": "test"} | changes
    return train(vectors, artists, **given)  # type: ignore[arg-type]


def test_a_work_without_the_grant_teaches_nothing() -> None:
    vectors, artists, pictures = works()
    allowed = np.array([artist != "artist-3" for artist in artists])
    trained = train(vectors, artists, pictures, allowed, name="test")
    assert "artist-3" not in trained.head.artists
    assert (trained.report.works, trained.report.not_learnt) == (48, 12)
    poisoned = {key: np.where(allowed[:, None], rows, np.nan).astype(np.float32) for key, rows in vectors.items()}
    again = train(poisoned, artists, pictures, allowed, name="test")  # what is refused is not even looked at
    assert again.head.info == trained.head.info


def test_a_picture_under_two_artists_teaches_neither() -> None:
    _, artists, pictures = works()
    pictures[0] = pictures[13]
    assert learnt(artists, pictures=pictures).report.works == 58


def test_nothing_allowed_is_nothing_learnt() -> None:
    _, artists, _ = works()
    with pytest.raises(HeadError) as caught:
        learnt(artists, allowed=np.zeros(60, bool))
    assert caught.value.code == "nothing_to_learn"


def test_the_classifier_names_what_it_was_learnt_from() -> None:
    _, artists, pictures = works()
    one = learnt(artists)
    assert one.report.learnt_from["works"] == 60
    assert one.report.classifier == one.head.info.weights_sha256
    assert learnt(artists).report == one.report
    pictures[5] = "f" * 64
    other = learnt(artists, pictures=pictures)
    assert other.report.learnt_from["digest"] != one.report.learnt_from["digest"]


def test_rates_come_with_intervals_that_hold_them() -> None:
    report = learnt(works()[1]).report
    for rate in (report.right, report.unknown_right):
        assert 0 <= rate.low <= rate.value <= rate.high <= 1
        assert rate.n == 60
    assert 0 <= report.ece <= 1


def test_pictures_drawn_alike_are_never_on_both_sides_of_a_split() -> None:
    """Artists that nothing tells apart, each work there twice: with copies on both sides, a score would be high."""
    chance = np.random.default_rng(3)
    rows = np.repeat(chance.normal(size=(40, 32)), 2, axis=0)
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    artists = [f"artist-{at // 2 % 4}" for at in range(80)]
    pictures = [f"{at // 2:064x}" for at in range(80)]
    together = train({"one@1": unit}, artists, pictures, np.ones(80, bool), name="test").report
    apart = train({"one@1": unit}, artists, [f"{at:064x}" for at in range(80)], np.ones(80, bool), name="test").report
    assert together.right.value < 0.4 < apart.right.value
