"""A whole ledger under a small load while its parts die, one after another: python -m benchmarks.faults [--only NAME]

`lawful up` with a second worker standing by, a timestamp authority and a witness that every record waits for; files in
a folder on a small disk, and at the end in a bucket. Visitors look up, writers hand in and try again under their keys.
After each fault: how long until a look-up is answered and a stamp finished again, and then, with the writers still at
work: every acknowledged record is there once, its entries stand in the log once, its file verifies offline, every
accepted job has ended or goes on, and the log from its first entry is the one that was shown before. It fails at the
first fault after which that is not so. `benchmarks.log_faults` does the same to the log alone, much harder.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.load import stocked, warmed
from benchmarks.log_hammer import Audit, Client
from benchmarks.log_processes import Place
from benchmarks.open_loop import Answers, Phase, Plan, Route, keep
from benchmarks.outside import Bucket, Gate, ShiftedClock
from benchmarks.service import Service, machine
from benchmarks.writers import Kind, Writers, audit, settle, summary
from ledger.keys.ring import keys_of
from ledger.logs import write_to_stderr
from tests.integration.timestamp_authority import running_authority
from tests.integration.witness_at_work import a_witness, policy

LOOK_UPS = 10.0  # a second
WRITES: dict[Kind, float] = {"verification": 12.0, "stamp": 20.0, "generation": 3.0}  # a minute
OUTAGE = 15.0  # seconds that something is out of order
PATIENCE = 600.0
FILES = 5
DISK = "256m"
MEMORY_LEFT = 16 * 2**20  # bytes of address space beyond what the worker has
CLOCK_JUMP = 3600

RESULT = Path(__file__).parent / "results" / "faults.json"


class Visitors(threading.Thread):
    """Look-ups, in an open loop, until stopped."""

    def __init__(self, port: int, seed: int) -> None:
        super().__init__(name="visitors", daemon=True)
        route = Route("unknown hash", 1, ["/v1/records?file_sha256={}"])
        self._plan = Plan(port, [route], [Phase("faults", 10**6, LOOK_UPS)], seed, processes=1)
        self._ended = threading.Event()
        self._rows: list[tuple[float, ...]] = []
        self.begun = time.monotonic()

    def run(self) -> None:
        asyncio.run(keep(self._plan, 0, self.begun, self._rows, self._ended))

    def stop(self) -> None:
        self._ended.set()
        self.join(60)

    def between(self, begin: float, end: float) -> Answers:
        """Those that were due between two monotonic times and have their answers."""
        return Answers.of_rows(self._plan, self._rows).within(begin - self.begun, end - self.begun)


class Arena:
    """The service, what it leans on, its visitors and writers, and a client of its log that forgets nothing."""

    def __init__(self, service: Service, recorded: list[bytes], seed: int, outage: float, rate_scale: float) -> None:
        self.service, self.outage = service, outage
        rates: dict[Kind, float] = {kind: rate * rate_scale for kind, rate in WRITES.items()}
        self.writers = Writers(service.port, service.api_key, rates, seed=seed, again=True, recorded=recorded)
        self.visitors = Visitors(service.port, seed)
        self._hold = contextlib.ExitStack()
        url = self._hold.enter_context(service.database())
        self.place = Place(url, keys_of(service.settings).log.skey, service.settings.keys_folder / "log.head")
        self.client = Client(self.place)
        self.remarks: dict[str, object] = {}

    def __enter__(self) -> "Arena":
        for each in (self.client, self.visitors, self.writers):
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.writers.stop(leave=True)
        self.visitors.stop()
        self.client.stop()
        self._hold.close()

    def kill(self, part: str, sign: signal.Signals = signal.SIGKILL) -> None:
        pid = self.service.pid(part)
        assert pid, f"there is no {part} to kill"
        os.kill(pid, sign)

    def recovered(self, since: float) -> dict[str, float]:
        """Seconds from `since` until a look-up is answered, and until somebody's stamp is finished."""
        service = self.service
        service.wait(lambda: service.status(f"/v1/records?file_sha256={'0' * 64}") == 200, "a look-up", PATIENCE)
        looked_up = time.monotonic() - since
        service.wait(lambda: self._stamps_since(since) != [], "a stamp to be finished", PATIENCE)
        return {"look_up_s": round(looked_up, 1), "stamp_s": round(min(self._stamps_since(since)) - since, 1)}

    def _stamps_since(self, since: float) -> list[float]:
        done = [w.due + w.finished for w in list(self.writers.writes) if w.kind == "stamp" and w.finished is not None]
        return [each for each in done if each > since]

    def check(self, name: str) -> dict[str, Any]:
        """That all is well with what was acknowledged until now, while the load goes on."""
        told = [write for write in list(self.writers.writes) if write.acknowledged]
        settle(self.place.url, told, and_queue=not self.writers.is_alive(), seconds=PATIENCE)
        standing = audit(self.service.settings, self.place.url, told, FILES)
        assert standing.is_well, f"after {name!r}: {standing}"
        with psycopg.connect(self.place.url, autocommit=True) as connection:
            size = Audit(self.place, list).check(connection)
        assert not self.client.contradictions, f"after {name!r}: {self.client.contradictions}"
        return {**vars(standing), "log_size": size}


# ---- faults: each context is the time during which something is out of order -----------------------------------------

Fault = Callable[[Arena], AbstractContextManager[None]]


def killed(part: str, sign: signal.Signals = signal.SIGKILL) -> Fault:
    @contextlib.contextmanager
    def fault(arena: Arena) -> Iterator[None]:
        arena.kill(part, sign)
        yield

    return fault


@contextlib.contextmanager
def sequencer_host_killed(arena: Arena) -> Iterator[None]:
    """The worker that writes the log, with another one standing by, which then is the one that is killed."""
    told = arena.service.told
    ready = told.read_text().count('"worker_ready"')
    standby = arena.service.beside("run", "worker")
    arena.service.wait(lambda: told.read_text().count('"worker_ready"') > ready, "the worker standing by", PATIENCE)
    active = told.read_text().count('"sequencer_active"')
    begun = time.monotonic()
    arena.kill("worker")
    arena.service.wait(lambda: told.read_text().count('"sequencer_active"') > active, "the takeover", PATIENCE, 0.02)
    arena.remarks["taken_over_after_s"] = round(time.monotonic() - begun, 2)
    arena.recovered(begun)
    standby.kill()
    standby.wait()
    yield


@contextlib.contextmanager
def out_of_memory(arena: Arena) -> Iterator[None]:
    """RLIMIT_AS of the running worker, a little above what it has: allocations fail, as with no swap and no memory."""
    pid = arena.service.pid("worker")
    former = resource.prlimit(pid, resource.RLIMIT_AS)
    size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.prlimit(pid, resource.RLIMIT_AS, (size + MEMORY_LEFT, former[1]))
    time.sleep(arena.outage)
    died = arena.service.pid("worker") != pid
    arena.remarks["the worker"] = "died and was started again" if died else "lived"
    if not died:
        resource.prlimit(pid, resource.RLIMIT_AS, former)
    yield


def full_disk(folder: Path) -> Fault:
    @contextlib.contextmanager
    def fault(arena: Arena) -> Iterator[None]:
        ballast = folder / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 65_536)
        time.sleep(arena.outage)
        ballast.unlink()
        yield

    return fault


def outage(of: Callable[[], AbstractContextManager[object]]) -> Fault:
    @contextlib.contextmanager
    def fault(arena: Arena) -> Iterator[None]:
        with of():
            time.sleep(arena.outage)
        yield

    return fault


def half_of_writes_fail(bucket: Bucket) -> Fault:
    @contextlib.contextmanager
    def fault(arena: Arena) -> Iterator[None]:
        bucket.writes.clear()
        bucket.failing = 0.5
        time.sleep(2 * arena.outage)
        bucket.failing = 0.0
        arena.remarks["writes_to_the_bucket"] = dict(bucket.writes)
        yield

    return fault


def clock_jumps(clock: ShiftedClock) -> Fault:
    """Forward for a while, and back."""

    @contextlib.contextmanager
    def fault(arena: Arena) -> Iterator[None]:
        clock.jump(CLOCK_JUMP)
        time.sleep(arena.outage)
        clock.jump(0)
        yield

    return fault


def suffer(arena: Arena, name: str, fault: Fault) -> dict[str, Any]:
    """One fault: what visitors and writers saw, how long it took to recover, and that nothing was lost."""
    arena.remarks.clear()
    begun = time.monotonic()
    with fault(arena):
        pass
    over = time.monotonic()
    since = begun if over - begun < 1 else over
    recovered = arena.recovered(since)
    end = time.monotonic()
    found = {
        "out_of_order_s": round(over - begun, 1),
        "recovered_after": recovered,
        **arena.remarks,
        "look_ups": arena.visitors.between(begun, end).summary()["unknown hash"],
        "writes": summary([write for write in arena.writers.writes if begun <= write.due < end]),
        "standing": arena.check(name),
    }
    print(f"{name}: {json.dumps({**recovered, **arena.remarks})}", file=sys.stderr, flush=True)
    return found


def mounted(folder: Path) -> bool:
    """A small disk of its own, where this may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


def run(
    folder: Path, seed: int, outage_seconds: float, rate_scale: float, only: Sequence[str] = ("",)
) -> dict[str, Any]:
    """All faults in turn, or those with one of `only` in their names. Raises AssertionError at what must not be."""
    found: dict[str, Any] = {"faults": {}, "left_out": {}}
    store = folder / "store"
    is_small = mounted(store)
    clock = ShiftedClock.build(folder)
    with contextlib.ExitStack() as stack:
        if is_small:
            stack.callback(subprocess.run, ["umount", str(store)], check=True)
        else:
            found["left_out"]["disk full"] = "nobody here may mount a small disk"
        if clock is None:
            found["left_out"]["the clock jumps"] = "there is no C compiler"
        authority = stack.enter_context(running_authority(folder / "authority"))
        tsa = Gate(int(authority.url.split(":")[2].rstrip("/")))
        settings: dict[str, object] = {
            "storage_url": store.as_uri(),
            "tsa_url": f"http://127.0.0.1:{tsa.port}/",
            "witness_policy": folder / "policy.txt",
            "witness_interval": 0.2,
            "issue_wait": "witnessed",
            "looks_per_minute": 100_000,
        }
        service, _ = stocked(folder, settings | {"issue_wait": "integrated", "witness_policy": ""}, 0, 2)
        service.environment |= clock.environment if clock else {}
        witness = stack.enter_context(a_witness(folder / "witness", keys_of(service.settings).log.verifier))
        gate = Gate(int(witness.url.rpartition(":")[2]))
        policy(folder / "policy.txt", [(witness.vkey, f"http://127.0.0.1:{gate.port}")])
        service.given |= settings
        faults: dict[str, Fault] = {
            "web killed": killed("web"),
            "worker killed": killed("worker"),
            "sequencer's host killed, another standing by": sequencer_host_killed,
            "postgres stopped with immediate": killed("postgres", signal.SIGQUIT),
            "worker out of memory": out_of_memory,
            "timestamp authority hangs": outage(tsa.hanging),
            "timestamp authority refuses": outage(tsa.refusing),
            "witness hangs": outage(gate.hanging),
            "witness refuses": outage(gate.refusing),
        }
        if is_small:
            faults["disk full"] = full_disk(store)
        if clock is not None:
            faults["the clock jumps"] = clock_jumps(clock)
        bucket = Bucket(store, seed)
        stack.callback(bucket.close)
        in_bucket: dict[str, Fault] = {"object storage fails half its writes": half_of_writes_fail(bucket)}
        try:
            both: list[tuple[dict[str, Fault], dict[str, object], dict[str, str]]] = [
                (faults, {}, {}),
                (in_bucket, {"storage_url": f"s3://{Bucket.NAME}"}, bucket.environment),
            ]
            for turn, (all_of_them, given, variables) in enumerate(both):
                chosen = {name: fault for name, fault in all_of_them.items() if any(each in name for each in only)}
                if not chosen:
                    continue
                service.given |= given
                service.environment |= variables
                service.start()
                _, files = warmed(service)
                pictures = seed + turn  # nobody hands in the same picture twice, which would count as doubled
                with Arena(service, files, pictures, outage_seconds, rate_scale) as arena:
                    for name, fault in chosen.items():
                        found["faults"][name] = suffer(arena, name, fault)
                    arena.writers.stop()
                    at_the_end = arena.check("the end")
                    found.setdefault("at_the_end", []).append(at_the_end | {"writes": summary(arena.writers.writes)})
                service.stop()
        except BaseException:
            sys.stderr.write(service.told.read_text()[-6000:])
            raise
        finally:
            service.stop()
    return {"settings": {name: str(value) for name, value in settings.items()}, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outage", type=float, default=OUTAGE, help="Seconds that something is out of order.")
    parser.add_argument("--rate-scale", type=float, default=1, help="Part of all writes, for a slow machine.")
    parser.add_argument("--only", nargs="+", default=[""], help="Faults with one of these in their name.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left running or mounted
    # The witness runs in this process; what it has to say of each round would bury what is found.
    write_to_stderr(logging.ERROR)
    where = machine(options.seed, ["python", "-m", "benchmarks.faults", *sys.argv[1:]])
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lawful-faults-") as name:
        found = run(Path(name), options.seed, options.outage, options.rate_scale, options.only)
    result = {
        "machine": where,
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "look_ups_per_second": LOOK_UPS,
        "writes_per_minute": WRITES,
        "rate_scale": options.rate_scale,
        **found,
    }
    text = json.dumps(result, indent=2) + "\n"
    options.out.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
