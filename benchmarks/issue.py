"""Everything after the pixels of a 1024 x 1024 PNG, split by step, with the atelier profile and its drawn collection.

    python -m benchmarks.issue [--runs 40] [--variants 4]

Compressing the PNG (deflate) is left out: it is done before the clock starts. The bare parts run in the same loop: the
same fingerprints and networks called directly, and bare c2pa-python (benchmarks/credential.py has that one in detail).
"""

import argparse
import tempfile
import time
import uuid
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from attribution.fingerprints import fingerprint
from benchmarks.measuring import ratio, show, spread, throwaway_ledger
from ledger import catalog, issue, lab
from ledger.commands.work import operator
from ledger.examiner import Examiner
from ledger.runtime import Runtime
from ledger.sources import Grants
from ledger.worker import Worker
from models.atelier.collection import SUBJECTS, draw
from models.atelier.studios import STUDIOS
from models.images import encode_png

SIDE = 1024


def index_atelier(runtime: Runtime, works: int) -> None:
    """Draw the atelier's collection, `works` works a studio, and index it."""
    with tempfile.TemporaryDirectory() as folder:
        lab.draw_collection(Path(folder), works)
        catalog.index(
            runtime,
            Path(folder) / "works.csv",
            collection="atelier",
            licence="Apache-2.0",
            grants=Grants(train=True, compare=True, name=True),
            embedder=Examiner(runtime),
        )


def accept(runtime: Runtime, number: int) -> uuid.UUID:
    with runtime.sessions.begin() as session:
        return issue.accept_generation(
            session,
            principal_id=operator(session),
            prompt="benchmark",
            seed=number,
            parameters={},
            idempotency_key=None,
            max_prompt_chars=1000,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--variants", type=int, default=4, help="works per studio in the collection")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    timed: dict[str, list[float]] = {}
    with throwaway_ledger() as runtime:
        index_atelier(runtime, options.variants)
        worker = Worker(runtime)
        engine = worker.examiner.engine()
        model = {"name": "benchmark", "revision": "1", "weights_sha256": "0" * 64, "licence": "none"}
        for number in range(options.runs + 2):
            if number == 2:  # two rounds to warm up
                timed.clear()
            studio, subject = STUDIOS[number % len(STUDIOS)].name, SUBJECTS[number % len(SUBJECTS)]
            drawn = Image.fromarray(draw(studio, subject, 1000 + number)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            grain = random.normal(0, 4, (SIDE, SIDE, 3))
            pixels = (np.asarray(drawn, np.float32) + grain).clip(0, 255).astype(np.uint8)
            data = encode_png(pixels, compress_level=1)
            record_id = accept(runtime, number)

            begun = last = time.perf_counter()

            def lap(name: str) -> None:
                nonlocal last
                now = time.perf_counter()
                timed.setdefault(name, []).append(now - last)
                last = now

            found = fingerprint(data, pixels)
            lap("fingerprints")
            examined = engine.examine(pixels, found)
            lap("evidence")
            produced = issue.Produced(data, "image/png", found, examined.evidence, model, pictures=examined.pictures)
            issue.sign(runtime, record_id, produced)
            lap("signed")
            issue.finish(runtime, record_id, lap, pixels=pixels)
            timed.setdefault("total", []).append(last - begun)

            bare = time.perf_counter()
            fingerprint(data, pixels)
            worker.examiner.embed([pixels])
            timed.setdefault("bare fingerprints and networks", []).append(time.perf_counter() - bare)
        works = engine.reference.works if engine.reference else ()
    show(
        {
            "side": SIDE,
            "works": len(works),
            "encoders": {name: asdict(encoder.info) for name, encoder in engine.encoders.items()},
            "steps": {name: spread(values) for name, values in timed.items()},
            "total_to_bare": ratio(timed["total"], timed["bare fingerprints and networks"]),
        }
    )


if __name__ == "__main__":
    main()
