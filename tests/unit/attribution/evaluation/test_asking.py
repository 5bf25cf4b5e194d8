import numpy as np
import pytest

from attribution.evaluation.asking import NOBODY, Answers, Pictures, ask, copies_of, copy_index, embed
from attribution.evaluation.dataset import drawn
from attribution.evaluation.suite import Options
from models.encoders.atelier import AtelierStyle
from models.networks import Encoder
from models.registry import BUILT_IN


@pytest.fixture(scope="module")
def encoders() -> dict[str, Encoder]:
    return {"atelier": AtelierStyle.load(BUILT_IN / "style_encoder", "cpu")}


def hands(artists: range, each: int, seed: int, spread: float = 0.6) -> Pictures:
    """Pictures whose vectors lie around one direction for each artist; equal numbers are equal artists."""
    every = np.random.default_rng(100).normal(size=(64, 48))
    codes = np.repeat(np.array(artists), each)
    rows = every[codes] + spread * np.random.default_rng(seed).normal(size=(len(codes), 48))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    numbers = np.arange(len(codes)) + 10_000 * seed
    return Pictures({"atelier": rows.astype(np.float32)}, codes, numbers, numbers, tuple(map(str, range(64))))


def asked(encoders: dict[str, Encoder], reference: Pictures, queries: Pictures, background: Pictures | None) -> Answers:
    answers = ask(reference, queries, background, encoders, seed=0)
    assert isinstance(answers, Answers), answers
    return answers


def test_an_indexed_artist_is_found_and_a_stranger_is_not(encoders: dict[str, Encoder]) -> None:
    reference, background = hands(range(12), 20, seed=1), hands(range(30, 60), 12, seed=3)
    inside, outside = hands(range(12), 4, seed=2), hands(range(12, 30), 8, seed=4)
    known, unknown = asked(encoders, reference, inside, background), asked(encoders, reference, outside, background)
    assert (known.nearest == inside.artists).all()
    assert (known.p_values <= 0.01).mean() > 0.9
    assert (unknown.p_values <= 0.01).mean() < 0.1
    assert (known.chosen == inside.artists).mean() > 0.9
    assert (unknown.chosen == NOBODY).mean() > 0.8
    assert ((known.confidence > 0) & (known.confidence <= 1)).all()


def test_without_a_background_the_collection_itself_is_the_null(encoders: dict[str, Encoder]) -> None:
    answers = asked(encoders, hands(range(12), 20, seed=1), hands(range(12), 4, seed=2), None)
    assert answers.null.n == 240
    assert answers.null.artists == 12
    assert (answers.p_values <= 0.01).mean() > 0.9


def test_artists_keep_their_numbers_when_others_are_taken_out(encoders: dict[str, Encoder]) -> None:
    every = hands(range(12), 20, seed=1)
    rest = every.only(every.artists >= 6)
    queries = hands(range(6, 12), 4, seed=2)
    assert (asked(encoders, rest, queries, None).nearest == queries.artists).all()


def test_one_artist_alone_is_a_reason_and_no_answer(encoders: dict[str, Encoder]) -> None:
    assert isinstance(ask(hands(range(1), 30, seed=1), hands(range(1), 3, seed=2), None, encoders, 0), str)


def test_without_an_encoder_of_style_there_is_a_reason() -> None:
    reference = hands(range(4), 10, seed=1)
    nothing = Pictures({}, reference.artists, reference.pictures, reference.contents, reference.names)
    assert ask(nothing, nothing, None, {}, 0) == "no encoder of style is loaded"


def test_a_drawn_work_is_embedded_and_found_as_a_copy_of_itself(encoders: dict[str, Encoder]) -> None:
    items = drawn(1, 128, ["clerestory", "tessel"]).items[::3]
    seen: list[tuple[str, int, int]] = []
    every = embed(items, encoders, Options(progress=lambda *told: seen.append(told)), local=True)
    assert every.vectors["atelier"].shape == (len(items), 128)
    assert seen[-1][1:] == (len(items), len(items))
    index = copy_index(every, encoders)
    assert copies_of(index, items[2], encoders, None, 3)[0].row == 2
    hidden = np.arange(len(items)) == 2
    assert 2 not in [match.row for match in copies_of(index, items[2], encoders, hidden, 3)]
