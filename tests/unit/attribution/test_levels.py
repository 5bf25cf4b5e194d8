"""One error rate for all axes together: simulated under the null, it holds; and more calibration never asks less."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.evidence import ArtistFinding, CalibrationNote, CopyAxis, Evidence, NeighbourAxis, StyleAxis
from attribution.levels import AxisTest, askable, axis_tests, holm

P = st.floats(0, 1)


def test_at_most_a_part_alpha_of_images_that_owe_nothing_gets_any_finding() -> None:
    rng = np.random.default_rng(0)
    alpha, trials = 0.05, 4000
    independent = rng.uniform(size=(trials, 3))
    alike = np.repeat(rng.uniform(size=(trials, 1)), 3, axis=1)
    for p_values in (independent, alike):
        wrong = sum(bool(holm(dict(enumerate(map(float, row))), alpha)) for row in p_values)  # type: ignore[arg-type]
        assert wrong / trials <= alpha + 3 * (alpha / trials) ** 0.5
    wrong = sum(bool(holm(dict(enumerate(map(float, row))), alpha)) for row in independent)  # type: ignore[arg-type]
    assert wrong / trials > alpha / 2, "and it is not so strict that nothing is ever found"


def test_a_strong_axis_leaves_the_others_more_room() -> None:
    assert holm({"copy": 0.03}, 0.05) == {"copy"}
    assert holm({"copy": 0.03, "style": 0.04}, 0.05) == set()
    assert holm({"copy": 0.03, "style": 0.001}, 0.05) == {"copy", "style"}


@given(st.dictionaries(st.sampled_from("abcd"), P), st.floats(0.001, 0.2))
def test_what_bonferroni_finds_holm_finds_and_never_beyond_alpha(p_values: dict[str, float], alpha: float) -> None:
    stand = holm(p_values, alpha)
    assert {axis for axis, p in p_values.items() if p <= alpha / len(p_values)} <= stand
    assert all(p_values[axis] <= alpha * (1 + 1e-9) for axis in stand)


@pytest.mark.parametrize(
    ("sizes", "asked"),
    [
        ({"copy": 299, "style": 299, "content": 299}, ["copy", "style", "content"]),
        ({"copy": 298, "style": 298, "content": 298}, ["copy", "style"]),
        ({"copy": 150, "style": 5000, "content": 5000}, ["style", "content"]),
        ({"copy": 98, "style": 98}, []),
        ({"style": 99}, ["style"]),
        ({}, []),
    ],
)
def test_as_many_axes_are_asked_as_their_calibration_allows(sizes: dict[str, int], asked: list[str]) -> None:
    known = {axis: AxisTest(p=1.0, reach=1 / (n + 1), n=n) for axis, n in sizes.items()}
    assert askable(known, 0.01) == asked


@given(st.dictionaries(st.sampled_from("abc"), st.tuples(P, st.integers(0, 2000)), min_size=1), P)
def test_which_axes_are_asked_never_depends_on_the_image(known: dict[str, tuple[float, int]], other: float) -> None:
    one = {axis: AxisTest(p, 1 / (n + 1), n) for axis, (p, n) in known.items()}
    two = {axis: AxisTest(other, 1 / (n + 1), n) for axis, (_, n) in known.items()}
    assert askable(one, 0.01) == askable(two, 0.01)


def test_every_encoder_of_content_is_one_more_chance() -> None:
    note = CalibrationNote(n=999, method="m", smallest_p=0.001, text="t")
    content = NeighbourAxis(encoder="e", axes=["content"], calibration=note)
    style = NeighbourAxis(encoder="e", axes=["style"], calibration=note)
    unrated = NeighbourAxis(encoder="e", axes=["content"])
    evidence = Evidence(statement="", neighbours={"a": content, "b": content, "c": unrated, "d": style})
    assert axis_tests(evidence) == {"content": AxisTest(p=1.0, reach=0.002, n=999, chances=2)}


def test_an_axis_without_an_error_rate_is_no_test() -> None:
    hand = ArtistFinding(artist_id="a", artist="A", share=1.0, p_value=0.0001)
    evidence = Evidence(
        statement="",
        copy=CopyAxis(method="m", searched=3),
        style=StyleAxis(method="m", artists=[hand], none_of_these=0.0),
    )
    assert axis_tests(evidence) == {}
