import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, CLIPVisionModelWithProjection

from models.encoders.clip import ClipEncoder
from models.encoders.preprocessing import CLIP_MEAN, CLIP_STD, normalised, shorter_side_and_crop
from models.errors import NetworkError
from models.networks import weights_digest

VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
    "projection_dim": 24,
    "hidden_act": "quick_gelu",
}


def pictures(count: int, height: int = 40, width: int = 56) -> list[np.ndarray]:
    return list(np.random.default_rng(5).integers(0, 256, (count, height, width, 3), np.uint8))


@pytest.fixture(scope="module")
def tower() -> CLIPVisionModelWithProjection:
    torch.manual_seed(1)
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).eval()


@pytest.fixture(scope="module")
def folder(tower: CLIPVisionModelWithProjection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "small-clip"
    tower.save_pretrained(path)
    return path


def test_a_saved_tower_gives_the_same_bits_when_loaded(tower: CLIPVisionModelWithProjection, folder: Path) -> None:
    encoder = ClipEncoder.load(folder, "cpu")
    images = pictures(3)
    batch = normalised([shorter_side_and_crop(image, 28) for image in images], CLIP_MEAN, CLIP_STD)
    with torch.inference_mode():
        direct = torch.nn.functional.normalize(tower(pixel_values=batch).image_embeds, dim=-1).numpy()
    rows = encoder.encode(images)
    assert rows.dtype == np.float32
    assert rows.shape == (3, encoder.dim) == (3, 24)
    assert (rows == direct).all()


def test_the_tower_is_found_inside_a_whole_clip_model(tower: CLIPVisionModelWithProjection, tmp_path: Path) -> None:
    """As the original repository is saved: text and image towers in one file."""
    config = CLIPConfig(
        text_config=CLIPTextConfig(
            vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
        ).to_dict(),
        vision_config=CLIPVisionConfig(**VISION).to_dict(),
        projection_dim=24,
    )
    whole = CLIPModel(config).eval()
    whole.save_pretrained(tmp_path)
    images = pictures(2)
    batch = normalised([shorter_side_and_crop(image, 28) for image in images], CLIP_MEAN, CLIP_STD)
    with torch.inference_mode():
        features = whole.visual_projection(whole.vision_model(pixel_values=batch).pooler_output)
    rows = ClipEncoder.load(tmp_path, "cpu").encode(images)
    assert np.allclose(rows, torch.nn.functional.normalize(features, dim=-1).numpy(), atol=1e-6)


def test_rows_have_length_one_and_do_not_depend_on_the_batch(folder: Path) -> None:
    encoder = ClipEncoder.load(folder, "cpu")
    images = [*pictures(17), *pictures(2, 28, 28)]  # more than one batch, more than one size
    rows = encoder.encode(images)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert np.allclose(rows, np.concatenate([encoder.encode([image]) for image in images]), atol=1e-5)
    assert encoder.encode([]).shape == (0, 24)


def test_the_encoder_knows_itself(folder: Path) -> None:
    encoder = ClipEncoder.load(folder, "cpu")
    assert (encoder.name, encoder.info.name, encoder.info.revision) == ("clip", "small-clip", "local")
    assert encoder.info.weights_sha256 == weights_digest(folder)


@pytest.mark.parametrize("spoil", ["missing weight", "no weights", "damaged weights", "no json", "other architecture"])
def test_a_damaged_network_is_refused_and_never_filled_with_random_weights(
    folder: Path, tmp_path: Path, spoil: str
) -> None:
    weights = load_file(folder / "model.safetensors")
    config = (folder / "config.json").read_text()
    if spoil == "missing weight":
        weights.pop("visual_projection.weight")
    if spoil == "no json":
        config = "{"
    if spoil == "other architecture":
        config = json.dumps(json.loads(config) | {"projection_dim": 25})
    (tmp_path / "config.json").write_text(config)
    if spoil != "no weights":
        save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    if spoil == "damaged weights":
        (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(NetworkError) as caught:
        ClipEncoder.load(tmp_path, "cpu")
    assert caught.value.code == "network_unreadable"
    assert str(tmp_path.parent) not in caught.value.detail


def test_a_pickled_checkpoint_is_not_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    torch.save(load_file(folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(NetworkError):
        ClipEncoder.load(tmp_path, "cpu")
