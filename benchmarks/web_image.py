"""What the web image holds beyond Python's own, and how soon its process answers, without building an image.

    python -m benchmarks.web_image [--runs 5]

The packages of deploy/Containerfile's `web` stage are installed into an empty folder, from the index that uv uses, and
deploy/packages/web.sh takes out of it what it takes out of the image (it needs `strip`, of binutils). `lawful run web`
is started from that folder by the interpreter beneath this environment, which lends it nothing else. Sizes are bytes of
files: what an image's layer holds, uncompressed. The files are in the page cache and a database runs: a cold disk is
slower.
"""

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from benchmarks.measuring import PORT, show, spread, throwaway_ledger

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
LARGEST = 12


def installed(folder: Path) -> Path:
    """The packages of the web image: what its stage installs, without what deploy/packages/web.sh takes out."""
    (extras,) = re.findall(r"--prefix=\S+ .*\.whl\)(\[.*?\])", (DEPLOY / "Containerfile").read_text(encoding="utf-8"))
    source = folder / "source"
    source.mkdir()
    committed = subprocess.Popen(["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", source], stdin=committed.stdout, check=True)
    packages = folder / "packages"
    into = ["--python", sys.executable, "--target", str(packages), "-c", str(ROOT / "constraints.txt")]
    copies = ["--link-mode", "copy"]  # `strip` would write through hard links into uv's cache and this environment
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "-q", *copies, *into, f"{source}{extras}"], check=True
    )
    subprocess.run(["sh", str(DEPLOY / "packages" / "web.sh"), str(packages)], check=True)
    return packages


def compressed(folder: Path) -> int:
    """Bytes of the layer as a registry keeps it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as archive:
        archive.add(folder, arcname="/")
    return len(packed.getvalue())


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def by_package(packages: Path) -> dict[str, float]:
    """Megabytes of the largest."""
    sizes: Counter[str] = Counter()
    for each in distributions(path=[str(packages)]):
        for file in each.files or []:
            path = Path(str(file.locate()))
            sizes[each.name] += path.stat().st_size if path.is_file() else 0
    return {name: round(count / 1e6, 1) for name, count in sizes.most_common(LARGEST)}


class Start(NamedTuple):
    """`lawful run web` until it answers: seconds, those of them on a processor, and its resident megabytes then."""

    seconds: float
    busy: float
    resident: float


def started(packages: Path, home: Path, database: str) -> Start:
    environment = {
        "PYTHONPATH": str(packages),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "LAWFUL_HOME": str(home),
        "LAWFUL_DATABASE_URL": database,
        "LAWFUL_PORT": str(PORT),
    }
    interpreter = getattr(sys, "_base_executable", sys.executable)
    began = time.perf_counter()
    command = [interpreter, "-m", "ledger.cli", "run", "web"]
    with subprocess.Popen(command, env=environment, cwd=home, stderr=subprocess.DEVNULL) as process:
        try:
            while True:
                assert process.poll() is None, "it ended before it answered"
                try:
                    httpx.get(f"http://127.0.0.1:{PORT}/healthz", trust_env=False).raise_for_status()
                    break
                except httpx.TransportError:
                    time.sleep(0.02)
            seconds = time.perf_counter() - began
            resident = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            assert resident is not None
            ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            busy = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
            return Start(seconds, busy, int(resident[1]) / 1000)
        finally:
            process.terminate()


def first_answers(packages: Path, home: Path, database: str, runs: int) -> dict[str, Any]:
    starts = [started(packages, home, database) for _ in range(runs)]
    return {
        "first answer": spread([each.seconds for each in starts]),
        "of it on a processor": spread([each.busy for each in starts]),
        "resident megabytes": round(max(each.resident for each in starts)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="lawful-web-") as folder, throwaway_ledger() as runtime:
        packages = installed(Path(folder))
        result: dict[str, Any] = {"megabytes": round(size(packages) / 1e6), "largest": by_package(packages)}
        result["megabytes, compressed"] = round(compressed(packages) / 1e6)
        with runtime.database.connect() as connection:
            at = connection.info
            database = f"postgresql://{at.user}@/{at.dbname}?host={quote(at.host, safe='/')}&port={at.port}"
        result["source alone, as in the image"] = first_answers(packages, runtime.settings.home, database, runs)
        subprocess.run([sys.executable, "-m", "compileall", "-q", "-j", "2", str(packages)], check=False)
        result["megabytes with bytecode"] = round(size(packages) / 1e6)
        result["with bytecode"] = first_answers(packages, runtime.settings.home, database, runs)
        shutil.rmtree(packages)
    show(result)


if __name__ == "__main__":
    main()
