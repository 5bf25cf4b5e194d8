"""Good inputs, made worse. Everything follows from the target's name, the seed and the input's number."""

import random
from collections.abc import Callable
from typing import Any

import cbor2

from benchmarks.fuzz.target import Target

MAX_BYTES = 1_000_000
TOKENS = [
    b"\n", b"\n\n", b" ", b"\t", b"\r", b"\0", b"+", b"=", b"-", b"0", b"9" * 5000, b"\xe2\x80\x94 ", b"\xc2\x85",
    b"\xed\xa0\x80", b"\xff", b"\x7f", b"AAAA", b"\xd2\x84", b"\xd8\x1c", b"\xd8\x1d\x00", b"\xc2\x5a\xff\xff\xff\xff",
    b"\x9b" + b"\xff" * 8, b"\x5b" + b"\x7f" * 8, b"\xf9\x7e\x00", b"\xa0", b"[" * 3000, b'{"a":1,"a":1}',
    b"1e400", b"NaN", b'"\\ud800"', b"9007199254740993",
]  # fmt: skip
NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]


def made(name: str, target: Target, seed: int, number: int) -> bytes:
    """Input `number` of a target: one of its good inputs, or a new one, changed in one to five places or not at all."""
    draw = random.Random(f"{seed}/{name}/{number}")
    data = target.drawn(draw) if target.drawn is not None and draw.random() < 0.2 else draw.choice(target.seeds)
    for _ in range(draw.choice((0, 1, 1, 1, 2, 2, 3, 5))):
        data = draw.choice(CHANGES)(draw, data, target)
    if target.mended is not None and draw.random() < 0.8:
        data = target.mended(data)
    return data[:MAX_BYTES]


def _span(draw: random.Random, data: bytes, most: int = 64) -> tuple[int, int]:
    start = draw.randrange(len(data) + 1)
    return start, min(len(data), start + draw.randint(1, draw.choice((2, 8, most))))


def _flip(draw: random.Random, data: bytes, _: Target) -> bytes:
    if not data:
        return b"\x01"
    changed = bytearray(data)
    changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _number(draw: random.Random, data: bytes, _: Target) -> bytes:
    size = draw.choice((1, 2, 4, 8))
    value = draw.choice(NUMBERS) % (1 << 8 * size)
    start = draw.randrange(len(data) + 1)
    return data[:start] + value.to_bytes(size, draw.choice(("big", "little"))) + data[start + size :]


def _cut(draw: random.Random, data: bytes, _: Target) -> bytes:
    start, end = _span(draw, data)
    return data[:start] + data[end:]


def _end(draw: random.Random, data: bytes, _: Target) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _token(draw: random.Random, data: bytes, _: Target) -> bytes:
    start, end = _span(draw, data, 8)
    return data[:start] + draw.choice(TOKENS) + data[draw.choice((start, end)) :]


def _random(draw: random.Random, data: bytes, _: Target) -> bytes:
    start, end = _span(draw, data, 16)
    return data[:start] + draw.randbytes(end - start) + data[end:]


def _again(draw: random.Random, data: bytes, _: Target) -> bytes:
    start, end = _span(draw, data, 400)
    times = draw.choice((1, 1, 2, 10, 300))
    return data[:end] + data[start:end] * times + data[end:]


def _other(draw: random.Random, data: bytes, target: Target) -> bytes:
    other = draw.choice(target.seeds)
    start, end = _span(draw, other, 400)
    at, until = _span(draw, data, 400)
    return data[:at] + other[start:end] + data[draw.choice((at, until)) :]


CHANGES: list[Callable[[random.Random, bytes, Target], bytes]] = [
    _flip, _flip, _number, _number, _cut, _end, _token, _token, _random, _again, _other,
]  # fmt: skip


# ---- new ones --------------------------------------------------------------------------------------------------------


def value(draw: random.Random, depth: int = 4) -> Any:
    """A value as JSON has them, with the odd number and text."""
    kind = draw.randrange(6 if depth == 0 else 8)
    if kind < 6:
        return (
            None, draw.random() < 0.5, draw.choice((0, -1, 2**53, 2**70, draw.randrange(1000))),
            draw.choice((0.5, 1e308, -0.0)), "".join(chr(draw.choice((65, 233, 0x2028, 0x1F600))) for _ in range(5)),
            draw.randbytes(20).hex(),
        )[kind]  # fmt: skip
    if kind == 6:
        return [value(draw, depth - 1) for _ in range(draw.randrange(4))]
    return {draw.choice(("type", "schema", "keys", "x", "")): value(draw, depth - 1) for _ in range(draw.randrange(4))}


def cbor(draw: random.Random, depth: int = 4) -> Any:
    """A value as CBOR has them: byte strings, tags, simple values and keys that are numbers besides."""
    kind = draw.randrange(6 if depth == 0 else 10)
    match kind:
        case 0 | 1:
            return value(draw, 1)
        case 2:
            return draw.randbytes(draw.choice((0, 4, 32, 64)))
        case 3:
            return cbor2.CBORSimpleValue(draw.choice((0, 19, 32, 255)))
        case 4:
            return cbor2.dumps(value(draw, 2))
        case 5:
            return draw.choice((float("nan"), float("inf"), -(2**64)))
        case 6 | 7:
            return [cbor(draw, depth - 1) for _ in range(draw.randrange(5))]
        case 8:
            return {
                draw.choice((1, 2, 3, 4, 15, -1, 395, 396)): cbor(draw, depth - 1) for _ in range(draw.randrange(5))
            }
        case _:
            tag = draw.choice((0, 1, 2, 3, 4, 5, 18, 24, 25, 28, 29, 30, 35, 36, 37, 256, 258, 260, 55799))
            return cbor2.CBORTag(tag, cbor(draw, depth - 1))


def sign1(draw: random.Random) -> bytes:
    """Something in the shape of a COSE_Sign1, as statements and receipts are."""
    header = {1: -8, 3: "x", 4: cbor(draw, 1), 15: {1: "iss", 2: "sub"}} if draw.random() < 0.5 else cbor(draw)
    parts = [cbor2.dumps(header), {} if draw.random() < 0.7 else cbor(draw), draw.choice((b"{}", None)), bytes(64)]
    if draw.random() < 0.5:
        parts[draw.randrange(4)] = cbor(draw)
    return cbor2.dumps(cbor2.CBORTag(18, parts))
