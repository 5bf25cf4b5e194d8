"""A folder that does not exist yet, for a ledger's keys."""

from pathlib import Path

import pytest


@pytest.fixture
def keys_folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "keys"
