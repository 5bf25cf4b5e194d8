import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from attribution.errors import VectorError
from attribution.index import ExactIndex, Exhaustive, search_files
from attribution.ivf import FEWEST_WORKS, SUFFIX, Approximate, IvfIndex, code_size, index_over, recall_at_k
from attribution.vector_sets import VectorSet, open_set

ENCODER, DIM, WORKS = "clip@0123456789abcdef", 16, FEWEST_WORKS
CENTRES = 50


def clustered(count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(CENTRES, DIM))
    rows = centres[generator.integers(0, CENTRES, count)] + 0.3 * generator.normal(size=(count, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def stored(folder: Path, rows: np.ndarray, encoder: str = ENCODER) -> VectorSet:
    ids = [f"w{number:06}" for number in range(len(rows))]
    half = rows.astype("<f2")
    return open_set(folder, encoder, ids, lambda wanted: [half[[int(name[1:]) for name in wanted]]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ivf")


@pytest.fixture(scope="module")
def vectors(folder: Path) -> VectorSet:
    return stored(folder, clustered(WORKS, 1))


@pytest.fixture(scope="module")
def index(vectors: VectorSet) -> IvfIndex:
    return IvfIndex.build(vectors, lists=32, code_bytes=1, seed=3)


def test_most_of_the_true_neighbours_are_found_with_their_exact_scores(vectors: VectorSet, index: IvfIndex) -> None:
    asked = clustered(40, 2)
    truth, found = search_files(vectors, asked, 10), index.search(asked, 10)
    assert recall_at_k(truth, found, 10) >= 0.9
    assert np.allclose(
        found.scores, np.einsum("md,mkd->mk", asked, vectors.take(found.rows.ravel()).reshape(40, 10, DIM))
    )
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_looking_into_every_list_at_every_work_is_exact(vectors: VectorSet, index: IvfIndex) -> None:
    asked = clustered(3, 4)
    truth, found = search_files(vectors, asked, 5), index.search(asked, 5, probes=32, candidates=WORKS)
    assert (found.rows == truth.rows).all()
    assert (found.scores == truth.scores).all()


def test_an_approximate_answer_says_so_and_cannot_say_that_nothing_was_found(index: IvfIndex) -> None:
    found = index.search(clustered(2, 5), 3, probes=4)
    assert isinstance(found, Approximate)
    assert not isinstance(found, Exhaustive | tuple)
    assert not hasattr(found, "nothing_reaches")
    assert (found.probes, found.lists) == (4, 32)


def test_a_list_not_probed_is_a_work_not_found(vectors: VectorSet, index: IvfIndex) -> None:
    asked = clustered(60, 6)
    truth = search_files(vectors, asked, 10)
    few, more = (recall_at_k(truth, index.search(asked, 10, probes=probes), 10) for probes in (1, 16))
    assert few < more


def test_the_measured_recall_travels_with_the_answers_and_the_file(folder: Path, index: IvfIndex) -> None:
    assert index.search(clustered(1, 7), 3).recall is None
    measured = index.measured(queries=50)
    recall = measured.search(clustered(1, 7), 3).recall
    assert recall is not None
    assert 0.9 <= recall.value <= 1.0
    assert (recall.k, recall.queries) == (10, 50)
    name = measured.save(folder)
    assert measured.save(folder) == name
    again = IvfIndex.open(folder, name, measured.vectors)
    assert again.recall == recall
    asked = clustered(9, 8)
    for one, other in zip(
        dataclasses.astuple(measured.search(asked, 4)), dataclasses.astuple(again.search(asked, 4)), strict=True
    ):
        assert np.array_equal(one, other)


def test_an_index_lies_beside_its_files_and_is_built_once(tmp_path: Path) -> None:
    vectors = stored(tmp_path, clustered(WORKS, 1))
    index = IvfIndex.over(vectors)
    assert index.recall is not None
    (path,) = tmp_path.glob(f"*{SUFFIX}")
    written = path.stat().st_mtime_ns
    asked = clustered(9, 8)
    again = IvfIndex.over(stored(tmp_path, clustered(WORKS, 1)))
    assert path.stat().st_mtime_ns == written
    assert again.recall == index.recall
    assert (again.search(asked, 4).rows == index.search(asked, 4).rows).all()


def test_works_added_later_are_found_without_training_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = clustered(5, 9)
    every = np.concatenate([clustered(WORKS, 1), late])
    old = IvfIndex.over(stored(tmp_path, every[:WORKS]))
    monkeypatch.setattr(IvfIndex, "build", lambda *_: pytest.fail("trained again"))
    index = IvfIndex.over(stored(tmp_path, every))
    assert (index.search(late, 1).rows[:, 0] == np.arange(WORKS, WORKS + 5)).all()
    assert len(old) == WORKS
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) == 1


def test_after_works_have_left_an_index_is_built_anew(tmp_path: Path) -> None:
    vectors = stored(tmp_path, clustered(WORKS + 1, 1))
    IvfIndex.over(vectors)
    fewer = vectors.only(np.arange(WORKS + 1) != 3)
    index = IvfIndex.over(fewer)
    asked = fewer.take(np.array([3, 4]))
    assert index.search(asked, 1).rows[:, 0].tolist() == [3, 4]


def test_a_damaged_index_is_said_so_and_built_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vectors = stored(tmp_path, clustered(WORKS, 1))
    index = IvfIndex.over(vectors)
    (path,) = tmp_path.glob(f"*{SUFFIX}")
    path.write_bytes(path.read_bytes()[:-1])
    again = IvfIndex.over(vectors)
    assert "vectors_cut_short" in caplog.text
    assert again.recall == index.recall


def test_what_fits_is_searched_exactly_and_what_does_not_is_not(vectors: VectorSet) -> None:
    assert isinstance(index_over(clustered(50, 1)), ExactIndex)
    assert isinstance(index_over(vectors.only(np.arange(len(vectors)) < 100)), ExactIndex)
    if not torch.cuda.is_available():
        assert isinstance(index_over(vectors), IvfIndex)


def test_the_same_set_and_seed_give_the_same_index(vectors: VectorSet, index: IvfIndex) -> None:
    asked = clustered(5, 10)
    again = IvfIndex.build(vectors, lists=32, code_bytes=1, seed=3).search(asked, 5)
    assert (again.rows == index.search(asked, 5).rows).all()


@pytest.mark.parametrize(
    ("place", "code"), [(100, "vectors_altered"), (5000, "vectors_altered"), (None, "vectors_cut_short")]
)
def test_a_damaged_file_never_reaches_faiss(folder: Path, index: IvfIndex, place: int | None, code: str) -> None:
    name = index.save(folder)
    path = folder / f"{name}{SUFFIX}"
    data = bytearray(path.read_bytes())
    if place is None:
        data = data[:-1]
    else:
        data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(VectorError) as caught:
        IvfIndex.open(folder, name, index.vectors)
    assert caught.value.code == code


def test_an_index_is_of_one_state_of_the_collection(folder: Path, vectors: VectorSet, index: IvfIndex) -> None:
    name = index.save(folder)
    with pytest.raises(VectorError, match="another state"):
        IvfIndex.open(folder, name, vectors.only(np.arange(WORKS) != 1))
    with pytest.raises(VectorError) as caught:
        IvfIndex.open(folder, "0" * 64, vectors)
    assert caught.value.code == "vectors_missing"


def test_what_cannot_be_searched_is_refused(index: IvfIndex) -> None:
    few = index.vectors.only(np.arange(WORKS) < 2)
    with pytest.raises(VectorError, match="too few"):
        IvfIndex.build(few)
    with pytest.raises(VectorError, match="width 16"):
        IvfIndex.build(index.vectors, code_bytes=3)
    for query in (np.full((1, DIM), np.nan, np.float32), np.ones((1, 3), np.float32)):
        with pytest.raises(ValueError, match="finite"):
            index.search(query, 3)


@pytest.mark.parametrize(("dim", "size"), [(16, 2), (128, 16), (512, 64), (768, 48), (1024, 64), (3200, 50), (7, 7)])
def test_codes_are_short_and_divide_the_width(dim: int, size: int) -> None:
    assert code_size(dim) == size
    assert dim % size == 0
