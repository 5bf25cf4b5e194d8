"""What an artist reads: each axis says what was found and how sure that is, or nothing, or why it cannot tell."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from attribution.evidence import (
    PROTECTED_WORK,
    PROTECTED_WORKS,
    Area,
    ArtistFinding,
    CalibrationNote,
    Classification,
    Conflict,
    CopyAxis,
    CopyMatch,
    Evidence,
    Finding,
    Identity,
    Match,
    Neighbour,
    NeighbourAxis,
    SnapshotRef,
    StyleAxis,
)
from attribution.wording import chance_of, copied, covered, findings, not_proven, percent, statement

WHOLE = Area(corners=[(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
CORNER = Area(corners=[(0.5, 0.5), (1.0, 0.5), (1.0, 1.0), (0.5, 1.0)])


def note(n: int) -> CalibrationNote:
    return CalibrationNote(n=n, method="leave-artist-out", smallest_p=1 / (n + 1), text="")


def match(p_value: float | None = 0.001, **changes: Any) -> CopyMatch:
    values = {
        "work_id": "w", "artist_id": "a", "artist": "Y", "title": "X", "score": 40.0, "p_value": p_value,
        "details": 40, "of_image": CORNER, "of_work": WHOLE, "mirrored": True,
    }  # fmt: skip
    return CopyMatch(**values | changes)  # type: ignore[arg-type]


def evidence(
    copy_p: float | None = None, style_p: float = 0.6, content_p: float = 0.5, n: int = 999, **changes: Any
) -> Evidence:
    values = {
        "snapshot": SnapshotRef(digest=None, works=1000, artists=8, collection="c"),
        "copy": CopyAxis(
            method="m", searched=1000, matches=[] if copy_p is None else [match(copy_p)], calibration=note(n)
        ),
        "style": StyleAxis(
            method="m",
            artists=[
                ArtistFinding(artist_id="a", artist="Y", share=0.6, p_value=style_p),
                ArtistFinding(artist_id="b", artist="Z", share=0.2, p_value=0.9),
            ],
            none_of_these=0.2,
            calibration=note(n),
        ),
        "neighbours": {
            "clip": NeighbourAxis(
                encoder="e",
                axes=["content"],
                nearest=[
                    Neighbour(work_id="w", artist_id="a", artist="Y", title="X", score=0.9, p_value=content_p),
                ],
                calibration=note(n),
            )
        },
        "statement": "",
    }
    return Evidence(**values | changes)  # type: ignore[arg-type]


def told(of: Evidence, reasons: Mapping[str, str] | None = None) -> dict[str, Finding]:
    return {finding.axis: finding for finding in findings(of, reasons=reasons or {})}


def one(of: Evidence, reasons: Mapping[str, str] | None = None) -> str:
    return statement(of, findings(of, reasons=reasons or {}))


def test_a_mirrored_part_is_told_with_how_often_chance_does_as_much() -> None:
    finding = told(evidence(copy_p=0.001))["copy"]
    assert finding.outcome == "found"
    assert finding.p_value == 0.001
    assert finding.text == (
        "A part of this image is a mirrored copy of “X” by Y; an image that copies nothing reaches this in at most 1"
        " of 1,000."
    )


def test_further_works_are_counted_where_they_stand_by_themselves() -> None:
    matches = [match(0.001), match(0.002), match(0.04)]
    several = evidence(copy=CopyAxis(method="m", searched=1000, matches=matches, calibration=note(999)))
    assert told(several)["copy"].text.endswith("1 of 1,000. 1 other work matches as well.")


@pytest.mark.parametrize(
    ("of_image", "of_work", "mirrored", "said"),
    [
        (WHOLE, WHOLE, False, "This image is a copy of “X” by Y"),
        (WHOLE, CORNER, False, "This image is a copy of a part of “X” by Y"),
        (CORNER, WHOLE, False, "A part of this image is a copy of “X” by Y"),
        (CORNER, CORNER, True, "A part of this image is a mirrored copy of a part of “X” by Y"),
    ],
)
def test_it_says_which_part_is_a_copy_of_which(of_image: Area, of_work: Area, mirrored: bool, said: str) -> None:
    assert copied(match(of_image=of_image, of_work=of_work, mirrored=mirrored)) == said


def test_a_quadrilateral_covers_its_area_and_no_more_than_the_picture() -> None:
    assert covered(CORNER) == pytest.approx(0.25)
    assert covered(Area(corners=list(reversed(CORNER.corners)))) == pytest.approx(0.25)
    assert covered(Area(corners=[(-1, -1), (2, -1), (2, 2), (-1, 2)])) == pytest.approx(1)
    assert covered(Area(corners=[])) == 0


def test_a_style_is_told_with_its_p_value_and_what_it_never_proves() -> None:
    finding = told(evidence(style_p=0.001))["style"]
    assert finding.outcome == "found"
    assert finding.text == (
        "This image resembles the hand of Y more than images by somebody outside the collection do (p = 0.001). Style"
        " alone never proves copying or ownership."
    )


def test_nothing_found_is_said_as_such_with_the_rate_of_what_is_missed() -> None:
    searched = CopyAxis(method="m", searched=1000, missed={"crop": 0.02, "pasted": 0.15}, calibration=note(999))
    said = told(evidence(copy=searched))
    assert {finding.outcome for finding in said.values()} == {"nothing"}
    assert said["copy"].text == (
        "No copy was found; each of 1,000 works was looked at. As measured, this search misses 2 % to 15 % of copies,"
        " by kind of edit."
    )
    assert said["style"].text == "No single source stands out among 8 artists."
    assert one(evidence()) == "No single source stands out among 1,000 works by 8 artists."


def test_all_axes_together_share_the_error_rate() -> None:
    assert told(evidence(style_p=0.004))["style"].outcome == "nothing", "0.004 is more than a third of 0.01"
    assert told(evidence(style_p=0.004, copy_p=0.001))["style"].outcome == "found", "one finding leaves more room"
    assert told(evidence(style_p=0.008, copy_p=0.001))["style"].outcome == "nothing"


def test_too_few_calibration_works_are_said_and_counted() -> None:
    few = told(evidence(copy_p=1 / 46, n=45))
    assert {few[axis].outcome for axis in ("copy", "style", "content")} == {"cannot_tell"}
    assert few["style"].text == (
        "Cannot tell: an error rate of 1 in 100 needs 299 calibration works, and 45 are there."
    )
    assert few["copy"].text.endswith(
        "45 are there. It looks as though a part of this image is a mirrored copy of “X” by Y; an image that copies"
        " nothing reaches this in at most 1 of 46."
    )
    assert few["copy"].p_value is None, "no p-value where the answer is that there is none good enough"
    assert one(evidence(n=45)).startswith("Cannot tell: an error rate of 1 in 100 needs")


def test_an_axis_that_cannot_tell_does_not_keep_the_others_from_telling() -> None:
    partly = evidence(style=None)
    assert told(partly)["style"].text == "Cannot tell: no loaded encoder of style has indexed the collection."
    assert one(partly) == (
        "No single source stands out among 1,000 works by 8 artists; whose hand it resembles cannot be told."
    )
    assert told(partly, {"style": "all works are by one artist"})["style"].text == (
        "Cannot tell: all works are by one artist."
    )


@pytest.mark.parametrize(
    ("snapshot", "reasons", "why"),
    [
        (None, {}, "there is no collection to compare with"),
        (SnapshotRef(digest=None, works=0, artists=0, collection="c"), {}, "no work in the collection may be compared"),
        (SnapshotRef(digest=None, works=0, artists=0, collection="c"), {"collection": "it is empty"}, "it is empty"),
    ],
)
def test_without_a_collection_no_axis_can_tell(snapshot: SnapshotRef | None, reasons: dict[str, str], why: str) -> None:
    bare = Evidence(statement="", snapshot=snapshot)
    assert {finding.text for finding in told(bare, reasons).values()} == {f"Cannot tell: {why}."}
    assert one(bare, reasons) == f"Cannot tell: {why}."


def test_the_strongest_finding_speaks_first() -> None:
    very = Identity(works=[Match(work_id="w", artist_id="a", artist="Y", title="X", by="file_sha256")])
    both = evidence(copy_p=0.001, style_p=0.001, content_p=0.001)
    assert one(msgspec.structs.replace(both, identity=very)) == "This very file is in the collection: “X” by Y."
    assert one(both).startswith("A part of this image is a mirrored copy")
    assert one(evidence(style_p=0.001, content_p=0.001)).startswith("This image resembles the hand of Y")
    assert one(evidence(content_p=0.001)).startswith("What it shows is closer to “X” by Y")
    assert "(clip: p = 0.001)" in one(evidence(content_p=0.001))


def test_one_picture_under_two_artists_is_nobodys_by_our_word() -> None:
    works = [Match(work_id=name, artist_id=name, artist=name, title="X", by="pixel_sha256") for name in ("Y", "Z")]
    disputed = evidence(identity=Identity(works=works), conflicts=[Conflict(titles=["X", "X"], artists=["Y", "Z"])])
    assert one(disputed) == (
        "A picture with these very pixels is in the collection: “X” by Y, and 1 more time. The same picture stands"
        " there under several artists; whose it is, the ledger does not say."
    )


def test_a_protected_work_or_hand_is_never_named() -> None:
    hidden = match(work_id=None, artist_id=None, artist=None, title=PROTECTED_WORK, protected=True)
    hand = ArtistFinding(artist_id=None, artist=PROTECTED_WORKS, share=0.9, p_value=0.001, protected=True)
    said = told(
        evidence(
            copy=CopyAxis(method="m", searched=9, matches=[hidden], calibration=note(999)),
            style=StyleAxis(method="m", artists=[hand], none_of_these=0.1, calibration=note(999)),
            classification=Classification(classifier="head", artists=[hand], unknown=0.1),
        )
    )
    assert said["copy"].text.startswith(f"A part of this image is a mirrored copy of {PROTECTED_WORK}; ")
    assert "the hand of an artist whose works are protected" in said["style"].text
    assert "The classifier names an artist whose works are protected" in said["classification"].text


def test_the_classifier_names_somebody_only_where_they_are_likelier_than_all_others() -> None:
    def classified(share: float, unknown: float) -> Finding:
        artists = [ArtistFinding(artist_id="a", artist="Y", share=share)]
        return told(evidence(classification=Classification(classifier="head", artists=artists, unknown=unknown)))[
            "classification"
        ]

    sure, unsure = classified(0.93, 0.04), classified(0.45, 0.4)
    assert (sure.outcome, unsure.outcome) == ("found", "nothing")
    assert sure.text.startswith("The classifier names Y with a probability of 93 %; it gives 4 % to somebody it does")
    assert "Y" not in unsure.text
    of = evidence(classification=Classification(classifier="head", artists=[], unknown=1.0))
    assert one(of).startswith("No single source"), "it never speaks alone"


def test_a_match_without_an_error_rate_is_no_finding() -> None:
    unrated = evidence(copy=CopyAxis(method="m", searched=9, matches=[match(None)]))
    finding = told(unrated, {"copy": "the collection is not calibrated"})["copy"]
    assert finding.outcome == "cannot_tell"
    assert "how often that is chance is not known" in finding.text


def test_what_is_not_proven_names_the_rate_that_the_axes_share() -> None:
    assert not_proven(evidence())[-1] == (
        "Of images that owe the collection nothing, at most 1 of 100 gets a finding by chance. The axes asked (copy,"
        " style, content) share this rate."
    )
    assert all("by chance" not in each for each in not_proven(evidence(n=5)))


def test_no_sentence_speaks_of_influence_and_each_ends_once() -> None:
    for each in (
        evidence(),
        evidence(copy_p=0.001, style_p=0.001, content_p=0.001),
        evidence(n=3),
        evidence(copy=None),
    ):
        for finding in findings(each):
            assert not re.search(r"influenc|train", finding.text, re.IGNORECASE)
            assert finding.text.endswith(".")
            assert ".." not in finding.text


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (0.001, "1 of 1,000"),
        (0.0022, "1 of 450"),
        (1 / 46, "1 of 46"),
        (0.5, "1 of 2"),
        (1.0, "1 of 1"),
        (0.7, "1 of 1"),
    ],
)
def test_a_rate_is_never_told_smaller_than_it_is(p: float, said: str) -> None:
    assert chance_of(p) == f"at most {said}"


@pytest.mark.parametrize(
    ("part", "said"), [(0.0, "0 %"), (0.004, "under 1 %"), (0.15, "15 %"), (0.999, "over 99 %"), (1.0, "100 %")]
)
def test_a_percentage_never_pretends_to_be_nothing_or_all(part: float, said: str) -> None:
    assert percent(part) == said
