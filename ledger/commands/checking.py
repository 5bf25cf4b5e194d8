"""`lawful verify` and `lawful lookup`: what the ledger knows of a file, and what the file proves by itself."""

import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
import rich_click
from rich.table import Table
from rich.text import Text
from sqlalchemy.orm import Session

from attribution.fingerprints import fingerprint
from ledger import lookup, verifications
from ledger.commands.files import read_image
from ledger.commands.frame import BAD_ANSWER, Invocation, answer_json, end, json_option, out, resume_with, shown
from ledger.commands.work import do, founded
from ledger.credentials.read import trust_list
from ledger.decoding.reading import InThisProcess
from ledger.errors import BadRequest
from ledger.file_proof import Trust
from ledger.keys.ring import load_anchors
from ledger.log.notes import Kind, NoteVerifier
from ledger.log.policy import load_policy
from ledger.lookup import Candidate, LogPlace, RecordView
from ledger.runtime import utc_now
from ledger.settings import Settings
from ledger.times import moment
from ledger.verdict import Answers
from ledger.verify import Verification
from ledger.verify import verify as look_at
from models.images import Limits, decode

GOOD = {"present", "intact", "valid", "trusted", "recorded"}
BAD = {"unreadable", "altered", "invalid", "broken", "contradicts"}
OUTCOMES = {"found": ("●", "bold"), "nothing": ("·", ""), "cannot_tell": ("?", "dim")}
MARKS = {"pass": ("✓", "green"), "fail": ("✗", "bold red"), "info": ("·", ""), "skip": ("-", "dim")}


Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def offline_options(command: Decorated) -> Decorated:
    """--offline, and the options that name whom to believe without a ledger's settings."""
    for option in (
        rich_click.option(
            "--anchor",
            "anchors",
            multiple=True,
            type=click.Path(path_type=Path),
            help="With --offline: trust these C2PA roots (PEM) too.",
        ),
        rich_click.option(
            "--policy",
            "policy_file",
            type=click.Path(path_type=Path),
            help="With --offline: logs, witnesses and how many of them count (a C2SP tlog-policy file).",
        ),
        rich_click.option(
            "--witness-key",
            "witness_keys",
            multiple=True,
            metavar="VKEY",
            help="With --offline: count this witness too.",
        ),
        rich_click.option(
            "--log-key", "log_keys", multiple=True, metavar="VKEY", help="With --offline: trust this log too."
        ),
        rich_click.option(
            "--offline", is_flag=True, help="Use no database and no network: only what the file itself proves."
        ),
    ):
        command = option(command)
    return command


def refuse_keys(offline: bool, *given: object) -> None:
    """Keys named for a look that asks a ledger would be passed over: better said."""
    if any(given) and not offline:
        raise click.UsageError(
            "--log-key, --witness-key, --policy and --anchor go with --offline; a ledger takes them from its settings"
        )


@rich_click.command(epilog="Example: lawful verify picture.png --json")
@click.argument("file", type=click.Path(path_type=Path))
@offline_options
@rich_click.option("--timeout", type=click.FloatRange(min=1), default=600.0, show_default=True, help="Seconds to wait.")
@json_option
@click.pass_obj
def verify(
    invocation: Invocation,
    file: Path,
    offline: bool,
    log_keys: tuple[str, ...],
    witness_keys: tuple[str, ...],
    policy_file: Path | None,
    anchors: tuple[Path, ...],
    timeout: float,
    as_json: bool,
) -> None:
    """Say what is known of FILE: one sentence, six answers, and every check behind them.

    Trust comes from keys you chose: this ledger's own where one is founded, those of the settings, those named here.
    --offline works without any ledger, database or network. With a log's key it proves, from the file alone, that the
    log holds a statement about these pixels; with witnesses' keys, that others saw the same log. Exit code 1 where a
    credential is broken or the file contradicts the log; that nobody knows a file is no bad answer.
    """
    refuse_keys(offline, log_keys, witness_keys, policy_file, anchors)
    settings = invocation.settings()
    data = read_image(file, settings.max_upload_bytes)
    if offline:
        trust = believed(settings, log_keys, witness_keys, policy_file)
        found = _offline(settings, data, trust, believed_roots(settings, anchors))
    else:
        found = _recorded(settings, data, file.name, timeout)
    if as_json:
        answer_json(found)
    else:
        print_verification(found)
    if is_bad(found.answers):
        end(BAD_ANSWER)


def believed(
    settings: Settings, log_keys: tuple[str, ...], witness_keys: tuple[str, ...], policy_file: Path | None
) -> Trust:
    """Whom to believe. Every key is looked at before the file is: a mistake here must not read as a file's fault."""
    logs = [_vkey(key, "--log-key", "note") for key in log_keys]
    logs += [_vkey(key, "log_keys", "note") for key in settings.log_keys]
    if settings.keys_folder.exists():
        logs.append(load_anchors(settings.keys_folder).log_vkey)
    witnesses = [_vkey(key, "--witness-key", "cosignature") for key in witness_keys]
    path = policy_file or settings.witness_policy
    return Trust(logs, witnesses, load_policy(path) if path is not None else None)


def _vkey(text: str, where: str, kind: Kind) -> str:
    """A verifier key of this kind (C2SP signed-note: a log's is of type 0x01, a witness's of 0x04)."""
    verifier = NoteVerifier.parse(text.strip())
    if verifier.kind != kind:
        raise BadRequest(
            f"{where}: {verifier.name} is {'no witness' if kind == 'cosignature' else 'no log'}'s key",
            code="vkey_malformed",
            next_step="give logs with --log-key and witnesses with --witness-key",
        )
    return verifier.vkey


def believed_roots(settings: Settings, anchors: tuple[Path, ...]) -> str:
    """The C2PA roots to believe, as one PEM text: those named, the settings', and this ledger's own where one is
    founded."""
    roots = [_pem(path) for path in anchors]
    if settings.trust_anchors is not None:
        roots.append(_pem(settings.trust_anchors))
    if settings.keys_folder.exists():
        roots.append(load_anchors(settings.keys_folder).root_pem)
    return trust_list(*roots)


def _offline(settings: Settings, data: bytes, trust: Trust, roots_pem: str) -> Verification:
    return look_at(
        data,
        session=None,
        anchors_pem=roots_pem,
        log_vkeys=trust.log_vkeys,
        witness_vkeys=trust.witness_vkeys,
        policy=trust.policy,
        examine=None,
        now=utc_now(),
        files=InThisProcess(Limits(max_bytes=settings.max_upload_bytes)),
    )


def _recorded(settings: Settings, data: bytes, name: str, timeout: float) -> Verification:
    """As the web page does it: the look itself becomes an unlisted entry, the image is not kept."""
    with founded(settings) as runtime:
        with runtime.sessions.begin() as session:
            record_id = verifications.accept_verification(session, runtime, image=data, principal_id=None)
        resume_with("nothing was answered; verify the file again")
        do(runtime, "verify", record_id, timeout)
        with runtime.sessions() as session:
            return msgspec.convert(verifications.result(session, record_id), Verification)


def _pem(path: Path) -> str:
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise _no_anchor(path) from error
    if not trust_list(text):
        raise _no_anchor(path)
    return text


def _no_anchor(path: Path) -> BadRequest:
    return BadRequest(
        f"{shown(path)} holds no PEM certificate",
        code="anchors_unreadable",
        next_step="give what `lawful keys anchor` prints",
    )


def is_bad(answers: Answers) -> bool:
    """Whether one of the six answers speaks against the file. Absent, unknown, expired and unrecorded do not."""
    return bool(BAD & set(msgspec.to_builtins(answers).values()))


@rich_click.command("lookup", epilog="Example: lawful lookup picture.jpg")
@click.argument("what", metavar="HASH|FILE")
@json_option
@click.pass_obj
def look_up(invocation: Invocation, what: str, as_json: bool) -> None:
    """Find records by a file, by its SHA-256, that of its pixels, an ISCC or a record's id. Exit code 1: none.

    A file that is not found by its bytes is looked for by its pixels, then by what looks alike; those are candidates.
    """
    settings = invocation.settings()
    data = (
        None if _names_a_record(what) and not Path(what).exists() else read_image(Path(what), settings.max_upload_bytes)
    )
    with founded(settings) as runtime, runtime.sessions() as session:
        found_by, records, candidates = _find(session, what) if data is None else _find_file(session, data, settings)
    if as_json:
        answer_json({"query": what, "found_by": found_by, "records": records, "candidates": candidates})
    elif not records and not candidates:
        out().print("not in this ledger, which says nothing about how the image was made")
    else:
        _print_records(records, candidates)
    if not records and not candidates:
        end(BAD_ANSWER)


def _names_a_record(what: str) -> bool:
    return bool(
        re.fullmatch(r"[0-9a-fA-F]{64}|ISCC:[A-Z2-7]+|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", what)
    )


Found = tuple[str | None, list[RecordView], list[Candidate]]


def _find(session: Session, what: str) -> Found:
    if what.startswith("ISCC:"):
        return "iscc", lookup.find(session, iscc=what), []
    if "-" in what:
        return "id", [lookup.by_id(session, uuid.UUID(what))], []
    return "hash", lookup.find_any(session, what.lower()), []


def _find_file(session: Session, data: bytes, settings: Settings) -> Found:
    found = fingerprint(data, decode(data, Limits(max_bytes=settings.max_upload_bytes)).pixels)
    if records := lookup.find(session, file_sha256=found.file_sha256):
        return "file_sha256", records, []
    if records := lookup.find(session, pixel_sha256=found.pixel_sha256):
        return "pixel_sha256", records, []
    candidates = lookup.similar(session, found)
    return ("soft_binding" if candidates else None), [], candidates


# ---- for people ----------------------------------------------------------------------------------------------------


def print_verification(found: Verification) -> None:
    """Verdict, six answers, numbered checks, what each axis found, records, candidates."""
    console = out()
    console.print(shown(found.verdict), style="bold")
    console.print()
    answers = Table(box=None, show_header=False, pad_edge=False)
    for question, answer in msgspec.to_builtins(found.answers).items():
        answers.add_row(
            question, Text(answer, style="green" if answer in GOOD else "bold red" if answer in BAD else "")
        )
    answers.add_row("found by", found.found_by or "-")
    console.print(answers)
    console.print()
    for check in found.checks:
        mark, style = MARKS[check.result]
        console.print(f"{check.step:>2} {mark} {check.name}: {shown(check.code)}", style=style, soft_wrap=True)
    for finding in found.evidence.findings if found.evidence is not None else []:
        mark, style = OUTCOMES[finding.outcome]
        console.print(f"   {mark} {shown(finding.axis)}: {shown(finding.text)}", style=style, soft_wrap=True)
    for conflict in found.conflicts:
        console.print(f"conflict: {shown(conflict)}", style="yellow", soft_wrap=True)
    _print_records(found.records, found.candidates)
    console.print(f"\nfile   {found.file_sha256}\npixels {found.pixel_sha256}", soft_wrap=True)


def _print_records(records: list[RecordView], candidates: list[Candidate]) -> None:
    console = out()
    for record in records:
        console.print(
            f"\nrecord {record.id}  {record.kind}, {record.state}, {moment(record.created_at)}", soft_wrap=True
        )
        for label, value in _facts(record).items():
            console.print(f"  {label:<9} {shown(value)}", soft_wrap=True)
    for candidate in candidates:
        console.print(
            f"\nlooks like record {candidate.record.id}: {candidate.bits_differing} of {candidate.bits_total} bits"
            f" of its {candidate.binding} differ (a candidate, not a finding)",
            soft_wrap=True,
        )


def _place(log: LogPlace) -> str:
    fact = "witnessed" if log.witnessed else "integrated, not witnessed"
    return f"entry {log.index} of {log.origin} ({fact})"


def _facts(record: RecordView) -> dict[str, Any]:
    if record.redacted:
        return {"content": "deleted on request"}
    made = record.made or {}
    model = made.get("model") or {}
    named = model.get("name") if isinstance(model, dict) else model
    blocked = record.blocked
    facts = {
        "refused": f"by the near-copy gate ({', '.join(blocked.reasons)})" if blocked else None,
        "made": " ".join(str(part) for part in (made.get("by"), named or made.get("declared_model")) if part),
        "log": _place(record.log) if record.log else None,
        "size": f"{record.width} x {record.height} pixels" if record.width else None,
        "file": record.file_sha256,
        "pixels": record.pixel_sha256,
    }
    return {label: value for label, value in facts.items() if value}
