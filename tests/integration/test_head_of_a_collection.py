"""`lawful train-head --collection`: a classifier learnt from an indexed collection, and put to use by its ledger."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from ledger.cli import main
from ledger.database.session import open_database
from ledger.database.tables.works import Artist, Snapshot
from ledger.settings import Settings
from models.head import ArtistHead
from models.images import encode_png

from .small_networks import save_clip, save_dinov2

pytestmark = pytest.mark.postgres

ARTISTS = ("Ada", "Ben", "Cleo")
WORKS = 5
Lawful = Callable[..., Result]


@pytest.fixture
def lawful(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lawful:
    """Runs a command of a ledger in which `works` is indexed: three artists, each fond of one colour.

    One of Cleo's works may not be learnt from. The current folder is `tmp_path`.
    """
    assert settings.database_url is not None
    assert settings.database_owner_url is not None
    given = {
        "database_url": settings.database_url.get_secret_value(),
        "database_owner_url": settings.database_owner_url.get_secret_value(),
        "profile": "open",
        "clip": str(save_clip(tmp_path / "networks" / "clip")),
        "dinov2": str(save_dinov2(tmp_path / "networks" / "dinov2")),
    }
    words = ["--home", str(tmp_path / "home"), *(w for pair in given.items() for w in ("--set", "=".join(pair)))]
    chance, rows = np.random.default_rng(4), ["path,artist,train"]
    (tmp_path / "works").mkdir()
    for number, artist in enumerate(ARTISTS):
        for work in range(WORKS):
            pixels = chance.integers(0, 80, (48, 48, 3), np.uint8)
            pixels[..., number] += 120
            (tmp_path / "works" / f"{artist}-{work}.png").write_bytes(encode_png(pixels))
            rows.append(f"{artist}-{work}.png,{artist},{'no' if (artist, work) == ('Cleo', 1) else 'yes'}")
    (tmp_path / "works" / "works.csv").write_text("\n".join(rows))
    monkeypatch.chdir(tmp_path)

    def run(*command: str, **more: str) -> Result:
        changed = [word for name, value in more.items() for word in ("--set", f"{name}={value}")]
        return CliRunner().invoke(main, [*words, *changed, *command])

    assert run("init").exit_code == 0
    assert run("index", "works/works.csv").exit_code == 0
    return run


def answer(result: Result, exit_code: int = 0) -> Any:
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def test_a_classifier_is_learnt_from_a_collections_vectors_and_answers_with_its_artists(
    lawful: Lawful, settings: Settings
) -> None:
    report = answer(lawful("train-head", "--collection", "works", "-o", "head", "--json"))["report"]
    assert (report["artists"], report["works"], report["not_learnt"]) == (3, 14, 1)
    head = ArtistHead.load(Path("head"))
    assert head.info.weights_sha256 == report["classifier"]
    with open_database(settings) as database, database.sessions() as session:
        ids = {str(row.id): row.name for row in session.execute(sa.select(Artist.id, Artist.name))}
        snapshot = session.scalars(sa.select(Snapshot).order_by(Snapshot.created_at.desc())).first()
    assert snapshot is not None
    assert set(head.artists) == set(ids), "it knows artists by the collection's ids"
    assert report["learnt_from"]["name"] == snapshot.digest.hex()
    assert {key.partition("@")[0] for key in head.encoders} == {"clip", "dinov2"} & {
        key.partition("@")[0] for key in snapshot.encoders
    }

    found = answer(lawful("verify", "works/Ben-0.png", "--json", head="head"))
    said = found["evidence"]["classification"]
    assert said["classifier"].endswith(report["classifier"][:16])
    named = {each["artist_id"]: each["artist"] for each in said["artists"]}
    assert named == ids
    assert sum(each["share"] for each in said["artists"]) + said["unknown"] == pytest.approx(1, abs=1e-4)
    assert max(said["artists"], key=lambda each: each["share"])["artist"] == "Ben"


def test_the_same_collection_and_seed_give_the_same_classifier_and_a_withdrawn_grant_another(lawful: Lawful) -> None:
    first, again = (
        answer(lawful("train-head", "--collection", "works", "-o", name, "--json"))["report"] for name in ("a", "b")
    )
    assert again == first
    assert lawful("grant", "Cleo", "--no-train", "--asked-by", "artist").exit_code == 0
    less = answer(lawful("train-head", "--collection", "works", "-o", "c", "--json"))["report"]
    assert (less["artists"], less["works"], less["not_learnt"]) == (2, 10, 5)
    assert less["classifier"] != first["classifier"]


def test_a_collection_that_is_not_there_is_said_not_to_be_and_nothing_is_written(lawful: Lawful) -> None:
    refused = answer(lawful("train-head", "--collection", "paintings", "-o", "head", "--json"), exit_code=3)
    assert refused["error"]["code"] == "collection_missing"
    assert not Path("head").exists()
