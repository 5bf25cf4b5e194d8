"""The decoder's last lesson: a critic tells decoded pictures from drawn ones, and the decoder learns until it cannot.

Latents of the transformer are a little wrong everywhere, and a decoder that has seen only encoded works makes an even
grey of hatching and dots whose places are uncertain, which L1 likes best. A critic of patches (Isola et al. 2017) that
is told the studio (Miyato & Koyama 2018) does not. Encoder and transformer stay as they are, and so do all latents.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from models.atelier.autoencoder import crop, pixel_loss, steepness
from models.atelier.training_run import DEVICE, Run, half, tensor

WIDTHS = (48, 96, 192)


class Critic(nn.Module):
    """(n, 3, h, w) in -1…1 and (n,) numbers of studios → (n, h / 8, w / 8): how drawn each part of 22 px looks."""

    def __init__(self, studios: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for into, out in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [spectral_norm(nn.Conv2d(into, out, 4, 2, 1)), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*layers)
        self.any = spectral_norm(nn.Conv2d(WIDTHS[-1], 1, 1))
        self.own = spectral_norm(nn.Embedding(studios, WIDTHS[-1]))

    def forward(self, images: torch.Tensor, studios: torch.Tensor) -> torch.Tensor:
        seen = self.features(images)
        rows: torch.Tensor = self.any(seen)[:, 0] + torch.einsum("nchw,nc->nhw", seen, self.own(studios))
        return rows.float()


def train_against_critic(
    autoencoder: AutoencoderKL, images: NDArray[np.uint8], studios: NDArray[np.int64], imagined: torch.Tensor,
    imagined_studios: NDArray[np.int64], work: Path, steps: int, batch: int = 16,
) -> None:  # fmt: skip
    """The decoder alone learns. Each step takes parts of `batch` works and of as many imagined pictures.

    `images` (n, h, w, 3) uint8, `imagined` (m, channels, h / 8, w / 8) latents that the transformer made, as the
    decoder takes them; the numbers of their studios, (n,) and (m,).
    """
    torch.manual_seed(5)
    chance = np.random.default_rng(5)
    decoder = autoencoder.decoder
    critic = Critic(int(studios.max()) + 1).to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run, against = Run("finish", work, [decoder], 2e-4, steps), Run("critic", work, [critic], 4e-4, steps)
    for _ in zip(run, against, strict=False):
        chosen, others = chance.integers(len(images), size=batch), chance.integers(len(imagined), size=batch)
        drawn = tensor(np.stack([crop(images[at], chance) for at in chosen]))
        by = torch.from_numpy(np.concatenate([studios[chosen], imagined_studios[others]])).to(DEVICE)
        critic.requires_grad_(False)
        with half():
            with torch.no_grad():
                own = autoencoder.encode(drawn).latent_dist.mean
            own = own + 0.05 * torch.randn_like(own)
            parts = torch.stack([_part(imagined[at], own.shape[-1], chance) for at in others])
            made = autoencoder.decode(torch.cat([own, parts])).sample.float()
            disliked = -critic(made, by).mean()
        wrong = pixel_loss(made[:batch], drawn) + functional.l1_loss(steepness(made[:batch]), steepness(drawn))
        run.learn(wrong + _balance(wrong, disliked, decoder.conv_out.weight) * disliked)
        critic.requires_grad_(True)
        with half():
            real, false = critic(drawn, by[:batch]), critic(made.detach(), by)
        against.learn((1 - real).relu().mean() + (1 + false).relu().mean())


def _part(latent: torch.Tensor, side: int, chance: np.random.Generator) -> torch.Tensor:
    """A random part (channels, side, side) of a latent (channels, h, w)."""
    top, left = (chance.integers(length - side + 1) for length in latent.shape[1:])
    return latent[:, top : top + side, left : left + side]


def _balance(wrong: torch.Tensor, disliked: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """How much the critic's word weighs: half as much as the pixels at the decoder's last layer (Esser et al. 2021)."""
    pixels, critic = (torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (wrong, disliked))
    share: torch.Tensor = 0.5 * pixels / (critic + 1e-4)
    return share.clamp(max=10)
