"""The edits do what they are called, and nothing depends on more than pixels and seed."""

import numpy as np
import pytest

from attribution.evaluation.edits import EDITS, collage


def painting(height: int = 60, width: int = 90) -> np.ndarray:
    rng = np.random.default_rng(5)
    rough = rng.integers(0, 256, (height // 6 + 1, width // 6 + 1, 3), np.uint8)
    return rough.repeat(6, 0).repeat(6, 1)[:height, :width]


def edit(name: str, pixels: np.ndarray, seed: int = 0) -> np.ndarray:
    return EDITS[name](pixels, np.random.default_rng(seed))


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("shape", [(60, 90), (8, 8), (1, 1), (3, 200)], ids=str)
def test_every_edit_gives_canonical_pixels_and_leaves_its_input_alone(name: str, shape: tuple[int, int]) -> None:
    pixels = painting(*shape)
    before = pixels.copy()
    pixels.flags.writeable = False
    once, again = edit(name, pixels, 3), edit(name, pixels, 3)
    assert once.dtype == np.uint8
    assert once.ndim == 3
    assert once.shape[2] == 3
    assert 0 not in once.shape
    assert (pixels == before).all()
    assert np.array_equal(once, again)


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [
        ("unchanged", 60, 90),
        ("half size", 30, 45),
        ("crop to 50 % of the area", 42, 64),
        ("10 % border", 72, 108),
        ("pasted at 25 % of the area", 120, 180),
        ("flip", 60, 90),
    ],
)
def test_sizes_are_those_that_the_name_says(name: str, height: int, width: int) -> None:
    assert edit(name, painting()).shape == (height, width, 3)


def test_a_flip_twice_is_the_picture() -> None:
    assert np.array_equal(edit("flip", edit("flip", painting())), painting())


def test_a_crop_is_a_part_of_the_picture() -> None:
    pixels, part = painting(), edit("crop to 50 % of the area", painting(), 8)
    h, w = part.shape[:2]
    places = [(y, x) for y in range(61 - h) for x in range(91 - w)]
    assert any(np.array_equal(pixels[y : y + h, x : x + w], part) for y, x in places)


def test_an_overlay_hides_a_fifth() -> None:
    changed = (edit("20 % overlay", painting(200, 300)) != painting(200, 300)).any(axis=2)
    assert changed.mean() == pytest.approx(0.2, abs=0.01)


def test_grey_has_no_colour() -> None:
    grey = edit("grey", painting()).astype(int)
    assert (grey.max(axis=2) == grey.min(axis=2)).all()


def test_the_pasted_work_is_all_there() -> None:
    pixels, sheet = painting(24, 36), edit("pasted at 25 % of the area", painting(24, 36), 2)
    assert any(np.array_equal(sheet[y : y + 24, x : x + 36], pixels) for y in range(25) for x in range(37))


def test_other_seeds_edit_otherwise() -> None:
    assert not np.array_equal(edit("20 % overlay", painting(), 0), edit("20 % overlay", painting(), 1))


def test_a_collage_shows_every_picture() -> None:
    red, blue = np.zeros((50, 30, 3), np.uint8), np.zeros((20, 20, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    both = collage([red, blue], np.random.default_rng(0))
    assert both.shape[0] == 20
    assert (both == (200, 0, 0)).all(axis=2).sum() == 20 * 12
    assert (both == (0, 0, 200)).all(axis=2).sum() == 20 * 20
