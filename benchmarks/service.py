"""A real ledger for the benchmarks of the whole service: `lawful up` on a fresh home, stocked, watched from outside."""

import http.client
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ledger import genesis
from ledger.commands.frame import UNAVAILABLE, Invocation
from ledger.database.embedded import APP, EmbeddedPostgres
from ledger.database.postmaster import Postmaster
from ledger.settings import Settings

START_SECONDS = 1200.0
SAMPLE_SECONDS = 5.0
BLOCKS = 10
T_95 = 2.306  # Student's t, two-sided 95 %, for a line through BLOCKS means: 8 degrees of freedom
FLAT_MIB_PER_MINUTE = 0.1


class Service:
    """`lawful up` and whatever stands beside it. `settings` are given with --set, and said in the result."""

    def __init__(
        self, home: Path, settings: Mapping[str, object], environment: Mapping[str, str] | None = None
    ) -> None:
        self.home, self.port = home, free_port()
        self.given = {"port": self.port, **settings}
        self.environment = dict(environment or {})
        self._beside: list[subprocess.Popen[bytes]] = []
        self._up: subprocess.Popen[bytes] | None = None
        self.told = home.with_name("told.log")
        self.api_key = genesis.found(self.settings).api_key or ""

    @property
    def invocation(self) -> Invocation:
        return Invocation(self.home, tuple(f"{name}={value}" for name, value in self.given.items()))

    @property
    def settings(self) -> Settings:
        return self.invocation.settings()

    def command(self, *words: str) -> None:
        """Run one to its end, beside or before the service."""
        subprocess.run(self.invocation.argv(*words), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start(self) -> None:
        """Returns once it is ready. On a machine so busy that `up` gives up, it is started again."""
        self._up = self._popen("up", "--json")
        self.wait(self._is_started, "the service to be ready", START_SECONDS)

    def _is_started(self) -> bool:
        assert self._up is not None
        if self._up.poll() == UNAVAILABLE:
            self._up = self._popen("up", "--json")
        return self.is_ready()

    def beside(self, *words: str) -> "subprocess.Popen[bytes]":
        """Another process of the ledger, such as a second worker."""
        process = self._popen(*words)
        self._beside.append(process)
        return process

    def _popen(self, *words: str) -> "subprocess.Popen[bytes]":
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        with self.told.open("ab") as told:
            return subprocess.Popen(
                ["env", *variables, *self.invocation.argv(*words)],  # which becomes it, with the same process id
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=told,
                start_new_session=True,
            )

    def stop(self) -> None:
        for process in [*self._beside, *([self._up] if self._up else [])]:
            if process.poll() is None:
                process.terminate()
        for process in [*self._beside, *([self._up] if self._up else [])]:
            process.wait(120)
        self._beside.clear()
        self._up = None

    @contextmanager
    def database(self) -> Iterator[str]:
        """The database's URL, as the service's own role."""
        server = EmbeddedPostgres(self.settings.postgres_folder)
        try:
            yield server.url(APP)
        finally:
            server.detach()

    def is_ready(self) -> bool:
        if self._up is not None and self._up.poll() is not None:
            raise AssertionError(f"it ended with {self._up.returncode}: {self.told.read_text()[-2000:]}")
        return self.status("/readyz") == 200

    def status(self, path: str) -> int:
        """0 where nothing answers."""
        return self._get(path)[0]

    def standing(self) -> dict[str, Any] | None:
        """What `/v1/standing` says; None while it does not."""
        status, body = self._get("/v1/standing")
        return json.loads(body) if status == 200 else None

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.api_key}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    @staticmethod
    def wait(true: Callable[[], bool], what: str, seconds: float, pause: float = 0.1) -> float:
        """Seconds until it is; AssertionError after `seconds`."""
        begun = time.monotonic()
        while not true():
            assert time.monotonic() - begun < seconds, f"waited {seconds:g} s in vain for {what}"
            time.sleep(pause)
        return time.monotonic() - begun

    def pid(self, part: str) -> int:
        """Of `up`, of one that it keeps running (`web`, `worker`), or of `postgres`; 0 while there is none."""
        assert self._up is not None
        if part == "up":
            return self._up.pid
        if part == "postgres":
            postmaster = Postmaster.read(self.home / "postgres" / "cluster" / "data")
            return postmaster.pid if postmaster is not None and Path(f"/proc/{postmaster.pid}").exists() else 0
        for pid in _children(self._up.pid):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"run" in words and words[words.index(b"run") + 1] == part.encode():
                return pid
        return 0


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


# ---- memory and queues -----------------------------------------------------------------------------------------------


class Memory(NamedTuple):
    """MiB. `anonymous` is what the process alone made, where a leak would show: the rest are pages of files and
    Postgres's shared buffers, which fill up to the size they are given."""

    resident: float
    anonymous: float


class Watch(threading.Thread):
    """Every SAMPLE_SECONDS: the memory of each process, and how long the queues are.

    Of Postgres the proportional set of all its processes, since they share their buffers.
    """

    def __init__(self, service: Service) -> None:
        super().__init__(name="watch", daemon=True)
        self._service = service
        self._ended = threading.Event()
        self.samples: list[tuple[float, dict[str, tuple[int, Memory]]]] = []  # (when, part → (pid, its memory))
        self.queues: list[tuple[float, dict[str, int]]] = []

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            now = time.monotonic()
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended: seen the next time
                self.samples.append((now, self._memory()))
            if (standing := self._service.standing()) is not None:
                waiting = {task: queue["waiting"] + queue["running"] for task, queue in standing["queues"].items()}
                failed = sum(queue["failed"] for queue in standing["queues"].values())
                self.queues.append((now, {**waiting, "outbox": standing["outbox"], "failed": failed}))

    def stop(self) -> None:
        self._ended.set()
        self.join(30)

    def _memory(self) -> dict[str, tuple[int, Memory]]:
        parts = {part: self._service.pid(part) for part in ("up", "web", "worker")}
        found = {part: (pid, _own(pid)) for part, pid in parts.items() if pid}
        if server := self._service.pid("postgres"):
            shares = [_proportional(each) for each in [server, *_children(server)]]
            found["postgres"] = (server, Memory(*(sum(each) for each in zip(*shares, strict=True))))
        return found

    def memory(self, begin: float, end: float) -> dict[str, Any]:
        """Per part: MiB at the ends, and the slope of what is anonymous with its 95 % interval.

        The interval is that of a line through the means of ten equal blocks: single samples lean on one another.
        """
        found = {}
        for part in ("up", "web", "worker", "postgres"):
            rows = [(when, *sample[part]) for when, sample in self.samples if part in sample and begin <= when < end]
            if not rows:
                continue
            resident, anonymous = np.asarray([row[2] for row in rows]).T
            found[part] = {
                "processes": len({row[1] for row in rows}),
                "resident_mib": _ends(resident),
                "anonymous_mib": _ends(anonymous),
                **slope(np.asarray([row[0] for row in rows]), anonymous),
            }
        return found

    def depths(self, begin: float, end: float) -> dict[str, dict[str, float]]:
        """Per queue: its mean and greatest length, and the last one."""
        rows = [queues for when, queues in self.queues if begin <= when < end]
        tasks = sorted({task for queues in rows for task in queues})
        lengths = {task: [queues.get(task, 0) for queues in rows] for task in tasks}
        return {
            task: {"mean": round(float(np.mean(each)), 2), "most": max(each), "last": each[-1]}
            for task, each in lengths.items()
        }


def slope(times: NDArray[np.float64], mebibytes: NDArray[np.float64]) -> dict[str, Any]:
    """MiB a minute with its 95 % interval; `flat`: it holds 0, or nothing above FLAT_MIB_PER_MINUTE."""
    times = times / 60
    if len(times) < 2 * BLOCKS:
        return {"slope": "too few samples"}
    x = np.asarray([block.mean() for block in np.array_split(times, BLOCKS)])
    y = np.asarray([block.mean() for block in np.array_split(mebibytes, BLOCKS)])
    spread = x - x.mean()
    rate = float((spread * (y - y.mean())).sum() / (spread**2).sum())
    left = y - y.mean() - rate * spread
    error = T_95 * float(np.sqrt((left**2).sum() / (BLOCKS - 2) / (spread**2).sum()))
    low, high = rate - error, rate + error
    return {
        "slope_mib_per_minute": [round(value, 3) for value in (low, rate, high)],
        "flat": low <= 0 or high <= FLAT_MIB_PER_MINUTE,
    }


def _ends(mebibytes: NDArray[np.float64]) -> dict[str, float]:
    ends = {"first": mebibytes[0], "last": mebibytes[-1], "highest": mebibytes.max()}
    return {name: round(float(value), 1) for name, value in ends.items()}


def _own(pid: int) -> Memory:
    return Memory(*_mebibytes(Path(f"/proc/{pid}/status").read_text(), "\nVmRSS:", "\nRssAnon:"))


def _proportional(pid: int) -> Memory:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (OSError, ProcessLookupError):
        return Memory(0.0, 0.0)  # a backend that has just left
    return Memory(*_mebibytes(rollup, "\nPss:", "\nPss_Anon:"))


def _mebibytes(text: str, *names: str) -> list[float]:
    """Of lines such as `VmRSS:  1024 kB`; 0 where there is none."""
    return [int((text.partition(name)[2].split() or ["0"])[0]) / 1024 for name in names]


def machine(seed: int, words: Sequence[str]) -> dict[str, Any]:
    """What a result says of where and how it was made."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "command": " ".join(words),
        "seed": seed,
        "cores": os.cpu_count(),
        "processor": model[0].partition(":")[2].strip() if model else "unknown",
        "memory_gib": round(pages / 2**30, 1),
        "load_before": [round(each, 2) for each in os.getloadavg()],
    }
