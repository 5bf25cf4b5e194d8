"""Identifiers of one image: exact (SHA-256 of file and pixels, ISCC Instance-Code) and similar (ISCC Image-Code, PDQ).

Light: Pillow, numpy, iscc-core and pdqhash. Exact identifiers prove equal bytes or equal canonical pixels. Similar ones
are soft bindings: near codes suggest a re-encoding, survive no crop, and prove neither copying nor authorship.
"""

import contextlib
import hashlib
import io

import iscc_core
import msgspec
import numpy as np
import pdqhash
from numpy.typing import NDArray
from PIL import Image, ImageChops

from models.images import pixel_sha256

ISCC_BITS = 256
ISCC_SIDE = 32
PDQ_SIDE = 512
_IMAGE_CODE = (iscc_core.MT.CONTENT, iscc_core.ST_CC.IMAGE)


class Fingerprints(msgspec.Struct, frozen=True):
    """Identifiers of one file and its canonical pixels; hashes are lower-case hex, sizes in pixels."""

    file_sha256: str
    pixel_sha256: str
    iscc: str
    iscc_instance: str
    pdq: str
    pdq_quality: int
    width: int
    height: int


def fingerprint(data: bytes, pixels: NDArray[np.uint8]) -> Fingerprints:
    """Return the identifiers of a file, `data`, and of what `models.images.decode` gives for it, (h, w, 3) uint8."""
    pdq, quality = pdq_hash(pixels)
    return Fingerprints(
        file_sha256=hashlib.sha256(data).hexdigest(),
        pixel_sha256=pixel_sha256(pixels).hex(),
        iscc=image_code(pixels),
        iscc_instance=instance_code(data),
        pdq=pdq,
        pdq_quality=quality,
        width=pixels.shape[1],
        height=pixels.shape[0],
    )


def instance_code(data: bytes) -> str:
    """Return the ISCC Instance-Code (ISO 24138, 5.7) of 256 bits of a file's bytes as "ISCC:…"."""
    return str(iscc_core.gen_instance_code(io.BytesIO(data), ISCC_BITS)["iscc"])


def image_code(pixels: NDArray[np.uint8]) -> str:
    """Return the ISCC Image-Code (ISO 24138, 5.3) of 256 bits as "ISCC:…".

    Normalised as the standard says and its reference SDK does: a border of the top left pixel's colour is cut off,
    luma by ITU-R 601 (Pillow's "L"), bicubic to 32 x 32. Orientation and alpha are settled in the canonical pixels.
    """
    small = _without_border(pixels).convert("L").resize((ISCC_SIDE, ISCC_SIDE), Image.Resampling.BICUBIC)
    return str(iscc_core.gen_image_code(list(small.tobytes()), ISCC_BITS)["iscc"])


def _without_border(pixels: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(pixels)
    corner = pixels[0, 0]
    if not any((edge == corner).all() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])):
        return image  # no edge is of one colour, so there is nothing to look for
    flat = Image.new("RGB", image.size, tuple(int(value) for value in corner))
    return image.crop(ImageChops.difference(image, flat).getbbox())


def pdq_hash(pixels: NDArray[np.uint8]) -> tuple[str, int]:
    """Return (64 hex digits, quality 0-100) of PDQ.

    A side above 512 is first reduced to 512 x 512, as PDQ's authors recommend and their C++ program does (hashing.pdf,
    page 10); here by a box filter. Below a quality of 50 the hash says little; a flat picture has quality 0.
    """
    if max(pixels.shape[:2]) > PDQ_SIDE:
        reduced = Image.fromarray(pixels).resize((PDQ_SIDE, PDQ_SIDE), Image.Resampling.BOX)
        pixels = np.asarray(reduced)
    vector, quality = pdqhash.compute(np.ascontiguousarray(pixels))
    return np.packbits(vector.astype(np.uint8)).tobytes().hex(), int(quality)


def iscc_bits(iscc: str) -> str:
    """Return the 64 hex digits in an Image-Code of 256 bits. Raises ValueError for any other ISCC or text."""
    try:
        maintype, subtype, _, _, digest = iscc_core.iscc_decode(iscc)
    except Exception as error:  # iscc_core raises assertion, base32 and index errors on foreign text
        raise ValueError("not an ISCC") from error
    if (maintype, subtype) != _IMAGE_CODE or len(digest) * 8 != ISCC_BITS:
        raise ValueError(f"an ISCC Image-Code of {ISCC_BITS} bits is needed")
    return str(digest.hex())


def image_codes(sequence: bytes) -> list[str]:
    """The Image-Codes of 256 bits in an ISCC-SEQ (IEP-0020: units one after another, each with its header), as texts.

    Units of other kinds are passed over. Raises ValueError for bytes that are no sequence of units.
    """
    found = []
    for unit in iscc_core.decode_seq(sequence):
        with contextlib.suppress(ValueError):
            iscc_bits(unit)
            found.append(str(unit))
    return found


def bits(hexadecimal: str) -> str:
    """Write hex digits as "0" and "1", four for each, first bit first: the text form of Postgres's bit type."""
    return "".join(f"{int(digit, 16):04b}" for digit in hexadecimal)


def hamming(left: str, right: str) -> int:
    """Return in how many bits two hex strings of equal length differ. Raises ValueError if the lengths differ."""
    if len(left) != len(right):
        raise ValueError(f"lengths differ: {len(left)} and {len(right)} hex digits")
    return (int(left or "0", 16) ^ int(right or "0", 16)).bit_count()
