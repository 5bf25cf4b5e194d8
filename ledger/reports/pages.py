"""What stands on a record's pages, as plain data for `report.typ`. No look-ups, no clock: all of it is the dossier's.

A claim's are `ledger.reports.claim_pages`, with the same sections where both have them. Every text that somebody
else may have written goes through `ledger.reports.lettering`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attribution.evidence import Conflict, CopyAxis, CopyMatch, Evidence, NeighbourAxis, StyleAxis
from attribution.wording import count, credit, percent
from ledger import times
from ledger.log.notes import TlogProof
from ledger.lookup import RecordView
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
    Dossier,
    files_of,
    match_name,
    picture_name,
    picture_of,
)
from ledger.reports.lettering import MOST, RUN, shown
from ledger.reports.schema import ReportBody, read_report
from ledger.verify import Verification
from ledger.web import wording

Data = dict[str, Any]

MOST_MATCHES, MOST_ARTISTS, MOST_NEAREST, MOST_LINES = 6, 6, 3, 12  # the JSON has all of them
RESULT_TONES = {"pass": "good", "fail": "bad", "info": "plain", "skip": "plain"}

PARTS = {
    FACTS: "what this document was drawn up from, and the salt that opens the log's commitments",
    REPORT: "the report itself, canonical JSON: what the log's statement commits to",
    STATEMENT: "the statement: the entry of the log, signed (COSE)",
    PROOF: "the log's proof that it holds the statement (C2SP tlog-proof)",
    RECEIPT: "the log's receipt for the statement (COSE, RFC 9942)",
    ISSUED: "the entry that says which file was issued",
    ISSUED_PROOF: "the log's proof that it holds that entry",
    STEPS: "the claim's steps: the log's entries with their proofs, and what was said",
    KEYS: "the log's entries that announce the keys behind all of this, with their proofs",
    TIMESTAMP: "an authority's timestamp of a checkpoint over the statement (RFC 3161)",
    TIMESTAMP_PROOF: "the log's proof of the statement under that checkpoint",
}


def part_meaning(name: str) -> str:
    """What a part is, in half a sentence."""
    if name.startswith("picture."):
        return "the issued picture with its content credential (C2PA), byte for byte"
    return PARTS.get(name, "a drawing of a matched region")


def page_data(dossier: Dossier) -> Data:
    """Everything that `report.typ` shows. Raises BadRequest `report_malformed`, NoteError `proof_malformed`."""
    facts, body = dossier.facts, read_report(dossier.parts[REPORT])
    proof = TlogProof.parse(dossier.parts[PROOF])
    record = next(iter(facts.look.records), None)
    made_on = day(body.created_at)
    return {
        "label": "SIGNED REPORT OF A PUBLIC RECORD",
        "subject": "Record",
        "title": f"Report on a picture {'generated' if body.kind == 'generation' else 'stamped'} on {made_on}",
        "id": shown(facts.record_id, run=MOST),
        "index": f"{proof.index:,}",
        "verdict": {"text": shown(facts.look.verdict, 600), "tone": _tone("ledger", facts.look)},
        "finding": shown(body.evidence.statement, 900),
        "picture": {
            "attached": picture_of(dossier) is not None,
            "alt": f"The recorded picture, {body.image.width} by {body.image.height} pixels",
            "caption": f"{body.image.width} \N{MULTIPLICATION SIGN} {body.image.height} pixels, fitted to the page. "
            + ("The file itself is attached." if picture_of(dossier) else "The file is too large to be attached."),
        },
        "facts": _facts(dossier, body, proof.index, record),
        "record": {"answers": _answers(facts.look), "checks": _checks(facts.look)},
        "claim": None,
        **every_report(dossier, body.evidence, body.not_proven),
    }


def every_report(dossier: AnyDossier, evidence: Evidence, not_proven: list[str]) -> Data:
    """The sections that a record's and a claim's report share."""
    facts = dossier.facts
    return {
        "origin": shown(facts.origin),
        "drawn_up": moment(facts.drawn_up_at),
        "software": shown(facts.software),
        "evidence": _evidence(dossier, evidence),
        "not_proven": [shown(each, 600) for each in dict.fromkeys([*not_proven, *evidence.not_proven])],
        "attached": [
            {"name": shown(name, run=MOST), "bytes": f"{len(data):,}", "meaning": part_meaning(name)}
            for name, data in files_of(dossier).items()
        ],
        "keys": {"log": shown(facts.log_vkey, run=MOST), "url": shown(facts.public_url)},
        "picture_name": shown(picture_name(facts.media_type)) if facts.media_type is not None else "",
    }


def _checks(look: Verification) -> list[Data]:
    return [
        {
            "step": str(check.step),
            "name": shown(check.name),
            "result": wording.RESULTS[check.result],
            "tone": RESULT_TONES[check.result],
            "code": shown(check.code, 160) if " " not in check.code else "see above",
        }
        for check in look.checks
    ]


def _tone(question: str, look: Verification) -> str:
    return wording.ANSWERS[question][getattr(look.answers, question)].tone


def _answers(look: Verification) -> list[Data]:
    answers = []
    for name, question in wording.QUESTIONS.items():
        meaning = wording.ANSWERS[name][getattr(look.answers, name)]
        answers.append({
            "question": question, "label": meaning.label, "tone": meaning.tone,
            "means": meaning.means, "does_not_mean": meaning.does_not_mean,
        })  # fmt: skip
    return answers


WITNESSED = {
    True: "yes, enough of the log's witnesses have cosigned it",
    False: "not when this was drawn up: the operator could show others another log",
}
STAMPED = {
    True: "an authority stamped the log with this entry in it",
    False: "none: the times here are the ledger's own word",
}


def _facts(dossier: Dossier, body: ReportBody, index: int, record: RecordView | None) -> list[Data]:
    facts, made = dossier.facts, body.made
    model = made.model or {}
    rows: list[tuple[str, str | None, bool]] = [
        ("Made", made.by, False),
        ("With", ", revision ".join(str(model[k]) for k in ("name", "revision") if model.get(k)) or None, False),
        ("Model weights", model.get("weights_sha256"), True),
        ("With, as declared", made.declared_model, False),
        ("Seed", made.seed, True),
        ("Recorded", moment(body.created_at), False),
        ("Issued", moment(record.issued_at) if record is not None and record.issued_at else None, False),
        ("Entry of the log", f"{index:,} of {facts.origin}", False),
        ("Witnessed", WITNESSED[record is not None and record.log is not None and record.log.witnessed], False),
        ("Timestamp", STAMPED[TIMESTAMP in dossier.parts], False),
        ("SHA-256 of the file", facts.look.file_sha256, True),
        ("SHA-256 of its pixels", body.image.pixel_sha256, True),
        ("ISCC", body.image.iscc, True),
        ("Record", facts.record_id, True),
    ]
    return fact_rows(rows)


def fact_rows(rows: Iterable[tuple[str, str | None, bool]]) -> list[Data]:
    """Rows of (label, value, whether it is a digest or an id); those without a value are left out."""
    return [
        {"label": label, "value": shown(value, run=MOST if mono else RUN), "mono": mono}
        for label, value, mono in rows
        if value
    ]


# ---- the evidence, axis by axis --------------------------------------------------------------------------------------


def _evidence(dossier: AnyDossier, evidence: Evidence) -> Data:
    tells = wording.tells(evidence)
    return {
        "snapshot": _snapshot(evidence),
        "gate": _gate(evidence),
        "findings": [
            {
                "question": shown(wording.AXES.get(finding.axis, finding.axis)),
                "label": wording.OUTCOMES[finding.outcome][0],
                "tone": wording.OUTCOMES[finding.outcome][1],
                "text": shown(finding.text, 900),
            }
            for finding in evidence.findings[:MOST_LINES]
            if tells
        ],
        "identical": [
            shown(f"{credit(each.title, each.artist)}: {_SAME[each.by]}")
            for each in evidence.identity.works[:MOST_LINES]
        ],
        "conflicts": [shown(_conflict(each), 600) for each in evidence.conflicts[:MOST_LINES]],
        "copies": _copies(dossier, evidence.copy) if evidence.copy is not None else None,
        "style": _style(evidence.style) if evidence.style is not None else None,
        "nearest": [
            {"title": title, "axes": [_nearest(name, axis) for name, axis in sorted(axes.items())]}
            for title, axes in wording.nearest_by(evidence)
        ],
        "classified": _shares(
            [(each.artist, None, each.share) for each in evidence.classification.artists],
            ("somebody it does not know", evidence.classification.unknown),
        )
        if evidence.classification is not None
        else None,
    }


def _conflict(conflict: Conflict) -> str:
    named = zip(conflict.titles, conflict.artists, strict=False)  # a stranger's lists need not be of one length
    return "; ".join(f"{title} ({artist})" for title, artist in named)


_SAME = {"file_sha256": "the same file", "pixel_sha256": "the same pixels"}


def _snapshot(evidence: Evidence) -> Data | None:
    if evidence.snapshot is None:
        return None
    said = evidence.snapshot
    among = f"{count(said.works, 'work')} by {count(said.artists, 'artist')}"
    return {
        "text": shown(f"Compared with every comparable work of the collection “{said.collection}”: {among}."),
        "digest": shown(said.digest or "", run=MOST),
    }


def _gate(evidence: Evidence) -> Data | None:
    if evidence.gate is None or evidence.gate.decision == "allow":
        return None
    reasons = [wording.GATE_REASONS.get(reason, reason) for reason in evidence.gate.reasons]
    return {
        "text": shown(evidence.gate.text, 600),
        "reasons": [shown(reason) for reason in reasons],
        "policy": shown(wording.policy(evidence.gate.policy), 600),
    }


def _copies(dossier: AnyDossier, axis: CopyAxis) -> Data:
    return {
        "none": f"None among {count(axis.searched, 'work')}, all of which were looked at.",
        "matches": [_match(dossier, match) for match in axis.matches[:MOST_MATCHES]],
        "more": max(0, len(axis.matches) - MOST_MATCHES),
        "calibration": _calibrated(axis.calibration.text if axis.calibration else None),
        "missed": [
            {"edit": shown(edit), "part": percent(part), "share": part} for edit, part in sorted(axis.missed.items())
        ],
    }


def _match(dossier: AnyDossier, match: CopyMatch) -> Data:
    drawn = match.picture is not None and match_name(match.picture) in dossier.parts
    return {
        "title": shown(credit(match.title, match.artist)),
        "said": wording.matching(match),
        "file": match_name(match.picture) if drawn and match.picture else "",
        "alt": shown(wording.match_seen(match), 600),
        "caption": wording.drawn(work_drawn=not match.protected),
        "image": _corners(match.of_image.corners),
        "work": [] if match.protected else _corners(match.of_work.corners),
        "rate": _rate(match.p_value, "how often an image that copies nothing reaches this with any work"),
        "details": f"{match.details:,}, in the same arrangement{', mirrored' if match.mirrored else ''}",
    }


def _corners(corners: Iterable[tuple[float, float]]) -> list[list[float]]:
    """In whole permille of the picture, so that no float's last digit moves a line."""
    return [[round(min(1.0, max(0.0, value)) * 1000) / 1000 for value in corner] for corner in corners]


def _style(axis: StyleAxis) -> Data:
    shares = _shares(
        [(each.artist, each.p_value, each.share) for each in axis.artists], ("none of these", axis.none_of_these)
    )
    return {
        "rows": shares,
        "note": shown(axis.note, 600),
        "calibration": _calibrated(axis.calibration.text if axis.calibration else None),
    }


def _nearest(name: str, axis: NeighbourAxis) -> Data:
    return {
        "encoder": shown(name),
        "weights": shown(axis.encoder),
        "note": shown(axis.note, 600),
        "works": [
            {"title": shown(near.title), "artist": shown(near.artist or "not named"), "p": _p(near.p_value)}
            for near in axis.nearest[:MOST_NEAREST]
        ],
        "calibration": _calibrated(axis.calibration.text if axis.calibration else None),
    }


def _shares(rows: Sequence[tuple[str, float | None, float]], rest: tuple[str, float]) -> list[Data]:
    told = [
        {"name": shown(artist), "p": _p(p_value), "part": percent(share), "share": round(share, 4)}
        for artist, p_value, share in rows[:MOST_ARTISTS]
    ]
    return [*told, {"name": rest[0], "p": "", "part": percent(rest[1]), "share": round(rest[1], 4)}]


def _p(value: float | None) -> str:
    """Two digits; a score without an error rate gets no number."""
    return "unknown" if value is None else f"{value:.2g}"


def _rate(value: float | None, meaning: str) -> str:
    return _p(value) if value is None else f"{_p(value)} ({meaning})"


def _calibrated(text: str | None) -> str:
    return shown(text, 600) if text else "The order is known, its error rate is not: no number can be given."


# ---- times -----------------------------------------------------------------------------------------------------------


def _time(text: str, form: Callable[[str], str]) -> str:
    try:
        return form(text)
    except (ValueError, OverflowError):
        return shown(text, 40)  # somebody else's file


def moment(text: str) -> str:
    """A time for people, in UTC."""
    return _time(text, times.moment)


def day(text: str) -> str:
    """A day for people, in UTC."""
    return _time(text, times.day)
