"""What deploy/ holds, read: its commands, its variables, and how to run one of its commands here."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

import ledger

ROOT = Path(ledger.__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
TOLD = "told"
LAWFUL = "/opt/lawful-ledger/.venv/bin/lawful"


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def instructions(word: str) -> list[str]:
    """The Containerfile's lines of one instruction, continued lines joined."""
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.partition(" ")[2].strip() for line in text.splitlines() if line.startswith(word + " ")]


def unit(path: Path) -> ConfigParser:
    found = ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(path.read_text(encoding="utf-8"))
    return found


def defaults(text: str) -> str:
    """`${NAME:-value}` as compose reads it where NAME is not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def lawful_commands() -> dict[str, set[str]]:
    """command of `lawful` → where deploy/ runs it."""
    found: dict[str, set[str]] = {}
    for name, service in compose()["services"].items():
        if "build" in service or service["image"].startswith("lawful"):
            found.setdefault(shlex.join(map(defaults, service["command"])), set()).add(f"compose {name}")
    for command in instructions("CMD"):
        found.setdefault(shlex.join(yaml.safe_load(command)), set()).add("Containerfile")
    for path in UNITS:
        program, _, rest = unit(path)["Service"]["ExecStart"].partition(" ")
        assert program == LAWFUL
        found.setdefault(rest, set()).add(path.name)
    return found


@contextmanager
def running(environment: dict[str, str], *command: str) -> Iterator["subprocess.Popen[str]"]:
    """`lawful <command>`, killed at the end if it has not ended. What it tells goes to the file `TOLD`."""
    argv = [sys.executable, "-m", "ledger.cli", *command]
    home = Path(environment["LAWFUL_HOME"])
    with (
        (home / TOLD).open("w") as told,  # a pipe that nobody reads while it runs would fill up and hold it
        subprocess.Popen(argv, env=environment, stderr=told, text=True, cwd=home) as started,
    ):
        try:
            yield started
        finally:
            if started.poll() is None:
                started.kill()


def clean(**more: str) -> dict[str, str]:
    """This process's environment without settings of a ledger's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LAWFUL_", "PG"))}
    return kept | {"PYTHONPATH": str(ROOT)} | more
