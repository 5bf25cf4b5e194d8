"""What a report costs: gathering its dossier, drawing it, signing it, checking it. `python -m benchmarks.report`.

A generation of 1024² pixels of noise (the largest file) is issued by a real ledger in a folder that is thrown away; its
report is drawn up again and again without being kept. Beside it: one page with one line, drawn by the same library.
"""

import argparse
import datetime as dt
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import typst

from attribution.evidence import Evidence
from attribution.fingerprints import fingerprint
from benchmarks.measuring import show, spread
from ledger import genesis, issue
from ledger.commands.work import operator
from ledger.file_proof import Trust
from ledger.reports.checking import check_document
from ledger.reports.dossier import gather
from ledger.reports.render import render
from ledger.reports.signature import sign_document
from ledger.runtime import open_runtime, sequencing
from ledger.settings import Settings
from models.images import encode_png

TARGET_S = 2.0
MODEL = {"name": "benchmark", "revision": "1", "weights_sha256": "0" * 64, "licence": "none"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--side", type=int, default=1024)
    options = parser.parse_args()
    took: dict[str, list[float]] = {"gather": [], "draw": [], "sign": [], "total": [], "check": [], "one_line": []}
    with TemporaryDirectory() as folder:
        settings = Settings(_env_file=None, home=Path(folder))
        genesis.found(settings)
        with open_runtime(settings) as runtime, sequencing(runtime):
            pixels = np.random.default_rng(1).integers(0, 255, (options.side, options.side, 3)).astype(np.uint8)
            data = encode_png(pixels)
            with runtime.sessions.begin() as session:
                record_id = issue.accept_generation(
                    session, principal_id=operator(session), prompt="a boat", seed=1, parameters={},
                    idempotency_key=None, max_prompt_chars=100,
                )  # fmt: skip
            found = Evidence(statement="Nothing was compared.")
            issue.sign(runtime, record_id, issue.Produced(data, "image/png", fingerprint(data, pixels), found, MODEL))
            issue.finish(runtime, record_id)
            for run in range(options.runs + 1):  # the first one loads the libraries
                marks = [time.perf_counter()]
                with runtime.sessions() as session:
                    dossier = gather(session, runtime, record_id)
                marks.append(time.perf_counter())
                pages = render(dossier)
                marks.append(time.perf_counter())
                pdf = sign_document(
                    pages, runtime.keys.credential, record_id=str(record_id), origin=settings.origin, tsa_url=None
                )
                marks.append(time.perf_counter())
                trust = Trust([runtime.keys.log.vkey])
                check_document(pdf, trust=trust, roots_pem=runtime.keys.root_pem, now=dt.datetime.now(dt.UTC))
                marks.append(time.perf_counter())
                typst.compile(b"one line", pdf_standards="a-3b", timestamp=0)
                marks.append(time.perf_counter())
                if run:
                    steps = [after - before for before, after in pairwise(marks)]
                    for name, value in zip(("gather", "draw", "sign", "check", "one_line"), steps, strict=True):
                        took[name].append(value)
                    took["total"].append(marks[3] - marks[0])
    show({
        "side": options.side, "pdf_bytes": len(pdf), "target_s": TARGET_S, "runs": options.runs,
        "results": {name: spread(values) for name, values in took.items()},
    })  # fmt: skip


if __name__ == "__main__":
    main()
