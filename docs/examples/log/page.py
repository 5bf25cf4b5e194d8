"""Write the example's files, and what docs/log.md quotes from them: `python -m docs.examples.log.page`.

The page is written by hand except for its fenced blocks that are marked `example=NAME`: those are filled in here, from
the files, so that what the page says and what the files hold cannot part. A test compares both with a fresh run.
"""

import base64
import datetime as dt
import hashlib
import json
import re

import cbor2

from docs.examples.log import example
from docs.examples.log.dump import Place, dump
from ledger.log import merkle
from ledger.log.notes import Note, TlogProof
from ledger.log.statements import parse_statement

PAGE = example.FOLDER.parents[1] / "log.md"
_FENCE = re.compile(r"^```(\w+) example=([\w-]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

_STATEMENT: dict[Place, str] = {
    (): "COSE_Sign1",
    ("tag", 0): "the protected header, itself CBOR",
    ("tag", 0, "in", 1, "key"): "algorithm",
    ("tag", 0, "in", 1): "EdDSA",
    ("tag", 0, "in", 3, "key"): "content type",
    ("tag", 0, "in", 4, "key"): "key id",
    ("tag", 0, "in", 4): "SHA-256 of the public key",
    ("tag", 0, "in", 15, "key"): "CWT claims",
    ("tag", 0, "in", 15, 1, "key"): "issuer",
    ("tag", 0, "in", 15, 2, "key"): "subject",
    ("tag", 1): "the unprotected header, empty",
    ("tag", 2): "the payload",
    ("tag", 3): "the signature",
}
_RECEIPT: dict[Place, str] = {
    (): "COSE_Sign1",
    ("tag", 0): "the protected header, itself CBOR",
    ("tag", 0, "in", 1, "key"): "algorithm",
    ("tag", 0, "in", 1): "ES256",
    ("tag", 0, "in", 4, "key"): "key id",
    ("tag", 0, "in", 4): "SHA-256 of the public key",
    ("tag", 0, "in", 15, "key"): "CWT claims",
    ("tag", 0, "in", 15, 1, "key"): "issuer",
    ("tag", 0, "in", 15, 2, "key"): "subject",
    ("tag", 0, "in", 395, "key"): "verifiable data structure",
    ("tag", 0, "in", 395): "RFC9162_SHA256",
    ("tag", 1): "the unprotected header",
    ("tag", 1, 396, "key"): "proofs",
    ("tag", 1, 396, -1, "key"): "inclusion proofs",
    ("tag", 1, 396, -1, 0): "the one proof, itself CBOR",
    ("tag", 1, 396, -1, 0, "in", 0): "tree size",
    ("tag", 1, 396, -1, 0, "in", 1): "leaf index",
    ("tag", 1, 396, -1, 0, "in", 2): "the path",
    ("tag", 2): "the payload, detached: it is the root",
    ("tag", 3): "the signature, r and s",
}
_SIGNED: dict[Place, str] = {(): "Sig_structure", (1,): "the protected header", (2,): "no external data"}


def blocks() -> dict[str, str]:
    """What each marked block of the page holds, by its name."""
    return {**_keys(), **_statement(), **_tree(), **_checkpoint(), **_proof(), **_announcements(), **_receipt()}


def filled(page: str) -> str:
    """The page with every marked block filled in. Raises KeyError for a block that nothing here writes."""
    made = blocks()
    return _FENCE.sub(lambda found: f"```{found[1]} example={found[2]}\n{made[found[2]]}```", page)


def _keys() -> dict[str, str]:
    names = {"log": example.LOG.vkey, "witness 1": example.WITNESSES[0].vkey, "witness 2": example.WITNESSES[1].vkey}
    verifier = example.LOG.verifier
    typed = b"\x01" + verifier.public_key
    message = verifier.name.encode() + b"\n" + typed
    return {
        "keys": "".join(f"{name:<10} {vkey}\n" for name, vkey in names.items()),
        "key-id": (
            f"name                {verifier.name}\n"
            f"base64              {base64.b64encode(typed).decode()}\n"
            f"  first byte        {typed[:1].hex()}    a log's key\n"
            f"  public key        {verifier.public_key.hex()}\n"
            f"name ‖ 0a ‖ 01 ‖ public key\n{_rows(message)}"
            f"SHA-256             {hashlib.sha256(message).hexdigest()}\n"
            f"key id              {verifier.key_id.hex()}\n"
        ),
    }


def _statement() -> dict[str, str]:
    raw = example.entries()[example.INDEX]
    protected, _, payload, _ = cbor2.loads(raw).value
    opening = json.loads(example.files()[f"entry-{example.INDEX}.opening.json"])
    committed = opening["domain"].encode() + b"\0" + bytes.fromhex(opening["salt"] + opening["digest"])
    return {
        "statement": dump(raw, _STATEMENT, {("tag", 0)}),
        "payload-read": json.dumps(json.loads(payload), indent=2) + "\n",
        "statement-signed": dump(cbor2.dumps(["Signature1", protected, b"", payload]), _SIGNED, {(1,)}),
        "leaf": f"SHA-256(00 ‖ {len(raw)} bytes of the entry) = {example.leaves()[example.INDEX].hex()}\n",
        "commitment": (
            f"domain    {opening['domain']}\nsalt      {opening['salt']}\ndigest    {opening['digest']}\n"
            f"domain ‖ 00 ‖ salt ‖ digest\n{_rows(committed)}"
            f"SHA-256   {hashlib.sha256(committed).hexdigest()}\n"
        ),
    }


def _tree() -> dict[str, str]:
    files = {name: data for name, data in sorted(example.files().items()) if name.startswith("tile/")}
    small = files[f"tile/0/000.p/{example.OLD_SIZE}"]
    bundle = files[f"tile/entries/000.p/{example.OLD_SIZE}"]
    starts = [0]
    for entry in example.entries()[: example.OLD_SIZE]:
        starts.append(starts[-1] + 2 + len(entry))
    return {
        "tiles": "".join(
            f"{name:<24}{len(data):>7} bytes  SHA-256 {hashlib.sha256(data).hexdigest()}\n"
            for name, data in files.items()
        ),
        "tile-small": "".join(f"entry {i}   {small[32 * i : 32 * i + 32].hex()}\n" for i in range(example.OLD_SIZE)),
        "bundle-small": "".join(
            f"at {start:>4}   {bundle[start : start + 2].hex()}   entry {i}, {len(example.entries()[i])} bytes\n"
            for i, start in enumerate(starts[:-1])
        ),
        "tile-above": f"{files['tile/1/000.p/1'].hex()}\n",
        "root": (
            f"entries 0 to 255    {merkle.root(example.leaves()[:256]).hex()}\n"
            f"entries 256 to 299  {merkle.root(example.leaves()[256:]).hex()}\n"
            f"root                {merkle.root(example.leaves()).hex()}\n"
        ),
    }


def _checkpoint() -> dict[str, str]:
    note = example.files()["checkpoint"]
    parsed = Note.parse(note)
    log, witness = parsed.signatures[:2]
    at = int.from_bytes(witness.signature[:8], "big")
    log_pem, witness_pem = (_shell_pem(name) for name in ("LOG_KEY", "WITNESS_KEY"))
    return {
        "checkpoint": note.decode(),
        "checkpoint-old": example.files()[f"checkpoint.{example.OLD_SIZE}"].decode(),
        "checkpoint-text": _rows(parsed.text.encode()),
        "checkpoint-line": f"{log.key_id.hex()}    key id\n{_rows(log.signature)[:-1]}    signature\n",
        "cosignature-line": (
            f"{witness.key_id.hex()}            key id\n"
            f"{witness.signature[:8].hex()}    time {at}: {dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%dT%H:%M:%SZ}\n"
            f"{_rows(witness.signature[8:])[:-1]}    signature\n"
        ),
        "cosignature-text": f"cosignature/v1\ntime {at}\n{parsed.text}",
        "policy": example.POLICY.text,
        "openssl": (
            f"LOG_KEY='{example.LOG.vkey}'\nWITNESS_KEY='{example.WITNESSES[0].vkey}'\n\n"
            "sed '/^$/,$d' checkpoint > text\n"
            f"{log_pem} > log.pem\n"
            f"sed -n 's|^— {log.name} ||p' checkpoint | base64 -d | tail -c 64 > signature\n"
            "openssl pkeyutl -verify -pubin -inkey log.pem -rawin -in text -sigfile signature\n\n"
            f"{{ printf 'cosignature/v1\\ntime {at}\\n'; cat text; }} > cosigned\n"
            f"{witness_pem} > witness.pem\n"
            f"sed -n 's|^— {witness.name} ||p' checkpoint | base64 -d | tail -c 64 > signature\n"
            "openssl pkeyutl -verify -pubin -inkey witness.pem -rawin -in cosigned -sigfile signature\n"
        ),
        "run": (
            f"python verify.py . '{example.LOG.vkey}' \\\n"
            + " \\\n".join(f"  '{witness.vkey}'" for witness in example.WITNESSES)
            + "\n"
        ),
    }


def _shell_pem(variable: str) -> str:
    """A vkey's last part, less its first byte, behind the twelve bytes that begin an Ed25519 key in DER (RFC 8410)."""
    raw = f'$(printf %s "${{{variable}#*+*+}}" | base64 -d | tail -c 32 | base64)'
    return f'printf -- "-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEA{raw}\\n-----END PUBLIC KEY-----\\n"'


def _proof() -> dict[str, str]:
    proof = example.files()[f"entry-{example.INDEX}.tlog-proof"]
    value = example.leaves()[example.INDEX]
    steps = [f"    {'entry 4':<20}{value.hex()}\n"]
    start, end = example.INDEX, example.INDEX + 1
    for number, sibling in enumerate(TlogProof.parse(proof).hashes, 1):
        width = end - start
        if start % (2 * width):
            side, other, start = "left", (start - width, start), start - width
            value = merkle.node_hash(sibling, value)
        else:
            side, other, end = "right", (end, min(end + width, example.SIZE)), min(end + width, example.SIZE)
            value = merkle.node_hash(value, sibling)
        steps.append(
            f"{number:>2}  + {_span(other):<12}{side:<6}{sibling.hex()}\n    = {_span((start, end)):<18}{value.hex()}\n"
        )
    assert value == merkle.root(example.leaves())
    return {"proof": proof.decode(), "proof-steps": "".join(steps), "consistency-steps": _consistency()}


def _consistency() -> str:
    """The check of RFC 9162 section 2.1.4.2, hash by hash."""
    lines = example.files()[f"consistency-{example.OLD_SIZE}-{example.SIZE}"].split()
    path = [base64.b64decode(line) for line in lines]
    spans = _consistency_spans(example.OLD_SIZE, 0, example.SIZE, whole=True)
    (first, *spans), (old, *path) = spans, path
    new = old
    start, end = first
    steps = [f" 1  old = new = hash of {_span(first)}\n      {old.hex()}\n"]
    for number, (span, value) in enumerate(zip(spans, path, strict=True), 2):
        if span[1] == start:
            old, new, start = merkle.node_hash(value, old), merkle.node_hash(value, new), span[0]
            said = "old = H(01 ‖ this ‖ old), new = H(01 ‖ this ‖ new)"
            result = f"      old {old.hex()}\n      new {new.hex()}\n"
        else:
            new, end = merkle.node_hash(new, value), span[1]
            said = "new = H(01 ‖ new ‖ this)"
            result = f"      new {new.hex()}\n"
        steps.append(f"{number:>2}  {_span(span)}: {said}\n      {value.hex()}\n{result}")
    assert (start, end, old) == (0, example.SIZE, merkle.root(example.leaves()[: example.OLD_SIZE]))
    assert new == merkle.root(example.leaves())
    return "".join(steps)


def _consistency_spans(old: int, start: int, end: int, *, whole: bool) -> list[tuple[int, int]]:
    """Which leaves each hash of SUBPROOF(old, D[start:end], whole) of RFC 6962 section 2.1.2 stands over."""
    if old == end:
        return [] if whole else [(start, end)]
    middle = start + (1 << ((end - start - 1).bit_length() - 1))
    if old <= middle:
        return [*_consistency_spans(old, start, middle, whole=whole), (middle, end)]
    return [*_consistency_spans(old, middle, end, whole=False), (start, middle)]


def _announcements() -> dict[str, str]:
    entries = example.entries()
    return {f"entry-{index}": json.dumps(parse_statement(entries[index]).payload, indent=2) + "\n" for index in (0, 3)}


def _receipt() -> dict[str, str]:
    raw = example.files()[f"entry-{example.INDEX}.receipt"]
    protected = cbor2.loads(raw).value[0]
    signed = cbor2.dumps(["Signature1", protected, b"", merkle.root(example.leaves())])
    return {
        "receipt": dump(raw, _RECEIPT, {("tag", 0), ("tag", 1, 396, -1, 0)}),
        "receipt-signed": dump(signed, {**_SIGNED, (3,): "the root"}),
    }


def _span(leaves: tuple[int, int]) -> str:
    first, end = leaves
    return f"entry {first}" if end == first + 1 else f"{first} to {end - 1}"


def _rows(data: bytes) -> str:
    return "".join(f"{data[i : i + 32].hex()}\n" for i in range(0, len(data), 32))


def main() -> None:
    for name, data in example.files().items():
        path = example.FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
