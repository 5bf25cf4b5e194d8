"""Content credentials (C2PA): the ledger's keys, writing one, reading anybody's. The only room that imports c2pa.

Do not fork a process that has loaded it: start workers with `spawn`.
"""
