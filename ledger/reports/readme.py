"""README.txt of the evidence zip: how an expert of a court checks it with programs of others, step by step."""

from ledger.reports.dossier import (
    FACTS,
    ISSUED,
    ISSUED_PROOF,
    KEYS,
    PROOF,
    RECEIPT,
    REPORT,
    STATEMENT,
    TIMESTAMP,
    TIMESTAMP_PROOF,
    Dossier,
    picture_name,
)


def readme(dossier: Dossier) -> str:
    """The text, wrapped at 100 characters, with this record's own names and digests in the commands."""
    facts = dossier.facts
    shard = facts.origin.rpartition("/")[2]
    stamped = TIMESTAMP in dossier.parts
    pictured = dossier.picture is not None
    said = [
        f"""EVIDENCE ON RECORD {facts.record_id}
of the log {facts.origin}, drawn up {facts.drawn_up_at}

report.pdf is the report to read. It is signed, and has attached what the folder evidence/ holds as
files: the same bytes. This text says how to check all of it without asking the ledger that made it.

WHAT IT CLAIMS
  1. The log held, when this was drawn up, a signed statement about a picture with the pixels
     {facts.look.pixel_sha256}
     and about the report evidence/{REPORT}.
  2. For that statement the file with this SHA-256 was issued, with a content credential (C2PA):
     {facts.look.file_sha256}

WHAT IT DOES NOT CLAIM
  Who made the picture or owns it. That it was not made earlier. That anything was copied, beyond
  what the report says with its error rates. That no key was stolen after it was drawn up.

BEFORE YOU BEGIN: WHOSE KEYS
  Anybody can make up a log and sign for it. So get the log's key from elsewhere than this zip: the
  ledger's own pages, its witnesses, records of your own. The ledger calls itself by this one:
     {facts.log_vkey}
  {FACTS} also holds the root of its certificates (root_pem). Compare both; believe neither from here.

CHECKING IT WITH ONE PROGRAM (pip install lawful-ledger)
     lawful report verify evidence.zip --offline --log-key "KEY" --anchor root.pem
  With --witness-key or --policy it counts the witnesses that signed for the same log.

CHECKING IT WITH PROGRAMS OF OTHERS
  a. The PDF's signature: any PDF reader, or
     pdfsig report.pdf
     The certificate is the one that {KEYS} announces; SHA-256 of it, in DER, stands there.
  b. The attachments are these files:
     pdfdetach -saveall report.pdf -o attached && diff -r attached evidence""",
        f"""  c. The picture's own credential: any C2PA reader, for instance
     c2patool evidence/{picture_name(facts.media_type)}
     sha256sum evidence/{picture_name(facts.media_type)}"""
        if pictured
        else f"""  c. The picture is too large to be in here. Get it from
     {facts.public_url}/v1/records/{facts.record_id}/file
     and compare its SHA-256 with the one above.""",
        f"""  d. The report is the one that the statement commits to. {STATEMENT} is a COSE_Sign1 (RFC 9052),
     its payload JSON. With salt = the hex in {FACTS} and ‖ for joining bytes:
       commitments.report = SHA-256("lawful-ledger/report/1" ‖ 00 ‖ salt ‖ SHA-256({REPORT}))
       commitments.pixels = SHA-256("lawful-ledger/pixels/1" ‖ 00 ‖ salt ‖ pixel_sha256)
     and in {ISSUED} likewise
       commitments.file   = SHA-256("lawful-ledger/file/1" ‖ 00 ‖ salt ‖ SHA-256 of the file)
       leaf               = SHA-256(00 ‖ {STATEMENT})
  e. The log holds both entries: {PROOF} and {ISSUED_PROOF} are C2SP
     tlog-proofs (c2sp.org/tlog-proof) of the leaves SHA-256(00 ‖ entry), under a checkpoint signed
     with the log's key (c2sp.org/signed-note). Any C2SP client reads them.
  f. The statement's key was announced by the log: {KEYS} holds the announcing entries in the
     log's order, each with its proof; the first is the log's entry 0.
  g. {RECEIPT} says the same as e. in COSE (RFC 9942), signed with the announced receipt key.""",
        f"""  h. The time: {TIMESTAMP} is an RFC 3161 timestamp over the text of the checkpoint in
     {TIMESTAMP_PROOF} (after its first blank line, up to and with the newline
     before the signatures):
     openssl ts -verify -in evidence/{TIMESTAMP} -data checkpoint.txt -CAfile authority-root.pem"""
        if stamped
        else "  h. No timestamp authority had stamped the log when this was drawn up: its times are its own word.",
        f"""
ASKING THE LOG AS WELL (not needed for the above)
     lawful audit {facts.public_url}/log/{shard} --log-key "KEY"
  walks all of it and tells whether it is still the log that these proofs are from, whether a key
  was declared stolen since, and whether the record was deleted on request.
""",
    ]
    return "\n".join(said)
