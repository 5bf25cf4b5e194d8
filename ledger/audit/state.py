"""What an auditor keeps between two audits, in one JSON file, and beside it the evidence of what did not fit.

The state is a checkpoint that the log signed, after everything that it covers was checked as far as that audit went. It
is replaced whole or not at all, and never by one of a smaller tree.
"""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ledger.audit.entries import LearntKey
from ledger.audit.findings import Refuted
from ledger.audit.trust import SignedCheckpoint, Trust, open_checkpoint
from ledger.durable import sync
from ledger.errors import BadRequest, Conflict

VERSION = 1

MOST_EVIDENCE = 20
"""Files kept of one kind of finding: a log that errs anew every minute must not fill the auditor's disk."""


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`note`: the signed checkpoint, byte for byte. `first_seen`: Unix seconds, by the auditor's clock, at which a
    checkpoint of this size was first seen. `entries_to`: how many entries from the first on were read without a gap."""

    note: str
    first_seen: float
    entries_to: int = 0
    keys: list[LearntKey] = []
    version: int = VERSION

    def signed(self, trust: Trust) -> SignedCheckpoint:
        """Its checkpoint, believed afresh. Raises BadRequest code `audit_state_unusable`."""
        try:
            return open_checkpoint(self.note.encode(), trust)
        except Refuted as error:
            raise _unusable(f"under the keys given now, {error.finding.detail}") from error


def read_state(path: Path) -> State | None:
    """None where there is none yet. Raises BadRequest code `audit_state_unusable`: never guess at what was seen."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        state = msgspec.json.decode(content, type=State)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unusable(str(error)) from error
    if state.version != VERSION:
        raise _unusable(f"version {state.version}, this program writes {VERSION}")
    return state


def write_state(path: Path, state: State) -> None:
    """Whole or not at all, also when the machine stops."""
    _write(path, msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")


def keep_evidence(state_path: Path, code: str, evidence: dict[str, Any]) -> Path:
    """Write evidence to `<state>.<code>.<digest>.json`, and say where. The same evidence again is the same file."""
    body = json.dumps(evidence, indent=1, sort_keys=True).encode() + b"\n"
    # The digest leaves out when it was found: a monitor that finds one thing every minute keeps it once.
    what = json.dumps({name: value for name, value in evidence.items() if name != "found_at"}, sort_keys=True)
    digest = hashlib.sha256(what.encode()).hexdigest()[:16]
    path = state_path.with_name(f"{state_path.name}.{code}.{digest}.json")
    kept = sorted(each for each in state_path.parent.iterdir() if each.name.startswith(f"{state_path.name}.{code}."))
    if path not in kept and len(kept) >= MOST_EVIDENCE:
        return kept[-1]
    if path not in kept:
        _write(path, body)
    return path


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the state at `path` against a second auditor. Raises Conflict code `audit_running`."""
    with path.with_name(path.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"another audit uses the state {path}",
                code="audit_running",
                next_step="Wait until it has ended, or give another --state.",
            ) from error
        yield


def _write(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    written = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)
    sync(path.parent)


def _unusable(detail: str) -> BadRequest:
    return BadRequest(
        f"the audit's state cannot be used: {detail}",
        code="audit_state_unusable",
        next_step="Find out why before you delete it: with it goes the memory of what the log has shown.",
    )
