"""Check the example of docs/log.md with none of the ledger's code: `verify.py FOLDER LOG_KEY [WITNESS_KEY …]`.

A second opinion, written from the specifications that the page names. Besides the standard library it uses one package,
`cryptography`, for the two signature schemes themselves. The numbers of its lines are those of the page's sections.
Keys are arguments: a folder that brought its own keys would prove nothing. Exit status 0: all of it holds; 1: not.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

INDEX = 4  # the entry that the page follows
OLD_SIZE = 7


class Wrong(Exception):
    """Something that does not hold."""


def need(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Wrong(otherwise)


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def base64_of(text: str) -> bytes:
    value = base64.b64decode(text, validate=True)
    need(base64.b64encode(value).decode() == text, "base64 in a second spelling")
    return value


# ---- CBOR, as much of RFC 8949 as the files need ---------------------------------------------------------------------


def cbor(data: bytes) -> Any:
    value, rest = item(data)
    need(not rest, "bytes after the end of the CBOR")
    return value


def item(data: bytes) -> tuple[Any, bytes]:
    need(bool(data), "CBOR that breaks off")
    major, small, data = data[0] >> 5, data[0] & 31, data[1:]
    if major == 7:
        need(small == 22, "a simple value that is not null")
        return None, data
    number = small
    if small >= 24:
        width = {24: 1, 25: 2, 26: 4, 27: 8}.get(small, 0)
        need(width > 0 and len(data) >= width, "CBOR of indefinite length, or that breaks off")
        number, data = int.from_bytes(data[:width], "big"), data[width:]
        need(number >= (24 if width == 1 else 1 << 4 * width), "a number that is not in its shortest form")
    if major == 0:
        return number, data
    if major == 1:
        return -1 - number, data
    if major in (2, 3):
        need(len(data) >= number, "CBOR that breaks off")
        return data[:number] if major == 2 else data[:number].decode(), data[number:]
    if major == 6:
        value, data = item(data)
        return (number, value), data
    values = []
    for _ in range(number * (major - 3)):  # an array has one item for each, a map two
        value, data = item(data)
        values.append(value)
    if major == 4:
        return values, data
    need(len(set(values[::2])) == number, "a map with a key twice")
    return dict(zip(values[::2], values[1::2], strict=True)), data


def bytes_in_cbor(value: bytes) -> bytes:
    """The one thing that must be written: a byte string of up to 65,535 bytes, as it stands in Sig_structure."""
    size = len(value)
    return (
        bytes([0x40 + size]) if size < 24 else b"\x58%c" % size if size < 256 else b"\x59" + size.to_bytes(2)
    ) + value


def cose_signed(protected: bytes, payload: bytes) -> bytes:
    """Sig_structure of RFC 9052 section 4.4."""
    return b"\x84\x6aSignature1" + bytes_in_cbor(protected) + b"\x40" + bytes_in_cbor(payload)


# ---- the Merkle tree, straight from the recursive definitions of RFC 6962 section 2.1 --------------------------------


def split(size: int) -> int:
    return 1 << (size - 1).bit_length() - 1


def leaf(entry: bytes) -> bytes:
    return sha256(b"\0", entry)


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1", left, right)


def tree_hash(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256()
    k = split(len(leaves))
    return node(tree_hash(leaves[:k]), tree_hash(leaves[k:]))


def root_of_path(value: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    if size == 1:
        need(not path, "a path that is too long")
        return value
    need(bool(path), "a path that is too short")
    k = split(size)
    if index < k:
        return node(root_of_path(value, index, k, path[:-1]), path[-1])
    return node(path[-1], root_of_path(value, index - k, size - k, path[:-1]))


def roots_of_path(old: int, new: int, old_root: bytes, path: list[bytes], *, known: bool = True) -> tuple[bytes, bytes]:
    """(old root, new root) that a consistency path leads to; `known`: these `old` leaves are the whole old tree."""
    if old == new:
        need(len(path) == (0 if known else 1), "a consistency path of another length")
        return (old_root, old_root) if known else (path[0], path[0])
    need(bool(path), "a consistency path that is too short")
    k = split(new)
    if old <= k:
        was, now = roots_of_path(old, k, old_root, path[:-1], known=known)
        return was, node(now, path[-1])
    was, now = roots_of_path(old - k, new - k, old_root, path[:-1], known=False)
    return node(path[-1], was), node(path[-1], now)


# ---- keys and signed notes ------------------------------------------------------------------------------------------


class Key(NamedTuple):
    name: str
    id: bytes
    type: int
    public: bytes


def verifier_key(text: str) -> Key:
    name, key_id, encoded = text.split("+", 2)  # the key's own base64 may hold further plus signs
    typed = base64_of(encoded)
    need(sha256(name.encode(), b"\n", typed)[:4].hex() == key_id, "a key id that is not the key's")
    return Key(name, bytes.fromhex(key_id), typed[0], typed[1:])


def ed25519_holds(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def open_checkpoint(note: bytes, log: Key, witnesses: list[Key]) -> tuple[int, bytes, dict[str, int]]:
    """Size, root, and when each witness signed: names → seconds since 1970."""
    text, _, lines = note.decode().rpartition("\n\n")
    text += "\n"
    signed, times = False, {}
    need(lines.endswith("\n"), "a last line without its newline")
    for line in lines[:-1].split("\n"):
        dash, name, encoded = line.split(" ")
        need(dash == "—", "a signature line without its dash")
        blob = base64_of(encoded)
        for key in (log, *witnesses):
            if (name, blob[:4]) != (key.name, key.id):
                continue
            message, signature = text.encode(), blob[4:]
            if key.type == 4:
                times[name] = int.from_bytes(blob[4:12], "big")
                message, signature = b"cosignature/v1\ntime %d\n" % times[name] + message, blob[12:]
            need(ed25519_holds(key.public, signature, message), f"a false signature by {name}")
            signed = signed or key is log
    need(signed, "no signature by the log key")
    origin, size, root, end = text.split("\n")
    need((origin, end) == (log.name, ""), "a checkpoint of another log")
    return int(size), base64_of(root), times


# ---- statements and receipts ----------------------------------------------------------------------------------------


def statement_of(entry: bytes) -> tuple[dict[str, Any], bytes, bytes, bytes]:
    """The payload, the id of the key that should have signed, what was signed, and the signature."""
    tag, (protected, unprotected, payload, signature) = cbor(entry)
    need(tag == 18 and unprotected == {}, "not a COSE_Sign1 with an empty unprotected header")
    header = cbor(protected)
    need(header[1] == -8, "another algorithm than EdDSA")
    return json.loads(payload), header[4], cose_signed(protected, payload), signature


class Keys:
    """Which keys the log's own entries announce and retire, learnt entry by entry."""

    def __init__(self, log: Key) -> None:
        self.log = log
        self.known: dict[bytes, tuple[str, bytes]] = {}  # id → use, public key
        self.retired: set[bytes] = set()
        self.compromised: set[bytes] = set()

    def learn(self, index: int, entry: bytes) -> None:
        payload, kid, signed, signature = statement_of(entry)
        announces = payload["type"] in ("lawful-ledger/genesis/1", "lawful-ledger/keys/1")
        if index == 0:  # the first entry vouches for itself: what makes it the log's is the log key's signature
            need(verifier_key(payload["log_vkey"]) == self.log, "a first entry that names another log key")
            self.announce(payload)
        use, public = self.known.get(kid, ("", b""))
        need(use == "statements", f"entry {index} is signed by an unannounced key")
        need(kid not in self.compromised, f"entry {index} is signed by a compromised key")
        need(not (announces and kid in self.retired), f"entry {index} announces keys by a retired key")
        need(ed25519_holds(public, signature, signed), f"entry {index} has a false signature")
        if announces and index:
            self.announce(payload)

    def announce(self, payload: dict[str, Any]) -> None:
        for key in payload["keys"]:
            public = bytes.fromhex(key["public_key"])
            need(sha256(public).hex() == key["kid"], "a key id that is not the key's")
            self.known[sha256(public)] = (key["use"], public)
        for key in payload["retired"]:
            self.retired.add(bytes.fromhex(key["kid"]))
            if key["compromised"]:
                self.compromised.add(bytes.fromhex(key["kid"]))


def check_receipt(receipt: bytes, entry: bytes, keys: Keys) -> tuple[int, int]:
    """RFC 9942: the signature is over the root, which the path in the unprotected header leads to. (index, size)."""
    tag, (protected, unprotected, payload, signature) = cbor(receipt)
    need(tag == 18 and payload is None, "not a COSE_Sign1 with a detached payload")
    header = cbor(protected)
    need(header[1] == -7 and header[395] == 1, "not ES256 over a tree of RFC 9162")
    (proof,) = unprotected[396][-1]
    size, index, path = cbor(proof)
    need(index < size, "an index beyond the tree")
    root = root_of_path(leaf(entry), index, size, path)
    use, der = keys.known.get(header[4], ("", b""))
    need(use == "receipts", "a receipt by an unannounced key")
    key = serialization.load_der_public_key(der)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(utils.encode_dss_signature(r, s), cose_signed(protected, root), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise Wrong("a false signature on the receipt") from error
    return index, size


def check_proof(proof: bytes, entry: bytes, log: Key, witnesses: list[Key]) -> int:
    """The index at which the file proves the entry to be, under a checkpoint signed by the log key."""
    head, _, note = proof.partition(b"\n\n")
    title, index, *path = head.decode().split("\n")
    need(title == "c2sp.org/tlog-proof@v1" and index.startswith("index "), "not a proof file")
    place = int(index.removeprefix("index "))
    size, root, times = open_checkpoint(note, log, witnesses)
    need(len(times) == len(witnesses), "a witness given has not signed")
    need(place < size, "an index beyond the tree")
    led_to = root_of_path(leaf(entry), place, size, [base64_of(line) for line in path])
    need(led_to == root, "the path leads to another root")
    return place


# ---- the folder -----------------------------------------------------------------------------------------------------


def tile_name(kind: str, number: int, width: int) -> str:
    assert number < 1000  # larger numbers are written x001/x234/067
    return f"tile/{kind}/{number:03d}" + ("" if width == 256 else f".p/{width}")


def read_tree(folder: Path, size: int) -> list[bytes]:
    """All entries of the tree of `size`, each as its level 0 tile says; level 1 as level 0 says. Sizes below 65,536."""
    entries: list[bytes] = []
    full = b""
    for number in range(-(-size // 256)):
        width = min(256, size - 256 * number)
        tile = (folder / tile_name("0", number, width)).read_bytes()
        bundle = (folder / tile_name("entries", number, width)).read_bytes()
        leaves = []
        while bundle:
            length = int.from_bytes(bundle[:2], "big")
            entries.append(bundle[2 : 2 + length])
            leaves.append(leaf(entries[-1]))
            bundle = bundle[2 + length :]
        need(len(leaves) == width and b"".join(leaves) == tile, f"tile {number} does not hold its entries' hashes")
        full += tree_hash(leaves) if width == 256 else b""
    if full:
        above = (folder / tile_name("1", 0, len(full) // 32)).read_bytes()
        need(above == full, "the tile of level 1 does not hold the roots of those below")
    return entries


def main(folder: Path, log_key: str, *witness_keys: str) -> None:
    log, witnesses = verifier_key(log_key), [verifier_key(text) for text in witness_keys]
    need(log.type == 1 and all(key.type == 4 for key in witnesses), "a key of the wrong type")

    entry = (folder / f"entry-{INDEX}.cose").read_bytes()
    payload, kid, _, _ = statement_of(entry)
    print(f"1  entry {INDEX} is a statement of type {payload['type']} by key {kid.hex()[:8]}…")
    print(f"2  its leaf hash is {leaf(entry).hex()}")

    size, root, times = open_checkpoint((folder / "checkpoint").read_bytes(), log, witnesses)
    need(len(times) == len(witnesses), "a witness given has not signed")
    entries = read_tree(folder, size)
    need(entries[INDEX] == entry, "the bundle holds another entry")
    need(tree_hash([leaf(each) for each in entries]) == root, "the tiles do not lead to the signed root")
    print(f"3  the tiles of {size} entries lead to the root {root.hex()}")
    print(f"4  the log key signed that root at size {size} for {log.name}")
    when = ", ".join(f"{name} at {at}" for name, at in times.items()) or "no witness was given"
    print(f"5  all witnesses given have cosigned it: {when}")

    proof = (folder / f"entry-{INDEX}.tlog-proof").read_bytes()
    need(check_proof(proof, entry, log, witnesses) == INDEX, "a proof for another entry")
    print(f"6  the proof file leads from entry {INDEX} to a root that the log key signed")

    chain = Keys(log)
    for each in json.loads((folder / f"entry-{INDEX}.keys.json").read_bytes()):
        announcement = base64_of(each["statement"])
        chain.learn(check_proof(each["tlog_proof"].encode(), announcement, log, witnesses), announcement)
    chain.learn(INDEX, entry)
    print(f"7  entry {INDEX} is signed by a key that the log announced in the entries sent along")
    keys = Keys(log)
    for number, each in enumerate(entries):
        keys.learn(number, each)
    print(f"7  all {size} statements are signed by keys announced before them; {len(keys.known)} keys are announced")

    at, of = check_receipt((folder / f"entry-{INDEX}.receipt").read_bytes(), entry, keys)
    need((at, of) == (INDEX, size), "a receipt for another place")
    print(f"8  the COSE receipt shows the same: entry {at} of {of}")

    opening = json.loads((folder / f"entry-{INDEX}.opening.json").read_bytes())
    salt, digest = bytes.fromhex(opening["salt"]), bytes.fromhex(opening["digest"])
    opened = sha256(opening["domain"].encode(), b"\0", salt, digest).hex()
    need(payload["commitments"]["pixels"] == opened, "salt and digest do not open the commitment")
    print(f"9  the commitment {opened[:8]}… opens to the digest {digest.hex()[:8]}…")

    old_size, old_root, _ = open_checkpoint((folder / f"checkpoint.{OLD_SIZE}").read_bytes(), log, witnesses)
    need(tree_hash([leaf(each) for each in read_tree(folder, old_size)]) == old_root, "the old tiles lead elsewhere")
    lines = (folder / f"consistency-{old_size}-{size}").read_bytes().decode().removesuffix("\n").split("\n")
    led_to_both = roots_of_path(old_size, size, old_root, [base64_of(line) for line in lines])
    need(led_to_both == (old_root, root), "the new tree does not begin with the old one")
    print(f"10 the tree of {size} begins with the tree of {old_size}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), *sys.argv[2:])
    except Exception as error:  # noqa: BLE001 - whatever goes wrong with a file, it is not shown to hold
        print(f"WRONG: {type(error).__name__}: {error}")
        sys.exit(1)
