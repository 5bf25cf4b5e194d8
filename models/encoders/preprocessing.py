"""From canonical pixels to a network's input, the same on every machine: Pillow resizes, numpy normalises.

No image processor of a library is used: their results change with its version and with what else is installed.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIGNED_MEAN, SIGNED_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def shorter_side_and_crop(pixels: Pixels, side: int) -> Pixels:
    """Resize (h, w, 3) so that the shorter side is `side` (bicubic), and cut out the middle: (side, side, 3) uint8.

    The longer side is rounded down and the crop's offset too, as CLIP's own preprocessing does.
    """
    height, width = pixels.shape[:2]
    if height <= width:
        new_height, new_width = side, max(side, int(side * width / height))
    else:
        new_height, new_width = max(side, int(side * height / width)), side
    resized = resize(pixels, new_width, new_height)
    top, left = (new_height - side) // 2, (new_width - side) // 2
    return resized[top : top + side, left : left + side]


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Resize (h, w, 3) uint8 to (height, width, 3) uint8, bicubic with antialiasing, whatever the proportions."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def normalised(images: Sequence[Pixels], mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Stack n (h, w, 3) uint8 images of one size into (n, 3, h, w) float32: (value / 255 - mean) / std."""
    batch = np.stack(images).astype(np.float32) / np.float32(255)
    scaled = (batch - np.array(mean, np.float32)) / np.array(std, np.float32)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))


def encode_in_batches(
    images: Sequence[Pixels], size: int, dim: int, embed: Callable[[Sequence[Pixels]], torch.Tensor]
) -> NDArray[np.float32]:
    """Run `embed` on `size` images at a time and return unit rows, (n, dim) float32 on the CPU.

    A vector of length 0 stays 0: it is near to nothing.
    """
    rows = [torch.nn.functional.normalize(embed(part).float(), dim=-1).cpu().numpy() for part in _parts(images, size)]
    return np.concatenate(rows) if rows else np.empty((0, dim), np.float32)


def _parts(images: Sequence[Pixels], size: int) -> Iterator[Sequence[Pixels]]:
    for start in range(0, len(images), size):
        yield images[start : start + size]
