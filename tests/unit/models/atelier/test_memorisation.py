"""What a near-copy is, and the positive control run small."""

import cv2
import numpy as np
import pytest

from models.atelier import memorisation
from models.atelier.collection import SUBJECTS, draw
from models.atelier.memorisation import control, limit, nearest
from models.generator import Generator
from models.registry import BUILT_IN

WORKS = [draw("quern", subject, variant, 64) for subject in SUBJECTS[:4] for variant in range(4)]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_soft_noisy_copy_of_a_work_is_near_it_alone_mirrored_or_not(mirrored: bool) -> None:
    soft = cv2.GaussianBlur(WORKS[5], (0, 0), 1).astype(np.float64) + np.random.default_rng(0).normal(0, 8, (64, 64, 3))
    copied = np.asarray(soft.clip(0, 255), np.uint8)[:, :: -1 if mirrored else 1]
    another = draw("quern", SUBJECTS[1], 77, 64)
    found = nearest([copied, another], WORKS)
    assert found.work[0] == 5
    assert found.ratio[0] < 0.3
    assert found.ratio[1] > 0.5


def test_of_works_never_learned_from_at_most_one_in_a_thousand_is_called_a_near_copy() -> None:
    ratios = np.random.default_rng(0).permutation(np.linspace(0.1, 1, 2500))
    assert (ratios < limit(ratios)).sum() == 2
    assert not (ratios[:900] < limit(ratios[:900])).any()


def test_the_control_searches_the_repeated_works_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memorisation, "REPEATS", 2)
    monkeypatch.setattr(memorisation, "VARIANTS", 2)
    monkeypatch.setattr(memorisation, "SEEDS", 1)
    generator = Generator.load(BUILT_IN / "generator", device="cpu", dtype="float32")
    found = control(generator, epochs=1, cells=2)
    assert (len(found.unseen), len(found.before), len(found.after)) == (4, 2, 2)
    assert not np.array_equal(found.before, found.after)
    assert found.near_copies(found.unseen) == 0
