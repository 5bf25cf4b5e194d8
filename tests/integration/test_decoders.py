"""Strangers' files in a process of its own: real crashes, real limits of the kernel, the same answers."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from ledger.decoding.decoders import Decoders
from ledger.decoding.reading import IN_THIS_PROCESS
from ledger.errors import BadRequest, Unavailable
from models.errors import ImageError
from models.images import Limits, encode_png

from .conftest import picture

GOLDEN = Path(__file__).parents[1] / "golden" / "credentials"
FILES = sorted(path for path in GOLDEN.rglob("*") if path.suffix in {".png", ".jpg", ".webp"})
ROOT = (GOLDEN / "0.1.0" / "root.pem").read_text()
PNG = encode_png(picture(1))
NOW = datetime.now(UTC)
LARGE = encode_png(np.zeros((6000, 6000, 3), np.uint8))
"""100 kB that become 108 MB: within `Limits`, and slow enough to be interrupted."""


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(Limits()) as opened:
        yield opened


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]


def told(error: ImageError) -> tuple[object, ...]:
    return type(error), error.detail, error.code, error.next_step, error.status


def until_ended(pid: int) -> None:
    deadline = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_answers_are_those_of_the_plain_decoder(decoders: Decoders, path: Path) -> None:
    data = path.read_bytes()
    here, there = IN_THIS_PROCESS.decode(data), decoders.decode(data)
    assert np.array_equal(here.pixels, there.pixels)
    assert (here.media_type, here.changes) == (there.media_type, there.changes)
    assert not there.pixels.flags.writeable
    assert there.pixels.flags.c_contiguous
    for reader in (IN_THIS_PROCESS, decoders):
        reading = reader.read_credential(data, here.media_type, anchors_pem=ROOT, now=NOW)
        assert reading.credential == ("absent" if path.stem == "plain" else "present")
    assert reading == IN_THIS_PROCESS.read_credential(data, here.media_type, anchors_pem=ROOT, now=NOW)


def test_errors_come_through_as_they_are(decoders: Decoders) -> None:
    for data in (b"", b"GIF89a", PNG[:40], PNG.replace(b"IDAT", b"IDAX")):
        with pytest.raises(ImageError) as here:
            IN_THIS_PROCESS.decode(data)
        with pytest.raises(ImageError) as there:
            decoders.decode(data)
        assert told(here.value) == told(there.value)
    with pytest.raises(BadRequest, match="trust list") as refused:
        decoders.read_credential(PNG, "image/png", anchors_pem="-----BEGIN", now=NOW)
    assert (refused.value.code, refused.value.status) == ("anchors_unreadable", 400)


def test_it_has_nothing_worth_stealing_and_may_write_nothing(decoders: Decoders) -> None:
    decoders.decode(PNG)
    for pid in decoders.pids:
        process = Path(f"/proc/{pid}")
        limits = {line[:26].strip(): line[26:].split()[0] for line in (process / "limits").read_text().splitlines()[1:]}
        assert limits["Max file size"] == limits["Max core file size"] == "0"
        assert int(limits["Max address space"]) == 2 * 2**30
        assert int(limits["Max open files"]) <= 16
        assert int(limits["Max cpu time"]) <= 60
        open_files = [str(each.readlink()) for each in (process / "fd").iterdir()]
        assert {each.partition(":")[0] for each in open_files} == {"pipe", "/dev/null"}
        environment = {each.partition(b"=")[0] for each in (process / "environ").read_bytes().split(b"\0") if each}
        assert environment == {b"PYTHONPATH", b"OPENBLAS_NUM_THREADS", b"MALLOC_ARENA_MAX"}


def test_it_loads_neither_networks_nor_the_database() -> None:
    unwanted = {"torch", "faiss", "cv2", "sqlalchemy", "psycopg", "litestar"}
    program = f"import sys, ledger.decoding.child; print(*sorted({unwanted} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("number", "error", "code"),
    [(signal.SIGKILL, Unavailable, "decoder_lost"), (signal.SIGSEGV, ImageError, "image_undecodable")],
)
def test_a_decoder_that_dies_over_a_file_costs_that_file_alone(
    number: signal.Signals, error: type[Exception], code: str
) -> None:
    with Decoders(Limits(), at_once=1) as decoders:
        decoders.decode(PNG)
        (pid,) = decoders.pids
        os.kill(pid, signal.SIGSTOP)  # so that it is surely in the middle of the file when it dies
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(decoders.decode, PNG)
            time.sleep(0.3)
            assert not asked.done()
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)
            with pytest.raises(error) as lost:
                asked.result(60)
        assert lost.value.code == code  # type: ignore[attr-defined]
        assert lost.value.next_step  # type: ignore[attr-defined]
        assert not is_alive(pid)
        assert np.array_equal(decoders.decode(PNG).pixels, picture(1))
        assert pid not in decoders.pids


def test_a_credential_that_ends_the_decoder_is_unreadable() -> None:
    with Decoders(Limits(), at_once=1) as decoders:
        decoders.decode(PNG)
        (pid,) = decoders.pids
        os.kill(pid, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(decoders.read_credential, PNG, "image/png", anchors_pem=ROOT, now=NOW)
            time.sleep(0.3)
            os.kill(pid, signal.SIGSEGV)
            os.kill(pid, signal.SIGCONT)
            reading = asked.result(60)
        assert (reading.credential, reading.codes) == ("unreadable", ["reader.ended"])
        assert decoders.read_credential(PNG, "image/png", anchors_pem=ROOT, now=NOW).credential == "absent"


def test_one_that_died_in_between_is_replaced_without_a_word(decoders: Decoders) -> None:
    decoders.decode(PNG)
    for pid in decoders.pids:
        os.kill(pid, signal.SIGKILL)
        until_ended(pid)
    assert np.array_equal(decoders.decode(PNG).pixels, picture(1))


def test_one_that_gives_no_answer_is_ended_at_the_deadline() -> None:
    with Decoders(Limits(), at_once=1, answer_seconds=3.0) as decoders:
        decoders.start()
        decoders.decode(PNG)
        (pid,) = decoders.pids
        os.kill(pid, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(Unavailable) as late:
            decoders.decode(PNG)
        assert late.value.code == "decoder_lost"
        assert 2.5 < time.monotonic() - started < 60
        assert not is_alive(pid)
        decoders.start()
        assert np.array_equal(decoders.decode(PNG).pixels, picture(1))


def test_a_picture_that_takes_too_much_memory_is_refused() -> None:
    with Decoders(Limits(), at_once=1, memory_bytes=300 * 2**20) as decoders:
        with pytest.raises(ImageError) as refused:
            decoders.decode(LARGE)
        assert refused.value.code == "image_undecodable"
        assert "0.3 GiB" in refused.value.detail
        assert np.array_equal(decoders.decode(PNG).pixels, picture(1))


def test_a_picture_that_takes_too_long_is_refused() -> None:
    noise = encode_png(np.random.default_rng(0).integers(0, 256, (4000, 4000, 3), np.uint8), compress_level=1)
    with Decoders(Limits(), at_once=1, cpu_seconds=0) as decoders:
        with pytest.raises(ImageError) as refused:
            list(map(decoders.decode, [noise] * 50))  # the kernel counts whole seconds
        assert refused.value.code == "image_undecodable"
        assert "0 seconds" in refused.value.detail


def test_twenty_at_once_are_all_answered_by_two(decoders: Decoders) -> None:
    pictures = [picture(number) for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(decoders.decode, [encode_png(each) for each in pictures]))
    assert all(np.array_equal(one.pixels, other) for one, other in zip(found, pictures, strict=True))
    assert len(decoders.pids) == 2


def test_closing_leaves_no_process_even_in_the_middle_of_a_file() -> None:
    decoders = Decoders(Limits(), at_once=1)
    decoders.decode(PNG)
    (pid,) = decoders.pids
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(decoders.decode, PNG)
        time.sleep(0.3)
        decoders.close()
        with pytest.raises(Unavailable):
            asked.result(60)
    assert not is_alive(pid)
    with pytest.raises(Unavailable):
        decoders.decode(PNG)


def test_a_parent_that_is_killed_leaves_no_process() -> None:
    program = (
        "import time; from ledger.decoding.decoders import Decoders; from models.images import Limits\n"
        f"decoders = Decoders(Limits(), at_once=1); decoders.decode(bytes.fromhex({PNG.hex()!r}))\n"
        "print(*decoders.pids, flush=True); time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
    until_ended(pid)


@pytest.mark.parametrize("interpreter", ["/bin/false", "/nowhere/python"])
def test_a_decoder_that_cannot_be_started_is_not_the_files_fault(
    interpreter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Decoders(Limits(), at_once=1) as decoders:
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", interpreter)
            with pytest.raises(Unavailable, match="started") as lost:
                decoders.decode(PNG)
        assert lost.value.code == "decoder_lost"
        assert np.array_equal(decoders.decode(PNG).pixels, picture(1))


def test_asking_from_many_threads_while_decoders_die_answers_everybody() -> None:
    """Whoever asks gets the right picture or a clear error; afterwards all decoders are there again."""
    with Decoders(Limits()) as decoders:
        stop = threading.Event()

        def kill() -> None:
            while not stop.wait(0.5):
                for pid in decoders.pids:
                    os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()

        def ask(number: int) -> bool:
            try:
                return np.array_equal(decoders.decode(encode_png(picture(number))).pixels, picture(number))
            except Unavailable as error:
                return error.code == "decoder_lost"

        try:
            with ThreadPoolExecutor(4) as pool:
                assert all(pool.map(ask, range(16)))
        finally:
            stop.set()
            killer.join()
        assert np.array_equal(decoders.decode(PNG).pixels, picture(1))
