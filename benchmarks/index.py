"""`lawful index` against its parts: decode, fingerprints and the forward pass, each measured apart in the same run.

    python -m benchmarks.index FOLDER [--rounds 3]

FOLDER has a subfolder per artist. Each round indexes it into a fresh collection, then does the bare parts once more.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from attribution.fingerprints import fingerprint
from benchmarks.measuring import ratio, show, spread, throwaway_ledger
from ledger import catalog, seeing
from ledger.examiner import Examiner
from ledger.sources import Grants, list_works
from models.errors import ImageError
from models.images import DecodedImage, decode

ALL = Grants(train=True, compare=True, name=True)
Value = TypeVar("Value")


def clocked(work: Callable[[], Value]) -> tuple[float, Value]:
    begun = time.perf_counter()
    value = work()
    return time.perf_counter() - begun, value


def _read(file: Path) -> tuple[bytes, DecodedImage]:
    data = file.read_bytes()
    return data, decode(data)


def bare(files: Sequence[Path], embed: Callable[..., object]) -> dict[str, float]:
    """Seconds for each part over all files, in the batches that indexing uses."""
    parts = {"read and decode": 0.0, "fingerprints": 0.0, "forward pass": 0.0}
    for first in range(0, len(files), seeing.BATCH_WORKS):
        images = []
        for file in files[first : first + seeing.BATCH_WORKS]:
            try:
                seconds, (data, image) = clocked(partial(_read, file))
            except ImageError:
                continue
            parts["read and decode"] += seconds
            seconds, _ = clocked(partial(fingerprint, data, image.pixels))
            parts["fingerprints"] += seconds
            images.append(image.pixels)
        parts["forward pass"] += clocked(partial(embed, images))[0]
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    listed, _ = list_works(options.folder, "unknown", ALL)
    files = [each.path for each in listed]
    whole: list[float] = []
    parts: dict[str, list[float]] = {}
    with throwaway_ledger() as runtime:
        networks = Examiner(runtime)
        networks.embed([decode(files[0].read_bytes()).pixels])  # load before the clock starts
        for number in range(options.rounds):
            seconds, indexed = clocked(
                partial(
                    catalog.index,
                    runtime,
                    options.folder,
                    collection=f"round {number}",
                    licence="unknown",
                    grants=ALL,
                    embedder=networks,
                )
            )
            whole.append(seconds)
            for name, value in bare(files, networks.embed).items():
                parts.setdefault(name, []).append(value)
    sums = [sum(values) for values in zip(*parts.values(), strict=True)]
    show(
        {
            "works": indexed.works,
            "bad": len(indexed.bad),
            "index": spread(whole),
            "parts": {name: spread(values) for name, values in parts.items()},
            "index_to_sum_of_parts": ratio(whole, sums),
        }
    )


if __name__ == "__main__":
    main()
