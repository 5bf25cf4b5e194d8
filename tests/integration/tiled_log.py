"""A reader of C2SP tlog-tiles written from the specification's text alone, sharing no code with what it reads.

It fetches files by their path with any function `get(path) -> bytes`, checks every tile and bundle against the signed
checkpoint, and returns the entries.
"""

import base64
import hashlib
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Get = Callable[[str], bytes]
"""Path below the log's prefix → the file. Raises Missing."""


class Missing(Exception):
    """There is no such file."""


def checkpoint(note: bytes, vkey: str) -> tuple[int, bytes]:
    """Size and root of a checkpoint that the log of `vkey` signed."""
    name, _, key = vkey.split("+", 2)
    text, signatures = note.decode().split("\n\n")
    lines = [line.split(" ") for line in signatures.splitlines()]
    signature = next(base64.b64decode(line[2]) for line in lines if line[1] == name)
    Ed25519PublicKey.from_public_bytes(base64.b64decode(key)[1:]).verify(signature[4:], (text + "\n").encode())
    origin, size, root = text.split("\n")
    assert origin == name
    return int(size), base64.b64decode(root)


def name(index: int, width: int) -> str:
    digits = f"{index:03d}"
    digits = digits.rjust(-(-len(digits) // 3) * 3, "0")
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    path = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
    return path if width == 256 else f"{path}.p/{width}"


def read_log(get: Get, vkey: str) -> list[bytes]:
    """Every entry, all of them proven to be under the newest checkpoint."""
    size, root = checkpoint(get("checkpoint"), vkey)
    level, below = 0, None
    entries: list[bytes] = []
    hashes: list[bytes] = []
    while nodes := size >> 8 * level:
        stored: list[bytes] = []
        for index in range(-(-nodes // 256)):
            width = min(256, nodes - 256 * index)
            tile = either(get, f"tile/{level}", index, width)[: 32 * width]
            assert len(tile) == 32 * width
            stored += [tile[i : i + 32] for i in range(0, len(tile), 32)]
            if level == 0:
                entries += bundle(either(get, "tile/entries", index, width))[:width]
        if level == 0:
            below = [hashlib.sha256(b"\0" + entry).digest() for entry in entries]
            hashes = stored
        else:
            assert below is not None
            below = [tree(below[i : i + 256]) for i in range(0, len(below) - 255, 256)]
        assert stored == below, f"level {level} is not made of what is below it"
        level += 1
    assert tree(hashes) == root
    return entries


def either(get: Get, folder: str, index: int, width: int) -> bytes:
    """A partial tile, or the full one when the log has dropped it since the checkpoint was read."""
    try:
        return get(f"{folder}/{name(index, width)}")
    except Missing:
        return get(f"{folder}/{name(index, 256)}")


def bundle(data: bytes) -> list[bytes]:
    entries = []
    while data:
        length = int.from_bytes(data[:2], "big")
        assert len(data) >= 2 + length
        entries.append(data[2 : 2 + length])
        data = data[2 + length :]
    return entries


def tree(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, over leaf hashes, as it is written there."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return hashlib.sha256(b"\1" + tree(hashes[:split]) + tree(hashes[split:])).digest()
