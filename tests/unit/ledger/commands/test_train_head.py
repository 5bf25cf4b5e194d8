import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ledger.commands.frame import Invocation
from ledger.commands.training import train_head
from ledger.errors import BadRequest
from models.head import ArtistHead
from models.images import encode_png

ARTISTS = ("ada", "ben", "cleo")
LIST = "path,artist,train\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three artists, each fond of one colour, with four works each; one may not be learnt from; one file is broken."""
    folder, chance = tmp_path_factory.mktemp("works"), np.random.default_rng(4)
    rows = ["broken.png,Nobody,yes"]
    (folder / "broken.png").write_bytes(b"no picture")
    for number, artist in enumerate(ARTISTS):
        for work in range(4):
            pixels = chance.integers(0, 80, (32, 32, 3), np.uint8)
            pixels[..., number] += 120
            name = f"{artist}-{work}.png"
            (folder / name).write_bytes(encode_png(pixels))
            rows.append(f"{name},{artist},{'no' if (artist, work) == ('cleo', 1) else 'yes'}")
    (folder / "works.csv").write_text(LIST + "\n".join(rows))
    return folder


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(train_head, list(words), obj=Invocation(home, ("device=cpu",)))


@pytest.mark.slow
def test_a_classifier_is_learnt_from_the_works_that_allow_it(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "head"
    ran = run(tmp_path, str(source / "works.csv"), "-o", str(out), "--json")
    assert ran.exit_code == 0, ran.output
    report = json.loads(ran.stdout)["report"]
    assert (report["artists"], report["works"], report["not_learnt"]) == (3, 11, 1)
    head = ArtistHead.load(out)
    assert set(head.artists) == set(ARTISTS)
    assert head.info.weights_sha256 == report["classifier"]
    assert "broken.png" in ran.stderr


def test_what_is_there_is_never_overwritten(source: Path, tmp_path: Path) -> None:
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "mine").write_text("x")
    ran = run(tmp_path, str(source / "works.csv"), "-o", str(tmp_path / "head"))
    assert isinstance(ran.exception, BadRequest)
    assert ran.exception.code == "output_exists"


@pytest.mark.parametrize("words", [(), ("works", "--collection", "paintings")])
def test_one_source_is_wanted_and_one_only(tmp_path: Path, words: tuple[str, ...]) -> None:
    ran = run(tmp_path, *words, "-o", str(tmp_path / "head"))
    assert isinstance(ran.exception, BadRequest)
    assert ran.exception.code == "source_missing"
