import hashlib
import io
import struct

import iscc_core
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from attribution.fingerprints import bits, fingerprint, hamming, image_code, iscc_bits, pdq_hash
from models.images import decode, encode_png, pixel_sha256


def scene(seed: int = 0, width: int = 240, height: int = 180) -> np.ndarray:
    """Soft coloured blobs: enough structure for a perceptual hash."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).filter(ImageFilter.BLUR))


def as_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return decode(out.getvalue()).pixels


def test_every_identifier_of_a_file_is_given() -> None:
    data = encode_png(scene())
    prints = fingerprint(data, scene())
    assert prints.file_sha256 == hashlib.sha256(data).hexdigest()
    assert (prints.width, prints.height) == (240, 180)
    assert len(prints.pdq) == 64
    assert prints.pdq_quality >= 50
    assert len(iscc_bits(prints.iscc)) == 64
    instance = iscc_core.iscc_decode(prints.iscc_instance)
    assert instance[0] == iscc_core.MT.INSTANCE
    assert len(instance[4]) == 32


def test_the_pixel_hash_is_the_documented_one() -> None:
    pixels = scene(width=7, height=5)
    by_hand = b"lawful-ledger/pixels/rgb8/1\0" + struct.pack(">II", 7, 5) + pixels.tobytes()
    assert pixel_sha256(pixels) == hashlib.sha256(by_hand).digest()
    assert pixel_sha256(np.asfortranarray(pixels)) == pixel_sha256(pixels)


def test_the_pixel_hash_sees_one_changed_value_and_the_shape() -> None:
    pixels = scene(width=6, height=4)
    changed = pixels.copy()
    changed[2, 3, 1] ^= 1
    assert len({pixel_sha256(pixels), pixel_sha256(changed), pixel_sha256(pixels.reshape(6, 4, 3))}) == 3


def test_another_encoding_of_the_same_pixels_keeps_all_but_the_file_identifiers() -> None:
    light, heavy = encode_png(scene(), compress_level=1), encode_png(scene(), compress_level=9)
    one, other = fingerprint(light, decode(light).pixels), fingerprint(heavy, decode(heavy).pixels)
    assert one.file_sha256 != other.file_sha256
    assert one.iscc_instance != other.iscc_instance
    assert (one.pixel_sha256, one.iscc, one.pdq) == (other.pixel_sha256, other.iscc, other.pdq)


@pytest.mark.parametrize("quality", [90, 60, 30])
def test_re_encoding_moves_few_bits_and_another_picture_about_half(quality: int) -> None:
    again = as_jpeg(scene(), quality)
    assert hamming(iscc_bits(image_code(scene())), iscc_bits(image_code(again))) <= 16
    assert hamming(pdq_hash(scene())[0], pdq_hash(again)[0]) <= 24
    assert hamming(iscc_bits(image_code(scene())), iscc_bits(image_code(scene(1)))) > 80
    assert hamming(pdq_hash(scene())[0], pdq_hash(scene(1))[0]) > 80


def test_halving_moves_few_bits() -> None:
    large = scene(width=1200, height=900)
    half = np.asarray(Image.fromarray(large).resize((600, 450), Image.Resampling.LANCZOS))
    assert hamming(iscc_bits(image_code(large)), iscc_bits(image_code(half))) <= 8
    assert hamming(pdq_hash(large)[0], pdq_hash(half)[0]) <= 16


def test_the_image_code_is_that_of_the_normalisation_in_the_standard() -> None:
    """Against the reference steps on the same pixels: trim, grey, 32 x 32 bicubic, gen_image_code."""
    grey = Image.fromarray(scene()).convert("L").resize((32, 32), Image.Resampling.BICUBIC)
    assert image_code(scene()) == iscc_core.gen_image_code(list(grey.tobytes()), 256)["iscc"]


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (10, 200, 30)])
def test_an_even_border_does_not_change_the_image_code(colour: tuple[int, int, int]) -> None:
    framed = np.empty((230, 320, 3), np.uint8)
    framed[:] = colour
    framed[20:200, 50:290] = scene()
    assert image_code(framed) == image_code(scene())


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (3, 5), (600, 600)])
def test_flat_and_tiny_pictures_have_identifiers_of_no_quality(shape: tuple[int, int]) -> None:
    flat = np.full((*shape, 3), 77, np.uint8)
    prints = fingerprint(b"x", flat)
    assert prints.pdq_quality == 0
    assert len(iscc_bits(prints.iscc)) == 64


def test_bits_are_written_first_bit_first() -> None:
    assert bits("80f1") == "1000000011110001"
    assert bits("") == ""
    assert bits(pdq_hash(scene())[0]).count("1") == int(pdq_hash(scene())[0], 16).bit_count()


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_hamming_is_the_number_of_differing_bits(left: bytes, right: bytes) -> None:
    by_text = sum(a != b for a, b in zip(bits(left.hex()), bits(right.hex()), strict=True))
    assert hamming(left.hex(), right.hex()) == by_text == hamming(right.hex(), left.hex())


def test_hashes_of_different_length_are_not_compared() -> None:
    with pytest.raises(ValueError, match="lengths differ"):
        hamming("ff", "ffff")


@pytest.mark.parametrize(
    "text", ["", "nonsense", "ISCC:", fingerprint(b"x", scene()).iscc_instance, "ISCC:EEA4GQZQTY6J5DTH"]
)
def test_only_an_image_code_of_256_bits_has_image_bits(text: str) -> None:
    with pytest.raises(ValueError, match="ISCC"):
        iscc_bits(text)
