"""The published rules: what supports, what contradicts, what stays open, and what never decides anything."""

import datetime as dt
import itertools
import json
from pathlib import Path

import msgspec
import pytest

from ledger.claims.facts import CopyFact, Facts, Kind, OtherWork, Sighting, StyleFact, WorkFact
from ledger.claims.rules import RULES, decide, published

DAY = dt.datetime(2026, 5, 10, 12, tzinfo=dt.UTC)
WORK = WorkFact(
    on_record=True, work_id="w", licence="all rights reserved", enrolled_at=DAY - dt.timedelta(days=90),
    credit="claimant", train=False, granted_by="enrolled",
)  # fmt: skip
HANDED_IN = WorkFact(on_record=False)
MATCH = CopyFact(found=True, p_value=0.001, smallest_p=0.001, n=999, of_image=0.97, of_work=0.9, details=212)
PART = msgspec.structs.replace(MATCH, of_image=0.3)
NO_MATCH = CopyFact(found=False, p_value=1.0, smallest_p=0.001, n=999, missed={"crop": 0.02, "mirrored": 0.1})
STYLE = StyleFact(stands=True, p_value=0.002, share=0.7)
STAMPED = Sighting(at=DAY, by="log", record_id="r", made_here=False)
MADE_HERE = Sighting(at=DAY, by="log", record_id="r", made_here=True)
ANOTHERS = OtherWork(work_id="o", by="identity")
KINDS: tuple[Kind, ...] = ("mine", "copies", "style", "unconsented")


def facts(kind: Kind = "copies", **known: object) -> Facts:
    given = {"work": WORK, "copy": NO_MATCH, "style": StyleFact(stands=False), "sighting": STAMPED, "made_on": None}
    return Facts(kind=kind, claimant=known.pop("claimant", "declared"), **given | known)  # type: ignore[arg-type]


def outcome(kind: Kind = "copies", **known: object) -> str:
    return decide(facts(kind, **known)).outcome


def codes(kind: Kind = "copies", **known: object) -> set[str]:
    return {ground.code for ground in decide(facts(kind, **known)).grounds}


# ---- true claims are upheld ----


@pytest.mark.parametrize("kind", ["mine", "copies"])
def test_the_very_pixels_of_a_work_on_record_support_the_claim(kind: Kind) -> None:
    assert outcome(kind, identical="pixels") == "supported"


@pytest.mark.parametrize("kind", ["mine", "copies"])
def test_a_copy_by_geometry_supports_the_claim(kind: Kind) -> None:
    assert outcome(kind, copy=MATCH) == "supported"


def test_a_part_of_a_work_supports_that_it_is_copied_and_not_that_the_image_is_it() -> None:
    assert outcome("copies", copy=PART) == "supported"
    assert outcome("mine", copy=PART) == "inconclusive"
    assert "part_only" in codes("mine", copy=PART)


def test_a_resemblance_in_style_supports_that_alone() -> None:
    assert outcome("style", style=STYLE) == "supported"
    assert "style_is_not_ownership" in codes("style", style=STYLE)


def test_a_work_shown_without_the_grant_was_used_without_it() -> None:
    assert outcome("unconsented", identical="pixels") == "supported"
    assert outcome("unconsented", copy=PART) == "supported"


# ---- false claims are refuted ----


def test_a_claim_on_somebody_elses_work_on_record_is_refuted() -> None:
    """The claimant names that very work, or hands in another while the image is that work."""
    anothers = msgspec.structs.replace(WORK, credit="another")
    assert outcome("mine", work=anothers, identical="pixels") == "contradicted"
    assert outcome("mine", work=HANDED_IN, copy=MATCH, others=[ANOTHERS]) == "contradicted"
    assert outcome("mine", copy=NO_MATCH, others=[ANOTHERS]) == "contradicted"


def test_a_claim_on_somebody_elses_generation_is_refuted() -> None:
    for kind in ("mine", "copies", "unconsented"):
        assert outcome(kind, work=HANDED_IN, identical="pixels", sighting=MADE_HERE) == "contradicted"


def test_a_generation_that_repeats_an_older_work_refutes_nobody() -> None:
    assert outcome("copies", identical="pixels", sighting=MADE_HERE) == "supported"


def test_a_work_made_after_the_image_was_seen_refutes_the_claim() -> None:
    late = (DAY + dt.timedelta(days=3)).date()
    for kind in ("mine", "copies", "unconsented"):
        decided = decide(facts(kind, copy=MATCH, made_on=late))
        assert decided.outcome == "contradicted"
        assert "later_date" in {ground.code for ground in decided.grounds}


def test_the_same_or_the_next_day_refutes_nothing() -> None:
    for days in (0, 1):
        assert "later_date" not in codes(made_on=(DAY + dt.timedelta(days=days)).date())


@pytest.mark.parametrize("made_on", [dt.date(1999, 1, 1), dt.date.min], ids=str)
def test_an_earlier_date_supports_nothing(made_on: dt.date) -> None:
    assert outcome("mine", made_on=made_on, copy=NO_MATCH) == "inconclusive"


def test_consent_on_record_refutes_that_there_was_none() -> None:
    granted = msgspec.structs.replace(WORK, train=True, granted_by="artist")
    assert outcome("unconsented", work=granted, identical="pixels") == "contradicted"
    free = msgspec.structs.replace(WORK, licence="CC0-1.0")
    assert outcome("unconsented", work=free, identical="pixels") == "contradicted"


# ---- what decides nothing ----


@pytest.mark.parametrize("kind", KINDS)
def test_a_no_match_alone_never_contradicts(kind: Kind) -> None:
    decided = decide(facts(kind))
    assert decided.outcome == "inconclusive"
    (said,) = [ground.text for ground in decided.grounds if ground.code == "no_match"]
    assert "contradicts nobody" in said
    assert "2 % to 10 %" in said


@pytest.mark.parametrize("kind", ["mine", "copies", "unconsented"])
def test_style_alone_proves_neither_ownership_nor_use(kind: Kind) -> None:
    assert outcome(kind, style=STYLE) == "inconclusive"
    assert "style_is_not_ownership" in codes(kind, style=STYLE)


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_stamps_an_artists_work_first_gains_nothing_by_it(kind: Kind) -> None:
    """The thief's stamp is the image, the same file is handed in as the thief's work, and the date is a lie."""
    for made_on in (None, dt.date(1999, 1, 1)):
        decided = decide(facts(kind, work=HANDED_IN, identical="file", copy=MATCH, style=STYLE, made_on=made_on))
        assert decided.outcome != "supported"
        assert {"work_off_record", "first_is_not_author"} <= {ground.code for ground in decided.grounds}


def test_the_artist_whose_work_was_stamped_first_by_another_is_upheld_all_the_same() -> None:
    later = msgspec.structs.replace(WORK, enrolled_at=DAY + dt.timedelta(days=30))
    assert outcome("mine", work=later, identical="pixels") == "supported"


def test_a_picture_under_two_artists_stays_open() -> None:
    two = [msgspec.structs.replace(ANOTHERS, same_picture=True)]
    assert outcome("mine", identical="pixels", others=two) == "inconclusive"
    assert "several_artists" in codes("mine", identical="pixels", others=two)


def test_a_score_without_an_error_rate_decides_nothing() -> None:
    untold = CopyFact(found=True, reason="12 works are too few")
    assert outcome("copies", copy=untold) == "inconclusive"
    assert "cannot_tell" in codes("copies", copy=untold)
    weak = msgspec.structs.replace(MATCH, p_value=0.011)
    assert outcome("copies", copy=weak) == "inconclusive"


def test_who_the_claimant_is_stands_beside_the_outcome() -> None:
    for claimant in ("declared", "verified"):
        decided = decide(facts("mine", identical="pixels", claimant=claimant))
        assert (decided.outcome, decided.claimant) == ("supported", claimant)
    assert outcome("mine", copy=NO_MATCH, claimant="verified") == "inconclusive"


def test_an_artist_who_shows_control_of_the_page_may_use_another_name() -> None:
    anothers = msgspec.structs.replace(WORK, credit="another")
    assert outcome("mine", work=anothers, identical="pixels", claimant="verified") == "supported"


# ---- the table ----


def everything() -> list[Facts]:
    """Some thousand combinations of what can be known."""
    works = (WORK, HANDED_IN, msgspec.structs.replace(WORK, credit="another", train=True, granted_by="artist"))
    return [
        facts(kind, work=work, identical=identical, copy=copy, style=style, sighting=seen, others=others, made_on=day)
        for kind, work, identical, copy, style, seen, others, day in itertools.product(
            KINDS, works, (None, "pixels"), (None, MATCH, PART, NO_MATCH), (None, STYLE), (None, STAMPED, MADE_HERE),
            ([], [ANOTHERS]), (None, dt.date(2026, 6, 1)),
        )
    ]  # fmt: skip


def test_over_everything_that_can_be_known_the_promises_hold() -> None:
    seen = set()
    for each in everything():
        decided = decide(each)
        weights = {ground.weight for ground in decided.grounds}
        seen.add(decided.outcome)
        assert (decided.outcome == "contradicted") == ("contradicts" in weights)
        if decided.outcome == "supported":
            assert each.work.on_record
            assert each.kind == "style" or each.identical or (each.copy is not None and each.copy.found)
        if decided.outcome == "contradicted" and each.identical is None and each.copy == NO_MATCH:
            assert weights > {"notes"}  # by something else than the search that found nothing
        assert {ground.code for ground in decided.grounds} >= {"claimant"}
    assert seen == {"supported", "contradicted", "inconclusive"}


def test_every_rule_can_apply_and_keeps_its_number() -> None:
    applied = {(ground.number, ground.code) for each in everything() for ground in decide(each).grounds}
    untold = decide(facts("style", copy=CopyFact(found=False, reason="x"), style=StyleFact(stands=False, reason="y")))
    applied |= {(ground.number, ground.code) for ground in untold.grounds}
    assert applied == {(each["number"], each["code"]) for each in published()}


def test_the_same_facts_read_back_from_a_document_give_the_same_decision() -> None:
    for each in everything()[::97]:
        assert decide(msgspec.json.decode(msgspec.json.encode(each), type=Facts)) == decide(each)


def test_the_documented_table_is_the_one_in_force() -> None:
    page = (Path(__file__).parents[3] / "docs" / "claims.md").read_text(encoding="utf-8")
    for each in published():
        kinds = "all" if len(each["kinds"]) == 4 else ", ".join(each["kinds"])
        row = f"| {each['number']} | `{each['code']}` | {each['weight']} | {kinds} | {each['says']} |"
        assert row in page, f"docs/claims.md lacks:\n{row}"
    assert json.dumps(published())
    assert len(RULES) == len({rule.name for rule in RULES})
