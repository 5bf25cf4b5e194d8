"""The public pages among many records, an upload of 20 MB, and a signed PDF, each from a web process of its own.

    python -m benchmarks.pages [--records 100000] [--runs 400] [--uploads 12]

Two records are really issued, with the atelier's evidence; the rest stand in the table as `benchmarks.lookup` writes
them. Times are a client's on one kept connection; beside each page, in the same round, an answer of the same process
that asks nothing of the database. The first record's PDF is the first request of its process; the second's is asked
for after the pages. Memory is the web process's resident set, read from Linux after each upload.
"""

import argparse
import http.client
import time
import uuid
from pathlib import Path

import numpy as np

from attribution.fingerprints import fingerprint
from benchmarks.issue import accept, index_atelier
from benchmarks.lookup import fill
from benchmarks.measuring import PORT, ratio, show, spread, throwaway_ledger
from benchmarks.submissions import web_and_log
from ledger import issue
from ledger.runtime import Runtime, sequencing
from ledger.worker import Worker
from models.atelier.collection import SUBJECTS, draw
from models.atelier.studios import STUDIOS
from models.images import encode_png

SIDE = 2600  # of noise, so that a PNG of it has some 20 MB
EDGE = "between-the-parts"
HTML = {"Accept": "text/html"}
PAGES = {
    "the page of a record": "/r/{hash}",
    "its JSON": "/v1/records/{id}",
    "the page of a hash that is not recorded": "/r/{unknown}",
    "the log": "/log",
}


def issued(runtime: Runtime, worker: Worker, seed: int) -> tuple[uuid.UUID, str]:
    """A record with all its evidence, and its pixels' hash."""
    record_id, pixels = accept(runtime, seed), draw(STUDIOS[0].slug, SUBJECTS[0], 77 + seed, 512)
    data = encode_png(pixels)
    found = fingerprint(data, pixels)
    examined = worker.examiner.examine(pixels, found)
    model = {"name": "benchmark", "revision": "1", "weights_sha256": "0" * 64, "licence": "none"}
    produced = issue.Produced(data, "image/png", found, examined.evidence, model, pictures=examined.pictures)
    issue.sign(runtime, record_id, produced)
    issue.finish(runtime, record_id, lambda _: None, pixels=pixels)
    return record_id, found.pixel_sha256


class Client:
    def __init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", PORT)

    def seconds(self, path: str, expected: tuple[int, ...] = (200,)) -> float:
        begun = time.perf_counter()
        self._connection.request("GET", path, headers=HTML)
        answer = self._connection.getresponse()
        answer.read()
        took = time.perf_counter() - begun
        assert answer.status in expected, (path, answer.status)
        return took

    def upload(self, body: bytes) -> float:
        head = f'--{EDGE}\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n'
        form = f"{head}Content-Type: image/png\r\n\r\n".encode() + body + f"\r\n--{EDGE}--\r\n".encode()
        begun = time.perf_counter()
        self._connection.request(
            "POST", "/v1/verifications", form, {"Content-Type": f"multipart/form-data; boundary={EDGE}"}
        )
        answer = self._connection.getresponse()
        text = answer.read()
        took = time.perf_counter() - begun
        assert answer.status == 202, text
        return took


def resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--uploads", type=int, default=12)
    options = parser.parse_args()
    random = np.random.default_rng(3)
    with throwaway_ledger(sequencer=False, looks_per_minute=10_000) as runtime:
        with sequencing(runtime):
            index_atelier(runtime, 2)
            worker = Worker(runtime)
            (record_id, digest), (second_id, _) = issued(runtime, worker, 1), issued(runtime, worker, 2)
        fill(runtime, options.records)
        with web_and_log(runtime.settings.home, looks_per_minute=10_000) as server:
            client = Client()
            pdf = [client.seconds(f"/v1/records/{record_id}/report.pdf") for _ in range(2)]
            timed: dict[str, list[float]] = {name: [] for name in ("/healthz", *PAGES)}
            for _ in range(options.runs):
                timed["/healthz"].append(client.seconds("/healthz"))
                for name, path in PAGES.items():
                    filled = path.format(hash=digest, id=record_id, unknown=random.bytes(32).hex())
                    timed[name].append(client.seconds(filled, (200, 404)))
            pdf.append(client.seconds(f"/v1/records/{second_id}/report.pdf"))
            uploads, memory = [], [resident_mib(server.pid)]
            for _ in range(options.uploads):
                body = encode_png(random.integers(0, 256, (SIDE, SIDE, 3), np.uint8), compress_level=1)
                uploads.append(client.upload(body))
                memory.append(resident_mib(server.pid))
    show(
        {
            "records": options.records,
            "pages": {
                name: spread(values) | {"p99_ms": round(float(np.percentile(values, 99)) * 1000, 2)}
                for name, values in timed.items()
            },
            "ratio_to_healthz": {name: ratio(timed[name], timed["/healthz"]) for name in PAGES},
            "report_pdf_s": {
                "drawn and signed": round(pdf[2], 2),
                "the same as a process's first request": round(pdf[0], 2),
                "signed before": round(pdf[1], 3),
            },
            "upload": {"mb": round(len(body) / 1e6, 1), **spread(uploads)},
            "web_resident_mib": {"before": round(memory[0], 1), "after_each": [round(each, 1) for each in memory[1:]]},
        }
    )


if __name__ == "__main__":
    main()
