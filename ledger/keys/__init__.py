"""The keys that a ledger signs with: where they lie, which of them is in force, and how one follows another."""
