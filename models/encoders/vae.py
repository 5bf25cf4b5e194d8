"""The generator's own autoencoder as a descriptor: colours and textures, where they are, as the generator sees them.

An image is resized to the generator's own size (proportions give way, so that all latents have one shape), encoded to
the mode of the posterior, and normalised as the generator's transformer gets it. Of each channel, in each of 4 x 4
cells of the latent, the mean and log(standard deviation + 0.1) are kept: 2 x channels x 16 numbers (FLUX's latent of
16 x 128 x 128 gives 512).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray

from models.encoders.preprocessing import SIGNED_MEAN, SIGNED_STD, encode_in_batches, normalised, resize
from models.loading import LOW_MEMORY, call_defaults, device_for, locate, reading
from models.networks import Axis, NetworkInfo

PART = "vae"
PART_FILES = ("model_index.json", "lawful.json", "README.md", f"{PART}/*.json", f"{PART}/*.safetensors")
CELLS = 4
SMALLEST_SPREAD = 0.1
DEFAULT_SIDE = 1024
BATCH_PIXELS = 2**20  # one image of 1024 x 1024, or 64 of 128 x 128


class VaeEncoder:
    """Always float32, so that vectors of any two machines may be compared."""

    name = "vae"
    axes: frozenset[Axis] = frozenset({"content"})

    def __init__(self, vae: Any, info: NetworkInfo, device: torch.device, width: int, height: int) -> None:
        self.info = info
        self.width, self.height = width, height
        self._vae = vae.eval().to(device)
        self._device = device
        channels = getattr(vae.config, "latent_channels", None) or vae.config.z_dim  # autoencoders for film say z_dim
        self.dim = 2 * CELLS * CELLS * int(channels)

    @classmethod
    def load(cls, source: str | Path, device: str = "auto") -> Self:
        """Load only the autoencoder of a diffusers pipeline, from its folder or hub id. Raises NetworkError."""
        checkpoint = locate(str(source), PART_FILES, complete=f"{PART}/config.json")
        place = device_for(device)
        folder = checkpoint.folder / PART
        with reading(f"{checkpoint.name}/{PART}"):
            kind = getattr(diffusers, json.loads((folder / "config.json").read_bytes())["_class_name"])
            vae = kind.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                low_cpu_mem_usage=LOW_MEMORY,
            )
        defaults = call_defaults(checkpoint.folder)
        width, height = (int(defaults.get(side) or DEFAULT_SIDE) for side in ("width", "height"))
        return cls(vae, checkpoint.info(PART), place, width, height)

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return (n, dim) float32 unit rows, one for each (h, w, 3) uint8 image, pooled as the module says."""
        batch = max(1, BATCH_PIXELS // (self.width * self.height))
        return encode_in_batches(images, batch, self.dim, self._embed)

    @torch.inference_mode()
    def latents(self, batch: torch.Tensor) -> torch.Tensor:
        """Encode (n, 3, h, w) in [-1, 1] to normalised latents (n, c, h', w'), as the transformer gets them."""
        return normalised_latents(self._vae, batch.to(self._device))

    def _embed(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        batch = normalised([resize(image, self.width, self.height) for image in images], SIGNED_MEAN, SIGNED_STD)
        return pooled(self.latents(batch))


def normalised_latents(vae: Any, batch: torch.Tensor) -> torch.Tensor:
    """Return the mode of the posterior with the autoencoder's own statistics taken out, (n, c, h', w').

    latents_mean and latents_std where its configuration has them (Qwen-Image, some SDXL), else shift_factor and
    scaling_factor (FLUX, SD3). Autoencoders for film get one frame.
    """
    config = vae.config
    film = hasattr(config, "z_dim")
    encoded = vae.encode(batch.unsqueeze(2) if film else batch)
    latents: torch.Tensor = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
    if film:
        latents = latents.squeeze(2)
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    scale = getattr(config, "scaling_factor", None) or 1.0
    if mean is not None and std is not None:
        shape = (1, -1, 1, 1)
        centred = latents - torch.tensor(mean).view(shape).to(latents)
        return centred * scale / torch.tensor(std).view(shape).to(latents)
    return (latents - (getattr(config, "shift_factor", None) or 0.0)) * scale


def pooled(latents: torch.Tensor) -> torch.Tensor:
    """Pool (n, c, h, w) to (n, 2 * c * 16): means of the 4 x 4 cells, then log(std + 0.1) of the same cells."""
    means = torch.nn.functional.adaptive_avg_pool2d(latents, CELLS)
    squares = torch.nn.functional.adaptive_avg_pool2d(latents.square(), CELLS)
    spread = (squares - means.square()).clamp_min(0).sqrt()
    return torch.cat([means.flatten(1), (spread + SMALLEST_SPREAD).log().flatten(1)], dim=1)
