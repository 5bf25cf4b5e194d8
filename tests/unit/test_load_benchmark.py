"""The load run measures what it says: from when a request was due, and memory that grows is called growing."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.load import back_to_normal, judged
from benchmarks.open_loop import Answers, Phase, Plan, Route, keep
from benchmarks.outside import Bucket, Gate, ShiftedClock
from benchmarks.service import slope
from ledger.errors import NotFound, Unavailable
from ledger.storage import Storage

ROUTES = [Route("known", 3, ["/a", "/b"]), Route("unknown", 1, ["/{}"], expected=404)]
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_a_plan_is_the_same_for_a_seed_and_keeps_its_rate() -> None:
    plan = Plan(0, ROUTES, [Phase("steady", 100, 20), Phase("spike", 50, 200)], seed=7)
    arrivals = [each for process in range(plan.processes) for each in plan.arrivals(process)]
    assert arrivals == [each for process in range(plan.processes) for each in plan.arrivals(process)]
    steady = [each for each in arrivals if each[0] < 100]
    assert len(steady) == pytest.approx(2_000, rel=0.1)
    assert len(arrivals) - len(steady) == pytest.approx(10_000, rel=0.05)
    assert sum(route == 0 for _, route, _ in arrivals) == pytest.approx(0.75 * len(arrivals), rel=0.05)
    assert len({path for _, route, path in arrivals if route == 1}) == sum(route == 1 for _, route, _ in arrivals)


def test_a_server_that_stalls_is_charged_for_everybody_who_came_meanwhile() -> None:
    async def served() -> Answers:
        begun = time.monotonic()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(max(0.0, begun + 1.0 - time.monotonic()))
                writer.write(ANSWER)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        plan = Plan(server.sockets[0].getsockname()[1], ROUTES[:1], [Phase("all", 2, 100)], seed=1, processes=1)
        rows: list[tuple[float, ...]] = []
        await keep(plan, 0, begun, rows)
        server.close()
        return Answers.of_rows(plan, rows)

    answers = asyncio.run(served())
    assert answers.summary()["known"]["as_expected"] == len(answers.rows) > 100
    stalled = answers.within(0, 1)
    assert (stalled.of("due") + stalled.of("seconds") >= 0.99).all()
    assert np.median(stalled.of("seconds")) > 0.3


def test_who_is_refused_with_retry_after_is_told_apart_from_an_error() -> None:
    plan = Plan(0, ROUTES, [], seed=1)
    rows: list[tuple[float, ...]] = [
        (0, 0.0, 0, 0.01, 200, 0),
        (0, 0.1, 0, 0.01, 503, 1),
        (0, 0.2, 0, 0.01, 503, 0),
        (0, 0.3, 0, 30, 1, 0),
        (1, 0.4, 0, 0.01, 404, 0),
    ]
    said = Answers.of_rows(plan, rows).summary()
    assert (said["known"]["count"], said["known"]["as_expected"]) == (4, 1)
    assert said["known"]["back_pressure"] == {"503": 1}
    assert said["known"]["errors"] == {"no answer in 30 s": 1, "503": 1}
    assert (said["unknown"]["as_expected"], said["unknown"]["errors"]) == (1, {})


@pytest.mark.parametrize(
    ("slow", "expected"),
    [
        ([(0, 0)], 0.0),
        ([(0, 12)], 15.0),
        ([(0, 12), (20, 40)], 40.0),
        ([(0, 60)], None),
        ([(0, 4), (33, 34)], 5.0),  # one window like one of before
    ],
)
def test_back_to_normal_is_when_it_is_as_it_was_before(slow: list[tuple[int, int]], expected: float | None) -> None:
    def seconds(due: float) -> float:
        if due < 0:
            return 0.5 if -300 <= due < -299 else 0.01
        return 0.5 if any(begin <= due < end for begin, end in slow) else 0.015

    rows = [(0, due, 0, seconds(due), 200, 0) for due in np.arange(-600, 60, 0.1)]
    answers = Answers.of_rows(Plan(0, ROUTES, [], seed=1), rows)
    usual = answers.within(-600, 0).p99()
    assert back_to_normal(judged(answers, -600, 0, usual), judged(answers, 0, 60, usual)) == expected


def test_memory_that_grows_is_not_flat_and_noise_is() -> None:
    times = np.arange(0, 1800, 5.0)
    noise = np.random.default_rng(1).normal(0, 2, len(times))
    assert slope(times, 300 + noise)["flat"]
    growing = slope(times, 300 + times / 60 + noise)
    assert not growing["flat"]
    low, middle, high = growing["slope_mib_per_minute"]
    assert low < 1.0 < high
    assert middle == pytest.approx(1.0, abs=0.1)
    assert "flat" not in slope(times[:10], noise[:10]), "too little is no finding"


def test_files_survive_a_bucket_that_fails_half_its_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket(tmp_path, seed=2)
    try:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        storage = Storage(f"s3://{Bucket.NAME}")
        bucket.failing = 0.5
        refused = 0
        for number in range(6):
            while True:
                try:
                    storage.put(f"files/{number}.png", b"%d" % number)
                    break
                except Unavailable:
                    refused += 1
        assert bucket.writes["failed"] > refused > 0, "some were tried again by obstore, some passed on"
        bucket.failing = 0.0
        assert [storage.get(f"files/{number}.png") for number in range(6)] == [b"%d" % number for number in range(6)]
        assert sorted(key for key, _ in storage.stored("files")) == [f"files/{number}.png" for number in range(6)]
        storage.delete("files/0.png")
        storage.delete("files/0.png")
        with pytest.raises(NotFound):
            storage.get("files/0.png")
    finally:
        bucket.close()


def test_a_gate_passes_on_hangs_and_refuses() -> None:

    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.sendall(connection.recv(10))
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    gate = Gate(int(listener.getsockname()[1]))

    def ask() -> bytes:
        with socket.create_connection(("127.0.0.1", gate.port), timeout=0.5) as connection:
            connection.sendall(b"hello")
            return connection.recv(10)

    assert ask() == b"hello"
    with gate.hanging(), pytest.raises(TimeoutError):
        ask()
    with gate.refusing(), pytest.raises(OSError):  # noqa: PT011 - refused or reset
        ask()
    assert ask() == b"hello"
    gate.close()
    listener.close()


def test_a_shifted_clock_moves_the_time_of_other_processes(tmp_path: Path) -> None:

    clock = ShiftedClock.build(tmp_path)
    if clock is None:
        pytest.skip("there is no C compiler")
    program = "import datetime, time; print(time.time(), datetime.datetime.now().timestamp())"

    def told() -> list[float]:
        done = subprocess.run([sys.executable, "-c", program], env=clock.environment, capture_output=True, check=True)
        return [float(each) for each in done.stdout.split()]

    assert told() == pytest.approx([time.time()] * 2, abs=60)
    clock.jump(3600)
    assert told() == pytest.approx([time.time() + 3600] * 2, abs=60)
    clock.jump(0)
    assert told() == pytest.approx([time.time()] * 2, abs=60)
