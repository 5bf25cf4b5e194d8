"""Where a C2PA manifest store lies in a PNG, JPEG or WebP, and what its newest claim hashes to.

The SDK validates; it does not hand out the bytes of the claim, and the digest of those bytes is what the ledger records
(a file's own sha256 is no identity: padding inside a manifest may change while it reads the same). So the boxes are
walked here, under bounds and without judging anything: a result of this module proves nothing about a signature.

Sources: C2PA specification 2.4, chapter 11 (use of JUMBF) and appendix A (embedding); ISO/IEC 19566-5 (JUMBF), annexes
A and B; PNG 3rd edition, section 5; ITU-T T.81, annex B; RFC 9649, section 2.
"""

import hashlib
import io
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import cbor2

MAX_BOXES = 4096  # of one level; the largest stores seen hold a few hundred

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_STORE_UUID = bytes.fromhex("63327061 0011 0010 8000 00AA00389B71")  # "c2pa"
_CLAIM_LABELS = ("c2pa.claim.v2", "c2pa.claim")
_HARD_BINDINGS = ("c2pa.hash.data", "c2pa.hash.boxes", "c2pa.hash.bmff")


@dataclass(frozen=True)
class Claim:
    """The newest manifest of a store: its label, the sha256 of its claim's CBOR, the hash its hard binding states.

    `data_hash` is what the claim says of the file, not what the file hashes to. `certificate` is the one (DER) that
    the signature names first; whether its key signed is the SDK's to say.
    """

    manifest_urn: str
    claim_sha256: str
    data_hash: str | None
    certificate: bytes | None = None


def manifest_stores(data: bytes) -> list[bytes]:
    """Every manifest store embedded in a file, in order; empty for other formats. Never raises: of a broken file, what
    was found before the break.
    """
    try:
        if data.startswith(_PNG_MAGIC):
            return list(_png_stores(data))
        if data.startswith(b"\xff\xd8"):
            return _jpeg_stores(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return list(_webp_stores(data))
    except struct.error:
        pass
    return []


def newest_claim(store: bytes) -> Claim | None:
    """The claim of the last manifest of a store (C2PA 2.4, chapter 11: the last one is active).

    None where the store has no one readable claim: compressed manifests, two of one label, bytes that are no JUMBF.
    """
    try:
        outer = next((body for kind, body in _boxes(store) if kind == b"jumb"), b"")
        manifests = list(_labelled(outer))
        if not manifests or len({label for label, _ in manifests}) < len(manifests):
            return None  # two of one name: a validator may have read the other
        return _claim(*manifests[-1])
    except (struct.error, ValueError, TypeError, RecursionError, cbor2.CBORDecodeError):
        return None


def one_manifest(store: bytes, label: str) -> bytes:
    """A store that holds the manifest of this label and no other; the manifest's own bytes stay.

    Its ingredients' manifests are missing then, which a validator says. Raises ValueError where it is not in the store.
    """
    outer = next((body for kind, body in _boxes(store) if kind == b"jumb"), b"")
    description = next((body for kind, body in _boxes(outer) if kind == b"jumd"), b"")
    wanted = [body for kind, body in _boxes(outer) if kind == b"jumb" and _label(body) == label]
    if len(wanted) != 1:
        raise ValueError(f"{len(wanted)} manifests of this label")
    return _box(b"jumb", _box(b"jumd", description) + _box(b"jumb", wanted[0]))


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _claim(label: str, manifest: bytes) -> Claim | None:
    children = list(_labelled(manifest))
    claims = [box for name, box in children if name in _CLAIM_LABELS]
    if len(claims) != 1:
        return None
    data_hash = None
    for name, assertion in _labelled(dict(children).get("c2pa.assertions", b"")):
        if name in _HARD_BINDINGS:
            stated = cbor2.loads(_content(assertion, b"cbor"))
            value = stated.get("hash") if isinstance(stated, dict) else None
            data_hash = value.hex() if isinstance(value, bytes) else None
            break
    claim_sha256 = hashlib.sha256(_content(claims[0], b"cbor")).hexdigest()
    signatures = [box for name, box in children if name == "c2pa.signature"]
    certificate = _certificate(_content(signatures[0], b"cbor")) if len(signatures) == 1 else None
    return Claim(label, claim_sha256, data_hash, certificate)


def _certificate(signature: bytes) -> bytes | None:
    """The leaf of x5chain (RFC 9360: header 33, one certificate or a list, the signer's first), where it is signed too.

    None where there is a second chain under the name that older files use, or outside the protected header: a
    validator may have read the other.
    """
    match cbor2.loads(signature):
        case cbor2.CBORTag(tag=18, value=[bytes(protected), Mapping() as unprotected, *_]):
            header = cbor2.loads(protected)
        case _:
            return None
    if not isinstance(header, dict) or "x5chain" in header or {33, "x5chain"} & unprotected.keys():
        return None
    chain = header.get(33)
    leaf = chain[0] if isinstance(chain, list) and chain else chain
    return leaf if isinstance(leaf, bytes) else None


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, body) of the boxes of one level. A box that claims more bytes than there are ends the walk."""
    position = 0
    for _ in range(MAX_BOXES):
        if position + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, position + 8)
            head = 16
        elif size == 0:
            size = len(data) - position
        if size < head or position + size > len(data):
            return
        yield kind, data[position + head : position + size]
        position += size


def _label(superbox: bytes) -> str | None:
    for kind, body in _boxes(superbox):
        if kind == b"jumd" and len(body) > 17 and body[16] & 2:  # toggle bit 1: a label follows
            return body[17:].split(b"\0", 1)[0].decode("utf-8")
        break
    return None


def _labelled(superbox: bytes) -> Iterator[tuple[str, bytes]]:
    for kind, body in _boxes(superbox):
        if kind == b"jumb" and (label := _label(body)) is not None:
            yield label, body


def _content(superbox: bytes, wanted: bytes) -> bytes:
    for kind, body in _boxes(superbox):
        if kind == wanted:
            return body
    raise ValueError("no content box")


def _png_stores(data: bytes) -> Iterator[bytes]:
    position = len(_PNG_MAGIC)
    while position + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"caBX":
            yield data[position + 8 : position + 8 + size]
        position += 12 + size


def _webp_stores(data: bytes) -> Iterator[bytes]:
    position = 12
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, position)
        if kind == b"C2PA":
            yield data[position + 8 : position + 8 + size]
        position += 8 + size + (size & 1)


def _jpeg_stores(data: bytes) -> list[bytes]:
    """APP11 segments of JPEG XT (ISO/IEC 18477-3, annex B): "JP", instance, sequence number, box.

    Each segment repeats the box's header, so the first gives all of its bytes and the others lose theirs.
    """
    boxes: list[io.BytesIO] = []
    open_boxes: dict[int, io.BytesIO] = {}
    position = 2
    while position + 4 <= len(data):
        marker, size = struct.unpack_from(">HH", data, position)
        if marker < 0xFF01 or marker == 0xFFDA or size < 2:  # start of scan: no segments after it
            break
        body = data[position + 4 : position + 2 + size]
        if marker == 0xFFEB and body[:2] == b"JP" and len(body) > 16:
            instance, sequence = struct.unpack_from(">HI", body, 2)
            if sequence == 1:  # a second box under one number is a second box, not a correction
                open_boxes[instance] = io.BytesIO()
                open_boxes[instance].write(body[8:])
                boxes.append(open_boxes[instance])
            elif instance in open_boxes:
                open_boxes[instance].write(body[16:])
        position += 2 + size
    return [store for box in boxes if _STORE_UUID in (store := box.getvalue())[:64]]
