"""An independent judge of the atelier's generator: which studio's hand, and which subject, does a picture show?

    python -m models.atelier.judge

Whether the generator did what its prompt said must be asked of somebody who is not the engine under test. The judge
shares nothing with our encoders: another architecture (residual, batch-normalised, two heads), other input (brightness
and two colour differences), another seed, and works that neither they nor the generator ever saw (variants from
FIRST_VARIANT on). It is trained anew wherever it is needed, in about two minutes on one slow core, and kept nowhere.

Generated pictures are softer and noisier than drawn ones. Blur, noise and shifts of brightness in training keep the
judge from taking softness for a manner; it never sees a generated picture.

What it does not prove: the judge knows the studios that allow training and no others, so it calls a stranger's picture
by the nearest of them, and its confidence holds for drawn works only.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from models.atelier.collection import SUBJECTS, draw
from models.atelier.studios import STUDIOS

Pixels = NDArray[np.uint8]
Progress = Callable[[str, int, int], None]

STUDIO_NAMES = tuple(studio.name for studio in STUDIOS if studio.train)
SIDE = 128
FIRST_VARIANT = 1000  # far beyond what the generator and the encoders were trained on
HELD_OUT_VARIANT, HELD_OUT_VARIANTS = 2000, 2
HELD_OUT_WORKS = len(STUDIO_NAMES) * len(SUBJECTS) * HELD_OUT_VARIANTS
VARIANTS = 4
STEPS = 180
BATCH = 48
FEATURES = 2 * (20 + 40) + 64
# Brightness and two colour differences, as ITU-R BT.601 has them: rows are Y, Cb, Cr.
OPPONENT = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32)


class Verdict(NamedTuple):
    """What the judge sees in one picture; probabilities are of the studio and of the subject it names."""

    studio: str
    studio_probability: float
    subject: str
    subject_probability: float


class Block(nn.Module):
    """Two convolutions and a way round them; half the size, `out` channels."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(into, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out))
        self.around = nn.Conv2d(into, out, 1, 2)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        both: torch.Tensor = functional.relu(self.second(self.first(seen)) + self.around(seen))
        return both


class JudgeNetwork(nn.Module):
    """(n, 3, 128, 128) → logits of the studios (n, s) and of the subjects (n, 12).

    The hand is read from fine features wherever they stand (mean and maximum over the picture), the subject from
    coarse ones and where they stand.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 20, 5, 2, 2, bias=False), nn.BatchNorm2d(20), nn.ReLU())
        self.fine = Block(20, 40)
        self.coarse = nn.Sequential(Block(40, 64), Block(64, 64), Block(64, 64))
        self.hand = nn.Linear(2 * (20 + 40), len(STUDIO_NAMES))
        self.subject = nn.Sequential(nn.Dropout(0.3), nn.Linear(64 * 4 * 4, len(SUBJECTS)))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fine, coarse = self.features(images)
        return self.hand(fine), self.subject(coarse.flatten(1))

    def features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fine ones, pooled (n, 120), and coarse ones where they stand (n, 64, 4, 4)."""
        low = self.stem(images)
        fine = self.fine(low)
        pooled = [part for seen in (low, fine) for part in (seen.mean((2, 3)), seen.amax((2, 3)))]
        return torch.cat(pooled, 1), self.coarse(fine)


class Judge:
    """A trained judge. Pictures of any size are looked at as 128 x 128."""

    def __init__(self, network: JudgeNetwork) -> None:
        self._network = network.eval()

    @classmethod
    def train(
        cls, *, seed: int = 20_011, variants: int = VARIANTS, steps: int = STEPS, progress: Progress | None = None
    ) -> Self:
        """Draw `variants` works of every subject by every studio that allows training, and learn from them.

        The same arguments give the same judge on one machine. `progress` is told (what, done, of).
        """
        images, studios, subjects = drawn(FIRST_VARIANT, variants, progress)
        chance = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = JudgeNetwork()
            _fit(network, images, studios, subjects, chance, steps, progress)
        return cls(network)

    @torch.inference_mode()
    def look(self, images: Sequence[Pixels]) -> list[Verdict]:
        """Return a verdict on each of n canonical images, (h, w, 3) uint8 of any sizes."""
        found = []
        for at in range(0, len(images), BATCH):
            hands, subjects = self._network(_tensor([_small(image) for image in images[at : at + BATCH]]))
            for hand, subject in zip(hands.softmax(1), subjects.softmax(1), strict=True):
                hand_at, subject_at = int(hand.argmax()), int(subject.argmax())
                seen = STUDIO_NAMES[hand_at], float(hand[hand_at]), SUBJECTS[subject_at], float(subject[subject_at])
                found.append(Verdict(*seen))
        return found

    @torch.inference_mode()
    def features(self, images: Sequence[Pixels]) -> NDArray[np.float64]:
        """Return (n, FEATURES): what the judge tells studios by, and the mean of what it tells subjects by."""
        rows = [np.zeros((0, FEATURES))]
        for at in range(0, len(images), BATCH):
            fine, coarse = self._network.features(_tensor([_small(image) for image in images[at : at + BATCH]]))
            rows.append(torch.cat([fine, coarse.mean((2, 3))], 1).double().numpy())
        return np.concatenate(rows)

    def held_out(self, size: int = SIDE) -> tuple[float, float]:
        """Return how often studio and subject are right on HELD_OUT_WORKS drawn works that no training saw."""
        images, studios, subjects = drawn(HELD_OUT_VARIANT, HELD_OUT_VARIANTS, size=size)
        verdicts = self.look(images)
        hands = [verdict.studio == STUDIO_NAMES[at] for verdict, at in zip(verdicts, studios, strict=True)]
        shown = [verdict.subject == SUBJECTS[at] for verdict, at in zip(verdicts, subjects, strict=True)]
        return float(np.mean(hands)), float(np.mean(shown))


def drawn(
    first: int, variants: int, progress: Progress | None = None, size: int = SIDE
) -> tuple[list[Pixels], NDArray[np.int64], NDArray[np.int64]]:
    """Draw variants `first`, `first` + 1, … of every subject by every studio: pictures, studio and subject numbers."""
    images, labels = [], []
    for hand, studio in enumerate(STUDIO_NAMES):
        for number, subject in enumerate(SUBJECTS):
            images += [draw(studio, subject, first + variant, size) for variant in range(variants)]
            labels += [(hand, number)] * variants
        if progress is not None:
            progress("drawing for the judge", hand + 1, len(STUDIO_NAMES))
    hands, subjects = np.array(labels, np.int64).T
    return images, hands, subjects


def _fit(
    network: JudgeNetwork,
    images: Sequence[Pixels],
    studios: NDArray[np.int64],
    subjects: NDArray[np.int64],
    chance: np.random.Generator,
    steps: int,
    progress: Progress | None,
) -> None:
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    hands, shown = torch.from_numpy(studios), torch.from_numpy(subjects)
    order = np.empty(0, np.int64)
    for step in range(steps):
        if len(order) < BATCH:
            order = np.concatenate([order, chance.permutation(len(images))])
        chosen, order = order[:BATCH], order[BATCH:]
        hand, subject = network(_tensor([_disturbed(images[at], chance) for at in chosen]))
        loss = functional.cross_entropy(hand, hands[chosen]) + functional.cross_entropy(subject, shown[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if progress is not None and (step + 1) % 20 == 0:
            progress("training the judge", step + 1, steps)


def _disturbed(image: Pixels, chance: np.random.Generator) -> Pixels:
    """Moved by up to 8 pixels, mirrored or not, a little softer, noisier, brighter or darker."""
    moved = cv2.copyMakeBorder(image, 8, 8, 8, 8, cv2.BORDER_REFLECT_101)
    top, left = chance.integers(17, size=2)
    part = moved[top : top + SIDE, left : left + SIDE][:, :: -1 if chance.random() < 0.5 else 1].astype(np.float32)
    if chance.random() < 0.5:
        part = np.asarray(cv2.GaussianBlur(part, (0, 0), float(chance.uniform(0.4, 1.2))), np.float32)
    part = part * chance.uniform(0.9, 1.1) + chance.uniform(-10, 10)
    part += chance.normal(0, chance.uniform(0, 8), part.shape)
    return np.asarray(part.clip(0, 255), np.uint8)


def _small(image: Pixels) -> Pixels:
    if image.shape[:2] == (SIDE, SIDE):
        return image
    shrinks = image.shape[0] >= SIDE and image.shape[1] >= SIDE
    return np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC))


def _tensor(images: Sequence[Pixels]) -> torch.Tensor:
    """n (128, 128, 3) uint8 → (n, 3, 128, 128) float32: opponent colours, about -1…1."""
    opponent = (np.stack(images).astype(np.float32) / 127.5 - 1) @ OPPONENT.T
    return torch.from_numpy(np.ascontiguousarray(opponent.transpose(0, 3, 1, 2)))


def main() -> None:
    started = time.monotonic()
    judge = Judge.train(progress=lambda what, done, of: print(f"{what}: {done} of {of}", flush=True))
    took = time.monotonic() - started
    for size in (SIDE // 2, SIDE):
        studio, subject = judge.held_out(size=size)
        print(f"{size} px, works never seen: studio {studio:.3f}, subject {subject:.3f}")
    print(f"trained in {took:.0f} s")


if __name__ == "__main__":
    main()
