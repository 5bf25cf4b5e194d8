"""The command line before a ledger is founded: errors, exit codes, JSON, hostile names, offline verification."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from ledger.cli import main
from ledger.commands import files, frame
from ledger.credentials.write import CredentialRequest, new_manifest_urn, write_credential
from ledger.errors import BadRequest, Conflict, Inconsistent, NotFound, StorageFull, Unavailable
from ledger.keys.ring import init_keys
from ledger.runtime import utc_now
from ledger.tampering import change_one_pixel
from models.errors import ImageError

GOLDEN = Path(__file__).parents[1] / "golden" / "credentials"
HOSTILE = "[bold red]x[/]\n\x1b[2J\u202egnp.exe"


def lawful(home: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), *words])


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    """A PNG with a credential of another ledger, whose root lies beside it. Signed now, so it never expires here."""
    other = tmp_path / "other"
    keys = init_keys(other / "keys", "other.example/ledger/2026", now=utc_now())
    request = CredentialRequest(
        manifest_urn=new_manifest_urn(), intent="declared", software=("test", "1"), ledger={"schema": "test/1"}
    )
    plain = (GOLDEN / "plain.png").read_bytes()
    written = write_credential(plain, "image/png", request, keys.credential, root_pem=keys.root_pem)
    (other / "root.pem").write_text(keys.root_pem)
    path = other / "signed.png"
    path.write_bytes(written.data)
    return path


def only_document(result: Result) -> Any:
    """Stdout parsed as exactly one JSON document."""
    return json.loads(result.stdout)


# ---- exit codes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadRequest("x", next_step="y"), 3),
        (NotFound("x", next_step="y"), 3),
        (ImageError("x", next_step="y"), 3),
        (frame.SettingError("x", next_step="y"), 2),
        (Unavailable("x", next_step="y"), 4),
        (StorageFull("x", next_step="y"), 4),
        (Inconsistent("x", next_step="y"), 4),
        (OSError(28, "No space left on device"), 4),
        (ZeroDivisionError("a defect"), 4),
    ],
)
def test_every_error_has_its_exit_code(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert frame.tell(error) == code
    assert "next: " in capsys.readouterr().err


def test_a_full_disk_is_told_as_such() -> None:
    known = frame.explain(OSError(28, "No space left on device"))
    assert known is not None
    assert (known.code, known.status) == ("storage_full", 507)


def test_a_defect_shows_its_traceback_and_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ZeroDivisionError("a defect")
    except ZeroDivisionError as error:
        code = frame.tell(error)
    told = capsys.readouterr()
    assert code != frame.BAD_ANSWER
    assert "Traceback" in told.err
    assert "[internal_error]" in told.err
    assert told.out == ""


def test_a_wrong_option_is_a_usage_error(tmp_path: Path) -> None:
    result = lawful(tmp_path, "verify", "--no-such-option", "x.png")
    assert result.exit_code == 2
    assert result.stdout == ""


def test_an_error_with_json_is_one_document_on_stdout(tmp_path: Path) -> None:
    result = lawful(tmp_path, "verify", str(tmp_path / "missing.png"), "--json")
    assert result.exit_code == 3
    error = only_document(result)["error"]
    assert error["code"] == "file_not_found"
    assert error["status"] == 400
    assert error["next_step"]
    assert "file_not_found" in result.stderr


# ---- settings ------------------------------------------------------------------------------------------------------


def test_home_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAWFUL_HOME", str(tmp_path / "other"))
    assert frame.Invocation(tmp_path / "mine", ()).settings().home == tmp_path / "mine"
    assert frame.Invocation(None, ()).settings().home == tmp_path / "other"


def test_set_takes_any_setting() -> None:
    settings = frame.Invocation(None, ("port=8123", 'log_keys=["a+b+c"]', "tsa_url=")).settings()
    assert settings.port == 8123
    assert settings.log_keys == ["a+b+c"]
    assert settings.tsa_url is None


def test_another_port_is_in_the_public_url_unless_one_was_given() -> None:
    assert frame.Invocation(None, ("port=8123",)).settings().public_url == "http://127.0.0.1:8123"
    assert frame.Invocation(None, ("port=8123", "public_url=https://x.org")).settings().public_url == "https://x.org"


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("colour=red", "setting_unknown"),
        ("port", "setting_unknown"),
        ("port=x", "setting_invalid"),
        ("log_keys=[", "setting_invalid"),
    ],
)
def test_a_setting_that_cannot_be_used_ends_with_2(tmp_path: Path, override: str, code: str) -> None:
    result = CliRunner().invoke(main, ["--home", str(tmp_path), "--set", override, "keys", "show"])
    assert result.exit_code == 2
    assert f"[{code}]" in result.stderr


def test_an_error_about_a_secret_setting_does_not_repeat_it(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["--home", str(tmp_path), "--set", "database_url=postgres-with-no-scheme:hunter2", "init", "--json"]
    )
    assert result.exit_code == 4
    assert "hunter2" not in result.output


def test_children_get_the_same_settings(tmp_path: Path) -> None:
    argv = frame.Invocation(tmp_path, ("port=8123",)).argv("run", "web")
    shown = subprocess.run([*argv[:-2], "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert shown.returncode == 0
    assert argv[-6:] == ["--home", str(tmp_path), "--set", "port=8123", "run", "web"]


# ---- names that mean harm ------------------------------------------------------------------------------------------


def test_shown_text_cannot_move_the_cursor_or_forge_a_line() -> None:
    assert frame.shown(HOSTILE) == r"[bold red]x[/]\n\x1b[2J\u202egnp.exe"
    assert frame.shown("Größe 10 %, 絵 🎨") == "Größe 10 %, 絵 🎨"
    assert frame.shown(os.fsdecode(b"\xff.png")) == r"\udcff.png"


@pytest.mark.parametrize("command", ["verify", "lookup"])
def test_a_hostile_file_name_is_shown_escaped_and_unformatted(tmp_path: Path, command: str) -> None:
    result = lawful(tmp_path, command, HOSTILE)
    assert result.exit_code == 3
    assert r"[bold red]x[/]\n\x1b[2J\u202egnp.exe" in result.stderr
    assert "\x1b[2J" not in result.output


def test_a_hostile_name_does_not_leave_json(tmp_path: Path) -> None:
    result = lawful(tmp_path, "verify", HOSTILE, "--json")
    assert result.stdout.isascii()
    assert r"[bold red]x[/]\n" in only_document(result)["error"]["detail"]


def test_a_file_name_that_is_no_utf8_is_answered(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(b"no image")
    for words in (["--offline"], ["--offline", "--json"]):
        result = lawful(tmp_path, "verify", str(path), *words)
        assert result.exit_code == 3
    assert only_document(result)["error"]["code"].startswith("image_")


# ---- files ---------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_only_with_force(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"precious")
    with pytest.raises(Conflict) as caught:
        files.check_writable(path, force=False)
    assert caught.value.code == "output_exists"
    with pytest.raises(Conflict):
        files.write_whole(path, b"new", force=False)
    assert path.read_bytes() == b"precious"
    files.write_whole(path, b"new", force=True)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "out.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_whole(path, b"new" * 1000, force=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    files.write_whole(tmp_path / "out.png", b"new", force=False)
    (tmp_path / "other").write_bytes(b"")
    assert (tmp_path / "out.png").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_an_output_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(BadRequest) as caught:
        files.check_writable(tmp_path / "missing" / "out.png", force=True)
    assert caught.value.code == "output_folder_missing"


@pytest.mark.parametrize("make", ["missing", "folder", "fifo"])
def test_only_an_ordinary_file_is_read(tmp_path: Path, make: str) -> None:
    path = tmp_path / "it"
    if make == "folder":
        path.mkdir()
    if make == "fifo":
        os.mkfifo(path)
    with pytest.raises(BadRequest) as caught:
        files.read_image(path, 100)
    assert caught.value.code == "file_not_found"


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(2 * 2**30)  # 2 GiB that take no room
    result = lawful(tmp_path, "verify", "--offline", str(path), "--json")
    assert result.exit_code == 3
    assert only_document(result)["error"]["code"] == "file_too_large"


# ---- keys ----------------------------------------------------------------------------------------------------------


def test_keys_are_made_once_and_shown_without_secrets(tmp_path: Path) -> None:
    made = lawful(tmp_path, "keys", "init", "--json")
    assert made.exit_code == 0
    again = lawful(tmp_path, "keys", "init", "--json")
    assert again.exit_code == 3
    assert only_document(again)["error"]["code"] == "keys_exist"
    shown = lawful(tmp_path, "keys", "show", "--json")
    assert only_document(shown) == only_document(made)
    secrets = [(tmp_path / "keys" / name).read_text() for name in ("log.skey", "statements.pem", "credential.key.pem")]
    assert not any(line in shown.output for secret in secrets for line in secret.split() if len(line) > 20)


def test_the_anchor_is_the_root_certificate(tmp_path: Path) -> None:
    lawful(tmp_path, "keys", "init")
    assert lawful(tmp_path, "keys", "anchor").stdout == (tmp_path / "keys" / "root.pem").read_text()
    assert only_document(lawful(tmp_path, "keys", "anchor", "--json"))["anchor_pem"].startswith(
        "-----BEGIN CERTIFICATE"
    )


@pytest.mark.parametrize(
    "words", [["generate", "x", "-o", "x.png"], ["lookup", "ab" * 32], ["keys", "show"], ["keys", "api", "x"]]
)
def test_a_command_that_needs_a_ledger_says_to_found_one(tmp_path: Path, words: list[str]) -> None:
    result = lawful(tmp_path / "none", *words)
    assert result.exit_code == 3
    assert "lawful init" in result.stderr
    assert not (tmp_path / "none").exists()


# ---- verify --offline ----------------------------------------------------------------------------------------------


def test_offline_verification_needs_no_ledger_and_answers_in_the_agreed_shape(tmp_path: Path, signed: Path) -> None:
    result = lawful(tmp_path / "none", "verify", "--offline", str(signed), "--json")
    found = only_document(result)
    assert result.exit_code == 0
    assert set(found["answers"]) == {"credential", "content", "signature", "signer", "ingredients", "ledger"}
    assert found["answers"] | {"ledger": ""} == {
        "credential": "present",
        "content": "intact",
        "signature": "valid",
        "signer": "unknown",
        "ingredients": "not_checked",
        "ledger": "",
    }
    assert [check["step"] for check in found["checks"]] == list(range(1, len(found["checks"]) + 1))
    assert {"verdict", "file_sha256", "pixel_sha256", "found_by", "records", "candidates", "evidence"} <= set(found)
    assert not (tmp_path / "none").exists()


def test_an_anchor_that_was_chosen_makes_the_signer_trusted(tmp_path: Path, signed: Path) -> None:
    result = lawful(
        tmp_path, "verify", "--offline", "--anchor", str(signed.with_name("root.pem")), str(signed), "--json"
    )
    assert only_document(result)["answers"]["signer"] == "trusted"


def test_a_changed_file_is_a_bad_answer(tmp_path: Path, signed: Path) -> None:
    changed = tmp_path / "changed.png"
    changed.write_bytes(change_one_pixel(signed.read_bytes()))
    result = lawful(tmp_path, "verify", "--offline", str(changed), "--json")
    assert result.exit_code == 1
    assert only_document(result)["answers"]["content"] == "altered"


def test_a_person_reads_verdict_answers_and_checks(tmp_path: Path) -> None:
    result = lawful(tmp_path, "verify", "--offline", str(GOLDEN / "plain.png"))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "nothing" in lines[0]
    assert any(line.split() == ["credential", "absent"] for line in lines)
    assert any(line.startswith("12 ") for line in lines)


@pytest.mark.parametrize("words", [["--anchor", "root.pem"], ["--log-key", "a+b+c"]])
def test_keys_named_here_are_for_offline_verification(tmp_path: Path, words: list[str]) -> None:
    result = lawful(tmp_path, "verify", *words, str(GOLDEN / "plain.png"))
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--anchor", "plain.png"], "anchors_unreadable"), (["--log-key", "nonsense"], "vkey_malformed")],
)
def test_keys_that_are_none_are_refused(tmp_path: Path, signed: Path, words: list[str], code: str) -> None:
    option, value = words
    value = str(GOLDEN / value) if option == "--anchor" else value
    result = lawful(tmp_path, "verify", "--offline", option, value, str(signed), "--json")
    assert result.exit_code == 3
    assert only_document(result)["error"]["code"] == code


def test_offline_verification_loads_no_network_and_no_torch(tmp_path: Path, signed: Path) -> None:
    script = (
        "import sys, socket\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "from ledger.cli import main\n"
        f"try: main(['--home', {str(tmp_path)!r}, 'verify', '--offline', {str(signed)!r}])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "heavy = {'torch', 'faiss', 'cv2', 'diffusers', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- interruption --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_says_how_to_go_on(number: signal.Signals, code: int) -> None:
    @click.group(cls=frame.Group)
    def group() -> None: ...

    @group.command()
    @frame.json_option
    def wait(as_json: bool) -> None:
        frame.resume_with("run it again")
        threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
        threading.Event().wait(20)

    result = CliRunner().invoke(group, ["wait", "--json"])
    assert result.exit_code == code
    assert "next: run it again" in result.stderr
    assert only_document(result)["error"]["code"] == "interrupted"
