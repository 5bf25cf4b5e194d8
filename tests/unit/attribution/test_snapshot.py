import hashlib
import random

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from attribution.snapshot import ReferenceWork, calibration_inputs, snapshot_digest

ENCODERS = {
    "atelier": {"name": "atelier/1", "revision": "local", "weights_sha256": "ab" * 32, "licence": "Apache-2.0"},
    "vae": {"name": "atelier/1/vae", "revision": "local", "weights_sha256": "cd" * 32, "licence": "Apache-2.0"},
}


def work(number: int, **changes: object) -> ReferenceWork:
    values = {
        "id": f"work-{number}",
        "artist_id": f"artist-{number % 3}",
        "artist": f"Artist {number % 3}",
        "title": f"Title {number}",
        "licence": "CC0-1.0",
        "file_sha256": f"{number:064x}",
        "pixel_sha256": f"{number + 1000:064x}",
        "train": True,
        "compare": True,
        "name": True,
    }
    return ReferenceWork(**values | changes)  # type: ignore[arg-type]


CALIBRATION = hashlib.sha256(b"a calibration").digest()
WORKS = [work(number) for number in range(7)]
DIGEST = snapshot_digest(WORKS, ENCODERS, CALIBRATION)


def test_the_digest_is_the_documented_one() -> None:
    """Written out a second time, with a library for RFC 8785."""
    lines = [{"encoder": key} | ENCODERS[key] for key in sorted(ENCODERS)]
    lines.append({"calibration": CALIBRATION.hex()})
    for one in sorted(WORKS, key=lambda one: one.id):
        values = msgspec.structs.asdict(one)
        lines.append({"work": values["id"]} | {k: v for k, v in values.items() if k not in ("id", "artist", "title")})
    expected = b"lawful-ledger/snapshot/1\n" + b"".join(rfc8785.dumps(line) + b"\n" for line in lines)
    assert hashlib.sha256(expected).digest() == DIGEST


def test_the_digest_does_not_depend_on_order() -> None:
    shuffled = WORKS.copy()
    random.Random(3).shuffle(shuffled)
    assert snapshot_digest(iter(shuffled), dict(reversed(ENCODERS.items())), CALIBRATION) == DIGEST


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "other"},
        {"artist_id": "other"},
        {"licence": "other"},
        {"file_sha256": "f" * 64},
        {"pixel_sha256": "f" * 64},
        {"train": False},
        {"compare": False},
        {"name": False},
    ],
)
def test_the_digest_sees_every_field_that_matters(changes: dict[str, object]) -> None:
    assert snapshot_digest([work(0, **changes), *WORKS[1:]], ENCODERS, CALIBRATION) != DIGEST


def test_the_digest_outlives_erased_names_and_titles() -> None:
    erased = [work(number, artist="", title="") for number in range(7)]
    assert snapshot_digest(erased, ENCODERS, CALIBRATION) == DIGEST


@pytest.mark.parametrize("field", ["name", "revision", "weights_sha256", "licence"])
def test_the_digest_sees_every_field_of_an_encoder(field: str) -> None:
    changed = ENCODERS | {"vae": ENCODERS["vae"] | {field: "other"}}
    assert snapshot_digest(WORKS, changed, CALIBRATION) != DIGEST
    with pytest.raises(ValueError, match=field):
        snapshot_digest(WORKS, {"vae": {key: value for key, value in ENCODERS["vae"].items() if key != field}}, None)


def test_the_digest_sees_the_calibration() -> None:
    assert snapshot_digest(WORKS, ENCODERS, None) != DIGEST
    assert snapshot_digest(WORKS, ENCODERS, hashlib.sha256(b"another").digest()) != DIGEST


def inputs(works: list[ReferenceWork], encoders: list[str] | None = None, background: bytes | None = None) -> bytes:
    return calibration_inputs(works, ["a@1", "b@2"] if encoders is None else encoders, background)


def test_a_calibration_depends_on_what_changes_a_likeness() -> None:
    same = inputs(WORKS)
    assert inputs(WORKS[::-1], ["b@2", "a@1"]) == same
    assert inputs([work(0, train=False, licence="other", title="other"), *WORKS[1:]]) == same
    for changes in ({"compare": False}, {"name": False}, {"artist_id": "other"}, {"pixel_sha256": "f" * 64}):
        assert inputs([work(0, **changes), *WORKS[1:]]) != same
    assert inputs([*WORKS, work(99, compare=False)]) == same
    assert inputs(WORKS, ["a@1"]) != same
    assert inputs(WORKS, background=bytes(32)) != same


def test_a_missing_work_and_a_missing_encoder_change_the_digest() -> None:
    assert snapshot_digest(WORKS[:-1], ENCODERS, CALIBRATION) != DIGEST
    assert snapshot_digest(WORKS, {"vae": ENCODERS["vae"]}, CALIBRATION) != DIGEST
    assert snapshot_digest([], {}, None) == hashlib.sha256(b"lawful-ledger/snapshot/1\n").digest()


def test_an_id_that_occurs_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="work-3"):
        snapshot_digest([*WORKS, work(3)], ENCODERS, CALIBRATION)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.text(max_size=0) | st.just('\n\x00\x7f\u2028😀"\\'),
)
def test_lines_are_rfc_8785_whatever_the_text(text: str, tail: str) -> None:
    one = work(0, licence=text + tail)
    line = {k: v for k, v in msgspec.structs.asdict(one).items() if k not in ("id", "artist", "title")} | {
        "work": one.id
    }
    assert (
        snapshot_digest([one], {}, None)
        == hashlib.sha256(b"lawful-ledger/snapshot/1\n" + rfc8785.dumps(line) + b"\n").digest()
    )
