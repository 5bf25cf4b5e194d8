"""An honest foreign log, a server for it, and a place for what an auditor keeps."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .foreign_log import Log, Server
from .looking import ORIGIN, PREFIX, numbered


@pytest.fixture
def log() -> Log:
    return Log(ORIGIN, numbered(0, 1000))


@pytest.fixture
def server(log: Log) -> Iterator[Server]:
    with Server(log.files, PREFIX) as serving:
        yield serving


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.json"
