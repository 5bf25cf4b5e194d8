"""The atelier's style encoder: a small convolutional network whose statistics over an image say in whose manner it is.

An image is resized to 64 x 64 (proportions give way) and seen by four convolutions; of every channel the mean and the
standard deviation over the image are kept, as in Huang & Belongie 2017: what stands where is lost, how it is drawn is
kept. A linear layer turns them into 128 numbers.

It was trained on invented studios that have in common only what they draw. On other art its neighbours share colour
and texture; they do not show whose hand it was.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from models.encoders.preprocessing import SIGNED_MEAN, SIGNED_STD, Pixels, encode_in_batches, normalised, resize
from models.loading import device_for, locate, reading
from models.networks import Axis, NetworkInfo

SIDE = 64
BATCH = 32


class StyleNetwork(nn.Module):
    """(n, 3, 64, 64) in -1…1 → (n, dim)."""

    def __init__(self, widths: Sequence[int] = (32, 64, 96, 128), dim: int = 128) -> None:
        super().__init__()
        self.config = {"widths": list(widths), "dim": dim}
        layers: list[nn.Module] = []
        for number, (into, out) in enumerate(zip((3, *widths), widths, strict=False)):
            layers += [
                nn.Conv2d(into, out, 3, stride=1 if number == 0 else 2, padding=1),
                nn.GroupNorm(8, out),
                nn.GELU(),
            ]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(2 * widths[-1], dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = self.features(images).flatten(2)
        rows: torch.Tensor = self.head(torch.cat([seen.mean(-1), (seen.var(-1) + 1e-5).sqrt()], dim=1))
        return rows

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config) + "\n")
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / "model.safetensors")


class AtelierEncoder:
    """Always float32, so that vectors of any two machines may be compared."""

    name = "atelier"
    axes: frozenset[Axis] = frozenset({"style"})

    def __init__(self, network: StyleNetwork, info: NetworkInfo, device: torch.device) -> None:
        self.info = info
        self.dim = int(network.config["dim"])  # type: ignore[call-overload]
        self._network = network.eval().to(device)
        self._device = device

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Load what `StyleNetwork.save` wrote. Raises NetworkError."""
        checkpoint = locate(str(folder))
        with reading(checkpoint.name):
            config = json.loads((checkpoint.folder / "config.json").read_bytes())
            network = StyleNetwork(config["widths"], config["dim"])
            network.load_state_dict(load_file(checkpoint.folder / "model.safetensors"))
        info = NetworkInfo("atelier-style", "1", checkpoint.info().weights_sha256, "Apache-2.0")
        return cls(network, info, device_for(device))

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return (n, dim) float32 unit rows, one for each (h, w, 3) uint8 image."""
        return encode_in_batches(images, BATCH, self.dim, self._embed)

    @torch.inference_mode()
    def _embed(self, images: Sequence[Pixels]) -> torch.Tensor:
        rows: torch.Tensor = self._network(prepared(images).to(self._device))
        return rows


def prepared(images: Sequence[Pixels]) -> torch.Tensor:
    """(n, 3, 64, 64) in -1…1, as the network was trained on."""
    return normalised([resize(image, SIDE, SIDE) for image in images], SIGNED_MEAN, SIGNED_STD)
