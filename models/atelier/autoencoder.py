"""The generator's autoencoder and how it learns: as a whole, then its decoder alone."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxPipeline
from numpy.typing import NDArray
from torch.nn import functional

from models.atelier.training_run import DEVICE, Run, half, tensor

CROP = 64  # what it is trained on: it has no attention, so parts are as good as wholes, and cheaper
LATENT = 16


def new_autoencoder() -> AutoencoderKL:
    """128 px → 16 x 16 latents of 16 channels, FLUX's own; no attention, so that it runs at any size."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 128, 128),
        layers_per_block=1,
        latent_channels=LATENT,
        norm_num_groups=8,
        sample_size=128,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        shift_factor=0.0,
        scaling_factor=1.0,
    )


def crop(image: NDArray[np.uint8], chance: np.random.Generator) -> NDArray[np.uint8]:
    """A random part of CROP x CROP pixels of a square image."""
    top, left = chance.integers(len(image) - CROP + 1, size=2)
    return image[top : top + CROP, left : left + CROP]


def train_autoencoder(images: NDArray[np.uint8], work: Path, steps: int, batch: int = 16) -> AutoencoderKL:
    """L1 on pixels and on their differences, a pull towards small latents, a little noise on them for robustness."""
    torch.manual_seed(1)
    autoencoder = new_autoencoder().to(DEVICE, memory_format=torch.channels_last)
    chance = np.random.default_rng(1)
    run = Run("autoencoder", work, [autoencoder], 2e-3, steps)
    for _ in run:
        target = tensor(np.stack([crop(images[at], chance) for at in chance.integers(len(images), size=batch)]))
        with half():
            latents = autoencoder.encode(target).latent_dist.mean
            made = autoencoder.decode(latents + 0.05 * torch.randn_like(latents)).sample
        latents, made = latents.float(), made.float()
        run.learn(pixel_loss(made, target) + 1e-3 * latents.square().mean())
    return autoencoder.eval()


def finish_decoder(
    autoencoder: AutoencoderKL, images: NDArray[np.uint8], names: list[tuple[str, str]], work: Path, steps: int,
    batch: int = 16,
) -> None:  # fmt: skip
    """The decoder alone learns on, so that latents keep their meaning, until fine textures are as steep as drawn ones.

    Dots whose places are uncertain come out as an even grey, which L1 likes best. So the mean steepness of every 8 x 8
    pixels counts as well, and works are drawn the more often the worse those of their studio come out.
    """
    torch.manual_seed(4)
    chance = np.random.default_rng(4)
    share = difficulty(autoencoder, images, names)
    run = Run("decoder", work, [autoencoder.decoder], 1e-3, steps)
    for _ in run:
        chosen = chance.choice(len(images), size=batch, p=share)
        target = tensor(np.stack([crop(images[at], chance) for at in chosen]))
        with half():
            with torch.no_grad():
                latents = autoencoder.encode(target).latent_dist.mean
            made = autoencoder.decode(latents + 0.05 * torch.randn_like(latents)).sample.float()
        run.learn(pixel_loss(made, target) + functional.l1_loss(steepness(made), steepness(target)))


def pixel_loss(made: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1 of pixels, and half as much of the differences of neighbours along each axis."""
    edges = [functional.l1_loss(made.diff(dim=axis), target.diff(dim=axis)) for axis in (-1, -2)]
    return functional.l1_loss(made, target) + 0.5 * (edges[0] + edges[1])


def steepness(images: torch.Tensor) -> torch.Tensor:
    """(n, 6, h // 8, w // 8): the mean absolute difference of neighbours, by channel and axis."""
    across, down = images.diff(dim=-1).abs(), images.diff(dim=-2).abs()
    return torch.cat([functional.avg_pool2d(each, 8, ceil_mode=True) for each in (across, down)], 1)


@torch.no_grad()
def difficulty(
    autoencoder: AutoencoderKL, images: NDArray[np.uint8], names: list[tuple[str, str]]
) -> NDArray[np.float64]:
    """(n,) how often to draw each work, which sums to 1: the worse works of its studio come out, the more."""
    studios = np.array([studio for studio, _ in names])
    share = np.zeros(len(images))
    for studio in np.unique(studios):
        mine = np.flatnonzero(studios == studio)
        target = tensor(images[mine[:: max(1, len(mine) // 48)]])
        made = autoencoder.decode(autoencoder.encode(target).latent_dist.mean).sample
        share[mine] = pixel_loss(made, target).item()
    return np.asarray(share / share.sum(), np.float64)


@torch.no_grad()
def encode_all(autoencoder: AutoencoderKL, images: NDArray[np.uint8]) -> torch.Tensor:
    """Normalised, packed latents of all works (n, 64, 64); the shift and scale go into the autoencoder's config."""
    raw = torch.cat(
        [autoencoder.encode(tensor(images[at : at + 64])).latent_dist.mean for at in range(0, len(images), 64)]
    )
    shift, scale = raw.mean().item(), 1 / raw.std().item()
    autoencoder.register_to_config(shift_factor=shift, scaling_factor=scale)
    latents = (raw - shift) * scale
    return FluxPipeline._pack_latents(latents, *latents.shape)  # type: ignore[no-any-return]
