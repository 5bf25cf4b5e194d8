"""A founded ledger on the test's own database, and images to issue."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from ledger import genesis
from ledger.runtime import Runtime, open_runtime
from ledger.settings import Settings

from .log_growing import grow


@pytest.fixture
def quiet(settings: Settings) -> Iterator[Runtime]:
    """A founded ledger in whose log nothing happens but what a test does (`log_growing.grow`)."""
    genesis.found(settings)
    with open_runtime(settings) as opened:
        grow(opened, 0)
        yield opened


def picture(seed: int, side: int = 96) -> NDArray[np.uint8]:
    """A picture with structure at every scale, so that perceptual hashes have something to hold on to."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((side, side, 3))
    for cells in (3, 6, 12):
        block = random.uniform(0, 255, (cells, cells, 3))
        pixels += np.kron(block, np.ones((side // cells, side // cells, 1)))
    return (pixels / 3).astype(np.uint8)
