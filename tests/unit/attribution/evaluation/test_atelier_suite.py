"""The atelier suite's figures on pictures whose answers are known."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from attribution.evaluation import atelier
from attribution.evaluation.generated import Prompted
from attribution.evaluation.suite import OURS, Figure, Options
from models.atelier.collection import SUBJECTS, draw
from models.atelier.judge import FEATURES, HELD_OUT_VARIANT, STUDIO_NAMES, Judge, JudgeNetwork
from models.atelier.memorisation import thumbnails
from models.atelier.train import VARIANTS
from models.encoders.colour import ColourEncoder


def prompted(number: int, images: tuple[NDArray[np.uint8], ...] = ()) -> Prompted:
    studios = np.array([STUDIO_NAMES[at % len(STUDIO_NAMES)] for at in range(number)])
    subjects = np.array([SUBJECTS[(at + at // len(STUDIO_NAMES)) % len(SUBJECTS)] for at in range(number)])
    return Prompted(studios, subjects, images or tuple(np.zeros((8, 8, 3), np.uint8) for _ in range(number)))


def seen(asked: Prompted, studios: NDArray[np.str_]) -> atelier.Seen:
    right = np.ones(len(studios), np.bool_)
    return atelier.Seen(studios == asked.studios, right, studios, asked.subjects)


def value(figures: list[Figure], name: str, method: str = OURS) -> float:
    (found,) = [figure for figure in figures if (figure.name, figure.method) == (name, method)]
    return found.value


def test_a_picture_is_compared_with_two_works_of_its_kind_that_nobody_learned_from() -> None:
    asked = prompted(260)
    works = atelier._halves(asked)
    assert len(set(works)) == len(works) == 520
    for half in (works[:260], works[260:]):
        assert [work[:2] for work in half] == list(zip(asked.studios, asked.subjects, strict=True))
    assert min(variant for _, _, variant in works) >= HELD_OUT_VARIANT > VARIANTS


def test_a_judge_that_sees_what_was_asked_for_is_right_by_chance_only_about_other_prompts() -> None:
    asked = prompted(600)
    figures = atelier._recognised(seen(asked, asked.studios), seen(asked, asked.studios), asked, 0)
    assert value(figures, "the prompted studio is recognised") == 1
    assert value(figures, "the prompted studio is recognised", atelier.CHANCE) == pytest.approx(0.1)
    assert value(figures, "the prompted studio is recognised", atelier.SHUFFLED_PROMPTS) == pytest.approx(0.1, abs=0.05)
    assert value(figures, "the prompted subject is recognised", atelier.SHUFFLED_PROMPTS) < 0.15


def test_the_studio_that_is_seldom_recognised_is_not_hidden_by_the_others() -> None:
    asked = prompted(100)
    named = np.where((asked.studios == STUDIO_NAMES[3]) & (np.arange(100) < 50), STUDIO_NAMES[4], asked.studios)
    figures = atelier._recognised(seen(asked, named), seen(asked, asked.studios), asked, 0)
    assert value(figures, "the prompted studio is recognised") == 0.95
    assert value(figures, "the studio that is recognised least") == 0.5
    assert [figure.missed for figure in figures if figure.name == "the studio that is recognised least"] == [True]
    by_studio = atelier._by("studio", asked.studios, seen(asked, named), named, np.ones(100))
    (row,) = [row for row in by_studio.rows if row[0] == STUDIO_NAMES[3]]
    assert (row[1], row[2], row[-1]) == (10, 0.5, STUDIO_NAMES[4])


@pytest.mark.parametrize(("shift", "near"), [(0.0, True), (0.5, False)])
def test_the_frechet_ratio_is_one_for_more_of_the_same_and_large_for_something_else(shift: float, near: bool) -> None:
    chance = np.random.default_rng(1)
    made, halves = chance.normal(shift, 3, (atelier.SAMPLE, 20)), chance.normal(0, 3, (2 * atelier.SAMPLE, 20))
    figures = atelier._finish(made + 3 * shift, halves, np.ones(len(made)), prompted(len(made)), 0)
    (ratio,) = [figure for figure in figures if figure.unit == "times"]
    assert ratio.target == 2
    assert ratio.missed is not near
    assert (0.7 < ratio.value < 1.5) is near


def test_of_few_pictures_the_frechet_ratio_has_no_target() -> None:
    chance = np.random.default_rng(1)
    figures = atelier._finish(chance.normal(size=(40, 9)), chance.normal(size=(80, 9)), np.ones(40), prompted(40), 0)
    assert [figure.target for figure in figures] == [None] * 4


def test_a_blurred_picture_is_less_crisp_than_a_drawn_one() -> None:
    asked = prompted(1)
    works = [draw(*work, 64) for work in atelier._halves(asked)]
    sharp, soft = works[0], np.asarray(cv2.GaussianBlur(works[0], (0, 0), 1.5), np.uint8)
    crisp = [float(atelier._crispness(prompted(1, (image,)), works)[0]) for image in (sharp, soft)]
    assert crisp[0] == pytest.approx(1, abs=0.3)
    assert crisp[1] < 0.5 * crisp[0]


def test_the_contact_sheet_shows_the_drawn_work_above_the_generated_picture() -> None:
    asked = prompted(1, (np.full((8, 8, 3), 7, np.uint8),))
    sheet = atelier._sheet(asked, [np.full((8, 8, 3), 200, np.uint8)] * 2)
    assert sheet.shape == (2 * len(STUDIO_NAMES) * 8, len(SUBJECTS) * 8, 3)
    assert (sheet[:8, :8] == 200).all()
    assert (sheet[8:16, :8] == 7).all()
    assert (sheet[16:] == 255).all()


def test_a_copy_encoder_takes_the_place_of_thumbnails_where_there_is_one() -> None:
    colour = ColourEncoder()
    assert atelier.descriptor({"colour": colour}) == ("thumbnails", thumbnails)
    copy = type("Copy", (), {"axes": ("copy",), "info": colour.info, "encode": colour.encode})()
    assert atelier.descriptor({"colour": colour, "copy": copy}) == (colour.info.name, colour.encode)


def test_a_training_work_among_the_pictures_is_told_and_shown_beside_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atelier, "STUDIO_NAMES", STUDIO_NAMES[:2])
    monkeypatch.setattr(atelier, "SUBJECTS", SUBJECTS[:2])
    monkeypatch.setattr(atelier, "VARIANTS", 4)
    fresh = [draw(studio, subject, 3000, 32) for studio in STUDIO_NAMES[:2] for subject in SUBJECTS[:2]]
    unseen = [draw(studio, subject, 3001, 32) for studio in STUDIO_NAMES[:2] for subject in SUBJECTS[:2]]
    copied = draw(STUDIO_NAMES[1], SUBJECTS[0], 2, 32)
    figures, table, pairs = atelier._memorised([*fresh, copied], unseen, {}, 32, Options())
    assert [figure.value for figure in figures] == [pytest.approx(0.2), 0]
    assert table.rows[0][1] == pytest.approx(0, abs=1e-3)
    assert (pairs[:32, :32] == copied).all()
    assert (pairs[32:, :32] == copied).all()


def test_the_judges_features_are_the_same_whatever_comes_with_them() -> None:
    judge = Judge(JudgeNetwork())
    images = [draw("marram", subject, 0, 64) for subject in SUBJECTS[:2]]
    together = judge.features(images)
    assert together.shape == (2, FEATURES)
    assert np.allclose(judge.features(images[1:]), together[1:], atol=1e-5)


@pytest.mark.slow
def test_the_whole_suite_on_a_few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atelier, "VARIANTS", 1)
    monkeypatch.setattr(Judge, "train", classmethod(lambda cls, progress: cls(JudgeNetwork())))
    kept: dict[str, bytes] = {}
    result = atelier.evaluate(None, {}, Options(sample=12, keep=kept.__setitem__))
    assert {figure.group for figure in result.figures} == {
        "",
        "studio recognised, by studio",
        "subject recognised, by subject",
    }
    assert set(kept) == {"atelier", "atelier-nearest"}
    assert [table.title.partition(" ")[0] for table in result.tables] == ["By", "By", "Distance"]
