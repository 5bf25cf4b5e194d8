"""docs/log.md and its files are what the code makes today, and two verifiers that share nothing with it agree."""

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from docs.examples.log import example, page
from ledger.log.cosignatures import Cosigner
from ledger.log.declarations import Signers, checked, issuer_of
from ledger.log.notes import NoteSigner
from ledger.log.receipts import verify_receipt
from ledger.log.statements import StatementKey, sign_statement
from ledger.log.verify import check_tlog_proof

FOLDER = example.FOLDER
PAGE = page.PAGE.read_text(encoding="utf-8")
KEYS = [example.LOG.vkey, *(witness.vkey for witness in example.WITNESSES)]
PROGRAMS = {"verify.py", "verify.mjs", "example.py", "page.py", "dump.py"}
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs OpenSSL's command")


def block(name: str) -> str:
    found = re.search(rf"^```\w+ example={name}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


@pytest.fixture(scope="module")
def verifier() -> ModuleType:
    specification = importlib.util.spec_from_file_location("independent_verifier", FOLDER / "verify.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name, data in example.files().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path


def run(*command: str, folder: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=60)


def damage(path: Path, at: float) -> None:
    """Change the lowest bit of one byte; `at` from 0, the first, to 1, the last."""
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1
    path.write_bytes(data)


# ---- no drift -------------------------------------------------------------------------------------------------------


def test_the_files_are_those_that_the_code_makes() -> None:
    there = {path.relative_to(FOLDER).as_posix(): path for path in FOLDER.rglob("*") if path.is_file()}
    there = {name: path for name, path in there.items() if "__pycache__" not in name and name not in PROGRAMS}
    assert {name: path.read_bytes() for name, path in there.items()} == dict(example.files())


def test_the_page_quotes_the_files_and_every_quote_is_used() -> None:
    assert page.filled(PAGE) == PAGE
    assert set(re.findall(r"^```\w+ example=([\w-]+)$", PAGE, re.MULTILINE)) == set(page.blocks())


@pytest.mark.parametrize(("name", "file"), [("statement", "entry-4.cose"), ("receipt", "entry-4.receipt")])
def test_the_written_out_bytes_are_the_files(name: str, file: str) -> None:
    written = "".join(line.split("#")[0] for line in block(name).splitlines())
    assert bytes.fromhex(written) == example.files()[file]


# ---- our own reading ------------------------------------------------------------------------------------------------


def test_the_ledgers_own_checks_accept_the_example() -> None:
    entry = example.files()["entry-4.cose"]
    proof = example.files()["entry-4.tlog-proof"]
    reading = check_tlog_proof(entry, proof, KEYS[:1], KEYS[1:], policy=example.POLICY)
    assert (reading.index, reading.size, reading.inclusion, reading.log_key) == (4, 300, True, "trusted")
    assert (reading.witnesses, reading.quorum) == (2, True)
    receipt = verify_receipt(example.files()["entry-4.receipt"], entry, example.RECEIPTS.public_key_der)
    assert (receipt.index, receipt.size) == (4, 300)


def test_the_declaration_on_the_page_is_taken_as_it_is_written() -> None:
    written = re.search(r'^(\{"commitment":.*lawful-ledger/declaration/1"\})$', PAGE, re.MULTILINE)
    assert written
    payload = json.loads(written[1].replace("<64 hexadecimal digits>", example.SALT.hex()))
    key = StatementKey(example.ed25519_key("submitter"))
    issuer = issuer_of(uuid.UUID(example.RECORD_ID))
    statement = sign_statement(payload, key, issuer=issuer, subject=payload["type"])
    assert checked(statement, Signers(issuer, {key.kid: key.public_key}, frozenset()), batch=False) == [statement]


# ---- others' --------------------------------------------------------------------------------------------------------


def test_the_python_verifier_uses_nothing_but_the_standard_library_and_two_signature_schemes() -> None:
    imported = set()
    for node in ast.walk(ast.parse((FOLDER / "verify.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add((node.module or "").split(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"cryptography"}


def test_the_node_verifier_uses_nothing_but_node() -> None:
    program = (FOLDER / "verify.mjs").read_text(encoding="utf-8")
    imported = set(re.findall(r"""from "([^"]+)";""", program))
    assert imported == {"node:crypto", "node:fs", "node:path", "node:url"}
    assert not re.search(r"\b(require|import)\(", program)


def test_the_command_on_the_page_verifies_the_example() -> None:
    command = re.sub(r"\s*\\\n\s*", " ", block("run")).replace("'", "").split()
    assert command[:3] == ["python", "verify.py", "."]
    done = run(sys.executable, "-I", *command[1:])
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [*"1234567789", "10"]


@needs_node
def test_both_verifiers_say_the_same() -> None:
    python, node = run(sys.executable, "-I", "verify.py", ".", *KEYS), run("node", "verify.mjs", ".", *KEYS)
    assert (node.returncode, node.stdout) == (0, python.stdout), node.stderr


@needs_openssl
def test_the_openssl_commands_on_the_page_verify_both_signatures(copy: Path) -> None:
    done = run("sh", "-e", "-c", block("openssl"), folder=copy)
    assert (done.returncode, done.stdout) == (0, "Signature Verified Successfully\n" * 2), done.stderr
    damage(copy / "checkpoint", 0.0)
    assert run("sh", "-e", "-c", block("openssl"), folder=copy).returncode != 0


# ---- what they must refuse ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(set(example.files()) - {"policy"}))
def test_a_changed_bit_in_any_file_is_found(file: str, copy: Path, verifier: ModuleType) -> None:
    for at in (0.0, 0.41, 1.0):
        (copy / file).write_bytes(example.files()[file])
        damage(copy / file, at)
        with pytest.raises((verifier.Wrong, ValueError, KeyError, TypeError, IndexError)):
            verifier.main(copy, *KEYS)


@needs_node
@pytest.mark.parametrize("file", sorted(name for name in example.files() if "/" not in name and name != "policy"))
def test_node_finds_a_changed_bit_too(file: str, copy: Path) -> None:
    damage(copy / file, 0.41)
    done = run("node", str(FOLDER / "verify.mjs"), ".", *KEYS, folder=copy)
    assert done.returncode == 1, done.stdout
    assert done.stdout.splitlines()[-1].startswith("WRONG: ")


Keys = Callable[[], list[str]]


@pytest.mark.parametrize(
    "keys",
    [
        lambda: [NoteSigner.generate(example.ORIGIN).vkey],
        lambda: [KEYS[0], Cosigner.generate("witness.example.net").vkey],
        lambda: [KEYS[1]],
        lambda: [KEYS[0], KEYS[0]],
    ],
    ids=["another log key", "a witness that has not signed", "no log key", "a log key as a witness"],
)
def test_the_verifiers_believe_only_the_keys_they_were_given(keys: Keys, verifier: ModuleType) -> None:
    with pytest.raises(verifier.Wrong):
        verifier.main(FOLDER, *keys())
    if shutil.which("node"):
        assert run("node", "verify.mjs", ".", *keys()).returncode == 1
