"""What the code offers, the documentation names; what the documentation tells people to type exists."""

import re
import shlex
from pathlib import Path

import click
import pytest

import ledger
from ledger.cli import main
from ledger.commands.docs import REFERENCES
from ledger.settings import Settings
from ledger.web.app import create_app

ROOT = Path(ledger.__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def reference_text() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(REFERENCE.glob("*.md")))


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_the_reference_is_what_the_code_says(name: str) -> None:
    written = (REFERENCE / name).read_text(encoding="utf-8")
    assert written == REFERENCES[name](), "run: python -m ledger.commands.docs"


def commands(command: click.Command, path: str) -> dict[str, click.Command]:
    found = {path: command}
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            found |= commands(child, f"{path} {name}")
    return found


ALL = commands(main, "lawful")


@pytest.mark.parametrize("path", sorted(ALL))
def test_every_command_has_help_an_example_and_a_place_in_the_reference(path: str) -> None:
    command = ALL[path]
    assert command.help
    assert f"## {path}\n" in (REFERENCE / "cli.md").read_text(encoding="utf-8")
    if not isinstance(command, click.Group):
        assert (command.epilog or "").startswith("Example: lawful ")
        assert any("--json" in option.opts for option in command.params)


@pytest.mark.parametrize("path", sorted(path for path in ALL if not isinstance(ALL[path], click.Group)))
def test_the_examples_in_the_help_parse(path: str) -> None:
    assert_parses(str(ALL[path].epilog).removeprefix("Example: "))


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_explained(name: str) -> None:
    assert Settings.model_fields[name].description
    assert f"`LAWFUL_{name.upper()}`" in (REFERENCE / "settings.md").read_text(encoding="utf-8")


def test_every_error_code_is_listed() -> None:
    """Found by another way than the one that writes the page."""
    listed = set(re.findall(r"^\| `(\w+)`", (REFERENCE / "errors.md").read_text(encoding="utf-8"), re.MULTILINE))
    sources = [
        path for room in ("ledger", "models", "attribution", "migrations") for path in (ROOT / room).rglob("*.py")
    ]
    raised = {
        code
        for path in sources
        for code in re.findall(r"\bcode(?:: str)? ?= ?\"(\w+)\"", path.read_text(encoding="utf-8"))
    }
    assert len(raised) > 50
    assert raised - listed == set()


def test_every_route_is_documented() -> None:
    documented = reference_text()
    templates = {route.path for route in create_app(Settings(_env_file=None)).routes}
    shown = {
        re.sub(r"\{(\w+):\w+\}", r"{\1}", path) for path in templates if not path.startswith(("/static", "/schema"))
    }
    assert "/v1/verifications" in shown
    assert {path for path in shown if path not in documented} == set()


def typed_commands() -> list[tuple[str, str]]:
    """(page, command) for each line of a code block that starts with one of our commands."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                typed = line.strip().removeprefix("$ ")
                if re.match(r"(lawful|make) ", typed) and "[OPTIONS]" not in typed:
                    found.append((str(page.relative_to(ROOT)), typed.partition(" #")[0]))
    return found


@pytest.mark.parametrize(("page", "typed"), typed_commands())
def test_what_a_page_tells_people_to_type_exists(page: str, typed: str) -> None:
    if typed.startswith("make "):
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert {word for word in typed.split()[1:] if "=" not in word} <= set(targets)
    else:
        assert_parses(typed)


def assert_parses(typed: str) -> None:
    """As far as the command's own work: names, options and the number of arguments."""
    words = shlex.split(re.split(r" [|>] | && ", typed)[0])[1:]
    context = main.make_context("lawful", words)
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        context = command.make_context(name, rest, parent=context)
