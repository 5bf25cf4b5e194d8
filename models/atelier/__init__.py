"""The built-in collection, generator and encoders: how they are drawn and trained, and their weights."""
