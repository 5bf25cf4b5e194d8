"""Local features: what they survive, what they refuse, and how they travel."""

import numpy as np
import pytest

from attribution.features import MOST, PREVIEW, LocalFeatures, extract
from models.atelier.collection import SUBJECTS, draw
from models.atelier.studios import STUDIOS


def drawn(studio: int = 0, subject: int = 0, size: int = 192) -> np.ndarray:
    return draw(STUDIOS[studio].slug, SUBJECTS[subject], 0, size)


def test_extraction_is_deterministic_and_bounded() -> None:
    first, again = extract(drawn()), extract(drawn())
    assert 20 < len(first) <= MOST
    assert first.to_bytes() == again.to_bytes()
    assert len(extract(drawn(), most=15)) == 15


def test_descriptors_have_one_length() -> None:
    lengths = np.linalg.norm(extract(drawn()).descriptors.astype(float), axis=1)
    assert np.allclose(lengths, 512, rtol=0.02)


def test_points_lie_in_the_canonical_picture() -> None:
    features = extract(drawn())
    assert (features.points[:, :2] > -1).all()
    assert (features.points[:, :2] < (features.width, features.height)).all()
    assert (features.points[:, 2] > 0).all()


def test_mirroring_features_equals_extracting_from_the_mirrored_picture() -> None:
    picture = drawn(1)
    mirrored, extracted = extract(picture).mirrored, extract(np.ascontiguousarray(picture[:, ::-1]))
    assert np.array_equal(mirrored.preview, extracted.preview)
    place = np.linalg.norm(mirrored.points[:, None, :2] - extracted.points[None, :, :2], axis=2)
    turn = np.abs((mirrored.points[:, None, 3] - extracted.points[None, :, 3] + 180) % 360 - 180)
    cost = place + turn / 10
    same = cost.min(axis=1) < 0.5
    assert same.mean() > 0.7
    apart = mirrored.descriptors.astype(float) - extracted.descriptors[cost.argmin(axis=1)].astype(float)
    assert np.median(np.linalg.norm(apart[same], axis=1)) < 60  # of 512; unrelated ones are some 400 apart


def test_a_twice_mirrored_picture_is_itself() -> None:
    features = extract(drawn())
    twice = features.mirrored.mirrored
    assert np.array_equal(twice.descriptors, features.descriptors)
    assert np.allclose(twice.points[:, :3], features.points[:, :3], atol=1e-3)


def test_bytes_give_the_same_features_back() -> None:
    features = extract(drawn())
    back = LocalFeatures.from_bytes(features.to_bytes())
    assert (back.width, back.height) == (192, 192)
    for name in ("points", "descriptors", "preview"):
        assert np.array_equal(getattr(back, name), getattr(features, name))


@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "foreign", "nowhere"])
def test_damaged_bytes_are_refused(damage: str) -> None:
    data = extract(drawn()).to_bytes()
    start = 16 + PREVIEW * PREVIEW
    bad = {
        "empty": b"",
        "cut": data[:-1],
        "longer": data + b"\0",
        "foreign": b"PK\3\4" + data[4:],
        "nowhere": data[:start] + np.float32(np.nan).tobytes() + data[start + 4 :],
    }[damage]
    with pytest.raises(ValueError, match="local features"):
        LocalFeatures.from_bytes(bad)


@pytest.mark.parametrize("shape", [(8, 8), (1, 1), (2, 900)], ids=str)
def test_one_colour_has_no_features(shape: tuple[int, int]) -> None:
    features = extract(np.full((*shape, 3), 120, np.uint8))
    assert len(features) == 0
    assert len(LocalFeatures.from_bytes(features.to_bytes())) == 0


@pytest.mark.parametrize("shape", [(8, 8), (120, 10_000), (3, 5_000), (300, 300)], ids=str)
def test_noise_of_any_shape_stays_bounded(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert len(extract(noise)) <= MOST


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
    ids=["grey", "float", "empty"],
)
def test_other_arrays_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        extract(pixels)
