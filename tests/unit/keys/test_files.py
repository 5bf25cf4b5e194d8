"""Private files: whole or not there, and refused where another account could read or replace them."""

import os
from pathlib import Path

import pytest

from ledger.errors import NotAllowed, NotFound
from ledger.keys.files import read_private, replace_private, write_private


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    return folder


def test_a_file_is_replaced_whole_and_stays_private(folder: Path) -> None:
    write_private(folder / "key", "old")
    replace_private(folder / "key", "new")
    assert read_private(folder, "key") == "new"
    assert [(path.name, path.stat().st_mode & 0o777) for path in folder.iterdir()] == [("key", 0o600)]


def test_a_file_that_is_there_is_never_written_over(folder: Path) -> None:
    write_private(folder / "key", "old")
    with pytest.raises(FileExistsError):
        write_private(folder / "key", "new")
    assert read_private(folder, "key") == "old"


@pytest.mark.parametrize(("name", "mode"), [("key", 0o640), ("key", 0o604), (".", 0o750), (".", 0o701)])
def test_what_others_can_reach_is_refused(name: str, mode: int, folder: Path) -> None:
    write_private(folder / "key", "secret")
    (folder / name).chmod(mode)
    with pytest.raises(NotAllowed) as refused:
        read_private(folder, "key")
    assert refused.value.code == "keys_exposed"
    assert "secret" not in refused.value.detail


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("name", ["key", "."])
def test_what_another_account_owns_is_refused(name: str, folder: Path) -> None:
    write_private(folder / "key", "secret")
    os.chown(folder / name, 12345, -1)
    with pytest.raises(NotAllowed) as refused:
        read_private(folder, "key")
    assert refused.value.code == "keys_of_another"
    assert "12345" in refused.value.detail


def test_a_missing_file_is_named(folder: Path) -> None:
    with pytest.raises(NotFound, match="nothing") as refused:
        read_private(folder, "nothing")
    assert refused.value.code == "keys_missing"
