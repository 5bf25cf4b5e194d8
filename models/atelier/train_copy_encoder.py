"""Train the atelier's copy encoder, on the works whose studios allow it.

    python -m models.atelier.train_copy_encoder --out DIR [--work .training] [--steps N]

Instance discrimination as in SSCD (Pizzi et al. 2022): two disturbed versions of one work are drawn together, those of
all others in the batch apart (NT-Xent), and each row is pushed from its nearest stranger (the entropy term of
Sablayrolles et al. 2019), so that one distance means the same everywhere. A batch holds several works of each studio
and subject that it draws from: what tells siblings apart is what a copy shares with its source alone.

The disturbances are drawn at random over ranges; the suites measure fixed edits of their own.
"""

import argparse
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from models.atelier.one_cycle import OneCycle
from models.atelier.train import VARIANTS, works
from models.atelier.training_run import DEVICE, half
from models.encoders.atelier import CopyNetwork

Pixels = NDArray[np.uint8]

TEMPERATURE, ENTROPY = 0.05, 1.0
CELLS, SIBLINGS = 16, 5  # studios and subjects in a batch, works of each


def disturbed(image: Pixels, chance: np.random.Generator) -> Pixels:
    """As it might be passed on: cut, turned, framed or pasted, covered, recoloured, shrunk and saved, or some of it."""
    for change, share in ((_cut, 0.7), (_turned, 0.25), (_covered, 0.3), (_framed, 0.25), (_recoloured, 0.5),
                          (_shrunk, 0.4), (_saved, 0.4)):  # fmt: skip
        if chance.random() < share:
            image = change(image, chance)
    return image


def _cut(image: Pixels, chance: np.random.Generator) -> Pixels:
    """40 to 100 % of the area, of about its shape."""
    area, stretch = chance.uniform(0.4, 1), chance.uniform(0.85, 1.18)
    height, width = image.shape[:2]
    h, w = min(height, round(height * (area * stretch) ** 0.5)), min(width, round(width * (area / stretch) ** 0.5))
    top, left = chance.integers(height - h + 1), chance.integers(width - w + 1)
    return image[top : top + h, left : left + w]


def _turned(image: Pixels, chance: np.random.Generator) -> Pixels:
    turned = Image.fromarray(image).rotate(
        chance.uniform(-15, 15),
        Image.Resampling.BILINEAR,
        expand=bool(chance.random() < 0.7),
        fillcolor=_colour(chance),
    )
    return np.asarray(turned)


def _covered(image: Pixels, chance: np.random.Generator) -> Pixels:
    """A patch of 2 to 36 % of the area, of one colour or of noise."""
    height, width = image.shape[:2]
    h, w = (max(1, round(side * chance.uniform(0.15, 0.6))) for side in (height, width))
    top, left = chance.integers(height - h + 1), chance.integers(width - w + 1)
    covered = image.copy()
    noise = chance.random() < 0.3
    covered[top : top + h, left : left + w] = chance.integers(0, 256, (h, w, 3)) if noise else _colour(chance)
    return covered


def _framed(image: Pixels, chance: np.random.Generator) -> Pixels:
    height, width = image.shape[:2]
    top, bottom, left, right = (round(side * chance.uniform(0, 0.3)) for side in (height, height, width, width))
    framed = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=_colour(chance))
    return np.asarray(framed, np.uint8)


def _recoloured(image: Pixels, chance: np.random.Generator) -> Pixels:
    changed = image.astype(np.float32)
    if chance.random() < 0.3:
        changed = np.repeat(changed @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, 2)
    changed *= (chance.uniform(0.7, 1.3, 3) * chance.uniform(0.7, 1.3)).astype(np.float32)
    middle = changed.mean()
    changed = (changed - middle) * chance.uniform(0.6, 1.4) + middle + chance.uniform(-20, 20)
    return np.asarray(changed.clip(0, 255), np.uint8)


def _shrunk(image: Pixels, chance: np.random.Generator) -> Pixels:
    height, width = image.shape[:2]
    scale = chance.uniform(0.4, 1)
    return np.asarray(cv2.resize(image, (max(8, int(width * scale)), max(8, int(height * scale))),
                                 interpolation=cv2.INTER_AREA), np.uint8)  # fmt: skip


def _saved(image: Pixels, chance: np.random.Generator) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=int(chance.integers(20, 90)))
    return np.asarray(Image.open(file))


def _colour(chance: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in chance.integers(0, 256, 3))
    return red, green, blue


def contrastive_loss(rows: torch.Tensor) -> torch.Tensor:
    """(2n, dim): row k and row n + k show one work. NT-Xent and the entropy term."""
    unit = functional.normalize(rows, dim=1)
    n = len(unit) // 2
    alike = unit @ unit.T
    own = torch.eye(2 * n, dtype=torch.bool, device=rows.device)
    source = torch.arange(2 * n, device=rows.device).roll(n)
    told_apart = functional.cross_entropy((alike / TEMPERATURE).masked_fill(own, -1e4), source)
    strangers = alike.masked_fill(own | own.roll(n, 0), -1.0).amax(1)
    entropy = -(2 - 2 * strangers).clamp(min=1e-4).sqrt().log().mean()
    return told_apart + ENTROPY * entropy


def train(out: Path, work: Path, *, variants: int, steps: int) -> None:
    """Train and save to `out`. `variants` of a studio's subject, of which up to SIBLINGS come into one batch."""
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(5)
    chance = np.random.default_rng(5)
    images, names = works(work, variants)
    cells = len(names) // variants
    network = CopyNetwork().to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
    cycle = OneCycle("copies", network, rate=3e-3, decay=0.02, steps=steps)

    def seen(image: Pixels, seed: int) -> Pixels:
        return disturbed(image, np.random.default_rng(seed))

    with ThreadPoolExecutor() as pool:
        for _ in range(steps):
            chosen = [cell * variants + sibling
                      for cell in chance.choice(cells, min(CELLS, cells), replace=False)
                      for sibling in chance.choice(variants, min(SIBLINGS, variants), replace=False)]  # fmt: skip
            shown = [images[at][:, ::-1] if chance.random() < 0.5 else images[at] for at in chosen]
            seeds = chance.integers(2**40, size=2 * len(shown)).tolist()
            batch = CopyNetwork.prepared(list(pool.map(seen, shown * 2, seeds)))
            with half():
                rows = network(batch.to(DEVICE, memory_format=torch.channels_last))
            cycle.learn(contrastive_loss(rows.float()))
    network.save(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".training"))
    parser.add_argument("--variants", type=int, default=VARIANTS)
    parser.add_argument("--steps", type=int, default=1200)
    options = parser.parse_args()
    train(options.out, options.work, variants=options.variants, steps=options.steps)


if __name__ == "__main__":
    main()
