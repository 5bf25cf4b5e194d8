"""Some thousand inputs of `make fuzz`, the same at every run; and that the fuzzer finds what is there to be found."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.fuzz import judging
from benchmarks.fuzz.files import decoders, file_targets
from benchmarks.fuzz.judging import Finding, Pool, judged, judged_apart, keep
from benchmarks.fuzz.mutation import made
from benchmarks.fuzz.parsers import PARSERS
from benchmarks.fuzz.target import Target
from ledger.errors import BadRequest


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_reads_or_refuses(name: str) -> None:
    assert judged(name, PARSERS[name], 0, range(80)).findings == []


@pytest.fixture(scope="module")
def files() -> Iterator[dict[str, Target]]:
    with decoders() as opened:
        yield file_targets(opened)


@pytest.mark.parametrize("name", ["image", "credential"])
def test_a_file_is_opened_or_refused(files: dict[str, Target], name: str) -> None:
    assert judged(name, files[name], 0, range(150)).findings == []


@pytest.mark.parametrize("name", ["image", "credential"])
def test_not_everything_is_refused_at_the_door(files: dict[str, Target], name: str) -> None:
    read, refused = 0, 0
    for number in range(60):
        try:
            files[name].read(made(name, files[name], 1, number))
            read += 1
        except files[name].errors:
            refused += 1
    assert read > 10
    assert name == "credential" or refused > 10


def test_an_input_follows_from_its_number() -> None:
    target = PARSERS["statement"]
    inputs = [made("statement", target, 5, number) for number in range(50)]
    assert inputs == [made("statement", target, 5, number) for number in range(50)]
    assert inputs != [made("statement", target, 6, number) for number in range(50)]
    assert len(set(inputs)) > 40


def test_an_error_that_nobody_expects_is_a_finding_and_its_input_is_kept(tmp_path: Path) -> None:
    def read(data: bytes) -> None:
        if len(data) > 3:
            raise ValueError("too long for me")

    target = Target(read, (BadRequest,), [b"abcdef"])
    found = judged("hostile", target, 0, range(20)).findings
    assert Finding("hostile", found[0].number, "ValueError: too long for me") in found
    told = keep(tmp_path, {"hostile": target}, 0, found[:1])
    assert (tmp_path / told[0]["file"]).read_bytes() == made("hostile", target, 0, found[0].number)


def test_an_error_without_a_next_step_is_a_finding() -> None:
    def read(data: bytes) -> None:
        raise BadRequest("no", next_step="")

    assert len(judged("mute", Target(read, (BadRequest,), [b"a"]), 0, range(3)).findings) == 3


def test_what_hangs_and_what_is_slow_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(data: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr(judging, "HANG_SECONDS", 0.2)
    monkeypatch.setattr(judging, "MOST_SECONDS", 0.1)
    hung, slow = judged("endless", Target(read, (), [b"a"]), 0, range(1)).findings
    assert hung.what.startswith("Hang")
    assert slow.what.endswith("seconds")


def test_a_process_that_ends_is_replaced_and_judging_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool()
    try:
        assert judged_apart("tile path", 0, range(3), pool).inputs["tile path"] == 3
        assert pool._executor is not None
        (pid,) = pool._executor._processes
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
        again = judged_apart("tile path", 0, range(3), pool)
        assert again.inputs["tile path"] == 3
        assert again.findings == []
    finally:
        pool.close()
