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
import math
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from models.atelier.collection import SUBJECTS, caption, draw
from models.atelier.studios import STUDIOS
from models.images import pixel_sha256
from models.learned_from import LEARNED_FROM

SIDE = 128
CROP = 64  # what the autoencoder is trained on: it has no attention, so parts are as good as wholes, and cheaper
VARIANTS = 48
TEXT = 128  # width of both text encoders
T5_TOKENS = 12  # longest prompt, in words; the pipeline is called with this max_sequence_length
HEADS, HEAD = 4, 64
LATENT = 16
SAMPLED = 500  # steps of the flow between two small sheets of samples
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CALL = {
    "name": "atelier",
    "licence": "Apache-2.0",
    "height": SIDE,
    "width": SIDE,
    "num_inference_steps": 16,
    "guidance_scale": 0.0,
    "true_cfg_scale": 3.0,
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


def crop(image: NDArray[np.uint8], chance: np.random.Generator) -> NDArray[np.uint8]:
    """A random part of CROP x CROP pixels."""
    top, left = chance.integers(SIDE - CROP + 1, size=2)
    return image[top : top + CROP, left : left + CROP]


def tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    """(n, h, w, 3) uint8 → (n, 3, h, w) float32 in -1…1."""
    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    return scaled.to(DEVICE, memory_format=torch.channels_last)


# ---- the networks --------------------------------------------------------------------------------------------------


def new_autoencoder() -> AutoencoderKL:
    """128 px → 16 x 16 latents of 16 channels, FLUX's own; no attention, so that it runs at any size."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 128, 128),
        layers_per_block=1,
        latent_channels=LATENT,
        norm_num_groups=8,
        sample_size=SIDE,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        shift_factor=0.0,
        scaling_factor=1.0,
    )


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


@contextmanager
def half() -> Iterator[None]:
    """Multiplications in bfloat16 where the processor has units for them, several times as fast; else in float32."""
    with ExitStack() as stack:
        if DEVICE == "cuda" or torch.cpu.get_capabilities().get("amx_bf16"):
            stack.enter_context(torch.autocast(DEVICE, torch.bfloat16))
        if DEVICE == "cpu":  # so few tokens are attended to faster by plain products than by the fused kernel
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


# ---- training ------------------------------------------------------------------------------------------------------


class Run:
    """One stage of training: optimizer with a cosine schedule, averaged weights, log, and a state to go on from."""

    def __init__(self, name: str, work: Path, modules: list[torch.nn.Module], rate: float, steps: int) -> None:
        self.name, self.steps, self._rate, self._file = name, steps, rate, work / f"{name}.pt"
        self._parameters = [parameter for module in modules for parameter in module.parameters()]
        self._averages = [parameter.detach().clone() for parameter in self._parameters]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        self.done, self._mean, self._begun = 0, math.nan, time.monotonic()
        if self._file.exists():
            state = torch.load(self._file, map_location=DEVICE, weights_only=True)
            self.done = state["done"]
            self._optimizer.load_state_dict(state["optimizer"])
            for own, saved in zip(self._parameters, state["parameters"], strict=True):
                own.data.copy_(saved)
            self._averages = [saved.to(DEVICE) for saved in state["averages"]]

    def __iter__(self) -> Iterator[int]:
        for step in range(self.done, self.steps):
            yield step
            self.done = step + 1
            if self.done % 200 == 0:
                self._save()
        self._save()
        for own, average in zip(self._parameters, self._averages, strict=True):
            own.data.copy_(average)

    def learn(self, loss: torch.Tensor) -> None:
        warm = min(1.0, (self.done + 1) / 50)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * warm * (0.02 + 0.98 * (1 + math.cos(math.pi * self.done / self.steps)) / 2)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        keep = min(0.999, (1 + self.done) / (10 + self.done))
        torch._foreach_lerp_(self._averages, [parameter.detach() for parameter in self._parameters], 1 - keep)
        self._mean = loss.item() if math.isnan(self._mean) else 0.98 * self._mean + 0.02 * loss.item()
        if self.done % 50 == 0:
            print(f"{self.name} {self.done}/{self.steps} loss {self._mean:.4f} {time.monotonic() - self._begun:.0f} s",
                  flush=True)  # fmt: skip

    def _save(self) -> None:
        fresh = self._file.with_suffix(".new")
        torch.save(
            {
                "done": self.done,
                "optimizer": self._optimizer.state_dict(),
                "parameters": [parameter.detach() for parameter in self._parameters],
                "averages": self._averages,
            },
            fresh,
        )
        fresh.replace(self._file)


def train_autoencoder(images: NDArray[np.uint8], work: Path, steps: int, batch: int = 16) -> AutoencoderKL:
    """L1 on pixels and on their differences, a pull towards small latents, a little noise on them for robustness."""
    torch.manual_seed(1)
    autoencoder = new_autoencoder().to(DEVICE, memory_format=torch.channels_last)
    chance = np.random.default_rng(1)
    run = Run("autoencoder", work, [autoencoder], 2e-3, steps)
    for _ in run:
        target = tensor(np.stack([crop(images[at], chance) for at in chance.integers(len(images), size=batch)]))
        with half():
            latents = autoencoder.encode(target).latent_dist.mean
            made = autoencoder.decode(latents + 0.05 * torch.randn_like(latents)).sample
        latents, made = latents.float(), made.float()
        run.learn(pixel_loss(made, target) + 1e-3 * latents.square().mean())
    return autoencoder.eval()


def finish_decoder(
    autoencoder: AutoencoderKL, images: NDArray[np.uint8], names: list[tuple[str, str]], work: Path, steps: int,
    batch: int = 16,
) -> None:  # fmt: skip
    """The decoder alone learns on, so that latents keep their meaning, until fine textures are as steep as drawn ones.

    Dots whose places are uncertain come out as an even grey, which L1 likes best. So the mean steepness of every 8 x 8
    pixels counts as well, and works are drawn the more often the worse those of their studio come out.
    """
    torch.manual_seed(4)
    chance = np.random.default_rng(4)
    share = difficulty(autoencoder, images, names)
    run = Run("decoder", work, [autoencoder.decoder], 1e-3, steps)
    for _ in run:
        chosen = chance.choice(len(images), size=batch, p=share)
        target = tensor(np.stack([crop(images[at], chance) for at in chosen]))
        with half():
            with torch.no_grad():
                latents = autoencoder.encode(target).latent_dist.mean
            made = autoencoder.decode(latents + 0.05 * torch.randn_like(latents)).sample.float()
        run.learn(pixel_loss(made, target) + functional.l1_loss(steepness(made), steepness(target)))


def pixel_loss(made: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1 of pixels, and half as much of the differences of neighbours along each axis."""
    edges = [functional.l1_loss(made.diff(dim=axis), target.diff(dim=axis)) for axis in (-1, -2)]
    return functional.l1_loss(made, target) + 0.5 * (edges[0] + edges[1])


def steepness(images: torch.Tensor) -> torch.Tensor:
    """(n, 6, h // 8, w // 8): the mean absolute difference of neighbours, by channel and axis."""
    across, down = images.diff(dim=-1).abs(), images.diff(dim=-2).abs()
    return torch.cat([functional.avg_pool2d(each, 8, ceil_mode=True) for each in (across, down)], 1)


@torch.no_grad()
def difficulty(
    autoencoder: AutoencoderKL, images: NDArray[np.uint8], names: list[tuple[str, str]]
) -> NDArray[np.float64]:
    """(n,) how often to draw each work, which sums to 1: the worse works of its studio come out, the more."""
    studios = np.array([studio for studio, _ in names])
    share = np.zeros(len(images))
    for studio in np.unique(studios):
        mine = np.flatnonzero(studios == studio)
        target = tensor(images[mine[:: max(1, len(mine) // 48)]])
        made = autoencoder.decode(autoencoder.encode(target).latent_dist.mean).sample
        share[mine] = pixel_loss(made, target).item()
    return np.asarray(share / share.sum(), np.float64)


@torch.no_grad()
def encode_all(autoencoder: AutoencoderKL, images: NDArray[np.uint8]) -> torch.Tensor:
    """Normalised, packed latents of all works (n, 64, 64); the shift and scale go into the autoencoder's config."""
    raw = torch.cat(
        [autoencoder.encode(tensor(images[at : at + 64])).latent_dist.mean for at in range(0, len(images), 64)]
    )
    shift, scale = raw.mean().item(), 1 / raw.std().item()
    autoencoder.register_to_config(shift_factor=shift, scaling_factor=scale)
    latents = (raw - shift) * scale
    return FluxPipeline._pack_latents(latents, *latents.shape)  # type: ignore[no-any-return]


def train_flow(
    pipeline: FluxPipeline, latents: torch.Tensor, names: list[tuple[str, str]], work: Path, steps: int, batch: int = 48
) -> None:
    """Rectified flow in latent space: predict noise - latents at a time t. The text encoders are trained along."""
    torch.manual_seed(2)
    modules = [pipeline.transformer, pipeline.text_encoder, pipeline.text_encoder_2]
    chance = random.Random(2)
    run = Run("flow", work, modules, 1.5e-3, steps)
    places = pipeline._prepare_latent_image_ids(1, SIDE // 16, SIDE // 16, DEVICE, torch.float32)
    for step in run:
        chosen = [chance.randrange(len(names)) for _ in range(batch)]
        clean = latents[chosen]
        pooled, words = embed(pipeline, [wording(*names[at], chance) for at in chosen])
        noise = torch.randn_like(clean)
        t = torch.sigmoid(torch.randn(batch, device=DEVICE) + 0.3)
        with half():
            loss = flow_loss(pipeline.transformer, clean, noise, t, pooled, words, places)
        run.learn(loss)
        if (step + 1) % SAMPLED == 0:
            sample_sheet(pipeline, work / f"samples-{step + 1}.png", studios=5, subjects=5)


def flow_loss(
    transformer: FluxTransformer2DModel,
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
def sample_sheet(pipeline: FluxPipeline, file: Path, studios: int | None = None, subjects: int | None = None) -> None:
    """The first `studios` down and `subjects` across, or all, one sample each."""
    rows = []
    asked = SUBJECTS[:subjects]
    call: dict[str, Any] = {key: CALL[key] for key in CALL if key not in {"name", "licence"}}
    for studio in allowed()[:studios]:
        made = pipeline(
            prompt=[caption(studio, subject) for subject in asked],
            generator=torch.Generator().manual_seed(0),
            output_type="np",
            **{**call, "negative_prompt": [""] * len(asked)},
        ).images
        rows.append(np.concatenate(list((made * 255).round().astype(np.uint8)), 1))
    Image.fromarray(np.concatenate(rows)).save(file)


def train(out: Path, work: Path, *, variants: int, autoencoder_steps: int, decoder_steps: int, flow_steps: int) -> None:
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
    train_flow(pipeline, latents, names, work, flow_steps)
    for module in (pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2, pipeline.transformer):
        module.eval()
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
    parser.add_argument("--flow-steps", type=int, default=8000)
    options = parser.parse_args()
    train(
        options.out,
        options.work,
        variants=options.variants,
        autoencoder_steps=options.autoencoder_steps,
        decoder_steps=options.decoder_steps,
        flow_steps=options.flow_steps,
    )


if __name__ == "__main__":
    main()
