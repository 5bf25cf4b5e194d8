import numpy as np

from attribution.poor_copies import MOST, PoorCopies, poor_copy
from models.encoders.colour import ColourEncoder


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)


def test_a_poor_copy_is_of_the_same_size_softer_and_the_same_every_time() -> None:
    for seed in range(12):
        pixels = picture(seed)
        copy = poor_copy(pixels, seed)
        assert copy.shape == pixels.shape
        assert copy.dtype == np.uint8
        assert np.array_equal(copy, poor_copy(pixels, seed))
        assert np.abs(np.diff(copy.astype(int), axis=1)).mean() < np.abs(np.diff(pixels.astype(int), axis=1)).mean()
        assert not np.array_equal(copy, pixels)


def test_even_a_picture_of_one_pixel_has_a_poor_copy() -> None:
    for seed in range(8):
        assert poor_copy(np.full((1, 1, 3), 200, np.uint8), seed).shape == (1, 1, 3)


def test_copies_are_encoded_in_the_order_they_come_in() -> None:
    encoder = ColourEncoder()
    places = [5, 2, 40, 7]
    poor = PoorCopies.of(((place, picture(place)) for place in places), {"colour": encoder})
    assert poor.rows.tolist() == places
    alone = encoder.encode([poor_copy(picture(40), seed=40)])
    assert np.allclose(poor.vectors["colour"][2], alone[0], atol=1e-6)
    assert len(PoorCopies.of([], {"colour": encoder}).first(MOST).rows) == 0
