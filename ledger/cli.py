"""The command `lawful`: every command is a use case, wired to settings and shown to a person or as JSON."""

from importlib.metadata import version
from pathlib import Path

import click
import rich_click

from ledger.commands.checking import look_up, verify
from ledger.commands.demo import demo
from ledger.commands.founding import init, keys
from ledger.commands.frame import Group, Invocation
from ledger.commands.images import generate, index, stamp
from ledger.commands.running import doctor, run, up


@rich_click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done · 1 the answer is bad · 2 wrong command line or setting · 3 input refused · 4 unavailable"
    " · 130 interrupted. First steps: lawful demo, or lawful init and lawful up.",
)
@rich_click.option(
    "--home", type=click.Path(path_type=Path), help="Folder of the ledger; otherwise LAWFUL_HOME or ~/.lawful."
)
@rich_click.option(
    "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Any setting, for this command only (docs/reference/settings.md)."
)  # fmt: skip
@rich_click.version_option(version("lawful-ledger"), prog_name="lawful")
@click.pass_context
def main(context: click.Context, home: Path | None, overrides: tuple[str, ...]) -> None:
    """Lawful Ledger: for every image, whose work it stands closest to, in a public log and in the file itself."""
    context.obj = Invocation(home, overrides)


for command in (init, up, doctor, index, generate, stamp, verify, look_up, keys, run, demo):
    main.add_command(command)


if __name__ == "__main__":
    main()
