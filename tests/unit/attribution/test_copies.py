"""Copies: found under edits, where they lie, not where there are none; and an index that refuses foreign files."""

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from attribution import copies, matching
from attribution.copies import CopyIndex, best_matches
from attribution.evaluation.edits import EDITS
from attribution.features import extract
from attribution.matching import Alignment
from models.atelier.collection import SUBJECTS, draw
from models.atelier.studios import STUDIOS

SIDE = 160
WORKS = [draw(studio.slug, subject, 0, SIDE) for studio in STUDIOS[:4] for subject in SUBJECTS[:6]]
STRANGERS = [draw(studio.slug, subject, 5, SIDE) for studio in STUDIOS[4:6] for subject in SUBJECTS[6:9]]


@pytest.fixture(scope="module")
def index() -> CopyIndex:
    return CopyIndex([extract(work) for work in WORKS])


@pytest.mark.parametrize("edit", sorted(set(EDITS) - {"four combined", "pasted at 25 % of the area"}))
def test_an_edited_work_is_found_first(index: CopyIndex, edit: str) -> None:
    rows = range(0, len(WORKS), 4)
    first = [index.find(np.ascontiguousarray(EDITS[edit](WORKS[row], np.random.default_rng(row)))) for row in rows]
    right = sum(bool(found) and found[0].row == row for row, found in zip(rows, first, strict=True))
    assert right >= len(rows) - 1


def test_the_matched_region_is_where_the_copy_lies(index: CopyIndex) -> None:
    sheet = np.full((2 * SIDE, 3 * SIDE, 3), 230, np.uint8)
    sheet[SIDE // 2 : SIDE // 2 + SIDE, SIDE : 2 * SIDE] = WORKS[0]
    best = index.find(sheet)[0]
    assert best.row == 0
    expected = np.array([[1 / 3, 1 / 4], [2 / 3, 1 / 4], [2 / 3, 3 / 4], [1 / 3, 3 / 4]])
    assert np.abs(best.alignment.of_image - expected).max() < 0.03
    assert np.abs(best.alignment.of_work - [[0, 0], [1, 0], [1, 1], [0, 1]]).max() < 0.05
    assert not best.alignment.mirrored


def test_a_mirror_image_is_found_and_said_to_be_one(index: CopyIndex) -> None:
    best = index.find(np.ascontiguousarray(WORKS[3][:, ::-1]))[0]
    assert best.row == 3
    assert best.alignment.mirrored
    corner = best.alignment.transform @ [SIDE - 1, 0, 1]
    assert np.abs(corner[:2] / corner[2]).max() < 3  # the image's right upper corner is the work's left upper one


def test_several_works_in_one_picture_are_all_found(index: CopyIndex) -> None:
    both = np.concatenate([WORKS[0], np.full((SIDE, 20, 3), 255, np.uint8), WORKS[8]], axis=1)
    assert {found.row for found in index.find(both)[:2]} == {0, 8}


def test_copies_score_above_everything_that_copies_nothing(index: CopyIndex) -> None:
    null = [
        match.score for match in best_matches(index, [(each, extract(each), None, None) for each in STRANGERS]) if match
    ]
    copies = [index.find(work)[0].score for work in WORKS[::5]]
    assert min(copies) > max(null)


def test_a_poor_copy_scores_above_a_drawing_of_the_same_family() -> None:
    """It shares all its details with the work but for one place, as the faces of one designer do."""
    index = CopyIndex([extract(WORKS[0])])
    sibling = WORKS[0].copy()
    sibling[SIDE // 3 : SIDE // 3 + SIDE // 6, SIDE // 2 : SIDE // 2 + SIDE // 6] = 255 - sibling[0, 0]
    poor = EDITS["JPEG-30"](WORKS[0], np.random.default_rng(0))
    copied, related = index.find(poor)[0], index.find(sibling)[0]
    assert copied.alignment.disagreement < 0.1 < related.alignment.disagreement
    assert copied.score > related.score


def test_a_hidden_work_is_not_looked_at(index: CopyIndex) -> None:
    hidden = np.zeros(len(WORKS), bool)
    hidden[2] = True
    assert all(found.row != 2 for found in index.find(WORKS[2], hidden=hidden))
    assert index.find(WORKS[2], hidden=np.ones(len(WORKS), bool)) == []


def test_the_same_work_twice_is_found_twice() -> None:
    twice = CopyIndex([extract(WORKS[0]), extract(WORKS[7]), extract(WORKS[0])])
    assert [found.row for found in twice.find(WORKS[0])[:2]] == [0, 2]


@pytest.mark.parametrize(
    "picture",
    [
        np.full((64, 64, 3), 9, np.uint8),
        np.zeros((8, 8, 3), np.uint8),
        np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8),
        np.random.default_rng(1).integers(0, 256, (40, 10_000, 3), dtype=np.uint8),
    ],
    ids=["one colour", "8 x 8", "noise", "panorama"],
)
def test_pictures_without_content_are_no_copies(index: CopyIndex, picture: np.ndarray) -> None:
    weakest = min(index.find(work)[0].score for work in WORKS[::8])
    assert all(found.score < weakest / 4 for found in index.find(picture))


def test_threads_are_kept_from_one_picture_to_the_next(index: CopyIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service examines for months, and every thread that ends leaves memory of its libraries behind."""
    seen: set[threading.Thread] = set()

    def align(*given: Any, **said: Any) -> Alignment | None:
        seen.add(threading.current_thread())
        return matching.align(*given, **said)

    monkeypatch.setattr(copies, "align", align)
    for work in WORKS[:6]:
        index.find(work)
    assert 0 < len(seen) <= cv2.getNumThreads()


def test_an_empty_index_finds_nothing() -> None:
    assert CopyIndex([]).find(WORKS[0]) == []


def test_copy_vectors_bring_works_into_the_shortlist() -> None:
    rows = np.eye(3, 4, dtype=np.float32)
    index = CopyIndex([extract(work) for work in WORKS[:3]], {"copy@1": rows})
    assert index.find(WORKS[1], {"copy@1": rows[1], "other@2": rows[0]})[0].row == 1


def test_vectors_that_do_not_fit_are_refused() -> None:
    features = [extract(WORKS[0])]
    with pytest.raises(ValueError, match="1 works"):
        CopyIndex(features, {"copy@1": np.zeros((2, 4), np.float32)})
    with pytest.raises(ValueError, match="not finite"):
        CopyIndex(features, {"copy@1": np.full((1, 4), np.nan, np.float32)})


def test_a_saved_index_answers_as_before(index: CopyIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "works.copies")
    again = CopyIndex.load(tmp_path / "works.copies")
    before, after = index.find(WORKS[5]), again.find(WORKS[5])
    assert [(f.row, f.score) for f in before] == [(f.row, f.score) for f in after]
    assert len(again) == len(WORKS)


@pytest.mark.parametrize("damage", ["foreign", "cut", "header", "words", "recipe", "empty"])
def test_a_damaged_index_file_is_refused(index: CopyIndex, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "works.copies"
    index.save(path)
    data = path.read_bytes()
    length = int.from_bytes(data[8:16], "little")
    bad = {
        "foreign": b"GIF89a" + data[6:],
        "cut": data[: len(data) // 2],
        "header": data[:16] + b"x" + data[17:],
        "words": data[: 16 + length + 100] + bytes([data[16 + length + 100] ^ 255]) + data[16 + length + 101 :],
        "recipe": data.replace(b'"method": "', b'"method": "0', 1)[: len(data)],
        "empty": b"",
    }[damage]
    path.write_bytes(bad)
    with pytest.raises(ValueError, match=r"works\.copies"):
        CopyIndex.load(path)
