"""Works that stand in a collection twice: found, left out of calibration, and no cover for other copies."""

import numpy as np
import pytest

from attribution.copies import CopyIndex
from attribution.copy_null import Query, against_background, against_itself, same_pixels_twice
from attribution.features import extract
from models.atelier.collection import SUBJECTS, draw
from models.atelier.planted import PLANTED, Planted
from models.atelier.studios import STUDIOS

SIDE = 160
HANDS = {studio.slug: number for number, studio in enumerate(STUDIOS)}
WORKS = [(studio.slug, SUBJECTS[0], variant) for studio in STUDIOS for variant in range(2)]
PICTURES = [draw(*work, SIDE) for work in WORKS]
ARTISTS = np.array([HANDS[studio] for studio, _, _ in WORKS])

Collection = tuple[CopyIndex, list[Query], np.ndarray]
Scored = tuple[np.ndarray, list[int], np.ndarray]


@pytest.fixture(scope="module")
def drawn_apart() -> Collection:
    return collection()


@pytest.fixture(scope="module")
def scored_apart(drawn_apart: Collection) -> Scored:
    return against_itself(*drawn_apart, np.zeros(len(WORKS), bool))


def collection(*planted: Planted) -> Collection:
    """Drawn works, and after them those that stand under another studio's name."""
    copies = [each.change(draw(each.of, each.subject, each.variant, SIDE)) for each in planted]
    artists = np.append(ARTISTS, [HANDS[each.under] for each in planted]).astype(np.int64)
    pictures = [*PICTURES, *copies]
    features = [extract(picture) for picture in pictures]
    return CopyIndex(features), [Query(row, pictures[row], features[row], {}) for row in range(len(pictures))], artists


def test_nothing_stands_twice_among_works_that_were_drawn_apart(scored_apart: Scored) -> None:
    scores, rows, twice = scored_apart
    assert not twice.any()
    assert rows == list(range(len(WORKS)))
    assert scores.shape == (len(WORKS),)


@pytest.mark.parametrize("change", sorted({each.change.__name__ for each in PLANTED}))
def test_a_work_under_a_second_name_is_no_evidence_of_what_copies_nothing(change: str, scored_apart: Scored) -> None:
    named = next(each for each in PLANTED if each.change.__name__ == change)
    planted = Planted(named.of, SUBJECTS[0], 0, named.under, named.change)
    index, queries, artists = collection(planted)
    scores, rows, twice = against_itself(index, queries, artists, np.zeros(len(artists), bool))
    original = WORKS.index((planted.of, planted.subject, planted.variant))
    assert np.flatnonzero(twice).tolist() == [original, len(WORKS)]
    assert set(rows) == set(range(len(WORKS))) - {original}
    assert scores.max() <= scored_apart[0].max()


def test_the_same_pixels_under_two_artists_are_known_without_looking() -> None:
    artists, pictures = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 2, 2])
    assert same_pixels_twice(artists, pictures).tolist() == [False, True, True, True, True]
    assert not same_pixels_twice(np.array([0, 0]), np.array([5, 5])).any()


def test_what_is_known_to_stand_twice_is_neither_asked_nor_found(drawn_apart: Collection) -> None:
    index, queries, artists = drawn_apart
    known = np.zeros(len(artists), bool)
    known[[0, 3]] = True
    _, rows, twice = against_itself(index, queries, artists, known)
    assert twice[[0, 3]].all()
    assert not {0, 3} & set(rows)
    assert known.sum() == 2, "the caller's own is not changed"


def test_a_background_work_that_stands_in_the_collection_is_not_asked(drawn_apart: Collection) -> None:
    index, queries, _ = drawn_apart
    stranger = draw(STUDIOS[0].slug, SUBJECTS[5], 9, SIDE)
    asked = [queries[4], Query(7, stranger, extract(stranger), {})]
    scores, rows = against_background(index, asked)
    assert rows == [7]
    assert scores.shape == (1,)
