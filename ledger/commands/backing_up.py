"""`lawful backup` and `lawful restore`."""

import datetime as dt
from pathlib import Path

import click
import rich_click

from ledger.commands.frame import Invocation, answer_json, err, json_option, out, shown


@rich_click.command(epilog="Example: lawful backup /mnt/backups --keep 30")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@rich_click.option("--keep", type=click.IntRange(min=1), metavar="DAYS", help="Remove backups older than so many days.")
@rich_click.option("--without-keys", is_flag=True, help="Leave the private keys out, and keep them elsewhere.")
@json_option
@click.pass_obj
def backup(invocation: Invocation, folder: Path, keep: int | None, without_keys: bool, as_json: bool) -> None:
    """Back up database, files and keys below FOLDER, in a folder named by the time. The ledger goes on meanwhile.

    What was erased stays in older backups until they are removed: state how long that is, and give it as --keep. The
    folder holds prompts, names and private keys: encrypt what leaves this machine. Files in a bucket are not copied.
    """
    from ledger.backup import back_up
    from ledger.commands.work import founded

    with founded(invocation.settings()) as runtime:
        days = dt.timedelta(days=keep) if keep is not None else None
        made, manifest = back_up(runtime, folder, keys=not without_keys, keep=days)
    if as_json:
        answer_json({"path": str(made), "size": manifest.size, "files": len(manifest.files), "keys": not without_keys})
        return
    out().print(f"{shown(made)}: {len(manifest.files)} files; at least {manifest.size:,} entries", soft_wrap=True)
    if without_keys:
        err().print("The keys are not in it: without the log's key nobody can go on with this log.")


@rich_click.command(epilog="Example: lawful restore /mnt/backups/20260102T030405Z")
@click.argument("path", metavar="BACKUP", type=click.Path(path_type=Path, file_okay=False))
@json_option
@click.pass_obj
def restore(invocation: Invocation, path: Path, as_json: bool) -> None:
    """Bring BACKUP into an empty database and home. Everything in it is checked before anything is written.

    It never makes an older history the newest one: entries that were shown after the backup was made keep the log from
    starting, until they are back or an operator has decided what to do.
    """
    from ledger.backup import restore as bring_back

    restored = bring_back(invocation.settings(), path)
    if as_json:
        answer_json(restored)
        return
    out().print(f"restored {shown(restored.origin)}: at least {restored.size:,} entries", soft_wrap=True)
    if restored.behind is None:
        err().print("next: compare with the newest checkpoint that others hold; if it is not newer: lawful log adopt")
    elif restored.behind:
        err().print(
            f"next: up to {restored.behind:,} entries that were shown are missing: bring the WAL or a newer backup;"
            " the log will not start without them"
        )
    else:
        err().print("next: lawful up")
