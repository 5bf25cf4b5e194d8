from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Dinov2Config, Dinov2Model

from models.encoders.dinov2 import Dinov2Encoder
from models.encoders.preprocessing import IMAGENET_MEAN, IMAGENET_STD, normalised
from models.errors import NetworkError
from models.networks import weights_digest


def pictures(count: int, height: int = 256, width: int = 256) -> list[np.ndarray]:
    return list(np.random.default_rng(5).integers(0, 256, (count, height, width, 3), np.uint8))


@pytest.fixture(scope="module")
def tower() -> Dinov2Model:
    torch.manual_seed(1)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, mlp_ratio=2, image_size=42, patch_size=14
    )
    return Dinov2Model(config).eval()


@pytest.fixture(scope="module")
def folder(tower: Dinov2Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dinov2") / "small-dinov2"
    tower.save_pretrained(path)
    return path


def test_a_saved_network_gives_the_class_token_of_the_middle(tower: Dinov2Model, folder: Path) -> None:
    encoder = Dinov2Encoder.load(folder, "cpu")
    images = pictures(3)
    batch = normalised([image[16:240, 16:240] for image in images], IMAGENET_MEAN, IMAGENET_STD)
    with torch.inference_mode():
        direct = torch.nn.functional.normalize(tower(pixel_values=batch).last_hidden_state[:, 0], dim=-1).numpy()
    rows = encoder.encode(images)
    assert rows.dtype == np.float32
    assert rows.shape == (3, encoder.dim) == (3, 32)
    assert (rows == direct).all()


def test_any_size_gives_a_row_of_length_one_whatever_else_is_in_the_batch(folder: Path) -> None:
    encoder = Dinov2Encoder.load(folder, "cpu")
    images = [*pictures(2), *pictures(1, 8, 8), *pictures(1, 40, 600)]
    rows = encoder.encode(images)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert np.allclose(rows, np.concatenate([encoder.encode([image]) for image in images]), atol=1e-5)
    assert encoder.encode([]).shape == (0, 32)


def test_the_encoder_knows_itself_and_what_it_is_evidence_for(folder: Path) -> None:
    encoder = Dinov2Encoder.load(folder, "cpu")
    assert (encoder.name, encoder.info.name, encoder.axes) == ("dinov2", "small-dinov2", {"content"})
    assert encoder.info.weights_sha256 == weights_digest(folder)


@pytest.mark.parametrize("spoil", ["missing weight", "damaged weights"])
def test_a_damaged_network_is_refused(folder: Path, tmp_path: Path, spoil: str) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    if spoil == "missing weight":
        weights = load_file(folder / "model.safetensors")
        weights.pop("layernorm.weight")
        save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    else:
        (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-10])
    with pytest.raises(NetworkError) as caught:
        Dinov2Encoder.load(tmp_path, "cpu")
    assert caught.value.code == "network_unreadable"
