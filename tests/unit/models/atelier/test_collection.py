"""The drawn collection: repeatable to the last bit, and true to what its studios allow."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from models.atelier.collection import STUDIOS, SUBJECTS, caption, draw, write_collection
from models.atelier.studios import Studio
from models.images import decode

DIGESTS = {  # the first 16 hex digits of the SHA-256 of the pixels at 128 px
    ("marram", "boat", 0): "c2938ee32d3b43ae",
    ("clerestory", "cat", 3): "2baac2082190b3cb",
    ("tungsten", "moon", 1): "2358e906557f6e4e",
}


@pytest.mark.parametrize(("work", "digest"), sorted(DIGESTS.items()))
def test_a_work_is_the_same_on_every_machine(work: tuple[str, str, int], digest: str) -> None:
    assert hashlib.sha256(draw(*work).tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("studio", STUDIOS, ids=lambda studio: studio.slug)
def test_every_studio_draws_every_subject(studio: Studio) -> None:
    drawn = [draw(studio.slug, subject, 0, 64) for subject in SUBJECTS]
    assert {picture.shape for picture in drawn} == {(64, 64, 3)}
    assert len({picture.tobytes() for picture in drawn}) == len(SUBJECTS)
    assert min(int(np.ptp(picture)) for picture in drawn) > 40


def test_variants_differ() -> None:
    assert not np.array_equal(draw("marram", "boat", 0), draw("marram", "boat", 1))


def test_a_caption_names_studio_and_subject() -> None:
    assert caption("marram", "boat") == "a boat in the manner of Studio Marram"


def test_the_table_of_works_says_what_each_studio_allows(tmp_path: Path) -> None:
    table = write_collection(tmp_path, 1)
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert len(rows) == len(STUDIOS) * len(SUBJECTS)
    assert decode((tmp_path / rows[0]["path"]).read_bytes()).pixels.shape == (128, 128, 3)
    grants = {(row["train"], row["name"]) for row in rows}
    assert grants == {("yes", "yes"), ("yes", "no"), ("no", "yes"), ("no", "no")}
    assert {row["compare"] for row in rows} == {"yes"}
