import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import InternVLVisionConfig, InternVLVisionModel

from models.encoders.internvit import InternVitEncoder, native_config
from models.errors import NetworkError

SIZE, LAYERS, HEADS, IMAGE, PATCH = 32, 2, 4, 28, 14

# The two members of the family: 300M has LayerNorm and a bias on qkv, 6B RMSNorm, its own norm of q and k, and no bias.
FAMILY = {
    "300M": {"norm_type": "layer_norm", "qkv_bias": True, "qk_normalization": False},
    "6B": {"norm_type": "rms_norm", "qkv_bias": False, "qk_normalization": True},
}


def original_config(kind: str) -> dict[str, object]:
    return {
        "architectures": ["InternVisionModel"],
        "auto_map": {"AutoModel": "modeling_intern_vit.InternVisionModel"},
        "model_type": "intern_vit_6b",
        "hidden_size": SIZE,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "image_size": IMAGE,
        "patch_size": PATCH,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
    } | FAMILY[kind]


def original_weights(kind: str) -> dict[str, torch.Tensor]:
    """Random weights under the authors' own names."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.2

    weights = {
        "embeddings.class_embedding": draw(1, 1, SIZE),
        "embeddings.position_embedding": draw(1, 1 + (IMAGE // PATCH) ** 2, SIZE),
        "embeddings.patch_embedding.weight": draw(SIZE, 3, PATCH, PATCH),
        "embeddings.patch_embedding.bias": draw(SIZE),
    }
    for layer in range(LAYERS):
        at = f"encoder.layers.{layer}."
        weights |= {
            at + "ls1": draw(SIZE),
            at + "ls2": draw(SIZE),
            at + "attn.qkv.weight": draw(3 * SIZE, SIZE),
            at + "attn.proj.weight": draw(SIZE, SIZE),
            at + "attn.proj.bias": draw(SIZE),
            at + "mlp.fc1.weight": draw(64, SIZE),
            at + "mlp.fc1.bias": draw(64),
            at + "mlp.fc2.weight": draw(SIZE, 64),
            at + "mlp.fc2.bias": draw(SIZE),
            at + "norm1.weight": 1 + draw(SIZE),
            at + "norm2.weight": 1 + draw(SIZE),
        }
        if kind == "300M":
            weights |= {at + f"norm{n}.bias": draw(SIZE) for n in (1, 2)} | {at + "attn.qkv.bias": draw(3 * SIZE)}
        else:
            weights |= {at + f"attn.{part}_norm.weight": 1 + draw(SIZE) for part in "qk"}
    return weights


def native_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The map once more, name by name, so that a slip in one of the two shows."""
    native = {
        "embeddings.cls_token": weights["embeddings.class_embedding"],
        "embeddings.position_embeddings": weights["embeddings.position_embedding"],
        "embeddings.patch_embeddings.projection.weight": weights["embeddings.patch_embedding.weight"],
        "embeddings.patch_embeddings.projection.bias": weights["embeddings.patch_embedding.bias"],
    }
    for layer in range(LAYERS):
        old, new = f"encoder.layers.{layer}.", f"encoder.layer.{layer}."
        names = {
            "ls1": "lambda_1",
            "ls2": "lambda_2",
            "attn.proj.weight": "attention.projection_layer.weight",
            "attn.proj.bias": "attention.projection_layer.bias",
            "attn.q_norm.weight": "attention.q_norm.weight",
            "attn.k_norm.weight": "attention.k_norm.weight",
            "norm1.weight": "layernorm_before.weight",
            "norm1.bias": "layernorm_before.bias",
            "norm2.weight": "layernorm_after.weight",
            "norm2.bias": "layernorm_after.bias",
        } | {name: name for name in ("mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias")}
        native |= {new + name: weights[old + was] for was, name in names.items() if old + was in weights}
        for kind in ("weight", "bias"):
            if (qkv := weights.get(f"{old}attn.qkv.{kind}")) is not None:
                for number, part in enumerate("qkv"):
                    native[f"{new}attention.{part}_proj.{kind}"] = qkv[number * SIZE : (number + 1) * SIZE].clone()
    return native


def original_forward(kind: str, weights: dict[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """The authors' network, written out from its paper and weights; the class token after the last layer."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        if f"{name}.bias" in weights:
            return torch.nn.functional.layer_norm(x, (SIZE,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * weights[f"{name}.weight"]

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return torch.nn.functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    patches = torch.nn.functional.conv2d(
        pixels, weights["embeddings.patch_embedding.weight"], weights["embeddings.patch_embedding.bias"], stride=PATCH
    )
    x = torch.cat([weights["embeddings.class_embedding"].expand(len(pixels), -1, -1), patches.flatten(2).mT], dim=1)
    x = x + weights["embeddings.position_embedding"]
    for layer in range(LAYERS):
        at = f"encoder.layers.{layer}."
        q, k, v = linear(norm(x, at + "norm1"), at + "attn.qkv").chunk(3, dim=-1)
        if kind == "6B":
            q, k = norm(q, at + "attn.q_norm"), norm(k, at + "attn.k_norm")
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (q, k, v))
        mixed = torch.softmax(q @ k.mT * (SIZE // HEADS) ** -0.5, dim=-1) @ v
        x = x + weights[at + "ls1"] * linear(mixed.transpose(1, 2).flatten(2), at + "attn.proj")
        hidden = torch.nn.functional.gelu(linear(norm(x, at + "norm2"), at + "mlp.fc1"))
        x = x + weights[at + "ls2"] * linear(hidden, at + "mlp.fc2")
    return x[:, 0]


def saved_original(folder: Path, kind: str, shards: int = 1) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(original_config(kind)))
    weights = original_weights(kind)
    names = sorted(weights)
    for shard in range(shards):
        part = {name: weights[name] for name in names[shard::shards]}
        save_file(part, folder / f"model-{shard + 1:05}-of-{shards:05}.safetensors", {"format": "pt"})
    return folder


def pictures(count: int = 3) -> list[np.ndarray]:
    return list(np.random.default_rng(5).integers(0, 256, (count, 28, 28, 3), np.uint8))


def native_model(kind: str) -> InternVLVisionModel:
    said = original_config(kind)
    model = InternVLVisionModel(
        InternVLVisionConfig(
            hidden_size=SIZE,
            intermediate_size=64,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            image_size=[IMAGE, IMAGE],
            patch_size=[PATCH, PATCH],
            norm_type=said["norm_type"],
            attention_bias=said["qkv_bias"],
            use_qk_norm=said["qk_normalization"],
        )
    )
    model.load_state_dict(native_names(original_weights(kind)), strict=True)
    return model


@pytest.mark.parametrize("kind", FAMILY)
@pytest.mark.parametrize("shards", [1, 3])
def test_an_original_checkpoint_gives_the_bits_of_the_native_one(tmp_path: Path, kind: str, shards: int) -> None:
    native_model(kind).save_pretrained(tmp_path / "native")
    original = InternVitEncoder.load(saved_original(tmp_path / "original", kind, shards), "cpu")
    native = InternVitEncoder.load(tmp_path / "native", "cpu")
    assert (original.encode(pictures()) == native.encode(pictures())).all()
    assert original.dim == native.dim == SIZE
    assert original.side == native.side == IMAGE


@pytest.mark.parametrize("kind", FAMILY)
def test_the_network_is_the_one_its_authors_describe(tmp_path: Path, kind: str) -> None:
    encoder = InternVitEncoder.load(saved_original(tmp_path / "original", kind), "cpu")
    scaled = (np.stack(pictures()) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    pixels = torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(original_forward(kind, original_weights(kind), pixels), dim=-1)
    assert np.allclose(encoder.encode(pictures()), expected.numpy(), atol=1e-5)


def test_rows_have_length_one_and_any_picture_size_is_taken(tmp_path: Path) -> None:
    encoder = InternVitEncoder.load(saved_original(tmp_path / "small-vit", "300M"), "cpu")
    images = [*pictures(9), np.zeros((90, 41, 3), np.uint8)]
    rows = encoder.encode(images)
    assert rows.shape == (10, SIZE)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert encoder.encode([]).shape == (0, SIZE)
    assert (encoder.name, encoder.info.name) == ("internvit", "small-vit")


@pytest.mark.parametrize("spoil", ["a weight too few", "a weight too many", "a field too few", "another epsilon"])
def test_a_checkpoint_that_does_not_fit_its_config_is_refused(tmp_path: Path, spoil: str) -> None:
    folder = saved_original(tmp_path / "original", "6B")
    weights, config = original_weights("6B"), original_config("6B")
    if spoil == "a weight too few":
        del weights["encoder.layers.1.attn.q_norm.weight"]
    elif spoil == "a weight too many":
        weights["encoder.layers.2.ls1"] = torch.zeros(SIZE)
    elif spoil == "a field too few":
        del config["qk_normalization"]
    else:
        config["layer_norm_eps"] = 1e-5
    save_file(weights, folder / "model-00001-of-00001.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(NetworkError) as caught:
        InternVitEncoder.load(folder, "cpu")
    assert caught.value.code == "network_unreadable"


def test_the_real_sizes_have_the_published_numbers_of_weights() -> None:
    """304 M and 5,540 M, counted without drawing them. From the authors' model cards."""
    published = {
        "300M": (
            {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
            304,
        ),
        "6B": (
            {"hidden_size": 3200, "intermediate_size": 12800, "num_hidden_layers": 45, "num_attention_heads": 25},
            5540,
        ),
    }
    for kind, (numbers, millions) in published.items():
        config = native_config(original_config(kind) | {"image_size": 448, "patch_size": 14} | numbers)
        with torch.device("meta"):
            count = sum(weight.numel() for weight in InternVLVisionModel(config).parameters())
        assert round(count / 1e6) == pytest.approx(millions, rel=0.001)
