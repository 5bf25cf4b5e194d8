"""Train the atelier's generator from scratch, on the works whose studios allow it, and save it as a FluxPipeline.

    python -m models.atelier.train --out DIR [--work .training]

FLUX's own architecture through diffusers' classes (Black Forest Labs 2024), a few million weights instead of twelve
billion: an autoencoder of factor 8, two tiny text encoders trained along, a rectified-flow transformer (Liu et al.
2022; logit-normal times: Esser et al. 2024). 128 px. Two CPU cores that multiply in bfloat16 take an hour and a
half, others several; a GPU is used where there is one.

A run that is cut off goes on from `--work`. Seeds are fixed, which repeats a run on one machine, not across machines.
"""

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from models.atelier.autoencoder import LATENT, encode_all, finish_decoder, train_autoencoder
from models.atelier.collection import SUBJECTS, caption, draw
from models.atelier.critic import train_against_critic
from models.atelier.studios import STUDIOS
from models.atelier.training_run import DEVICE, Run, half
from models.images import pixel_sha256
from models.learned_from import LEARNED_FROM

SIDE = 128
VARIANTS = 48
TEXT = 128  # width of both text encoders
T5_TOKENS = 12  # longest prompt, in words; the pipeline is called with this max_sequence_length
HEADS, HEAD = 4, 64
IMAGINED, TOGETHER = 960, 48  # pictures that the decoder learns against the critic from, and how many are made at once
SAMPLED = 500  # steps of the flow between two small sheets of samples
CALL = {
    "name": "atelier",
    "licence": "Apache-2.0",
    "height": SIDE,
    "width": SIDE,
    "num_inference_steps": 16,
    "guidance_scale": 0.0,
    "true_cfg_scale": 2.0,
    "negative_prompt": "",
    "max_sequence_length": T5_TOKENS,
}


# ---- what is learned from ------------------------------------------------------------------------------------------


def allowed() -> list[str]:
    """The studios whose works may be learned from."""
    return [studio.name for studio in STUDIOS if studio.train]


def works(cache: Path, variants: int) -> tuple[NDArray[np.uint8], list[tuple[str, str]]]:
    """All training works (n, SIDE, SIDE, 3) uint8, with (studio, subject) of each; drawn once and kept in `cache`."""
    names = [(studio, subject) for studio in allowed() for subject in SUBJECTS for _ in range(variants)]
    file = cache / f"works-{SIDE}-{variants}.npy"
    if not file.exists():
        drawn = [draw(studio, subject, variant, SIDE) for studio in allowed() for subject in SUBJECTS
                 for variant in range(variants)]  # fmt: skip
        np.save(file, np.stack(drawn))
    return np.load(file), names


def wording(studio: str, subject: str, chance: random.Random) -> str:
    """A prompt for a work: mostly its caption, sometimes shorter, sometimes nothing (which makes guidance possible)."""
    return chance.choices(
        [caption(studio, subject), f"{subject} by {studio}", f"a {subject}", studio, ""], [6, 2, 0.6, 0.4, 1]
    )[0]


# ---- the networks --------------------------------------------------------------------------------------------------


def new_transformer() -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        in_channels=4 * LATENT,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=HEAD,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT,
        pooled_projection_dim=TEXT,
        guidance_embeds=False,
        axes_dims_rope=(16, 24, 24),
    )


def new_text() -> tuple[CLIPTokenizer, CLIPTextModel, T5TokenizerFast, T5EncoderModel]:
    """Tokenizers whose tokens are the collection's words, with letters for all others; encoders of one layer."""
    words = sorted({word for studio in STUDIOS for subject in SUBJECTS for word in
                    f"{caption(studio.name, subject)} by".lower().split()})  # fmt: skip
    letters = [chr(code) for code in range(33, 127)]
    merges: list[tuple[str, str]] = []
    for word in words:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            if (parts[0], parts[1]) not in merges:
                merges.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    pieces += [merged for pair in merges if (merged := "".join(pair)) not in pieces]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    clip_tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=32)
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary), hidden_size=TEXT, intermediate_size=2 * TEXT, num_hidden_layers=1,
            num_attention_heads=4, max_position_embeddings=32, projection_dim=TEXT, bos_token_id=0, eos_token_id=1,
            pad_token_id=1,
        )
    )  # fmt: skip
    cased = sorted({word for studio in STUDIOS for subject in SUBJECTS for word in
                    f"{caption(studio.name, subject)} by".split()})  # fmt: skip
    t5_pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("▁", -4.0)]
    t5_pieces += [(f"▁{word}", -1.0) for word in cased] + [(letter, -6.0) for letter in letters]
    t5_tokenizer = T5TokenizerFast(vocab=t5_pieces, extra_ids=0, model_max_length=T5_TOKENS)
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=len(t5_pieces), d_model=TEXT, d_kv=32, d_ff=2 * TEXT, num_layers=1, num_heads=4,
            feed_forward_proj="gated-gelu", dropout_rate=0.0, pad_token_id=0, eos_token_id=1,
        )
    )  # fmt: skip
    return clip_tokenizer, clip, t5_tokenizer, t5


# ---- training ------------------------------------------------------------------------------------------------------


def train_flow(
    pipeline: FluxPipeline, latents: torch.Tensor, names: list[tuple[str, str]], work: Path, steps: int,
    *, compiled: bool = False, batch: int = 48,
) -> None:  # fmt: skip
    """Rectified flow in latent space: predict noise - latents at a time t. The text encoders are trained along."""
    torch.manual_seed(2)
    modules = [pipeline.transformer, pipeline.text_encoder, pipeline.text_encoder_2]
    chance = random.Random(2)
    run = Run("flow", work, modules, 1.5e-3, steps)
    places = pipeline._prepare_latent_image_ids(1, SIDE // 16, SIDE // 16, DEVICE, torch.float32)
    transformer = torch.compile(pipeline.transformer) if compiled else pipeline.transformer
    for step in run:
        chosen = [chance.randrange(len(names)) for _ in range(batch)]
        clean = latents[chosen]
        pooled, words = embed(pipeline, [wording(*names[at], chance) for at in chosen])
        noise = torch.randn_like(clean)
        t = torch.sigmoid(torch.randn(batch, device=DEVICE) + 0.3)
        with half():
            loss = flow_loss(transformer, clean, noise, t, pooled, words, places)
        run.learn(loss)
        if (step + 1) % SAMPLED == 0:
            sample_sheet(pipeline, work / f"samples-{step + 1}.png", studios=5, subjects=5)


def flow_loss(
    transformer: Callable[..., Any],
    clean: torch.Tensor,
    noise: torch.Tensor,
    t: torch.Tensor,
    pooled: torch.Tensor,
    words: torch.Tensor,
    places: torch.Tensor,
) -> torch.Tensor:
    """Mean square error of the velocity at times `t` (n,) on the way from `clean` to `noise` (n, tokens, channels)."""
    predicted = transformer(
        hidden_states=(1 - t)[:, None, None] * clean + t[:, None, None] * noise,
        timestep=t,
        guidance=None,
        pooled_projections=pooled,
        encoder_hidden_states=words,
        txt_ids=torch.zeros(words.shape[1], 3, device=words.device),
        img_ids=places,
        return_dict=False,
    )[0]
    return functional.mse_loss(predicted.float(), noise - clean)


def embed(pipeline: FluxPipeline, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the pipeline makes of prompts, with gradients and its own padding: (n, TEXT) and (n, T5_TOKENS, TEXT)."""
    unique = sorted(set(prompts))
    at = [unique.index(prompt) for prompt in prompts]
    clip_ids = pipeline.tokenizer(unique, padding="max_length", max_length=pipeline.tokenizer_max_length,
                                  truncation=True, return_tensors="pt").input_ids  # fmt: skip
    t5_ids = pipeline.tokenizer_2(unique, padding="max_length", max_length=T5_TOKENS, truncation=True,
                                  return_tensors="pt").input_ids  # fmt: skip
    pooled = pipeline.text_encoder(clip_ids.to(DEVICE)).pooler_output
    return pooled[at], pipeline.text_encoder_2(t5_ids.to(DEVICE))[0][at]


@torch.no_grad()
def ask(pipeline: FluxPipeline, prompts: list[str], **how: Any) -> Any:
    """Whatever the pipeline makes of prompts, called as it will be."""
    call: dict[str, Any] = {key: CALL[key] for key in CALL if key not in {"name", "licence", "negative_prompt"}}
    with half():
        return pipeline(prompt=prompts, negative_prompt=[""] * len(prompts), **call, **how).images


def sample_sheet(pipeline: FluxPipeline, file: Path, studios: int | None = None, subjects: int | None = None) -> None:
    """The first `studios` down and `subjects` across, or all, one sample each."""
    rows = []
    for studio in allowed()[:studios]:
        prompts = [caption(studio, subject) for subject in SUBJECTS[:subjects]]
        made = ask(pipeline, prompts, generator=torch.Generator().manual_seed(0), output_type="np")
        rows.append(np.concatenate(list((made * 255).round().astype(np.uint8)), 1))
    Image.fromarray(np.concatenate(rows)).save(file)


def imagine(pipeline: FluxPipeline, names: list[tuple[str, str]], count: int) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Latents of `count` pictures, as the decoder takes them (m, LATENT, 16, 16), and of which `names` each is."""
    of = np.random.default_rng(6).choice(len(names), count, replace=count > len(names))
    torch.manual_seed(6)
    made = []
    for at in range(0, count, TOGETHER):
        packed = ask(pipeline, [caption(*names[number]) for number in of[at : at + TOGETHER]], output_type="latent")
        made.append(pipeline._unpack_latents(packed, SIDE, SIDE, pipeline.vae_scale_factor))
    config = pipeline.vae.config
    return torch.cat(made) / config.scaling_factor + config.shift_factor, of


def train(
    out: Path, work: Path, *, variants: int, autoencoder_steps: int, decoder_steps: int, flow_steps: int,
    critic_steps: int, compiled: bool = False,
) -> None:  # fmt: skip
    """The whole recipe: draw, train, save to `out` in half precision, and a sheet of samples to `work`."""
    work.mkdir(parents=True, exist_ok=True)
    images, names = works(work, variants)
    learned = sorted({pixel_sha256(image).hex() for image in images})
    images, names = np.concatenate([images, images[:, :, ::-1]]), names * 2  # a mirrored work is in the same manner
    autoencoder = train_autoencoder(images, work, autoencoder_steps)
    latents = encode_all(autoencoder, images)
    finish_decoder(autoencoder, images, names, work, decoder_steps)
    torch.manual_seed(3)
    clip_tokenizer, clip, t5_tokenizer, t5 = new_text()
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=2.0, use_dynamic_shifting=False),
        vae=autoencoder,
        text_encoder=clip.to(DEVICE),
        tokenizer=clip_tokenizer,
        text_encoder_2=t5.to(DEVICE),
        tokenizer_2=t5_tokenizer,
        transformer=new_transformer().to(DEVICE),
    )
    pipeline.set_progress_bar_config(disable=True)
    train_flow(pipeline, latents, names, work, flow_steps, compiled=compiled)
    for module in (pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2, pipeline.transformer):
        module.eval()
    _, studios = np.unique([studio for studio, _ in names], return_inverse=True)
    imagined, of = imagine(pipeline, names, IMAGINED)
    train_against_critic(autoencoder, images, studios, imagined, studios[of], work, critic_steps)
    sample_sheet(pipeline, work / "samples.png")
    pipeline.to(dtype=torch.float16).save_pretrained(out)
    captions = [caption(studio, subject) for studio in allowed() for subject in SUBJECTS]
    vocabulary = sorted({"by", *(word for each in captions for word in each.split())})
    (out / "lawful.json").write_text(json.dumps({**CALL, "vocabulary": vocabulary}, indent=2) + "\n")
    (out / LEARNED_FROM).write_text("".join(f"{digest}\n" for digest in learned))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the pipeline goes")
    parser.add_argument("--work", type=Path, default=Path(".training"), help="works, states and samples")
    parser.add_argument("--variants", type=int, default=VARIANTS, help="works per studio and subject")
    parser.add_argument("--autoencoder-steps", type=int, default=4500)
    parser.add_argument("--decoder-steps", type=int, default=2000)
    parser.add_argument("--flow-steps", type=int, default=16000)
    parser.add_argument("--critic-steps", type=int, default=2500)
    parser.add_argument("--compile", action="store_true", help="a third faster, after a minute; needs a C++ compiler")
    options = parser.parse_args()
    train(
        options.out,
        options.work,
        variants=options.variants,
        autoencoder_steps=options.autoencoder_steps,
        decoder_steps=options.decoder_steps,
        flow_steps=options.flow_steps,
        critic_steps=options.critic_steps,
        compiled=options.compile,
    )


if __name__ == "__main__":
    main()
