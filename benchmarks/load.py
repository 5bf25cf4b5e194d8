"""A whole ledger under load, as `lawful up` runs it: python -m benchmarks.load [--minutes 30] [--rate-scale 1]

An open loop (`benchmarks.open_loop`): 200 look-ups a second, a verification a second, 12 stamps and a generation a
minute; then ten times the look-ups, and the time until they are answered as before. Everything runs on one machine:
the service, its database and this generator. Memory and queues are read from outside throughout. At the end every
record that was acknowledged is looked up in the log, and the newest files are verified offline.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
from scipy.stats import fisher_exact  # type: ignore[import-untyped]

from benchmarks.lookup import fill
from benchmarks.open_loop import BACK_PRESSURE, Answers, Generator, Phase, Plan, Route, windows
from benchmarks.service import FLAT_MIB_PER_MINUTE, Service, Watch, machine
from benchmarks.writers import Kind, Write, Writers, audit, settle, summary
from ledger import lab
from ledger.runtime import open_runtime

LOOK_UPS = 200.0  # a second
WRITES: dict[Kind, float] = {"verification": 60.0, "stamp": 12.0, "generation": 1.0}  # a minute
SPIKE = 10
WINDOW = 5.0
NORMAL_WITHIN = 30.0
FILES = 50
SETTINGS = {"looks_per_minute": 1_000_000}
"""All load comes from one address, which the limit of the defaults is there to stop."""

FLAT_MEANS = f"anonymous memory's slope: the interval holds 0 or ends below {FLAT_MIB_PER_MINUTE} MiB a minute"

RESULT = Path(__file__).parent / "results" / "load.json"


def stocked(folder: Path, settings: dict[str, object], records: int, works: int) -> tuple[Service, list[str]]:
    """A founded service with a collection and `records` records in its table; (it, file hashes of those)."""
    folder.chmod(0o755)  # Postgres's account has to pass when root runs this
    service = Service(folder / "ledger", settings)
    hashes: list[str] = []
    with open_runtime(service.settings) as runtime:
        if records:
            hashes = [file for file, _ in fill(runtime, records)]
        lab.draw_collection(folder / "collection", works)
        service.command(
            "index", str(folder / "collection" / "works.csv"), "--collection", "atelier", "--licence", "CC0-1.0"
        )
    return service, hashes


def warmed(service: Service) -> tuple[list[dict[str, Any]], list[bytes]]:
    """A write of each kind, and a second stamp, before any clock starts; (their records, their files)."""
    writers = Writers(service.port, service.api_key, {}, seed=0, again=True, recorded=[])
    writes = writers.do("generation", "stamp", "stamp", "verification")
    assert all(write.ended == "done" for write in writes), [(w.kind, w.status, w.failure) for w in writes]
    ids = [write.record_id for write in writes if write.kind != "verification"]
    base = f"http://127.0.0.1:{service.port}"
    with httpx.Client(base_url=base, timeout=60, trust_env=False) as client:
        records = [client.get(f"/v1/records/{each}").raise_for_status().json() for each in ids]
        files = [client.get(f"/v1/records/{each}/file").raise_for_status().content for each in ids]
    return records, files


def look_ups(records: Sequence[dict[str, Any]], hashes: Sequence[str], seed: int) -> list[Route]:
    """What visitors ask: mostly one hash; a page now and then, which reads and checks the record's file."""
    known = random.Random(seed).sample(list(hashes), min(len(hashes), 5000))
    files = [*known, *(str(record["file_sha256"]) for record in records)]
    own = [str(record["file_sha256"]) for record in records]
    return [
        Route("hash of a file", 60, [f"/v1/records?file_sha256={each}" for each in files]),
        Route("hash of pixels", 10, [f"/v1/records?pixel_sha256={record['pixel_sha256']}" for record in records]),
        Route("verification by hash", 10, [f"/r/{each}" for each in files]),
        Route("unknown hash", 14, ["/v1/records?file_sha256={}"]),
        Route("unknown hash, /r", 4, ["/r/{}"], expected=404),
        Route("record", 1, [f"/v1/records/{record['id']}" for record in records]),
        Route("its proof", 0.5, [f"/v1/records/{record['id']}/proof" for record in records]),
        Route("page of a record", 0.5, [f"/r/{each}" for each in own], accept="text/html"),
    ]


class Window(NamedTuple):
    """WINDOW seconds from `second` of a phase on. `normal`: answered as expected, p99 within twice the usual one."""

    second: float
    normal: bool
    p99_ms: float
    back_pressure: int
    generator_late_ms: float


def judged(answers: Answers, begin: float, end: float, usual_p99: float) -> list[Window]:
    found = []
    for at, window in windows(answers, begin, end, WINDOW):
        p99 = window.p99()
        as_expected = all(route["count"] == route["as_expected"] for route in window.summary().values())
        found.append(
            Window(
                second=at - begin,
                normal=as_expected and p99 <= 2 * usual_p99,
                p99_ms=round(p99 * 1000, 1),
                back_pressure=int(np.isin(window.of("status"), list(BACK_PRESSURE)).sum()),
                generator_late_ms=round(float(window.of("late").max()) * 1000, 1),
            )
        )
    return found


def back_to_normal(before: Sequence[Window], after: Sequence[Window]) -> float | None:
    """Seconds from the spike's end until it is `after` as it was `before`; None: never.

    Some windows are not normal when nothing has happened. So it is back with the first normal one after which no larger
    share is out of the normal than before, as far as a test at 5 % can tell (Fisher's exact one, one-sided).
    """
    usual = [window.normal for window in before]
    for number, window in enumerate(after):
        left = [each.normal for each in after[number:]]
        table = [[left.count(False), left.count(True)], [usual.count(False), usual.count(True)]]
        if window.normal and float(fisher_exact(table, "greater").pvalue) > 0.05:
            return window.second
    return None


def run(
    service: Service, routes: Sequence[Route], recorded: Sequence[bytes], options: argparse.Namespace
) -> dict[str, Any]:
    rate = LOOK_UPS * options.rate_scale
    phases = [
        Phase("warm-up", options.warm_minutes * 60, rate),
        Phase("steady", options.minutes * 60, rate),
        Phase("spike", options.spike_minutes * 60, rate * SPIKE),
        Phase("after", options.after_minutes * 60, rate),
    ]
    rates: dict[Kind, float] = {kind: each * options.rate_scale for kind, each in WRITES.items()}
    watch = Watch(service)
    watch.start()
    writers = Writers(service.port, service.api_key, rates, seed=options.seed, again=False, recorded=recorded)
    generator = Generator(Plan(service.port, routes, phases, options.seed, options.processes))
    writers.start()
    answers = generator.finish()
    writers.stop()
    watch.stop()
    begin, found, spans = 0.0, {}, {}
    for phase in phases:
        spans[phase.name] = begin, (end := begin + phase.seconds)
        since, until = generator.start + begin, generator.start + end
        within = answers.within(begin, end)
        if len(within.rows):
            found[phase.name] = {
                "minutes": phase.seconds / 60,
                "look_ups_per_second": {"wanted": phase.rate, "answered": _answered(within, phase.seconds)},
                "look_ups": within.summary(),
                "p99_ms": round(within.p99() * 1000, 1),
                "writes": summary([w for w in writers.writes if since <= w.due < until]),
                "generator_late": within.generator(),
                "queues": watch.depths(since, until),
            }
        begin = end
    usual = answers.within(*spans["steady"]).p99()
    looked = {name: judged(answers, *span, usual) for name, span in spans.items()}
    return {
        "phases": found,
        "memory": watch.memory(*(generator.start + at for at in spans["steady"])),
        "memory_throughout": watch.memory(generator.start, generator.start + begin),
        "seconds_back_to_normal": back_to_normal(looked["steady"], looked["after"]) if options.spike_minutes else None,
        "windows_not_normal": {
            name: [window._asdict() for window in seen if not window.normal] for name, seen in looked.items()
        },
        "connection_failures": dict(answers.failures),
        "records": _records(service, writers.writes),
    }


def _answered(answers: Answers, seconds: float) -> float:
    return round(float(sum(route["as_expected"] for route in answers.summary().values()) / seconds), 1)


def _records(service: Service, writes: Sequence[Write]) -> dict[str, Any]:
    """Of everything that was acknowledged."""
    with service.database() as url:
        drained = settle(url, writes, and_queue=True)
        standing = audit(service.settings, url, writes, FILES)
    return {"seconds_until_queue_is_empty": round(drained, 1), **vars(standing)}


def verdicts(found: dict[str, Any], minutes: float) -> dict[str, bool]:
    """What issue 7 asks for, as far as this run can say."""
    steady = found["phases"]["steady"]
    errors = [route["errors"] for route in steady["look_ups"].values()]
    errors += [kind["errors"] | kind["failed"] for kind in steady["writes"].values()]
    memory = found["memory"]
    said = {
        "no error but intended back-pressure": not any(errors),
        "nothing acknowledged is lost, doubled or unfinished": not any(
            found["records"][name] for name in ("lost", "doubled", "unfinished")
        ),
    }
    if all("flat" in part for part in memory.values()):
        said["memory is flat"] = all(part["flat"] for part in memory.values())
    if "spike" in found["phases"]:
        back = found["seconds_back_to_normal"]
        said[f"back to normal within {NORMAL_WITHIN:g} s"] = back is not None and back <= NORMAL_WITHIN
    said["as long as the issue asks"] = minutes >= 30
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--warm-minutes", type=float, default=10, help="Of the same load before, for memory to settle.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--spike-minutes", type=float, default=5)
    parser.add_argument("--after-minutes", type=float, default=2)
    parser.add_argument("--rate-scale", type=float, default=1, help="Part of all rates, for a slow machine.")
    parser.add_argument("--records", type=int, default=100_000, help="In the table before it starts.")
    parser.add_argument("--works", type=int, default=12, help="Of each studio in the collection.")
    parser.add_argument("--processes", type=int, default=2, help="Of the generator.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left running or mounted
    where = machine(options.seed, ["python", "-m", "benchmarks.load", *sys.argv[1:]])
    with tempfile.TemporaryDirectory(prefix="lawful-load-") as name:
        service, hashes = stocked(Path(name), dict(SETTINGS), options.records, options.works)
        try:
            service.start()
            records, files = warmed(service)
            begun = time.monotonic()
            found = run(service, look_ups(records, hashes, options.seed), files, options)
        except BaseException:
            sys.stderr.write(service.told.read_text()[-4000:])
            raise
        finally:
            service.stop()
    result = {
        "machine": where,
        "settings": SETTINGS,
        "rate_scale": options.rate_scale,
        "records_before": options.records,
        "flat_means": FLAT_MEANS,
        "minutes_in_all": round((time.monotonic() - begun) / 60, 1),
        "verdicts": verdicts(found, options.minutes),
        **found,
    }
    text = json.dumps(result, indent=2) + "\n"
    options.out.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
