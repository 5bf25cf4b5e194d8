"""What an audit can find, as data: a code, a sentence, and whether it stops the state from moving on."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `code` is stable; `docs/audit.md` lists them all with what each proves.

    `holds`: the tree itself is in doubt, so the state stays where it was. A finding that does not hold it (a bad
    statement, a missing quorum) stands in the log for ever or passes; an auditor that stayed there would go blind.
    """

    code: str
    detail: str
    index: int | None = None
    holds: bool = True


@dataclass
class Refuted(Exception):
    """The log as served is not what it must be; the audit can go no further. `proof` is what shows it, as JSON."""

    finding: Finding
    proof: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.finding.code}: {self.finding.detail}"
