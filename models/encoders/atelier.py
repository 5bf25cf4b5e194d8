"""The atelier's own encoders, small convolutional networks: one for manner, which ships with it, and one for copies.

Style: an image is resized to 64 x 64 (proportions give way) and seen by four convolutions; of every channel the mean
and the standard deviation over the image are kept, as in Huang & Belongie 2017: what stands where is lost, how it is
drawn is kept. A linear layer turns them into 128 numbers.

Copy: an image is resized to 96 x 96 and seen by residual blocks; channels are pooled by generalised mean (Radenović et
al. 2018), as SSCD does (Pizzi et al. 2022). A mirror image is another image to it: who asks also asks with the mirror
image.

Both were trained on invented studios' drawings alone. On other art the first's neighbours share colour and texture and
do not show whose hand it was; the second's are candidates that the geometric check has to confirm.
"""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from models.encoders.preprocessing import SIGNED_MEAN, SIGNED_STD, Pixels, encode_in_batches, normalised, resize
from models.loading import device_for, locate, reading
from models.networks import Axis, NetworkInfo

BATCH = 32


class AtelierNetwork(nn.Module):
    """(n, 3, side, side) in -1…1 → (n, dim). The widths of its layers are saved beside its weights."""

    side: ClassVar[int]

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.config = {"widths": list(widths), "dim": dim}

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config) + "\n")
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / "model.safetensors")

    @classmethod
    def prepared(cls, images: Sequence[Pixels]) -> torch.Tensor:
        """(n, 3, side, side) in -1…1, as the network was trained on."""
        return normalised([resize(image, cls.side, cls.side) for image in images], SIGNED_MEAN, SIGNED_STD)


class StyleNetwork(AtelierNetwork):
    side = 64

    def __init__(self, widths: Sequence[int] = (32, 64, 96, 128), dim: int = 128) -> None:
        super().__init__(widths, dim)
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


class Residual(nn.Module):
    """Two convolutions and a way round them; half the size."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(into, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out))
        self.around = nn.Conv2d(into, out, 1, 2)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.second(self.first(seen)) + self.around(seen))


class CopyNetwork(AtelierNetwork):
    side = 96

    def __init__(self, widths: Sequence[int] = (32, 64, 128, 256), dim: int = 128) -> None:
        super().__init__(widths, dim)
        stem = [nn.Conv2d(3, widths[0], 5, 2, 2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
        blocks = [Residual(into, out) for into, out in pairwise(widths)]
        self.features = nn.Sequential(*stem, *blocks)
        self.head = nn.Linear(widths[-1], dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = self.features(images).float().clamp(min=1e-4)
        rows: torch.Tensor = self.head(seen.pow(3).mean((2, 3)).pow(1 / 3))
        return rows


class AtelierEncoder:
    """Always float32, so that vectors of any two machines may be compared."""

    name: str
    axes: frozenset[Axis]
    network: ClassVar[type[AtelierNetwork]]
    title: ClassVar[str]

    def __init__(self, network: AtelierNetwork, info: NetworkInfo, device: torch.device) -> None:
        self.info = info
        self.dim = network.dim
        self._network = network.eval().to(device)
        self._device = device

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Load what `AtelierNetwork.save` wrote. Raises NetworkError."""
        checkpoint = locate(str(folder))
        with reading(checkpoint.name):
            config = json.loads((checkpoint.folder / "config.json").read_bytes())
            network = cls.network(config["widths"], config["dim"])
            network.load_state_dict(load_file(checkpoint.folder / "model.safetensors"))
        info = NetworkInfo(cls.title, "1", checkpoint.info().weights_sha256, "Apache-2.0")
        return cls(network, info, device_for(device))

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return (n, dim) float32 unit rows, one for each (h, w, 3) uint8 image."""
        return encode_in_batches(images, BATCH, self.dim, self._embed)

    @torch.inference_mode()
    def _embed(self, images: Sequence[Pixels]) -> torch.Tensor:
        rows: torch.Tensor = self._network(self._network.prepared(images).to(self._device))
        return rows


class AtelierStyle(AtelierEncoder):
    name, title, network = "atelier", "atelier-style", StyleNetwork
    axes: frozenset[Axis] = frozenset({"style"})


class AtelierCopy(AtelierEncoder):
    name, title, network = "atelier-copy", "atelier-copy", CopyNetwork
    axes: frozenset[Axis] = frozenset({"copy"})
