from pathlib import Path

import numpy as np
import pytest

from attribution.evaluation.dataset import DatasetError, read
from attribution.evaluation.head import evaluate
from attribution.evaluation.suite import OURS, PERFECT, SHUFFLED, Figure, Options, Result
from models.encoders.preprocessing import Pixels, resize
from models.images import encode_png
from models.networks import NetworkInfo


class Thumbnail:
    """A weight-free descriptor: the picture itself, very small; `salt` picks other cells."""

    axes = frozenset({"style"})
    dim = 48

    def __init__(self, name: str, side: int) -> None:
        self.name, self.side, self.info = name, side, NetworkInfo(name, "1", "0" * 64, "Apache-2.0")

    def encode(self, images: list[Pixels]) -> np.ndarray:
        small = [resize(image, self.side, 48 // 3 // self.side).ravel() for image in images]
        rows = np.stack(small).astype(np.float32) + 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


ENCODERS = {"wide": Thumbnail("wide", 8), "square": Thumbnail("square", 4)}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Four artists with a wall pattern of their own, seen through noise; twelve works each."""
    folder, chance = tmp_path_factory.mktemp("works"), np.random.default_rng(7)
    for artist in ("ada", "ben", "cleo", "dan"):
        (folder / artist).mkdir()
        pattern = chance.normal(128, 40, (16, 16, 3))
        for number in range(12):
            pixels = np.clip(pattern + chance.normal(0, 60, pattern.shape), 0, 255).astype(np.uint8)
            (folder / artist / f"{artist}{number}.png").write_bytes(encode_png(pixels))
    return evaluate(read(folder), ENCODERS, Options())


def figure(result: Result, name: str, method: str = OURS) -> Figure:
    return next(each for each in result.figures if (each.name, each.method) == (name, method))


def test_ours_stands_beside_every_single_embedding_a_centroid_and_a_control(result: Result) -> None:
    methods = {each.method for each in result.figures if each.name == "artist named"}
    assert methods == {
        OURS,
        SHUFFLED,
        *(f"baseline: {name} alone" for name in ENCODERS),
        *(f"baseline: nearest centroid of {name}" for name in ENCODERS),
    }
    assert (result.suite, result.data.works, result.data.artists) == ("head", 48, 4)


def test_hands_are_told_apart_and_shuffled_ones_are_not(result: Result) -> None:
    assert figure(result, "artist named").value > 0.5
    assert figure(result, "artist named", SHUFFLED).value < 0.5


def test_every_figure_lies_in_its_interval_and_counts_its_trials(result: Result) -> None:
    for each in result.figures:
        assert 0 <= each.value <= 1
        assert each.low <= each.high
        assert each.n in {4, 48, 96}
    assert figure(result, "calibration error of probabilities").at_most
    assert figure(result, "calibration error of probabilities", PERFECT).value > 0
    assert figure(result, "artist left out called unknown").n == 48


def test_too_few_artists_are_said_and_not_measured(tmp_path: Path) -> None:
    for artist in ("one", "two"):
        (tmp_path / artist).mkdir()
        for number in range(5):
            pixels = np.full((8, 8, 3), number * 40, np.uint8)
            (tmp_path / artist / f"{artist}{number}.png").write_bytes(encode_png(pixels))
    with pytest.raises(DatasetError) as caught:
        evaluate(read(tmp_path), ENCODERS, Options())
    assert caught.value.code == "too_few_artists"
