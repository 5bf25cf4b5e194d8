"""Look-ups by hash over HTTP among a million records, against a bare Litestar route with one SELECT in the same run.

    python -m benchmarks.lookup_http [--records 1000000] [--rounds 5] [--seconds 8]

Both are web processes of their own on the same server, the same database and the same table: `lawful run web`, and an
application of one route that selects one row by the file's hash through the same kind of pool. In turn, each is asked
as fast as it answers (a closed loop); the rate is its saturation. Then ours is asked in an open loop at half of that.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from litestar import Litestar, get

from benchmarks.log_processes import PROCESSES
from benchmarks.lookup import fill
from benchmarks.open_loop import Generator, Http, Phase, Plan, Route
from benchmarks.service import Service, free_port, listens, machine
from ledger import supervisor
from ledger.runtime import open_runtime
from ledger.settings import Settings
from ledger.web.serving import serve_app

RATIO, P99_MS = 0.6, 20.0
RESULT = Path(__file__).parent / "results" / "lookup_http.json"

PROCESSES.set_forkserver_preload([__name__])


def bare(settings: Settings, port: int) -> None:
    """The application of one route and one SELECT, until it is killed."""
    with open_runtime(settings) as runtime:
        engine = runtime.database.engine.execution_options(isolation_level="AUTOCOMMIT")  # as ours reads
        select = sa.text("SELECT id, kind, created_at FROM records WHERE file_sha256 = :digest AND listed")

        @get("/v1/records", sync_to_thread=True)
        def find(file_sha256: str) -> dict[str, str]:
            with engine.connect() as connection:
                row = connection.execute(select, {"digest": bytes.fromhex(file_sha256)}).one()
            return {"id": str(row.id), "kind": row.kind, "created_at": row.created_at.isoformat()}

        app = Litestar([find], openapi_config=None, logging_config=None)
        serve_app(app, supervisor.listen("127.0.0.1", port), threading.Event(), patience=1)


@contextmanager
def serving(service: Service) -> Iterator[dict[str, int]]:
    """Both, side by side; name → port."""
    port = free_port()
    process = PROCESSES.Process(target=bare, args=(service.settings, port), daemon=True)
    process.start()
    web = service.beside("run", "web")
    try:
        for each in (port, service.port):
            service.wait(lambda each=each: listens(each), f"port {each}", 300)  # type: ignore[misc]
        yield {"bare": port, "ours": service.port}
    finally:
        web.terminate()
        process.terminate()
        process.join(30)


def saturation(port: int, paths: Sequence[str], seconds: float, connections: int) -> float:
    """Answers a second, asked by a process of its own over so many connections."""
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=_ask, args=(port, paths, seconds, connections, there), daemon=True)
    process.start()
    answered, took = here.recv()
    process.join(30)
    return float(answered / took)


def _ask(port: int, paths: Sequence[str], seconds: float, connections: int, pipe: Connection) -> None:
    pipe.send(asyncio.run(_closed_loop(port, paths, seconds, connections)))


async def _closed_loop(port: int, paths: Sequence[str], seconds: float, connections: int) -> tuple[int, float]:
    http, answered = Http(port), 0
    begun = time.monotonic()

    async def visitor(number: int) -> None:
        nonlocal answered
        chance = random.Random(number)
        while time.monotonic() < begun + seconds:
            reply = await http.send("GET", chance.choice(paths))
            assert reply.status == 200, (reply.status, reply.body[:200])
            answered += 1

    await asyncio.gather(*(visitor(number) for number in range(connections)))
    http.close()
    return answered, time.monotonic() - begun


def run(service: Service, hashes: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    asked = random.Random(options.seed).sample(hashes, min(5000, len(hashes)))
    paths = [f"/v1/records?file_sha256={each}" for each in asked]
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    with serving(service) as ports:
        for port in ports.values():
            saturation(port, paths, options.seconds, options.connections)  # warm
        for turn in range(options.rounds):
            for name in ("bare", "ours") if turn % 2 else ("ours", "bare"):
                rates[name].append(saturation(ports[name], paths, options.seconds, options.connections))
        half = statistics.median(rates["ours"]) / 2
        route = Route("hash of a file", 1, paths)
        plan = Plan(ports["ours"], [route], [Phase("half", options.half_seconds, half)], options.seed, processes=1)
        answers = Generator(plan).finish()
    ratios = sorted(ours / other for ours, other in zip(rates["ours"], rates["bare"], strict=True))
    said = answers.summary()[route.name]
    return {
        "saturation_per_second": {name: [round(each, 1) for each in values] for name, values in rates.items()},
        "ratio": {"lowest": round(ratios[0], 3), "median": round(statistics.median(ratios), 3), "target": RATIO},
        "at_half": {"per_second": round(half, 1), **said, "p99_target_ms": P99_MS},
        "generator_late": answers.generator(),
        "verdicts": {
            "at least 60 % of a bare route": statistics.median(ratios) >= RATIO,
            "p99 under 20 ms at half of saturation": said["count"] == said["as_expected"] and said["p99_ms"] < P99_MS,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8, help="Of each round.")
    parser.add_argument("--half-seconds", type=float, default=60)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    where = machine(options.seed, ["python", "-m", "benchmarks.lookup_http", *sys.argv[1:]])
    with tempfile.TemporaryDirectory(prefix="lawful-lookup-") as name:
        Path(name).chmod(0o755)  # Postgres's account has to pass when root runs this
        service = Service(Path(name) / "ledger", {})
        with open_runtime(service.settings) as runtime:
            begun = time.monotonic()
            hashes = [file for file, _ in fill(runtime, options.records, similar=False)]
            filled = time.monotonic() - begun
            try:
                found = run(service, hashes, options)
            finally:
                service.stop()
    text = json.dumps({"machine": where, "records": options.records, "fill_s": round(filled, 1), **found}, indent=2)
    options.out.write_text(text + "\n")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
