import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.errors import NetworkError
from models.head import ArtistHead, HeadError
from models.head_training import deal, train_head

DIM, PER_ARTIST = 24, 30


def hands(artists: int, works: int = PER_ARTIST, seed: int = 0, apart: float = 0.5) -> tuple[dict, list[str]]:
    """Two encoders that each see a part of what tells the artists apart; unit rows."""
    chance = np.random.default_rng(seed)
    truth = np.repeat(np.arange(artists), works)
    vectors = {}
    for key in ("one@1", "two@2"):
        rows = chance.normal(size=(artists, DIM))[truth] * apart + chance.normal(size=(len(truth), DIM)) + 3
        vectors[key] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return vectors, [f"artist-{number}" for number in truth]


def part(vectors: dict, chosen: object) -> dict:
    return {key: rows[chosen] for key, rows in vectors.items()}


@pytest.fixture(scope="module")
def trained() -> ArtistHead:
    vectors, artists = hands(8)
    odd = np.arange(len(artists)) % 2 == 1
    return train_head(part(vectors, odd), [name for name, seen in zip(artists, odd, strict=True) if seen])[0]


def answers(head: ArtistHead, vectors: dict) -> list[str]:
    known, _ = head.classify(vectors)
    return [head.artists[at] for at in known.argmax(1)]


def test_held_out_works_are_named_better_than_by_either_encoder_alone(trained: ArtistHead) -> None:
    vectors, artists = hands(8)
    even = np.arange(len(artists)) % 2 == 0
    truth = [artists[at] for at in np.flatnonzero(even)]

    def right(keys: tuple[str, ...]) -> float:
        head, _ = train_head({key: vectors[key][~even] for key in keys}, [artists[at] for at in np.flatnonzero(~even)])
        return float(np.mean([a == b for a, b in zip(answers(head, part(vectors, even)), truth, strict=True)]))

    both = right(("one@1", "two@2"))
    assert both > 0.8
    assert both > max(right(("one@1",)), right(("two@2",))) + 0.05


def test_probabilities_and_unknown_sum_to_one(trained: ArtistHead) -> None:
    known, unknown = trained.classify(part(hands(8)[0], slice(20)))
    assert known.shape == (20, 8)
    assert np.allclose(known.sum(1) + unknown, 1)
    assert (known >= 0).all()
    assert trained.classify({key: np.empty((0, DIM), np.float32) for key in trained.encoders})[0].shape == (0, 8)


def test_an_artist_who_was_left_out_is_mostly_unknown() -> None:
    vectors, artists = hands(12, apart=1.5)
    seen = np.array([name not in {"artist-3", "artist-7"} for name in artists])
    head, report = train_head(part(vectors, seen), [name for name, here in zip(artists, seen, strict=True) if here])
    _, of_strangers = head.classify(part(vectors, ~seen))
    _, of_known = head.classify(part(vectors, seen))
    assert (of_strangers > 0.5).mean() > 0.9
    assert (of_known > 0.5).mean() < 0.1
    assert report.unknown_right > 0.9
    assert report.named_right > 0.9


def test_the_held_out_report_is_calibrated_and_does_not_flatter() -> None:
    """Nothing tells these artists apart: the report says chance and confidence stays low."""
    vectors, artists = hands(6, apart=0.0)
    _, report = train_head(vectors, artists)
    assert report.artist_right < 0.3
    assert abs(report.confidence.mean() - report.right.mean()) < 0.1
    assert (report.known, report.unknown) == (len(artists), len(artists))


def test_a_large_catalogue_is_no_advantage() -> None:
    vectors, artists = hands(4, works=200, apart=0.6)
    kept = [at for at, name in enumerate(artists) if name == "artist-0" or at % 10 == 0]
    _, report = train_head(part(vectors, kept), [artists[at] for at in kept])
    named = [report.right[(report.truth == artist) & ~report.left_out].mean() for artist in range(4)]
    assert min(named[1:]) > named[0] - 0.3


def test_an_artist_is_added_without_touching_the_others(trained: ArtistHead) -> None:
    chance = np.random.default_rng(9)
    rows = chance.normal(size=(1, DIM)) * 1.5 + chance.normal(size=(40, DIM)) + 3
    new = {key: (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32) for key in trained.encoders}
    grown = trained.add_artist("newcomer", part(new, slice(20)))
    assert grown.artists == (*trained.artists, "newcomer")
    old = part(hands(8)[0], slice(30))
    assert (grown.logits(old)[:, :8] == trained.logits(old)[:, :8]).all()
    assert answers(grown, part(new, slice(20, 40))).count("newcomer") > 16
    assert grown.info.weights_sha256 != trained.info.weights_sha256
    with pytest.raises(HeadError) as caught:
        grown.add_artist("newcomer", new)
    assert caught.value.code == "artist_known"


def test_the_same_works_and_seed_give_the_same_classifier(trained: ArtistHead) -> None:
    vectors, artists = hands(8)
    odd = np.arange(len(artists)) % 2 == 1
    again, _ = train_head(part(vectors, odd), [name for name, seen in zip(artists, odd, strict=True) if seen])
    assert again.info == trained.info


def test_what_is_saved_answers_alike_when_loaded(trained: ArtistHead, tmp_path: Path) -> None:
    trained.save(tmp_path)
    loaded = ArtistHead.load(tmp_path)
    assert (loaded.artists, loaded.encoders, loaded.info) == (trained.artists, trained.encoders, trained.info)
    vectors = part(hands(8)[0], slice(10))
    assert (loaded.logits(vectors) == trained.logits(vectors)).all()


@pytest.mark.parametrize(
    "spoil", ["cut short", "no json", "other format", "row missing", "twins", "nan", "part missing"]
)
def test_a_damaged_classifier_is_refused(trained: ArtistHead, tmp_path: Path, spoil: str) -> None:
    trained.save(tmp_path)
    config, weights = json.loads((tmp_path / "config.json").read_text()), load_file(tmp_path / "model.safetensors")
    if spoil == "other format":
        config["format"] = "lawful-ledger/head/9"
    elif spoil == "row missing":
        config["artists"].append("somebody")
    elif spoil == "twins":
        config["artists"][1] = config["artists"][0]
    elif spoil == "nan":
        weights["0.rows"][0, 0] = np.nan
    elif spoil == "part missing":
        weights.pop("1.whitening")
    (tmp_path / "config.json").write_text("{" if spoil == "no json" else json.dumps(config))
    save_file(weights, tmp_path / "model.safetensors")
    if spoil == "cut short":
        whole = (tmp_path / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NetworkError) as caught:
        ArtistHead.load(tmp_path)
    assert caught.value.code == "network_unreadable"
    assert str(tmp_path.parent) not in caught.value.detail


def test_a_folder_without_a_classifier_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NetworkError) as caught:
        ArtistHead.load(tmp_path)
    assert caught.value.code == "network_missing"


def test_vectors_it_cannot_read_are_refused(trained: ArtistHead) -> None:
    good = part(hands(8)[0], slice(4))
    bad = {
        "encoder_missing": {"one@1": good["one@1"]},
        "vectors_unusable": good | {"two@2": good["two@2"][:, :-1]},
    }
    for code, vectors in bad.items():
        with pytest.raises(HeadError) as caught:
            trained.classify(vectors)
        assert caught.value.code == code
    for spoilt in (good | {"two@2": good["two@2"] * np.nan}, good | {"two@2": good["two@2"][:2]}):
        with pytest.raises(HeadError):
            trained.classify(spoilt)


def test_too_little_or_broken_input_is_no_classifier() -> None:
    vectors, artists = hands(2, works=3)
    for chosen in ([], [0, 1, 2], [0, 3]):  # nothing, one artist, one work each
        with pytest.raises(HeadError) as caught:
            train_head(part(vectors, chosen), [artists[at] for at in chosen])
        assert caught.value.code == "training_too_small"
    for value in (np.nan, np.inf):
        spoilt = {key: rows.copy() for key, rows in vectors.items()}
        spoilt["one@1"][2, 3] = value
        with pytest.raises(HeadError):
            train_head(spoilt, artists)
    with pytest.raises(HeadError):
        train_head({key: np.zeros_like(rows) for key, rows in vectors.items()}, artists)


def test_an_artist_with_one_work_gets_a_row_and_breaks_nothing() -> None:
    vectors, artists = hands(4)
    kept = [at for at, name in enumerate(artists) if name != "artist-2" or at == 60]
    head, report = train_head(part(vectors, kept), [artists[at] for at in kept])
    assert "artist-2" in head.artists
    assert report.known == len(kept) - 1
    known, unknown = head.classify(part(vectors, slice(None)))
    assert np.isfinite(known).all()
    assert np.isfinite(unknown).all()


def test_folds_keep_groups_together_and_artists_apart() -> None:
    truth = np.repeat(np.arange(5), 40)
    groups = np.tile(np.arange(40), 5)  # each content by each artist
    folds = deal(truth, groups, seed=1)
    for group in range(40):
        assert len(set(folds[groups == group])) == 1
    counts = np.array([np.bincount(folds[truth == artist], minlength=5) for artist in range(5)])
    assert (counts == 8).all()
    assert (deal(truth, groups, seed=2) != folds).any()
