"""The schema's history. `ledger/database/migrate.py` runs it; nobody needs an `alembic.ini`."""

from pathlib import Path

FOLDER = Path(__file__).parent

# The newest revision, so that an up-to-date start needs one query and no alembic. A test compares it with `versions/`.
HEAD = "0001"

# Held while a process migrates, so that a second one waits. "LAWFUL" as a number.
ADVISORY_LOCK = 0x4C41_5746_554C
