import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.encoders.preprocessing import CLIP_MEAN, CLIP_STD, normalised, resize, shorter_side_and_crop


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("height", "width"), [(300, 400), (400, 300), (224, 224), (100, 101), (31, 1000)])
def test_clip_input_is_that_of_its_own_processor(height: int, width: int) -> None:
    """Against the library's Pillow processor, bit for bit before the normalisation."""
    from transformers import CLIPImageProcessorPil

    ours = shorter_side_and_crop(noise(height, width), 224)
    theirs = CLIPImageProcessorPil()(Image.fromarray(noise(height, width)), return_tensors="np")["pixel_values"][0]
    assert np.abs(normalised([ours], CLIP_MEAN, CLIP_STD).numpy()[0] - theirs).max() < 1e-5


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_any_size_becomes_a_square(height: int, width: int, side: int) -> None:
    square = shorter_side_and_crop(noise(height, width), side)
    assert square.shape == (side, side, 3)
    assert square.dtype == np.uint8


def test_an_image_of_the_right_size_is_left_as_it_is() -> None:
    pixels = noise(32, 48)
    assert resize(pixels, 48, 32) is pixels
    assert resize(pixels, 32, 48).shape == (48, 32, 3)


def test_normalisation_is_channel_by_channel() -> None:
    pixels = np.zeros((1, 2, 3), np.uint8)
    pixels[0, 1] = 255
    batch = normalised([pixels], (0.5, 0.25, 0.0), (0.5, 0.5, 1.0))
    assert batch.shape == (1, 3, 1, 2)
    assert batch[0, :, 0, 0].tolist() == [-1.0, -0.5, 0.0]
    assert batch[0, :, 0, 1].tolist() == [1.0, 1.5, 1.0]
