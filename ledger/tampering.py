"""What happens to a PNG on its way: the copies that `lawful demo` makes of a file and asks the ledger about."""

import io
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.images import decode, encode_png

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CRITICAL = {b"IHDR", b"IDAT", b"IEND"}

Pixels = NDArray[np.uint8]


def copies(png: bytes) -> Iterator[tuple[str, str, bytes]]:
    """(name, file name, bytes) of the original and of what people and platforms make of it."""
    pixels = decode(png).pixels
    height, width = pixels.shape[:2]
    yield "original", "generated.png", png
    yield "one pixel changed", "one-pixel-changed.png", change_one_pixel(png)
    yield "metadata stripped", "metadata-stripped.png", strip(png)
    yield "JPEG, quality 60", "jpeg-60.jpg", _saved(pixels, "JPEG", quality=60)
    half = Image.fromarray(pixels).resize((width // 2, height // 2), Image.Resampling.LANCZOS)
    yield "halved", "halved.png", encode_png(np.asarray(half))
    left, top = round(width * 0.1), round(height * 0.1)
    yield "cropped by 10 %", "cropped.png", encode_png(np.ascontiguousarray(pixels[top:, left:]))


def change_one_pixel(png: bytes) -> bytes:
    """The same file, credential and all, with one channel of the middle pixel one step brighter or darker."""
    pixels = decode(png).pixels.copy()
    middle = (pixels.shape[0] // 2, pixels.shape[1] // 2, 0)
    pixels[middle] ^= 1
    fresh = dict(_chunks(encode_png(pixels)))
    kept = [(kind, data) for kind, data in _chunks(png) if kind not in CRITICAL]
    return SIGNATURE + b"".join(
        _chunk(kind, data)
        for kind, data in [(b"IHDR", fresh[b"IHDR"]), *kept, (b"IDAT", fresh[b"IDAT"]), (b"IEND", b"")]
    )


def strip(png: bytes) -> bytes:
    """Only the picture: the chunks a decoder needs, untouched. The credential goes, the pixels stay."""
    return SIGNATURE + b"".join(_chunk(kind, data) for kind, data in _chunks(png) if kind in CRITICAL)


def _saved(pixels: Pixels, format: str, **options: int) -> bytes:  # noqa: A002 - Pillow's own word
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format, **options)
    return out.getvalue()


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, data) of each chunk; the data of all IDAT chunks joined: they are one stream (PNG, section 10)."""
    position, image = len(SIGNATURE), b""
    while position < len(png):
        length = int.from_bytes(png[position : position + 4], "big")
        kind, data = png[position + 4 : position + 8], png[position + 8 : position + 8 + length]
        position += 12 + length
        if kind == b"IDAT":
            image += data
            continue
        if image:
            yield b"IDAT", image
            image = b""
        yield kind, data


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
