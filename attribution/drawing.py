"""A match as a picture for the report: both works side by side, the matched region outlined in each."""

import cv2
import numpy as np
from numpy.typing import NDArray

from attribution.features import Pixels
from attribution.matching import Alignment
from models.images import encode_png

WIDEST, HIGHEST = 1000, 600
GAP = 16
PAPER = 245
HALO, LINE = (255, 255, 255), (214, 40, 40)
CORNERS = ((214, 40, 40), (24, 118, 210), (46, 125, 50), (245, 160, 0))


def draw_match(image: Pixels, work: Pixels | None, alignment: Alignment) -> bytes:
    """Return a PNG of at most WIDEST x HIGHEST pixels: the image at the left, the work at the right.

    Both are canonical pixels (h, w, 3) uint8. The same corner has the same colour in both: a turn or
    a mirroring is seen. `work` None draws the image alone: a protected work is never shown. The outline is the region's
    four corners; it does not say that every pixel inside it is the same.
    """
    parts = [(image, alignment.of_image)] + ([(work, alignment.of_work)] if work is not None else [])
    room = (WIDEST - GAP * (len(parts) - 1)) // len(parts)
    panels = [_panel(pixels, corners, room) for pixels, corners in parts]
    height = max(panel.shape[0] for panel in panels)
    sheet = np.full((height, sum(p.shape[1] for p in panels) + GAP * (len(panels) - 1), 3), PAPER, np.uint8)
    left = 0
    for panel in panels:
        top = (height - panel.shape[0]) // 2
        sheet[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
        left += panel.shape[1] + GAP
    return encode_png(sheet)


def _panel(pixels: Pixels, corners: NDArray[np.float32], room: int) -> Pixels:
    height, width = pixels.shape[:2]
    scale = min(room / width, HIGHEST / height, 4.0)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    panel = np.ascontiguousarray(cv2.resize(pixels, size, interpolation=how).astype(np.uint8, copy=False))
    points = np.rint(corners * (size[0] - 1, size[1] - 1)).astype(np.int32)
    for colour, thick in ((HALO, 5), (LINE, 2)):
        cv2.polylines(panel, [points.reshape(-1, 1, 2)], True, colour, thick, cv2.LINE_AA)
    for (x, y), colour in zip(points.tolist(), CORNERS, strict=True):
        cv2.circle(panel, (x, y), 7, HALO, -1, cv2.LINE_AA)
        cv2.circle(panel, (x, y), 5, colour, -1, cv2.LINE_AA)
    return panel
