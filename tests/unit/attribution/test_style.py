import msgspec
import numpy as np
import pytest

from attribution.calibration import expected_calibration_error
from attribution.poor_copies import PoorCopies
from attribution.style import StyleModel, StyleReference
from attribution.style_fitting import Background, fit_style, null

Vectors = dict[str, np.ndarray]


def hands(
    artists: int, each: int, spread: float, seed: int = 0, dim: int = 24, encoders: int = 2
) -> tuple[Vectors, np.ndarray]:
    """Vectors of artists whose works lie around one direction each, under encoders that err independently."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(artists), each)
    rows = {}
    for number in range(encoders):
        middles = rng.normal(size=(artists, dim))
        rows[f"e{number}"] = (middles[codes] + spread * rng.normal(size=(len(codes), dim))).astype(np.float32)
    return rows, codes


def fitted(vectors: Vectors, artists: np.ndarray, **more: object) -> StyleModel:
    model = fit_style(vectors, artists, artists, np.arange(len(artists)), **more)  # type: ignore[arg-type]
    assert isinstance(model, StyleModel), model
    return model


def only(vectors: Vectors, rows: np.ndarray) -> Vectors:
    return {name: every[rows] for name, every in vectors.items()}


def test_works_that_were_left_out_are_given_to_their_artist() -> None:
    vectors, artists = hands(10, 15, 1.2)
    out = np.arange(len(artists)) % 5 == 0
    reference_of = artists[~out]
    model = fitted(only(vectors, ~out), reference_of)
    reference = StyleReference(only(vectors, ~out), reference_of, reference_of, np.arange(len(reference_of)), model)
    scores = reference.scores(only(vectors, out))
    shares, none = reference.shares(scores)
    assert np.allclose(shares.sum(axis=1) + none, 1.0)
    assert (scores.argmax(axis=1) == artists[out]).mean() > 0.9
    single = [fitted({name: rows[~out]}, reference_of) for name, rows in vectors.items()]
    assert model.artist_right > max(each.artist_right for each in single) - 0.02  # two witnesses are no worse than one


def test_an_artist_who_is_not_there_is_none_of_these() -> None:
    vectors, artists = hands(16, 12, 0.8, seed=3)
    inside = artists < 12
    model = fitted(only(vectors, inside), artists[inside])
    equal = np.arange(inside.sum())
    reference = StyleReference(only(vectors, inside), artists[inside], artists[inside], equal, model)
    shares, none = reference.shares(reference.scores(only(vectors, ~inside)))
    assert (none > shares.max(axis=1)).mean() > 0.8


def test_shares_are_right_as_often_as_they_claim() -> None:
    vectors, artists = hands(40, 12, 2.0, seed=1)
    inside = artists < 20
    held_out = inside & (np.arange(len(artists)) % 4 == 0)
    index = inside & ~held_out
    model = fitted(only(vectors, index), artists[index])
    reference = StyleReference(only(vectors, index), artists[index], artists[index], np.arange(index.sum()), model)
    asked = np.concatenate([np.flatnonzero(held_out), np.flatnonzero(~inside)[: held_out.sum()]])
    shares, none = reference.shares(reference.scores(only(vectors, asked)))
    table = np.column_stack([shares, none])
    truth = np.where(artists[asked] < 20, artists[asked], 20)
    assert expected_calibration_error(table.max(axis=1), table.argmax(axis=1) == truth, bins=5) < 0.12


def test_strangers_are_called_near_as_often_as_p_says() -> None:
    vectors, artists = hands(60, 10, 1.5, seed=5)
    inside = artists < 40
    own, equal = artists[inside], np.arange(inside.sum())
    model = fitted(only(vectors, inside), own)
    ordinary = null(only(vectors, inside), own, own, equal, model)
    assert ordinary.artists == 40
    reference = StyleReference(only(vectors, inside), own, own, equal, model)
    p_values = ordinary.p_values(reference.scores(only(vectors, ~inside)).max(axis=1))
    for level in (0.05, 0.2):
        assert (p_values <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 20)  # 20 artists, not 200 works


def test_a_background_is_the_null_when_there_is_one() -> None:
    vectors, artists = hands(12, 12, 1.0, seed=7)
    far = artists >= 6
    background = Background(only(vectors, far), artists[far])
    own, equal = artists[~far], np.arange((~far).sum())
    model = fitted(only(vectors, ~far), own, background=background)
    ordinary = null(only(vectors, ~far), own, own, equal, model, background=background)
    assert (ordinary.n, ordinary.artists) == (far.sum(), 6)
    assert np.isfinite(ordinary.scores).all()
    known = StyleReference(only(vectors, ~far), own, own, equal, model).scores(only(vectors, ~far)).max(axis=1)
    assert np.median(known) > np.quantile(ordinary.scores, 0.9)


def test_the_same_collection_gives_the_same_model_and_it_travels_as_json() -> None:
    vectors, artists = hands(5, 8, 1.0)
    model = fitted(vectors, artists)
    assert fitted(vectors, artists) == model
    again = msgspec.json.decode(msgspec.json.encode(model), type=StyleModel)
    reference, other = (StyleReference(vectors, artists, artists, np.arange(40), each) for each in (model, again))
    assert np.array_equal(reference.scores(vectors), other.scores(vectors))


def test_named_and_unnamed_works_of_one_artist_are_left_out_together() -> None:
    vectors, artists = hands(4, 12, 0.5)
    groups = np.where(np.arange(48) % 2 == 0, artists, artists + 4)
    model = fit_style(vectors, groups, artists, np.arange(48))
    assert isinstance(model, StyleModel)
    together = null(vectors, groups, artists, np.arange(48), model).scores
    known = StyleReference(vectors, groups, artists, np.arange(48), model).scores(vectors).max(axis=1)
    assert np.quantile(together, 0.9) < np.quantile(known, 0.1)


def test_one_picture_under_two_artists_is_no_null() -> None:
    vectors, artists = hands(5, 10, 0.8)
    doubled = {name: np.concatenate([rows, rows[:10]]) for name, rows in vectors.items()}
    credited, equal = np.concatenate([artists, np.full(10, 4)]), np.concatenate([np.arange(50), np.arange(10)])
    model = fit_style(doubled, credited, credited, equal)
    assert isinstance(model, StyleModel)
    told_apart = null(doubled, credited, credited, equal, model).scores
    taken_for_two = null(doubled, credited, credited, np.arange(60), model).scores
    assert told_apart.max() < taken_for_two.max()


def test_an_artist_with_one_work_breaks_nothing() -> None:
    vectors, artists = hands(6, 10, 1.0)
    kept = np.flatnonzero((artists != 5) | (np.arange(60) == 50))
    few, codes = only(vectors, kept), artists[kept]
    model = fitted(few, codes)
    scores = StyleReference(few, codes, codes, np.arange(len(codes)), model).scores(few)
    assert np.isfinite(scores).all()
    assert np.isfinite(null(few, codes, codes, np.arange(len(codes)), model).scores).all()


@pytest.mark.parametrize(
    ("artists", "each", "reason"),
    [(4, 3, "too few"), (1, 30, "one artist"), (25, 1, "no artist has two")],
    ids=["few-works", "one-artist", "one-work-each"],
)
def test_where_nothing_can_be_fitted_the_reason_is_said(artists: int, each: int, reason: str) -> None:
    vectors, codes = hands(artists, each, 1.0)
    said = fit_style(vectors, codes, codes, np.arange(len(codes)))
    assert isinstance(said, str)
    assert reason in said


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0], ids=["nan", "infinite", "zero"])
def test_vectors_that_say_nothing_are_refused(value: float) -> None:
    vectors, artists = hands(4, 8, 1.0)
    model = fitted(vectors, artists)
    broken = {name: rows.copy() for name, rows in vectors.items()}
    broken["e1"][3] = value
    with pytest.raises(ValueError, match="zero or not finite"):
        fit_style(broken, artists, artists, np.arange(32))
    with pytest.raises(ValueError, match="zero or not finite"):
        StyleReference(vectors, artists, artists, np.arange(32), model).scores(broken)


def test_groups_with_gaps_or_of_two_artists_are_refused() -> None:
    vectors, artists = hands(4, 8, 1.0)
    model = fitted(vectors, artists)
    with pytest.raises(ValueError, match="gaps"):
        StyleReference(vectors, artists * 2, artists, np.arange(32), model)
    with pytest.raises(ValueError, match="one artist"):
        StyleReference(vectors, artists // 2, artists, np.arange(32), model)


def test_an_encoder_that_poor_copies_blind_loses_its_weight() -> None:
    vectors, artists = hands(12, 15, 0.3)  # both are right of nearly every clean work
    places = np.arange(0, len(artists), 2)
    noise = np.random.default_rng(5).normal(size=vectors["e1"][places].shape).astype(np.float32)
    poor = PoorCopies(places, {"e0": vectors["e0"][places], "e1": 4 * noise})
    clean, weighed = fitted(vectors, artists), fitted(vectors, artists, poor=poor)
    share = [(model.near[1] + model.centre[1]) / sum(model.near + model.centre) for model in (clean, weighed)]
    assert share[0] > 0.3
    assert share[1] < 0.1
    reference = StyleReference(vectors, artists, artists, np.arange(len(artists)), weighed)
    seen = {"e0": vectors["e0"], "e1": np.random.default_rng(6).normal(size=vectors["e1"].shape).astype(np.float32)}
    assert (reference.scores(seen).argmax(axis=1) == artists).mean() > 0.95


def test_poor_copies_keep_their_places_when_works_are_taken_out() -> None:
    vectors, artists = hands(3, 10, 0.5)
    poor = PoorCopies(np.array([7, 20, 3, 12]), {"e0": vectors["e0"][[7, 20, 3, 12]]})
    kept = artists != 1
    left = poor.only(kept)
    assert np.array_equal(vectors["e0"][kept][left.rows], left.vectors["e0"])
    assert len(left.rows) == 3
