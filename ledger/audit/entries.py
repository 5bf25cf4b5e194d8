"""What the entries of a log say: whose statements they are, by which keys, and of which types.

The ledger's own keys are learnt from its announcements (`ledger.log.announcements`), a submitter's from the entry by
which the ledger registered it. Entries that are no statements of ours are opaque: on another log they are counted; on a
log that began with our genesis they are findings.

What a valid statement does not prove: that it is true.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ledger.audit.findings import Finding
from ledger.log.announcements import GENESIS, KEYS, KeyHistory, KeyUse, KnownKey
from ledger.log.statement_types import Blocked, describe
from ledger.log.statements import Statement, StatementError, key_id, parse_statement, verify_statement

SUBMITTER_KEY = "lawful-ledger/submitter-key/1"
BLOCKED = "lawful-ledger/blocked/1"

MOST_TYPES = 100
"""Types told apart: a log may invent as many as it has entries."""
_OTHER_TYPES = "(other types)"
_HEX_KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)


class LearntKey(msgspec.Struct, frozen=True):
    """A key as the state keeps it. `issuer` is empty for the ledger's own, else the one submitter it speaks for."""

    use: KeyUse
    public_key: str
    since: int
    retired: int | None = None
    compromised: int | None = None
    issuer: str = ""


@dataclass
class EntryAuditor:
    """Judges entries in the log's order, and learns as it goes. Not for several threads.

    `seen_to`: how many entries from the very first on were judged without a gap. Only then is an unknown key a finding;
    behind a gap the announcement may stand in what was not read, and the statement counts as `unchecked`.
    """

    history: KeyHistory = field(default_factory=KeyHistory)
    submitters: dict[bytes, tuple[bytes, str]] = field(default_factory=dict)
    """kid → (public key, issuer)."""
    seen_to: int = 0
    ours: bool = False
    """Whether entry 0 is our genesis."""
    statements: Counter[str] = field(default_factory=Counter)
    """Entries by what came of them: verified, unchecked, opaque, bad."""
    types: Counter[str] = field(default_factory=Counter)
    blocked: Counter[str] = field(default_factory=Counter)
    """Images that the ledger says its near-copy gate refused, by reason; one image may have several."""

    @classmethod
    def of(cls, given: Iterable[bytes], learnt: Sequence[LearntKey] = (), seen_to: int = 0) -> "EntryAuditor":
        """With raw statement keys that the auditor was given, and what an earlier audit learnt up to `seen_to`."""
        auditor = cls(seen_to=seen_to, ours=any(not key.issuer for key in learnt))
        for key in learnt:
            public_key = bytes.fromhex(key.public_key)
            if key.issuer:
                auditor.submitters[key_id(public_key)] = (public_key, key.issuer)
            else:
                known = KnownKey(public_key, key.since, key.retired, key.compromised)
                auditor.history.keys[key.use, key_id(public_key)] = known
        for public_key in given:
            auditor.history.keys.setdefault(("statements", key_id(public_key)), KnownKey(public_key, 0))
        return auditor

    def learnt(self) -> list[LearntKey]:
        """What the state is to keep."""
        own = [
            LearntKey(use, known.public_key.hex(), known.since, known.retired, known.compromised)
            for (use, _), known in self.history.keys.items()
        ]
        return own + [LearntKey("statements", key.hex(), 0, issuer=issuer) for key, issuer in self.submitters.values()]

    def judge(self, index: int, entry: bytes) -> Finding | None:
        """Take in an entry; what is wrong with it, if anything. One that was judged before teaches nothing again."""
        again, gapless = index < self.seen_to, index == self.seen_to
        if gapless:
            self.seen_to += 1
        try:
            statement = parse_statement(entry)
        except StatementError as error:
            return self._opaque(index, error)
        kind = statement.payload.get("type")
        self._count_type(kind if isinstance(kind, str) else "(no type)")
        try:
            self._verify(index, statement, None if again else kind)
        except StatementError as error:
            if error.code in {"statement_key_unknown", "announcement_not_believed"} and not gapless:
                self.statements["unchecked"] += 1
                return None
            self.statements["bad"] += 1
            return Finding(error.code, f"entry {index}: {error.detail}", index, holds=False)
        self.statements["verified"] += 1
        return None

    def _opaque(self, index: int, error: StatementError) -> Finding | None:
        if not self.ours:
            self.statements["opaque"] += 1
            return None
        self.statements["bad"] += 1
        return Finding("entry_no_statement", f"entry {index} is no statement: {error.detail}", index, holds=False)

    def _verify(self, index: int, statement: Statement, kind: object) -> None:
        """Raises StatementError for a statement that does not stand under a key that may make it."""
        if kind in (GENESIS, KEYS):
            self.history.learn(index, statement.raw)
            self.ours = self.ours or (index == 0 and kind == GENESIS)
            return
        own = self.history.key("statements", statement.kid)
        if own is not None:
            verify_statement(statement.raw, own.public_key)
            if own.suspect_at(index):
                raise StatementError(
                    f"signed by a key that the log itself called compromised in entry {own.compromised}",
                    code="statement_key_compromised",
                )
            if kind == SUBMITTER_KEY:
                self._register(statement.payload)
            if statement.payload.get("type") == BLOCKED:
                self._count_reasons(statement.payload)
            return
        submitter = self.submitters.get(statement.kid)
        if submitter is None:
            raise StatementError(
                f"signed by the key {statement.kid.hex()}, which no entry before it announced",
                code="statement_key_unknown",
            )
        public_key, issuer = submitter
        verify_statement(statement.raw, public_key)
        if statement.issuer != issuer:  # a submitter's key speaks for that submitter only, never for the ledger
            raise StatementError(
                f"issued as {statement.issuer[:80]!r} with the key of {issuer!r}", code="statement_issuer"
            )

    def _register(self, payload: dict[str, Any]) -> None:
        """A submitter's key, as `ledger.submissions.register_key` announces it."""
        match payload:
            case {"submitter": str(principal), "kid": str(kid), "ed25519": str(encoded)} if _HEX_KEY.fullmatch(encoded):
                public_key = bytes.fromhex(encoded)
                if key_id(public_key).hex() == kid:
                    self.submitters[key_id(public_key)] = (public_key, f"submitter/{principal}")
                    return
        raise StatementError("a submitter's key in another form", code="announcement_malformed")

    def _count_reasons(self, payload: dict[str, Any]) -> None:
        """Raises StatementError `statement_undescribed` for a refusal in another form: it would say nothing."""
        said = describe(payload)
        assert isinstance(said, Blocked)
        self.blocked.update(said.reasons)

    def _count_type(self, kind: str) -> None:
        self.types[kind[:80] if kind in self.types or len(self.types) < MOST_TYPES else _OTHER_TYPES] += 1
