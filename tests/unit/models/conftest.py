"""Small networks with random weights, saved as the real ones are: the loading code cannot tell them from real ones."""

from pathlib import Path

import pytest

WORDS = ["a", "small", "red", "house", "blue", "sea"]


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FluxPipeline of a few thousand weights."""
    import torch
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

    torch.manual_seed(0)
    pieces = ["<|startoftext|>", "<|endoftext|>", *(f"{word}</w>" for word in WORDS)]
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(pieces),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            projection_dim=16,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -1.0) for word in WORDS)]
    long_text = T5EncoderModel(
        T5Config(vocab_size=len(words), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0)
    )
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=4,
            shift_factor=0.25,
            scaling_factor=1.5,
            use_quant_conv=False,
            use_post_quant_conv=False,
            sample_size=32,
        ),
        text_encoder=text,
        tokenizer=CLIPTokenizer(
            vocab={piece: number for number, piece in enumerate(pieces)}, merges=[], model_max_length=16
        ),
        text_encoder_2=long_text,
        tokenizer_2=T5TokenizerFast(vocab=words, extra_ids=0),
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            guidance_embeds=False,
            axes_dims_rope=(4, 2, 2),
        ),
    )
    folder = tmp_path_factory.mktemp("networks") / "small-flux"
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Threads cost small networks more than they give, and starve the tests that run beside."""
    import torch

    torch.set_num_threads(1)
