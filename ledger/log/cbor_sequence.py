"""Many statements in one body: a CBOR sequence (RFC 8742) of tagged COSE_Sign1, taken apart and checked without copies.

A statement has one spelling only (`ledger.log.statements`), so its parts stand where they must and nothing has to be
decoded to find them: tag 18, an array of four, the protected header, an empty map, the payload, 64 bytes of signature.
And what was signed (Sig_structure, RFC 9052 section 4.4) is made of the same encoded parts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ledger.errors import TooLarge
from ledger.log.statements import MAX_ENTRY_BYTES, StatementError

_SIGN1 = b"\xd2\x84"  # tag 18, array of 4
_NO_HEADER = b"\xa0"  # an empty map
_SIGNATURE = b"\x58\x40"  # a byte string of 64
_SIGNATURE1 = b"\x84\x6aSignature1"  # array of 4, its first the context string
_NO_DATA = b"\x40"  # no external data


@dataclass(frozen=True, slots=True)
class Sign1:
    """One item as it stands in the body. Its frame is right; header, payload and signature are not looked at yet."""

    raw: bytes
    protected: bytes
    payload: bytes
    signature: bytes
    signed: bytes


def items(body: bytes) -> Iterator[Sign1]:
    """The items, first to last. Raises StatementError `statement_malformed` where the body goes on otherwise, TooLarge
    `entry_too_large` for an item of more than 65,535 bytes."""
    position = 0
    while position < len(body):
        item = _item(body, position)
        yield item
        position += len(item.raw)


def _item(body: bytes, start: int) -> Sign1:
    if body[start : start + 2] != _SIGN1:
        raise StatementError("not a tagged COSE_Sign1 of four parts")
    header_start, header_end = _byte_string(body, start + 2)
    if body[header_end : header_end + 1] != _NO_HEADER:
        raise StatementError("the unprotected header is not empty")
    payload_start, payload_end = _byte_string(body, header_end + 1)
    end = payload_end + 2 + 64
    if body[payload_end : payload_end + 2] != _SIGNATURE or end > len(body):
        raise StatementError("a signature that has not 64 bytes")
    if end - start > MAX_ENTRY_BYTES:
        raise too_large(end - start)
    return Sign1(
        raw=body[start:end],
        protected=body[header_start:header_end],
        payload=body[payload_start:payload_end],
        signature=body[end - 64 : end],
        signed=_SIGNATURE1 + body[start + 2 : header_end] + _NO_DATA + body[header_end + 1 : payload_end],
    )


def _byte_string(body: bytes, start: int) -> tuple[int, int]:
    """Where the content of the byte string at `start` begins and ends; its length must be written the short way."""
    head = body[start : start + 3]
    if head and 0x40 <= head[0] <= 0x57:
        begin, length = start + 1, head[0] - 0x40
    elif len(head) > 1 and head[0] == 0x58 and head[1] > 23:
        begin, length = start + 2, head[1]
    elif len(head) > 2 and head[0] == 0x59 and head[1]:
        begin, length = start + 3, int.from_bytes(head[1:], "big")
    elif len(head) > 1 and head[0] == 0x5A:
        raise too_large(int.from_bytes(body[start + 1 : start + 5], "big"))
    else:
        raise StatementError(
            "a part that is no byte string, or whose length is written otherwise than the shortest way"
        )
    if begin + length > len(body):
        raise StatementError(f"a part of {length} bytes that goes beyond the end")
    return begin, begin + length


def too_large(size: int) -> TooLarge:
    return TooLarge(
        f"a statement of {size} bytes; the limit is {MAX_ENTRY_BYTES}",
        code="entry_too_large",
        next_step="Commit to a digest of the content instead of sending the content.",
    )
