"""The schema's history. `ledger/database/migrate.py` runs it; nobody needs an `alembic.ini`."""

from pathlib import Path

FOLDER = Path(__file__).parent

# The newest revision, so that an up-to-date start needs one query and no alembic. A test compares it with `versions/`.
HEAD = "0001"
