"""DINOv2 (Oquab et al., 2023), trained without labels: its class token says what a picture shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Dinov2Model

from models.encoders.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    encode_in_batches,
    normalised,
    shorter_side_and_crop,
)
from models.loading import device_for, load_whole, locate, reading
from models.networks import Axis, NetworkInfo

BATCH = 16
RESIZED, SIDE = 256, 224  # the authors' own for classification; the network interpolates its positions to any size


class Dinov2Encoder:
    """Always float32, so that vectors of any two machines may be compared."""

    name = "dinov2"
    axes: frozenset[Axis] = frozenset({"content"})

    def __init__(self, model: Any, info: NetworkInfo, device: torch.device) -> None:
        self.info = info
        self.dim = int(model.config.hidden_size)
        self._model = model.eval().to(device)
        self._device = device

    @classmethod
    def load(cls, source: str | Path, device: str = "auto") -> Self:
        """Load a folder or hub id of a DINOv2 model of any size. Raises NetworkError."""
        checkpoint = locate(str(source))
        place = device_for(device)
        with reading(checkpoint.name):
            model = load_whole(Dinov2Model, checkpoint.folder)
        return cls(model, checkpoint.info(), place)

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return (n, dim) float32 unit rows: the normalised last class token of each (h, w, 3) uint8 image."""
        return encode_in_batches(images, BATCH, self.dim, self._embed)

    @torch.inference_mode()
    def _embed(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        edge = (RESIZED - SIDE) // 2
        cut = [shorter_side_and_crop(image, RESIZED)[edge : edge + SIDE, edge : edge + SIDE] for image in images]
        batch = normalised(cut, IMAGENET_MEAN, IMAGENET_STD)
        hidden: torch.Tensor = self._model(pixel_values=batch.to(self._device)).last_hidden_state
        return hidden[:, 0]
