"""The log as files: behind a web server that knows nothing of it, whole at every moment, whatever is killed when."""

import functools
import http.server
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from ledger.cli import main
from ledger.database.tables.log import LogWitnessed
from ledger.errors import Conflict, Inconsistent, LedgerError, NotFound, StorageFull
from ledger.log import export as exporting
from ledger.log.cosignatures import Cosigner, add_signatures
from ledger.log.export import export
from ledger.log.notes import Note
from ledger.log.policy import Policy
from ledger.log.shard import Head, query_of
from ledger.runtime import Runtime
from ledger.storage import Storage
from ledger.witness.entries import record_policy

from . import tiled_log
from .http_ledger import serving
from .log_growing import grow

pytestmark = pytest.mark.postgres


@contextmanager
def web_server(folder: Path) -> Iterator[tiled_log.Get]:
    """Python's own file server on a real socket; yields a reader of its files."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def get(path: str) -> bytes:
        response = httpx.get(f"http://127.0.0.1:{server.server_port}/{path}", trust_env=False)
        if response.status_code != 200:
            raise tiled_log.Missing(path)
        return response.content

    try:
        yield get
    finally:
        server.shutdown()
        server.server_close()


def run(runtime: Runtime, destination: Storage) -> Head:
    with runtime.sessions() as session:
        return export(query_of(session), runtime.shard, runtime.keys.log.verifier, destination)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def count(folder: Path) -> int:
    """Opens nothing, so a file that goes away meanwhile is no error."""
    return sum(1 for _ in folder.rglob("*"))


def test_a_plain_web_server_serves_the_whole_log(quiet: Runtime, tmp_path: Path) -> None:
    vkey, folder = quiet.keys.log.vkey, tmp_path / "www"
    with web_server(folder) as get:
        for count, expected in ((0, 1), (254, 255), (1, 256), (1, 257), (443, 700), (0, 700)):
            grow(quiet, count, first=expected - count)
            assert run(quiet, Storage(folder.as_uri())).size == expected
            found = tiled_log.read_log(get, vkey)
            assert len(found) == expected
            assert found[1:] == [b"entry %d" % number for number in range(1, expected)]


def test_the_files_are_those_that_this_ledger_serves_itself(quiet: Runtime, tmp_path: Path) -> None:
    grow(quiet, 600)
    run(quiet, Storage(tmp_path.joinpath("www").as_uri()))
    with serving(quiet) as client:
        exported = files(tmp_path / "www")
        assert set(exported) == {
            "checkpoint", "tile/0/000", "tile/0/001", "tile/0/002.p/89", "tile/1/000.p/2",
            "tile/entries/000", "tile/entries/001", "tile/entries/002.p/89",
        }  # fmt: skip
        for path, data in exported.items():
            assert client.get(f"/log/2026/{path}").content == data, path


def test_what_is_there_already_is_not_written_again(quiet: Runtime, tmp_path: Path) -> None:
    destination = Counting((tmp_path / "www").as_uri())
    grow(quiet, 600)
    run(quiet, destination)
    destination.written.clear()
    run(quiet, destination)
    assert destination.written == []
    grow(quiet, 10, first=600)
    run(quiet, destination)
    assert destination.written == [
        "tile/entries/002.p/99", "tile/0/002.p/99", "tile/1/000.p/2", "checkpoint.before", "checkpoint",
    ]  # fmt: skip


def test_partial_tiles_go_when_two_checkpoints_have_outgrown_them(quiet: Runtime, tmp_path: Path) -> None:
    destination, folder = Storage((tmp_path / "www").as_uri()), tmp_path / "www"
    for number in range(0, 240, 10):
        grow(quiet, 10, first=number)
        run(quiet, destination)
    assert len([path for path in files(folder) if "tile/0/000.p/" in path]) == 24
    grow(quiet, 30, first=240)
    run(quiet, destination)  # the tile is full; whoever holds the checkpoint of 241 may still ask for its former part
    assert "tile/0/000.p/241" in files(folder)
    grow(quiet, 1, first=270)
    run(quiet, destination)
    assert not [path for path in files(folder) if "000.p/" in path and "tile/1/" not in path]
    assert "tile/0/001.p/15" in files(folder)
    with web_server(folder) as get:
        assert len(tiled_log.read_log(get, quiet.keys.log.vkey)) == 272


class Counting(Storage):
    """Storage that notes what it writes, and fails at the write number `fail_at` as a full disk would."""

    def __init__(self, url: str, fail_at: int | None = None) -> None:
        super().__init__(url)
        self.written: list[str] = []
        self.fail_at = fail_at

    def put(self, key: str, data: bytes, headers: object = None) -> None:
        if len(self.written) == self.fail_at:
            raise StorageFull("no room", next_step="make room")
        self.written.append(key)
        super().put(key, data)


@pytest.mark.slow
def test_a_run_cut_off_anywhere_leaves_the_former_log_whole(
    quiet: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_AT_ONCE", 1)  # so that each run writes in one order
    folder, vkey = tmp_path / "www", quiet.keys.log.vkey
    grow(quiet, 200)
    run(quiet, Storage(folder.as_uri()))
    grow(quiet, 500, first=200)
    grown: list[int] = []
    with web_server(folder) as get:
        for steps in range(100):
            destination = Counting(folder.as_uri(), fail_at=steps)
            try:
                run(quiet, destination)
            except LedgerError:
                assert len(tiled_log.read_log(get, vkey)) == 201, destination.written
                grown.append(len(destination.written))
                continue
            break
        assert grown == list(range(9))  # 3 bundles, 3 + 1 tiles, two checkpoints
        assert len(tiled_log.read_log(get, vkey)) == 701


@pytest.mark.slow
def test_an_export_of_three_levels_is_whole(quiet: Runtime, tmp_path: Path) -> None:
    grow(quiet, 66_000)
    run(quiet, Storage((tmp_path / "www").as_uri()))
    grow(quiet, 500, first=66_000)
    run(quiet, Storage((tmp_path / "www").as_uri()))
    with web_server(tmp_path / "www") as get:
        assert len(tiled_log.read_log(get, quiet.keys.log.vkey)) == 66_501


@pytest.mark.slow
def test_a_process_killed_while_it_exports_leaves_the_log_whole(quiet: Runtime, tmp_path: Path) -> None:
    folder, vkey = tmp_path / "www", quiet.keys.log.vkey
    command = [sys.executable, "-m", "ledger.cli", "log", "export", folder.as_uri()]
    environment = _environment(quiet)
    sizes = []
    with web_server(folder) as get:
        run(quiet, Storage(folder.as_uri()))
        for number in range(12):
            grow(quiet, 5_000, first=5_000 * number)
            with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                before = count(folder)
                while process.poll() is None and count(folder) < before + 3 * number:
                    time.sleep(0.005)
                process.send_signal(signal.SIGKILL)
            sizes.append(len(tiled_log.read_log(get, vkey)))
        subprocess.run(command, env=environment, check=True, capture_output=True)
        assert len(tiled_log.read_log(get, vkey)) == 60_001
    assert sizes == sorted(sizes)


def _environment(runtime: Runtime) -> dict[str, str]:
    import os

    url, owner = runtime.settings.database_url, runtime.settings.database_owner_url
    assert url is not None
    assert owner is not None
    return os.environ | {
        "LAWFUL_HOME": str(runtime.settings.home),
        "LAWFUL_DATABASE_URL": url.get_secret_value(),
        "LAWFUL_DATABASE_OWNER_URL": owner.get_secret_value(),
    }


@pytest.mark.slow
def test_a_reader_of_an_export_that_goes_on_never_misses_a_file(quiet: Runtime, tmp_path: Path) -> None:
    folder, vkey = tmp_path / "www", quiet.keys.log.vkey
    destination = Storage(folder.as_uri())
    run(quiet, destination)
    stop, failures = threading.Event(), []

    def keep_exporting() -> None:
        try:
            for number in range(0, 1200, 24):
                grow(quiet, 24, first=number)
                run(quiet, destination)
                stop.wait(0.05)
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            stop.set()

    thread = threading.Thread(target=keep_exporting)
    thread.start()
    seen: list[bytes] = []
    with web_server(folder) as get:
        try:
            while not stop.is_set():
                found = tiled_log.read_log(get, vkey)
                assert found[: len(seen)] == seen
                seen = found
        finally:
            thread.join()
        assert not failures
        assert len(tiled_log.read_log(get, vkey)) == 1201


def test_a_long_export_stops_at_signed_checkpoints_on_its_way(
    quiet: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "STRIDE", 300)
    for number in range(10):
        grow(quiet, 100, first=100 * number)
    destination = Counting((tmp_path / "www").as_uri())
    run(quiet, destination)
    assert destination.written.count("checkpoint") == 4  # at 201 or 301, then every 300, and at 1001
    with web_server(tmp_path / "www") as get:
        assert len(tiled_log.read_log(get, quiet.keys.log.vkey)) == 1001


def test_another_logs_folder_is_left_alone(quiet: Runtime, tmp_path: Path) -> None:
    destination = Storage((tmp_path / "www").as_uri())
    grow(quiet, 3)
    run(quiet, destination)
    note = destination.get("checkpoint")
    destination.put("checkpoint", note.replace(b"ledger/2026", b"ledger/2025"))
    with pytest.raises(Conflict) as refused:
        run(quiet, destination)
    assert refused.value.code == "export_of_another_log"
    destination.put("checkpoint", b"<html>")
    with pytest.raises(Conflict):
        run(quiet, destination)
    assert destination.get("checkpoint") == b"<html>"


def test_an_older_database_does_not_take_an_export_back(quiet: Runtime, tmp_path: Path) -> None:
    from ledger.log.notes import Checkpoint, sign_note

    destination = Storage((tmp_path / "www").as_uri())
    grow(quiet, 3)
    run(quiet, destination)
    for size, code, error in ((9, "export_is_ahead", Conflict), (3, "log_forked_from_export", Inconsistent)):
        note = sign_note(Checkpoint("localhost/ledger/2026", size, b"\7" * 32).text, quiet.keys.log)
        destination.put("checkpoint", note)
        with pytest.raises(error) as refused:
            run(quiet, destination)
        assert refused.value.code == code
        assert destination.get("checkpoint") == note


def test_a_row_that_was_tampered_with_is_found_before_the_checkpoint_moves(
    quiet: Runtime, tmp_path: Path, superuser_url: str, database_name: str
) -> None:
    import psycopg
    import sqlalchemy as sa

    grow(quiet, 600)
    url = sa.make_url(superuser_url).set(drivername="postgresql", database=database_name)
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        for table, change in (
            ("log_entries", "entry = 'another' WHERE idx = 300"),
            ("log_entries", "leaf_hash = sha256('another') WHERE idx = 599"),
            ("log_tiles", "data = overlay(data placing sha256('another') from 33) WHERE level = 0 AND idx = 1"),
            ("log_tiles", "root = sha256('another') WHERE level = 0 AND idx = 1"),
        ):
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
            connection.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM {table}")
            connection.execute(f"UPDATE {table} SET {change}")
            destination = Storage((tmp_path / f"www {change[:5]}").as_uri())
            with pytest.raises(Inconsistent) as found:
                run(quiet, destination)
            assert found.value.code == "log_root", change
            assert "checkpoint" not in files(tmp_path / f"www {change[:5]}")
            connection.execute(f"DELETE FROM {table}")
            connection.execute(f"INSERT INTO {table} SELECT * FROM kept")
            connection.execute("DROP TABLE kept")
    run(quiet, Storage((tmp_path / "www").as_uri()))


def test_the_command_exports_and_says_how_much(quiet: Runtime, tmp_path: Path) -> None:
    grow(quiet, 20)
    folder = tmp_path / "srv" / "log"
    environment = {name: value for name, value in _environment(quiet).items() if name.startswith("LAWFUL_")}

    def lawful(url: str) -> "tuple[int, str]":
        result = CliRunner().invoke(main, ["log", "export", url, "--json"], env=environment)
        return result.exit_code, result.stdout

    code, said = lawful(folder.as_uri())
    assert code == 0, said
    assert '"size": 21' in said
    assert folder.stat().st_mode & 0o777 == 0o755, "a web server of another account has to read it"
    with web_server(folder) as get:
        assert len(tiled_log.read_log(get, quiet.keys.log.vkey)) == 21
    code, said = lawful(str(folder))
    assert code == 0, said
    code, said = lawful("file://elsewhere/folder")
    assert code == 3
    assert "export_url_invalid" in said


def test_a_bucket_is_told_how_its_files_are_to_be_served(quiet: Runtime) -> None:
    import obstore

    grow(quiet, 300)
    bucket = Storage("memory:///")
    run(quiet, bucket)
    for path, content_type in (("checkpoint", "text/plain; charset=utf-8"), ("tile/0/000", "application/octet-stream")):
        found = obstore.get(bucket._store, path)
        assert found.attributes["Content-Type"] == content_type
        assert "max-age" in str(found.attributes["Cache-Control"])
    assert len(tiled_log.read_log(bucket.get, quiet.keys.log.vkey)) == 301


def test_where_a_policy_asks_for_witnesses_only_their_checkpoints_are_exported(quiet: Runtime, tmp_path: Path) -> None:
    witness = Cosigner.generate("witness.example/w")
    policy = Policy.parse(f"witness one {witness.vkey}\nquorum one\n")
    destination = Storage((tmp_path / "www").as_uri())

    def run_with_policy() -> Head:
        with quiet.sessions() as session:
            return export(query_of(session), "2026", quiet.keys.log.verifier, destination, policy)

    with pytest.raises(NotFound) as refused:
        run_with_policy()
    assert refused.value.code == "checkpoint_not_witnessed"
    with quiet.sessions.begin() as session:
        record_policy(session, "2026", quiet.settings.origin, policy, quiet.keys.statements, quiet.clock())
    grow(quiet, 298)
    with serving(quiet) as client:
        note = client.get("/log/2026/checkpoint").content
    signed = add_signatures(note, witness.cosign(Note.parse(note).text, 1_800_000_000))
    with quiet.sessions.begin() as session:
        session.add(LogWitnessed(shard="2026", size=300, policy_sha256=policy.sha256, note=signed))
    grow(quiet, 100, first=298)
    assert run_with_policy().size == 300
    assert destination.get("checkpoint") == signed
    with web_server(tmp_path / "www") as get:
        assert len(tiled_log.read_log(get, quiet.keys.log.vkey)) == 300
