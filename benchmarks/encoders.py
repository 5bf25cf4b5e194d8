"""What `encode` costs beyond the bare forward pass, and how much of the machine's arithmetic the pass itself reaches.

    python -m benchmarks.encoders [--shapes atelier tiny] [--images 64] [--rounds 10] [--device auto]

Random weights in the real shapes, through the real encoders; `atelier` is the built-in network with its weights. On a
GPU the default is ViT-L and InternViT-6B in bfloat16, where an encoder's own float32 would ask nothing of the tensor
cores. `encode` takes uint8 images of 512 x 512 and returns vectors on the host; the bare pass runs the same network
on the same batches, prepared beforehand and on the device. They take turns, round by round. The matrix-product rate is
that of two square matrices in the same precision, in the same run.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, InternVLVisionConfig, InternVLVisionModel

from benchmarks.measuring import ratio, show, spread
from models.encoders import clip, internvit
from models.encoders.atelier import BATCH as ATELIER_BATCH
from models.encoders.atelier import AtelierStyle, StyleNetwork
from models.encoders.clip import ClipEncoder
from models.encoders.internvit import InternVitEncoder
from models.encoders.preprocessing import Pixels
from models.loading import device_for
from models.networks import NetworkInfo
from models.registry import BUILT_IN

SIDE = 512
TARGET = 0.9
MATRIX = {"cpu": 2048, "cuda": 8192}
INFO = NetworkInfo("random", "1", "0" * 64, "none")
CLIP_SHAPES = {
    "tiny": CLIPVisionConfig(
        hidden_size=64, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, patch_size=32, image_size=224
    ),
    "vit-l": CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        patch_size=14,
        image_size=224,
        projection_dim=768,
    ),
}
INTERNVIT_SHAPES = {
    "internvit-tiny": InternVLVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, image_size=(56, 56)
    ),
    "internvit-6b": InternVLVisionConfig(
        hidden_size=3200,
        intermediate_size=12800,
        num_hidden_layers=45,
        num_attention_heads=25,
        attention_bias=False,
        use_qk_norm=True,
        norm_type="rms_norm",
        image_size=(448, 448),
        use_mean_pooling=True,
    ),
}


class InPrecision(torch.nn.Module):
    """A vision model that converts what it is given to its own precision, as the encoders hand over float32."""

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype, self.config = model, dtype, model.config

    def forward(self, pixel_values: torch.Tensor) -> Any:
        return self.model(pixel_values=pixel_values.to(self.dtype))


Encode = Callable[[Sequence[Pixels]], NDArray[np.float32]]
Bare = Callable[[torch.Tensor], object]


def built(shape: str, device: torch.device, dtype: torch.dtype) -> tuple[Encode, Bare, tuple[int, ...], int]:
    """Return encode, the bare pass, the shape of one prepared image, and how many an encoder takes at a time."""
    if shape == "atelier":
        network = StyleNetwork()
        encoder = AtelierStyle.load(BUILT_IN / "style_encoder", str(device))
        network = network.eval().to(device)  # the same shape: a pass takes as long whatever the weights
        return (
            encoder.encode,
            network,
            tuple(StyleNetwork.prepared([np.zeros((8, 8, 3), np.uint8)]).shape[1:]),
            ATELIER_BATCH,
        )
    torch.manual_seed(0)
    with device:
        default = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            if shape in CLIP_SHAPES:
                model = InPrecision(CLIPVisionModelWithProjection(CLIP_SHAPES[shape]), dtype)
            else:
                model = InPrecision(InternVLVisionModel(INTERNVIT_SHAPES[shape]), dtype)
        finally:
            torch.set_default_dtype(default)
    if shape in CLIP_SHAPES:
        vit = ClipEncoder(model, INFO, device)
        return vit.encode, lambda batch: model(batch).image_embeds, (3, vit.side, vit.side), clip.BATCH
    intern = InternVitEncoder(model, INFO, device)
    return intern.encode, lambda batch: model(batch).last_hidden_state, (3, intern.side, intern.side), internvit.BATCH


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clocked(work: Callable[[], object], device: torch.device) -> float:
    settle(device)
    begun = time.perf_counter()
    work()
    settle(device)
    return time.perf_counter() - begun


def matrix_rate(device: torch.device, dtype: torch.dtype, rounds: int) -> float:
    """Floating-point operations a second of one square matrix product, at the median."""
    side = MATRIX[device.type]
    left, right = (torch.randn((side, side), device=device, dtype=dtype) for _ in range(2))
    took = [clocked(lambda: left @ right, device) for _ in range(rounds + 2)]
    return 2 * side**3 / float(np.median(took[2:]))


@torch.inference_mode()
def measured(
    shape: str, count: int, rounds: int, device: torch.device, dtype: torch.dtype, rate: float
) -> dict[str, Any]:
    encode, bare, one, size = built(shape, device, dtype)
    images = list(np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8))
    batches = [
        torch.randn((min(size, count - first), *one), device=device, dtype=torch.float32)
        for first in range(0, count, size)
    ]
    with FlopCounterMode(display=False) as counter:
        bare(batches[0][:1])
    whole: list[float] = []
    pass_alone: list[float] = []
    for number in range(rounds + 1):
        took = clocked(lambda: encode(images), device), clocked(lambda: [bare(batch) for batch in batches], device)
        if number:  # the first round warms up
            whole.append(took[0])
            pass_alone.append(took[1])
    throughput = ratio(pass_alone, whole)
    return {
        "shape": shape,
        "images": count,
        "batch": size,
        "encode": spread(whole),
        "bare_forward": spread(pass_alone),
        "encode_throughput_to_bare": throughput,
        "images_per_s": round(count / float(np.median(whole)), 2),
        "gflop_per_image": round(counter.get_total_flops() / 1e9, 2),
        "bare_share_of_matrix_rate": round(counter.get_total_flops() * count / float(np.median(pass_alone)) / rate, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=["atelier", *CLIP_SHAPES, *INTERNVIT_SHAPES])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = device_for(options.device)
    large = device.type == "cuda"
    dtype = torch.bfloat16 if large else torch.float32
    shapes = options.shapes or (["atelier", "vit-l", "internvit-6b"] if large else ["atelier", "tiny"])
    rate = matrix_rate(device, dtype, options.rounds)
    show(
        {
            "device": torch.cuda.get_device_name(device) if large else "cpu",
            "threads": torch.get_num_threads(),
            "dtype": str(dtype).removeprefix("torch."),
            "matrix_rate_tflop_per_s": round(rate / 1e12, 3),
            "target_throughput": TARGET,
            "results": [measured(shape, options.images, options.rounds, device, dtype, rate) for shape in shapes],
        }
    )


if __name__ == "__main__":
    main()
