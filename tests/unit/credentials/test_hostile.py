"""Some hundred broken files: each gets an answer, and none that were changed outside the credential reads intact."""

import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.credentials.jumbf import manifest_stores, newest_claim
from ledger.credentials.read import MAX_MANIFEST_CHARS, CredentialReading
from ledger.credentials.write import MEDIA_TYPES

Make = Callable[..., Any]
Read = Callable[..., CredentialReading]

SEED = 20261122
MUTATIONS_PER_FORMAT = 150


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One of the ways files break: bits, bytes, cuts, repeats, lengths, floods."""
    spot, size = rng.randrange(len(data)), rng.choice([1, 2, 4, 16, 200])
    head, cut, tail = data[:spot], data[spot : spot + size], data[spot + size :]
    return {
        "flip": lambda: head + bytes([data[spot] ^ 1 << rng.randrange(8)]) + data[spot + 1 :],
        "noise": lambda: head + rng.randbytes(len(cut)) + tail,
        "drop": lambda: head + tail,
        "repeat": lambda: head + cut * rng.choice([2, 50]) + tail,
        "insert": lambda: head + rng.randbytes(size) + cut + tail,
        "truncate": lambda: head,
        "ones": lambda: head + b"\xff" * len(cut) + tail,
    }[rng.choice(["flip", "noise", "drop", "repeat", "insert", "truncate", "ones"])]()


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_mutated_files_are_answered_and_never_trusted_as_whole(
    media_type: str, picture: Make, asked: Make, sign: Make, read: Read
) -> None:
    written = sign(picture(media_type), asked(), media_type)
    [store] = manifest_stores(written.data)
    start = written.data.index(store)
    before, after = written.data[: start - 16], written.data[start + len(store) + 4 :]  # less the chunk's own framing
    rng = random.Random(SEED)
    outcomes = set()
    for _ in range(MUTATIONS_PER_FORMAT):
        mutated = mutate(written.data, rng)
        reading = read(mutated, media_type)
        outcomes.add(reading.credential + "/" + reading.content)
        if reading.content == "intact" and mutated != written.data:
            # what may change unseen is the store's own padding and framing: the claim is still the one we signed
            assert reading.claim_sha256 in (written.claim_sha256, None)
            assert reading.ledger == asked().ledger
            assert mutated.startswith(before)
            assert mutated.endswith(after)
    assert {"present/altered", "unreadable/not_checked"} <= outcomes


def test_mutated_manifests_in_a_whole_png_are_answered(signed_png: Any, picture: Make, read: Read, png: Any) -> None:
    """With a right CRC, so that the damage reaches the parsers of boxes, CBOR and COSE."""
    parts = png.chunks(signed_png.data)
    rng = random.Random(SEED)
    for _ in range(MUTATIONS_PER_FORMAT):
        reading = read(png.assemble([parts[0], (b"caBX", mutate(parts[1][1], rng)), *parts[2:]]))
        assert reading.content != "intact" or reading.ledger is not None


def replace_content(boxes: bytes, path: list[str], content: bytes) -> bytes:
    """The same JUMBF with the CBOR of one labelled box replaced and every length around it put right."""
    out, position = b"", 0
    while position < len(boxes):
        size, kind = struct.unpack_from(">I4s", boxes, position)
        body = boxes[position + 8 : position + size]
        if kind == b"cbor" and not path:
            body = content
        elif kind == b"jumb" and path and path[0].encode() in body[:80]:
            body = replace_content(body, path[1:], content)
        out += struct.pack(">I4s", len(body) + 8, kind) + body
        position += size
    return out


@pytest.mark.parametrize("box", ["c2pa.claim.v2", "c2pa.signature", "c2pa.assertions/org.lawful-ledger.record"])
@pytest.mark.parametrize("opening", [b"\x81", b"\xa1\x61a", b"\xd8\x18", b"\x9f"])
def test_bottomless_cbor_is_answered(box: str, opening: bytes, signed_png: Any, read: Read, png: Any) -> None:
    parts = png.chunks(signed_png.data)
    bomb = replace_content(parts[1][1], ["c2pa", "urn:c2pa:", *box.split("/")], opening * 200_000 + b"\0")
    assert len(bomb) > 200_000
    reading = read(png.assemble([parts[0], (b"caBX", bomb), *parts[2:]]))
    assert (reading.credential, reading.content) in {("unreadable", "not_checked"), ("present", "altered")}


def test_two_manifests_of_one_label_have_no_claim_to_speak_of(signed_png: Any) -> None:
    """Else the signature of the one could be shown with the claim of the other."""
    [store] = manifest_stores(signed_png.data)
    assert newest_claim(store) is not None
    (description,) = struct.unpack_from(">I", store, 8)
    twice = store[8:] + store[8 + description :]
    assert newest_claim(struct.pack(">I4s", len(twice) + 8, b"jumb") + twice) is None


def test_a_manifest_beyond_all_measure_is_not_carried_around(
    picture: Make, asked: Make, sign: Make, read: Read
) -> None:
    data, long = picture(), {"statement": "x" * 1_000_000}
    for generation in range(MAX_MANIFEST_CHARS // 1_000_000 + 1):
        data = sign(data, asked(intent="edit" if generation else "declared", attribution=long)).data
    reading = read(data)
    assert (reading.credential, reading.codes) == ("unreadable", ["reader.manifest_too_large"])
    assert reading.manifest == {}


@given(st.binary(max_size=400))
def test_any_bytes_are_no_claim_and_no_error(data: bytes) -> None:
    assert newest_claim(data) is None or len(data) > 60
    for head in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"RIFF\0\0\0\0WEBP"):
        assert all(isinstance(store, bytes) for store in manifest_stores(head + data))


@given(st.integers(0, 2000), st.binary(max_size=8))
def test_a_broken_store_has_a_claim_or_none(signed_png: Any, spot: int, noise: bytes) -> None:
    [store] = manifest_stores(signed_png.data)
    claim = newest_claim(store[:spot] + noise + store[spot + len(noise) :])
    assert claim is None or len(claim.claim_sha256) == 64
