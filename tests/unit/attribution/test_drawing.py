"""The picture of a match."""

import io

import numpy as np
from PIL import Image

from attribution.copies import CopyIndex
from attribution.drawing import GAP, WIDEST, draw_match
from attribution.features import extract
from models.atelier.collection import SUBJECTS, draw
from models.atelier.studios import STUDIOS

WORK = draw(STUDIOS[0].slug, SUBJECTS[0], 0, 160)


def test_both_sides_are_drawn_with_outlines() -> None:
    found = CopyIndex([extract(WORK)]).find(WORK)[0]
    picture = Image.open(io.BytesIO(draw_match(WORK, WORK, found.alignment)))
    assert picture.format == "PNG"
    assert picture.width <= WIDEST
    sheet = np.asarray(picture).astype(int)
    for side in (sheet[:, : picture.width // 2 - GAP], sheet[:, picture.width // 2 + GAP :]):
        assert (np.abs(side - (214, 40, 40)).sum(axis=2) < 30).sum() > 300


def test_a_protected_work_is_not_in_the_picture() -> None:
    found = CopyIndex([extract(WORK)]).find(WORK)[0]
    alone = draw_match(WORK, None, found.alignment)
    both = draw_match(WORK, np.zeros_like(WORK), found.alignment)
    # The work is not an input here, so nothing of it can show: one panel, of the image's own shape.
    picture = Image.open(io.BytesIO(alone))
    assert picture.width == picture.height
    assert Image.open(io.BytesIO(both)).width > picture.width
