"""InternViT (Chen et al., InternVL, 2024), 300M or 6B, from its native form or its authors' original checkpoints."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import InternVLVisionConfig, InternVLVisionModel

from models.encoders.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    encode_in_batches,
    normalised,
    shorter_side_and_crop,
)
from models.loading import device_for, load_whole, locate, reading, renamed
from models.networks import Axis, NetworkInfo

BATCH = 8
ORIGINAL = "intern_vit_6b"  # the authors' model_type, at every size
QK_NORM_EPS = 1e-6
RENAMED = (
    (r"^embeddings\.class_embedding$", "embeddings.cls_token"),
    (r"^embeddings\.position_embedding$", "embeddings.position_embeddings"),
    (r"^embeddings\.patch_embedding\.", "embeddings.patch_embeddings.projection."),
    (r"^encoder\.layers\.", "encoder.layer."),
    (r"\.ls([12])$", r".lambda_\1"),
    (r"\.attn\.proj\.", ".attention.projection_layer."),
    (r"\.attn\.", ".attention."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
)


class InternVitEncoder:
    """Always float32, so that vectors of any two machines may be compared (the 6B model then takes 24 GB)."""

    name = "internvit"
    axes: frozenset[Axis] = frozenset({"content"})

    def __init__(self, model: Any, info: NetworkInfo, device: torch.device) -> None:
        self.info = info
        self.dim = int(model.config.hidden_size)
        self.side = int(model.config.image_size[0])
        self._model = model.eval().to(device)
        self._device = device

    @classmethod
    def load(cls, source: str | Path, device: str = "auto") -> Self:
        """Load a folder or hub id. No code of the checkpoint is run. Raises NetworkError."""
        checkpoint = locate(str(source))
        place = device_for(device)
        folder = checkpoint.folder
        with reading(checkpoint.name):
            config = json.loads((folder / "config.json").read_bytes())
            original = config.get("model_type") == ORIGINAL
            model = _from_original(folder, config) if original else load_whole(InternVLVisionModel, folder)
        return cls(model, checkpoint.info(), place)

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return (n, dim) float32 unit rows: the last layer's class token of each (h, w, 3) uint8 image."""
        return encode_in_batches(images, BATCH, self.dim, self._embed)

    @torch.inference_mode()
    def _embed(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        batch = normalised([shorter_side_and_crop(image, self.side) for image in images], IMAGENET_MEAN, IMAGENET_STD)
        hidden: torch.Tensor = self._model(pixel_values=batch.to(self._device)).last_hidden_state
        return hidden[:, 0]


def native_config(original: dict[str, Any]) -> InternVLVisionConfig:
    """Translate the authors' config.json; the 6B model has its own normalisation of q and k and no bias on qkv.

    Raises KeyError for a missing field and ValueError for an epsilon that the native form cannot express.
    """
    if original["qk_normalization"] and original["layer_norm_eps"] != QK_NORM_EPS:
        raise ValueError(f"layer_norm_eps must be {QK_NORM_EPS} with qk_normalization")
    return InternVLVisionConfig(
        hidden_size=original["hidden_size"],
        intermediate_size=original["intermediate_size"],
        num_hidden_layers=original["num_hidden_layers"],
        num_attention_heads=original["num_attention_heads"],
        attention_bias=original["qkv_bias"],
        use_qk_norm=original["qk_normalization"],
        hidden_act=original["hidden_act"],
        norm_type=original["norm_type"],
        layer_norm_eps=original["layer_norm_eps"],
        image_size=original["image_size"],
        patch_size=original["patch_size"],
        use_mean_pooling=True,  # here: no norm after the last layer, as in the original
    )


def _from_original(folder: Path, config: dict[str, Any]) -> Any:
    original: dict[str, torch.Tensor] = {}
    for shard in sorted(folder.glob("*.safetensors")):
        original |= load_file(shard)
    with torch.device("meta"):  # the weights come from the file; drawing six billion of them first would take minutes
        model = InternVLVisionModel(native_config(config))
    weights = {name: tensor.float() for name, tensor in renamed(original, RENAMED, fused=".qkv.").items()}
    model.load_state_dict(weights, strict=True, assign=True)
    return model
