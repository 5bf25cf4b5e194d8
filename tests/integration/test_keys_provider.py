"""A ledger whose private keys are in another process: it signs all the same, and a failing service breaks nothing."""

import contextlib
import datetime as dt
import hashlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from ledger import genesis
from ledger.credentials.read import read_credential, trust_list
from ledger.credentials.write import CredentialRequest, WrittenCredential, new_manifest_urn, write_credential
from ledger.database.tables.log import AnnouncedKey, LogCheckpoint, LogEntry, LogOutbox
from ledger.errors import Conflict, Inconsistent, Unavailable
from ledger.keys import provider as provider_module
from ledger.keys.announced import announced_public_key
from ledger.keys.ring import KeyRing, Use, load_anchors
from ledger.keys.rotation import rotate
from ledger.log import entries
from ledger.log.merkle import leaf_hash
from ledger.log.notes import open_note
from ledger.log.receipts import sign_receipt, verify_receipt
from ledger.log.statements import parse_statement, sign_statement, verify_statement
from ledger.log.verify import check_tlog_proof
from ledger.runtime import Runtime, open_runtime, sequencing, utc_now
from ledger.settings import Settings

from . import key_service
from .key_service import ask

pytestmark = pytest.mark.postgres

PICTURE = Path(__file__).parent.parent / "golden" / "credentials" / "plain.png"
FAILURES = {"down": "key_provider_down", "slow": "key_provider_down", "wrong": "key_provider_wrong"} | {
    "short": "key_provider_wrong"
}


class Elsewhere:
    """The service, which a test can kill and start again at the same address with the same keys."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self.address = str(folder / "socket")
        (folder / "keys").mkdir()
        self.start()

    def start(self) -> None:
        self.process = self._stack.enter_context(key_service.running(self.address, self._folder / "keys"))

    def fail(self, mode: str) -> None:
        if mode == "down":
            self.process.kill()
            self.process.wait()
        else:
            ask(op="mode", mode=mode)

    def recover(self, mode: str) -> None:
        if mode == "down":
            self.start()
        else:
            ask(op="mode", mode="well")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:  # a socket's path must be short
        service = Elsewhere(stack, Path(folder))
        monkeypatch.setenv(key_service.ADDRESS, service.address)
        yield service


@pytest.fixture
def founded(settings: Settings, elsewhere: Elsewhere) -> Settings:
    settings = settings.model_copy(update={"key_provider": key_service.SETTING})
    genesis.found(settings)
    return settings


def signed(runtime: Runtime, number: int) -> bytes:
    return sign_statement({"type": "test", "number": number}, runtime.keys.statements, runtime.settings.origin, "test")


def credential(ring: KeyRing) -> WrittenCredential:
    request = CredentialRequest(
        manifest_urn=new_manifest_urn(), intent="declared", software=("test", "1"), ledger={"schema": "test"}
    )
    return write_credential(PICTURE.read_bytes(), "image/png", request, ring.credential, root_pem=ring.root_pem)


def counts(runtime: Runtime) -> tuple[int, ...]:
    with runtime.sessions() as session:
        return tuple(
            session.scalars(sa.select(sa.func.count()).select_from(table)).one()
            for table in (LogEntry, LogCheckpoint, AnnouncedKey, LogOutbox)
        )


def test_a_ledger_signs_everything_with_keys_it_does_not_hold(founded: Settings) -> None:
    assert {path.name for path in founded.keys_folder.iterdir()} == {
        "log.vkey",
        "credential.pem",
        "root.pem",
        "root.key.pem",
    }
    with open_runtime(founded) as runtime, sequencing(runtime):
        entry = signed(runtime, 1)
        with runtime.sessions.begin() as session:
            entries.append(session, entry)
        entries.wait(runtime.sessions, runtime.shard, leaf_hash(entry), 20)
        with runtime.sessions() as session:
            proof = entries.proof(session, runtime.shard, leaf_hash(entry))
            kid = parse_statement(entry).kid
            verify_statement(entry, announced_public_key(session, "statements", kid))
        reading = check_tlog_proof(entry, proof, [load_anchors(founded.keys_folder).log_vkey])
        assert (reading.inclusion, reading.log_key) == (True, "trusted")
        node = hashlib.sha256(b"\x01" + leaf_hash(b"a") + leaf_hash(b"b")).digest()
        receipt = sign_receipt(0, 2, [leaf_hash(b"b")], node, runtime.keys.receipts, founded.origin)
        assert verify_receipt(receipt, b"a", runtime.keys.receipts.public_key_der).index == 0
        read = read_credential(
            credential(runtime.keys).data,
            "image/png",
            anchors_pem=trust_list(runtime.keys.root_pem),
            now=dt.datetime.now(dt.UTC),
        )
        assert (read.content, read.signature, read.signer) == ("intact", "valid", "trusted")


@pytest.mark.parametrize("mode", FAILURES)
def test_a_failing_key_service_is_named_and_nothing_is_signed(
    mode: str, founded: Settings, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_module, "TIMEOUT", 1.0)
    with open_runtime(founded) as runtime:
        before, ring = counts(runtime), runtime.keys
        elsewhere.fail(mode)
        for attempt in (lambda: signed(runtime, 1), lambda: credential(ring), lambda: ring.receipts.sign(b"x")):
            started = time.monotonic()
            with pytest.raises(Unavailable) as refused:
                attempt()
            assert refused.value.code == FAILURES[mode]
            assert time.monotonic() - started < 4  # signing a credential asks more than once
        with pytest.raises(Unavailable):
            _append_and_sign(runtime)
        assert counts(runtime) == before
        elsewhere.recover(mode)
        signed(runtime, 1)
        credential(ring)


@pytest.mark.parametrize("mode", FAILURES)
def test_a_log_whose_key_is_out_of_reach_waits_and_goes_on(
    mode: str, founded: Settings, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_module, "TIMEOUT", 1.0)
    with open_runtime(founded) as runtime:
        entry = signed(runtime, 1)
        with sequencing(runtime) as sequencer:
            genesis_leaf = leaf_hash(_genesis(runtime))
            entries.wait(runtime.sessions, runtime.shard, genesis_leaf, 20)
            before = counts(runtime)
            elsewhere.fail(mode)
            with runtime.sessions.begin() as session:
                entries.append(session, entry)
            with pytest.raises(Unavailable):
                entries.wait(runtime.sessions, runtime.shard, leaf_hash(entry), 2.5)
            assert counts(runtime)[:3] == before[:3]
            assert sequencer.failure is None
            elsewhere.recover(mode)
            assert entries.wait(runtime.sessions, runtime.shard, leaf_hash(entry), 20).index == before[0]
        with runtime.sessions() as session:
            for note in session.scalars(sa.select(LogCheckpoint.note)):
                open_note(note, [runtime.keys.log.verifier])


def _append_and_sign(runtime: Runtime) -> None:
    with runtime.sessions.begin() as session:
        entries.append(session, b"in the same transaction as a signature")
        signed(runtime, 2)


def _genesis(runtime: Runtime) -> bytes:
    with runtime.sessions() as session:
        return session.scalars(sa.select(AnnouncedKey.entry)).first() or b""


def turn(runtime: Runtime, use: Use, *, compromised: bool = False) -> bytes:
    return rotate(runtime.settings, runtime.sessions, use, compromised=compromised, now=utc_now()).new


@pytest.mark.parametrize("use", ["statements", "receipts"])
def test_a_new_version_in_the_service_is_used_once_it_is_announced(use: Use, founded: Settings) -> None:
    with open_runtime(founded) as runtime:
        before = {key.use: key.kid for key in runtime.keys.announced}
        with pytest.raises(Conflict) as refused:
            turn(runtime, use)
        assert refused.value.code == "key_not_new"
        ask(op="new", use=use)
        with open_runtime(founded) as another:  # the service has a newer one, the log has not said so
            assert {key.use: key.kid for key in another.keys.announced} == before
            new = turn(runtime, use)
            assert new != before[use]
            deadline = time.monotonic() + 15
            while {key.use: key.kid for key in another.keys.announced}[use] != new:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        with runtime.sessions() as session:
            announced_public_key(session, use, before[use])


def test_a_certificate_is_renewed_for_the_same_key_but_not_for_a_stolen_one(founded: Settings) -> None:
    with open_runtime(founded) as runtime:
        before = runtime.keys.credential
        turn(runtime, "credential")
        after = runtime.keys.credential
        assert after.certificates_pem != before.certificates_pem
        assert after.key.public_key_der == before.key.public_key_der
        credential(runtime.keys)
        with pytest.raises(Conflict) as refused:
            turn(runtime, "credential", compromised=True)
        assert refused.value.code == "key_not_new"
        ask(op="new", use="credential")
        turn(runtime, "credential", compromised=True)
        assert runtime.keys.credential.key.public_key_der != before.key.public_key_der
        credential(runtime.keys)


def test_a_service_with_another_logs_key_is_refused(founded: Settings, tmp_path: Path) -> None:
    (founded.keys_folder / "log.vkey").unlink()
    stranger = genesis.init_keys(tmp_path / "other" / "keys", founded.origin, now=utc_now())
    (founded.keys_folder / "log.vkey").write_text(stranger.log.vkey + "\n")
    (founded.keys_folder / "log.vkey").chmod(0o600)
    with pytest.raises(Inconsistent) as refused, open_runtime(founded):
        pass
    assert refused.value.code == "log_key_mismatch"
