"""Real keys, real c2pa, small pictures, and a knife for PNG chunks."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ledger.credentials.read import CredentialReading, read_credential
from ledger.credentials.write import (
    CredentialRequest,
    ModelDisclosure,
    WrittenCredential,
    new_manifest_urn,
    write_credential,
)
from ledger.keys.ring import KeyRing, init_keys


def draw(media_type: str = "image/png", size: int = 64) -> bytes:
    y, x = np.mgrid[:size, :size]
    pixels = np.stack([x * 255 // size, y * 255 // size, (x * y) % 256], -1).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, media_type.removeprefix("image/"))
    return out.getvalue()


def ask(**changes: Any) -> CredentialRequest:
    """A complete request for an image a model made; `intent` other than create leaves the model out."""
    request = CredentialRequest(
        manifest_urn=new_manifest_urn(),
        intent="create",
        software=("atelier", "r1"),
        ledger={"schema": "lawful-ledger/record/1", "record_id": "0192", "tlog_proof": "c2sp.org/tlog-proof@v1\n…"},
        attribution={"statement": "no single source stands out", "not_proven": ["authorship"]},
        iscc="ISCC:EEDWXRKVZSHAXOSQ",
        model=ModelDisclosure("atelier", "atelier@sha256:00ff"),
    )
    if changes.get("intent", "create") != "create":
        changes = {"model": None, **changes}
    return replace(request, **changes)


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    position, found = 8, []
    while position < len(png):
        (size,) = struct.unpack_from(">I", png, position)
        found.append((png[position + 4 : position + 8], png[position + 8 : position + 8 + size]))
        position += 12 + size
    return found


def assemble(parts: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def edit_credential(png: bytes, old: bytes, new: bytes) -> bytes:
    """The same PNG with bytes inside its credential replaced, and a right CRC."""
    parts = chunks(png)
    assert len(old) == len(new)
    assert any(kind == b"caBX" and old in body for kind, body in parts)
    return assemble([(kind, body.replace(old, new) if kind == b"caBX" else body) for kind, body in parts])


@pytest.fixture(scope="session")
def png() -> SimpleNamespace:
    return SimpleNamespace(chunks=chunks, assemble=assemble, edit_credential=edit_credential)


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    return draw


@pytest.fixture(scope="session")
def asked() -> Callable[..., CredentialRequest]:
    return ask


@pytest.fixture(scope="session")
def ring(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return init_keys(tmp_path_factory.mktemp("ours") / "keys", "localhost/ledger/2026", now=datetime.now(UTC))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    """Another ledger under our name: anybody can make such keys."""
    return init_keys(tmp_path_factory.mktemp("theirs") / "keys", "localhost/ledger/2026", now=datetime.now(UTC))


@pytest.fixture(scope="session")
def sign(ring: KeyRing) -> Callable[..., WrittenCredential]:
    def signed(
        data: bytes, request: CredentialRequest, media_type: str = "image/png", by: KeyRing | None = None
    ) -> Any:
        by = by or ring
        return write_credential(data, media_type, request, by.credential, root_pem=by.root_pem)

    return signed


@pytest.fixture(scope="session")
def signed_png(sign: Callable[..., WrittenCredential]) -> WrittenCredential:
    return sign(draw(), ask())


@pytest.fixture(scope="session")
def read(ring: KeyRing) -> Callable[..., CredentialReading]:
    def reading(data: bytes, media_type: str = "image/png", anchors: str | None = None) -> CredentialReading:
        trusted = ring.root_pem if anchors is None else anchors
        return read_credential(data, media_type, anchors_pem=trusted, now=datetime.now(UTC))

    return reading
