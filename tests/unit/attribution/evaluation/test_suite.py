"""What a result says of itself, as JSON and as a picture."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from attribution.evaluation import copy, suite
from attribution.evaluation.dataset import DatasetError, drawn
from attribution.evaluation.edits import EDITS
from attribution.evaluation.plots import svg
from attribution.evaluation.suite import OURS, Data, Figure, Options, Result, to_json


def figure(name: str, value: float, method: str = OURS, **more: object) -> Figure:
    return Figure(name=name, value=value, low=value / 2, high=(1 + value) / 2, n=40, method=method, **more)  # type: ignore[arg-type]


def result(*figures: Figure) -> Result:
    data = Data(name="atelier", works=24, artists=12, digest="0" * 64)
    return Result(suite="copy", figures=list(figures), data=data, seed=0, sample=None)


def test_a_run_says_with_what_and_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy, "MOST_SMALL", 2)
    monkeypatch.setattr(copy, "EDITS", {"flip": EDITS["flip"]})
    dataset = drawn(variants=1, size=64)
    seen: list[tuple[str, int, int]] = []
    options = Options(sample=12, progress=lambda *step: seen.append(step))
    found = suite.run("copy", dataset, {}, options, "lawful evaluate copy --sample 12")
    assert found.command == "lawful evaluate copy --sample 12"
    assert found.data.digest == dataset.sample(12, 0).digest
    assert found.seconds > 0
    assert found.versions["numpy"] == np.__version__
    assert {stage for stage, _, _ in seen} == {"indexing", "looking for copies"}
    assert json.loads(to_json(found))["machine"]["cores"] >= 1


def test_an_unknown_suite_is_refused_with_the_names_of_the_others() -> None:
    with pytest.raises(DatasetError) as refused:
        suite.run("luck", None, {}, Options(), "")
    assert refused.value.code == "no_suite"
    assert "copy" in refused.value.next_step


@pytest.mark.parametrize(
    ("value", "target", "at_most", "missed"),
    [(0.9, 0.97, False, True), (0.97, 0.97, False, False), (0.06, 0.05, True, True), (0.04, 0.05, True, False)],
)
def test_a_target_is_missed_from_its_own_side(value: float, target: float, at_most: bool, missed: bool) -> None:
    assert figure("x", value, target=target, at_most=at_most).missed is missed
    assert not figure("x", value).missed


def test_the_picture_names_every_figure_and_method() -> None:
    drawing = svg(
        result(
            figure("crop", 0.9, group="paintings", target=0.97),
            figure("crop", 0.5, "baseline: PDQ", group="paintings"),
            figure("crop", 0.4, group="emoji"),
            figure("seconds", 12.0, unit="s"),
        )
    )
    text = "".join(ET.fromstring(drawing).itertext())
    for word in ("crop", "paintings", "emoji", "baseline: PDQ", "24 works by 12 artists"):
        assert word in text
    assert "seconds" not in text


def test_the_same_result_gives_the_same_picture() -> None:
    assert svg(result(figure("crop", 0.9))) == svg(result(figure("crop", 0.9)))
    assert svg(result()).startswith("<?xml")
