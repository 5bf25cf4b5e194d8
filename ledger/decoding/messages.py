"""What goes through the two pipes of a decoder. Plain data in MessagePack, and never a pickle: the child may be
somebody else's by the time it answers.

A message is a length (4 bytes, big-endian), that many bytes of MessagePack, a length (8 bytes) and a payload: of a
request the file, of a picture its pixels.
"""

import struct
from collections.abc import Sequence
from datetime import datetime
from typing import IO, Any

import msgspec

from ledger.credentials.read import CredentialReading
from models.images import Limits

MAX_HEADER = 32 * 2**20
"""Bytes. A reading holds the manifest that the SDK rendered, at most 4 Mi characters of it."""


class Terms(msgspec.Struct, frozen=True):
    """What the child lives under: its whole address space in bytes, processor seconds for each file."""

    limits: Limits
    memory_bytes: int
    cpu_seconds: int


class Decode(msgspec.Struct, frozen=True, tag=True):
    pass


class ReadCredential(msgspec.Struct, frozen=True, tag=True):
    media_type: str
    anchors_pem: str
    now: datetime


class Picture(msgspec.Struct, frozen=True, tag=True):
    """`DecodedImage`; the payload is its pixels."""

    media_type: str
    height: int
    width: int
    changes: Sequence[str]


class Credential(msgspec.Struct, frozen=True, tag=True):
    """`reading` as JSON, which keeps the offsets of its times."""

    reading: bytes


class Refused(msgspec.Struct, frozen=True, tag=True):
    """One of our own errors: of the file's (`ImageError`), or of what was asked of it."""

    of_image: bool
    detail: str
    code: str
    next_step: str
    status: int


class Broke(msgspec.Struct, frozen=True, tag=True):
    """An error that nobody expected, by its class. The child is not to be used again."""

    error: str


Request = Decode | ReadCredential
Answer = Picture | Credential | Refused | Broke


def write(stream: IO[bytes], message: msgspec.Struct, payload: bytes | memoryview = b"") -> None:
    header = msgspec.msgpack.encode(message)
    body = memoryview(payload).cast("B")
    stream.write(struct.pack(">I", len(header)) + header + struct.pack(">Q", len(body)))
    stream.write(body)
    stream.flush()


def read(stream: IO[bytes], kind: Any) -> tuple[Any, int]:
    """A message of `kind`, and how many bytes of payload follow. Raises EOFError, msgspec.DecodeError."""
    (length,) = struct.unpack(">I", exactly(stream, 4))
    if length > MAX_HEADER:
        raise msgspec.DecodeError("a header beyond the limit")
    message = msgspec.msgpack.decode(exactly(stream, length), type=kind)
    (payload,) = struct.unpack(">Q", exactly(stream, 8))
    return message, payload


def exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def reading_as_json(reading: CredentialReading) -> bytes:
    return msgspec.json.encode(reading)


def reading_of(data: bytes) -> CredentialReading:
    return msgspec.json.decode(data, type=CredentialReading)
