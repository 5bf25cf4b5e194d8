"""One input after another, each judged: an answer or a documented error, within 2 seconds and the limit of memory."""

import multiprocessing
import resource
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fuzz.mutation import made
from benchmarks.fuzz.target import Target

MOST_SECONDS = 2.0  # of processor time, since the machine may be busy; a decoder's own is bounded by the kernel
HANG_SECONDS = 20
MEMORY_BYTES = 2**30  # of address space, of a process that parses; the libraries alone take half of it
BATCH = 500


@dataclass(frozen=True)
class Finding:
    target: str
    number: int
    what: str


@dataclass
class Tally:
    inputs: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    slowest: float = 0.0
    slowest_input: str = ""

    def add(self, other: "Tally") -> None:
        self.inputs += other.inputs
        self.findings += other.findings
        if other.slowest > self.slowest:
            self.slowest, self.slowest_input = other.slowest, other.slowest_input


class Hang(BaseException):
    """No parser catches it."""


@contextmanager
def ended_when_it_hangs() -> Iterator[None]:
    """Raises Hang in whatever computes longer. Python code alone hears it; the kernel's limit ends the rest."""

    def hang(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGVTALRM, hang)
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def judged(name: str, target: Target, seed: int, numbers: Iterable[int]) -> Tally:
    """In this process."""
    tally = Tally()
    for number in numbers:
        data = made(name, target, seed, number)
        tally.inputs[name] += 1
        started = time.process_time()
        try:
            with ended_when_it_hangs():
                if not target.answers(data):
                    tally.findings.append(Finding(name, number, "an error without code or next step"))
        except (Exception, Hang) as error:  # noqa: BLE001 - this is what is looked for
            tally.findings.append(Finding(name, number, f"{type(error).__name__}: {error}"[:300]))
        took = time.process_time() - started
        if took > tally.slowest:
            tally.slowest, tally.slowest_input = took, f"{name}/{number}"
        if took > MOST_SECONDS:
            tally.findings.append(Finding(name, number, f"{took:.1f} seconds"))
    return tally


def judged_apart(name: str, seed: int, numbers: range, pool: "Pool") -> Tally:
    """In another process, which an input may end: then each of the batch has one of its own."""
    try:
        return pool.ask(name, seed, numbers)
    except BrokenProcessPool:
        tally = Tally()
        for number in numbers:
            try:
                tally.add(pool.ask(name, seed, range(number, number + 1)))
            except BrokenProcessPool:
                tally.inputs[name] += 1
                tally.findings.append(Finding(name, number, "the process ended"))
        return tally


class Pool:
    """One process that parses, under a limit of memory; started again when it ended."""

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None

    def ask(self, name: str, seed: int, numbers: range) -> Tally:
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(1, context, initializer=_confine)
        try:
            return self._executor.submit(_judge_parser, name, seed, numbers).result()
        except BrokenProcessPool:
            self.close()
            raise

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None


def _confine() -> None:
    from benchmarks.fuzz import parsers  # noqa: F401 - before the limit: the libraries are not what is measured

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _judge_parser(name: str, seed: int, numbers: range) -> Tally:
    from benchmarks.fuzz.parsers import PARSERS

    return judged(name, PARSERS[name], seed, numbers)


def keep(folder: Path, targets: Mapping[str, Target], seed: int, findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Write each input that was found as a file, and what to say of it."""
    told = []
    for each in findings:
        path = folder / f"{each.target.replace(' ', '-')}-{seed}-{each.number}"
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made(each.target, targets[each.target], seed, each.number))
        told.append({"target": each.target, "number": each.number, "what": each.what, "file": path.name})
    return told
