"""What a page of docs/ tells people to type: its fenced commands in order, typed into a shell, and what they print."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import ledger

ROOT = Path(ledger.__file__).resolve().parents[1]
_BLOCK = re.compile(
    r"^```(?P<language>\w+) step=(?P<name>[\w-]+)(?: needs=(?P<needs>\w+))?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Step:
    """A block of commands, the program without which it cannot be typed, and the lines it should print."""

    name: str
    typed: str
    needs: str | None
    shown: tuple[str, ...] = ()

    @property
    def missing(self) -> str | None:
        return self.needs if self.needs is not None and shutil.which(self.needs) is None else None

    def is_answered_by(self, printed: str) -> bool:
        """Every line that the page shows is there, in order; `…` stands for anything on one line."""
        lines = iter(printed.splitlines())
        return all(any(_has_in_order(line, shown.strip().split("…")) for line in lines) for shown in self.shown)


def _has_in_order(line: str, parts: list[str]) -> bool:
    at = 0
    for part in parts:
        found = line.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True


def steps_of(page: str) -> list[Step]:
    """The steps of docs/`page`, in its order."""
    blocks = list(_BLOCK.finditer((ROOT / "docs" / page).read_text(encoding="utf-8")))
    shown = {block["name"]: tuple(block["text"].splitlines()) for block in blocks if block["language"] == "text"}
    steps = [
        Step(block["name"], block["text"], block["needs"], shown.pop(block["name"], ()))
        for block in blocks
        if block["language"] == "sh"
    ]
    assert not shown, "an answer on the page without its command"
    return steps


def variables_of(step: Step) -> set[str]:
    return set(re.findall(r"^(\w+)=", step.typed, re.MULTILINE))


class Shell:
    """Somebody's terminal: one folder, and the variables that stay from block to block."""

    def __init__(self, folder: Path, path: str, **variables: str) -> None:
        self.folder = folder
        self._path = path
        self._variables = variables
        self.printed: dict[str, str] = {}
        self.codes: dict[str, int] = {}

    def type(self, step: Step) -> None:
        """Type one block. It ends at the first command that fails."""
        names = sorted(variables_of(step))
        kept = self.folder / "variables"
        keep = "".join(f'printf "%s\\0" "{name}=${name}" >> "{kept}"\n' for name in names)
        kept.write_bytes(b"")
        done = subprocess.run(
            ["bash", "-e", "-c", f"{step.typed}\n{keep}"],
            cwd=self.folder,
            env={"PATH": self._path, "LC_ALL": "C.UTF-8", "HOME": str(self.folder), **self._variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=300,
        )
        self._variables |= dict(pair.split("=", 1) for pair in kept.read_text().split("\0")[:-1])
        self.printed[step.name], self.codes[step.name] = done.stdout, done.returncode

    def holds(self, step: Step) -> bool:
        """Whether the block, which was typed, ended well and printed what the page shows."""
        return self.codes[step.name] == 0 and step.is_answered_by(self.printed[step.name])
