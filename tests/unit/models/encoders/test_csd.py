"""The tower here is written as its authors publish it, in OpenAI's names, and computed by the formulas of the paper."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from models.encoders.csd import CsdEncoder
from models.encoders.preprocessing import CLIP_MEAN, CLIP_STD, normalised
from models.errors import NetworkError
from models.networks import weights_digest

WIDTH, PATCH, SIDE, LAYERS, DIM = 128, 14, 28, 2, 24  # two heads of 64


def pictures(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(5).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8))


def released() -> dict[str, torch.Tensor]:
    """Names and shapes of the released file, with random numbers and few layers."""
    shapes: dict[str, tuple[int, ...]] = {
        "class_embedding": (WIDTH,),
        "positional_embedding": ((SIDE // PATCH) ** 2 + 1, WIDTH),
        "conv1.weight": (WIDTH, 3, PATCH, PATCH),
        "ln_pre.weight": (WIDTH,),
        "ln_pre.bias": (WIDTH,),
        "ln_post.weight": (WIDTH,),
        "ln_post.bias": (WIDTH,),
    }
    for layer in range(LAYERS):
        block = f"transformer.resblocks.{layer}"
        shapes |= {
            f"{block}.attn.in_proj_weight": (3 * WIDTH, WIDTH),
            f"{block}.attn.in_proj_bias": (3 * WIDTH,),
            f"{block}.attn.out_proj.weight": (WIDTH, WIDTH),
            f"{block}.attn.out_proj.bias": (WIDTH,),
            f"{block}.mlp.c_fc.weight": (4 * WIDTH, WIDTH),
            f"{block}.mlp.c_fc.bias": (4 * WIDTH,),
            f"{block}.mlp.c_proj.weight": (WIDTH, 4 * WIDTH),
            f"{block}.mlp.c_proj.bias": (WIDTH,),
            **{f"{block}.ln_{n}.{part}": (WIDTH,) for n in (1, 2) for part in ("weight", "bias")},
        }
    chance = torch.Generator().manual_seed(3)
    tower = {f"backbone.{name}": torch.randn(shape, generator=chance) * 0.1 for name, shape in shapes.items()}
    return tower | {
        "last_layer_style": torch.randn(WIDTH, DIM, generator=chance),
        "last_layer_content": torch.randn(WIDTH, DIM, generator=chance),
    }


def style(weights: dict[str, torch.Tensor], images: list[np.ndarray]) -> np.ndarray:
    """CLIP's image transformer with torch's own attention, then the style matrix on the class token."""

    def norm(rows: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(
            rows, (WIDTH,), weights[f"backbone.{name}.weight"], weights[f"backbone.{name}.bias"]
        )

    cells = functional.conv2d(normalised(images, CLIP_MEAN, CLIP_STD), weights["backbone.conv1.weight"], stride=PATCH)
    tokens = cells.flatten(2).transpose(1, 2)
    tokens = torch.cat([weights["backbone.class_embedding"].expand(len(images), 1, WIDTH), tokens], 1)
    seen = norm(tokens + weights["backbone.positional_embedding"], "ln_pre")
    for layer in range(LAYERS):
        block = f"backbone.transformer.resblocks.{layer}"
        attention = torch.nn.MultiheadAttention(WIDTH, WIDTH // 64, batch_first=True).eval()
        attention.load_state_dict(
            {name.removeprefix(f"{block}.attn."): value for name, value in weights.items() if f"{block}.attn." in name}
        )
        rows = norm(seen, f"transformer.resblocks.{layer}.ln_1")
        seen = seen + attention(rows, rows, rows, need_weights=False)[0]
        rows = norm(seen, f"transformer.resblocks.{layer}.ln_2")
        wide = functional.linear(rows, weights[f"{block}.mlp.c_fc.weight"], weights[f"{block}.mlp.c_fc.bias"])
        wide = wide * torch.sigmoid(1.702 * wide)
        seen = seen + functional.linear(
            wide, weights[f"{block}.mlp.c_proj.weight"], weights[f"{block}.mlp.c_proj.bias"]
        )
    rows = norm(seen[:, 0], "ln_post") @ weights["last_layer_style"]
    return functional.normalize(rows, dim=1).detach().numpy()


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return released()


def test_the_style_of_a_picture_is_the_one_the_paper_computes(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(weights, tmp_path / "model.safetensors")
    encoder = CsdEncoder.load(tmp_path, "cpu")
    rows = encoder.encode(pictures(3))
    assert rows.shape == (3, encoder.dim) == (3, DIM)
    assert rows.dtype == np.float32
    assert np.allclose(rows, style(weights, pictures(3)), atol=1e-5)
    assert (encoder.name, encoder.axes) == ("csd", {"style"})
    assert encoder.info.weights_sha256 == weights_digest(tmp_path / "model.safetensors")


def test_a_training_checkpoint_with_its_wrappings_gives_the_same_rows(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    save_file(weights, tmp_path / "model.safetensors")
    wrapped = {"module." + name: value.half() for name, value in weights.items()}
    torch.save({"model_state_dict": wrapped, "epoch": 3}, tmp_path / "checkpoint.pth")
    plain, pickled = (CsdEncoder.load(tmp_path / name, "cpu") for name in ("model.safetensors", "checkpoint.pth"))
    assert np.allclose(plain.encode(pictures(2)), pickled.encode(pictures(2)), atol=0.01)


@pytest.mark.parametrize("spoil", ["missing weight", "unknown weight", "no style matrix", "other shape"])
def test_a_file_of_another_network_is_refused(weights: dict[str, torch.Tensor], tmp_path: Path, spoil: str) -> None:
    changed = dict(weights)
    if spoil == "missing weight":
        changed.pop("backbone.ln_post.bias")
    elif spoil == "unknown weight":
        changed["backbone.more"] = torch.zeros(1)
    elif spoil == "no style matrix":
        changed.pop("last_layer_style")
    else:
        changed["backbone.ln_pre.bias"] = torch.zeros(WIDTH + 1)
    save_file(changed, tmp_path / "model.safetensors")
    with pytest.raises(NetworkError) as caught:
        CsdEncoder.load(tmp_path, "cpu")
    assert caught.value.code == "network_unreadable"
