"""The list of works beside a generator's weights."""

from pathlib import Path

import pytest

from models.atelier.collection import SUBJECTS, draw
from models.atelier.train import VARIANTS, allowed
from models.errors import NetworkError
from models.images import pixel_sha256
from models.learned_from import LEARNED_FROM, read_learned_from
from models.registry import BUILT_IN

ONE, OTHER = "0a" * 32, "1b" * 32


def test_a_list_is_read_and_no_list_is_no_claim(tmp_path: Path) -> None:
    assert read_learned_from(tmp_path) is None
    (tmp_path / LEARNED_FROM).write_text(f"{ONE}\n{OTHER}\n")
    assert read_learned_from(tmp_path) == (ONE, OTHER)


@pytest.mark.parametrize(
    "text", ["", f"{OTHER}\n{ONE}\n", f"{ONE}\n{ONE}\n", f"{ONE.upper()}\n", f"{ONE[:-1]}\n", "\ufffd\n"]
)
def test_what_is_no_sorted_list_of_digests_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / LEARNED_FROM).write_text(text)
    with pytest.raises(NetworkError) as refused:
        read_learned_from(tmp_path)
    assert refused.value.code == "network_unreadable"


def test_the_shipped_generator_learned_from_works_that_anybody_can_draw_again() -> None:
    listed = read_learned_from(BUILT_IN / "generator")
    assert listed is not None
    studios = allowed()
    assert len(listed) <= len(studios) * len(SUBJECTS) * VARIANTS
    for studio, subject, variant in ((studios[0], SUBJECTS[0], 0), (studios[-1], SUBJECTS[-1], VARIANTS - 1)):
        assert pixel_sha256(draw(studio, subject, variant)).hex() in listed
    assert pixel_sha256(draw(studios[0], SUBJECTS[0], VARIANTS)).hex() not in listed
