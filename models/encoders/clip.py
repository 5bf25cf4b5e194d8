"""CLIP's image tower and projection (Radford et al., 2021): ViT-L/14 gives 768 numbers for what a picture shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import CLIPVisionModelWithProjection

from models.encoders.preprocessing import CLIP_MEAN, CLIP_STD, encode_in_batches, normalised, shorter_side_and_crop
from models.loading import device_for, load_whole, locate, reading
from models.networks import Axis, NetworkInfo

BATCH = 16


class ImageTower:
    """A CLIPVisionModelWithProjection on its device, with the preprocessing that every CLIP was trained on."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self.dim = int(model.config.projection_dim)
        self.side = int(model.config.image_size)
        self._model = model.eval().to(device)
        self._device = device

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return (n, dim) float32 unit rows: the projected class token of each (h, w, 3) uint8 image."""
        return encode_in_batches(images, BATCH, self.dim, self._embed)

    @torch.inference_mode()
    def _embed(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        batch = normalised([shorter_side_and_crop(image, self.side) for image in images], CLIP_MEAN, CLIP_STD)
        embeds: torch.Tensor = self._model(pixel_values=batch.to(self._device)).image_embeds
        return embeds


class ClipEncoder:
    """Always float32, so that vectors of any two machines may be compared."""

    name = "clip"
    axes: frozenset[Axis] = frozenset({"style", "content"})

    def __init__(self, model: Any, info: NetworkInfo, device: torch.device) -> None:
        self.info = info
        self._tower = ImageTower(model, device)
        self.dim, self.side = self._tower.dim, self._tower.side

    @classmethod
    def load(cls, source: str | Path, device: str = "auto") -> Self:
        """Load a folder or hub id of a CLIP model (its text tower is left where it is). Raises NetworkError."""
        checkpoint = locate(str(source))
        place = device_for(device)
        with reading(checkpoint.name):
            model = load_whole(CLIPVisionModelWithProjection, checkpoint.folder)
        return cls(model, checkpoint.info(), place)

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return (n, dim) float32 unit rows, one for each (h, w, 3) uint8 image."""
        return self._tower.encode(images)
