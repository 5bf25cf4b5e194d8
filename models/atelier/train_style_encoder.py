"""Train the atelier's style encoder, on the works whose studios allow it.

    python -m models.atelier.train_style_encoder --out DIR [--work .training] [--steps N]

Supervised contrastive learning over studios (Khosla et al. 2020): works of one studio are drawn together, of two apart,
whatever they show. A quarter of the subjects is held back, and the nearest-neighbour accuracy on them is printed. No
augmentation touches colour or sharpness, which are what style is made of; mirroring is all.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.atelier.collection import SUBJECTS
from models.atelier.one_cycle import OneCycle
from models.atelier.train import VARIANTS, works
from models.atelier.training_run import DEVICE
from models.encoders.atelier import StyleNetwork

TEMPERATURE = 0.1
HELD_BACK = SUBJECTS[::4]
PER_STUDIO = 6


def contrastive_loss(rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Khosla et al. 2020, equation 2: (n, dim) rows, (n,) labels, each label at least twice."""
    unit = functional.normalize(rows, dim=1)
    own = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    scores = (unit @ unit.T / TEMPERATURE).masked_fill(own, -1e4)
    alike = (labels[:, None] == labels[None, :]) & ~own
    return -(scores.log_softmax(dim=1) * alike).sum(1).div(alike.sum(1)).mean()


def train(out: Path, work: Path, *, variants: int, steps: int) -> float:
    """Train, save to `out`, and return the accuracy on subjects never seen."""
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(4)
    chance = np.random.default_rng(4)
    images, names = works(work, variants)
    studios = sorted({studio for studio, _ in names})
    labels = np.array([studios.index(studio) for studio, _ in names])
    held = np.array([subject in HELD_BACK for _, subject in names])
    network = StyleNetwork().to(DEVICE)
    cycle = OneCycle("encoder", network, rate=2e-3, decay=0.01, steps=steps)
    for _ in range(steps):
        chosen = np.concatenate(
            [chance.choice(np.flatnonzero((labels == studio) & ~held), PER_STUDIO) for studio in range(len(studios))]
        )
        batch = StyleNetwork.prepared(
            [images[at][:, ::-1] if chance.random() < 0.5 else images[at] for at in chosen]
        ).to(DEVICE)
        cycle.learn(contrastive_loss(network(batch), torch.from_numpy(labels[chosen]).to(DEVICE)))
    network.save(out)
    return accuracy(network, images, labels, held)


@torch.no_grad()
def accuracy(
    network: StyleNetwork, images: NDArray[np.uint8], labels: NDArray[np.int64], held: NDArray[np.bool_]
) -> float:
    """Share of works with held-back subjects whose nearest work of another subject is by the same studio."""
    network.eval()
    rows = torch.cat(
        [network(StyleNetwork.prepared(list(images[at : at + 64])).to(DEVICE)) for at in range(0, len(images), 64)]
    )
    unit = functional.normalize(rows, dim=1).cpu().numpy()
    nearest = (unit[held] @ unit[~held].T).argmax(1)
    return float((labels[~held][nearest] == labels[held]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".training"))
    parser.add_argument("--variants", type=int, default=VARIANTS)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    reached = train(options.out, options.work, variants=options.variants, steps=options.steps)
    print(f"nearest work is by the same studio, subjects never seen: {reached:.3f}")


if __name__ == "__main__":
    main()
