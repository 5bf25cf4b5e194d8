"""Hostile inputs by the million, each made again from its number: `python -m benchmarks.fuzz --help`."""
