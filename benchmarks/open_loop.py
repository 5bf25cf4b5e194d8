"""Requests at their appointed times, whatever the service does: an open loop over HTTP/1.1.

Arrivals are drawn from a seed before anything is sent (a Poisson process). An answer's time is counted from when its
request was due, so that a service that stalls is charged for everybody who came meanwhile (no coordinated omission).
How late the generator itself was, by then, is reported beside it.
"""

import asyncio
import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.log_processes import PROCESSES

PROCESSES.set_forkserver_preload([__name__])

ANSWER_SECONDS = 30.0
MOST_CONNECTIONS = 400
"""Of one process of the generator. Whoever waits for one is late, and is counted so."""

COLUMNS = ("route", "due", "late", "seconds", "status", "retry_after")
BACK_PRESSURE = {429, 503}
CLIENT_GAVE_UP, CONNECTION_FAILED = 1, 2  # in place of a status


class Reply(NamedTuple):
    status: int
    head: bytes  # in lower case
    body: bytes

    def header(self, name: str) -> str | None:
        _, found, rest = self.head.partition(f"\r\n{name}:".encode())
        return rest.partition(b"\r\n")[0].strip().decode() if found else None


class Http:
    """A visitor's side of HTTP/1.1 with kept connections, as lean as it can be: it shares the service's processors."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Reply:
        """Raises OSError or EOFError when the connection fails, TimeoutError after ANSWER_SECONDS.

        On a kept connection that the server had closed, it is sent once more.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        request = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}{lines}\r\n".encode() + body
        async with asyncio.timeout(ANSWER_SECONDS):
            while self._idle:
                kept = self._idle.pop()
                if not kept[0].at_eof():
                    try:
                        return await self._exchange(*kept, request)
                    except (OSError, EOFError):
                        if method != "GET":
                            raise
                        break
            return await self._exchange(*await asyncio.open_connection("127.0.0.1", self._port), request)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Reply:
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            reply = Reply(int(head[9:12]), head, b"")
            reply = reply._replace(body=await _body(reader, reply))
        except BaseException:
            writer.close()
            raise
        if reply.header("connection") == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        return reply

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


async def _body(reader: asyncio.StreamReader, reply: Reply) -> bytes:
    length = reply.header("content-length")
    if length is not None:
        return await reader.readexactly(int(length))
    if reply.header("transfer-encoding") != "chunked":
        return b""
    parts = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(parts)


class Phase(NamedTuple):
    """`rate`: requests a second, of all processes together."""

    name: str
    seconds: float
    rate: float


@dataclass(frozen=True)
class Route:
    """A kind of request. `paths`: one is drawn for each; `{}` in them becomes 64 random hex digits."""

    name: str
    weight: float
    paths: Sequence[str]
    expected: int = 200
    accept: str = "application/json"


@dataclass(frozen=True)
class Plan:
    port: int
    routes: Sequence[Route]
    phases: Sequence[Phase]
    seed: int
    processes: int = 2

    def arrivals(self, process: int) -> Iterator[tuple[float, int, str]]:
        """(seconds from the start, number of the route, path) of one process, in order."""
        chance = np.random.default_rng([self.seed, process + 1])  # [seed, 0] is the stream of the seed alone
        weights = np.asarray([route.weight for route in self.routes])
        begun = 0.0
        for phase in self.phases:
            at, end = begun, begun + phase.seconds
            while phase.rate > 0 and (at := at + chance.exponential(self.processes / phase.rate)) < end:
                number = int(chance.choice(len(weights), p=weights / weights.sum()))
                paths = self.routes[number].paths
                yield at, number, paths[int(chance.integers(len(paths)))].replace("{}", chance.bytes(32).hex())
            begun = end


@dataclass
class Answers:
    """A row for each request, in COLUMNS; `due` in seconds from the start, `late` and `seconds` from `due`."""

    plan: Plan
    rows: NDArray[np.float64]
    failures: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of_rows(cls, plan: Plan, rows: list[tuple[float, ...]]) -> "Answers":
        return cls(plan, _table(list(rows)))

    def of(self, name: str) -> NDArray[np.float64]:
        return np.asarray(self.rows[:, COLUMNS.index(name)])

    def within(self, begin: float, end: float) -> "Answers":
        """Those that were due then."""
        return Answers(self.plan, self.rows[(self.of("due") >= begin) & (self.of("due") < end)], self.failures)

    def summary(self) -> dict[str, Any]:
        """Per route: how many, how they ended, p50 and p99 in milliseconds of what was answered as expected."""
        routes = {}
        for number, route in enumerate(self.plan.routes):
            rows = Answers(self.plan, self.rows[self.of("route") == number])
            status, waits = rows.of("status").astype(int), rows.of("retry_after") > 0
            told = np.isin(status, list(BACK_PRESSURE)) & waits
            others = status[(status != route.expected) & ~told]
            routes[route.name] = {
                "count": len(status),
                "as_expected": int((status == route.expected).sum()),
                "back_pressure": {str(code): int((status[told] == code).sum()) for code in sorted(set(status[told]))},
                "errors": {_named(code): int((others == code).sum()) for code in sorted(set(others))},
                **percentiles(rows.of("seconds")[status == route.expected]),
            }
        return routes

    def p99(self) -> float:
        """Seconds, over all routes, of what was not turned away at once."""
        taken = self.of("seconds")[~np.isin(self.of("status"), list(BACK_PRESSURE))]
        return float(np.percentile(taken, 99)) if len(taken) else float("nan")

    def generator(self) -> dict[str, float]:
        """How late it was itself, in milliseconds."""
        return percentiles(self.of("late"))


def percentiles(seconds: NDArray[np.float64]) -> dict[str, float]:
    if not len(seconds):
        return {}
    middle, high = np.percentile(seconds * 1000, (50, 99))
    return {"p50_ms": round(float(middle), 2), "p99_ms": round(float(high), 2)}


def _named(status: int) -> str:
    return {CLIENT_GAVE_UP: f"no answer in {ANSWER_SECONDS:g} s", CONNECTION_FAILED: "connection failed"}.get(
        status, str(status)
    )


class Generator:
    """Runs a plan in processes of its own. `start` is the monotonic time of second 0."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._pipes, self._processes = [], []
        for number in range(plan.processes):
            here, there = PROCESSES.Pipe()
            process = PROCESSES.Process(target=_run, args=(plan, number, there), daemon=True)
            process.start()
            self._pipes.append(here)
            self._processes.append(process)
        for pipe in self._pipes:
            assert pipe.recv() == "ready"
        self.start = time.monotonic() + 0.5
        for pipe in self._pipes:
            pipe.send(self.start)

    def finish(self) -> Answers:
        """Wait for the last answer."""
        rows, failures = [], Counter[str]()
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            each, failed = pipe.recv()
            rows.append(each)
            failures.update(failed)
            process.join(30)
        return Answers(self.plan, np.concatenate(rows), failures)


def _run(plan: Plan, number: int, pipe: Connection) -> None:
    pipe.send("ready")
    rows: list[tuple[float, ...]] = []
    failures = asyncio.run(keep(plan, number, pipe.recv(), rows))
    pipe.send((_table(rows), failures))


def _table(rows: list[tuple[float, ...]]) -> NDArray[np.float64]:
    return np.asarray(rows, np.float64).reshape(-1, len(COLUMNS))


async def keep(
    plan: Plan, number: int, start: float, rows: list[tuple[float, ...]], ended: threading.Event | None = None
) -> Counter[str]:
    """Send one process's share, until `ended`; each answer is added to `rows`. Returns the connections' failures."""
    http, slots = Http(plan.port), asyncio.Semaphore(MOST_CONNECTIONS)
    failures: Counter[str] = Counter()

    async def ask(due: float, route: int, path: str) -> None:
        async with slots:
            late, retry_after = time.monotonic() - start - due, 0
            try:
                reply = await http.send("GET", path, {"Accept": plan.routes[route].accept})
                status, retry_after = reply.status, reply.header("retry-after") is not None
            except TimeoutError:
                status = CLIENT_GAVE_UP
            except (OSError, EOFError) as error:
                status = CONNECTION_FAILED
                failures[type(error).__name__] += 1
        rows.append((route, due, late, time.monotonic() - start - due, status, retry_after))

    asking: set[asyncio.Task[None]] = set()
    for turn, (due, route, path) in enumerate(plan.arrivals(number)):
        if ended is not None and ended.is_set():
            break
        if (ahead := start + due - time.monotonic()) > 0:
            await asyncio.sleep(ahead)
        elif turn % 20 == 0:
            await asyncio.sleep(0)  # late: but what was asked has to be sent
        task = asyncio.create_task(ask(due, route, path))
        asking.add(task)
        task.add_done_callback(asking.discard)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*asking)
    http.close()
    return failures


def windows(answers: Answers, begin: float, end: float, seconds: float) -> Iterator[tuple[float, Answers]]:
    """Those of each `seconds`, with when they begin; windows in which nothing was due are left out."""
    for index in itertools.count():
        at = begin + index * seconds
        if at >= end:
            return
        found = answers.within(at, min(at + seconds, end))
        if len(found.rows):
            yield at, found
