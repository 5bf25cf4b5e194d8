"""CSD (Somepalli et al., "Measuring Style Similarity in Diffusion Models", 2024): a CLIP image tower tuned for style.

The authors keep OpenAI's names for the tower and two matrices beside it, `last_layer_style` and `last_layer_content`;
the first is applied to the tower's class token. Their names are translated to transformers' CLIP, of which everything
else is used as it stands. The released weights are reported not to reach the paper's figures.
"""

import re
from collections.abc import Mapping, Sequence
from math import isqrt
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from models.encoders.clip import ImageTower
from models.loading import device_for, reading, renamed
from models.networks import Axis, NetworkInfo
from models.released import locate_file, read_tensors

HEAD_WIDTH = 64  # of every CLIP image transformer that OpenAI released
STYLE, CONTENT = "last_layer_style", "last_layer_content"
RENAMED = (
    (r"^backbone\.", ""),
    (r"^class_embedding$", "embeddings.class_embedding"),
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^conv1\.", "embeddings.patch_embedding."),
    (r"^ln_pre\.", "pre_layrnorm."),
    (r"^ln_post\.", "post_layernorm."),
    (r"^transformer\.resblocks\.", "encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.attn\.", ".self_attn."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"^", "vision_model."),
)


class CsdEncoder:
    """Always float32, so that vectors of any two machines may be compared."""

    name = "csd"
    axes: frozenset[Axis] = frozenset({"style"})

    def __init__(self, model: Any, info: NetworkInfo, device: torch.device) -> None:
        self.info = info
        self._tower = ImageTower(model, device)
        self.dim = self._tower.dim

    @classmethod
    def load(cls, source: str | Path, device: str = "auto") -> Self:
        """Load the released file, a folder that holds it, or a hub id. Raises NetworkError."""
        checkpoint = locate_file(str(source))
        place = device_for(device)
        with reading(checkpoint.name):
            tensors = read_tensors(checkpoint)
            with torch.device("meta"):  # the weights come from the file: none are drawn
                model = CLIPVisionModelWithProjection(native_config(tensors))
            model.load_state_dict(native_weights(tensors), strict=True, assign=True)
            _fill_positions(model)
        return cls(model, checkpoint.info(), place)

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return (n, dim) float32 unit rows: the style projection of each (h, w, 3) uint8 image."""
        return self._tower.encode(images)


def native_config(tensors: Mapping[str, torch.Tensor]) -> CLIPVisionConfig:
    """Read the sizes off the shapes. Raises KeyError where a tensor is missing."""
    width, _, patch, _ = tensors["backbone.conv1.weight"].shape
    places = tensors["backbone.positional_embedding"].shape[0] - 1
    layers = {match[1] for name in tensors if (match := re.match(r"backbone\.transformer\.resblocks\.(\d+)\.", name))}
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=tensors["backbone.transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        num_hidden_layers=len(layers),
        num_attention_heads=max(1, width // HEAD_WIDTH),
        image_size=isqrt(places) * patch,
        patch_size=patch,
        projection_dim=tensors[STYLE].shape[1],
        hidden_act="quick_gelu",
    )


def native_weights(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the tower's weights and split each in_proj, rows in the order q, k, v; the content projection is left."""
    heads = {name for name in tensors if name in {STYLE, CONTENT} or name.startswith(f"{CONTENT}.")}
    tower = {name: tensor for name, tensor in tensors.items() if name not in heads}
    return {"visual_projection.weight": tensors[STYLE].T.contiguous(), **renamed(tower, RENAMED, fused=".in_proj_")}


def _fill_positions(model: Any) -> None:
    """The one buffer that no checkpoint holds: 0, 1, 2 … for each place."""
    embeddings = model.vision_model.embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions).expand((1, -1))
