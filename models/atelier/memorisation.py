"""Does a generator hand out the very works that it learned from? Each picture beside its nearest training work.

    python -m models.atelier.memorisation [--epochs N]

Drawings of one subject by one studio are near each other anyway, so a plain distance says little. It is divided by the
mean distance to the works that come next (Carlini et al., "Extracting Training Data from Diffusion Models", USENIX
Security 2023): near 0 for a copy of one work, near 1 where no work stands out. What a small ratio is, works that the
generator never saw tell.

Run by itself, this is the positive control: the shipped generator goes on learning from a few works alone, each
repeated fifty times an epoch, until it repeats them; the measure must see that, and must not see it before.

What it does not prove: thumbnails find whole pictures and their mirror images, not parts of them, and not a work in
other colours. No near-copy among so many samples does not exclude one among more.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from diffusers import FluxPipeline
from numpy.typing import NDArray

from models.atelier.collection import SUBJECTS, caption, draw
from models.atelier.studios import STUDIOS
from models.atelier.train import flow_loss
from models.generator import Generator

Pixels = NDArray[np.uint8]
Describe = Callable[[Sequence[Pixels]], NDArray[np.float32]]
"""n images of any sizes → (n, d) unit rows, nearer where one is more likely a copy of the other."""

THUMBNAIL = 16
NEIGHBOURS = 50
RATE = 1e-3  # of works never learned from that may be called near-copies

CELLS = 8  # studios of the control, each with another subject
REPEATS, EPOCHS = 50, 6
FIRST_VARIANT, VARIANTS = 5000, 8  # of the control: far from all that anybody else learns from
SEEDS = 4


class Nearest(NamedTuple):
    """Of n pictures: (n,) the number of the nearest work, and (n,) its distance over that of the works behind it."""

    work: NDArray[np.int64]
    ratio: NDArray[np.float64]


def thumbnails(images: Sequence[Pixels]) -> NDArray[np.float32]:
    """Tiny pictures less their mean colour, as unit rows: a plain stand-in for a copy encoder."""
    tiny = [cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA) for image in images]
    rows = np.stack(tiny).astype(np.float32)
    rows = (rows - rows.mean((1, 2), keepdims=True)).reshape(len(rows), -1)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), np.float32)


def nearest(images: Sequence[Pixels], works: Sequence[Pixels], describe: Describe = thumbnails) -> Nearest:
    """Lay each image, and its mirror image, beside every work. `works` are at least two, each there once."""
    rows = describe(works)
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in images]
    cosine = np.maximum(describe(images) @ rows.T, describe(mirrored) @ rows.T).astype(np.float64)
    distance = np.sqrt(np.maximum(2 - 2 * cosine, 0))
    order = np.argsort(distance, axis=1, kind="stable")[:, : NEIGHBOURS + 1]
    ranked = np.take_along_axis(distance, order, axis=1)
    return Nearest(order[:, 0], ranked[:, 0] / np.maximum(ranked[:, 1:].mean(axis=1), 1e-9))


def limit(unseen: NDArray[np.float64]) -> float:
    """The ratio below which a picture is called a near-copy: at most RATE of `unseen`, those of works never learned
    from, lie below. From fewer than 1 / RATE of them: none does."""
    return float(np.sort(unseen)[int(RATE * len(unseen))])


# ---- the positive control ------------------------------------------------------------------------------------------


class Control(NamedTuple):
    """Ratios of works never learned from, and of samples before and after the few works were repeated; and the part of
    the samples whose nearest work is the very one that was repeated under their prompt."""

    unseen: NDArray[np.float64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    found_before: float
    found_after: float

    def near_copies(self, ratios: NDArray[np.float64]) -> float:
        return float((ratios < limit(self.unseen)).mean())


def control(generator: Generator, epochs: int = EPOCHS, cells: int = CELLS) -> Control:
    """Overfit `generator`, a FLUX pipeline that holds its weights in float32, to one work each of `cells` studios.

    The works searched are these and VARIANTS - 1 others of each studio and subject, which it does not learn from.
    """
    studios = [studio.name for studio in STUDIOS if studio.train][:cells]
    pairs = list(zip(studios, SUBJECTS, strict=False))
    side = generator.defaults.width
    drawn = [[draw(*pair, FIRST_VARIANT + each, side) for each in range(2 * VARIANTS)] for pair in pairs]
    works = [work for variants in drawn for work in variants[:VARIANTS]]
    unseen = [work for variants in drawn for work in variants[VARIANTS:]]
    prompts = [caption(*pair) for pair in pairs]

    def sampled() -> tuple[NDArray[np.float64], float]:
        images = []
        for seed in range(SEEDS):
            seeds = range(seed * len(prompts), (seed + 1) * len(prompts))
            made = generator.generate_several(prompts, seeds=seeds, guidance=1.0)
            images += [each.pixels for each in made]
        found = nearest(images, works)
        return found.ratio, float((found.work == np.tile(np.arange(len(pairs)) * VARIANTS, SEEDS)).mean())

    before, found_before = sampled()
    overfit(generator.pipeline, [variants[0] for variants in drawn], prompts, epochs * REPEATS)
    after, found_after = sampled()
    return Control(nearest(unseen, works).ratio, before, after, found_before, found_after)


def overfit(pipeline: Any, works: Sequence[Pixels], prompts: Sequence[str], steps: int) -> None:
    """Rectified flow on these works alone, all of them in every step; the text encoders stay as they are."""
    torch.manual_seed(9)
    with torch.no_grad():
        pixels = torch.from_numpy(np.stack(works)).permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = pipeline.vae.encode(pixels).latent_dist.mean
        latents = (latents - pipeline.vae.config.shift_factor) * pipeline.vae.config.scaling_factor
        words, pooled, _ = pipeline.encode_prompt(
            list(prompts), None, max_sequence_length=pipeline.tokenizer_2.model_max_length
        )
    n, _, height, width = latents.shape
    places = pipeline._prepare_latent_image_ids(n, height // 2, width // 2, "cpu", torch.float32)
    clean = FluxPipeline._pack_latents(latents, *latents.shape)
    optimizer = torch.optim.Adam(pipeline.transformer.parameters(), lr=1e-3)
    begun = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - step / steps)
        noise, t = torch.randn_like(clean), torch.rand(n)
        loss = flow_loss(pipeline.transformer, clean, noise, t, pooled, words, places)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(pipeline.transformer.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 25 == 0:
            print(f"overfitting {step + 1}/{steps} loss {loss.item():.4f} {time.monotonic() - begun:.0f} s", flush=True)


def main() -> None:
    from models.registry import BUILT_IN

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"of {REPEATS} repetitions of each work")
    options = parser.parse_args()
    found = control(Generator.load(BUILT_IN / "generator", device="cpu", dtype="float32"), options.epochs)
    print(f"a near-copy has a ratio below {limit(found.unseen):.3f}")
    told = {"works never learned from": found.unseen, "samples before": found.before, "samples after": found.after}
    for what, ratios in told.items():
        low, middle, high = np.quantile(ratios, [0.05, 0.5, 0.95])
        share = found.near_copies(ratios)
        print(f"{what}: ratio {middle:.3f} (90 % from {low:.3f} to {high:.3f}), near-copies {share:.1%}")
    print(f"nearest is the repeated work: {found.found_before:.1%} before, {found.found_after:.1%} after")


if __name__ == "__main__":
    main()
