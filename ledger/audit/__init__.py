"""Following a log without trusting its operator: over HTTP alone, with keys that the auditor chose."""
