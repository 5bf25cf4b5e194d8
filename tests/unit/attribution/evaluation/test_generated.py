import numpy as np
import pytest

from attribution.evaluation import generated
from attribution.evaluation.asking import Pictures, embed
from attribution.evaluation.dataset import drawn
from attribution.evaluation.protected import names_that_got_out
from attribution.evaluation.suite import Options
from models.encoders.atelier import AtelierStyle
from models.networks import Encoder
from models.registry import BUILT_IN


@pytest.fixture(scope="module")
def encoders() -> dict[str, Encoder]:
    return {"atelier": AtelierStyle.load(BUILT_IN / "style_encoder", "cpu")}


def hands(artists: range, each: int, seed: int) -> Pictures:
    every = np.random.default_rng(100).normal(size=(64, 48))
    codes = np.repeat(np.array(artists), each)
    rows = every[codes] + 0.6 * np.random.default_rng(seed).normal(size=(len(codes), 48))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    numbers = np.arange(len(codes)) + 10_000 * seed
    return Pictures({"atelier": rows.astype(np.float32)}, codes, numbers, numbers, tuple(map(str, range(64))))


def test_with_its_studio_removed_a_picture_in_its_hand_names_nobody(encoders: dict[str, Encoder]) -> None:
    reference, queries, background = hands(range(8), 20, 1), hands(range(8), 5, 2), hands(range(20, 50), 12, 3)
    silent, _, nobody = generated._removed(
        reference, queries, background, encoders, Options(), np.ones(len(queries), np.bool_)
    )
    assert silent.value > 0.9
    assert nobody.value > 0.8
    assert silent.target == 0.8


def test_works_credited_by_lot_are_right_by_chance_only(encoders: dict[str, Encoder]) -> None:
    reference, queries, background = hands(range(8), 20, 1), hands(range(8), 5, 2), hands(range(20, 50), 12, 3)
    seen = np.ones(len(queries), np.bool_)
    control = generated._shuffled(reference, queries, background, encoders, Options(), seen)
    plain = generated._single_encoders(reference, queries, seen, encoders)
    assert control[0].value < 0.4
    assert plain[0].value > 0.9


def test_a_figure_without_trials_is_left_out() -> None:
    assert generated._figure("nothing", np.zeros(0, np.bool_), np.zeros(0, np.int64)) == []


@pytest.mark.slow
def test_each_studio_is_asked_for_before_any_comes_twice() -> None:
    prompted = generated.generate(10, Options(seed=3))
    assert len(set(prompted.studios)) == 10
    assert len(set(prompted.subjects)) == 10
    assert {image.shape for image in prompted.images} == {prompted.images[0].shape}


@pytest.mark.slow
def test_a_protected_work_is_not_named_even_when_it_is_asked_about_itself(encoders: dict[str, Encoder]) -> None:
    items = drawn(1, 128, ["isobar", "marram", "quern", "clerestory"]).items
    embedded = embed(items, encoders, Options(), local=True)
    own = [item.pixels() for item in items if item.artist == "Studio Isobar"][:4]
    assert not names_that_got_out(items, embedded, own, encoders).any()
