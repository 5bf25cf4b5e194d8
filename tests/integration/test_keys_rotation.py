"""One key follows another: cut off anywhere, beside a running ledger, and with everything signed before still good."""

import datetime as dt
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography import x509

from ledger import genesis
from ledger.credentials.read import read_credential, trust_list
from ledger.credentials.write import (
    CredentialRequest,
    ModelDisclosure,
    WrittenCredential,
    new_manifest_urn,
    write_credential,
)
from ledger.database.session import open_database
from ledger.database.tables.log import AnnouncedKey
from ledger.errors import Conflict, Inconsistent, LedgerError, NotFound
from ledger.keys.announced import announced_public_key, announcement, compromised_since, in_force
from ledger.keys.certificates import new_leaf, new_root, pem
from ledger.keys.files import write_private
from ledger.keys.ring import CREDENTIAL, CREDENTIAL_KEY, NEXT, RECEIPTS, STATEMENTS, KeyRing, Use, init_keys, keys_of
from ledger.keys.rotation import ANNOUNCED_AS, FILES, Rotated, rotate
from ledger.log import entries
from ledger.log.announcements import KeyHistory
from ledger.log.merkle import leaf_hash
from ledger.log.receipts import sign_receipt, verify_receipt
from ledger.log.signing import SoftwareEs256Key
from ledger.log.statements import key_id, parse_statement, sign_statement, verify_statement
from ledger.runtime import Runtime, open_runtime, sequencing, utc_now
from ledger.settings import Settings

pytestmark = pytest.mark.postgres

USES: list[Use] = list(FILES)
PICTURE = Path(__file__).parent.parent / "golden" / "credentials" / "plain.png"

ROTATE_AND_DIE = """
import os, pathlib, signal, sys
from ledger.database.session import open_database
from ledger.keys.rotation import rotate
from ledger.runtime import utc_now
from ledger.settings import Settings

use, at = sys.argv[1:]
rename, left = pathlib.Path.rename, int(at) if at.isdigit() else -1

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def rename_or_die(path, target):
    global left
    if left == 0:
        die()
    left -= 1
    return rename(path, target)

pathlib.Path.rename = rename_or_die
with open_database(settings := Settings()) as database:
    rotate(settings, database.sessions, use, compromised=True, now=utc_now(), step=lambda at_: at_ == at and die())
"""


@pytest.fixture
def founded(settings: Settings) -> Settings:
    genesis.found(settings)
    return settings


def turn(runtime: Runtime, use: Use, *, compromised: bool = False) -> Rotated:
    return rotate(runtime.settings, runtime.sessions, use, compromised=compromised, now=utc_now())


def say(runtime: Runtime, number: int, ring: KeyRing | None = None) -> tuple[bytes, int]:
    """Sign one more statement, with the ring in force unless another is given; (entry, index) once integrated."""
    key = (ring or runtime.keys).statements
    entry = sign_statement({"type": "test", "number": number}, key, runtime.settings.origin, "test")
    with runtime.sessions.begin() as session:
        entries.append(session, entry)
    return entry, entries.wait(runtime.sessions, runtime.shard, leaf_hash(entry), 10).index


def kids(runtime: Runtime) -> dict[str, bytes]:
    with runtime.sessions() as session:
        return dict(in_force(session))


def ring_kids(ring: KeyRing) -> dict[str, bytes]:
    return {key.use: key.kid for key in ring.announced}


def walk(runtime: Runtime) -> tuple[KeyHistory, list[bytes]]:
    """The log as an auditor reads it: the keys it announced, and its entries."""
    history = KeyHistory()
    with runtime.database.connect() as connection:
        found = [row[0] for row in connection.execute("SELECT entry FROM log_entries ORDER BY idx")]
    for index, entry in enumerate(found):
        history.learn(index, entry)
    return history, found


# ---- what was signed before stays good -------------------------------------------------------------------------------


def test_the_genesis_announces_every_key_in_the_same_transaction(founded: Settings) -> None:
    with open_runtime(founded) as runtime, runtime.sessions() as session:
        assert kids(runtime) == ring_kids(runtime.keys)
        for key in runtime.keys.announced:
            entry, leaf = announcement(session, key.use, key.kid)
            assert leaf == leaf_hash(entry)
            assert parse_statement(entry).payload["type"] == "lawful-ledger/genesis/1"
            assert announced_public_key(session, key.use, key.kid) == key.public_key


def test_statements_of_both_keys_verify_by_what_the_log_announced(founded: Settings) -> None:
    with open_runtime(founded) as runtime, sequencing(runtime):
        before, _ = say(runtime, 1)
        rotated = turn(runtime, "statements")
        after, _ = say(runtime, 2)
        old, new = parse_statement(before).kid, parse_statement(after).kid
        assert (rotated.old, rotated.new) == (old, new)
        assert old != new
        with runtime.sessions() as session:
            for entry in (before, after):
                verify_statement(entry, announced_public_key(session, "statements", parse_statement(entry).kid))
        history, all_entries = walk(runtime)
        for entry in all_entries:
            known = history.key("statements", parse_statement(entry).kid)
            assert known is not None
            verify_statement(entry, known.public_key)
        retired = history.key("statements", old)
        assert retired is not None
        assert retired.retired is not None
        assert retired.compromised is None


def test_an_announcement_is_signed_by_the_key_before_it(founded: Settings) -> None:
    with open_runtime(founded) as runtime:
        first, second, third = (
            runtime.keys.statements.kid,
            turn(runtime, "statements").new,
            turn(runtime, "statements").new,
        )
        with runtime.sessions() as session:
            for kid, signer in ((second, first), (third, second)):
                entry, _ = announcement(session, "statements", kid)
                assert parse_statement(entry).kid == signer


def test_receipts_of_the_old_key_verify_with_its_announced_key(founded: Settings) -> None:
    def receipt(ring: KeyRing) -> bytes:
        return sign_receipt(0, 2, [leaf_hash(b"b")], node, ring.receipts, founded.origin)

    node = hashlib.sha256(b"\x01" + leaf_hash(b"a") + leaf_hash(b"b")).digest()
    with open_runtime(founded) as runtime:
        before = receipt(runtime.keys)
        rotated = turn(runtime, "receipts")
        after = receipt(runtime.keys)
        assert rotated.old is not None
        with runtime.sessions() as session:
            old, new = (announced_public_key(session, "receipts", kid) for kid in (rotated.old, rotated.new))
        assert verify_receipt(before, b"a", old).index == 0
        assert verify_receipt(after, b"a", new).index == 0
        with pytest.raises(LedgerError):
            verify_receipt(before, b"a", new)


def sign(ring: KeyRing) -> WrittenCredential:
    request = CredentialRequest(
        manifest_urn=new_manifest_urn(),
        intent="create",
        software=("atelier", "r1"),
        ledger={"schema": "lawful-ledger/record/1"},
        model=ModelDisclosure("atelier", "atelier@sha256:00ff"),
    )
    return write_credential(PICTURE.read_bytes(), "image/png", request, ring.credential, root_pem=ring.root_pem)


def test_credentials_of_the_old_certificate_stay_trusted(founded: Settings) -> None:
    with open_runtime(founded) as runtime:
        before = sign(runtime.keys)
        expired = runtime.keys.credential.not_after
        turn(runtime, "credential")
        after = sign(runtime.keys)
        assert runtime.keys.credential.not_after >= expired
        for written in (before, after):
            reading = read_credential(
                written.data, "image/png", anchors_pem=trust_list(runtime.keys.root_pem), now=dt.datetime.now(dt.UTC)
            )
            assert (reading.content, reading.signature, reading.signer) == ("intact", "valid", "trusted")


@pytest.mark.parametrize("use", USES)
def test_the_old_private_key_is_gone(use: Use, founded: Settings) -> None:
    before = {name: (founded.keys_folder / name).read_text() for name in FILES[use]}
    with open_runtime(founded) as runtime:
        turn(runtime, use)
    everything = "".join(path.read_text() for path in founded.keys_folder.iterdir() if path.is_file())
    assert not any(text in everything for text in before.values())
    assert not list(founded.keys_folder.glob("*" + NEXT))
    assert not list(founded.keys_folder.glob(".*"))
    assert {path.stat().st_mode & 0o777 for path in founded.keys_folder.iterdir()} == {0o600}


# ---- compromise ------------------------------------------------------------------------------------------------------


def test_what_a_thief_signs_is_suspect_from_the_announcement_on(founded: Settings) -> None:
    with open_runtime(founded) as runtime, sequencing(runtime):
        stolen = runtime.keys
        _, early = say(runtime, 1)
        rotated = turn(runtime, "statements", compromised=True)
        assert rotated.leaf_hash is not None
        announced = entries.wait(runtime.sessions, runtime.shard, rotated.leaf_hash, 10).index
        _, late = say(runtime, 2, ring=stolen)
        with runtime.sessions() as session:
            since = compromised_since(session, runtime.shard, "statements", stolen.statements.kid)
            assert compromised_since(session, runtime.shard, "statements", rotated.new) is None
        assert since == announced
        assert early < announced < late
        known = walk(runtime)[0].key("statements", stolen.statements.kid)
        assert known is not None
        assert [known.suspect_at(index) for index in (early, announced, late)] == [False, False, True]


def test_a_plain_rotation_makes_nothing_suspect(founded: Settings) -> None:
    with open_runtime(founded) as runtime, sequencing(runtime):
        rotated = turn(runtime, "statements")
        assert rotated.leaf_hash is not None
        entries.wait(runtime.sessions, runtime.shard, rotated.leaf_hash, 10)
        assert rotated.old is not None
        with runtime.sessions() as session:
            assert compromised_since(session, runtime.shard, "statements", rotated.old) is None


def test_a_key_that_no_entry_announced_is_not_known(founded: Settings) -> None:
    with open_runtime(founded) as runtime, runtime.sessions() as session, pytest.raises(NotFound) as refused:
        announced_public_key(session, "statements", bytes(32))
    assert refused.value.code == "key_not_announced"


# ---- cut off anywhere ------------------------------------------------------------------------------------------------

# The number says before which rename it dies: those that stage come first, those that put into place last.
CUTS = [
    *[("statements", cut) for cut in ("0", "staged", "appended", "committed", "1", "renamed")],
    *[("receipts", cut) for cut in ("0", "appended", "1")],
    *[("credential", cut) for cut in ("0", "1", "staged", "appended", "committed", "2", "3", "renamed")],
]


def killed(settings: Settings, use: str, at: str) -> None:
    assert settings.database_url is not None
    assert settings.database_owner_url is not None
    environment = {
        "LAWFUL_HOME": str(settings.home),
        "LAWFUL_DATABASE_URL": settings.database_url.get_secret_value(),
        "LAWFUL_DATABASE_OWNER_URL": settings.database_owner_url.get_secret_value(),
    }
    run = subprocess.run(
        [sys.executable, "-c", ROTATE_AND_DIE, use, at], env=os.environ | environment, timeout=120, capture_output=True
    )
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()


@pytest.mark.parametrize(("use", "at"), CUTS)
def test_a_rotation_killed_anywhere_is_finished_by_the_next(use: Use, at: str, founded: Settings) -> None:
    with open_runtime(founded) as runtime:
        before = kids(runtime)
    killed(founded, use, at)
    with open_runtime(founded) as runtime, sequencing(runtime):
        between = kids(runtime)
        assert ring_kids(runtime.keys) == between  # whoever starts now signs with the key in force, and can
        say(runtime, 1)
        sign(runtime.keys)
        committed = between != before
        if at != "renamed":
            finished = turn(runtime, use, compromised=True)
            assert (finished.old is None) == committed
        after = kids(runtime)
        assert {changed for changed in after if after[changed] != before[changed]} == {ANNOUNCED_AS[use]}
        assert ring_kids(runtime.keys) == after == ring_kids(keys_of(founded))
        assert not list(founded.keys_folder.glob("*" + NEXT))
        with runtime.sessions() as session:
            rows = session.scalars(sa.select(AnnouncedKey).where(AnnouncedKey.use == ANNOUNCED_AS[use])).all()
        assert len(rows) == 2
        assert [row.kid for row in rows if row.retired_at is None] == [after[ANNOUNCED_AS[use]]]
        say(runtime, 2)
        history, _ = walk(runtime)
        known = history.key(ANNOUNCED_AS[use], before[ANNOUNCED_AS[use]])
        assert known is not None
        assert known.compromised is not None


def test_two_rotations_at_once_are_one_after_the_other(founded: Settings) -> None:
    with open_runtime(founded) as runtime:
        done: list[Rotated] = []
        threads = [threading.Thread(target=lambda: done.append(turn(runtime, "statements"))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({rotated.new for rotated in done}) == 4
        assert runtime.keys.statements.kid == kids(runtime)["statements"]
        with sequencing(runtime):
            say(runtime, 1)
        walk(runtime)  # each was announced by the one before it


# ---- beside a running ledger -----------------------------------------------------------------------------------------


def test_a_running_process_takes_up_the_key_that_another_put_in_force(founded: Settings) -> None:
    with open_runtime(founded) as running, open_runtime(founded) as other:
        before = running.keys
        for use in USES:
            turn(other, use)
        assert ring_kids(running.keys) == kids(other)
        assert not set(ring_kids(running.keys).values()) & set(ring_kids(before).values())
        assert running.keys.log.vkey == before.log.vkey


def test_a_running_process_follows_a_rotation_that_was_cut_off_after_its_commit(founded: Settings) -> None:
    with open_runtime(founded) as running:
        before = running.keys.statements.kid
        killed(founded, "statements", "committed")
        assert running.keys.statements.kid == kids(running)["statements"] != before


def test_no_statement_is_lost_or_refused_while_keys_are_rotated(founded: Settings) -> None:
    with open_runtime(founded) as runtime, sequencing(runtime):
        stop, said, failed = threading.Event(), [], []

        def speak(writer: int) -> None:
            number = 0
            while not stop.is_set():
                try:
                    said.append(say(runtime, writer * 1_000_000 + number))
                except Exception as error:  # noqa: BLE001 - whatever it is, it would be a refused statement
                    failed.append(error)
                number += 1

        writers = [threading.Thread(target=speak, args=(writer,)) for writer in range(3)]
        for thread in writers:
            thread.start()
        for _ in range(5):
            turn(runtime, "statements")
        stop.set()
        for thread in writers:
            thread.join()
        assert not failed
        assert len(said) > 5
        said.append(say(runtime, 9_000_000))  # it is published after the last rotation's own entry
        history, all_entries = walk(runtime)
        assert len(history.keys) == 3 + 5
        for entry, index in said:
            assert all_entries[index] == entry
            known = history.key("statements", parse_statement(entry).kid)
            assert known is not None
            verify_statement(entry, known.public_key)


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_a_keys_folder_from_an_older_backup_is_refused(founded: Settings) -> None:
    backup = (founded.keys_folder / STATEMENTS).read_text()
    with open_runtime(founded) as runtime:
        turn(runtime, "statements")
    (founded.keys_folder / STATEMENTS).unlink()
    write_private(founded.keys_folder / STATEMENTS, backup)
    with pytest.raises(Inconsistent) as refused, open_runtime(founded):
        pass
    assert refused.value.code == "key_not_here"


def test_a_receipts_key_that_was_replaced_by_hand_takes_effect_with_a_rotation(founded: Settings) -> None:
    (founded.keys_folder / RECEIPTS).unlink()
    by_hand = SoftwareEs256Key.generate()
    write_private(founded.keys_folder / RECEIPTS, by_hand.to_pem().decode())
    with pytest.raises(Inconsistent), open_runtime(founded):
        pass
    with open_database(founded) as database:
        rotated = rotate(founded, database.sessions, "receipts", compromised=False, now=utc_now())
    assert rotated.new == key_id(by_hand.public_key_der)
    with open_runtime(founded) as runtime:
        assert runtime.keys.receipts.public_key_der == by_hand.public_key_der


def elsewhere(settings: Settings) -> tuple[str, SoftwareEs256Key, str]:
    """(chain, key, root) of a certificate that another CA made for this ledger."""
    root_key, key = SoftwareEs256Key.generate(), SoftwareEs256Key.generate()
    root = new_root(root_key, "ca.example", utc_now())
    other = x509.load_pem_x509_certificate(pem(root).encode())
    return pem(new_leaf(key.public_key_der, other, root_key, settings.origin, utc_now())), key, pem(root)


def test_a_certificate_of_another_ca_is_staged_by_hand_and_announced(founded: Settings) -> None:
    chain, key, root = elsewhere(founded)
    write_private(founded.keys_folder / (CREDENTIAL + NEXT), chain)
    write_private(founded.keys_folder / (CREDENTIAL_KEY + NEXT), key.to_pem().decode())
    with open_runtime(founded) as runtime:
        turn(runtime, "credential")
        assert runtime.keys.credential.certificates_pem == chain
        reading = read_credential(
            sign(runtime.keys).data, "image/png", anchors_pem=trust_list(root), now=dt.datetime.now(dt.UTC)
        )
        assert reading.content == "intact"
        with pytest.raises(Conflict) as refused:  # this ledger's own CA does not renew another's
            turn(runtime, "credential")
        assert refused.value.code == "certificate_elsewhere"


def test_nothing_can_be_rotated_before_the_genesis(settings: Settings) -> None:
    init_keys(settings.keys_folder, settings.origin, now=utc_now())
    with open_database(settings) as database, pytest.raises(NotFound) as refused:
        rotate(settings, database.sessions, "receipts", compromised=False, now=utc_now())
    assert refused.value.code == "ledger_missing"
