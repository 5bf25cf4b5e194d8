"""`lawful witness`: watch other people's logs. It needs a folder and the logs' keys; no ledger, no database."""

import logging
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import click
import rich_click

from ledger.commands.frame import answer_json, err, json_option, out, shown
from ledger.errors import BadRequest

_LOG = re.compile(r"(?P<vkey>[^+\s]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]+=*)(?:@(?P<url>https?://\S+))?")

folder_option = rich_click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The witness's own: its key and what it has promised. Keep it on a disk that is never rolled back.",
)


@rich_click.group()
def witness() -> None:
    """Watch a log: cosign its checkpoints as long as each continues the one before, and never otherwise."""


@witness.command("init", epilog="Example: lawful witness init witness.example.org/w1 --folder witness")
@click.argument("name")
@folder_option
@json_option
def init(name: str, folder: Path, as_json: bool) -> None:
    """Make the key of a witness called NAME, usually the address it answers at, without https://.

    Prints its verifier key: what logs put into their policies, and what people check cosignatures with.
    """
    from ledger.witness.witness import init_witness

    cosigner = init_witness(folder, name)
    if as_json:
        answer_json({"name": name, "vkey": cosigner.vkey, "folder": str(folder)})
        return
    out().print(cosigner.vkey, soft_wrap=True)
    err().print(f"next: lawful witness run --folder {shown(folder)} --log VKEY")


@witness.command(
    "run",
    epilog="Example: lawful witness run --folder witness --log "
    "example.org/ledger/2026+6cb3af1f+AaVYdn/7ne9GCYOvUn31W2rUYzMvrNAcMvqHwf7aP8CH",
)
@folder_option
@rich_click.option(
    "--log",
    "logs",
    multiple=True,
    required=True,
    metavar="VKEY[@URL]",
    help="A log to watch: its verifier key and, for those who look, where it is read. Give it once for each log.",
)
@rich_click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@rich_click.option("--port", type=click.IntRange(0, 65535), default=8100, show_default=True, help="0 takes a free one.")
@json_option
def run(folder: Path, logs: tuple[str, ...], host: str, port: int, as_json: bool) -> None:
    """Answer logs that ask for a cosignature (C2SP tlog-witness), until SIGTERM or Ctrl-C."""
    from ledger import supervisor
    from ledger.logs import take_in_libraries, write_to_stderr
    from ledger.web.witness import serve_witness
    from ledger.witness.witness import Witness, load_witness

    watched, urls = read_logs(logs)
    served = Witness(folder, load_witness(folder), watched, lambda: int(time.time()))
    for origin in watched:
        served.held(origin)  # a damaged state is told now, not to the first log that asks
    with supervisor.listen(host, port) as listener:
        url = f"http://{host}:{listener.getsockname()[1]}"
        if as_json:
            answer_json({"url": url, "pid": os.getpid(), "vkey": served.cosigner.vkey, "logs": sorted(watched)})
        else:
            err().print(f"{url}  is witnessing {len(watched)} logs; Ctrl-C stops it")
        write_to_stderr(logging.INFO, "auto")
        take_in_libraries("auto")
        stop = threading.Event()
        former = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            serve_witness(served, listener, stop, urls)
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def read_logs(logs: tuple[str, ...]) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """`VKEY[@URL]` … → origin → its verifiers, origin → its URL. Several keys may speak for one origin.

    Raises BadRequest `witness_log_invalid`, NoteError `vkey_malformed`.
    """
    from ledger.log.notes import NoteVerifier

    watched: dict[str, list[Any]] = {}
    urls: dict[str, str] = {}
    for text in logs:
        match = _LOG.fullmatch(text)
        verifier = NoteVerifier.parse(match["vkey"]) if match else None
        if match is None or verifier is None or verifier.kind != "note":
            raise BadRequest(
                f"--log {shown(text)}: a log's verifier key is wanted",
                code="witness_log_invalid",
                next_step="`lawful keys show` prints it at the log's operator: name+id+key, then perhaps @https://…",
            )
        watched.setdefault(verifier.name, []).append(verifier)
        if match["url"]:
            urls[verifier.name] = match["url"]
    return watched, urls
