"""`lawful train-head`: the artist classifier, learnt from works whose artists allow it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
import rich_click

from ledger import lab
from ledger.commands.frame import Invocation, answer_json, err, json_option, out, shown
from ledger.commands.progress import Stages
from ledger.commands.work import founded
from ledger.errors import BadRequest
from ledger.sources import Grants

if TYPE_CHECKING:
    from attribution.training import Measured, TrainingReport


@rich_click.command("train-head", epilog="Example: lawful train-head ./paintings --train -o head")
@click.argument("source", type=click.Path(path_type=Path), required=False)
@rich_click.option("--collection", help="Learn from an indexed collection instead, by its name.")
@rich_click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the classifier; must be new or empty. The setting `head` then names it.",
)
@rich_click.option(
    "--train/--no-train", default=False, show_default=True, help="Grant of works in SOURCE whose row says nothing."
)
@rich_click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Same works and seed, same result."
)
@json_option
@click.pass_obj
def train_head(
    invocation: Invocation,
    source: Path | None,
    collection: str | None,
    output: Path,
    train: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Train the artist classifier on the works in SOURCE, or of a collection of this ledger, that may be learnt from.

    SOURCE is what `lawful index` takes. Without the grant train a work is passed over. Printed is what held-out works
    and left-out artists say of the result.
    """
    settings = invocation.settings()
    if (source is None) == (collection is None):
        raise BadRequest(
            "one of SOURCE and --collection is wanted",
            code="source_missing",
            next_step="give a folder or a list of works, or --collection NAME",
        )
    if output.exists() and any(output.iterdir()):
        raise BadRequest(
            f"{shown(output)} is not empty", code="output_exists", next_step="name a new folder, or empty this one"
        )
    bad: list[str] = []
    if source is not None:
        with Stages() as stages:
            grants = Grants(train=train, compare=True, name=True)
            report, bad = lab.train_head_on_source(source, settings, grants, output, seed, stages.show)
    else:
        assert collection is not None
        with founded(settings) as runtime:
            report = lab.train_head_on_collection(runtime, collection, output, seed)
    for line in bad:
        err().print(f"passed over {shown(line)}")
    if as_json:
        answer_json({"folder": str(output), "report": msgspec.to_builtins(report)})
        return
    _show(report, output)


def _show(report: "TrainingReport", output: Path) -> None:
    console = out()
    console.print(
        f"{shown(output)}: {report.artists} artists, {report.works} works; {report.not_learnt} may not be learnt from",
        soft_wrap=True,
    )
    console.print(f"held-out works named rightly     {_rate(report.right)}")
    console.print(f"left-out artists called unknown  {_rate(report.unknown_right)}")
    console.print(f"calibration error (ECE)          {report.ece:.3f}")
    console.print(f"classifier {report.classifier}", soft_wrap=True)


def _rate(measured: "Measured") -> str:
    return f"{measured.value:.1%} ({measured.low:.1%} to {measured.high:.1%}) of {measured.n}"
