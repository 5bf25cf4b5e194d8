import io
import struct
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from models.errors import ImageError
from models.images import CANONICAL, DecodedImage, Limits, decode, encode_png

RED, WHITE = (255, 0, 0), (255, 255, 255)


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG by hand; `rows` holds the filter byte of every row; `extra` chunks stand before IDAT."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(extra)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def gradient(width: int = 48, height: int = 32) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), (x * 3 + y * 5) % 256], axis=-1).astype(np.uint8)


def refusal(data: bytes, limits: Limits | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, limits or Limits())
    assert caught.value.next_step
    return caught.value


def picture(**options: object) -> Image.Image:
    return Image.fromarray(gradient(**options))


# The canonical form -----------------------------------------------------------------------------------


def test_the_canonical_form_is_named_and_pixels_are_rgb_bytes() -> None:
    decoded = decode(encode_png(gradient()))
    assert CANONICAL == "rgb8/1"
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.shape == (32, 48, 3)
    assert decoded.pixels.flags.c_contiguous
    assert not decoded.pixels.flags.writeable
    assert decoded.media_type == "image/png"
    assert decoded.changes == ()


@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_a_written_png_reads_back_to_the_same_pixels(width: int, height: int, random: object) -> None:
    pixels = np.frombuffer(random.randbytes(width * height * 3), np.uint8).reshape(height, width, 3)  # type: ignore[attr-defined]
    assert (decode(encode_png(pixels)).pixels == pixels).all()


def test_encoding_is_deterministic_and_metadata_free() -> None:
    once = encode_png(gradient())
    assert once == encode_png(gradient())
    assert b"tEXt" not in once
    assert decode(encode_png(gradient(), compress_level=1)).pixels.tobytes() == gradient().tobytes()


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_encoding_refuses_what_is_not_rgb_bytes(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode_png(wrong)


def test_lossless_webp_and_png_of_one_picture_have_the_same_pixels() -> None:
    webp = decode(saved(picture(), "WEBP", lossless=True, exact=True))
    assert webp.media_type == "image/webp"
    assert (webp.pixels == gradient()).all()


def test_a_jpeg_is_close_to_what_was_saved() -> None:
    jpeg = decode(saved(picture(), "JPEG", quality=95, subsampling=0))
    assert jpeg.media_type == "image/jpeg"
    assert np.abs(jpeg.pixels.astype(int) - gradient()).mean() < 3


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(form: str, orientation: int) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255  # a white block at the top left
    exif = Image.Exif()
    exif[0x0112] = orientation
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the inverse Pillow transposition of each orientation
    stored = Image.fromarray(upright)
    if orientation != 1:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    options = {"lossless": True} if form == "WEBP" else {"quality": 95} if form == "JPEG" else {}
    decoded = decode(saved(stored, form, exif=exif.tobytes(), **options))
    assert decoded.pixels.shape == upright.shape
    assert np.abs(decoded.pixels.astype(int) - upright).mean() < 2
    assert decoded.changes == (() if orientation == 1 else (f"orientation {orientation} applied",))


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"nonsense"]
)
def test_damaged_exif_is_ignored_without_a_warning(exif: bytes) -> None:
    plain = saved(picture(), "JPEG")
    with_exif = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (decode(with_exif).pixels == decode(plain).pixels).all()


def test_alpha_is_composed_on_white_with_exact_rounding() -> None:
    rgba = np.zeros((1, 256, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[0, :, 3] = np.arange(256)
    decoded = decode(saved(Image.fromarray(rgba), "PNG"))
    expected = [(200 * a + 255 * (255 - a) + 127) // 255 for a in range(256)]
    assert decoded.pixels[0, :, 0].tolist() == expected
    assert decoded.pixels[0, 0].tolist() == [255, 255, 255]
    assert decoded.changes == ("alpha composed on white",)


def test_an_opaque_alpha_channel_changes_nothing() -> None:
    decoded = decode(saved(picture().convert("RGBA"), "PNG"))
    assert (decoded.pixels == gradient()).all()
    assert decoded.changes == ()


def test_webp_alpha_is_composed_on_white() -> None:
    rgba = np.dstack([gradient(), np.full((32, 48), 128, np.uint8)])
    decoded = decode(saved(Image.fromarray(rgba), "WEBP", lossless=True, exact=True))
    assert "alpha composed on white" in decoded.changes
    assert (decoded.pixels == ((gradient().astype(int) * 128 + 255 * 127 + 127) // 255)).all()


def test_a_palette_with_alpha_is_resolved() -> None:
    rows = b"\0\0\1\2"
    data = png(
        3, 1, 8, 3, rows, chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0, 0, 0, 255])), chunk(b"tRNS", bytes([255, 0, 128]))
    )
    decoded = decode(data)
    assert decoded.pixels[0].tolist() == [[255, 0, 0], [255, 255, 255], [127, 127, 255]]
    assert decoded.changes == ("palette resolved", "alpha composed on white")


def test_a_palette_with_one_transparent_entry_is_resolved() -> None:
    data = png(2, 1, 8, 3, b"\0\0\1", chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0])), chunk(b"tRNS", b"\0"))
    assert decode(data).pixels[0].tolist() == [[255, 255, 255], [0, 255, 0]]


@pytest.mark.parametrize(
    ("depth", "row", "levels"),
    [
        (1, [0b01000000], [0, 255]),
        (2, [0b00011011], [0, 85, 170, 255]),
        (4, [0x0F], [0, 255]),
        (8, [0, 9, 255], [0, 9, 255]),
    ],
)
def test_greyscale_of_every_depth_is_scaled_to_eight_bits(depth: int, row: list[int], levels: list[int]) -> None:
    decoded = decode(png(len(levels), 1, depth, 0, bytes([0, *row])))
    assert decoded.pixels[0].tolist() == [[level] * 3 for level in levels]


def test_sixteen_bit_samples_keep_their_high_byte() -> None:
    grey = decode(png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 0x12FF, 0xFF00)))
    assert grey.pixels[0, :, 0].tolist() == [0x12, 0xFF]
    assert grey.changes == ("16 bit reduced",)
    colour = decode(png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 0x12FF, 0x3401, 0x5680)))
    assert colour.pixels[0, 0].tolist() == [0x12, 0x34, 0x56]
    both = decode(png(1, 1, 16, 4, b"\0" + struct.pack(">HH", 0x0000, 0x80FF)))
    assert both.pixels[0, 0].tolist() == [(255 * 127 + 127) // 255] * 3
    assert both.changes == ("16 bit reduced", "alpha composed on white")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(4, 1, 2, 0, bytes([0, 0b00011011]), chunk(b"tRNS", b"\0\1")), [0, 255, 170, 255]),
        (png(2, 1, 1, 0, bytes([0, 0b01000000]), chunk(b"tRNS", b"\0\0")), [255, 255]),
        (png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 0x1234, 0x1235), chunk(b"tRNS", b"\x12\x34")), [255, 0x12]),
        (png(2, 1, 8, 2, bytes([0, 1, 2, 3, 9, 9, 9]), chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))), [255, 9]),
        (
            png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 256, 0, 0), chunk(b"tRNS", struct.pack(">HHH", 256, 0, 0))),
            [255],
        ),
        (png(1, 1, 8, 0, b"\0\7", chunk(b"tRNS", b"\7")), [7]),  # a key too short to name a grey
    ],
)
def test_a_colour_key_makes_exactly_that_colour_transparent(data: bytes, expected: list[int]) -> None:
    assert decode(data).pixels[0, :, 0].tolist() == expected


def test_an_srgb_profile_changes_no_pixel() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        decoded = decode(saved(picture(), form, icc_profile=srgb, **options))
        assert (decoded.pixels == gradient()).all()
        assert decoded.changes == ("sRGB profile left out",)
    plain = saved(picture(), "JPEG")
    assert (decode(saved(picture(), "JPEG", icc_profile=srgb)).pixels == decode(plain).pixels).all()


def swapped_profile() -> bytes:
    """sRGB with its red and green primaries exchanged: a profile whose effect no one can overlook."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ", 128), profile.index(b"gXYZ", 128)
    profile[red : red + 4], profile[green : green + 4] = profile[green : green + 4], profile[red : red + 4]
    return bytes(profile)


@pytest.mark.parametrize(
    ("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 98, "subsampling": 0})]
)
def test_another_profile_is_converted_to_srgb(form: str, options: dict[str, object]) -> None:
    red = Image.new("RGB", (8, 8), RED)
    decoded = decode(saved(red, form, icc_profile=swapped_profile(), **options))
    assert np.abs(decoded.pixels[0, 0].astype(int) - (0, 255, 0)).max() <= 6
    assert decoded.changes == ("colour profile applied",)


@pytest.mark.parametrize("broken", [b"not a profile", b"\0" * 132, swapped_profile()[:200]])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_broken_profile_is_ignored_and_named(broken: bytes, form: str) -> None:
    decoded = decode(saved(picture(), form, icc_profile=broken))
    assert (decoded.pixels == decode(saved(picture(), form)).pixels).all()
    assert decoded.changes == ("unreadable colour profile ignored",)


def test_a_profile_for_another_kind_of_picture_is_ignored() -> None:
    decoded = decode(saved(picture().convert("L"), "PNG", icc_profile=swapped_profile()))
    assert decoded.changes == ("colour profile of another colour space ignored",)
    assert (decoded.pixels[..., 0] == np.asarray(picture().convert("L"))).all()


def test_a_compressed_profile_that_explodes_is_ignored() -> None:
    bomb = chunk(b"iCCP", b"bomb\0\0" + zlib.compress(b"\0" * (200 << 20), 9))
    decoded = decode(png(1, 1, 8, 0, b"\0\7", bomb))
    assert decoded.pixels[0, 0].tolist() == [7, 7, 7]
    assert decoded.changes == ("unreadable colour profile ignored",)


@pytest.mark.parametrize("quality", [75, 95])
def test_a_cmyk_jpeg_is_converted(quality: int) -> None:
    cmyk = Image.fromarray(np.full((8, 8, 4), (0, 255, 255, 0), np.uint8), "CMYK")
    decoded = decode(saved(cmyk, "JPEG", quality=quality))
    assert np.abs(decoded.pixels[4, 4].astype(int) - RED).max() <= 4
    assert decoded.changes == ("CMYK converted without a profile",)


def test_text_private_chunks_and_what_follows_the_end_do_not_touch_the_pixels() -> None:
    pieces = [
        chunk(b"tEXt", b"Comment\0" + b"x" * 5000),
        chunk(b"caBX", b"\0" * 999),
        chunk(b"zTXt", b"k\0\0" + zlib.compress(b"y" * 10**7)),
    ]
    data = png(1, 1, 8, 0, b"\0\7", *pieces) + b"trailing"
    assert decode(data).pixels[0, 0].tolist() == [7, 7, 7]


def test_a_damaged_ancillary_chunk_is_left_out_and_a_damaged_critical_one_refused() -> None:
    assert decode(png(1, 1, 8, 0, b"\0\7", chunk(b"tRNS", b"\0\7", crc=1))).pixels[0, 0].tolist() == [7, 7, 7]
    whole = png(1, 1, 8, 0, b"\0\7")
    spoiled = bytearray(whole)
    spoiled[whole.index(b"IDAT") + 8] ^= 1
    error = refusal(bytes(spoiled))
    assert error.code == "image_unreadable"
    assert "checksum" in error.detail


def test_a_jpeg_with_a_second_picture_behind_it_is_a_still() -> None:
    first = saved(picture(), "JPEG")
    out = io.BytesIO()
    picture().save(out, "MPO", save_all=True, append_images=[picture(width=16)])
    assert decode(out.getvalue()).pixels.shape == (32, 48, 3)
    assert (decode(first + saved(picture(width=16), "JPEG")).pixels == decode(first).pixels).all()


# What is refused --------------------------------------------------------------------------------------


def test_nothing_is_refused_as_empty() -> None:
    assert refusal(b"").code == "image_empty"


@pytest.mark.parametrize(
    "data",
    [b"hello", b"GIF89a" + b"\0" * 50, b"BM" + b"\0" * 60, b"%PDF-1.7", b"RIFF\0\0\0\0WAVE", b"<svg/>", b"II*\0"],
)
def test_other_formats_are_refused_by_name(data: bytes) -> None:
    error = refusal(data)
    assert error.code == "image_format_unsupported"
    assert error.status == 422


def huge_png() -> bytes:
    return png(20_000, 20_000, 8, 2, b"")


def huge_jpeg() -> bytes:
    data = bytearray(saved(picture(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 20_000, 20_000)
    return bytes(data)


def huge_webp() -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (19_999).to_bytes(3, "little") * 2
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


@pytest.mark.parametrize("make", [huge_png, huge_jpeg, huge_webp])
def test_twenty_thousand_pixels_square_are_refused_before_decoding(make: object) -> None:
    data = make()  # type: ignore[operator]
    started = time.process_time()
    error = refusal(data)
    assert time.process_time() - started < 2
    assert error.code == "image_too_large"
    assert error.status == 413
    assert "20,000" in error.detail


def test_limits_on_bytes_pixels_and_sides_name_the_value_and_the_limit() -> None:
    data = encode_png(gradient())
    assert decode(data, Limits(max_pixels=48 * 32, max_side=48, max_bytes=len(data))).pixels.shape == (32, 48, 3)
    for limits, words in (
        (Limits(max_bytes=len(data) - 1), f"{len(data) - 1:,}"),
        (Limits(max_pixels=48 * 32 - 1), "1,535"),
        (Limits(max_side=47), "47"),
    ):
        error = refusal(data, limits)
        assert error.code == "image_too_large"
        assert words in error.detail


def animated(form: str) -> bytes:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, WHITE, (0, 0, 255))]
    return saved(frames[0], form, save_all=True, append_images=frames[1:], duration=100)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_animations_are_refused(form: str) -> None:
    error = refusal(animated(form))
    assert error.code == "image_animated"
    assert "3 frames" in error.detail


def test_an_animation_that_hides_its_frame_count_is_refused() -> None:
    control = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 1, 1, 0, 0, 1, 10, 0, 0))
    hidden = png(1, 1, 8, 0, b"\0\7", chunk(b"acTL", struct.pack(">II", 1, 0)), control)
    assert decode(hidden).pixels[0, 0].tolist() == [7, 7, 7]  # one frame, and it is the still picture
    frame = chunk(b"fdAT", struct.pack(">I", 1) + zlib.compress(b"\0\x63"))
    assert refusal(hidden.replace(chunk(b"IEND", b""), frame + chunk(b"IEND", b""))).code == "image_animated"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_file_cut_anywhere_is_refused(form: str) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8))
    whole = saved(noise, form)
    for keep in {1, 2, 3, 11, 12, 20, 40, 100, len(whole) // 2, len(whole) * 9 // 10, len(whole) - 1}:
        error = refusal(whole[:keep])
        assert error.code in {"image_truncated", "image_format_unsupported"}, (keep, error.code)
        assert error.code == "image_truncated" or keep <= 11


def test_a_png_that_declares_two_gigabytes_of_text_is_refused_at_once() -> None:
    lie = struct.pack(">I", 2**31 - 1) + b"tEXt" + b"Comment\0"
    whole = png(1, 1, 8, 0, b"\0\7")
    started = time.process_time()
    error = refusal(whole[: 8 + 25] + lie + whole[8 + 25 :])
    assert time.process_time() - started < 1  # what the lie claims would take minutes
    assert error.code == "image_truncated"
    assert "2147483647" in error.detail


def test_a_file_of_a_million_tiny_parts_is_refused_quickly() -> None:
    empty = chunk(b"IDAT", b"")
    many = png(1, 1, 8, 0, b"\0\7", empty * 200_000)
    segments = saved(picture(), "JPEG")
    segments = segments[:2] + b"\xff\xfe\0\2" * 1_000_000 + segments[2:]
    webp = saved(picture(), "WEBP")
    webp = b"RIFF" + struct.pack("<I", len(webp) - 8 + 8_000_000) + webp[8:] + b"JUNK\0\0\0\0" * 1_000_000
    for data in (many, segments, webp):
        started = time.process_time()
        assert refusal(data).code == "image_too_large"
        assert time.process_time() - started < 5  # one look at each part; looking back would take minutes


def test_a_jpeg_of_a_thousand_scans_is_refused() -> None:
    data = saved(picture(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + data[last:-2] * 1000 + b"\xff\xd9"
    assert refusal(bomb).code == "image_too_large"


@pytest.mark.parametrize(
    "data",
    [
        png(0, 1, 8, 0, b"\0"),
        png(1, 1, 3, 0, b"\0\0"),
        png(1, 1, 8, 3, b"\0\0"),  # no palette
        png(1, 1, 8, 0, b"\0\7").replace(b"IHDR", b"IHDX"),
        png(4, 4, 8, 2, b"\0" * 7),  # fewer rows than declared
        b"\xff\xd8\xff\xd9",
        saved(picture(), "JPEG").replace(b"\xff\xc0", b"\xff\xc3"),
        saved(picture(), "JPEG").replace(b"\xff\xdb", b"\x00\xdb", 1),
    ],
)
def test_files_that_contradict_their_format_are_unreadable(data: bytes) -> None:
    assert refusal(data).code in {"image_unreadable", "image_truncated"}


@given(
    st.sampled_from(["PNG", "JPEG", "WEBP"]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
)
@settings(max_examples=300, deadline=None)
def test_a_damaged_file_gives_an_image_or_one_image_error(form: str, damage: list[tuple[int, int]]) -> None:
    data = bytearray(saved(picture(width=16, height=16), form))
    for at, value in damage:
        data[at % len(data)] = value
    try:
        assert isinstance(decode(bytes(data), Limits(max_pixels=10**6)), DecodedImage)
    except ImageError as error:
        assert error.code.startswith("image_")  # noqa: PT017 - either outcome is right, another exception is not


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x20\0\0\0WEBP"]))
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_give_one_image_error(tail: bytes, magic: bytes) -> None:
    with pytest.raises(ImageError):
        decode(magic + tail)


def test_threads_may_decode_at_once_and_leave_the_warning_filters_alone() -> None:
    data = saved(picture(), "JPEG")
    before = list(warnings.filters)
    with ThreadPoolExecutor(6) as pool:
        decoded = list(pool.map(decode, [data] * 180))
    assert len({image.pixels.tobytes() for image in decoded}) == 1
    assert list(warnings.filters) == before
