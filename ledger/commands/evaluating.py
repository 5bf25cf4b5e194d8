"""`lawful evaluate`: every figure that we claim, measured again, beside its baselines."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import rich_click
from rich.table import Table

from ledger import lab
from ledger.commands.frame import Invocation, answer_json, err, json_option, out, shown
from ledger.commands.progress import Stages

if TYPE_CHECKING:
    from attribution.evaluation.suite import Figure, Result


@rich_click.command(epilog="Example: lawful evaluate copy ./paintings --sample 200")
@click.argument("suite", type=click.Choice(lab.SUITES))
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@rich_click.option("--sample", type=click.IntRange(min=2), help="Measure on about so many pictures only.")
@rich_click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Same seed, same figures."
)
@rich_click.option(
    "--out",
    "folder_out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("evaluation"),
    show_default=True,
    help="Folder for <suite>.json, <suite>.svg and pictures; what it holds of this suite is replaced.",
)
@json_option
@click.pass_obj
def evaluate(
    invocation: Invocation,
    suite: str,
    folder: Path | None,
    sample: int | None,
    seed: int,
    folder_out: Path,
    as_json: bool,
) -> None:
    """Measure one SUITE of the evidence engine: ours beside its baselines and a control, with 95 % intervals.

    FOLDER holds a subfolder per artist (folders of these are kept apart in the figures), or Parquet files with the
    columns image and artist; without it the suite runs on the atelier's own works. Nothing is recorded in a ledger. A
    figure that misses its target is marked, and ends the command well all the same: it was measured.
    """
    typed = [suite, *([] if folder is None else [str(folder)]), *([] if sample is None else ["--sample", str(sample)])]
    pictures: dict[str, bytes] = {}
    with Stages() as stages:
        result, passed_over = lab.evaluate(
            suite,
            folder,
            invocation.settings(),
            sample=sample,
            seed=seed,
            progress=stages.show,
            keep=pictures.__setitem__,
            command=" ".join(["lawful evaluate", *typed, "--seed", str(seed)]),
        )
    paths = lab.written(result, pictures, folder_out)
    for line in passed_over:
        err().print(f"passed over {shown(line)}")
    if as_json:
        answer_json({"files": [str(path) for path in paths], "result": result})
        return
    _show(result)
    for path in paths:
        out().print(shown(path), soft_wrap=True)


def _show(result: "Result") -> None:
    console = out()
    data = result.data
    console.print(
        f"{shown(data.name)}: {data.works} works by {data.artists} artists, {result.seconds:.0f} s", soft_wrap=True
    )
    for group in dict.fromkeys(figure.group for figure in result.figures):
        here = [figure for figure in result.figures if figure.group == group]
        methods = list(dict.fromkeys(figure.method for figure in here))
        table = Table(title=shown(group) or None, title_justify="left", show_edge=False)
        table.add_column("", overflow="fold")
        for method in [*methods, "trials", "target"]:
            table.add_column(shown(method), justify="right", overflow="fold")
        for name in dict.fromkeys(figure.name for figure in here):
            by_method = {figure.method: figure for figure in here if figure.name == name}
            first = next(iter(by_method.values()))
            cells = [_cell(by_method.get(method)) for method in methods]
            table.add_row(shown(name), *cells, str(first.n), _target(first))
        console.print(table)
    for note in result.notes:
        console.print(f"· {shown(note)}", soft_wrap=True)


def _cell(figure: "Figure | None") -> str:
    if figure is None:
        return ""
    if figure.unit == "rate":
        return f"{figure.value:.1%} ({figure.low:.1%} to {figure.high:.1%})"
    return f"{figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g}) {shown(figure.unit)}"


def _target(figure: "Figure") -> str:
    if figure.target is None:
        return ""
    limit = f"{figure.target:.1%}" if figure.unit == "rate" else f"{figure.target:.4g}"
    return f"{'at most' if figure.at_most else 'at least'} {limit}{', MISSED' if figure.missed else ''}"
