"""Witnesses, who cosign a log's checkpoints: being one (`witness`), and asking them (`client`, `asking`, `rounds`)."""
