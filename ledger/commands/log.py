"""`lawful log`: the log as files for any web server, and the two decisions about it that only an operator can take."""

import logging
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import click
import rich_click
import structlog

from ledger import logs
from ledger.commands.frame import Group, Invocation, answer_json, err, json_option, out, resume_with, shown
from ledger.errors import BadRequest, Conflict, NotFound, Unavailable

if TYPE_CHECKING:
    from ledger.runtime import Runtime

_logger = structlog.get_logger(__name__)

# One export to one destination at a time: two would take turns in moving its checkpoint back.
_LOCKS = uuid.UUID("6f1f2a0e-5a55-4b0c-9f53-5b2f6a3c1f10")


@rich_click.group(cls=Group, lazily={"override": "ledger.commands.overriding:override"})
def log() -> None:
    """Export the log, and settle what its sequencer refuses to decide by itself."""


@log.command("export", epilog="Example: lawful log export /srv/www/log/2026")
@click.argument("url", metavar="FOLDER|URL")
@rich_click.option(
    "--every", type=click.FloatRange(min=0.5), metavar="SECONDS", help="Go on, so many seconds apart, until SIGTERM."
)
@json_option
@click.pass_obj
def log_export(invocation: Invocation, url: str, every: float | None, as_json: bool) -> None:
    """Bring the log's checkpoint, tiles and entries to a folder or a bucket (s3://, gs://, az://).

    Only what is new is written, the checkpoint last; so the destination is a whole log at any moment, and a run that
    was cut off is finished by the next one. Any web server or CDN can serve it, without this program. Run it as often
    as readers shall see news, or let it run with --every.
    """
    from ledger.commands.work import founded

    url = _ready(url)
    settings = invocation.settings()
    resume_with("what was exported stays, and is whole; run the same command again")
    with founded(settings) as runtime:
        if every is not None:
            _export_for_ever(runtime, url, every)
            return
        size = _export_once(runtime, url)
    if as_json:
        answer_json({"url": url, "origin": settings.origin, "size": size})
    else:
        out().print(f"{size:,} entries of {shown(settings.origin)} lie at {shown(url)}", soft_wrap=True)


def _export_once(runtime: "Runtime", url: str) -> int:
    """The number of entries that lie there now. Raises as `ledger.log.export.export`, and Conflict `export_running`."""
    from ledger.log.export import export
    from ledger.log.shard import query_of
    from ledger.log.state import policy_in_force
    from ledger.storage import Storage

    def query(sql: str, parameters: tuple[Any, ...]) -> Sequence[Sequence[Any]]:
        with runtime.sessions() as session:  # a connection for each: a bucket may take minutes in between
            return query_of(session)(sql, parameters)

    def tell(done: int, of: int) -> None:
        if done < of:
            err().print(f"{done:,} of {of:,} entries")

    with runtime.database.advisory_lock(uuid.uuid5(_LOCKS, url)) as alone:
        if not alone:
            raise Conflict(
                f"another export to {url} runs", code="export_running", next_step="wait for it, or do nothing"
            )
        policy = policy_in_force(runtime.settings.witness_policy)
        return export(query, runtime.shard, runtime.keys.log.verifier, Storage(url), policy, tell).size


def _export_for_ever(runtime: "Runtime", url: str, every: float) -> None:
    """Until a signal. What may pass by itself is told and tried again; another log's files end it."""
    from ledger.commands.running import stopping

    logs.write_to_stderr(logging.INFO, runtime.settings.log_format)
    logs.take_in_libraries(runtime.settings.log_format)
    stop, size = threading.Event(), -1
    with stopping(stop):
        while not stop.is_set():
            try:
                now = _export_once(runtime, url)
                if now != size:
                    _logger.info("exported", url=url, size=now)
                size = now
            except (Unavailable, NotFound) as error:  # the database is away; nothing is shown or witnessed yet
                _logger.warning("export_waits", code=error.code, detail=error.detail)
            stop.wait(every)


def _ready(destination: str) -> str:
    """The URL to export to. A folder is made so that a web server may read it."""
    url = destination if "://" in destination else Path(destination).absolute().as_uri()
    parts = urlsplit(url)
    if parts.scheme == "file":
        if not parts.path.startswith("/") or parts.netloc:
            raise BadRequest(
                f"{url[:200]!r} is not a folder of this machine",
                code="export_url_invalid",
                next_step="give the folder's path, or file:///folder",
            )
        Path(url2pathname(parts.path)).mkdir(parents=True, exist_ok=True)
    return url


@log.command("adopt", epilog="Example: lawful log adopt")
@json_option
@click.pass_obj
def log_adopt(invocation: Invocation, as_json: bool) -> None:
    """Take the database's newest checkpoint for the missing file beside the log's key.

    Only when that file is lost and the database is known to be the newest: compare what is shown with a checkpoint
    that a witness, an auditor or an issued file holds. If the database is older than one of these, adopting it forks
    the log.
    """
    from ledger.commands.work import founded
    from ledger.log.head import adopt
    from ledger.log.shard import query_of

    with founded(invocation.settings()) as runtime, runtime.sessions() as session:
        checkpoint = adopt(runtime.head, runtime.keys.log.verifier, query_of(session), runtime.shard)
    found = {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex()}
    if as_json:
        answer_json(found)
        return
    for name, value in found.items():
        out().print(f"{name:<8} {shown(value)}", soft_wrap=True)
