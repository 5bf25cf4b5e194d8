"""README.txt of the evidence zip: how an expert of a court checks it with programs of others, step by step."""

from ledger.claims.moving import DOCUMENT_DOMAIN
from ledger.reports.dossier import (
    FACTS,
    ISSUED,
    ISSUED_PROOF,
    KEYS,
    PROOF,
    RECEIPT,
    REPORT,
    STATEMENT,
    STEPS,
    TIMESTAMP,
    TIMESTAMP_PROOF,
    AnyDossier,
    ClaimDossier,
    ClaimFacts,
    Dossier,
    picture_name,
    picture_of,
)


def readme(dossier: AnyDossier) -> str:
    """The text, wrapped at 100 characters, with this report's own names and digests in the commands."""
    facts = dossier.facts
    shard = facts.origin.rpartition("/")[2]
    what, says, says_not, opens = _of_claim(dossier) if isinstance(dossier, ClaimDossier) else _of_record(dossier)
    proofs = "every entry" if isinstance(dossier, ClaimDossier) else "both entries"
    others = STEPS if isinstance(dossier, ClaimDossier) else ISSUED_PROOF
    said = [
        f"""EVIDENCE ON {what}
of the log {facts.origin}, drawn up {facts.drawn_up_at}

report.pdf is the report to read. It is signed, and has attached what the folder evidence/ holds as
files: the same bytes. This text says how to check all of it without asking the ledger that made it.

WHAT IT CLAIMS
{says}

WHAT IT DOES NOT CLAIM
{says_not}

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
        _picture(dossier),
        f"""  d. The report is the one that the statement commits to. {STATEMENT} is a COSE_Sign1 (RFC 9052),
     its payload JSON. With salt = the hex in {FACTS} and ‖ for joining bytes:
{opens}
  e. The log holds {proofs}: {PROOF} and {others} have C2SP
     tlog-proofs (c2sp.org/tlog-proof) of the leaves SHA-256(00 ‖ entry), under a checkpoint signed
     with the log's key (c2sp.org/signed-note). Any C2SP client reads them.
  f. The statement's key was announced by the log: {KEYS} holds the announcing entries in the
     log's order, each with its proof; the first is the log's entry 0.
  g. {RECEIPT} says the same as e. in COSE (RFC 9942), signed with the announced receipt key.""",
        _timestamp(dossier),
        f"""
ASKING THE LOG AS WELL (not needed for the above)
     lawful audit {facts.public_url}/log/{shard} --log-key "KEY"
  walks all of it and tells whether it is still the log that these proofs are from, whether a key
  was declared stolen since, and whether the content was deleted on request.
""",
    ]
    return "\n".join(said)


def _of_record(dossier: Dossier) -> tuple[str, str, str, str]:
    """What it is evidence on, what that claims and does not, and how its commitments open."""
    look = dossier.facts.look
    return (
        f"RECORD {dossier.facts.record_id}",
        f"""  1. The log held, when this was drawn up, a signed statement about a picture with the pixels
     {look.pixel_sha256}
     and about the report evidence/{REPORT}.
  2. For that statement the file with this SHA-256 was issued, with a content credential (C2PA):
     {look.file_sha256}""",
        """  Who made the picture or owns it. That it was not made earlier. That anything was copied, beyond
  what the report says with its error rates. That no key was stolen after it was drawn up.""",
        f"""       commitments.report = SHA-256("lawful-ledger/report/1" ‖ 00 ‖ salt ‖ SHA-256({REPORT}))
       commitments.pixels = SHA-256("lawful-ledger/pixels/1" ‖ 00 ‖ salt ‖ pixel_sha256)
     and in {ISSUED} likewise
       commitments.file   = SHA-256("lawful-ledger/file/1" ‖ 00 ‖ salt ‖ SHA-256 of the file)
       leaf               = SHA-256(00 ‖ {STATEMENT})""",
    )


def _of_claim(dossier: ClaimDossier) -> tuple[str, str, str, str]:
    return (
        f"CLAIM {dossier.facts.claim_id}",
        f"""  1. The log held, when this was drawn up, a signed decision on this claim by published rules, and
     the decision commits to the report evidence/{REPORT}.
  2. The steps of the claim up to then are the entries in evidence/{STEPS}, each of which names the
     one before it.""",
        """  Who made the image or the work, or that the claimant is the artist. That a court would find the
  same. That nothing was copied where nothing was found. That no key was stolen, and no step taken,
  after it was drawn up.""",
        f"""       commitments.document = SHA-256("{DOCUMENT_DOMAIN}" ‖ 00 ‖ salt ‖ SHA-256({REPORT}))
     and in {STEPS} likewise for each step: of the first, the document is the member claim of
     {REPORT}; of an answer or an appeal it stands beside the step; all in RFC 8785 form. A step's
       previous             = SHA-256(00 ‖ the entry before it)
     The rules that decided are in {REPORT}, and so are the facts that they were applied to.""",
    )


def _picture(dossier: AnyDossier) -> str:
    facts = dossier.facts
    if facts.media_type is None:
        return "  c. The image was handed in for the claim and is not in here; its SHA-256 is in the report."
    if picture_of(dossier) is not None:
        name = picture_name(facts.media_type)
        return f"""  c. The picture's own credential: any C2PA reader, for instance
     c2patool evidence/{name}
     sha256sum evidence/{name}"""
    record_id = facts.about if isinstance(facts, ClaimFacts) else facts.record_id
    return f"""  c. The picture is too large to be in here. Get it from
     {facts.public_url}/v1/records/{record_id}/file
     and compare its SHA-256 with the one in the report or above."""


def _timestamp(dossier: AnyDossier) -> str:
    if TIMESTAMP not in dossier.parts:
        return "  h. No timestamp authority had stamped the log when this was drawn up: its times are its own word."
    return f"""  h. The time: {TIMESTAMP} is an RFC 3161 timestamp over the text of the checkpoint in
     {TIMESTAMP_PROOF} (after its first blank line, up to and with the newline
     before the signatures):
     openssl ts -verify -in evidence/{TIMESTAMP} -data checkpoint.txt -CAfile authority-root.pem"""
