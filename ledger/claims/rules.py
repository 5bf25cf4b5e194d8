"""The published rules: from facts to `supported`, `contradicted` or `inconclusive`, with numbered grounds. Pure.

One rule that contradicts decides; else one that supports, unless one withholds it; else it stays open. What a decision
is about: image and work. It never says that the claimant is the artist (`claimant` is a fact beside it), who had an
idea first, or whether a court would call anything an infringement. docs/claims.md repeats this table; a test compares.
"""

import datetime as dt
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec

from attribution.wording import ALPHA, WHOLE, chance_of, percent
from ledger.claims.facts import CopyFact, Facts, Kind, StyleFact

VERSION = "claim_rules_1"
FREE = frozenset({"CC0-1.0", "PDDL-1.0", "Unlicense", "0BSD"})
"""SPDX identifiers of licences that ask for nothing: any use is allowed, learning included."""

SLACK = dt.timedelta(days=1)
"""A day is not a moment, and begins fourteen hours earlier in Kiritimati than in Greenwich."""

Outcome = Literal["supported", "contradicted", "inconclusive"]
Weight = Literal["supports", "contradicts", "withholds", "notes"]

ALL: tuple[Kind, ...] = ("mine", "copies", "style", "unconsented")
SHOWN: tuple[Kind, ...] = ("mine", "copies", "unconsented")


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that applied, in a sentence that stands by itself. `number` is the rule's own, in every report."""

    number: int
    code: str
    weight: Weight
    text: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    outcome: Outcome
    claimant: Literal["verified", "declared"]
    rules: str
    grounds: list[Ground]


class Rule(NamedTuple):
    """`name` is the code of its grounds, `applies` gives their sentence or None, `says` is for the published table."""

    name: str
    weight: Weight
    kinds: tuple[Kind, ...]
    says: str
    applies: Callable[[Facts], str | None]


def decide(facts: Facts) -> Decision:
    """Apply every rule for this kind of claim. The same facts give the same decision, to the last byte."""
    grounds = [
        Ground(number=number, code=rule.name, weight=rule.weight, text=text)
        for number, rule in enumerate(RULES, start=1)
        if facts.kind in rule.kinds and (text := rule.applies(facts)) is not None
    ]
    weights = {ground.weight for ground in grounds}
    outcome: Outcome = "inconclusive"
    if "contradicts" in weights:
        outcome = "contradicted"
    elif "supports" in weights and "withholds" not in weights:
        outcome = "supported"
    return Decision(outcome=outcome, claimant=facts.claimant, rules=VERSION, grounds=grounds)


# ---- what the rules ask ----------------------------------------------------------------------------------------------


def _is_copy(facts: Facts) -> bool:
    copy = facts.copy
    return copy is not None and copy.found and copy.p_value is not None and copy.p_value <= ALPHA


def _shows(facts: Facts) -> bool:
    return facts.identical is not None or _is_copy(facts)


def _is_whole(facts: Facts) -> bool:
    return facts.identical is not None or (_is_copy(facts) and facts.copy is not None and facts.copy.of_image >= WHOLE)


def _day(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%-d %B %Y}"


# ---- supports ----


def _identical(facts: Facts) -> str | None:
    if facts.identical is None:
        return None
    what = "the very bytes" if facts.identical == "file" else "the very pixels"
    return f"The image has {what} of the work."


def _copy(facts: Facts) -> str | None:
    if facts.identical is not None or not _is_copy(facts) or (facts.kind == "mine" and not _is_whole(facts)):
        return None
    copy = facts.copy
    assert copy is not None
    assert copy.p_value is not None
    mirrored = ", mirrored" if copy.mirrored else ""
    return (
        f"{percent(copy.of_image)} of the image shows {percent(copy.of_work)} of the work{mirrored}:"
        f" {copy.details} details stand in the same arrangement. An image that copies nothing reaches this in"
        f" {chance_of(copy.p_value)}."
    )


def _style(facts: Facts) -> str | None:
    style = facts.style
    if style is None or not style.stands or style.p_value is None or style.p_value > ALPHA:
        return None
    return (
        "The image resembles this artist's hand more than images by people outside the collection resemble anybody in"
        f" it: by chance, {chance_of(style.p_value)} does. Resemblance is all that this shows."
    )


def _consent_refused(facts: Facts) -> str | None:
    if not _shows(facts) or facts.work.train is not False or facts.work.licence in FREE:
        return None
    return (
        f"The image shows the work, and on record the grant to learn from it {_when(facts)} not given"
        f" (set by: {facts.work.granted_by})."
    )


def _when(facts: Facts) -> str:
    return "is" if facts.sighting is None else f"was, when the image was first seen on {_day(facts.sighting.at)},"


# ---- contradicts ----


def _later_date(facts: Facts) -> str | None:
    seen = facts.sighting
    if seen is None or facts.made_on is None:
        return None
    if seen.at + SLACK >= dt.datetime.combine(facts.made_on, dt.time(), dt.UTC):  # the year 1 has no day before
        return None
    word = "a timestamp authority's" if seen.by == "authority" else "the ledger's own"
    return (
        f"The claimant says that the work was made on {facts.made_on:%-d %B %Y}. The image existed by {_day(seen.at)}"
        f" at the latest, on {word} word: it cannot show a work made later."
    )


def _made_here(facts: Facts) -> str | None:
    seen = facts.sighting
    if seen is None or not seen.made_here or facts.identical is None:
        return None
    if facts.work.enrolled_at is not None and facts.work.enrolled_at < seen.at:
        return None
    return (
        f"These very pixels came out of this ledger's generator on {_day(seen.at)}, and nothing shows that a work with"
        " these pixels existed before."
    )


def _another_work(facts: Facts) -> str | None:
    if facts.work.on_record and _shows(facts):
        return None  # several artists on record: that is withheld, not contradicted
    named = [each for each in facts.others if each.work_id is not None and not each.same_picture]
    if not named:
        return None
    first = named[0]
    how = "It has that work's very pixels" if first.by == "identity" else "It shows that work as a whole"
    rate = "" if first.p_value is None else f" (by chance in {chance_of(first.p_value)})"
    return f"The image is another work, on record under another artist. {how}{rate}."


def _anothers(facts: Facts) -> str | None:
    if facts.work.credit != "another" or facts.claimant == "verified":
        return None
    return (
        "The collection credits the work named to another artist than the one the claimant says to be. Whoever is that"
        " artist claims under the name on record, or shows control of the artist's page."
    )


def _consent_given(facts: Facts) -> str | None:
    if facts.work.licence in FREE:
        return f"The work is on record under {facts.work.licence}, which allows any use."
    if facts.work.train is not True:
        return None
    return f"On record the grant to learn from the work {_when(facts)} given (set by: {facts.work.granted_by})."


# ---- withholds ----


def _off_record(facts: Facts) -> str | None:
    if facts.work.on_record:
        return None
    return (
        "The work is not in the collection: what was compared is a file that the claimant handed in. Whoever has the"
        " image can hand in the same, so a match with it decides nothing."
    )


def _several_artists(facts: Facts) -> str | None:
    if not (facts.work.on_record and _shows(facts) and facts.others):
        return None
    if all(each.work_id is None for each in facts.others):
        return "The image also is a protected work on record; whose that is, the ledger does not say."
    return "The image also is a work on record under another artist; whose it is, the ledger does not say."


def _part_only(facts: Facts) -> str | None:
    if not _is_copy(facts) or _is_whole(facts):
        return None
    assert facts.copy is not None
    return f"Only {percent(facts.copy.of_image)} of the image shows the work; whose the rest is, nothing here tells."


# ---- notes ----


def _no_match(facts: Facts) -> str | None:
    if facts.copy is None or facts.identical is not None or facts.copy.reason is not None or _is_copy(facts):
        return None
    missed = facts.copy.missed
    rates = "" if not missed else (
        f" As measured, the search misses {percent(min(missed.values()))} to {percent(max(missed.values()))} of copies,"
        " by kind of edit."
    )  # fmt: skip
    return f"No copy of the work was found in the image. That alone contradicts nobody.{rates}"


def _cannot_tell(facts: Facts) -> str | None:
    reasons = []
    if facts.identical is None and (why := _untold(facts.copy)) is not None:
        reasons.append(f"whether it is a copy: {why}")
    if facts.kind == "style" and (why := _untold(facts.style)) is not None:
        reasons.append(f"whose hand it is: {why}")
    return f"It could not be told {'; nor '.join(reasons)}." if reasons else None


def _untold(fact: CopyFact | StyleFact | None) -> str | None:
    return "image and work could not be compared" if fact is None else fact.reason


def _style_is_not_ownership(facts: Facts) -> str | None:
    if _style(facts) is None:
        return None
    return "A manner is free: a resemblance in style proves neither ownership nor that a work was used."


def _first_is_not_author(facts: Facts) -> str | None:
    if facts.sighting is None:
        return None
    return (
        f"That the image is on record since {_day(facts.sighting.at)} shows that it existed, not who made it: whoever"
        " stamps a work first has no better claim by that."
    )


def _claimant(facts: Facts) -> str | None:
    if facts.claimant == "verified":
        return "The claimant showed control of the page that the ledger has on record as the artist's own."
    return "That the claimant is the artist is declared, and was not verified."


RULES: tuple[Rule, ...] = (
    Rule("identical", "supports", ("mine", "copies"), "Image and work have the same bytes or pixels.", _identical),
    Rule(
        "copy_found", "supports", ("mine", "copies"),
        f"The image, or a part of it, shows the work by geometry, at an error rate of at most {ALPHA:g};"
        f" for *mine*, at least {WHOLE:.0%} of the image.", _copy,
    ),
    Rule(
        "style_found", "supports", ("style",),
        f"The style axis stands at the shared error rate of {ALPHA:g}, and this artist's own does.", _style,
    ),
    Rule(
        "consent_refused", "supports", ("unconsented",),
        "The image shows the work (same pixels, or a copy), and on record *train* was not granted when the image was"
        " first seen.", _consent_refused,
    ),
    Rule(
        "later_date", "contradicts", SHOWN,
        "The image is known to have existed more than a day before the claimant says the work was made.", _later_date,
    ),
    Rule(
        "made_here", "contradicts", SHOWN,
        "These very pixels came out of this ledger's generator before the work was on record.", _made_here,
    ),
    Rule(
        "another_work", "contradicts", ("mine",),
        "The image is another work that may be named, on record under another artist, by its pixels or as a whole by"
        " geometry; and it does not show a work on record that the claimant names.", _another_work,
    ),
    Rule(
        "work_is_anothers", "contradicts", ALL,
        "The work named is on record under another artist, and the claimant did not show control of that artist's"
        " page.", _anothers,
    ),
    Rule(
        "consent_given", "contradicts", ("unconsented",),
        f"*train* was granted on record when the image was first seen, or the licence is one of"
        f" {', '.join(sorted(FREE))}.", _consent_given,
    ),
    Rule("work_off_record", "withholds", ALL, "The work is not in the collection; it was only handed in.", _off_record),
    Rule(
        "several_artists", "withholds", SHOWN,
        "The image is also a work on record under another artist, or a protected one.", _several_artists,
    ),
    Rule("part_only", "withholds", ("mine",), f"Less than {WHOLE:.0%} of the image shows the work.", _part_only),
    Rule("no_match", "notes", ALL, "No copy was found; with the measured miss rates.", _no_match),
    Rule("cannot_tell", "notes", ALL, "An axis that the claim needs has no error rate, or nothing was compared.",
         _cannot_tell),
    Rule("style_is_not_ownership", "notes", ALL, "A finding of style proves no ownership.", _style_is_not_ownership),
    Rule("first_is_not_author", "notes", ALL, "Being first on record proves existence, not authorship.",
         _first_is_not_author),
    Rule("claimant", "notes", ALL, "Whether the claimant is known to be the artist: a fact of its own.", _claimant),
)  # fmt: skip


def published() -> list[dict[str, Any]]:
    """The table as it is served and documented."""
    return [
        {"number": number, "code": rule.name, "weight": rule.weight, "kinds": list(rule.kinds), "says": rule.says}
        for number, rule in enumerate(RULES, start=1)
    ]
