"""Hostile and foreign text on a report's pages: shown, or told by its code points, and never in the way."""

import json

import pytest
import typst
from fontTools.ttLib import TTFont
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.reports.lettering import FONTS, MOST, RUN, TEXT, shown
from ledger.reports.render import STANDARD, TEMPLATE


def points(ranges: str) -> set[int]:
    spans = [each.partition("-") for each in ranges.split()]
    return {point for low, _, high in spans for point in range(int(low, 16), int(high or low, 16) + 1)}


def test_the_list_of_characters_is_what_the_fonts_have() -> None:
    listed = json.loads((FONTS / "coverage.json").read_text(encoding="ascii"))
    fonts = {path.name: TTFont(path, lazy=True) for path in FONTS.glob("*.ttf")}
    assert set(listed) == set(fonts)
    for name, font in fonts.items():
        assert points(listed[name]) == set(font.getBestCmap()), name
    for bold in ("NotoSans-Bold.ttf", "NotoSans-Italic.ttf"):
        assert listed[bold] == listed[TEXT]


def test_every_family_is_one_that_the_template_asks_for() -> None:
    families = {str(TTFont(path, lazy=True)["name"].getDebugName(1)) for path in FONTS.glob("*.ttf")}
    assert {family for family in families if f'"{family}"' not in TEMPLATE.read_text(encoding="utf-8")} == set()


@pytest.mark.parametrize(
    "text",
    ["Käthe Kollwitz", "Ελένη", "Анна", "葛飾北斎", "김민서", "नमस्ते", "ไทย", "Ա Ბ", "e\u0301"],
)  # fmt: skip
def test_names_of_many_scripts_are_shown_as_they_are(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x00b", "a[U+0000]b"),
        ("\u202egnp.exe", "[U+202E]gnp.exe"),
        ("line\nbreak", "line[U+000A]break"),
        ("\u200bempty\ufeff", "[U+200B]empty[U+FEFF]"),
        ("😀", "[U+1F600]"),
        ("x\u20dd", "[U+0078][U+20DD]"),
        ("\ud800", "[U+D800]"),
    ],
)
def test_what_no_font_has_or_what_acts_on_its_neighbours_is_told_by_its_code_point(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_text_from_right_to_left_is_closed_off_from_what_stands_around_it() -> None:
    assert shown("by ليلى حداد (p = 1)") == "by \u2067ليلى حداد\u2069 (p = 1)"


def test_a_long_name_is_cut_and_can_be_broken() -> None:
    said = shown("w" * 1000)
    assert said.replace("\u200b", "") == "w" * MOST + "…"
    assert max(map(len, said.split("\u200b"))) <= RUN + 1


@settings(max_examples=60)
@given(st.text(st.characters(), max_size=60))
def test_whatever_a_stranger_writes_can_be_typeset_in_pdf_a(text: str) -> None:
    """PDF/A refuses a character that no font has; Typst then gives no document at all."""
    source = f'#set document(title: [t])\n#set text({font_list()}, lang: "en")\n= T\n#sys.inputs.text'
    fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[FONTS])
    pdf = typst.compile(
        source.encode(), font_paths=fonts, pdf_standards=STANDARD, sys_inputs={"text": shown(text)}, timestamp=0
    )
    assert pdf.startswith(b"%PDF-1.7")


def font_list() -> str:
    template = TEMPLATE.read_text(encoding="utf-8")
    start = template.index("font: (")
    return template[start : template.index("),", start) + 1]
