"""What a report costs: gathering its dossier, drawing it, signing it, checking it. `python -m benchmarks.report`.

A generation of 1024² pixels of noise (the largest file) is issued by a real ledger in a folder that is thrown away; its
report is drawn up again and again without being kept. Beside it: one page with one line, drawn by the same library.
"""

import argparse
import time
import uuid
from itertools import pairwise

import numpy as np
import typst

from attribution.evidence import Evidence
from attribution.fingerprints import fingerprint
from benchmarks.measuring import show, spread, throwaway_ledger
from ledger import issue
from ledger.commands.work import operator
from ledger.file_proof import Trust
from ledger.reports.checking import check_document
from ledger.reports.dossier import gather
from ledger.reports.render import STANDARD, render
from ledger.reports.signature import sign_document
from ledger.runtime import Runtime
from models.images import encode_png

TARGET_S = 2.0
MODEL = {"name": "benchmark", "revision": "1", "weights_sha256": "0" * 64, "licence": "none"}
STEPS = ("gather", "draw", "sign", "check", "one_line")
ONE_LINE = b"#set document(title: [t])\n= One line"


def issued(runtime: Runtime, side: int) -> uuid.UUID:
    pixels = np.random.default_rng(1).integers(0, 255, (side, side, 3)).astype(np.uint8)
    data = encode_png(pixels)
    with runtime.sessions.begin() as session:
        record_id = issue.accept_generation(
            session, principal_id=operator(session), prompt="a boat", seed=1, parameters={},
            idempotency_key=None, max_prompt_chars=100,
        )  # fmt: skip
    said = Evidence(statement="Nothing was compared.")
    issue.sign(runtime, record_id, issue.Produced(data, "image/png", fingerprint(data, pixels), said, MODEL))
    issue.finish(runtime, record_id)
    return record_id


def once(runtime: Runtime, record_id: uuid.UUID) -> tuple[list[float], int]:
    """Seconds of each step, and the PDF's bytes."""
    keys, origin = runtime.keys, runtime.settings.origin
    marks = [time.perf_counter()]
    with runtime.sessions() as session:
        dossier = gather(session, runtime, record_id)
    marks.append(time.perf_counter())
    pages = render(dossier)
    marks.append(time.perf_counter())
    pdf = sign_document(pages, keys.credential, about=f"record {record_id}", origin=origin, tsa_url=None)
    marks.append(time.perf_counter())
    check_document(pdf, trust=Trust([keys.log.vkey]), roots_pem=keys.root_pem, now=runtime.clock())
    marks.append(time.perf_counter())
    typst.compile(ONE_LINE, pdf_standards=STANDARD, timestamp=0)
    marks.append(time.perf_counter())
    return [after - before for before, after in pairwise(marks)], len(pdf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--side", type=int, default=1024)
    options = parser.parse_args()
    with throwaway_ledger() as runtime:
        record_id = issued(runtime, options.side)
        first, _ = once(runtime, record_id)  # loads the libraries and the fonts
        runs = [once(runtime, record_id) for _ in range(options.runs)]
    took = {name: [steps[at] for steps, _ in runs] for at, name in enumerate(STEPS)}
    took["total"] = [sum(steps[:3]) for steps, _ in runs]
    show({
        "side": options.side,
        "pdf_bytes": runs[-1][1],
        "target_s": TARGET_S,
        "first_total_s": round(sum(first[:3]), 2),
        "results": {name: spread(values) for name, values in took.items()},
    })  # fmt: skip


if __name__ == "__main__":
    main()
