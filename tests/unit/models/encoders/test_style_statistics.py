import numpy as np
import pytest

from models.atelier.collection import draw
from models.encoders.colour import ColourEncoder
from models.encoders.texture import TextureEncoder

ENCODERS = [pytest.param(ColourEncoder, id="colour"), pytest.param(TextureEncoder, id="texture")]
Kind = type[ColourEncoder] | type[TextureEncoder]
RECIPE_1 = [[12.988, -0.167, 0.080], [11.402, 0.620, 0.358], [12.780, 0.270, -0.330]]


def flat(height: int, width: int, value: int = 255) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("kind", ENCODERS)
def test_any_picture_gives_a_unit_row_without_a_warning(kind: Kind) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (70, 50, 3), dtype=np.uint8)
    images = [flat(8, 8), flat(1, 1, 0), flat(40, 40, 128), noise, flat(6, 10_000), flat(900, 7), noise[:8, :8]]
    encoder = kind()
    rows = encoder.encode(images)
    assert rows.shape == (len(images), encoder.dim)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert encoder.encode([]).shape == (0, encoder.dim)


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_work_is_nearer_to_its_studio_than_to_others(kind: Kind) -> None:
    slugs, subjects = _studios(4), _subjects(3)
    rows = kind().encode([draw(studio, subject, 0) for studio in slugs for subject in subjects])
    codes = np.repeat(np.arange(len(slugs)), len(subjects))
    cosines = rows @ rows.T - 2 * np.eye(len(rows))
    assert (codes[cosines.argmax(axis=1)] == codes).mean() > 0.5  # by chance: 0.18


def test_texture_of_a_drawn_work_stays_what_recipe_1_made_of_it() -> None:
    """Stored vectors are compared with new ones under one recipe: whoever changes these numbers changes its version."""
    rows = TextureEncoder().encode([draw(studio, "boat", 0) for studio in ("marram", "quern", "tungsten")])
    probe = np.cos(np.arange(3)[:, None] * np.arange(rows.shape[1]))
    assert TextureEncoder.info.revision == "1"
    assert np.allclose(rows @ probe.T, RECIPE_1, atol=0.02)  # one pixel in another bin, by rounding, moves them by less


def test_texture_does_not_see_colour() -> None:
    """Two colours of one luma (Rec. 601, within rounding) draw the same checks."""
    checks = np.indices((64, 64)).sum(axis=0) // 8 % 2 == 0
    red, green = (
        np.where(checks[..., None], np.array(colour), 255).astype(np.uint8) for colour in ((200, 0, 0), (0, 102, 0))
    )
    rows = TextureEncoder().encode([red, green])
    assert rows[0] @ rows[1] > 0.999
    assert not np.isclose(*(ColourEncoder().encode([red, green]) @ ColourEncoder().encode([red])[0]), atol=0.1)


def test_colour_does_not_see_where_things_stand() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32] = (200, 30, 40)
    upright, turned = ColourEncoder().encode([picture, np.ascontiguousarray(picture.transpose(1, 0, 2))])
    assert np.isclose(upright @ turned, 1.0, atol=1e-4)


def _studios(count: int) -> list[str]:
    from models.atelier.studios import STUDIOS

    return [studio.slug for studio in STUDIOS[:count]]


def _subjects(count: int) -> list[str]:
    from models.atelier.collection import SUBJECTS

    return list(SUBJECTS[:count])
