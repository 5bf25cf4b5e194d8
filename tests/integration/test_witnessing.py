"""What a ledger has witnessed: by whom, how often it asks, and what witnesses that fail or lie can do to it."""

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from ledger import doctor, genesis
from ledger.cli import main
from ledger.database.tables.log import LogPolicy, LogWitness, LogWitnessed
from ledger.errors import BadRequest, Unavailable
from ledger.log.cosignatures import Cosigner, cosigned_at
from ledger.log.entries import proof, wait
from ledger.log.notes import Checkpoint, Note, NoteSigner, NoteVerifier, open_note, sign_note
from ledger.log.policy import load_policy
from ledger.log.statements import parse_statement
from ledger.log.verify import check_tlog_proof
from ledger.runtime import Runtime, open_runtime, sequencing
from ledger.settings import Settings
from ledger.witness.asking import Witnesses
from ledger.witness.witness import Submission
from tests.integration.witness_at_work import a_strange_witness, a_witness, policy, reply, write
from tests.waiting import until

pytestmark = pytest.mark.postgres


@pytest.fixture
def log_key(settings: Settings) -> NoteVerifier:
    return NoteVerifier.parse(genesis.found(settings).log_vkey)


def with_policy(settings: Settings, path: Path, interval: float = 0.1) -> Settings:
    return settings.model_copy(update={"witness_policy": path, "witness_interval": interval})


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Runtime]:
    with open_runtime(settings) as runtime, sequencing(runtime):
        yield runtime


def witnessed(runtime: Runtime) -> list[tuple[int, bytes]]:
    with runtime.sessions() as session:
        return [
            (row.size, row.note) for row in session.scalars(sa.select(LogWitnessed).order_by(LogWitnessed.size)).all()
        ]


def status(runtime: Runtime, vkey: str) -> LogWitness | None:
    with runtime.sessions() as session:
        return session.get(LogWitness, (runtime.shard, vkey))


def entries_of(runtime: Runtime, type_: str) -> list[dict[str, object]]:
    with runtime.sessions() as session:
        raw = session.scalars(sa.text("SELECT entry FROM log_entries ORDER BY idx")).all()
    payloads = []
    for entry in raw:
        with contextlib.suppress(BadRequest):  # the tests' own entries are no statements
            payloads.append(parse_statement(entry).payload)
    return [payload for payload in payloads if payload["type"] == type_]


# ---- when all is well ------------------------------------------------------------------------------------------------


def test_an_entry_is_integrated_first_and_witnessed_when_the_quorum_has_cosigned(
    settings: Settings, tmp_path: Path, log_key: NoteVerifier
) -> None:
    with a_witness(tmp_path / "a", log_key) as one, a_witness(tmp_path / "b", log_key, name="w2.example") as two:
        path = policy(tmp_path / "policy", [(each.vkey, each.url) for each in (one, two)])
        with running(with_policy(settings, path)) as runtime:
            (leaf,) = write(runtime, "an entry")
            wait(runtime.sessions, runtime.shard, leaf, 20)
            found = wait(runtime.sessions, runtime.shard, leaf, 20, until="witnessed")
            keys = [each.witness.cosigner.verifier for each in (one, two)]
            assert open_note(found.checkpoint, [log_key, *keys]).signed_by == {log_key, *keys}
            times = cosigned_at(Note.parse(found.checkpoint), keys)
            assert all(abs(at - time.time()) < 60 for at in times.values())
            until(lambda: (status(runtime, one.vkey) or LogWitness()).size == one.size(log_key.name))
            seen = status(runtime, one.vkey)
            assert seen is not None
            assert (seen.failure, seen.size) == (None, one.size(log_key.name))
            assert seen.cosigned_at is not None


def test_a_proof_under_the_witnessed_checkpoint_satisfies_the_policy_offline(
    settings: Settings, tmp_path: Path, log_key: NoteVerifier
) -> None:
    with a_witness(tmp_path / "a", log_key) as served:
        path = policy(tmp_path / "policy", [(served.vkey, served.url)])
        with running(with_policy(settings, path)) as runtime:
            (leaf,) = write(runtime, "an entry")
            wait(runtime.sessions, runtime.shard, leaf, 20, until="witnessed")
            with runtime.sessions() as session:
                evidence = proof(session, runtime.shard, leaf, witnessed=True)
            reading = check_tlog_proof(b"an entry", evidence, [log_key.vkey], policy=load_policy(path))
            assert (reading.inclusion, reading.log_key, reading.quorum) == (True, "trusted", True)


def test_a_log_that_grows_fast_sends_at_most_one_checkpoint_an_interval(
    settings: Settings, tmp_path: Path, log_key: NoteVerifier
) -> None:
    asked: list[float] = []
    cosigner = Cosigner.generate("counting.example")

    def cosign(handler: http.server.BaseHTTPRequestHandler) -> None:
        if handler.command == "GET":
            reply(handler, 404, "text/plain", b"")
            return
        asked.append(time.monotonic())
        body = handler.body  # type: ignore[attr-defined]
        submission = Submission.parse(body)
        assert len(body) <= 16_384
        assert len(submission.note.signatures) == 1
        line = cosigner.cosign(submission.note.text, int(time.time()))
        reply(handler, 200, "text/plain; charset=utf-8", line)

    with a_strange_witness(cosign) as url:
        path = policy(tmp_path / "policy", [(cosigner.vkey, url)])
        with running(with_policy(settings, path, interval=0.4)) as runtime:
            until(lambda: len(witnessed(runtime)) >= 1)
            asked.clear()
            began = time.monotonic()
            sizes = set()
            while time.monotonic() - began < 3:
                (leaf,) = write(runtime, f"entry at {time.monotonic()}")
                sizes.add(wait(runtime.sessions, runtime.shard, leaf, 20).size)
            wait(runtime.sessions, runtime.shard, leaf, 20, until="witnessed")
            elapsed = time.monotonic() - began
    assert len(sizes) > len(asked)
    assert 1 <= len(asked) <= elapsed / 0.4 + 2


def test_a_quorum_of_two_of_three_is_met_while_the_third_is_away_and_it_catches_up(
    settings: Settings, tmp_path: Path, log_key: NoteVerifier
) -> None:
    with (
        a_witness(tmp_path / "w0", log_key, name="w0.example") as one,
        a_witness(tmp_path / "w1", log_key, name="w1.example") as two,
        contextlib.ExitStack() as third,
    ):
        three = third.enter_context(a_witness(tmp_path / "w2", log_key, name="w2.example"))
        path = policy(tmp_path / "policy", [(each.vkey, each.url) for each in (one, two, three)], quorum="2")
        with running(with_policy(settings, path)) as runtime:
            wait(runtime.sessions, runtime.shard, write(runtime, "first")[0], 20, until="witnessed")
            until(lambda: three.size(log_key.name) == one.size(log_key.name))
            third.close()
            stopped = three.size(log_key.name)
            for text in ("second", "third"):
                wait(runtime.sessions, runtime.shard, write(runtime, text)[0], 20, until="witnessed")
            until(lambda: (status(runtime, three.vkey) or LogWitness()).failure is not None)
            port = int(three.url.rpartition(":")[2])
            with a_witness(tmp_path / "w2", log_key, port=port) as again:
                assert again.size(log_key.name) == stopped
                until(lambda: again.size(log_key.name) == one.size(log_key.name), timeout=30)
                until(lambda: (status(runtime, three.vkey) or LogWitness()).failure is None)


def test_without_a_quorum_nothing_is_witnessed_and_everything_is_integrated(
    settings: Settings, tmp_path: Path, log_key: NoteVerifier
) -> None:
    nobody = Cosigner.generate("nobody.example")
    with a_witness(tmp_path / "a", log_key) as served:
        path = policy(tmp_path / "policy", [(served.vkey, served.url), (nobody.vkey, "http://127.0.0.1:9")])
        with running(with_policy(settings, path)) as runtime:
            size = wait(runtime.sessions, runtime.shard, write(runtime, "an entry")[0], 20).size
            until(lambda: (served.size(log_key.name) or 0) >= 1)
            until(lambda: (status(runtime, nobody.vkey) or LogWitness()).failure is not None)
            assert size >= 2
            assert witnessed(runtime) == []
            findings = {each.name: each for each in doctor.examine(with_policy(settings, path), networks=False)}
            assert findings["witnesses"].result == "warn"
            assert "w1" in findings["witnesses"].detail


def test_quorum_none_asks_and_never_says_witnessed(settings: Settings, tmp_path: Path, log_key: NoteVerifier) -> None:
    with a_witness(tmp_path / "a", log_key) as served:
        path = policy(tmp_path / "policy", [(served.vkey, served.url)], quorum="none")
        with running(with_policy(settings, path)) as runtime:
            wait(runtime.sessions, runtime.shard, write(runtime, "an entry")[0], 20)
            until(lambda: (served.size(log_key.name) or 0) >= 1)
            time.sleep(0.3)
            assert witnessed(runtime) == []


@pytest.mark.slow
def test_a_witness_that_drips_its_answer_delays_nobody_else(
    settings: Settings, tmp_path: Path, log_key: NoteVerifier
) -> None:
    over = threading.Event()

    def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            while not over.wait(0.2):
                handler.wfile.write(b"x")
                handler.wfile.flush()

    slow = Cosigner.generate("slow.example")
    with a_witness(tmp_path / "a", log_key) as served, a_strange_witness(drip) as url:
        path = policy(tmp_path / "policy", [(slow.vkey, url), (served.vkey, served.url)], quorum="any")
        began = time.monotonic()
        try:
            with running(with_policy(settings, path)) as runtime:
                for text in ("first", "second", "third"):
                    wait(runtime.sessions, runtime.shard, write(runtime, text)[0], 20, until="witnessed")
                assert time.monotonic() - began < 15  # a start waits for a silent witness 8 s at most
        finally:
            over.set()


# ---- witnesses that fail or lie --------------------------------------------------------------------------------------


def _false_answers() -> dict[str, tuple[int, str, bytes]]:
    stranger = Cosigner.generate("w0.example")
    text = Checkpoint("example.org/else", 5, bytes(32)).text
    return {
        "no signature at all": (200, "text/plain", b""),
        "not signature lines": (200, "text/plain", b"\x1b[31mhello\n"),
        "a stranger's cosignature": (200, "text/plain", stranger.cosign(text, 1)),
        "an unending answer": (200, "text/plain", b"x" * 200_000),
        "a conflict without a size": (409, "text/x.tlog.size", b"many\n"),
        "an unknown origin": (404, "text/plain", b"unknown"),
        "an error of its own": (500, "text/html", b"<h1>" + "\u202e".encode() * 500),
        "a redirect": (307, "text/plain", b""),
    }


@pytest.mark.parametrize("lie", _false_answers())
def test_an_answer_that_proves_nothing_counts_for_nothing_and_is_told(
    settings: Settings, tmp_path: Path, log_key: NoteVerifier, lie: str
) -> None:
    witness = Cosigner.generate("w0.example")

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        reply(handler, *((404, "text/plain", b"") if handler.command == "GET" else _false_answers()[lie]))

    with a_strange_witness(answer) as url:
        path = policy(tmp_path / "policy", [(witness.vkey, url)])
        with running(with_policy(settings, path)) as runtime:
            wait(runtime.sessions, runtime.shard, write(runtime, "an entry")[0], 20)
            until(lambda: (status(runtime, witness.vkey) or LogWitness()).failure is not None)
            failure = (status(runtime, witness.vkey) or LogWitness()).failure or ""
            assert failure.isprintable()
            assert len(failure) < 300
            assert witnessed(runtime) == []


def test_a_cosignature_over_another_checkpoint_or_from_the_future_is_not_taken(
    settings: Settings, tmp_path: Path, log_key: NoteVerifier
) -> None:
    witness = Cosigner.generate("w0.example")
    modes = iter(["another", "future"])
    used: list[str] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        if handler.command == "GET":
            reply(handler, 404, "text/plain", b"")
            return
        text = Submission.parse(handler.body).note.text  # type: ignore[attr-defined]
        mode = next(modes, "honest")
        used.append(mode)
        if mode == "another":
            text = Checkpoint(log_key.name, 10_000, bytes(32)).text
        at = int(time.time()) + (86_400 if mode == "future" else 0)
        reply(handler, 200, "text/plain", witness.cosign(text, at))

    with a_strange_witness(answer) as url:
        path = policy(tmp_path / "policy", [(witness.vkey, url)])
        with running(with_policy(settings, path)) as runtime:
            until(lambda: len(witnessed(runtime)) >= 1, timeout=30)
            assert used[:3] == ["another", "future", "honest"]
            for size, note in witnessed(runtime):
                times = cosigned_at(Note.parse(note), [witness.verifier])
                assert times[witness.verifier] <= time.time() + 1
                assert Checkpoint.parse(Note.parse(note).text).size == size


def test_a_running_log_is_not_stopped_by_a_bare_claim(
    settings: Settings, tmp_path: Path, log_key: NoteVerifier
) -> None:
    witness = Cosigner.generate("w0.example")
    claims = threading.Event()

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        if handler.command == "GET":
            reply(handler, 404, "text/plain", b"")
        elif claims.is_set():
            reply(handler, 409, "text/x.tlog.size", b"1000000\n")
        else:
            text = Submission.parse(handler.body).note.text  # type: ignore[attr-defined]
            reply(handler, 200, "text/plain", witness.cosign(text, int(time.time())))

    with a_strange_witness(answer) as url:
        path = policy(tmp_path / "policy", [(witness.vkey, url)])
        with running(with_policy(settings, path)) as runtime:
            wait(runtime.sessions, runtime.shard, write(runtime, "first")[0], 20, until="witnessed")
            claims.set()
            wait(runtime.sessions, runtime.shard, write(runtime, "second")[0], 20)
            until(lambda: "1000000" in ((status(runtime, witness.vkey) or LogWitness()).failure or ""))
            wait(runtime.sessions, runtime.shard, write(runtime, "third")[0], 20)
            assert (status(runtime, witness.vkey) or LogWitness()).size is not None  # what it cosigned last stays known


# ---- a claim at the start, and its override --------------------------------------------------------------------------


@pytest.mark.slow
def test_a_bare_claim_keeps_a_log_from_starting_until_an_operator_overrides_it_in_an_entry(
    settings: Settings, tmp_path: Path, log_key: NoteVerifier
) -> None:
    witness = Cosigner.generate("w0.example")

    def claim(handler: http.server.BaseHTTPRequestHandler) -> None:
        if handler.command == "GET":
            reply(handler, 404, "text/plain", b"")
        else:
            reply(handler, 409, "text/x.tlog.size", b"1000000\n")

    with running(settings) as runtime:  # born, and used, before it has a policy
        wait(runtime.sessions, runtime.shard, write(runtime, "first")[0], 20)
    with a_strange_witness(claim) as url:
        ours = with_policy(settings, policy(tmp_path / "policy", [(witness.vkey, url)]))
        with open_runtime(ours) as runtime, sequencing(runtime) as sequencer:
            (leaf,) = write(runtime, "second")
            until(lambda: "1000000" in ((status(runtime, witness.vkey) or LogWitness()).failure or ""))
            time.sleep(1.5)
            assert not sequencer.active
            assert sequencer.failure is None
            assert sequencer.is_alive()
            done = CliRunner().invoke(
                main, override_words(ours, "--witness", "w0", "--size", "999999", "--reason", "too small a size")
            )
            assert done.exit_code == 0, done.output
            time.sleep(6)
            assert not sequencer.active
            done = CliRunner().invoke(
                main, override_words(ours, "--witness", "w0", "--size", "1000000", "--reason", "its disk was swapped")
            )
            assert done.exit_code == 0, done.output
            wait(runtime.sessions, runtime.shard, leaf, 30)
            said = entries_of(runtime, "lawful-ledger/override/1")
            assert [(each["witness_vkey"], each["size"], each["reason"]) for each in said] == [
                (witness.vkey, 999999, "too small a size"),
                (witness.vkey, 1000000, "its disk was swapped"),
            ]
        with open_runtime(ours) as runtime, sequencing(runtime) as sequencer:  # it stands, in the log by now
            until(lambda: sequencer.active)


def test_a_witness_that_only_says_that_it_knows_another_tree_keeps_the_log_from_starting(
    settings: Settings, tmp_path: Path, log_key: NoteVerifier
) -> None:
    witness = Cosigner.generate("w0.example")

    def refuse(handler: http.server.BaseHTTPRequestHandler) -> None:
        old = getattr(handler, "body", b"").partition(b"\n")[0]
        if handler.command == "GET":  # a checkpoint that anybody could have made up
            text = Checkpoint(log_key.name, 1_000_000, bytes(32)).text
            reply(handler, 200, "text/plain", sign_note(text, NoteSigner.generate(log_key.name)))
        elif old == b"old 0":
            reply(handler, 409, "text/x.tlog.size", b"1\n")
        else:
            reply(handler, 422, "text/plain", b"the consistency proof does not hold")

    with running(settings) as runtime:
        wait(runtime.sessions, runtime.shard, write(runtime, "first", "second")[0], 20)
    with a_strange_witness(refuse) as url:
        ours = with_policy(settings, policy(tmp_path / "policy", [(witness.vkey, url)]))
        with open_runtime(ours) as runtime:
            witnesses = Witnesses(load_policy(tmp_path / "policy"), runtime.sessions, log_key, runtime.shard)
            head = witnesses.newest_published()
            assert head is not None
            with pytest.raises(Unavailable) as refusal:
                witnesses.check_outside(head)
            assert refusal.value.code == "witness_claims_other"
            assert f"lawful log override --witness w0 --size {head.size}" in refusal.value.next_step
            witnesses.close()


def override_words(settings: Settings, *words: str) -> list[str]:
    assert settings.database_url is not None
    assert settings.database_owner_url is not None
    return [
        *("--home", str(settings.home)),
        *("--set", f"database_url={settings.database_url.get_secret_value()}"),
        *("--set", f"database_owner_url={settings.database_owner_url.get_secret_value()}"),
        *("--set", f"witness_policy={settings.witness_policy or ''}"),
        *("log", "override", *words),
    ]


def test_an_override_row_without_its_entry_counts_for_nothing(
    settings: Settings, tmp_path: Path, log_key: NoteVerifier
) -> None:
    witness = Cosigner.generate("w0.example")

    def claim(handler: http.server.BaseHTTPRequestHandler) -> None:
        status_ = (404, "text/plain", b"") if handler.command == "GET" else (409, "text/x.tlog.size", b"1000000\n")
        reply(handler, *status_)

    with running(settings) as runtime:
        wait(runtime.sessions, runtime.shard, write(runtime, "first")[0], 20)
        with runtime.sessions.begin() as session:
            session.add(
                LogWitness(
                    shard=runtime.shard,
                    vkey=witness.vkey,
                    asked_at=sa.func.now(),
                    overridden_size=2**53 - 1,
                    override_leaf=bytes(32),
                )
            )
    with a_strange_witness(claim) as url:
        ours = with_policy(settings, policy(tmp_path / "policy", [(witness.vkey, url)]))
        with open_runtime(ours) as runtime, sequencing(runtime) as sequencer:
            until(lambda: "1000000" in ((status(runtime, witness.vkey) or LogWitness()).failure or ""))
            time.sleep(1)
            assert not sequencer.active


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--witness", "w9", "--size", "5", "--reason", "x"), "witness_unknown"),
        (("--witness", "w0", "--size", "5", "--reason", " "), "override_reason_missing"),
        (("--witness", "w0", "--size", "5", "--reason", "a\nb"), "statement_undescribed"),
    ],
)
def test_an_override_that_says_nothing_is_refused(
    settings: Settings, tmp_path: Path, log_key: NoteVerifier, words: tuple[str, ...], code: str
) -> None:
    witness = Cosigner.generate("w0.example")
    ours = with_policy(settings, policy(tmp_path / "policy", [(witness.vkey, "http://127.0.0.1:9")]))
    done = CliRunner().invoke(main, override_words(ours, *words))
    assert done.exit_code == 3
    assert f"[{code}]" in done.stderr


# ---- the policy in force ---------------------------------------------------------------------------------------------


def test_each_change_of_the_policy_is_an_entry_and_dropping_it_too(
    settings: Settings, tmp_path: Path, log_key: NoteVerifier
) -> None:
    nobody = ("http://127.0.0.1:9",)
    first = policy(tmp_path / "first", [(Cosigner.generate("a.example").vkey, nobody[0])])
    second = policy(tmp_path / "second", [(Cosigner.generate("b.example").vkey, None)])
    seen: list[str] = []
    for path in (None, first, first, second, first, None, None):
        with running(with_policy(settings, path) if path is not None else settings) as runtime:
            wait(runtime.sessions, runtime.shard, write(runtime, f"under {path} {len(seen)} {time.time()}")[0], 20)
        seen.append(path.read_text() if path is not None else "")
    with running(settings) as runtime:
        with runtime.sessions() as session:
            rows = session.scalars(sa.select(LogPolicy).order_by(LogPolicy.number)).all()
        entries = entries_of(runtime, "lawful-ledger/policy/1")
    expected = [first.read_text(), second.read_text(), first.read_text(), ""]
    assert [row.text for row in rows] == expected
    assert [each["text"] for each in entries] == expected
    assert [each["sha256"] for each in entries] == [row.sha256.hex() for row in rows]
    assert {each["origin"] for each in entries} == {log_key.name}
