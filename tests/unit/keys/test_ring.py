"""A ledger's keys: complete or not there, private, never overwritten."""

import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from ledger.errors import Conflict, Inconsistent, LedgerError, NotAllowed, NotFound
from ledger.keys.certificates import CLAIM_SIGNING, EMAIL_PROTECTION, LEAF_LIFETIME
from ledger.keys.ring import init_keys, load_anchors, load_keys

ORIGIN = "localhost/ledger/2026"
NAMES = (
    "log.skey", "log.vkey", "statements.pem", "receipts.key.pem", "credential.pem", "credential.key.pem", "root.pem"
)  # fmt: skip
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

KILLED_AT = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from ledger.keys import ring as keys

write, left = keys.write_private, int(sys.argv[2])
def write_or_die(path, text):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    write(path, text)
keys.write_private = write_or_die
keys.init_keys(Path(sys.argv[1]), "localhost/ledger/2026", now=datetime.now(UTC))
"""

INIT_ON_SIGNAL = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from ledger.keys.ring import init_keys
from ledger.errors import Conflict

print("ready", flush=True)
sys.stdin.readline()
try:
    print(init_keys(Path(sys.argv[1]), "localhost/ledger/2026", now=datetime.now(UTC)).log.vkey)
except Conflict as error:
    print(error.code)
"""


def test_keys_read_back_as_they_were_made(keys_folder: Path) -> None:
    made = init_keys(keys_folder, ORIGIN, now=NOW)
    loaded = load_keys(keys_folder)
    assert loaded.log.vkey == made.log.vkey
    assert loaded.log.name == ORIGIN
    assert loaded.statements.kid == made.statements.kid
    assert loaded.announced == made.announced
    assert loaded.credential.certificates_pem == made.credential.certificates_pem
    assert loaded.root_pem == load_anchors(keys_folder).root_pem == made.root_pem
    assert load_anchors(keys_folder).log_vkey == made.log.vkey


def test_nobody_but_the_owner_can_read_the_keys(keys_folder: Path) -> None:
    init_keys(keys_folder, ORIGIN, now=NOW)
    assert stat.S_IMODE(keys_folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys_folder.iterdir()} == {0o600}


@pytest.mark.parametrize("path", [".", "log.skey", "credential.key.pem"])
def test_keys_that_others_can_read_are_refused(keys_folder: Path, path: str) -> None:
    init_keys(keys_folder, ORIGIN, now=NOW)
    (keys_folder / path).chmod(0o755)
    with pytest.raises(NotAllowed, match="read by others") as caught:
        load_keys(keys_folder)
    assert caught.value.code == "keys_exposed"


def test_keys_are_never_overwritten(keys_folder: Path) -> None:
    init_keys(keys_folder, ORIGIN, now=NOW)
    before = {path.name: path.read_bytes() for path in keys_folder.iterdir()}
    with pytest.raises(Conflict) as caught:
        init_keys(keys_folder, ORIGIN, now=NOW)
    assert caught.value.code == "keys_exist"
    assert {path.name: path.read_bytes() for path in keys_folder.iterdir()} == before


def test_a_folder_with_anything_in_it_is_left_alone(keys_folder: Path) -> None:
    keys_folder.mkdir(parents=True)
    (keys_folder / "precious").write_text("x")
    with pytest.raises(Conflict):
        init_keys(keys_folder, ORIGIN, now=NOW)
    assert [path.name for path in keys_folder.iterdir()] == ["precious"]
    assert [path.name for path in keys_folder.parent.iterdir()] == ["keys"]


def test_an_empty_folder_is_taken_and_closed_to_others(keys_folder: Path) -> None:
    keys_folder.mkdir(parents=True, mode=0o755)
    init_keys(keys_folder, ORIGIN, now=NOW)
    assert stat.S_IMODE(keys_folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("files_written", [0, 1, 5])
def test_an_init_killed_half_way_leaves_nothing_that_loads(keys_folder: Path, files_written: int) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED_AT, str(keys_folder), str(files_written)], timeout=60)
    assert run.returncode == -9
    with pytest.raises(NotFound) as caught:
        load_keys(keys_folder)
    assert caught.value.code == "keys_missing"
    assert init_keys(keys_folder, ORIGIN, now=NOW).log.name == ORIGIN


def test_of_several_inits_at_once_one_wins(keys_folder: Path) -> None:
    command = [sys.executable, "-c", INIT_ON_SIGNAL, str(keys_folder)]
    runs = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
    answers = [answer.strip() for answer in _answers(runs)]
    assert answers.count("keys_exist") == 3
    assert load_keys(keys_folder).log.vkey in answers
    assert [path.name for path in keys_folder.parent.iterdir()] == ["keys"]


def _answers(runs: list["subprocess.Popen[str]"]) -> list[str]:
    for run in runs:  # all are started before any is waited for
        assert run.stdin is not None
        run.stdin.write("go\n")
        run.stdin.flush()
    return [run.communicate(timeout=60)[0] for run in runs]


def test_a_key_that_is_not_the_certificates_is_damage(keys_folder: Path, tmp_path: Path) -> None:
    init_keys(keys_folder, ORIGIN, now=NOW)
    other = tmp_path / "other"
    init_keys(other, ORIGIN, now=NOW)
    (keys_folder / "credential.key.pem").write_bytes((other / "credential.key.pem").read_bytes())
    with pytest.raises(Inconsistent) as caught:
        load_keys(keys_folder)
    assert caught.value.code == "keys_damaged"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff\xfe"])
def test_a_damaged_file_is_named_as_damage_and_never_quoted(keys_folder: Path, name: str, content: bytes) -> None:
    init_keys(keys_folder, ORIGIN, now=NOW)
    (keys_folder / name).write_bytes(content)
    with pytest.raises(LedgerError) as caught:
        load_keys(keys_folder)
    assert caught.value.code == "keys_damaged"
    assert "rubbish" not in caught.value.detail


def test_secrets_stay_out_of_what_is_printed(keys_folder: Path) -> None:
    ring = init_keys(keys_folder, ORIGIN, now=NOW)
    assert "PRIVATE" not in repr(ring)


def test_the_certificate_has_the_profile_that_c2pa_and_pdf_readers_ask_for(keys_folder: Path) -> None:
    ring = init_keys(keys_folder, ORIGIN, now=NOW)
    leaf = x509.load_pem_x509_certificate(ring.credential.certificates_pem.encode())
    root = x509.load_pem_x509_certificate(ring.root_pem.encode())
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {oid.dotted_string for oid in usage} == {CLAIM_SIGNING, EMAIL_PROTECTION}
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    signs = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (signs.digital_signature, signs.content_commitment, signs.key_cert_sign) == (True, True, False)
    assert leaf.extensions.get_extension_for_oid(ExtensionOID.AUTHORITY_KEY_IDENTIFIER)
    leaf.verify_directly_issued_by(root)
    assert ring.credential.not_after == NOW + LEAF_LIFETIME
    assert root.not_valid_after_utc > NOW + timedelta(days=3650)


def test_a_long_origin_still_gives_a_certificate(keys_folder: Path) -> None:
    origin = "ledger.example.org/" + "x" * 100
    assert init_keys(keys_folder, origin, now=NOW).log.name == origin
