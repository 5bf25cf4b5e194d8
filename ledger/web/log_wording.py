"""What the entries of the log are, in words; by the type that each names."""

ENTRIES = {
    "genesis": "the log began and named its keys",
    "keys": "keys changed",
    "policy": "the witness policy changed",
    "override": "an operator disbelieved a witness",
    "record": "an image was recorded",
    "issued": "its file was issued",
    "abandoned": "a record was given up",
    "blocked": "an image was not issued",
    "erased": "content was deleted",
    "verification": "an image was looked at",
    "snapshot": "a collection was frozen",
    "trained": "it was said what a generator learned from",
    "grant": "a grant changed",
    "artist-linked": "somebody acts for an artist, or no longer does",
    "api-key": "a key for this service was made or revoked",
    "submitter-key": "a submitter's key was registered",
    "submitter-key-revoked": "a submitter's key was revoked",
    "claim-opened": "a claim was opened",
    "claim-examined": "a claim was examined",
    "claim-decided": "a claim was decided",
    "claim-answered": "a claim was answered",
    "claim-appealed": "a decision was appealed",
    "claim-closed": "a claim was closed",
    "claim-withdrawn": "a claim was withdrawn",
    "declaration": "somebody's statement",
}


def entry(type_: str) -> str:
    """`lawful-ledger/record/1` in words; a type that this page does not know, by its own name."""
    return ENTRIES.get(type_.removeprefix("lawful-ledger/").rpartition("/")[0], type_)
