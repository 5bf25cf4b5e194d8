"""What stands on the pages of a claim's report, as plain data for `report.typ`. No look-ups, no clock: all of it is the
dossier's, and every text that somebody else may have written goes through `ledger.reports.lettering`.
"""

import base64

from attribution.wording import ALPHA, percent
from ledger.claims.facts import CopyFact, Facts, StyleFact
from ledger.claims.moving import PREFIX
from ledger.log import merkle
from ledger.log.notes import TlogProof
from ledger.log.statements import Statement, parse_statement
from ledger.reports.claim_schema import ClaimReportBody, LoggedStep, PublishedRule, read_claim_report, read_steps
from ledger.reports.dossier import PROOF, REPORT, STEPS, TIMESTAMP, ClaimDossier, match_name, picture_of
from ledger.reports.lettering import MOST, shown
from ledger.reports.pages import STAMPED, WITNESSED, Data, day, every_report, fact_rows, moment
from ledger.web import wording

OUTCOME_TONES = {"supported": "good", "contradicted": "bad", "inconclusive": "open"}
WEIGHT_TONES = {"supports": "good", "contradicts": "bad", "withholds": "warn", "notes": "plain"}
DECIDING = {"supported": ("supports",), "contradicted": ("contradicts",), "inconclusive": ("withholds", "notes")}
CLAIMANT = {
    "verified": "verified: they showed control of the artist's own page",
    "declared": "declared by them, and not verified",
}
MOST_WORDS, MOST_LINES = 4000, 60  # all that a claim or an answer may have; the JSON has the rest of the lines


def claim_page_data(dossier: ClaimDossier) -> Data:
    """Everything that `report.typ` shows. Raises BadRequest `report_malformed`, NoteError `proof_malformed`, and
    StatementError for steps that are none."""
    facts, body = dossier.facts, read_claim_report(dossier.parts[REPORT])
    index = TlogProof.parse(dossier.parts[PROOF]).index
    logged = [(step, parse_statement(base64.b64decode(step.statement))) for step in read_steps(dossier.parts[STEPS])]
    outcome = body.decision.outcome
    grounds = [each for each in body.decision.grounds if each.weight in DECIDING[outcome]]
    return {
        "label": "SIGNED REPORT OF A DECIDED CLAIM",
        "subject": "Claim",
        "title": f"“{wording.CLAIM_KINDS[body.claim.kind]}”: {outcome}",
        "id": shown(facts.claim_id, run=MOST),
        "index": f"{index:,}",
        "verdict": {
            "text": f"{outcome.capitalize()}. {wording.CLAIM_OUTCOMES[outcome]}",
            "tone": OUTCOME_TONES[outcome],
        },
        "finding": shown(" ".join(each.text for each in grounds[:2]), 1200),
        "picture": {
            "attached": picture_of(dossier) is not None,
            "alt": "The picture claimed on",
            "caption": _caption(dossier),
        },
        "facts": _facts(dossier, body, index, logged),
        "record": None,
        "claim": {
            "grounds": [
                {"number": str(each.number), "weight": each.weight, "tone": WEIGHT_TONES[each.weight],
                 "text": shown(each.text, 1200), "code": shown(each.code)}
                for each in body.decision.grounds
            ],
            "words": _lines(body.claim.words),
            "replies": [_reply(step, statement) for step, statement in logged if step.document is not None],
            "figures": _figures(body),
            "drawing": _drawing(dossier, body.facts),
            "steps": [_step(number, *each) for number, each in enumerate(logged)],
            "version": shown(body.decision.rules),
            "rules": [_rule(each, body) for each in body.rules],
        },
        **every_report(dossier, body.evidence, body.not_proven),
    }  # fmt: skip


def _caption(dossier: ClaimDossier) -> str:
    if picture_of(dossier) is not None:
        return "The picture of the record claimed on, fitted to the page. The file itself is attached."
    if dossier.facts.about is not None:
        return "The record's file is too large to be attached."
    return "The image was handed in for this claim. It is on no record and not in here: its SHA-256 says which it was."


def _facts(
    dossier: ClaimDossier, body: ClaimReportBody, index: int, logged: list[tuple[LoggedStep, Statement]]
) -> list[Data]:
    facts, claim, work = dossier.facts, body.claim, body.claim.work
    return fact_rows([
        ("Claimed by", claim.claimant, False),
        ("That they are the artist", CLAIMANT[body.decision.claimant], False),
        ("Of", f"record {claim.about}" if claim.about is not None else "an image that was handed in", False),
        ("Work named", _work(dossier, body), False),
        ("Work made", f"{day(claim.made_on.isoformat())}, as the claimant says" if claim.made_on else None, False),
        ("Opened", moment(claim.created_at), False),
        ("Decided", f"{moment(body.decided_at)}, by {body.decision.rules}", False),
        ("Now", f"{_reached(logged[-1][1])}, when this was drawn up", False),
        ("Entry of the log", f"{index:,} of {facts.origin}", False),
        ("Witnessed", WITNESSED[facts.witnessed], False),
        ("Timestamp", STAMPED[TIMESTAMP in dossier.parts], False),
        ("SHA-256 of the image", claim.image.file_sha256, True),
        ("SHA-256 of its pixels", claim.image.pixel_sha256, True),
        ("SHA-256 of the work", work.file_sha256 if work is not None else None, True),
        ("Claim", facts.claim_id, True),
    ])  # fmt: skip


def _work(dossier: ClaimDossier, body: ClaimReportBody) -> str:
    if dossier.facts.work is not None:
        return dossier.facts.work
    if not body.facts.work.on_record:
        return "a file that the claimant handed in; it is not in the collection"
    return "a protected work, which is not named"


def _lines(words: str) -> list[str]:
    lines = [line for line in words.splitlines() if line.strip()]
    more = [f"({len(lines) - MOST_LINES} more lines are in the attached JSON.)"] if len(lines) > MOST_LINES else []
    return [*(shown(line, MOST_WORDS) for line in lines[:MOST_LINES]), *more]


def _reached(statement: Statement) -> str:
    return shown(str(statement.payload["type"]).removeprefix(PREFIX).removesuffix("/1"), 40)


def _reply(step: LoggedStep, statement: Statement) -> Data:
    said = step.document or {}
    what = "The answer" if _reached(statement) == "answered" else "The appeal"
    return {
        "what": f"{what} of the {shown(statement.payload.get('by_role', 'other side'), 40)}",
        "at": moment(str(statement.payload["created_at"])),
        "words": _lines(str(said.get("words", ""))),
    }


def _step(number: int, step: LoggedStep, statement: Statement) -> Data:
    said = statement.payload
    opened_by = "whoever claims" if number == 0 else "the ledger, by its rules"
    return {
        "number": str(number),
        "state": _reached(statement),
        "role": f"the {shown(said['by_role'], 40)}" if "by_role" in said else opened_by,
        "at": moment(str(said["created_at"])),
        "index": f"{TlogProof.parse(step.tlog_proof.encode()).index:,}",
        "leaf": merkle.leaf_hash(base64.b64decode(step.statement)).hex(),
    }


def _rule(rule: PublishedRule, body: ClaimReportBody) -> Data:
    applied = any(each.number == rule.number for each in body.decision.grounds)
    other = body.claim.kind not in rule.kinds
    return {
        "number": str(rule.number),
        "weight": rule.weight,
        "says": shown(rule.says.replace("*", ""), 600),
        "here": "applies" if applied else "other claims" if other else "does not",
        "tone": WEIGHT_TONES[rule.weight] if applied else "plain",
    }


# ---- the comparison of image and work --------------------------------------------------------------------------------


def _figures(body: ClaimReportBody) -> list[Data]:
    facts = body.facts
    same = {"file": "yes, to the last byte", "pixels": "the pixels are, the file is not", None: "no"}[facts.identical]
    return fact_rows([
        ("The same picture", same, False),
        *_copy(facts.copy),
        *_style(facts.style),
        ("First seen", None if facts.sighting is None else f"{moment(facts.sighting.at.isoformat())}, on the word of "
         + {"authority": "a timestamp authority", "log": "this ledger's own clock"}[facts.sighting.by], False),
    ])  # fmt: skip


def _drawing(dossier: ClaimDossier, facts: Facts) -> Data | None:
    """Image and work with the region that matches outlined, where it was drawn."""
    name = match_name(facts.copy.picture) if facts.copy is not None and facts.copy.picture else ""
    if name not in dossier.parts:
        return None
    shows_work = facts.work.work_id is not None
    seen, said = wording.pair_seen(work_drawn=shows_work), wording.drawn(work_drawn=shows_work)
    return {"file": name, "alt": seen, "caption": said}


def _copy(fact: CopyFact | None) -> list[tuple[str, str | None, bool]]:
    if fact is None:
        return [("A copy, by geometry", "not compared", False)]
    found = (
        f"{fact.details:,} details in the same arrangement{', mirrored' if fact.mirrored else ''};"
        f" {percent(fact.of_image)} of the image, {percent(fact.of_work)} of the work"
        if fact.found
        else "no arrangement of details in common"
    )
    rate = fact.reason
    if fact.found and fact.p_value is not None:
        rate = f"{fact.p_value:.2g}; at most {ALPHA:g} is wanted"
    missed = fact.missed.values()
    return [
        ("A copy, by geometry", found, False),
        ("How often by chance", rate, False),
        ("Calibrated with", f"{fact.n:,} works" if fact.n is not None else None, False),
        ("Copies it misses", f"up to {percent(max(missed))}, by kind of edit" if missed else None, False),
    ]


def _style(fact: StyleFact | None) -> list[tuple[str, str | None, bool]]:
    if fact is None or fact.p_value is None:
        return [("The artist's hand", "cannot tell" if fact is None or fact.reason is None else fact.reason, False)]
    share = "" if fact.share is None else f", similarity share {percent(fact.share)}"
    stands = "" if fact.stands else "; the axis as a whole has no finding"
    return [("The artist's hand", f"by chance {fact.p_value:.2g}{share}{stands}", False)]
