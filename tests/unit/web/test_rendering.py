"""What the templates do to values: escaping, times, probabilities; and that every page stays within the policy."""

import re
from pathlib import Path

import jinja2
import pytest

from ledger import times
from ledger.web import app, documentation
from ledger.web.uploads import printable

TEMPLATES = sorted((app.HERE / "templates").glob("*.html"))


def test_everything_is_escaped_and_nothing_unknown_is_left_out_in_silence() -> None:
    environment = app.templates()
    assert environment.from_string("{{ x }}").render(x="<b>'\"") == "&lt;b&gt;&#39;&#34;"
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string("{{ y }}").render()


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("abc\u202egnp.exe", "abc[U+202E]gnp.exe"),
        ("\x00\x1b[2J", "[U+0000][U+001B][2J"),
        ("a\u200bb\ufeff", "a[U+200B]b[U+FEFF]"),
        ("two\r\nlines\tfar", "two\r\nlines\tfar"),
        ("\ud800", "[U+D800]"),
        ("می‌خواهم 👩‍🎨", "می‌خواهم 👩‍🎨"),
    ],
)
def test_characters_that_cannot_be_seen_are_shown_and_no_letter_of_any_script_is(hostile: str, shown: str) -> None:
    environment = app.templates()
    assert environment.from_string("{{ x }}").render(x=hostile) == shown
    assert environment.from_string("{{ x | sentence }}").render(x=hostile + " z") == app.sentence(f"{shown} z")


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_holds_a_script_or_inline_style_or_somebody_elses_address(template: Path) -> None:
    text = re.sub(r'<script src="/static/[a-z.-]+\.js" defer></script>', "", template.read_text())
    assert not re.search(r"<script|style=|<style|\bon[a-z]+=\"|\| *safe|Markup|autoescape|https?://", text)


def test_the_style_sheet_loads_nothing() -> None:
    assert not re.search(r"@import|url\(", (app.HERE / "static" / "style.css").read_text())


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "unknown"), (0.0022, "0.0022"), (0.04712, "0.047"), (1.0, "1"), (0.000001, "1e-06")]
)
def test_a_probability_has_two_digits_or_is_unknown(value: float | None, shown: str) -> None:
    assert app.probability(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(0.0, "0 %"), (0.004, "under 1 %"), (0.306, "31 %"), (1.0, "100 %")])
def test_a_share_never_pretends_to_be_nothing(value: float, shown: str) -> None:
    assert app.percent(value) == shown


def test_times_are_told_in_utc_whatever_the_server_thinks() -> None:
    assert times.moment("2026-03-01T00:30:00+02:00") == "28 February 2026, 22:30:00 UTC"
    assert times.day("2026-03-01T00:30:00+02:00") == "28 February 2026"
    assert times.day("2026-03-01") == "1 March 2026"


@pytest.mark.parametrize(("text", "shown"), [("it broke", "It broke."), ("It broke.", "It broke.")])
def test_a_sentence_ends_once(text: str, shown: str) -> None:
    assert app.sentence(text) == shown


def test_a_file_name_loses_its_folders_and_its_tricks() -> None:
    assert printable("../../etc/passwd\n", 200) == "passwd"
    assert printable("a\u202e\x00\u200bb.png", 200) == "ab.png"
    assert printable("x" * 300, 200) == "x" * 200


def test_the_documentation_follows_references_and_limits() -> None:
    schema = {
        "components": {"schemas": {"Wish": {"required": ["prompt"], "properties": {"prompt": {"type": "string"}}}}},
        "paths": {
            "/a/{id}": {
                "post": {
                    "tags": ["Writing"],
                    "summary": "Make",
                    "security": [{"key": []}],
                    "parameters": [
                        {"name": "wait", "in": "query", "schema": {"type": "number", "minimum": 0, "maximum": 60}}
                    ],
                    "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Wish"}}}},
                    "responses": {"201": {"description": "Made"}},
                }
            }
        },
    }
    ((group, (found,)),) = documentation.operations(schema)
    assert (group, found.method, found.anchor, found.needs_key) == ("Writing", "POST", "post-a-id", True)
    assert found.fields == [
        documentation.Field("wait", "query", False, "number from 0 to 60"),
        documentation.Field("prompt", "body", True, "string"),
    ]
