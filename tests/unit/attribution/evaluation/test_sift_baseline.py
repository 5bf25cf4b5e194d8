"""The baseline is a working one: it would be no merit to beat a broken search."""

import numpy as np

from attribution.evaluation.sift_baseline import FEWEST, SiftBaseline, features
from models.atelier.collection import draw

WORKS = [draw(studio, "boat", 0, 256) for studio in ("aspen", "bramble", "gable", "kelp", "lathe")]


def baseline() -> SiftBaseline:
    return SiftBaseline([features(pixels) for pixels in WORKS])


def test_half_a_work_is_found() -> None:
    scores = baseline().scores(WORKS[1][40:220, 30:250])
    assert scores.argmax() == 1
    assert scores[1] > 5 * FEWEST


def test_a_search_does_not_depend_on_those_before_it() -> None:
    one = baseline()
    first = one.scores(WORKS[2])
    one.scores(WORKS[4])
    assert np.array_equal(first, one.scores(WORKS[2]))


def test_a_picture_without_detail_finds_nothing() -> None:
    flat = np.full((64, 64, 3), 90, np.uint8)
    assert (baseline().scores(flat) == -np.inf).all()
    assert (SiftBaseline([features(flat)]).scores(WORKS[0]) == -np.inf).all()
