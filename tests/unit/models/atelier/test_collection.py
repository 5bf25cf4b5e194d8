"""The drawn collection: repeatable to the last bit, and true to what its studios allow."""

import csv
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.atelier.collection import STUDIOS, SUBJECTS, caption, draw, write_collection, write_strangers
from models.atelier.planted import PLANTED, same
from models.atelier.strangers import STRANGERS
from models.atelier.studios import Studio
from models.images import decode

ROOT = Path(__file__).parents[4]
DIGESTS = {  # the first 16 hex digits of the SHA-256 of the pixels at 128 px
    ("marram", "boat", 0): "c2938ee32d3b43ae",
    ("clerestory", "cat", 3): "2baac2082190b3cb",
    ("tungsten", "moon", 1): "2358e906557f6e4e",
}
EVERY_STUDIO_DIGEST = "39deaeea5ed1e4dca24c6235e28dbc7a8ee54bee8477694e8823e441907cb277"
EVERY_STUDIO = """
import hashlib
from models.atelier.collection import STUDIOS, STRANGERS, SUBJECTS, draw
drawn = b"".join(draw(studio.slug, SUBJECTS[i % 12], i).tobytes() for i, studio in enumerate((*STUDIOS, *STRANGERS)))
print(hashlib.sha256(drawn).hexdigest())
"""


@pytest.mark.parametrize(("work", "digest"), sorted(DIGESTS.items()))
def test_a_work_is_the_same_on_every_machine(work: tuple[str, str, int], digest: str) -> None:
    assert hashlib.sha256(draw(*work).tobytes()).hexdigest()[:16] == digest


def test_every_studio_draws_the_same_with_and_without_the_processors_wide_registers() -> None:
    """numpy picks its loops by processor; the plainest one it has stands here for a machine of another make."""
    wide = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    plain = {"NPY_DISABLE_CPU_FEATURES": " ".join(wide)}
    digests = {
        subprocess.run(
            [sys.executable, "-c", EVERY_STUDIO], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for environment in ({}, plain)
    }
    assert digests == {EVERY_STUDIO_DIGEST + "\n"}


def test_planted_copies_are_as_close_to_their_originals_as_they_say() -> None:
    for copy in PLANTED:
        original = draw(copy.of, copy.subject, copy.variant)
        changed = copy.change(original)
        assert changed.shape == original.shape
        assert np.array_equal(changed, original) == (copy.change is same)
    assert {copy.change is same for copy in PLANTED} == {True, False}
    assert all(copy.of != copy.under for copy in PLANTED)


def test_strangers_are_nobody_of_the_collection(tmp_path: Path) -> None:
    assert len(STRANGERS) == 20
    assert not {studio.name for studio in STRANGERS} & {studio.name for studio in STUDIOS}
    rows = list(csv.DictReader(write_strangers(tmp_path, works=2, size=64).open(encoding="utf-8")))
    assert len(rows) == 40
    assert len({(tmp_path / row["path"]).read_bytes() for row in rows}) == 40


@pytest.mark.parametrize("studio", [*STUDIOS, *STRANGERS], ids=lambda studio: studio.slug)
def test_every_studio_draws_every_subject(studio: Studio) -> None:
    drawn = [draw(studio.slug, subject, 0, 64) for subject in SUBJECTS]
    assert {picture.shape for picture in drawn} == {(64, 64, 3)}
    assert len({picture.tobytes() for picture in drawn}) == len(SUBJECTS)
    assert min(int(np.ptp(picture)) for picture in drawn) > 40


@pytest.mark.slow  # a minute or two of drawing
@pytest.mark.timeout(1200)
def test_the_collection_holds_twelve_studios_by_twelve_subjects_by_eight_variants_no_two_alike(tmp_path: Path) -> None:
    with write_collection(tmp_path, 8).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    drawn = [row for row in rows if "/found-" not in row["path"]]
    assert len(rows) - len(drawn) == len(PLANTED)
    assert len({row["artist"] for row in drawn}) >= 12
    assert len(SUBJECTS) >= 12
    assert len(drawn) == len(STUDIOS) * len(SUBJECTS) * 8
    pictures = [decode((tmp_path / row["path"]).read_bytes()).pixels for row in drawn]
    assert {picture.shape for picture in pictures} == {(128, 128, 3)}
    assert len({picture.tobytes() for picture in pictures}) == len(drawn)


def test_variants_differ() -> None:
    assert not np.array_equal(draw("marram", "boat", 0), draw("marram", "boat", 1))


def test_a_caption_names_studio_and_subject() -> None:
    assert caption("marram", "boat") == "a boat in the manner of Studio Marram"


def test_the_table_of_works_says_what_each_studio_allows(tmp_path: Path) -> None:
    table = write_collection(tmp_path, 1)
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    planted = [copy for copy in PLANTED if copy.variant == 0]
    assert len(rows) == len(STUDIOS) * len(SUBJECTS) + len(planted)
    assert all(row["train"] == "no" for row in rows[-len(planted) :])
    assert decode((tmp_path / rows[0]["path"]).read_bytes()).pixels.shape == (128, 128, 3)
    grants = {(row["train"], row["name"]) for row in rows}
    assert grants == {("yes", "yes"), ("yes", "no"), ("no", "yes"), ("no", "no")}
    assert {row["compare"] for row in rows} == {"yes"}


def test_of_each_studio_no_more_is_drawn_than_asked_for_and_no_copy_without_its_original(tmp_path: Path) -> None:
    with write_collection(tmp_path, 2, size=16, at_most=3).open(encoding="utf-8") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    drawn = [path for path in paths if "/found-" not in path]
    assert len(drawn) == 3 * len(STUDIOS)
    of_variant = {path.rpartition("/")[2] for path in drawn}
    assert of_variant == {f"{subject}-0.png" for subject in SUBJECTS[:3]}, "every subject once before any comes again"
    planted = [path.rpartition("/found-")[2].partition("-")[2] for path in paths if "/found-" in path]
    assert planted
    assert set(planted) <= of_variant
    assert all((tmp_path / path).is_file() for path in paths)
