"""What the benchmarks share: percentiles, a founded ledger in a folder that is thrown away, its web process."""

import http.client
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ledger.runtime import Runtime

PORT = 8917


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """5th, 50th and 95th percentile in milliseconds, and the number of runs."""
    low, middle, high = np.percentile(np.asarray(seconds) * 1000, (5, 50, 95))
    return {"p5_ms": round(low, 2), "p50_ms": round(middle, 2), "p95_ms": round(high, 2), "runs": len(seconds)}


def ratio(measured: Sequence[float], baseline: Sequence[float]) -> dict[str, float]:
    """Ratio run by run: the two lists belong together pair by pair."""
    low, middle, high = np.percentile(np.asarray(measured) / np.asarray(baseline), (5, 50, 95))
    return {"p5": round(low, 3), "p50": round(middle, 3), "p95": round(high, 3)}


def show(result: dict[str, Any]) -> None:
    machine = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    print(json.dumps({"machine": machine, **result}, indent=2))


@contextmanager
def throwaway_ledger(*, sequencer: bool = True, **settings: Any) -> Iterator["Runtime"]:
    """A ledger with its own embedded database and, unless told otherwise, a sequencer, in a temporary folder."""
    from ledger import genesis  # here: what measures the lower floors runs where no ledger is installed
    from ledger.runtime import open_runtime, sequencing
    from ledger.settings import Settings

    with tempfile.TemporaryDirectory(prefix="lawful-benchmark-") as folder:
        Path(folder).chmod(0o755)  # Postgres's account has to pass when root runs this
        chosen = Settings(_env_file=None, home=Path(folder) / "ledger", **settings)
        genesis.found(chosen)
        with open_runtime(chosen) as runtime, sequencing(runtime) if sequencer else nullcontext():
            yield runtime


@contextmanager
def web(home: Path, **settings: object) -> Iterator["subprocess.Popen[bytes]"]:
    """`lawful run web` as a process of its own, once it answers on PORT."""
    from ledger.commands.frame import Invocation

    chosen = tuple(f"{name}={value}" for name, value in {"port": PORT, **settings}.items())
    command = Invocation(home, chosen).argv("run", "web")
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            for _ in range(900):
                try:
                    http.client.HTTPConnection("127.0.0.1", PORT).request("GET", "/healthz")
                    break
                except OSError:
                    time.sleep(0.1)
            yield server
        finally:
            server.terminate()
