"""Image files and their credentials, opened by `ledger.decoding` as in service: what crashes there is counted here."""

import io
import random
import struct
import zlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from benchmarks.fuzz.target import Target
from ledger.decoding.decoders import Decoders
from models.errors import ImageError
from models.images import Limits

GOLDEN = Path(__file__).parents[2] / "tests" / "golden" / "credentials"
LIMITS = Limits(max_bytes=2**22, max_pixels=2**20, max_side=4096)
"""Small, so that what is slow is slow for its size. What is due to size alone the limits of the service bound."""
MEMORY_BYTES = 512 * 2**20
ROOT = (GOLDEN / "0.1.0" / "root.pem").read_text()
NOW = datetime(2026, 6, 1, tzinfo=UTC)
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


class Ended(Exception):
    """A file ended its decoder."""


def decoders() -> Decoders:
    return Decoders(LIMITS, at_once=1, memory_bytes=MEMORY_BYTES, cpu_seconds=2, answer_seconds=120.0)


def file_targets(opened: Decoders) -> dict[str, Target]:
    seeds = [path.read_bytes() for path in sorted(GOLDEN.rglob("*")) if path.suffix in {".png", ".jpg", ".webp"}]

    def decode(data: bytes) -> None:
        try:
            opened.decode(data)
        except ImageError as error:
            if error.code == "image_undecodable":
                raise Ended(error.detail) from error
            raise

    def read(data: bytes) -> None:
        reading = opened.read_credential(data, media_type_of(data), anchors_pem=ROOT, now=NOW)
        if "reader.ended" in reading.codes:
            raise Ended(reading.reason)

    return {
        "image": Target(decode, (ImageError,), [*seeds, *(drawn(random.Random(n)) for n in range(40))], drawn, mended),
        "credential": Target(read, (), [each for each in seeds if b"jumb" in each], None, mended),
    }


def media_type_of(data: bytes) -> str:
    return "image/webp" if data[:4] == b"RIFF" else "image/jpeg" if data[:2] == b"\xff\xd8" else "image/png"


def drawn(draw: random.Random) -> bytes:
    """A small picture in one of the ways that the three formats have."""
    height, width = draw.randint(1, 40), draw.randint(1, 40)
    pixels = np.frombuffer(draw.randbytes(height * width * 4), np.uint8).reshape(height, width, 4)
    picture = Image.fromarray(pixels if draw.random() < 0.7 else pixels // 64 * 64)
    kind = draw.choice(("PNG", "PNG", "JPEG", "WEBP"))
    modes = {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "JPEG": ("L", "RGB", "CMYK"), "WEBP": ("RGB", "RGBA")}
    mode = draw.choice(modes[kind])
    picture = Image.fromarray(pixels[..., :2].copy().view("<u2")[..., 0]) if mode == "I;16" else picture.convert(mode)
    options: dict[str, object] = {}
    if kind == "JPEG":
        options |= {"quality": draw.randint(5, 98), "progressive": draw.random() < 0.5}
    if kind == "WEBP":
        options |= {"lossless": draw.random() < 0.5, "quality": draw.randint(5, 98), "method": 0}
    if mode == "P" and draw.random() < 0.5:
        options["transparency"] = draw.randrange(256)
    if draw.random() < 0.3:
        options["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if draw.random() < 0.3:
        exif = Image.Exif()
        exif[0x0112] = draw.randint(0, 9)
        options["exif"] = exif.tobytes()
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def mended(data: bytes) -> bytes:
    """The checksums of a PNG's chunks and the length of a WebP, made right again."""
    if data[:4] == b"RIFF":
        return data[:4] + struct.pack("<I", max(len(data) - 8, 0)) + data[8:]
    if not data.startswith(PNG_MAGIC):
        return data
    out, at = [PNG_MAGIC], len(PNG_MAGIC)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        out.append(data[at:end] + struct.pack(">I", zlib.crc32(data[at + 4 : end])))
        at = end + 4
    return b"".join(out) + data[at:]
