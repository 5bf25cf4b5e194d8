"""Ray calls the very steps that run in one process: the same works, near-equal vectors, each once, killed or not."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ledger import lab
from ledger.embedding import parts, steps
from ledger.embedding.on_ray import on_ray
from ledger.embedding.parts import Place, located
from ledger.embedding.sources import Shard, Terms, shards
from ledger.settings import Settings
from ledger.sources import Grants
from models.images import encode_png

from .conftest import picture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra: ray)"),
]

# Ray gives its own processes half a minute to start; on a loaded machine they need more.
os.environ.setdefault("RAY_agent_register_timeout_ms", "300000")
os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")

LIMIT = 1 << 20
SETTINGS = Settings(_env_file=None)


def paintings(root: Path, works: int) -> Path:
    for number in range(works):
        (root / f"artist {number % 3}").mkdir(parents=True, exist_ok=True)
        (root / f"artist {number % 3}" / f"{number}.png").write_bytes(encode_png(picture(number)))
    (root / "artist 0" / "again.png").write_bytes(encode_png(picture(0)))
    (root / "artist 1" / "cut.png").write_bytes(encode_png(picture(1))[:-30])
    return root


def parted(source: Path) -> list[Shard]:
    found, _ = shards(str(source), Terms("CC0-1.0", Grants(train=False, compare=True, name=True)))
    return found


def rows(place: Place) -> dict[tuple[str, str], dict[str, object]]:
    every = [row for name in parts.names(place) for row in pq.read_table(place.path(name)).to_pylist()]
    found = {(row["artist"], row["file_sha256"]): row for row in every}
    assert len(found) == len(every), "a work was written twice"
    return found


def test_both_ways_see_the_same_in_the_same_works(tmp_path: Path) -> None:
    source, opener = paintings(tmp_path / "works", 40), lab.opener(SETTINGS)
    here, there = located(str(tmp_path / "here")), located(str(tmp_path / "there"))
    embedder = opener()
    plain, spread = steps.Written(), steps.Written()
    for each in steps.in_process(parted(source), here, LIMIT, embedder):
        plain.add(each)
    for each in on_ray(parted(source), there, LIMIT, opener):
        spread.add(each)
    assert spread == plain
    assert (plain.embedded, plain.known, [bad.code for bad in plain.bad]) == (40, 1, ["image_truncated"])
    ours, theirs = rows(here), rows(there)
    assert ours.keys() == theirs.keys()
    keys = [key for key in embedder.encoders if key != embedder.method]
    for work, row in ours.items():
        for key in keys:
            assert np.allclose(row.pop(key), theirs[work].pop(key), atol=2e-3)
        assert row == theirs[work]
    again = steps.Written()
    for each in on_ray(parted(source), there, LIMIT, opener):
        again.add(each)
    assert (again.embedded, again.known) == (0, 41)


@pytest.mark.parametrize("ray", [[], ["--ray", "local"]])
def test_a_run_that_is_killed_is_finished_by_the_next_and_no_work_is_done_twice(ray: list[str], tmp_path: Path) -> None:
    works = 1200
    source, out = paintings(tmp_path / "works", works), located(str(tmp_path / "out"))
    typed = [sys.executable, "-m", "ledger.cli", "embed", str(source), out.folder, *ray]
    with subprocess.Popen(typed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 600
        while not parts.names(out):
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    kept = rows(out)
    before = {name: Path(out.path(name)).stat().st_mtime_ns for name in parts.names(out)}
    assert 0 < len(kept) < works
    done = subprocess.run([*typed, "--json"], capture_output=True, text=True, timeout=900, check=True)
    assert len(rows(out)) == works, done.stderr
    assert {name: Path(out.path(name)).stat().st_mtime_ns for name in before} == before
    assert json.loads(done.stdout)["written"]["embedded"] == works - len(kept)
