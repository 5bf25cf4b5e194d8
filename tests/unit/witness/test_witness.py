"""A witness cosigns what continues what it has cosigned, says why it will not do so otherwise, and forgets nothing."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.errors import Conflict, Inconsistent, NotAllowed, NotFound
from ledger.log import merkle
from ledger.log.cosignatures import Cosigner, cosigned_at
from ledger.log.notes import Checkpoint, Note, NoteError, NoteSigner, open_note, sign_note
from ledger.witness.witness import (
    KEPT_CONFLICTS,
    MAX_REQUEST_BYTES,
    Submission,
    Witness,
    init_witness,
    load_witness,
    origin_hash,
)

ORIGIN = "example.org/ledger/2026"
NOW = 1_790_000_000


class Log:
    """A log in memory, whose signer may lie."""

    def __init__(self, label: str = "entry", signer: NoteSigner | None = None) -> None:
        self.signer = signer or NoteSigner.generate(ORIGIN)
        self._label = label

    def leaves(self, size: int, fork_at: int | None = None) -> list[bytes]:
        return [
            merkle.leaf_hash(f"{'forked' if fork_at is not None and i >= fork_at else self._label} {i}".encode())
            for i in range(size)
        ]

    def note(self, size: int, fork_at: int | None = None) -> bytes:
        root = merkle.root(self.leaves(size, fork_at))
        return sign_note(Checkpoint(self.signer.name, size, root).text, self.signer)

    def request(self, old: int, size: int, fork_at: int | None = None) -> bytes:
        """What an honest client of this log sends; for a forked tree the proof leads from the fork's own root."""
        proof = merkle.consistency_proof(merkle.reader_over(self.leaves(size, fork_at)), min(old, size), size)
        return Submission.write(old, proof, self.note(size, fork_at))


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def clock() -> list[int]:
    return [NOW]


@pytest.fixture
def witness(tmp_path: Path, log: Log, clock: list[int]) -> Witness:
    cosigner = init_witness(tmp_path, "witness.example/w1")
    return Witness(tmp_path, cosigner, {ORIGIN: [log.signer.verifier]}, lambda: clock[0])


# ---- what it cosigns -------------------------------------------------------------------------------------------------


def test_it_cosigns_a_log_from_its_birth_through_its_growth(witness: Witness, log: Log, clock: list[int]) -> None:
    for old, size in ((0, 0), (0, 1), (1, 2), (2, 255), (255, 256), (256, 300), (300, 300)):
        clock[0] += 7
        answer = witness.add_checkpoint(log.request(old, size))
        assert (answer.status, answer.media_type) == (200, "text/plain; charset=utf-8")
        note = Note.parse(log.note(size) + answer.body)
        assert cosigned_at(note, [witness.cosigner.verifier]) == {witness.cosigner.verifier: clock[0]}


def test_the_answer_is_the_cosignature_and_nothing_else(witness: Witness, log: Log) -> None:
    lines = witness.add_checkpoint(log.request(0, 5)).body.decode()
    assert lines == witness.cosigner.cosign(Note.parse(log.note(5)).text, NOW).decode()


def test_it_shows_the_newest_checkpoint_it_cosigned_with_both_signatures(witness: Witness, log: Log) -> None:
    assert witness.checkpoint(origin_hash(ORIGIN)) is None
    for old, size in ((0, 5), (5, 9)):
        witness.add_checkpoint(log.request(old, size))
    shown = witness.checkpoint(origin_hash(ORIGIN))
    assert shown is not None
    both = [log.signer.verifier, witness.cosigner.verifier]
    opened = open_note(shown, both)
    assert opened.signed_by == set(both)
    assert Checkpoint.parse(opened.text).size == 9
    assert witness.checkpoint(origin_hash("example.org/else")) is None


def test_signatures_by_keys_it_was_not_given_are_left_out(witness: Witness, log: Log) -> None:
    stranger = NoteSigner.generate(ORIGIN)  # the log's name, another key
    text = Note.parse(log.note(5)).text
    answer = witness.add_checkpoint(Submission.write(0, [], sign_note(text, stranger, log.signer)))
    assert answer.status == 200
    shown = witness.checkpoint(origin_hash(ORIGIN))
    assert shown is not None
    assert len(Note.parse(shown).signatures) == 2


def test_two_logs_are_watched_apart(tmp_path: Path, log: Log) -> None:
    other = Log("other", NoteSigner.generate("example.org/else"))
    given = {each.signer.name: [each.signer.verifier] for each in (log, other)}
    witness = Witness(tmp_path, init_witness(tmp_path, "w"), given, lambda: NOW)
    assert [witness.add_checkpoint(each.request(0, 5)).status for each in (log, other)] == [200, 200]
    assert witness.add_checkpoint(log.request(5, 6)).status == 200
    assert witness.add_checkpoint(other.request(5, 8)).status == 200


def test_a_clock_that_goes_back_never_dates_a_larger_tree_before_a_smaller_one(
    witness: Witness, log: Log, clock: list[int]
) -> None:
    witness.add_checkpoint(log.request(0, 5))
    clock[0] -= 3600
    witness.add_checkpoint(log.request(5, 6))
    held = witness.held(ORIGIN)
    assert held is not None
    assert (held.checkpoint.size, held.at) == (6, NOW)


# ---- what it refuses -------------------------------------------------------------------------------------------------


def test_an_unknown_origin_is_404(witness: Witness) -> None:
    assert witness.add_checkpoint(Log(signer=NoteSigner.generate("example.org/else")).request(0, 5)).status == 404


def test_a_checkpoint_that_none_of_the_logs_keys_signed_is_403(witness: Witness, log: Log) -> None:
    assert witness.add_checkpoint(Log(signer=NoteSigner.generate(ORIGIN)).request(0, 5)).status == 403
    text = Checkpoint(ORIGIN, 6, merkle.root(log.leaves(6))).text
    line = Note.parse(log.note(5)).signatures[0].to_bytes()  # under the right name and id, over another text
    assert witness.add_checkpoint(Submission.write(0, [], (text + "\n").encode() + line)).status == 403
    assert witness.held(ORIGIN) is None


def test_a_key_of_another_log_that_it_watches_does_not_speak_for_this_one(tmp_path: Path, log: Log) -> None:
    other = NoteSigner.generate("example.org/else")
    given = {ORIGIN: [log.signer.verifier], other.name: [other.verifier]}
    witness = Witness(tmp_path, init_witness(tmp_path, "w"), given, lambda: NOW)
    text = Note.parse(log.note(5)).text
    assert witness.add_checkpoint(Submission.write(0, [], sign_note(text, other))).status == 403


def test_an_old_size_beyond_the_checkpoint_is_400(witness: Witness, log: Log) -> None:
    witness.add_checkpoint(log.request(0, 9))
    assert witness.add_checkpoint(log.request(9, 5)).status == 400


@pytest.mark.parametrize("old", [0, 1, 4, 6, 7])
def test_another_old_size_than_the_one_it_holds_is_409_with_that_size(witness: Witness, log: Log, old: int) -> None:
    witness.add_checkpoint(log.request(0, 5))
    answer = witness.add_checkpoint(log.request(old, 7))
    assert answer == (409, "text/x.tlog.size", b"5\n")


def test_it_never_goes_back(witness: Witness, log: Log) -> None:
    witness.add_checkpoint(log.request(0, 9))
    for size in range(9):
        assert witness.add_checkpoint(log.request(0, size)) == (409, "text/x.tlog.size", b"9\n")
    held = witness.held(ORIGIN)
    assert held is not None
    assert held.checkpoint.size == 9


def test_another_root_for_a_size_it_cosigned_is_409_in_words(witness: Witness, log: Log) -> None:
    witness.add_checkpoint(log.request(0, 9))
    answer = witness.add_checkpoint(log.request(9, 9, fork_at=4))
    assert (answer.status, answer.media_type) == (409, "text/plain; charset=utf-8")


@pytest.mark.parametrize("size", [10, 16, 17, 300])
def test_a_fork_is_422_whatever_proof_comes_with_it(witness: Witness, log: Log, size: int) -> None:
    witness.add_checkpoint(log.request(0, 9))
    honest = merkle.consistency_proof(merkle.reader_over(log.leaves(size)), 9, size)
    assert witness.add_checkpoint(log.request(9, size, fork_at=4)).status == 422
    assert witness.add_checkpoint(Submission.write(9, honest, log.note(size, fork_at=4))).status == 422
    assert witness.add_checkpoint(Submission.write(9, [], log.note(size))).status == 422
    assert witness.add_checkpoint(log.request(9, size)).status == 200  # the refusals changed nothing


@pytest.mark.parametrize(("old", "size"), [(0, 9), (9, 9)])
def test_hashes_where_no_proof_is_needed_are_422(witness: Witness, log: Log, old: int, size: int) -> None:
    if old:
        witness.add_checkpoint(log.request(0, old))
    assert witness.add_checkpoint(Submission.write(old, [bytes(32)], log.note(size))).status == 422


def test_a_tree_of_size_0_has_one_root(witness: Witness, log: Log) -> None:
    note = sign_note(Checkpoint(ORIGIN, 0, bytes(32)).text, log.signer)
    assert witness.add_checkpoint(Submission.write(0, [], note)).status == 422


def _malformed() -> dict[str, Callable[[bytes], bytes]]:
    return {
        "empty": lambda _: b"",
        "no old line": lambda good: good.partition(b"\n")[2],
        "another word": lambda good: good.replace(b"old", b"Old", 1),
        "a leading zero": lambda good: good.replace(b"old 5", b"old 05", 1),
        "a negative size": lambda good: good.replace(b"old 5", b"old -5", 1),
        "two spaces": lambda good: good.replace(b"old 5", b"old  5", 1),
        "a size beyond 2^63": lambda good: good.replace(b"old 5", b"old 9223372036854775808", 1),
        "a carriage return": lambda good: good.replace(b"\n", b"\r\n", 1),
        "a short hash": lambda good: good.replace(b"old 5\n", b"old 5\nAAAA\n", 1),
        "base64 in another spelling": lambda good: good.replace(b"old 5\n", b"old 5\n" + b"A" * 42 + b"B=\n", 1),
        "no base64": lambda good: good.replace(b"old 5\n", b"old 5\n" + b"!" * 44 + b"\n", 1),
        "64 hashes": lambda good: good.replace(b"old 5\n", b"old 5\n" + (b"A" * 43 + b"=\n") * 64, 1),
        "no empty line": lambda good: good.replace(b"\n\n", b"\n", 1),
        "no signature": lambda good: good.rpartition(b"\n\n")[0] + b"\n\n",
        "no newline at the end": lambda good: good[:-1],
        "a size with a sign": lambda good: good.replace(b"\n7\n", b"\n+7\n", 1),
        "not UTF-8": lambda good: good.replace(b"example", b"ex\xffmple", 1),
        "trailing bytes": lambda good: good + b"x",
    }


@pytest.mark.parametrize("damage", _malformed())
def test_a_malformed_request_is_400_and_changes_nothing(witness: Witness, log: Log, damage: str) -> None:
    witness.add_checkpoint(log.request(0, 5))
    good = log.request(5, 7)
    bad = _malformed()[damage](good)
    assert bad != good
    assert witness.add_checkpoint(bad).status == 400
    assert witness.add_checkpoint(good).status == 200


def test_a_request_over_16_kib_is_413(witness: Witness, log: Log) -> None:
    assert witness.add_checkpoint(log.request(0, 5).ljust(MAX_REQUEST_BYTES + 1, b"x")).status == 413


# ---- what it keeps ---------------------------------------------------------------------------------------------------


def test_what_a_log_signed_and_it_refused_is_kept_as_evidence(witness: Witness, log: Log, tmp_path: Path) -> None:
    witness.add_checkpoint(log.request(0, 9))
    forked = log.request(9, 9, fork_at=4)
    witness.add_checkpoint(forked)
    (kept,) = (tmp_path / "conflicts").iterdir()
    assert kept.read_bytes().endswith(forked)
    assert log.note(9).rstrip(b"\n") in kept.read_bytes()
    for fork_at in range(9):
        for size in range(10, 14):
            witness.add_checkpoint(log.request(9, size, fork_at=fork_at))
    assert len(list((tmp_path / "conflicts").iterdir())) == KEPT_CONFLICTS


def test_another_process_goes_on_where_it_stood(witness: Witness, log: Log, tmp_path: Path) -> None:
    witness.add_checkpoint(log.request(0, 9))
    again = Witness(tmp_path, load_witness(tmp_path), {ORIGIN: [log.signer.verifier]}, lambda: NOW)
    assert again.add_checkpoint(log.request(0, 12)) == (409, "text/x.tlog.size", b"9\n")
    assert again.add_checkpoint(log.request(9, 9, fork_at=4)).status == 409
    assert again.add_checkpoint(log.request(9, 12)).status == 200


@pytest.mark.parametrize("damage", [b"", b"x", b"old"])
def test_a_damaged_state_is_not_taken_for_none(witness: Witness, log: Log, tmp_path: Path, damage: bytes) -> None:
    witness.add_checkpoint(log.request(0, 9))
    path = tmp_path / "state" / f"{origin_hash(ORIGIN)}.checkpoint"
    path.write_bytes(damage)
    with pytest.raises(Inconsistent) as refusal:
        witness.add_checkpoint(log.request(0, 9))
    assert refusal.value.code == "witness_state_damaged"
    path.write_bytes(log.note(3))  # signed by the log, but not by the witness
    with pytest.raises(Inconsistent):
        witness.add_checkpoint(log.request(3, 9))


def test_a_state_that_cannot_be_written_gives_no_cosignature(witness: Witness, log: Log, tmp_path: Path) -> None:
    witness.add_checkpoint(log.request(0, 5))
    path = tmp_path / "state" / f"{origin_hash(ORIGIN)}.new"
    path.mkdir()  # whoever runs this may be root, whom no permission stops
    with pytest.raises(IsADirectoryError):
        witness.add_checkpoint(log.request(5, 7))
    path.rmdir()
    assert witness.add_checkpoint(log.request(0, 7)).body == b"5\n"


def test_a_witness_without_its_state_does_not_start(witness: Witness, tmp_path: Path) -> None:
    (tmp_path / "state").rmdir()
    with pytest.raises(NotFound) as refusal:
        Witness(tmp_path, load_witness(tmp_path), {}, lambda: NOW)
    assert refusal.value.code == "witness_state_missing"


# ---- many at once, and a sudden end ----------------------------------------------------------------------------------


def test_of_many_requests_at_once_no_two_roots_and_no_step_back(witness: Witness, log: Log) -> None:
    """Two histories race for the same witness, each client doing what the 409 tells it; one of them wins for good."""
    cosigned: list[tuple[int, int | None]] = []
    barrier = threading.Barrier(8)

    def client(fork_at: int | None) -> None:
        barrier.wait()
        old = 0
        for _ in range(60):
            size = max(old + 1, 3)
            answer = witness.add_checkpoint(log.request(old, size, fork_at))
            if answer.status == 200:
                cosigned.append((size, fork_at))
                old = size
            elif answer.media_type == "text/x.tlog.size":
                old = int(answer.body)

    threads = [threading.Thread(target=client, args=(fork_at,)) for fork_at in (None, 1, None, 1, 2, None, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cosigned) > 20
    assert len({fork_at for _, fork_at in cosigned}) == 1
    held = witness.held(ORIGIN)
    assert held is not None
    assert held.checkpoint.size == max(size for size, _ in cosigned)


KILLED = """
import sys, os
from pathlib import Path
from ledger.witness.witness import Witness, load_witness
from ledger.log.notes import NoteSigner
from tests.unit.witness.test_witness import Log, ORIGIN, NOW
folder, skey, fork_at = Path(sys.argv[1]), sys.argv[2], (int(sys.argv[3]) if sys.argv[3] else None)
log = Log(signer=NoteSigner.parse(skey))
witness = Witness(folder, load_witness(folder), {ORIGIN: [log.signer.verifier]}, lambda: NOW)
print("ready", flush=True)
old = 0
while True:
    size = max(old, 2) + 1
    answer = witness.add_checkpoint(log.request(old, size, fork_at))
    if answer.status == 200:
        os.write(1, f"{size}\\n".encode())
        old = size
    elif answer.media_type == "text/x.tlog.size":
        old = int(answer.body)
"""


@pytest.mark.slow
def test_whatever_was_handed_out_before_a_kill_is_remembered_after_it(
    witness: Witness, log: Log, tmp_path: Path
) -> None:
    """Ten times kill -9 amid cosigning; in turn the honest history and a fork of it ask."""
    root = Path(__file__).resolve().parents[3]
    largest = 0
    for round_ in range(10):
        arguments = [str(tmp_path), log.signer.skey, "" if round_ % 2 == 0 else "1"]
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, cwd=root, env={**os.environ}
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            handed = []
            if round_ % 2 == 0:
                handed = [int(process.stdout.readline()) for _ in range(5 + round_)]
            else:
                threading.Event().wait(0.05)
            process.send_signal(signal.SIGKILL)
            handed += [int(line) for line in process.stdout.read().split(b"\n")[:-1]]
        if round_ % 2:
            assert handed == []
        assert handed == sorted(set(handed))
        assert not handed or handed[0] > largest
        largest = max([largest, *handed])
        held = witness.held(ORIGIN)
        assert held is not None
        assert held.checkpoint.size in (largest, largest + 1)  # one more may be durable and not yet handed out
        assert held.checkpoint.root == merkle.root(log.leaves(held.checkpoint.size))
        largest = held.checkpoint.size
    assert largest > 40


# ---- its key ---------------------------------------------------------------------------------------------------------


def test_the_key_is_the_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "witness"
    cosigner = init_witness(folder, "witness.example/w1")
    assert (folder / "witness.skey").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o077 == 0
    assert load_witness(folder).vkey == cosigner.vkey
    assert [path.name for path in folder.iterdir() if path.name.endswith(".new")] == []


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    init_witness(tmp_path, "w")
    (tmp_path / "witness.skey").chmod(0o640)
    with pytest.raises(NotAllowed) as refusal:
        load_witness(tmp_path)
    assert refusal.value.code == "witness_key_exposed"


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    vkey = init_witness(tmp_path, "w").vkey
    with pytest.raises(Conflict) as refusal:
        init_witness(tmp_path, "w")
    assert refusal.value.code == "witness_exists"
    assert load_witness(tmp_path).vkey == vkey


def test_no_witness_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as refusal:
        load_witness(tmp_path / "none")
    assert refusal.value.code == "witness_missing"


@pytest.mark.parametrize("name", ["", "two words", "a+b", "a\nb"])
def test_a_name_that_no_signature_line_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(NoteError):
        init_witness(tmp_path, name)
    assert not (tmp_path / "witness.skey").exists()


def test_a_logs_key_is_no_witness_key(tmp_path: Path) -> None:
    init_witness(tmp_path, "w")
    (tmp_path / "witness.skey").write_text(NoteSigner.generate("w").skey)
    with pytest.raises(NoteError):
        load_witness(tmp_path)
    assert Cosigner.generate("w").vkey.split("+")[0] == "w"


def test_a_witness_needs_no_database_and_nothing_heavy() -> None:
    unwanted = {"sqlalchemy", "psycopg", "torch", "faiss", "c2pa", "cv2"}
    program = f"import sys, ledger.web.witness, ledger.commands.witness; print(*sorted({unwanted} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
