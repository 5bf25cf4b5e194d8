"""The engine on its copy axis: found by geometry, drawn, judged by the gate, protected where it may not be named."""

import hashlib
import io
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from attribution.calibrated import calibrate, copy_index
from attribution.engine import Engine, Examined
from attribution.evidence import CopyAxis, CopyMatch, to_json
from attribution.features import extract
from attribution.fingerprints import fingerprint
from attribution.gate import Decision, GatePolicy
from attribution.reference import Compared, Reference
from attribution.snapshot import ReferenceWork
from models.atelier.collection import draw
from models.images import encode_png, pixel_sha256

STUDIOS = ("Studio Gouge", "Studio Quern", "Studio Tessel", "Studio Tungsten")
SUBJECTS = ("boat", "tree", "fish", "moon", "cat", "bird")
DRAWN = {(studio, subject): draw(studio, subject, 0) for studio in STUDIOS for subject in SUBJECTS}
ORIGINAL = DRAWN["Studio Tessel", "boat"]
"""One of 24 works, so that no p-value can be smaller than 1 in 25: the policies here ask for no more than 1 in 20."""


def work(studio: str, subject: str, **changes: object) -> ReferenceWork:
    pixels = DRAWN[studio, subject]
    return ReferenceWork(
        id=f"{studio}/{subject}",
        artist_id=studio,
        artist=studio,
        title=f"a {subject}",
        licence="Apache-2.0",
        file_sha256=hashlib.sha256(encode_png(pixels)).hexdigest(),
        pixel_sha256=pixel_sha256(pixels).hex(),
        **{"train": True, "compare": True, "name": True} | changes,  # type: ignore[arg-type]
    )


def reference(**changes: object) -> Reference:
    """`changes` are of the one original."""
    works = tuple(work(*key, **(changes if pixels is ORIGINAL else {})) for key, pixels in DRAWN.items())
    pictures = {each.id: DRAWN[key] for each, key in zip(works, DRAWN, strict=True)}
    features = [extract(pixels) for pixels in DRAWN.values()]
    return Reference(works, {}, {}, None, "atelier", features=features, preview=pictures.get)


CALIBRATED = calibrate({}, reference())


def examined(pixels: np.ndarray, policy: GatePolicy | None = None, **changes: object) -> Examined:
    engine = Engine({}, reference(**changes), CALIBRATED)
    return engine.examine(pixels, fingerprint(encode_png(pixels), pixels), policy)


def policy(**changes: Decision) -> GatePolicy:
    return msgspec.structs.replace(GatePolicy(alpha=0.05), **changes)


def copies(found: Examined) -> list[CopyMatch]:
    axis = found.evidence.copy
    assert isinstance(axis, CopyAxis)
    assert axis.searched == len(DRAWN)
    return axis.matches


EDITED = {
    "mirrored": np.ascontiguousarray(ORIGINAL[:, ::-1]),
    "cropped": np.ascontiguousarray(ORIGINAL[20:116, 16:120]),
    "grey": np.repeat(ORIGINAL.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2),
}


@pytest.mark.parametrize("edit", EDITED)
def test_an_edited_copy_is_found_with_its_error_rate(edit: str) -> None:
    (match, *_) = copies(examined(EDITED[edit]))
    assert (match.work_id, match.artist) == ("Studio Tessel/boat", "Studio Tessel")
    assert match.p_value == pytest.approx(1 / 25)
    assert match.mirrored == (edit == "mirrored")
    assert match.picture is None, "an image that is only looked at is not drawn"


def test_a_work_of_nobody_in_the_collection_copies_nothing() -> None:
    found = examined(draw("Studio Gouge", "house", 7))
    assert all(match.p_value is None or match.p_value > 1 / 25 for match in copies(found))


@pytest.mark.parametrize("issued", [True, False], ids=["issued", "claimed on"])
def test_an_issued_image_and_one_claimed_on_come_with_a_drawing_of_the_matched_region(issued: bool) -> None:
    pixels, engine = EDITED["cropped"], Engine({}, reference(), CALIBRATED)
    seen = fingerprint(encode_png(pixels), pixels)
    found = engine.examine(pixels, seen, policy()) if issued else engine.examine(pixels, seen, draw=True)
    (match, *_) = copies(found)
    assert (found.evidence.gate is None) == (not issued), "a claim is judged by no policy"
    assert found.evidence.drawings == [each.picture for each in copies(found)]
    assert match.picture is not None
    drawing = found.pictures[match.picture]
    assert hashlib.sha256(drawing).hexdigest() == match.picture
    with Image.open(io.BytesIO(drawing)) as image:
        assert image.format == "PNG"
        assert image.width > image.height


def test_a_protected_work_is_matched_and_neither_named_nor_drawn() -> None:
    named, hidden = examined(EDITED["cropped"], policy()), examined(EDITED["cropped"], policy(), name=False)
    (match, *_) = copies(hidden)
    assert match.protected
    assert "Tessel/boat" not in to_json(hidden.evidence).decode()
    assert match.picture is not None
    drawn_with_work = named.pictures[copies(named)[0].picture or ""]
    with Image.open(io.BytesIO(hidden.pictures[match.picture])) as one, Image.open(io.BytesIO(drawn_with_work)) as both:
        assert one.width < both.width


@pytest.mark.parametrize(("decision", "reasons"), [("allow", ["copy_of_work"]), ("block", ["copy_of_work"])])
def test_the_gate_judges_a_copy_by_the_policy(decision: Decision, reasons: list[str]) -> None:
    gate = examined(EDITED["grey"], policy(copy=decision)).evidence.gate
    assert gate is not None
    assert (gate.decision, gate.reasons) == (decision, reasons)


def test_the_gate_knows_whose_artist_refused_though_the_work_is_protected() -> None:
    gate = examined(EDITED["grey"], policy(refused="block"), train=False, name=False).evidence.gate
    assert gate is not None
    assert (gate.decision, gate.reasons) == ("block", ["copy_of_work", "artist_refused"])
    assert "Tessel" not in gate.text


def test_an_image_that_is_only_looked_at_is_not_judged() -> None:
    assert examined(EDITED["grey"]).evidence.gate is None


def test_a_collection_indexed_without_local_features_cannot_tell_of_copies() -> None:
    known = reference()
    engine = Engine({}, Reference(known.works, {}, {}, None, "atelier"), None)
    pixels = EDITED["grey"]
    evidence = engine.examine(pixels, fingerprint(encode_png(pixels), pixels)).evidence
    (finding,) = [finding for finding in evidence.findings if finding.axis == "copy"]
    assert (finding.outcome, evidence.copy) == ("cannot_tell", None)


def test_the_index_is_built_once_and_a_damaged_one_is_built_again(tmp_path: Path) -> None:
    compared = Compared.of(reference(), {})
    built = copy_index(compared, {}, tmp_path)
    (file,) = tmp_path.glob("*.copies")
    written = file.stat().st_mtime_ns
    image = EDITED["cropped"]
    first = [(each.row, each.score) for each in built.find(image)]
    assert [(each.row, each.score) for each in copy_index(compared, {}, tmp_path).find(image)] == first
    assert file.stat().st_mtime_ns == written
    file.write_bytes(file.read_bytes()[:-1000])
    assert [(each.row, each.score) for each in copy_index(compared, {}, tmp_path).find(image)] == first
    assert file.stat().st_mtime_ns != written


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert len(copy_index(Compared.of(reference(), {}), {}, tmp_path / "file" / "cache")) == len(DRAWN)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8, 3), np.uint8),
        np.full((300, 200, 3), 128, np.uint8),
        np.random.default_rng(1).integers(0, 256, (200, 300, 3)).astype(np.uint8),
        np.random.default_rng(2).integers(0, 256, (16, 4000, 3)).astype(np.uint8),
    ],
    ids=["8x8", "one colour", "noise", "panorama"],
)
def test_hostile_pictures_copy_nothing(pixels: np.ndarray) -> None:
    assert all(match.p_value is None or match.p_value > 1 / 25 for match in copies(examined(pixels)))
