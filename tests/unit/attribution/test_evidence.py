import json

import msgspec
import pytest

from attribution.evidence import (
    ArtistFinding,
    CalibrationNote,
    Evidence,
    Identity,
    Match,
    Neighbour,
    NeighbourAxis,
    SnapshotRef,
    StyleAxis,
    from_json,
    to_json,
)

WHOLE = Evidence(
    snapshot=SnapshotRef(digest="ab" * 32, works=2, artists=1, collection="atelier"),
    identity=Identity(works=[Match(work_id="w", artist_id="a", artist="A", title="T", by="pixel_sha256")]),
    neighbours={
        "clip": NeighbourAxis(
            encoder="clip@0123456789abcdef",
            nearest=[Neighbour(work_id="w", artist_id="a", artist="A", title="T", score=0.5, p_value=0.25)],
            calibration=CalibrationNote(n=3, method="m", smallest_p=0.25, text="t"),
        )
    },
    style=StyleAxis(
        method="clip@0123456789abcdef",
        artists=[ArtistFinding(artist_id="a", artist="A", share=0.75, p_value=0.25)],
        none_of_these=0.25,
        note="n",
    ),
    statement="No single source stands out.",
    not_proven=["x"],
)


def test_evidence_survives_the_journey_through_json() -> None:
    assert from_json(to_json(WHOLE)) == WHOLE
    assert to_json(from_json(to_json(WHOLE))) == to_json(WHOLE)


def test_readers_ignore_axes_and_fields_they_do_not_know() -> None:
    later = json.loads(to_json(WHOLE))
    later["version"] = "evidence/1.4"
    later["influence"] = {"unlearning": {"artists": []}}
    later["identity"]["ledger"] = []
    later["neighbours"]["clip"]["nearest"][0]["region"] = [0, 0, 1, 1]
    read = from_json(json.dumps(later))
    assert read.version == "evidence/1.4"
    assert read.neighbours == WHOLE.neighbours
    assert read.identity == WHOLE.identity


def test_the_least_evidence_is_one_sentence() -> None:
    least = from_json('{"statement": "Cannot tell: the collection is empty."}')
    assert least.version == "evidence/1"
    assert least.identity.works == []
    assert least.snapshot is None


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", '{"statement": 3}', '{"statement": "x", "neighbours": []}', "no json",
     b"\xff", b'{"statement": "\xff"}', '{"a": ' + "[" * 100_000],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_what_is_no_evidence_is_refused(text: str | bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        from_json(text)


def test_equal_evidence_gives_equal_bytes_whatever_the_order_of_its_axes() -> None:
    axes = {"vae": WHOLE.neighbours["clip"], "clip": WHOLE.neighbours["clip"]}
    one = msgspec.structs.replace(WHOLE, neighbours=axes)
    other = msgspec.structs.replace(WHOLE, neighbours=dict(reversed(axes.items())))
    assert to_json(one) == to_json(other)
