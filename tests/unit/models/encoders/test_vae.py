import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLQwenImage, AutoencoderTiny

from models.encoders.vae import VaeEncoder, normalised_latents, pooled
from models.errors import NetworkError
from models.networks import weights_digest


def pictures(count: int, height: int = 40, width: int = 56) -> list[np.ndarray]:
    return list(np.random.default_rng(5).integers(0, 256, (count, height, width, 3), np.uint8))


@pytest.fixture(scope="module")
def folder(flux_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vae") / "pipeline"
    shutil.copytree(flux_folder, path)
    (path / "lawful.json").write_text(
        json.dumps({"width": 32, "height": 24, "name": "atelier/1", "licence": "Apache-2.0"})
    )
    return path


def test_the_pipelines_own_autoencoder_is_loaded_at_the_pipelines_own_size(folder: Path) -> None:
    encoder = VaeEncoder.load(folder, "cpu")
    assert (encoder.width, encoder.height) == (32, 24)
    assert encoder.info.name == "atelier/1/vae"
    assert encoder.info.licence == "Apache-2.0"
    assert encoder.info.weights_sha256 == weights_digest(folder / "vae")
    assert encoder.dim == 2 * 16 * 4
    assert encoder.encode(pictures(2)).shape == (2, encoder.dim)


def test_only_the_autoencoder_needs_to_be_there(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "vae", tmp_path / "vae")
    shutil.copy(folder / "lawful.json", tmp_path)
    assert (
        VaeEncoder.load(tmp_path, "cpu").encode(pictures(1)) == VaeEncoder.load(folder, "cpu").encode(pictures(1))
    ).all()


def test_latents_are_the_mode_less_shift_times_scale(folder: Path) -> None:
    encoder = VaeEncoder.load(folder, "cpu")
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    batch = torch.rand(2, 3, 24, 32) * 2 - 1
    with torch.inference_mode():
        expected = (vae.encode(batch).latent_dist.mode() - 0.25) * 1.5
    assert torch.equal(encoder.latents(batch), expected)


def test_pooling_keeps_means_and_log_spreads_of_sixteen_cells() -> None:
    latents = torch.randn(2, 3, 8, 12)
    rows = pooled(latents)
    cells = latents.unflatten(2, (4, 2)).unflatten(4, (4, 3)).permute(0, 1, 2, 4, 3, 5).flatten(4)
    assert torch.allclose(rows[:, :48], cells.mean(-1).flatten(1), atol=1e-6)
    assert torch.allclose(rows[:, 48:], (cells.std(-1, correction=0) + 0.1).log().flatten(1), atol=1e-4)


def test_rows_have_length_one_and_do_not_depend_on_the_batch(folder: Path) -> None:
    encoder = VaeEncoder.load(folder, "cpu")
    images = [*pictures(3), np.zeros((9, 90, 3), np.uint8)]
    rows = encoder.encode(images)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert np.allclose(rows, np.concatenate([encoder.encode([image]) for image in images]), atol=1e-5)
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_autoencoders_of_other_families_give_their_own_normalised_latents() -> None:
    batch = torch.rand(1, 3, 32, 32) * 2 - 1
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        latent_channels=4,
        scaling_factor=2.0,
    ).eval()
    sdxl = AutoencoderKL(
        block_out_channels=(8,),
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.5,
        latents_mean=[1.0] * 4,
        latents_std=[2.0] * 4,
    ).eval()
    film = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.5] * 4,
        latents_std=[2.0] * 4,
    ).eval()
    with torch.inference_mode():
        assert torch.equal(normalised_latents(tiny, batch), tiny.encode(batch).latents * 2.0)
        assert torch.allclose(normalised_latents(sdxl, batch), (sdxl.encode(batch).latent_dist.mode() - 1.0) * 0.25)
        frame = film.encode(batch.unsqueeze(2)).latent_dist.mode().squeeze(2)
        assert torch.allclose(normalised_latents(film, batch), (frame - 0.5) / 2.0)
        assert normalised_latents(film, batch).ndim == 4


@pytest.mark.parametrize("spoil", ["no such class", "no weights", "no part"])
def test_a_damaged_autoencoder_is_refused(folder: Path, tmp_path: Path, spoil: str) -> None:
    shutil.copytree(folder / "vae", tmp_path / "vae")
    if spoil == "no such class":
        config = json.loads((tmp_path / "vae" / "config.json").read_text())
        (tmp_path / "vae" / "config.json").write_text(json.dumps(config | {"_class_name": "NoSuchAutoencoder"}))
    elif spoil == "no weights":
        next((tmp_path / "vae").glob("*.safetensors")).unlink()
    else:
        shutil.rmtree(tmp_path / "vae")
    with pytest.raises(NetworkError) as caught:
        VaeEncoder.load(tmp_path, "cpu")
    assert caught.value.code == ("network_missing" if spoil == "no part" else "network_unreadable")
