"""What `postmaster.pid` says of a running Postgres, and whether it is still true.

Format: Postgres's `src/include/utils/pidfile.h`, one value a line: pid, data folder, start time, port, socket folder, …
"""

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

NO_PROCESS = 2**31 - 1  # beyond every kernel's largest process id


@dataclass(frozen=True)
class Postmaster:
    """What `postmaster.pid` says: the process id, and the socket's folder once it is open."""

    pid: int
    socket_folder: Path | None

    @classmethod
    def read(cls, data: Path) -> "Postmaster | None":
        try:
            lines = (data / "postmaster.pid").read_text(errors="replace").splitlines()
            return cls(abs(int(lines[0])), Path(lines[4]) if len(lines) > 4 and lines[4] else None)
        except FileNotFoundError:
            return None
        except (ValueError, IndexError):
            return cls(0, None)  # just being written, or cut off by a full disk

    def lives(self, data: Path) -> bool:
        """Whether that process is this cluster's server: after a reboot its number may be anybody's."""
        return self.pid > 0 and serves(command_line(self.pid), data)


def serves(command: str, data: Path) -> bool:
    """Whether a command line may be that of the postmaster of `data`.

    False only if it cannot: another program, a backend (`postgres: …`), or a postmaster of another folder that exists.
    """
    if re.match(r"postgres: ", command) or not re.match(r"(/.*/)?postgres( |$)", command):
        return False
    served = re.search(r" -D (.+?)(?: -[a-z] |$)", command)
    try:
        return served is None or Path(served[1]).samefile(data)
    except OSError:
        return True


def command_line(pid: int) -> str:
    """What that process was started as, or calls itself now; empty for one that is gone, and for a zombie on Linux."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # no /proc: macOS
        if Path("/proc/self").exists():
            return ""
    return subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()


def disown(lock: Path) -> None:
    """Takes a dead server's process id out of its lock file. Called only when no server of this cluster lives.

    By now the number may be another process's, or a zombie's that nobody reaps, as in a container: Postgres would
    refuse to start for as long as that lasts. The rest of the file stays, for by it Postgres sees whether children of
    a killed server still write to the data.
    """
    try:
        first, *rest = lock.read_text(errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return
    except ValueError:
        first, rest = "", []
    if first.strip().lstrip("-").isdigit():
        lock.write_text("".join((f"{NO_PROCESS}\n", *rest)))
    elif time.time() - lock.stat().st_mtime > 2:  # not just being written: cut off by a full disk
        lock.unlink()
