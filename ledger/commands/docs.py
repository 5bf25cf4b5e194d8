"""Writes docs/reference from the code: `python -m ledger.commands.docs`. A test compares them."""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
from litestar.routes import BaseRoute, HTTPRoute
from pydantic_core import PydanticUndefined

from ledger.cli import main
from ledger.commands import frame
from ledger.commands.error_codes import ROOT, error_codes
from ledger.reports.claim_schema import claim_report_schema
from ledger.reports.schema import report_schema
from ledger.settings import Settings
from ledger.web.access import ACCESS
from ledger.web.app import create_app

WRITTEN = "<!-- Written by `python -m ledger.commands.docs`; change the code, not this file. -->"


def cli_reference() -> str:
    """Every command with its help, options and example."""
    root = click.Context(main, info_name="lawful")
    about = (inspect.getdoc(frame) or "").partition("\n\n")[2]
    parts = [f"# The command line\n\n{WRITTEN}\n\n{about}", *_command(main, root)]
    return "\n\n".join(parts) + "\n"


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"## {context.command_path}\n\n```\n{usage}\n```\n\n{inspect.cleandoc(command.help or '')}"
    rows = [_option(param, context) for param in command.params if isinstance(param, click.Option) and not param.hidden]
    if rows:
        yield "\n".join(["| option | meaning |", "|---|---|", *rows])
    if command.epilog:
        yield command.epilog.replace("Example: ", "Example: `") + (
            "`" if command.epilog.startswith("Example: ") else ""
        )
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _command(child, click.Context(child, info_name=name, parent=context))


def _option(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" `{option.make_metavar(context)}`"
    needed = " Required." if option.required else ""
    shown = option.show_default and option.default not in (None, False, True)
    default = f" Default: `{option.default}`." if shown else ""
    return f"| {names}{value} | {_cell(option.help or '')}{needed}{default} |"


def settings_reference() -> str:
    """Every setting with its environment variable, default and meaning."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if default in (None, PydanticUndefined, []) else f"`{default}`".replace(str(Path.home()), "~")
        rows.append(f"| `{name}` | `LAWFUL_{name.upper()}` | {shown} | {_cell(field.description or '')} |")
    head = (
        f"# Settings\n\n{WRITTEN}\n\nEach is a line in a file `.env` in the current folder, an environment variable, or"
        " `lawful --set name=value …` for one command; the last of these that is given counts. Lists are JSON. Secrets"
        " belong in the environment or `.env`: others on the machine can read a command line."
    )
    return "\n".join([f"{head}\n", "| setting | environment | default | meaning |", "|---|---|---|---|", *rows]) + "\n"


def errors_reference() -> str:
    """Every error code with its HTTP status, what it means and what to do."""
    head = (
        f"# Error codes\n\n{WRITTEN}\n\nEvery error has a stable code, a sentence and a next step: on the command line"
        " as `error: … [code]`, with `--json` under `error`, over HTTP as `application/problem+json`. Below, … stands"
        " for what is filled in. Codes without a status are listed beside other results, or have their cause's."
    )
    rows = [
        f"| `{each.code}` | {each.status or ''} | {_cell(each.meaning)} | {_cell(each.next_step)} |"
        for each in error_codes()
    ]
    return "\n".join([f"{head}\n", "| code | HTTP | what it says | next step |", "|---|---|---|---|", *rows]) + "\n"


def http_reference() -> str:
    """Every route with its method and what it is for; the whole schema is served at /schema/openapi.json."""
    head = (
        f"# HTTP\n\n{WRITTEN}\n\nPrograms read the whole schema, with every field, at `/schema/openapi.json`; people at"
        " `/docs`. Where a role is named, `Authorization: Bearer <key>` takes"
        " a key of it; the rest is open to anybody. Errors are `application/problem+json` with the"
        " codes of [errors.md](errors.md)."
    )
    rows = [row for route in create_app(frame.Invocation(None, ()).settings()).routes for row in _route(route)]
    return "\n".join([f"{head}\n", "| request | whose key | what it is for |", "|---|---|---|", *sorted(rows)]) + "\n"


def _route(route: BaseRoute) -> Iterator[str]:
    if not isinstance(route, HTTPRoute) or route.path.startswith(("/static", "/schema")):
        return
    path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
    for handler in route.route_handlers:
        for method in sorted(handler.http_methods - {"OPTIONS", "HEAD"}):
            described = inspect.getdoc(getattr(handler.fn, "func", handler.fn)) or ""
            about = " ".join(part.rstrip(".") + "." for part in (handler.summary, described) if part)
            access = ACCESS[method, route.path_format]
            who = "" if access.public else ", ".join(sorted(access.keys)) or f"an auditor's token: {access.scope}"
            yield f"| `{method} {path}` | {who} | {_cell(about)} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def report_reference() -> str:
    """JSON Schema of the canonical report."""
    return json.dumps(report_schema(), indent=1, ensure_ascii=False) + "\n"


def claim_report_reference() -> str:
    """The JSON Schema of the report on a claim."""
    return json.dumps(claim_report_schema(), indent=1, ensure_ascii=False) + "\n"


REFERENCES = {
    "report.schema.json": report_reference,
    "claim-report.schema.json": claim_report_reference,
    "cli.md": cli_reference,
    "settings.md": settings_reference,
    "errors.md": errors_reference,
    "http.md": http_reference,
}
FOLDER = ROOT / "docs" / "reference"


def write() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, reference in REFERENCES.items():
        (FOLDER / name).write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    write()
