"""`lawful audit`: follow a log over HTTP, once or for ever, without trusting it."""

import contextlib
import json
import re
import sys
import time
from pathlib import Path

import click
import msgspec
import rich_click

from ledger.audit.auditor import Reading
from ledger.audit.fetch import HttpLog
from ledger.audit.state import only_one
from ledger.audit.trust import Trust
from ledger.audit.watch import Auditor, Metrics, Told
from ledger.commands.frame import BAD_ANSWER, answer_json, end, err, json_option, out, resume_with, shown
from ledger.commands.progress import Stages
from ledger.errors import BadRequest
from ledger.log.policy import load_policy


@rich_click.command(epilog="Example: lawful audit https://example.org/log/2026/ --log-key VKEY --state example.json")
@click.argument("url")
@rich_click.option("--log-key", "log_keys", multiple=True, metavar="VKEY", help="Key that signs the log's checkpoints.")
@rich_click.option(
    "--witness-key", "witness_keys", multiple=True, metavar="VKEY", help="Witness that must have cosigned; all given."
)
@rich_click.option(
    "--policy",
    "policy_path",
    type=click.Path(path_type=Path),
    help="Logs, witnesses and quorum in the C2SP tlog-policy format.",
)
@rich_click.option(
    "--statement-key",
    "statement_keys",
    multiple=True,
    metavar="HEX",
    help="Ed25519 key of statements, where the log's first entry announces none.",
)
@rich_click.option(
    "--state",
    "state_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that remembers the checkpoint seen last; evidence is kept beside it.",
)
@rich_click.option("--full", is_flag=True, help="Compute the whole tree anew, from every entry.")
@rich_click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=16,
    show_default=True,
    metavar="N",
    help="Read N bundles of 256 entries among the new ones, and N among the old.",
)
@rich_click.option(
    "--max-age", type=click.FloatRange(min=1), metavar="SECONDS", help="Oldest checkpoint that is taken for a live log."
)
@rich_click.option("--watch", type=click.FloatRange(min=0.1), metavar="SECONDS", help="Audit again and again.")
@rich_click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="With --watch: metrics for Prometheus, at 127.0.0.1 only.",
)
@json_option
def audit(
    url: str,
    log_keys: tuple[str, ...],
    witness_keys: tuple[str, ...],
    policy_path: Path | None,
    statement_keys: tuple[str, ...],
    state_path: Path | None,
    full: bool,
    sample: int,
    max_age: float | None,
    watch: float | None,
    metrics_port: int | None,
    as_json: bool,
) -> None:
    """Check that the log at URL still holds all that it held, and that it adds up.

    URL is the prefix below which `checkpoint` and `tile/` lie; any C2SP tlog-tiles log will do. Uses HTTP only: no
    ledger, no database, no home folder. The tree is computed anew from the tiles, and a sample of the entries is
    read. With --state, what was seen the last time must still be there. docs/audit.md lists what can be found.

    Exit code 1: the log errs, and evidence was kept; the state stays where it was if the tree is in doubt. 4: the log
    cannot be reached. With --watch it goes on after either, and --json writes one line for each audit.
    """
    if metrics_port is not None and watch is None:
        raise click.UsageError("--metrics-port goes with --watch")
    trust = Trust.of(
        log_keys,
        witness_keys,
        load_policy(policy_path) if policy_path is not None else None,
        [_statement_key(key) for key in statement_keys],
    )
    reading = Reading(full=full, new=sample, old=sample)
    resume_with("the state is as it was after the last whole audit; run the same command again")
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(HttpLog(url))
        if state_path is not None:
            stack.enter_context(only_one(state_path))
        auditor = Auditor(log, trust, state_path, reading, max_age)
        if watch is None:
            with Stages() as stages:
                auditor.progress = lambda done, total: stages.show("leaves", done, total)
                told = auditor.once()
            if as_json:
                answer_json(told)
            else:
                print_told(told)
            if told.report.findings_total:
                end(BAD_ANSWER)
            return
        metrics = Metrics()
        if metrics_port is not None:
            port = metrics.serve(metrics_port)
            err().print(f"metrics at http://127.0.0.1:{port}/metrics")
        auditor.watch(watch, _print_json_line if as_json else print_line, metrics, time.sleep)


def _statement_key(text: str) -> bytes:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise BadRequest(
            f"--statement-key of {len(text)} characters: not a raw Ed25519 key in hex",
            code="statement_key_malformed",
            next_step="Give the 64 hex digits of the 32-byte public key.",
        )
    return bytes.fromhex(text)


# ---- for people ----------------------------------------------------------------------------------------------------


def print_told(told: Told) -> None:
    """Verdict, figures, findings, evidence."""
    console, report = out(), told.report
    verdict = (
        "consistent" if not report.findings_total else "NOT consistent" if not report.consistent else "not in order"
    )
    place = (
        f"{shown(report.origin)}, {report.size} entries" if report.origin is not None else "no checkpoint to believe"
    )
    console.print(f"{verdict}: {place}", style="bold" if not report.findings_total else "bold red")
    for sentence in report.shown:
        console.print(f"  {shown(sentence)}", soft_wrap=True)
    for outcome, count in sorted(report.statements.items()):
        console.print(f"  statements {outcome}: {count}")
    for kind, count in sorted(report.types.items()):
        console.print(f"    {shown(kind)}: {count}")
    for witness, at in sorted(report.cosigned_at.items()):
        console.print(f"  cosigned by {shown(witness)}, {max(told.checked_at - at, 0):.0f} s before")
    for finding in report.findings:
        console.print(f"finding: {shown(finding.detail)} [{finding.code}]", style="bold red", soft_wrap=True)
    if more := report.findings_total - len(report.findings):
        console.print(f"… and {more} more findings", style="bold red")
    for path in told.evidence:
        console.print(f"evidence: {shown(path)}", soft_wrap=True)
    console.print(f"  {told.requests} requests, {told.bytes} bytes, {told.seconds:.1f} s", style="dim")


def print_line(told: Told) -> None:
    """One audit of many."""
    report = told.report
    codes = " ".join(sorted({finding.code for finding in report.findings})) or "ok"
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(told.checked_at))
    read = f"{report.entries_read} entries read, {told.seconds:.1f} s"
    out().print(f"{when} {report.previous_size or 0} → {report.size} {codes} ({read})", soft_wrap=True)
    for path in told.evidence:
        out().print(f"  evidence: {shown(path)}", soft_wrap=True)
    sys.stdout.flush()


def _print_json_line(told: Told) -> None:
    sys.stdout.write(json.dumps(msgspec.to_builtins(told), ensure_ascii=True) + "\n")
    sys.stdout.flush()
