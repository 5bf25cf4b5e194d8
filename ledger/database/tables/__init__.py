"""The tables, as SQLAlchemy 2 mappings. `migrations/` creates them; a test compares the two.

A foreign key names its table by text, so whoever imports one of these files gets all of them.
"""

from ledger.database.tables import artists, claims, log, principals, records, works

__all__ = ["artists", "claims", "log", "principals", "records", "works"]
