"""`lawful demo`: shows what `ledger.demo` does, as one table."""

import contextlib
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click
import rich_click
from rich.table import Table
from rich.text import Text

from ledger.commands.checking import BAD, GOOD
from ledger.commands.frame import Invocation, answer_json, err, json_option, out, resume_with, shown

if TYPE_CHECKING:
    from ledger.demo import Summary

QUESTIONS = ("credential", "content", "signature", "signer", "ingredients", "ledger")


@rich_click.command(epilog="Example: lawful demo --no-serve")
@rich_click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Where it goes.",
)
@rich_click.option("--serve/--no-serve", default=None, help="Keep the page up afterwards; unset: on a terminal, yes.")
@json_option
@click.pass_obj
def demo(invocation: Invocation, folder: Path, serve: bool | None, as_json: bool) -> None:
    """Found a ledger, index a collection, make an image, and see what the ledger says of it and of its copies.

    Leaves generated.png, report.pdf, report.json and summary.json in the folder. Needs no GPU, no server, no account.
    Run again, it goes on with the same ledger.
    """
    from ledger.demo import demo as play

    if serve is None:
        serve = sys.stdout.isatty()
    resume_with("everything is stopped; run it again to go on with the same ledger")
    with play(folder, invocation, lambda line: err().print(shown(line))) as summary:
        if as_json:
            answer_json(summary)
        else:
            _print(summary, folder)
        if serve:
            err().print("The page stays up until you press Ctrl-C.")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()


def _print(summary: "Summary", folder: Path) -> None:
    console = out()
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("copy", width=8 if console.width < 92 else None)  # then the answers just fit into 80 columns
    for heading in (*QUESTIONS[:-1], "ledger", "found by"):
        table.add_column(heading, no_wrap=heading in QUESTIONS[:-1], min_width=11 if heading == "ledger" else None)
    for row in summary.copies:
        answers = [_coloured(row.answers[question]) for question in QUESTIONS]
        table.add_row(row.name, *answers, (row.found_by or "not found").replace("_", " "))
    console.print()
    console.print(table)
    console.print("- not checked: there is nothing to check it on", style="dim")
    console.print(f"{shown(folder / 'generated.png')}: {shown(summary.finding)}", soft_wrap=True)
    console.print(f"{summary.page}  shows the same", soft_wrap=True)


def _coloured(answer: str) -> Text:
    if answer == "not_checked":
        return Text("-", style="dim")
    return Text(answer.replace("_", " "), style="green" if answer in GOOD else "bold red" if answer in BAD else "dim")
