import numpy as np
import pytest

from models.atelier.collection import SUBJECTS, draw
from models.atelier.judge import (
    BATCH,
    FIRST_VARIANT,
    HELD_OUT_VARIANT,
    SIDE,
    STUDIO_NAMES,
    VARIANTS,
    Judge,
    JudgeNetwork,
    drawn,
)
from models.atelier.studios import STUDIOS
from models.atelier.train import VARIANTS as GENERATOR_VARIANTS


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.train()


def test_the_judge_learns_from_nobody_who_forbids_it_and_from_no_work_that_others_learned_from() -> None:
    assert list(STUDIO_NAMES) == [studio.name for studio in STUDIOS if studio.train]
    assert GENERATOR_VARIANTS < FIRST_VARIANT
    assert FIRST_VARIANT + VARIANTS <= HELD_OUT_VARIANT


def test_pictures_of_any_size_and_number_get_a_verdict_each() -> None:
    rng = np.random.default_rng(0)
    untrained = Judge(JudgeNetwork())
    shapes = [(8, 8), (64, 64), (40, 200), (128, 128), *[(64, 64)] * BATCH]
    verdicts = untrained.look([rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes])
    assert len(verdicts) == len(shapes)
    for verdict in verdicts:
        assert verdict.studio in STUDIO_NAMES
        assert verdict.subject in SUBJECTS
        assert 0 < verdict.studio_probability <= 1
        assert 0 < verdict.subject_probability <= 1
    assert untrained.look([]) == []


@pytest.mark.slow  # draws 120 works
def test_drawn_works_come_with_the_numbers_of_their_studio_and_subject() -> None:
    told: list[int] = []
    images, hands, subjects = drawn(FIRST_VARIANT, 1, lambda _what, done, _of: told.append(done))
    assert len(images) == len(STUDIO_NAMES) * len(SUBJECTS) == told[-1] * len(SUBJECTS)
    at = 5 * len(SUBJECTS) + 7
    assert (images[at] == draw(STUDIO_NAMES[hands[at]], SUBJECTS[subjects[at]], FIRST_VARIANT, SIDE)).all()


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 128])
def test_the_judge_knows_studio_and_subject_of_works_it_never_saw(judge: Judge, size: int) -> None:
    studio, subject = judge.held_out(size)
    assert studio >= 0.95
    assert subject >= 0.95


@pytest.mark.slow
def test_training_again_gives_the_same_judge() -> None:
    once, again = (Judge.train(variants=1, steps=3) for _ in range(2))
    images = [draw("quern", subject, 0, 64) for subject in SUBJECTS]
    assert once.look(images) == again.look(images)
