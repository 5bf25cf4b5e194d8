"""The engine over vectors in mapped files: the same answers as over rows in memory, and less said where they are too
many for it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from attribution.calibrated import TOO_LARGE, Calibrated, calibrate
from attribution.calibration import Null
from attribution.engine import Engine
from attribution.evidence import Evidence, NeighbourAxis, to_json
from attribution.fingerprints import fingerprint
from attribution.ivf import FEWEST_WORKS
from attribution.reference import Reference
from attribution.snapshot import ReferenceWork
from attribution.vector_sets import VectorSet, open_set
from models.images import encode_png
from models.networks import Axis, NetworkInfo, encoder_key

ARTISTS = 8


class Cells:
    """4 x 4 mean colours as a unit vector."""

    name, dim = "cells", 48
    info = NetworkInfo("cells", "1", "5" * 64, "Apache-2.0")

    def __init__(self, *axes: Axis) -> None:
        self.axes: frozenset[Axis] = frozenset(axes)

    def encode(self, images: Sequence[np.ndarray]) -> np.ndarray:
        rows = [image.reshape(4, 8, 4, 8, 3).mean(axis=(1, 3)).ravel() - 128 for image in images]
        matrix = np.array(rows, np.float32).reshape(len(images), self.dim)
        return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-6)


def painting(artist: int, number: int) -> np.ndarray:
    ground = np.random.default_rng(1000 + artist).normal(128, 40, (4, 4, 3))
    motif = np.random.default_rng((artist + 1) * 100_000 + number).normal(0, 30, (4, 4, 3))
    return np.kron(np.clip(ground + motif, 0, 255).astype(np.uint8), np.ones((8, 8, 1), np.uint8))


def works(count: int, **changes: object) -> list[ReferenceWork]:
    return [
        ReferenceWork(
            **{
                "id": f"{number:06}",
                "artist_id": f"artist-{number % ARTISTS}",
                "artist": f"Painter {number % ARTISTS}",
                "title": f"Picture {number}",
                "licence": "CC0-1.0",
                "file_sha256": f"{number:064x}",
                "pixel_sha256": f"{number:064x}",
                "train": False,
                "compare": number % 5 != 4,
                "name": number % 7 != 6,
            }
            | changes
        )  # type: ignore[arg-type]
        for number in range(count)
    ]


def rows(count: int) -> np.ndarray:
    """As they are stored, in binary16."""
    pictures = [painting(number % ARTISTS, number) for number in range(count)]
    return Cells().encode(pictures).astype("<f2")


def reference(known: Sequence[ReferenceWork], vectors: np.ndarray | VectorSet, **options: object) -> Reference:
    named = {"cells": vectors.astype(np.float32) if isinstance(vectors, np.ndarray) else vectors}
    return Reference(tuple(known), named, {"cells": Cells.info}, b"\1" * 32, "test", **options)  # type: ignore[arg-type]


def mapped(folder: Path, known: Sequence[ReferenceWork], vectors: np.ndarray) -> VectorSet:
    at = {work.id: number for number, work in enumerate(known)}
    ids = [work.id for work in known]
    return open_set(folder, encoder_key(Cells.info), ids, lambda wanted: [vectors[[at[name] for name in wanted]]])


def engine(over: Reference, *axes: Axis) -> tuple[Engine, bytes]:
    encoders = {"cells": Cells(*axes)}
    content = calibrate(encoders, over).to_bytes()
    return Engine(encoders, over, Calibrated.from_bytes(content)), content


def evidence(asked: Engine, pixels: np.ndarray) -> Evidence:
    return asked.examine(pixels, fingerprint(encode_png(pixels), pixels)).evidence


def said(found: Evidence, axis: str) -> tuple[str, str]:
    ((outcome, text),) = [(each.outcome, each.text) for each in found.findings if each.axis == axis]
    return outcome, text


def cells(found: Evidence) -> NeighbourAxis:
    return found.neighbours["cells"]


def test_answers_from_mapped_files_are_those_from_memory_to_the_byte(tmp_path: Path) -> None:
    known, vectors = works(160), rows(160)
    mapped(tmp_path, known[:60], vectors[:60])
    in_memory, fitted = engine(reference(known, vectors), "style", "content")
    from_files, fitted_again = engine(reference(known, mapped(tmp_path, known, vectors)), "style", "content")
    assert fitted == fitted_again
    assert len(list(tmp_path.glob("*.vectors"))) == 2
    for pixels in (painting(3, 11), painting(2, 999), painting(40, 1), np.full((32, 32, 3), 7, np.uint8)):
        assert to_json(evidence(from_files, pixels)) == to_json(evidence(in_memory, pixels))


def test_a_later_snapshot_has_an_engine_of_its_own_and_the_earlier_goes_on_answering(tmp_path: Path) -> None:
    known, vectors = works(160, compare=True, name=True), rows(160)
    before, _ = engine(reference(known[:120], mapped(tmp_path, known[:120], vectors)), "content")
    after, _ = engine(reference(known, mapped(tmp_path, known, vectors)), "content")
    late = painting(130 % ARTISTS, 130)
    assert cells(evidence(after, late)).nearest[0].title == "Picture 130"
    old = evidence(before, late)
    assert cells(old).nearest[0].title != "Picture 130"
    assert old.snapshot is not None
    assert old.snapshot.works == 120


def test_an_error_rate_is_decoded_once_and_not_for_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, _ = engine(reference(works(160), rows(160)), "style", "content")
    first = evidence(asked, painting(3, 11))
    monkeypatch.setattr(Null, "from_bytes", lambda *_: pytest.fail("decoded again"))
    assert evidence(asked, painting(3, 11)) == first
    assert cells(first).calibration is not None


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU holds these rows, and looks at every one")
def test_more_works_than_memory_holds_are_searched_in_part_and_the_evidence_says_so(tmp_path: Path) -> None:
    count = FEWEST_WORKS + 100
    known = works(count, compare=True, name=True)
    seen = rows(400)
    made = np.random.default_rng(5).normal(size=(count - len(seen), Cells.dim))
    vectors = np.concatenate([seen, (made / np.linalg.norm(made, axis=1, keepdims=True)).astype("<f2")])
    room = 4 * Cells.dim * count
    stored = mapped(tmp_path, known, vectors)
    exact, _ = engine(reference(known, stored, memory=room), "content")
    partly, _ = engine(reference(known, stored, memory=room - 1), "content", "style")

    stranger = painting(70, 3)
    assert cells(evidence(exact, stranger)).exhaustive
    assert said(evidence(exact, stranger), "content")[0] == "nothing"
    found = evidence(partly, stranger)
    assert not cells(found).exhaustive
    assert "200 of its works" in cells(found).note
    assert said(found, "content") == (
        "cannot_tell",
        "Cannot tell: not every work was looked at, and none of those that were stands out.",
    )
    assert "cannot be told" in found.statement or found.statement.startswith("Cannot tell")

    own = evidence(partly, painting(3, 11))
    assert cells(own).nearest[0].title == "Picture 11"
    assert cells(own).nearest[0].score == pytest.approx(
        cells(evidence(exact, painting(3, 11))).nearest[0].score, abs=1e-3
    )
    assert said(own, "content")[0] == "found"
    assert said(own, "style") == ("cannot_tell", f"Cannot tell: {TOO_LARGE}.")


def test_vectors_that_do_not_fit_the_works_are_refused(tmp_path: Path) -> None:
    known, vectors = works(30), rows(30)
    stored = mapped(tmp_path, known, vectors)
    with pytest.raises(ValueError, match="needs"):
        Engine({"cells": Cells("content")}, reference(known[:-1], stored))
    other = dataclasses.replace(reference(known, stored), encoders={"cells": NetworkInfo("cells", "2", "6" * 64, "x")})
    with pytest.raises(Exception, match="was indexed with"):
        Engine({"cells": Cells("content")}, other)
