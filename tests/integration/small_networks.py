"""Networks of the real architectures with few random weights, saved as checkpoints are: for whole-way tests."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

WIDTH = 32


def save_open(folder: Path) -> dict[str, str]:
    """Every network of the `open` profile, and a generator beside them: setting → folder."""
    return {
        "generator": str(save_flux(folder / "flux")),
        "clip": str(save_clip(folder / "clip")),
        "dinov2": str(save_dinov2(folder / "dinov2")),
    }


def save_dinov2(folder: Path) -> Path:
    """A DINOv2 tower."""
    torch.manual_seed(3)
    config = Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=4, mlp_ratio=2, image_size=42, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    return folder


def save_clip(folder: Path) -> Path:
    """A CLIP vision tower; pictures that differ get vectors that differ."""
    torch.manual_seed(1)
    config = CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=1, num_attention_heads=4,
        image_size=224, patch_size=32, projection_dim=WIDTH,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


def save_flux(folder: Path) -> Path:
    """A FLUX pipeline at 64 px."""
    torch.manual_seed(2)
    letters = "abcdefghijklmnopqrstuvwxyz"
    text = CLIPTextConfig(
        hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=1, num_attention_heads=4,
        vocab_size=64, max_position_embeddings=77, projection_dim=WIDTH, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    words = {token: number for number, token in enumerate(tokens)}
    t5 = T5Config(
        vocab_size=64, d_model=WIDTH, d_kv=8, d_ff=2 * WIDTH, num_layers=1, num_heads=4,
        feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("▁", -2.0), *((letter, -3.0) for letter in letters)]
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(16, 16), norm_num_groups=4, layers_per_block=1, latent_channels=4,
            sample_size=64, shift_factor=0.0, scaling_factor=1.0, use_quant_conv=False, use_post_quant_conv=False,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer(vocab=words, merges=[], model_max_length=77),
        text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=T5TokenizerFast(vocab=pieces, extra_ids=0),
        transformer=FluxTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, axes_dims_rope=(4, 6, 6),
        ),
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder
