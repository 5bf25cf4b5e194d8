"""Follow a log as somebody who does not trust its operator: is what it showed before still there, and does it hold?

Numbered as in docs/audit.md. One audit:

1. fetch the checkpoint; a key that the auditor chose signed it, for this very origin
2. it is no smaller than what the state remembers, and has no second root for that size
3. from the tiles that are served, the old right edge is cut out and must give the old root; new leaf hashes are added
   up to the new size and must give the new root; upper tiles must be what the lower ones hash to
4. entries, all or a sample, hash to their leaves and stand under the root; statements are signed by keys that the log
   announced
5. the witnesses that were asked for are a quorum, and the checkpoint is not too old

The auditor asks through a `Fetch` and touches nothing else: no clock, no file, no network of its own. What a clean
audit does not prove: that the operator shows others the same log (witnesses do), or that any statement is true.
"""

import base64
import hashlib
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ledger.audit.entries import BLOCKED, EntryAuditor
from ledger.audit.fetch import Fetch
from ledger.audit.findings import Finding, Refuted
from ledger.audit.state import State
from ledger.audit.tree import Files, in_order, sampled_bundle, served_edge, walk
from ledger.audit.trust import SignedCheckpoint, Trust, open_checkpoint
from ledger.errors import Unavailable
from ledger.log import merkle
from ledger.log.notes import MAX_NOTE_BYTES, Checkpoint

MOST_FINDINGS = 100
"""Findings told one by one; the rest are counted."""

_KEPT_ANSWERS, _LARGEST_KEPT = 64, 65_536

Choose = Callable[[Sequence[int], int], list[int]]
"""(population, k) → k of them; `random.sample` on a generator that the log cannot foresee."""

BY_LOT: Choose = random.SystemRandom().sample


@dataclass(frozen=True)
class Reading:
    """How many of the entries are read. `full`: the whole tree anew, from every entry since the first. `every_new`:
    all since the state. Else `new` bundles of 256 among the new ones (all, where there are no more) and `old` among
    those before."""

    full: bool = False
    every_new: bool = False
    new: int = 16
    old: int = 16


class Report(msgspec.Struct):
    """What one audit saw. `consistent` is the tree's: findings that do not hold the state leave it true."""

    consistent: bool
    findings: list[Finding]
    findings_total: int
    origin: str | None = None
    size: int | None = None
    root: str | None = None
    previous_size: int | None = None
    bundles_read: int = 0
    entries_read: int = 0
    entries_to: int = 0
    statements: dict[str, int] = {}
    types: dict[str, int] = {}
    blocked: dict[str, int] = {}
    quorum: bool | None = None
    cosigned_at: dict[str, int] = {}
    age: float | None = None
    shown: list[str] = []


@dataclass(frozen=True)
class Outcome:
    """`state`: what to remember from now on; None where it is to stay as it was. `evidence` by finding's code, JSON."""

    report: Report
    state: State | None
    evidence: dict[str, dict[str, Any]]


def audit(
    fetch: Fetch,
    trust: Trust,
    state: State | None,
    *,
    now: float,
    reading: Reading = Reading(),
    max_age: float | None = None,
    choose: Choose = BY_LOT,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Outcome:
    """Audit a log once, from `state` on. `now`: Unix seconds. `max_age`: seconds, see `_age`.

    Raises Unavailable (`log_unreachable`, `log_not_there`) where nothing can be said, BadRequest
    `audit_state_unusable`. Everything that the log does wrong is a finding, never an exception.
    """
    one = _Audit(_Recorder(fetch), trust, state, now, reading, max_age, choose, progress)
    try:
        return one.outcome()
    except Refuted as refuted:
        return one.refuted(refuted)


@dataclass
class _Recorder:
    """A `Fetch` that remembers the last answers, for the evidence."""

    fetch: Fetch
    kept: deque[tuple[str, bytes]] = field(default_factory=lambda: deque(maxlen=_KEPT_ANSWERS))

    def __call__(self, path: str, limit: int) -> bytes:
        body = self.fetch(path, limit)
        if len(body) <= _LARGEST_KEPT:
            self.kept.append((path, body))
        return body

    def as_json(self) -> list[dict[str, str]]:
        return [
            {"path": path, "sha256": hashlib.sha256(body).hexdigest(), "base64": base64.b64encode(body).decode()}
            for path, body in dict(self.kept).items()
        ]


@dataclass
class _Audit:
    fetch: _Recorder
    trust: Trust
    state: State | None
    now: float
    reading: Reading
    max_age: float | None
    choose: Choose
    progress: Callable[[int, int], None]

    def __post_init__(self) -> None:
        self.old = self.state.signed(self.trust) if self.state is not None else None
        self.served: bytes | None = None
        self.report = Report(consistent=True, findings=[], findings_total=0)
        self.bad_entries: list[dict[str, Any]] = []
        if self.state is None or self.reading.full:
            self.entries = EntryAuditor.of(self.trust.statement_keys)
        else:
            self.entries = EntryAuditor.of(self.trust.statement_keys, self.state.keys, self.state.entries_to)

    def outcome(self) -> Outcome:
        new = self._checkpoint()
        self._compare(new)
        files = Files(self.fetch, new.checkpoint.size)
        self._tree(files, new.checkpoint)
        self._sample(files, new.checkpoint)
        first_seen = self._first_seen(new)
        self._witnesses(new, first_seen)
        self._close()
        state = State(new.note.decode(), first_seen, self.entries.seen_to, self.entries.learnt())
        return Outcome(self.report, state, self._evidence_of_entries())

    def refuted(self, refuted: Refuted) -> Outcome:
        """Nothing that the log showed this time counts: the state stays."""
        self._found(refuted.finding)
        self.report.consistent = False
        self._close()
        evidence = self._evidence(refuted.finding) | refuted.proof | {"fetched": self.fetch.as_json()}
        return Outcome(self.report, None, {refuted.finding.code: evidence} | self._evidence_of_entries())

    # ---- the steps ---------------------------------------------------------------------------------------------------

    def _checkpoint(self) -> SignedCheckpoint:
        """Step 1."""
        try:
            self.served = self.fetch("checkpoint", MAX_NOTE_BYTES)
        except Refuted as refuted:
            if refuted.finding.code != "not_served":
                raise
            raise Unavailable(
                refuted.finding.detail,
                code="log_not_there",
                next_step="Give the address below which `checkpoint` lies, such as https://example.org/log/2026/.",
            ) from refuted
        new = open_checkpoint(self.served, self.trust)
        self.report.origin, self.report.size = new.checkpoint.origin, new.checkpoint.size
        self.report.root = base64.b64encode(new.checkpoint.root).decode()
        return new

    def _compare(self, served: SignedCheckpoint) -> None:
        """Step 2, against what was seen before."""
        if self.old is None:
            return
        old, new = self.old.checkpoint, served.checkpoint
        self.report.previous_size = old.size
        if new.origin != old.origin:
            detail = f"the log was {old.origin!r} and now calls itself {new.origin!r}"
            raise Refuted(Finding("origin_changed", detail))
        if new.size < old.size:
            detail = f"the log had {old.size} entries and now shows {new.size}: an old copy, or a log put back"
            raise Refuted(Finding("log_shrank", detail))
        if new.size == old.size and new.root != old.root:
            raise Refuted(Finding("two_roots", f"the log signed two trees of {new.size} entries"))

    def _tree(self, files: Files, new: Checkpoint) -> None:
        """Step 3, and step 4 for the entries that are read on the way."""
        old = self.old.checkpoint if self.old is not None else Checkpoint(new.origin, 0, merkle.EMPTY_ROOT)
        edge = merkle.RightEdge() if self.reading.full else served_edge(files, old.size)
        reads_all = self.reading.full or self.reading.every_new
        before = edge.size
        old_root = walk(
            files, edge, self._judge if reads_all else None, old.size, lambda done: self.progress(done, new.size)
        )
        if reads_all:
            self.report.bundles_read = -(-new.size // merkle.TILE_WIDTH) - before // merkle.TILE_WIDTH
        if edge.root() != new.root:
            detail = f"the tiles served for {new.size} entries do not hash to the root that the log signed"
            raise Refuted(Finding("root_mismatch", detail))
        if old_root != old.root:
            raise self._forked(files, old, new, old_root)

    def _forked(self, files: Files, old: Checkpoint, new: Checkpoint, old_root: bytes) -> Refuted:
        """The new tree, by its own signed root, began otherwise: anybody can check that from the two notes and this."""
        try:
            path = merkle.consistency_proof(merkle.reader_of_tiles(files.tile), old.size, new.size)
            merkle.verify_consistency(old.size, new.size, old_root, new.root, path)
        except merkle.ProofError:
            detail = "the tiles served changed while they were read"
            return Refuted(Finding("tile_contradicts", detail))
        detail = f"the tree of {new.size} entries does not begin with the tree of {old.size} that the log signed before"
        proof = {
            "old_size": old.size,
            "new_size": new.size,
            "root_of_old_size_in_new_tree": base64.b64encode(old_root).decode(),
            "hashes": [base64.b64encode(value).decode() for value in path],
        }
        return Refuted(Finding("forked", detail), {"consistency": proof})

    def _sample(self, files: Files, new: Checkpoint) -> None:
        """Step 4 for bundles drawn by lot, and for the first one, which announces the keys, if it was never read."""
        if self.reading.full or not new.size:
            return
        bundles = -(-new.size // merkle.TILE_WIDTH)
        old_size = self.old.checkpoint.size if self.old is not None else 0
        first_new = old_size // merkle.TILE_WIDTH if new.size > old_size else bundles
        drawn = set() if self.reading.every_new else self._draw(range(first_new, bundles), self.reading.new)
        drawn |= self._draw(range(first_new), self.reading.old)
        if not self.entries.seen_to:
            drawn.add(0)

        def read(index: int) -> list[bytes]:
            return sampled_bundle(files, index, new.root)

        for index, bundle in in_order(read, sorted(drawn)):
            for offset, entry in enumerate(bundle):
                self._judge(index * merkle.TILE_WIDTH + offset, entry)
            self.report.bundles_read += 1

    def _draw(self, bundles: range, count: int) -> set[int]:
        return set(bundles) if len(bundles) <= count else set(self.choose(bundles, count))

    def _witnesses(self, new: SignedCheckpoint, first_seen: float) -> None:
        """Step 5."""
        self.report.quorum = new.quorum
        self.report.cosigned_at = {witness.name: at for witness, at in new.cosigned_at.items()}
        if new.quorum is False:
            signed = ", ".join(sorted(self.report.cosigned_at)) or "none"
            detail = f"the witnesses that signed the checkpoint ({signed}) are not the quorum that was asked for"
            self._found(Finding("quorum_missing", detail, holds=False))
        self.report.age = self.now - max(new.cosigned_at.values(), default=first_seen)
        if self.max_age is not None and self.report.age > self.max_age:
            detail = f"the newest checkpoint is {self.report.age:.0f} s old; {self.max_age:g} s are allowed"
            self._found(Finding("stale", detail, holds=False))

    def _first_seen(self, new: SignedCheckpoint) -> float:
        """A checkpoint carries no time of the log's own; what counts is when the auditor saw it, if no witness says."""
        if self.state is None or self.old is None or self.old.checkpoint.size != new.checkpoint.size:
            return self.now
        return self.state.first_seen

    # ---- findings and what shows them --------------------------------------------------------------------------------

    def _judge(self, index: int, entry: bytes) -> None:
        self.report.entries_read += 1
        finding = self.entries.judge(index, entry)
        if finding is not None:
            self._found(finding)
            if len(self.bad_entries) < MOST_FINDINGS:
                self.bad_entries.append({"index": index, "code": finding.code, "entry": entry.hex()})

    def _found(self, finding: Finding) -> None:
        self.report.findings_total += 1
        if len(self.report.findings) < MOST_FINDINGS or finding.holds:
            self.report.findings.append(finding)

    def _evidence(self, finding: Finding) -> dict[str, Any]:
        """Both signed checkpoints and the claim; who holds the log's key can check it without us."""
        return {
            "code": finding.code,
            "detail": finding.detail,
            "found_at": self.now,
            "seen_before": self.state.note if self.state is not None else None,
            "served": self.served.decode(errors="replace") if self.served is not None else None,
        }

    def _evidence_of_entries(self) -> dict[str, dict[str, Any]]:
        if not self.bad_entries:
            return {}
        finding = Finding("entries_bad", "entries that are not what this log's entries must be", holds=False)
        return {finding.code: self._evidence(finding) | {"entries": self.bad_entries}}

    def _close(self) -> None:
        report = self.report
        report.statements, report.types = dict(self.entries.statements), dict(self.entries.types)
        report.blocked = dict(self.entries.blocked)
        report.entries_to = self.entries.seen_to
        report.shown = [*_shown(report, self.reading)]


def _shown(report: Report, reading: Reading) -> list[str]:
    """What this audit showed and what it did not, in words."""
    if not report.consistent:
        return ["The log does not hold; the state stays where it was."]
    said = []
    if report.previous_size is None:
        said.append("First look: nothing was known of this log's past.")
    else:
        said.append(f"All {report.previous_size} entries seen before are still there, unchanged.")
    if reading.full:
        said.append("The whole tree was computed anew from every entry.")
    else:
        said.append(f"The tree was computed from its tiles; {report.entries_read} entries were read and match it.")
    if report.quorum is None:
        said.append("No witness was asked for: the operator could show others another log.")
    elif report.quorum:
        said.append("The witnesses asked for saw the same log.")
    if report.blocked:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(report.blocked.items()))
        said.append(
            f"{report.types[BLOCKED]} entries read say that the ledger's near-copy gate refused an image: {reasons}."
        )
    if unchecked := report.statements.get("unchecked"):
        said.append(f"{unchecked} statements are by keys whose announcement was not read; --full reads it.")
    if opaque := report.statements.get("opaque"):
        said.append(f"{opaque} entries are not this program's statements; only their place was checked.")
    return said
