"""The only image decoder. Light: Pillow and numpy, no torch.

The canonical form "rgb8/1", on which the pixel hash is defined. Two files have the same pixels when these steps give
both the same width, height and bytes:

1. The still picture of a PNG, JPEG or WebP file is decoded as its format says. Samples of 16 bits keep their high byte,
   samples under 8 bits are scaled to 0..255, palettes are looked up.
2. An embedded ICC profile is applied: to sRGB by LittleCMS, perceptual intent, at 8 bits. A profile that moves no
   colour of a 17 x 17 x 17 grid (17 greys) by more than 2 of 255 is sRGB under another name and changes nothing. A
   profile that cannot be used is ignored. CMYK without a profile: c' = (255 - c)(255 - k) / 255. gAMA, cHRM and cICP
   are not applied.
3. Alpha (channel, palette entry or colour key) is composed on white: (c a + 255 (255 - a) + 127) div 255.
4. EXIF orientation 1-8 is applied. XMP orientation is not, as in browsers.
5. Result: rows from the top, pixels from the left, R G B, one byte each.

PNG and lossless WebP give the same result under any decoder. JPEG and lossy WebP depend on the decoder's rounding, and
profiles on LittleCMS's: that is why Pillow is pinned. Equal pixels prove equal pictures; different pixels do not prove
that two lossy files differ.
"""

import hashlib
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from models.containers import Container, read_container, truncated, unreadable
from models.errors import ImageError

CANONICAL = "rgb8/1"
PIXELS_DOMAIN = b"lawful-ledger/pixels/" + CANONICAL.encode() + b"\0"
PREVIEW_SIDE = 512
SAME_COLOUR = 2
GRID = 17
BAND_ROWS = 64

# The plugins themselves, not Image.open: no sniffing, and no multi-picture JPEG is taken for an animation.
_OPEN: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "image/png": PngImageFile,
    "image/jpeg": JpegImageFile,
    "image/webp": WebPImageFile,
}
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Warning filters belong to the process: two threads must not restore each other's.
_WARNING_FILTERS = threading.Lock()


@dataclass(frozen=True)
class Limits:
    """What is accepted. Checked against what the file declares, before a pixel is decoded."""

    max_bytes: int = 64 * 2**20
    max_pixels: int = 64_000_000
    max_side: int = 16384
    frames: int = 1


@dataclass(frozen=True)
class DecodedImage:
    """Canonical pixels, (height, width, 3) uint8, C-contiguous and read-only.

    `changes` says in words what canonicalisation did.
    """

    pixels: NDArray[np.uint8]
    media_type: str
    changes: tuple[str, ...]


def decode(data: bytes, limits: Limits = Limits()) -> DecodedImage:
    """Decode a PNG, JPEG or WebP file into canonical pixels.

    Raises ImageError with code image_empty, image_format_unsupported, image_truncated, image_unreadable,
    image_animated or image_too_large. Damaged metadata never makes an image unreadable.
    """
    if len(data) > limits.max_bytes:
        raise _too_large("bytes", len(data), limits.max_bytes)
    container = read_container(data)
    _check(container, limits)
    changes = list(container.changes)
    try:
        with _warnings_are_errors():
            image: Image.Image = _OPEN[container.media_type](io.BytesIO(container.stream))
        if image.size != (container.width, container.height):
            raise unreadable("its headers disagree about its size")
        image.load()
    except Image.DecompressionBombError as error:
        raise _too_large("pixels", container.width * container.height, limits.max_pixels) from error
    except (OSError, EOFError) as error:
        raise (
            truncated("inside the picture data") if "truncated" in str(error) else unreadable("bad picture data")
        ) from error
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError, RuntimeError, Warning) as error:
        raise unreadable("bad picture data") from error
    colour, alpha = _split_alpha(image, container, changes)
    colour = _to_srgb(colour, container.icc, changes)
    if alpha is not None:
        colour = _on_white(colour, alpha, changes)
    if container.orientation in _TRANSPOSE:
        colour = colour.transpose(_TRANSPOSE[container.orientation])
        changes.append(f"orientation {container.orientation} applied")
    pixels = np.array(colour, dtype=np.uint8, order="C")
    pixels.flags.writeable = False
    return DecodedImage(pixels, container.media_type, tuple(changes))


def encode_png(pixels: NDArray[np.uint8], compress_level: int = 6) -> bytes:
    """Return an 8-bit RGB PNG of (h, w, 3) uint8 pixels, without metadata.

    The same pixels give the same bytes under one build of Pillow. Raises ValueError for another shape or dtype.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"pixels must be (h, w, 3) uint8, not {pixels.shape} {pixels.dtype}")
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=compress_level)
    return out.getvalue()


def encode_preview(pixels: NDArray[np.uint8], side: int = PREVIEW_SIDE) -> bytes:
    """Return a WebP, at most `side` pixels long and wide, of (h, w, 3) uint8: for people to look at, not to compare."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=80)
    return out.getvalue()


def _check(container: Container, limits: Limits) -> None:
    width, height = container.width, container.height
    if max(width, height) > limits.max_side:
        raise _too_large(f"pixels on a side ({width} x {height})", max(width, height), limits.max_side)
    if width * height > limits.max_pixels:
        raise _too_large(f"pixels ({width} x {height})", width * height, limits.max_pixels)
    if container.frames > limits.frames:
        raise ImageError(
            f"The file is animated ({container.frames} frames, at most {limits.frames} are accepted).",
            code="image_animated",
            next_step="Save the frame you mean as a still picture and send that.",
        )


def _too_large(what: str, value: int, limit: int) -> ImageError:
    return ImageError(
        f"The image has {value:,} {what}; at most {limit:,} are accepted.",
        code="image_too_large",
        next_step="Send a smaller version of it.",
        status=413,
    )


@contextmanager
def _warnings_are_errors() -> Iterator[None]:
    with _WARNING_FILTERS, warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _split_alpha(
    image: Image.Image, container: Container, changes: list[str]
) -> tuple[Image.Image, NDArray[np.uint8] | None]:
    """Return (mode L, RGB or CMYK, alpha (h, w) or None): 8 bits, palette and colour key resolved."""
    if container.media_type == "image/png" and container.bit_depth == 16:
        changes.append("16 bit reduced")
    alpha: NDArray[np.uint8] | None = None
    if container.colour_key is not None:
        alpha = _keyed_alpha(image, container, container.colour_key)
    if image.mode == "P":
        changes.append("palette resolved")
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("LA", "RGBA"):
        alpha = np.asarray(image.getchannel("A"))
        image = image.convert(image.mode[:-1])
    if image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return image, alpha


def _keyed_alpha(image: Image.Image, container: Container, key: bytes) -> NDArray[np.uint8] | None:
    """A grey or colour that stands for transparent (PNG 11.3.1.1); 16-bit truecolour is compared by its high bytes."""
    samples = np.frombuffer(key[: len(key) // 2 * 2], ">u2")
    if len(samples) != (3 if image.mode == "RGB" else 1):
        return None
    found = np.asarray(image.convert("L") if image.mode == "1" else image)
    if image.mode == "RGB":
        wanted = samples >> 8 if container.bit_depth == 16 else samples
        keyed = (found == wanted).all(axis=2)
    else:
        grey = int(samples[0])
        keyed = found == (grey if container.bit_depth == 16 else grey * 255 // (2**container.bit_depth - 1))
    return np.where(keyed, np.uint8(0), np.uint8(255))


def _on_white(colour: Image.Image, alpha: NDArray[np.uint8], changes: list[str]) -> Image.Image:
    if alpha.min() == 255:
        return colour
    changes.append("alpha composed on white")
    composed = np.array(colour)
    for top in range(0, len(alpha), BAND_ROWS):  # a few rows at a time: the steps between take eight times the memory
        rows = slice(top, top + BAND_ROWS)
        a = alpha[rows, :, np.newaxis].astype(np.uint32)
        composed[rows] = (composed[rows] * a + 255 * (255 - a) + 127) // 255
    return Image.fromarray(composed)


def _to_srgb(colour: Image.Image, icc: bytes | None, changes: list[str]) -> Image.Image:
    if icc is not None:
        colour, what = _apply_profile(colour, icc)
        changes.append(what)
    if colour.mode == "CMYK":
        changes.append("CMYK converted without a profile")
    return colour if colour.mode == "RGB" else colour.convert("RGB")


def _apply_profile(colour: Image.Image, icc: bytes) -> tuple[Image.Image, str]:
    """Return the colours in sRGB and what was done; a profile that cannot be used leaves them as they are."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if _PROFILE_MODES.get(profile.profile.xcolor_space.strip()) != colour.mode:
            return colour, "colour profile of another colour space ignored"
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        transform = ImageCms.ImageCmsTransform(profile, srgb, colour.mode, "RGB", ImageCms.Intent.PERCEPTUAL)
        if _moves_nothing(transform, colour.mode):
            return colour, "sRGB profile left out"
        return transform.apply(colour), "colour profile applied"
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return colour, "unreadable colour profile ignored"


def _moves_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    if mode == "CMYK":
        return False
    steps = np.linspace(0, 255, GRID).round().astype(np.uint8)
    if mode == "RGB":
        before = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(GRID, GRID * GRID, 3)
        probe = Image.fromarray(before)
    else:
        before = np.repeat(steps[np.newaxis, :, np.newaxis], 3, axis=2)
        probe = Image.fromarray(steps[np.newaxis])
    after = np.asarray(transform.apply(probe))
    return bool(np.abs(after.astype(np.int16) - before.astype(np.int16)).max() <= SAME_COLOUR)


def pixel_sha256(pixels: NDArray[np.uint8]) -> bytes:
    """Return SHA-256 over "lawful-ledger/pixels/rgb8/1" NUL, u32be width, u32be height, and the pixels' bytes."""
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(PIXELS_DOMAIN + width.to_bytes(4, "big") + height.to_bytes(4, "big"))
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()
