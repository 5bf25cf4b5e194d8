"""`lawful grant`: what an artist allows for a work, changed in the open."""

import click
import msgspec
import rich_click

from ledger import grants
from ledger.commands.frame import Invocation, answer_json, asked_by_option, err, json_option, out, resume_with, shown
from ledger.commands.work import founded, logged

SHOWN = 20  # changes that are listed one by one


@rich_click.command("grant", epilog='Example: lawful grant "Ada Ekström" --no-name --asked-by artist')
@click.argument("what", metavar="WORK_OR_ARTIST")
@rich_click.option("--train/--no-train", default=None, help="May be learned from.")
@rich_click.option("--compare/--no-compare", default=None, help="May be searched, which is needed to protect it.")
@rich_click.option("--name/--no-name", default=None, help="May be shown and credited.")
@rich_click.option("--collection", help="Its name, where an artist's name stands in several collections.")
@asked_by_option(grants.ROLES)
@json_option
@click.pass_obj
def grant(
    invocation: Invocation,
    what: str,
    train: bool | None,
    compare: bool | None,
    name: bool | None,
    collection: str | None,
    asked_by: str,
    as_json: bool,
) -> None:
    """Give or withdraw grants of a work, by its id, or of all works of an artist, by name or id.

    A grant that is not named stays as it is. Each change is an entry of the log, and counts at once: from the new
    snapshot on, the next image is compared accordingly. Statements and reports of before stay what they were. A
    withdrawn *train* is not unlearnt by a network that has learnt already.
    """
    given: dict[grants.Grant, bool | None] = {"train": train, "compare": compare, "name": name}
    wanted = {each: allowed for each, allowed in given.items() if allowed is not None}
    if not wanted:
        raise click.UsageError("name at least one grant, such as --no-train")
    with founded(invocation.settings()) as runtime:
        resume_with("all of it was done or nothing; the same command again changes only what is not so yet")
        with logged(runtime):
            with runtime.sessions() as session:
                works = grants.works_of(session, what, collection)
            changed = grants.change_grants(runtime, works, wanted, by_role=asked_by)
    if as_json:
        answer_json(msgspec.to_builtins(changed))
        return
    console = out()
    for change in changed.changes[:SHOWN]:
        said = "given" if change.allowed else "withdrawn"
        console.print(f"work {change.work_id}: {change.grant} {said}  entry {change.leaf_hash}", soft_wrap=True)
    if (more := len(changed.changes) - SHOWN) > 0:
        console.print(f"… and {more} more")
    console.print(f"{shown(what)}: {len(changed.changes)} changes, {changed.works} works looked at", soft_wrap=True)
    if changed.changes and changed.snapshot is not None:
        console.print(f"snapshot {changed.snapshot}", soft_wrap=True)
        if not changed.calibrated:
            err().print("The next worker, or `lawful index`, measures this collection's error rates anew.")
