"""What a PNG, JPEG or WebP file declares, read under bounds before any pixel is decoded.

A file is walked by its own structure (PNG 3rd edition, section 5; ITU-T T.81, annex B; RFC 9649, section 2). Size,
frames, orientation and colour profile are taken from it here; of a PNG or JPEG the pixel decoder then gets `stream`,
which holds the picture and nothing else that could ask for memory: no text, thumbnails, credentials or profiles.
"""

import struct
import zlib
from dataclasses import dataclass, field

from models.errors import ImageError

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
MAX_PROFILE_BYTES = 4 << 20  # press profiles are 0.5-2.5 MiB
MAX_JPEG_SCANS = 256  # each scan of a progressive file costs a pass over the whole picture; encoders write about ten
MAX_PARTS = 65_536  # chunks or marker segments; a 64 MiB PNG in libpng's own 8 KiB pieces has 8192
MAX_IFD_ENTRIES = 512
ORIENTATION_TAG = 0x0112
RESEND = "Send the whole file again, as the program that made it saved it."

_PNG_DECODED = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_JPEG_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive Huffman
_JPEG_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_JPEG_METADATA = {0xE1, 0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xEB, 0xEC, 0xED, 0xEF, 0xFE}


@dataclass
class Container:
    """A file as it describes itself. `colour_key` is the tRNS of a greyscale or truecolour PNG (2 or 6 bytes)."""

    media_type: str
    width: int = 0
    height: int = 0
    frames: int = 1
    orientation: int = 1
    icc: bytes | None = None
    bit_depth: int = 8
    colour_key: bytes | None = None
    stream: bytes = b""
    changes: list[str] = field(default_factory=list)


def read_container(data: bytes) -> Container:
    """Read the structure of one file. Raises ImageError: image_empty, image_format_unsupported, image_truncated,
    image_unreadable.
    """
    if not data:
        raise ImageError("The file is empty (0 bytes).", code="image_empty", next_step="Send a PNG, JPEG or WebP file.")
    try:
        if data.startswith(PNG_MAGIC):
            container = _read_png(data)
        elif data.startswith(b"\xff\xd8\xff"):
            container = _read_jpeg(data)
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            container = _read_webp(data)
        elif any(magic.startswith(data) for magic in (PNG_MAGIC, b"\xff\xd8\xff")):
            raise truncated("in its first bytes")
        else:
            raise ImageError(
                "This is no PNG, JPEG or WebP file.",
                code="image_format_unsupported",
                next_step="Save the picture as PNG, JPEG or WebP and send that.",
            )
    except (struct.error, IndexError) as error:
        raise truncated("inside a header") from error
    if container.width == 0 or container.height == 0:
        raise unreadable("it declares a width or height of 0")
    return container


def truncated(where: str) -> ImageError:
    return ImageError(f"The file ends {where}.", code="image_truncated", next_step=RESEND)


def unreadable(why: str) -> ImageError:
    return ImageError(f"The file cannot be read as an image: {why}.", code="image_unreadable", next_step=RESEND)


def _too_many_parts() -> ImageError:
    return ImageError(
        f"The file is stored in too many pieces (at most {MAX_PARTS:,} parts and {MAX_JPEG_SCANS} scans are read).",
        code="image_too_large",
        next_step="Open it in an image program, save it again and send that.",
        status=413,
    )


# PNG ----------------------------------------------------------------------------------------------------------------


def _read_png(data: bytes) -> Container:
    png = Container("image/png")
    kept = [PNG_MAGIC]
    colour_type = -1
    palette = picture = False
    at = len(PNG_MAGIC)
    for _ in range(MAX_PARTS):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = slice(at + 8, at + 8 + length)
        if body.stop + 4 > len(data):
            raise truncated(f"inside a {_printable(kind)} chunk of {length} bytes")
        if (colour_type == -1) != (kind == b"IHDR"):
            raise unreadable("its first chunk, and no other, must be IHDR")
        sound = zlib.crc32(memoryview(data)[at + 4 : body.stop]) == int.from_bytes(
            data[body.stop : body.stop + 4], "big"
        )
        if kind[0] & 0x20 == 0 and not sound:  # critical chunks; a damaged ancillary one is left out, as libpng does
            raise unreadable(f"the checksum of a {_printable(kind)} chunk is wrong")
        if kind == b"IHDR":
            colour_type = _png_header(png, data[body])
        palette |= kind == b"PLTE"
        picture |= kind == b"IDAT"
        if kind in _PNG_DECODED or (kind == b"tRNS" and sound and colour_type == 3):
            kept.append(data[at : body.stop + 4])
        elif sound:
            _png_ancillary(png, kind, data, body, colour_type)
        at = body.stop + 4
        if kind == b"IEND":
            break
    else:
        raise _too_many_parts()
    if not picture or (colour_type == 3 and not palette):
        raise unreadable("it holds no picture data" if not picture else "its palette is missing")
    png.stream = b"".join(kept)
    return png


def _png_header(png: Container, header: bytes) -> int:
    if len(header) != 13:
        raise unreadable("its IHDR chunk is not 13 bytes long")
    colour_type: int
    png.width, png.height, png.bit_depth, colour_type, deflate, filters, interlace = struct.unpack(">IIBBBBB", header)
    if png.bit_depth not in _PNG_DEPTHS.get(colour_type, ()) or deflate or filters or interlace > 1:
        raise unreadable("its IHDR chunk names a colour type, depth or method that PNG does not have")
    return colour_type


def _png_ancillary(png: Container, kind: bytes, data: bytes, body: slice, colour_type: int) -> None:
    if kind == b"acTL":
        png.frames = max(png.frames, int.from_bytes(data[body][:4], "big"))
    elif kind == b"fdAT":
        png.frames = max(png.frames, 2)  # beside the still picture, whatever acTL says
    elif kind == b"tRNS" and colour_type in (0, 2):
        png.colour_key = data[body]
    elif kind == b"eXIf":
        png.orientation = exif_orientation(data[body])
    elif kind == b"iCCP" and png.icc is None:
        try:
            compressed = data[body].split(b"\0", 1)[1][1:]
            inflate = zlib.decompressobj()
            png.icc = inflate.decompress(compressed, MAX_PROFILE_BYTES)
            if not inflate.eof:
                raise zlib.error
        except (zlib.error, IndexError):
            png.icc = None
            png.changes.append("unreadable colour profile ignored")


def _printable(kind: bytes) -> str:
    return kind.decode("ascii") if kind.isalpha() else "damaged"


# JPEG ---------------------------------------------------------------------------------------------------------------


def _read_jpeg(data: bytes) -> Container:
    jpeg = Container("image/jpeg")
    kept = [data[:2]]
    profile: dict[int, bytes] = {}
    at = 2
    for _ in range(MAX_PARTS):
        marker, at = _jpeg_marker(data, at)
        if marker == 0xD9:
            raise unreadable("it holds no picture data")
        (length,) = struct.unpack_from(">H", data, at)
        end = at + length
        if length < 2 or end > len(data):
            raise truncated("inside a marker segment")
        body = data[at + 2 : end]
        if marker in _JPEG_FRAMES:
            jpeg.bit_depth, jpeg.height, jpeg.width = struct.unpack_from(">BHH", body)
        elif marker in _JPEG_OTHER_FRAMES:
            raise unreadable("it uses a lossless, hierarchical or arithmetic JPEG process")
        elif marker == 0xE1 and body.startswith(b"Exif\0\0") and jpeg.orientation == 1:
            jpeg.orientation = exif_orientation(body[6:])
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile[body[12]] = body[14:]
        if marker not in _JPEG_METADATA:
            kept.append(b"\xff" + bytes([marker]) + data[at:end])
        at = end
        if marker == 0xDA:
            break
    else:
        raise _too_many_parts()
    rest = data[at:]
    if b"\xff\xd9" not in rest:
        raise truncated("before the end of the picture")
    if rest.count(b"\xff\xda") >= MAX_JPEG_SCANS:
        raise _too_many_parts()
    jpeg.icc = _joined_profile(jpeg, profile)
    jpeg.stream = b"".join([*kept, rest])
    return jpeg


def _jpeg_marker(data: bytes, at: int) -> tuple[int, int]:
    if data[at] != 0xFF:
        raise unreadable("a marker is missing where one must stand")
    while data[at] == 0xFF:  # any number of fill bytes may stand before a marker
        at += 1
    return data[at], at + 1


def _joined_profile(jpeg: Container, parts: dict[int, bytes]) -> bytes | None:
    if not parts:
        return None
    joined = b"".join(parts[number] for number in sorted(parts))
    if sorted(parts) == list(range(1, len(parts) + 1)) and len(joined) <= MAX_PROFILE_BYTES:
        return joined
    jpeg.changes.append("unreadable colour profile ignored")
    return None


# WebP ---------------------------------------------------------------------------------------------------------------


def _read_webp(data: bytes) -> Container:
    webp = Container("image/webp")
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise truncated(f"after {len(data)} of {end} bytes")
    at = 12
    frames = 0
    for _ in range(MAX_PARTS):
        if at + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        body = slice(at + 8, at + 8 + length)
        if body.stop > end:
            raise truncated(f"inside a {_printable(kind.strip())} chunk of {length} bytes")
        if kind in (b"VP8X", b"VP8 ", b"VP8L") and webp.width == 0:
            webp.width, webp.height = _webp_size(kind, data[body.start : body.start + 10])
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"EXIF":
            webp.orientation = exif_orientation(data[body].removeprefix(b"Exif\0\0"))
        elif kind == b"ICCP" and length <= MAX_PROFILE_BYTES:
            webp.icc = data[body]
        at = body.stop + (length & 1)
    else:
        raise _too_many_parts()
    webp.frames = max(frames, 1)
    webp.stream = data[:end]
    return webp


def _webp_size(kind: bytes, header: bytes) -> tuple[int, int]:
    if kind == b"VP8X":
        return int.from_bytes(header[4:7], "little") + 1, int.from_bytes(header[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(header[1:5], "little")
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", header, 6)
    return width & 0x3FFF, height & 0x3FFF


# EXIF ---------------------------------------------------------------------------------------------------------------


def exif_orientation(tiff: bytes) -> int:
    """Return Orientation, 1-8, of an EXIF block's first directory (CIPA DC-008, 4.6.4); 1 if it has no sound one."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(min(entries, MAX_IFD_ENTRIES)):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", tiff, directory + 2 + 12 * entry)
            if tag == ORIENTATION_TAG:
                return value if kind == 3 and count == 1 and 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
