import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.database.postmaster import NO_PROCESS, Postmaster, disown, serves

REST = "{data}\n1700000000\n5432\n{data}/run\n\n  1234567     65536\nready   \n"


@pytest.fixture
def stranger() -> Iterator[int]:
    """The process id of somebody who is no Postgres."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate()


def test_a_postmaster_of_this_folder_is_known_by_its_command(tmp_path: Path) -> None:
    assert serves(f"/opt/some where/bin/postgres -D {tmp_path} -c listen_addresses=", tmp_path)
    assert serves(f"postgres -D {tmp_path}", tmp_path)
    assert serves("/usr/bin/postgres", tmp_path)  # its folder came from PGDATA: it may be ours, so it counts as ours


def test_a_postmaster_of_a_folder_that_was_moved_away_still_counts_as_ours(tmp_path: Path) -> None:
    assert serves("/usr/bin/postgres -D /moved/away -c port=1", tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "postgres: checkpointer",
        "postgres: lawful_app lawful [local] idle",
        "/usr/bin/python -m postgres",
        "sleep 9",
    ],
)
def test_other_processes_are_no_postmaster(command: str, tmp_path: Path) -> None:
    assert not serves(command, tmp_path)


def test_a_postmaster_of_another_folder_is_not_ours(tmp_path: Path) -> None:
    other = tmp_path / "other data"
    other.mkdir()
    assert not serves(f"/usr/bin/postgres -D {other} -c port=1", tmp_path)


def test_a_process_id_that_now_belongs_to_a_stranger_does_not_live(tmp_path: Path, stranger: int) -> None:
    (tmp_path / "postmaster.pid").write_text(f"{stranger}\n{REST.format(data=tmp_path)}")
    postmaster = Postmaster.read(tmp_path)
    assert postmaster == Postmaster(stranger, tmp_path / "run")
    assert not postmaster.lives(tmp_path)


def test_disowning_takes_out_the_process_id_and_nothing_else(tmp_path: Path, stranger: int) -> None:
    lock = tmp_path / "postmaster.pid"
    lock.write_text(f"{stranger}\n{REST.format(data=tmp_path)}")
    disown(lock)
    assert lock.read_text() == f"{NO_PROCESS}\n{REST.format(data=tmp_path)}"
    with pytest.raises((ProcessLookupError, OverflowError)):
        os.kill(NO_PROCESS, 0)


@pytest.mark.parametrize("content", ["", "\n", "12x\n"])
def test_a_lock_file_cut_off_by_a_full_disk_goes_but_not_while_it_may_be_being_written(
    tmp_path: Path, content: str
) -> None:
    lock = tmp_path / "postmaster.pid"
    lock.write_text(content)
    disown(lock)
    assert lock.exists()
    os.utime(lock, (time.time() - 60,) * 2)
    disown(lock)
    assert not lock.exists()


def test_no_lock_file_is_nothing_to_disown(tmp_path: Path) -> None:
    disown(tmp_path / "postmaster.pid")
    assert Postmaster.read(tmp_path) is None
