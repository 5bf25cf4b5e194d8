"""The command `lawful`: every command is a use case, wired to settings and shown to a person or as JSON."""

from importlib.metadata import version
from pathlib import Path

import click
import rich_click

from ledger.commands.frame import Group, Invocation

COMMANDS = {
    "demo": "ledger.commands.demo:demo",
    "init": "ledger.commands.founding:init",
    "up": "ledger.commands.running:up",
    "doctor": "ledger.commands.running:doctor",
    "index": "ledger.commands.images:index",
    "embed": "ledger.commands.embedding:embed",
    "generate": "ledger.commands.images:generate",
    "stamp": "ledger.commands.images:stamp",
    "verify": "ledger.commands.checking:verify",
    "report": "ledger.commands.reporting:report",
    "lookup": "ledger.commands.checking:look_up",
    "grant": "ledger.commands.granting:grant",
    "artist": "ledger.commands.artists:artist",
    "claim": "ledger.commands.claims:claim",
    "dispute": "ledger.commands.claims:dispute",
    "erase": "ledger.commands.erasing:erase",
    "audit": "ledger.commands.audit:audit",
    "auditor": "ledger.commands.auditors:auditor",
    "evaluate": "ledger.commands.evaluating:evaluate",
    "train-head": "ledger.commands.training:train_head",
    "log": "ledger.commands.log:log",
    "keys": "ledger.commands.founding:keys",
    "backup": "ledger.commands.backing_up:backup",
    "restore": "ledger.commands.backing_up:restore",
    "run": "ledger.commands.running:run",
    "witness": "ledger.commands.witness:witness",
}


@rich_click.group(
    cls=Group,
    lazily=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done · 1 the answer is bad · 2 wrong command line or setting · 3 input refused"
    " · 4 unavailable · 130 interrupted. First steps: lawful demo, or lawful init and lawful up.",
)
@rich_click.option(
    "--home", type=click.Path(path_type=Path), help="Folder of the ledger; otherwise LAWFUL_HOME or ~/.lawful."
)
@rich_click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any setting, for this command only (docs/reference/settings.md).",
)
@rich_click.version_option(version("lawful-ledger"), prog_name="lawful")
@click.pass_context
def main(context: click.Context, home: Path | None, overrides: tuple[str, ...]) -> None:
    """Lawful Ledger: for every image, whose work it stands closest to, in a public log and in the file itself."""
    context.obj = Invocation(home, overrides)


if __name__ == "__main__":
    main()
