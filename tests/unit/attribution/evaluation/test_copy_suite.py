"""The copy suite on a few of the atelier's works: what it reports, and that chance and threads change nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from attribution import processes
from attribution.evaluation import copy
from attribution.evaluation.dataset import Dataset, drawn
from attribution.evaluation.edits import EDITS
from attribution.evaluation.suite import OURS, SHUFFLED, Figure, Options, Result
from models.networks import Encoder, NetworkInfo


class Thumbnail:
    """An encoder without weights whose vectors are evidence for copies: 8 x 8 grey pixels."""

    name, dim, axes = "thumbnail", 64, frozenset({"copy"})
    info = NetworkInfo("thumbnail", "1", "0" * 64, "Apache-2.0")

    def encode(self, images: Sequence[np.ndarray]) -> np.ndarray:
        small = [np.asarray(Image.fromarray(image).convert("L").resize((8, 8)), np.float32).ravel() for image in images]
        rows = np.array(small, np.float32).reshape(-1, 64) + 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


EDITED = ("10 % border", "flip")


def works() -> Dataset:
    return drawn(variants=1, size=256, studios=("aspen", "bramble", "gable", "kelp")).sample(8, seed=0)


def run(few: int = 1000, encoders: Mapping[str, Encoder] | None = None, **options: object) -> Result:
    """Two works under two edits, and beside each other; from `few` on, processes are started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copy, "MOST_LARGE", 2)
        patch.setattr(processes, "FEW", few)
        patch.setattr(copy, "EDITS", {name: EDITS[name] for name in EDITED})
        used = {"thumbnail": Thumbnail()} if encoders is None else encoders
        return copy.evaluate(works(), used, Options(**options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def result() -> Result:
    return run()


def of(result: Result, method: str, name: str) -> Figure:
    (found,) = [figure for figure in result.figures if (figure.method, figure.name) == (method, name)]
    return found


def test_a_framed_work_is_found_and_a_label_by_lot_is_not(result: Result) -> None:
    assert of(result, OURS, "10 % border").value == 1
    assert of(result, SHUFFLED, "10 % border").value == 0
    assert of(result, OURS, "10 % border").target == 0.97
    assert of(result, OURS, "10 % border").group == "atelier, from 200 px"


def test_every_method_has_its_false_positive_rate_measured(result: Result) -> None:
    rates = [figure for figure in result.figures if figure.name == "false-positive rate"]
    assert len({figure.method for figure in rates}) == len(rates) == 4
    assert {figure.n for figure in rates} == {6}


def test_a_threshold_is_found_on_the_other_half_of_the_works() -> None:
    false = np.array([1.0, 2.0, 3.0, 10.0, 20.0, 30.0])
    assert copy._thresholds(false, np.array([0, 0, 0, 1, 1, 1])).tolist() == [30.0, 3.0]


def test_a_baseline_that_ignores_the_mirror_does_not_find_a_flip(result: Result) -> None:
    assert of(result, "baseline: PDQ", "flip").value < of(result, "baseline: colour histogram", "flip").value


def test_every_figure_has_its_interval(result: Result) -> None:
    for figure in result.figures:
        assert 0 <= figure.low <= figure.value <= figure.high <= 1
        assert figure.n > 0


def test_a_file_under_two_names_is_one_right_answer() -> None:
    given = works()
    twice = replace(given, items=(*given.items, replace(given.items[0], name="the same file")))
    query = copy.Query(0, "flip", half=0, compared=True)
    answer = copy._Labels(twice, [query], 0).answer(query, np.arange(len(twice.items), dtype=float))
    assert answer.own == len(twice.items) - 1
    assert sum(right for _, right in answer.best) == 1


@pytest.mark.slow
def test_neither_processes_nor_repetition_change_a_figure() -> None:
    assert run(few=1, encoders={}, processes=2) == run(encoders={})


def test_a_query_depends_on_its_own_work_alone() -> None:
    dataset = works()
    query = copy.Query(3, "10 % border", half=0, compared=True)
    there = copy.edited(dataset.items, query, 0)
    moved = copy.edited(dataset.items[3:], copy.Query(0, "10 % border", half=1, compared=False), 0)
    assert np.array_equal(there, moved)
    assert not np.array_equal(there, copy.edited(dataset.items, query, 1))
