"""`lawful erase`: what is deleted on request, and what the log says of it."""

import uuid

import click
import rich_click

from ledger import erasure, lookup
from ledger.commands.frame import Invocation, answer_json, asked_by_option, json_option, out, resume_with
from ledger.commands.work import founded, logged


@rich_click.command(
    epilog="Example: lawful erase 0190e7a2-7c3b-7d1e-9f00-3c5a1b2d4e6f --reason requested --asked-by artist"
)
@click.argument("record", type=click.UUID)
@rich_click.option("--reason", type=click.Choice(erasure.REASONS), required=True, help="Why; it goes into the log.")
@asked_by_option(erasure.ROLES)
@json_option
@click.pass_obj
def erase(invocation: Invocation, record: uuid.UUID, reason: str, asked_by: str, as_json: bool) -> None:
    """Delete the content of RECORD, named by its id: file, prompt, names, fingerprints and salt. There is no way back.

    Its entry stays in the log, whose proofs stay valid; a further entry says that the content went, why, and who asked.
    Whoever holds a copy of the file, or knows the index, is then answered `redacted`. Copies in other hands, backups
    and the database's write-ahead log are not reached. Safe to run again.
    """
    with founded(invocation.settings()) as runtime:
        resume_with("run the same command again: it finishes what was begun")
        with logged(runtime):
            done = erasure.erase(runtime, record, reason=reason, asked_by=asked_by)
        with runtime.sessions() as session:
            view = lookup.by_id(session, record)
            entry = lookup.by_index(session, runtime.shard, done.index) if done.index is not None else None
    if as_json:
        answer_json({"record": view, "entry": entry})
        return
    out().print(f"erased record {view.id}; copies in other hands and backups are not reached", soft_wrap=True)
    if entry is None:
        out().print("the log holds nothing of it")
    elif entry.redaction is not None and entry.redaction.index is not None:
        out().print(
            f"entry {entry.index} of {entry.origin} stays; entry {entry.redaction.index} says that its content went",
            soft_wrap=True,
        )
    else:
        out().print(f"entry {entry.index} of {entry.origin} stays; the log will say that its content went")
