"""The commands of `lawful`, a file for each kind: thin wrappers of use cases. `ledger.cli` is the way in."""
