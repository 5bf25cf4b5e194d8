"""What reports say of missed copies is what the run beside them measured."""

from pathlib import Path

import msgspec
import pytest

from attribution.evaluation.copy import IS_LARGE, TARGETS
from attribution.evaluation.suite import OURS, Result
from attribution.measured import MISSED

RUN = Path(__file__).parents[3] / "benchmarks" / "results" / "copy.json"


def test_the_miss_rates_are_those_of_the_run_that_is_kept() -> None:
    run = msgspec.json.decode(RUN.read_bytes(), type=Result)
    found = {
        figure.name: figure.value
        for figure in run.figures
        if figure.method == OURS and figure.group == f"paintings, {IS_LARGE}" and figure.name in TARGETS
    }
    assert pytest.approx({edit: 1 - value for edit, value in found.items()}, abs=1e-9) == MISSED
    assert MISSED.keys() == TARGETS.keys()
    assert run.sample is None, "measured on all works"
