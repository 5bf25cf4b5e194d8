"""SSCD (Pizzi et al., "A Self-Supervised Descriptor for Image Copy Detection", 2022): one picture, edited, stays near.

A ResNet-50 (He et al. 2016, the stride on the 3 x 3 convolution) whose last map is pooled by a generalised mean of
power 3 (Radenović et al. 2018, equation 2) and projected to 512 numbers. The weights are read from the authors'
`.torchvision.pt` files; the network's sizes are read off the shapes. Its neighbours are candidates: that one is a copy
is for a geometric check to say.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

from models.encoders.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Pixels, encode_in_batches, normalised
from models.loading import device_for, reading
from models.networks import Axis, NetworkInfo
from models.released import locate_file, read_tensors

BATCH = 8
SIDE = 320  # of the square that the authors recommend; proportions give way
POWER, SMALLEST = 3.0, 1e-6
EXPANSION = 4


class Bottleneck(nn.Module):
    """(n, into, h, w) → (n, 4 * width, h / stride, w / stride)."""

    def __init__(self, into: int, width: int, stride: int, *, projected: bool) -> None:
        super().__init__()
        out = EXPANSION * width
        self.conv1 = nn.Conv2d(into, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = (
            nn.Sequential(nn.Conv2d(into, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))
            if projected
            else None
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        kept = maps if self.downsample is None else self.downsample(maps)
        seen = functional.relu(self.bn1(self.conv1(maps)))
        seen = functional.relu(self.bn2(self.conv2(seen)))
        return functional.relu(self.bn3(self.conv3(seen)) + kept)


class SscdNetwork(nn.Module):
    """(n, 3, h, w) → (n, dim). Names of weights are torchvision's."""

    def __init__(self, width: int = 64, blocks: Sequence[int] = (3, 4, 6, 3), dim: int = 512) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        into = width
        for number, count in enumerate(blocks):
            layer: list[nn.Module] = []
            for block in range(count):
                stride = 2 if number and not block else 1
                layer.append(Bottleneck(into, width << number, stride, projected=not block))
                into = EXPANSION * (width << number)
            self.add_module(f"layer{number + 1}", nn.Sequential(*layer))
        self.layers = len(blocks)
        self.fc = nn.Linear(into, dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = functional.relu(self.bn1(self.conv1(images)))
        maps = functional.max_pool2d(maps, 3, stride=2, padding=1)
        for number in range(self.layers):
            maps = self.get_submodule(f"layer{number + 1}")(maps)
        pooled = maps.flatten(2).clamp(min=SMALLEST).pow(POWER).mean(2).pow(1 / POWER)
        rows: torch.Tensor = self.fc(pooled)
        return rows


class SscdEncoder:
    """Always float32, so that vectors of any two machines may be compared."""

    name = "sscd"
    axes: frozenset[Axis] = frozenset({"copy"})

    def __init__(self, network: SscdNetwork, info: NetworkInfo, device: torch.device) -> None:
        self.info = info
        self.dim = network.fc.out_features
        self._network = network.eval().to(device)
        self._device = device

    @classmethod
    def load(cls, source: str | Path, device: str = "auto") -> Self:
        """Load the released file, a folder that holds it, or a hub id. Raises NetworkError."""
        checkpoint = locate_file(str(source))
        place = device_for(device)
        with reading(checkpoint.name):
            tensors = {name.removeprefix("backbone."): value for name, value in read_tensors(checkpoint).items()}
            network = _shaped_like(tensors)
            network.load_state_dict(tensors, strict=True)
        return cls(network, checkpoint.info(), place)

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return (n, dim) float32 unit rows, one for each (h, w, 3) uint8 image."""
        return encode_in_batches(images, BATCH, self.dim, self._embed)

    @torch.inference_mode()
    def _embed(self, images: Sequence[Pixels]) -> torch.Tensor:
        rows: torch.Tensor = self._network(prepared(images).to(self._device))
        return rows


def prepared(images: Sequence[Pixels]) -> torch.Tensor:
    """(n, 3, 320, 320), bilinear as the authors resize, with ImageNet's mean and deviation taken out."""
    squares = [Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for image in images]
    return normalised([np.asarray(square) for square in squares], IMAGENET_MEAN, IMAGENET_STD)


def _shaped_like(tensors: Mapping[str, torch.Tensor]) -> SscdNetwork:
    """Raises KeyError where a tensor that tells a size is missing."""
    found = {(int(match[1]), int(match[2])) for name in tensors if (match := re.match(r"layer(\d+)\.(\d+)\.", name))}
    layers = sorted({layer for layer, _ in found})
    blocks = [sum(layer == number for layer, _ in found) for number in layers]
    return SscdNetwork(tensors["conv1.weight"].shape[0], blocks, tensors["fc.weight"].shape[0])
