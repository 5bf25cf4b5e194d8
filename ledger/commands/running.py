"""`lawful up`, `lawful run …` and `lawful doctor`: keep a ledger running, and see what is wrong when it does not."""

import logging
import os
import signal
import socket
import sys
import threading
from dataclasses import replace

import click
import rich_click

from ledger import logs, supervisor
from ledger.commands.frame import BAD_ANSWER, Invocation, answer_json, end, err, json_option, out, shown
from ledger.settings import Settings

MARKS = {"pass": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "bold red"), "skip": ("-", "dim")}


_supervised = rich_click.option("--supervised", is_flag=True, hidden=True, help="End when stdin is closed.")


@rich_click.command(epilog="Example: lawful --set port=8080 up")
@_supervised
@json_option
@click.pass_obj
def up(invocation: Invocation, supervised: bool, as_json: bool) -> None:
    """Run the ledger: database, worker and web page, until Ctrl-C.

    Founds the ledger first where none is. A part that dies is started again. Ctrl-C or SIGTERM ends all parts within
    seconds; work that was under way goes on at the next start.
    """
    from ledger.database.session import open_database

    settings = invocation.settings()
    if supervised:
        supervisor.end_with_supervisor()
    with supervisor.only_one(settings.home), supervisor.listen(settings.host, settings.port) as listener:
        _found_if_new(settings)
        url = f"http://{_reachable(settings.host)}:{settings.port}"
        stop = threading.Event()

        def ready() -> None:
            if as_json:
                answer_json({"url": url, "pid": os.getpid(), "origin": settings.origin})
            else:
                out().print(f"{url}  is up; Ctrl-C stops it", soft_wrap=True)
                sys.stdout.flush()

        beside = invocation
        if settings.metrics_port is not None:  # two processes, two ports
            beside = replace(invocation, overrides=(*invocation.overrides, f"metrics_port={settings.metrics_port + 1}"))
        web = invocation.argv("run", "web", "--supervised", "--listener", str(listener.fileno()))
        children = [
            supervisor.Child("web", web, pass_fds=[listener.fileno()]),
            supervisor.Child("worker", beside.argv("run", "worker", "--supervised")),
        ]
        err().print("starting database, worker and web …")
        with open_database(settings), stopping(stop):  # holds the embedded server until the last child has left
            supervisor.keep_running(
                children, url=f"{url}/readyz", stop=stop, ready=ready, say=lambda line: err().print(shown(line))
            )
    err().print("stopped")


@rich_click.group()
def run() -> None:
    """Run one part alone, as `lawful up` does, for a service manager of your own."""


@run.command("worker", epilog="Example: lawful run worker")
@_supervised
@json_option
@click.pass_obj
def run_worker(invocation: Invocation, supervised: bool, as_json: bool) -> None:
    """Take jobs from the queue and run the log's sequencer, until SIGTERM or Ctrl-C."""
    from ledger.worker import serve

    settings = invocation.settings()
    if supervised:
        supervisor.end_with_supervisor()
    if as_json:
        answer_json({"pid": os.getpid(), "role": "worker"})
    _log_as_a_service(settings)
    stop = threading.Event()
    with stopping(stop):
        serve(settings, stop)


@run.command("sequencer", epilog="Example: lawful run sequencer")
@json_option
@click.pass_obj
def run_sequencer(invocation: Invocation, as_json: bool) -> None:
    """Write the log, or stand by while another process does, until SIGTERM or Ctrl-C.

    Each worker does that as well. This one loads no networks: it starts and takes over in seconds.
    """
    from ledger.metrics import exposed
    from ledger.runtime import open_runtime, sequencing

    settings = invocation.settings()
    if as_json:
        answer_json({"pid": os.getpid(), "role": "sequencer"})
    _log_as_a_service(settings)
    stop = threading.Event()
    with stopping(stop), open_runtime(settings) as runtime, exposed(settings, runtime):
        with sequencing(runtime) as sequencer:
            while sequencer.failure is None and not stop.wait(supervisor.TICK):
                pass
        if sequencer.failure is not None:
            raise sequencer.failure


@run.command("web", epilog="Example: lawful --set host=0.0.0.0 run web")
@_supervised
@rich_click.option("--listener", type=int, hidden=True, help="Serve on this inherited socket.")
@json_option
@click.pass_obj
def run_web(invocation: Invocation, supervised: bool, listener: int | None, as_json: bool) -> None:
    """Serve pages and API over HTTP, until SIGTERM or Ctrl-C."""
    from ledger.web.app import serve

    settings = invocation.settings()
    listening = supervisor.listen(settings.host, settings.port) if listener is None else socket.socket(fileno=listener)
    if supervised:
        supervisor.end_with_supervisor()
    if as_json:
        answer_json({"pid": os.getpid(), "role": "web", "url": f"http://{_reachable(settings.host)}:{settings.port}"})
    _log_as_a_service(settings)
    stop = threading.Event()
    with stopping(stop):
        serve(settings, listening, stop)


@rich_click.command(epilog="Example: lawful doctor --json")
@rich_click.option("--quick", is_flag=True, help="Leave out loading the networks.")
@json_option
@click.pass_obj
def doctor(invocation: Invocation, quick: bool, as_json: bool) -> None:
    """Check everything this ledger needs, and say what to do about what is wrong. Exit code 1 where a check fails."""
    from ledger import doctor as checks

    findings = []
    for finding in checks.examine(invocation.settings(), networks=not quick):
        findings.append(finding)
        if not as_json:
            mark, style = MARKS[finding.result]
            out().print(f"{mark} {finding.name:<12} {shown(finding.detail)}", style=style, soft_wrap=True)
            if finding.next_step:
                out().print(f"  next: {shown(finding.next_step)}", soft_wrap=True)
    result = checks.worst(findings)
    if as_json:
        answer_json({"result": result, "checks": findings})
    if result == "fail":
        end(BAD_ANSWER)


class stopping:  # noqa: N801 - used as a context manager only
    """While it is open, SIGINT and SIGTERM set `stop` instead of raising."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def __enter__(self) -> None:
        self._former = {
            number: signal.signal(number, lambda *_: self._stop.set()) for number in (signal.SIGINT, signal.SIGTERM)
        }

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)


def _found_if_new(settings: Settings) -> None:
    """Only where nothing is at all: keys made beside somebody's existing database would start a second log."""
    if settings.keys_folder.exists() or settings.database_url is not None or settings.postgres_folder.exists():
        return
    from ledger.genesis import found

    founded = found(settings)
    err().print(f"founded {shown(founded.origin)} in {shown(settings.home)}")
    err().print(f"API key  {founded.api_key}  (shown only now)")


def _log_as_a_service(settings: Settings) -> None:
    logs.write_to_stderr(logging.INFO, settings.log_format)
    logs.take_in_libraries(settings.log_format)


def _reachable(host: str) -> str:
    """An address a browser on this machine can open."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
