import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attribution.errors import VectorError
from attribution.vector_files import (
    HEADER_BYTES,
    MAGIC,
    SUFFIX,
    Header,
    Segment,
    as_names,
    header_block,
    open_segment,
    write_segment,
)

ENCODER = "clip@0123456789abcdef"
SAME_FOLDER = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ids_of_works = st.lists(
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=12),
    min_size=1,
    max_size=12,
    unique=True,
)


def rows(count: int, dim: int = 5, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def stored(folder: Path, ids: list[str], vectors: np.ndarray, each: int = 3) -> str:
    """The file's name; rows are handed over a few at a time."""
    with np.errstate(over="ignore"):
        half = vectors.astype("<f2")
    return write_segment(
        folder, ENCODER, as_names(ids), (half[first : first + each] for first in range(0, len(half), each))
    )


def written(folder: Path, count: int = 7) -> Path:
    return folder / f"{stored(folder, [f'work {number}' for number in range(count)], rows(count))}{SUFFIX}"


def opened(path: Path) -> Segment:
    return open_segment(path.parent, path.stem, encoder=ENCODER)


def forged(folder: Path, ids: list[str], vectors: np.ndarray) -> Path:
    """A file whose digests are all right, by a program that does not keep the rules."""
    names = np.array([name.encode() for name in ids], np.bytes_)
    section = names.tobytes().ljust(-(-names.nbytes // 64) * 64, b"\0")
    body = vectors.astype("<f2").tobytes()
    header = Header(
        encoder=ENCODER,
        dim=vectors.shape[1],
        rows=len(ids),
        id_bytes=names.dtype.itemsize,
        ids_sha256=hashlib.sha256(section).hexdigest(),
        vectors_sha256=hashlib.sha256(body).hexdigest(),
    )
    first = header_block(MAGIC, header)
    path = folder / f"{first[-32:].hex()}{SUFFIX}"
    path.write_bytes(first + section + body)
    return path


@SAME_FOLDER
@given(ids_of_works, st.integers(1, 20), st.integers(0, 9))
def test_what_is_written_is_read_however_it_was_parted(tmp_path: Path, ids: list[str], dim: int, seed: int) -> None:
    ids = sorted(ids, key=str.encode)
    vectors = rows(len(ids), dim, seed)
    name = stored(tmp_path, ids, vectors)
    assert stored(tmp_path, ids, vectors, each=1000) == name
    segment = open_segment(tmp_path, name, encoder=ENCODER)
    kept = dict(zip([name.decode() for name in segment.ids.tolist()], segment.vectors, strict=True))
    assert list(kept) == ids
    assert all((kept[name] == row.astype(np.float16)).all() for name, row in zip(ids, vectors, strict=True))
    assert segment.find(segment.ids[::-1]).tolist() == list(range(len(ids)))[::-1]
    assert segment.find(np.array([b"no such work"])).tolist() == [-1]
    assert not list(tmp_path.glob("*.partial"))


@SAME_FOLDER
@given(st.integers(0, 10_000))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: cut % len(data)])
    with pytest.raises(VectorError) as caught:
        opened(path)
    assert caught.value.code == "vectors_cut_short"


@SAME_FOLDER
@given(st.integers(0, HEADER_BYTES * 8 - 1))
def test_a_bit_flipped_in_the_first_block_is_always_noticed(tmp_path: Path, bit: int) -> None:
    path = written(tmp_path)
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    with pytest.raises(VectorError) as caught:
        opened(path)
    assert caught.value.code in {"vectors_foreign", "vectors_altered"}


@SAME_FOLDER
@given(st.integers(0, 100_000))
def test_a_bit_flipped_behind_it_is_noticed_too(tmp_path: Path, bit: int) -> None:
    path = written(tmp_path)
    data = bytearray(path.read_bytes())
    place = HEADER_BYTES * 8 + bit % ((len(data) - HEADER_BYTES) * 8)
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)
    with pytest.raises(VectorError) as caught:
        opened(path)
    assert caught.value.code in {"vectors_altered", "vectors_out_of_order"}


@pytest.mark.parametrize("more", [b"\0", b"another row"])
def test_bytes_behind_the_last_row_are_refused(tmp_path: Path, more: bytes) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes() + more)
    with pytest.raises(VectorError, match="behind the last row"):
        opened(path)


def test_a_file_under_another_files_name_is_refused(tmp_path: Path) -> None:
    path, other = written(tmp_path), written(tmp_path, count=3)
    path.replace(other)
    with pytest.raises(VectorError, match="not what its name says"):
        opened(other)


def test_vectors_of_another_encoder_are_refused_with_both_names(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(VectorError, match=r"clip@0123456789abcdef.*csd@f00") as caught:
        open_segment(path.parent, path.stem, encoder="csd@f00")
    assert caught.value.code == "vectors_of_another_encoder"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 70_000.0])
def test_values_that_are_none_are_neither_written_nor_read(tmp_path: Path, value: float) -> None:
    vectors = rows(4)
    vectors[2, 1] = value
    with pytest.raises(VectorError, match="not finite") as caught:
        stored(tmp_path, list("abcd"), vectors)
    assert caught.value.code == "vectors_not_finite"
    assert not list(tmp_path.iterdir())
    with np.errstate(over="ignore"), pytest.raises(VectorError, match="not finite"):
        opened(forged(tmp_path, list("abcd"), vectors))


@pytest.mark.parametrize("ids", [["a", "c", "b"], ["a", "b", "b"]], ids=["out of order", "twice"])
def test_a_file_with_ids_out_of_order_is_refused(tmp_path: Path, ids: list[str]) -> None:
    with pytest.raises(VectorError) as caught:
        opened(forged(tmp_path, ids, rows(3)))
    assert caught.value.code == "vectors_out_of_order"


@pytest.mark.parametrize(
    ("ids", "code"),
    [
        (["a", "a"], "vectors_out_of_order"),
        (["b", "a"], "vectors_out_of_order"),
        (["a", ""], "vectors_work_id"),
        (["a", "b\0"], "vectors_work_id"),
        (["a", "b" * 256], "vectors_work_id"),
        (["a"], "vectors_shape"),
    ],
    ids=["twice", "out of order", "empty", "nul", "long", "too few"],
)
def test_ids_that_name_no_work_are_not_written(tmp_path: Path, ids: list[str], code: str) -> None:
    with pytest.raises(VectorError) as caught:
        stored(tmp_path, ids, rows(2))
    assert caught.value.code == code
    assert not list(tmp_path.iterdir())


def test_a_header_of_a_later_form_is_foreign_and_no_crash(tmp_path: Path) -> None:
    text = b'{"encoder":"x","dim":-3}'
    block = (MAGIC + len(text).to_bytes(4, "big") + text).ljust(HEADER_BYTES - 32, b"\0")
    digest = hashlib.sha256(block).digest()
    path = tmp_path / f"{digest.hex()}{SUFFIX}"
    path.write_bytes(block + digest)
    with pytest.raises(VectorError) as caught:
        opened(path)
    assert caught.value.code == "vectors_foreign"


def test_a_file_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(VectorError) as caught:
        open_segment(tmp_path, "0" * 64, encoder=ENCODER)
    assert caught.value.code == "vectors_missing"
    assert isinstance(caught.value, ValueError)
