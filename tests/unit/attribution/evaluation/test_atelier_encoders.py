"""The figures of the atelier's encoders, on encoders whose answers are known."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from attribution.evaluation import atelier_encoders
from attribution.evaluation.suite import OURS, Figure, Options
from models.atelier.memorisation import thumbnails

Pixels = NDArray[np.uint8]

STUDIOS = np.array(["one", "one", "two", "two"])
SUBJECTS = np.array(["boat", "cat", "boat", "cat"])
WORKS = [np.full((32, 32, 3), shade, np.uint8) for shade in (20, 80, 140, 200)]


def encoder(encode: Any) -> Any:
    return SimpleNamespace(encode=encode)


def value(figures: Sequence[Figure], name: str, method: str = OURS) -> float:
    (found,) = [figure for figure in figures if (figure.name, figure.method) == (name, method)]
    return found.value


@pytest.mark.parametrize(("rows", "right"), [([0, 0, 1, 1], 1.0), ([0, 1, 1, 0], 0.0)])
def test_manner_is_right_where_the_nearest_work_of_another_subject_is_by_the_same_studio(
    rows: list[int], right: float
) -> None:
    chosen = encoder(lambda images: np.eye(2, dtype=np.float32)[rows])
    figures = atelier_encoders.measured(WORKS, STUDIOS, SUBJECTS, {"atelier": chosen}, Options())
    assert value(figures, "the nearest work of another subject is by the same studio") == right


def test_copies_are_found_by_an_encoder_that_knows_them_and_not_by_one_that_knows_nothing() -> None:
    chance = np.random.default_rng(0)
    works = [chance.integers(0, 256, (48, 48, 3), np.uint8) for _ in range(8)]

    def blind(images: Sequence[Pixels]) -> NDArray[np.float32]:
        return np.full((len(images), 4), 0.5, np.float32)

    for encode, everything in ((thumbnails, True), (blind, False)):
        figures = atelier_encoders.measured(works, STUDIOS, SUBJECTS, {"atelier-copy": encoder(encode)}, Options())
        assert value(figures, "unchanged") == everything
        assert value(figures, "flip") == everything
        assert value(figures, "unchanged", atelier_encoders.THUMBNAILS) == 1
    assert {figure.group for figure in figures} == {atelier_encoders.COPIES}


def test_what_is_not_loaded_is_not_measured() -> None:
    assert atelier_encoders.measured(WORKS, STUDIOS, SUBJECTS, {}, Options()) == []
