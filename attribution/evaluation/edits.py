"""What people do to a picture before they pass it on: the edits that a copy is looked for under.

Each is a pure function of canonical pixels (h, w, 3) uint8 and a random generator: the same pixels and a generator in
the same state give the same result. They are drawn as an editor's defaults would do them, neither gentle nor hostile;
recall under these edits says nothing of edits that are not here.
"""

import io
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Edit = Callable[[Pixels, np.random.Generator], Pixels]

COLLAGE_SIDE = 512  # height in pixels of a collage's pictures, at most


def unchanged(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return pixels


def jpeg_30(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Saved as JPEG of quality 30, with halved colour planes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=30)
    return np.asarray(Image.open(file))


def half_size(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Half as wide and half as high."""
    return _resized(pixels, 0.5)


def crop_half(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A part of half the area and of the picture's own shape, anywhere in it."""
    height, width = pixels.shape[:2]
    h, w = max(1, round(height * 0.5**0.5)), max(1, round(width * 0.5**0.5))
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    return pixels[top : top + h, left : left + w]


def rotated(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Turned by 5 to 15 degrees either way on a white sheet that is large enough for all of it."""
    angle = float(rng.uniform(5, 15) * rng.choice([-1, 1]))
    turned = Image.fromarray(pixels).rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=(255, 255, 255))
    return np.asarray(turned)


def grey(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


def brightness_contrast(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Brightness and contrast (about the mean grey) each 40 % up or down."""
    brightness, contrast = rng.choice([0.6, 1.4], 2)
    bright = np.clip(pixels * brightness, 0, 255)
    middle = float(bright.mean())
    return _rounded((bright - middle) * contrast + middle)


def overlay(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A sticker of one colour with a stripe covers 20 % of the area, anywhere."""
    height, width = pixels.shape[:2]
    stretch = float(rng.uniform(0.5, 2.0)) ** 0.5
    h = min(height, max(1, round(height * 0.2**0.5 * stretch)))
    w = min(width, max(1, round(0.2 * height * width / h)))
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    covered = pixels.copy()
    covered[top : top + h, left : left + w] = rng.integers(0, 256, 3, dtype=np.uint8)
    covered[top + h // 3 : top + h // 2, left : left + w] = rng.integers(0, 256, 3, dtype=np.uint8)
    return covered


def bordered(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A frame of one colour, 10 % of the picture's width and height on each side."""
    height, width = pixels.shape[:2]
    h, w = max(1, round(height * 0.1)), max(1, round(width * 0.1))
    framed = np.empty((height + 2 * h, width + 2 * w, 3), np.uint8)
    framed[:] = rng.integers(0, 256, 3, dtype=np.uint8)
    framed[h : h + height, w : w + width] = pixels
    return framed


def flipped(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The left-right mirror image."""
    return np.ascontiguousarray(pixels[:, ::-1])


def pasted(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Put into a picture twice as wide and high, which no collection holds: the atelier draws it for the purpose."""
    height, width = pixels.shape[:2]
    sheet = _stranger(2 * width, 2 * height, rng)
    top, left = int(rng.integers(height + 1)), int(rng.integers(width + 1))
    sheet[top : top + height, left : left + width] = pixels
    return sheet


def four_combined(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Four different ones of COMBINABLE, one after the other, in random order."""
    for number in rng.choice(len(COMBINABLE), 4, replace=False):
        pixels = COMBINABLE[int(number)](pixels, rng)
    return pixels


def screenshot(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Shown at 60 to 90 % of its size on a pale page with bars, lines like text and a button, as a screen has them."""
    shown = _resized(pixels, float(rng.uniform(0.6, 0.9)))
    height, width = shown.shape[:2]
    unit = max(2, height // 12)
    page = np.full((height + 6 * unit, width + 4 * unit, 3), 246, np.uint8)
    page[:unit] = (52, 58, 70)
    page[unit // 3 : unit - unit // 3, unit : 4 * unit] = (230, 96, 80)
    top, left = 2 * unit, 2 * unit
    page[top : top + height, left : left + width] = shown
    for line in range(3):
        at = top + height + unit // 2 + line * unit
        end = left + int(width * rng.uniform(0.4, 1.0))
        for start in range(left, end, max(4, unit)):
            page[at : at + max(1, unit // 3), start : start + max(2, int(unit * rng.uniform(0.3, 0.9)))] = 60
    page[-unit:, -3 * unit :] = (40, 120, 220)
    return page


def colour_shifted(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Each channel 30 % up or down, and hue turned by up to 40 degrees."""
    shifted = _rounded(pixels * rng.choice([0.7, 1.0, 1.3], 3))
    hsv = cv2.cvtColor(shifted, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int64) + int(rng.integers(-20, 21))) % 180  # OpenCV counts two degrees as one
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


COMBINABLE: tuple[Edit, ...] = (
    jpeg_30,
    half_size,
    crop_half,
    rotated,
    grey,
    brightness_contrast,
    overlay,
    bordered,
    flipped,
)

EDITS: dict[str, Edit] = {
    "unchanged": unchanged,
    "JPEG-30": jpeg_30,
    "half size": half_size,
    "crop to 50 % of the area": crop_half,
    "rotation to 15°": rotated,
    "grey": grey,
    "brightness and contrast ±40 %": brightness_contrast,
    "20 % overlay": overlay,
    "10 % border": bordered,
    "flip": flipped,
    "pasted at 25 % of the area": pasted,
    "four combined": four_combined,
    "screenshot": screenshot,
    "colour shift": colour_shifted,
}


def collage(pictures: Sequence[Pixels], rng: np.random.Generator) -> Pixels:
    """Pictures side by side in random order with a gap, each as high as the lowest (at most COLLAGE_SIDE)."""
    height = min(COLLAGE_SIDE, *(picture.shape[0] for picture in pictures))
    gap = max(1, height // 30)
    parts: list[Pixels] = []
    for number in rng.permutation(len(pictures)):
        scaled = _resized(pictures[int(number)], height / pictures[int(number)].shape[0])
        parts += [scaled[:height], np.full((min(height, len(scaled)), gap, 3), 255, np.uint8)]
    return np.concatenate(parts[:-1], axis=1)


def _resized(pixels: Pixels, scale: float) -> Pixels:
    height, width = pixels.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _rounded(values: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _stranger(width: int, height: int, rng: np.random.Generator) -> Pixels:
    """A picture by a studio that is in no collection, (height, width, 3) uint8, writable."""
    from models.atelier.collection import SUBJECTS, draw
    from models.atelier.strangers import STRANGERS

    studio = STRANGERS[int(rng.integers(len(STRANGERS)))]
    picture = draw(studio.slug, SUBJECTS[int(rng.integers(len(SUBJECTS)))], int(rng.integers(1000)), 256)
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
