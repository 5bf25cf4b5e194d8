"""`lawful verify --offline`: what a file proves to somebody who has the package, the file and a key. And nothing else:
no ledger, no database, no home folder, no network.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ledger import genesis, issue, lookup, verify
from ledger.credentials.read import read_credential
from ledger.keys.ring import init_keys
from ledger.log.cosignatures import Cosigner, add_signatures
from ledger.log.notes import NoteSigner, NoteVerifier, TlogProof
from ledger.log.policy import load_policy
from ledger.runtime import Runtime, open_runtime, sequencing
from ledger.settings import Settings
from ledger.tampering import change_one_pixel, strip

from .test_issue import accept, produced
from .test_verify import assertion, forge, issue_one
from .witness_at_work import a_witness, policy

pytestmark = pytest.mark.postgres

# Python's own sockets are refused by an audit hook; what other libraries open, by the kernel (below).
WITHOUT_SOCKETS = """
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise SystemExit(f"asked for the network: {event} {arguments}")
sys.addaudithook(refuse)
from ledger.cli import main
main()
"""


def network_namespace() -> list[str]:
    """`unshare -rn`: a network namespace without even a loopback device, where this kernel lets us have one."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], capture_output=True, check=False).returncode:
        return []
    return [unshare, "-rn"]


@dataclass
class Journalist:
    """A machine with the package and one file on it."""

    folder: Path
    file: Path

    def verify(self, *options: str, code: int = 0) -> dict[str, Any]:
        command = [*network_namespace(), sys.executable, "-P", "-c", WITHOUT_SOCKETS, "verify", "--offline"]
        environment = {"PATH": os.defpath, "HOME": str(self.folder / "nowhere"), "PYTHONPATH": str(Path.cwd())}
        done = subprocess.run(
            [*command, str(self.file), "--json", *options],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert list(self.folder.iterdir()) == [self.file], "it left something behind"
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def codes(answer: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Check's name → (result, code), of the checks that the file and the given keys decide."""
    return {check["name"]: (check["result"], check["code"]) for check in answer["checks"][6:12]}


@pytest.fixture
def journalist(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Journalist:
    folder = tmp_path_factory.mktemp("journalist")
    file = folder / "picture.png"
    file.write_bytes(issue_one(runtime)[1])
    return Journalist(folder, file)


def test_with_no_key_the_file_proves_nothing_of_the_log_and_says_so(journalist: Journalist) -> None:
    answer = journalist.verify()
    assert answer["answers"]["ledger"] == "not_checked"
    assert answer["answers"]["content"] == "intact"
    assert [code for _, code in codes(answer).values()] == [
        "log_key_not_given", "not_checked", "not_checked", "pixels_match", "report_matches", "not_checked",
    ]  # fmt: skip
    assert "no log key was given, so nothing shows that its proof is truly one" in answer["verdict"]


def test_with_the_logs_key_alone_the_whole_chain_is_proven_but_not_that_others_saw_it(
    runtime: Runtime, journalist: Journalist
) -> None:
    answer = journalist.verify("--log-key", runtime.keys.log.vkey)
    assert answer["answers"]["ledger"] == "recorded"
    assert codes(answer) == {
        "The log's inclusion proof in the credential holds under a log key this checker was given":
            ("pass", "inclusion_proven"),
        "Witnesses this checker was given have signed for the same log": ("info", "witness_key_not_given"),
        "The logged statement is signed with a key that the log announced": ("pass", "statement_key_announced"),
        "The logged statement is about these very pixels": ("pass", "pixels_match"),
        "The logged statement is about the report that the credential names": ("pass", "report_matches"),
        "The credential is signed with a certificate that the log announced": ("pass", "certificate_announced"),
    }  # fmt: skip
    assert (
        "proved by the log key given; no witness key was given, so its operator could show others"
        in (answer["verdict"])
    )
    assert "whether it is the one that was issued was not asked" in answer["verdict"]
    assert [check["code"] for check in answer["checks"][12:15]] == ["not_checked"] * 3


def test_another_logs_key_proves_nothing(journalist: Journalist) -> None:
    answer = journalist.verify("--log-key", NoteSigner.generate("elsewhere.example/ledger/2026").vkey)
    assert answer["answers"]["ledger"] == "not_checked"
    assert answer["checks"][6]["code"] == "log_key_unknown"
    assert "no key given here is that log's" in answer["verdict"]


@pytest.mark.slow
def test_a_key_that_is_none_is_refused_before_the_file_is_judged(runtime: Runtime, journalist: Journalist) -> None:
    witness = Cosigner.generate("w.example")
    for options in (
        ("--log-key", "nonsense"),
        ("--log-key", witness.vkey),
        ("--witness-key", runtime.keys.log.vkey),
    ):
        assert journalist.verify(*options, code=3)["error"]["code"] == "vkey_malformed"


def test_a_changed_picture_contradicts_the_entry_it_carries(runtime: Runtime, journalist: Journalist) -> None:
    journalist.file.write_bytes(change_one_pixel(journalist.file.read_bytes()))
    answer = journalist.verify("--log-key", runtime.keys.log.vkey, code=1)
    assert (answer["answers"]["ledger"], answer["answers"]["content"]) == ("contradicts", "altered")


def test_a_strangers_credential_around_our_statement_is_told_by_its_certificate(
    runtime: Runtime, journalist: Journalist, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Everything in it is ours and proven, but who signed around it. Only the announced certificate tells."""
    data = journalist.file.read_bytes()
    stranger = init_keys(tmp_path_factory.mktemp("stranger") / "keys", "elsewhere/l/2026", now=runtime.clock())
    said, _ = assertion(runtime, data)
    journalist.file.write_bytes(forge(runtime, strip(data), said, stranger))
    answer = journalist.verify("--log-key", runtime.keys.log.vkey, code=1)
    assert answer["answers"]["ledger"] == "contradicts"
    assert codes(answer)["The credential is signed with a certificate that the log announced"] == (
        "fail", "certificate_not_announced",
    )  # fmt: skip


def cosigned(runtime: Runtime, data: bytes, *witnesses: Cosigner) -> bytes:
    """The file as it would be, had these witnesses signed the checkpoint it carries."""
    said, _ = assertion(runtime, data)

    def with_lines(text: object) -> str:
        proof = TlogProof.parse(str(text).encode())
        note = proof.checkpoint
        body = note.decode().partition("\n\n")[0] + "\n"
        for witness in witnesses:
            note = add_signatures(note, witness.cosign(body, int(time.time())))
        return TlogProof(proof.index, proof.hashes, note).to_bytes().decode()

    announced = said["keys"]
    assert isinstance(announced, list)
    keys = [{**each, "tlog_proof": with_lines(each["tlog_proof"])} for each in announced]
    return forge(runtime, strip(data), said, tlog_proof=with_lines(said["tlog_proof"]), keys=keys)


@pytest.mark.parametrize(
    ("signed", "code", "words"),
    [
        (0, "not_witnessed", "none of the 3 witnesses given signed for it, so its operator could show others"),
        (1, "witnessed_below_quorum", "1 of the 3 witnesses given signed for it, fewer than the policy asks for"),
        (2, "witnessed", "and 2 of the 3 witnesses given signed for the same log"),
    ],
)
def test_witnesses_are_counted_against_the_checkers_policy(
    runtime: Runtime,
    journalist: Journalist,
    tmp_path_factory: pytest.TempPathFactory,
    signed: int,
    code: str,
    words: str,
) -> None:
    them = [Cosigner.generate(f"w{number}.example") for number in range(3)]
    journalist.file.write_bytes(cosigned(runtime, journalist.file.read_bytes(), *them[:signed]))
    file = policy(tmp_path_factory.mktemp("policy") / "policy.txt", [(each.vkey, None) for each in them], "2")
    answer = journalist.verify("--log-key", runtime.keys.log.vkey, "--policy", str(file))
    assert answer["answers"]["ledger"] == "recorded"
    assert answer["checks"][7]["code"] == code
    assert answer["checks"][7]["result"] == ("pass" if code == "witnessed" else "info")
    assert words in answer["verdict"]


@pytest.mark.slow
def test_a_policy_names_the_log_too_and_witness_keys_alone_are_counted(
    runtime: Runtime, journalist: Journalist, tmp_path_factory: pytest.TempPathFactory
) -> None:
    witness, absent = Cosigner.generate("w.example"), Cosigner.generate("x.example")
    journalist.file.write_bytes(cosigned(runtime, journalist.file.read_bytes(), witness))
    file = tmp_path_factory.mktemp("policy") / "policy.txt"
    file.write_text(f"log {runtime.keys.log.vkey}\nwitness w {witness.vkey}\nquorum w\n")
    assert journalist.verify("--policy", str(file))["checks"][7]["code"] == "witnessed"
    answer = journalist.verify(
        "--log-key", runtime.keys.log.vkey, "--witness-key", witness.vkey, "--witness-key", absent.vkey
    )
    assert "1 of the 2 witnesses given signed for the same log" in answer["verdict"]
    answer = journalist.verify("--witness-key", witness.vkey)
    assert (
        answer["answers"]["ledger"] == "not_checked"
    )  # a witness vouches for a log's history, not for whose log it is


# ---- issue_wait = witnessed ------------------------------------------------------------------------------------------


@pytest.fixture
def witnessed(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Runtime, Settings]]:
    """A ledger that seals no file before its one witness, a real one, has signed."""
    founded = genesis.found(settings)
    folder = tmp_path_factory.mktemp("witness")
    with a_witness(folder / "state", NoteVerifier.parse(founded.log_vkey)) as witness:
        file = policy(folder / "policy.txt", [(witness.vkey, witness.url)])
        told = settings.model_copy(
            update={"issue_wait": "witnessed", "witness_policy": file, "witness_interval": 0.1, "issue_timeout": 60.0}
        )
        with open_runtime(told) as runtime, sequencing(runtime):
            yield runtime, told


def test_a_ledger_that_waits_for_its_witnesses_puts_their_signatures_into_the_file(
    witnessed: tuple[Runtime, Settings],
) -> None:
    runtime, settings = witnessed
    record_id = accept(runtime)
    issue.sign(runtime, record_id, produced())
    issue.finish(runtime, record_id)
    with runtime.sessions() as session:
        data = runtime.storage.get(lookup.file_key(session, record_id)[0])
    reading = read_credential(data, "image/png", anchors_pem="", now=runtime.clock())
    assert reading.ledger is not None
    assert "\n— w.example " in reading.ledger["tlog_proof"]
    assert settings.witness_policy is not None
    found = verify.verify(
        data,
        session=None,
        anchors_pem="",
        log_vkeys=[runtime.keys.log.vkey],
        policy=load_policy(settings.witness_policy),
        examine=None,
        now=runtime.clock(),
    )
    assert found.answers.ledger == "recorded"
    assert (found.checks[7].result, found.checks[7].code) == ("pass", "witnessed")
