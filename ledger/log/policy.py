"""Trust policies: which logs are believed, and which of which witnesses must have cosigned.

Format: C2SP tlog-policy, lines of `log`, `witness`, `group` and `quorum`. Log keys are of type 0x01, witness keys of
type 0x04. Names and URLs stand for themselves, byte by byte; as the specification recommends, the file must be UTF-8.

What a met policy does not prove: that the witnesses are independent of each other or of the log. Whoever writes the
policy vouches for that.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ledger.log.note_keys import Kind, NoteError, NoteVerifier

MAX_POLICY_BYTES = 30_000
"""So that the text fits into an entry whatever it holds; hundreds of keys do."""

NO_QUORUM = "none"
"""The predefined name: `quorum none` asks for no witness."""

_OTHER_THAN_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_SPACE = re.compile(r"[ \t]+")  # never str.split(), which knows Unicode's spaces
_THRESHOLD = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


class PolicyError(NoteError):
    """A policy that is not well formed. `line` counts from 1; 0 stands for the whole file."""

    code = "policy_malformed"

    def __init__(self, detail: str, line: int = 0) -> None:
        where = f"line {line} of the policy: " if line else "the policy: "
        step = "Correct the file; its format is c2sp.org/tlog-policy."
        super().__init__(where + detail, code="policy_malformed", next_step=step)
        self.line = line


@dataclass(frozen=True)
class PolicyLog:
    """A log whose checkpoints are believed; its key's name is its origin."""

    verifier: NoteVerifier
    url: str | None


@dataclass(frozen=True)
class PolicyWitness:
    """A witness under the policy's own name for it; signature lines carry its key's name (`verifier.name`)."""

    name: str
    verifier: NoteVerifier
    url: str | None


@dataclass(frozen=True)
class PolicyGroup:
    """Witnesses that an outsider has when `threshold` of `members`, witnesses or groups by name, have."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class Policy:
    """A policy as parsed from `text`. `groups` stand in the file's order: each names only what precedes it."""

    text: str
    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...]
    groups: tuple[PolicyGroup, ...]
    quorum: str

    @classmethod
    def parse(cls, text: str) -> "Policy":
        """Raises PolicyError (a NoteError) code `policy_malformed`, naming the line."""
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > MAX_POLICY_BYTES:
            raise PolicyError(f"{size} bytes; the limit is {MAX_POLICY_BYTES}")
        if not text.endswith("\n"):
            raise PolicyError("every line must end in a newline, the last one too", text.count("\n") + 1)
        reading = _Reading()
        for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
            if _OTHER_THAN_TEXT.search(line):
                raise PolicyError("a control character other than tab and newline, or not UTF-8", number)
            words = _SPACE.split(line.strip(" \t"))
            if words != [""] and not words[0].startswith("#"):
                reading.take(words, number)
        if reading.quorum is None:
            raise PolicyError("no quorum line; `quorum none` asks for no witness")
        return cls(text, tuple(reading.logs), tuple(reading.witnesses), tuple(reading.groups), reading.quorum)

    @property
    def sha256(self) -> bytes:
        """Of the text in UTF-8, 32 bytes."""
        return hashlib.sha256(self.text.encode()).digest()

    @property
    def log_verifiers(self) -> tuple[NoteVerifier, ...]:
        return tuple(log.verifier for log in self.logs)

    @property
    def witness_verifiers(self) -> tuple[NoteVerifier, ...]:
        return tuple(witness.verifier for witness in self.witnesses)

    def met_by(self, signed: Iterable[NoteVerifier | str]) -> bool:
        """Whether those who validly cosigned one checkpoint, as verifiers or by the policy's names, are a quorum.

        Unknown ones count for nothing. `quorum none` is always met.
        """
        given = set(signed)
        met = {witness.name for witness in self.witnesses if witness.name in given or witness.verifier in given}
        for group in self.groups:
            if sum(member in met for member in group.members) >= group.threshold:
                met.add(group.name)
        return self.quorum == NO_QUORUM or self.quorum in met


def load_policy(path: Path) -> Policy:
    """Read and parse a policy file. Raises PolicyError, also when the file cannot be read or is not UTF-8."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return Policy.parse(content.decode())
    except UnicodeDecodeError as error:
        if len(content) > MAX_POLICY_BYTES:
            raise PolicyError(f"more than {MAX_POLICY_BYTES} bytes") from error
        raise PolicyError("not UTF-8", content.count(b"\n", 0, error.start) + 1) from error


# ---- lines ---------------------------------------------------------------------------------------------------------


@dataclass
class _Reading:
    """What the lines so far have defined."""

    logs: list[PolicyLog] = field(default_factory=list)
    witnesses: list[PolicyWitness] = field(default_factory=list)
    groups: list[PolicyGroup] = field(default_factory=list)
    quorum: str | None = None
    names: set[str] = field(default_factory=set)
    grouped: set[str] = field(default_factory=set)

    def take(self, words: list[str], line: int) -> None:
        match words:
            case ["log", vkey, *url] if len(url) < 2:
                self._log(vkey, url, line)
            case ["witness", name, vkey, *url] if len(url) < 2:
                self._witness(name, vkey, url, line)
            case ["group", name, threshold, *members] if members:
                self._group(name, threshold, members, line)
            case ["quorum", name]:
                self._quorum(name, line)
            case _:
                raise PolicyError(f"not a log, witness, group or quorum line of {len(words)} words", line)

    def _log(self, vkey: str, url: list[str], line: int) -> None:
        verifier = _verifier(vkey, "note", line)
        if any(log.verifier.public_key == verifier.public_key for log in self.logs):
            raise PolicyError("a log's key a second time", line)
        self.logs.append(PolicyLog(verifier, url[0] if url else None))

    def _witness(self, name: str, vkey: str, url: list[str], line: int) -> None:
        verifier = _verifier(vkey, "cosignature", line)
        # One key under two names would let one witness count twice.
        if any(witness.verifier.public_key == verifier.public_key for witness in self.witnesses):
            raise PolicyError("a witness's key a second time", line)
        self._define(name, line)
        self.witnesses.append(PolicyWitness(name, verifier, url[0] if url else None))

    def _group(self, name: str, threshold: str, members: list[str], line: int) -> None:
        for member in members:
            if member not in self.names:
                raise PolicyError(f"{member} is not defined above", line)
            if member in self.grouped:
                raise PolicyError(f"{member} is a member a second time", line)
            self.grouped.add(member)
        self._define(name, line)
        needed = {"any": 1, "all": len(members)}.get(threshold)
        if needed is None and _THRESHOLD.fullmatch(threshold):
            needed = int(threshold)
        if needed is None or needed > len(members):
            raise PolicyError(f"the threshold must be `any`, `all` or 1 to {len(members)}", line)
        self.groups.append(PolicyGroup(name, needed, tuple(members)))

    def _quorum(self, name: str, line: int) -> None:
        if self.quorum is not None:
            raise PolicyError("a second quorum line", line)
        if name != NO_QUORUM and name not in self.names:
            raise PolicyError(f"{name} is not defined above", line)
        self.quorum = name

    def _define(self, name: str, line: int) -> None:
        if name == NO_QUORUM or name in self.names:
            raise PolicyError(f"the name {name} is already taken", line)
        self.names.add(name)


def _verifier(vkey: str, kind: Kind, line: int) -> NoteVerifier:
    expected = "0x01 (a log's)" if kind == "note" else "0x04 (a witness's)"
    try:
        verifier = NoteVerifier.parse(vkey)
    except NoteError as error:
        raise PolicyError(f"not a verifier key of type {expected}", line) from error
    if verifier.kind != kind:
        raise PolicyError(f"the key {verifier.name} is not of type {expected}", line)
    return verifier
