"""docs/scale.md is what its script computes, from figures that stand where it says they do."""

import pytest

from benchmarks import scale
from benchmarks.scale import FIGURES, ROOT, Figure


def test_the_page_holds_the_tables_that_the_script_computes() -> None:
    page = scale.PAGE.read_text(encoding="utf-8")
    assert page == scale.filled(page), "run: python -m benchmarks.scale"
    assert page != scale.filled(page).replace("16,533", "16,534")


@pytest.mark.parametrize("figure", [each for each in FIGURES if each.measured], ids=lambda each: each.what)
def test_a_figure_stands_where_the_page_says(figure: Figure) -> None:
    assert figure.quote in " ".join((ROOT / figure.source).read_text(encoding="utf-8").split())


def test_every_other_figure_says_that_it_was_not_measured_here() -> None:
    others = [each for each in FIGURES if not each.measured]
    assert {each.source for each in others} == {"published", "assumed"}
    assert all(f"| **{each.source}**: {each.quote} |" in scale.figures() for each in others)
