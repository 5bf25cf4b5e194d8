"""Looking at a collection: each work once, whatever the source looks like and whenever the run is cut off."""

import hashlib
import io
import json
import pickle
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from ledger import lab
from ledger.embedding import parts, steps
from ledger.embedding.parts import Place, located
from ledger.embedding.sources import Terms, shards
from ledger.embedding.steps import Claims, Written, in_process
from ledger.errors import BadRequest, Conflict
from ledger.seeing import Embedder
from ledger.settings import Settings
from ledger.sources import BadFile, Grants
from models.errors import ImageError
from models.images import decode, encode_png
from models.registry import ModelConfig

LIMIT = 1 << 20
TERMS = Terms("CC0-1.0", Grants(train=False, compare=True, name=True))


def picture(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (48, 40 + seed, 3), np.uint8))


WORKS = {("ada", "one"): picture(1), ("ada", "two"): picture(2), ("bob", "one"): picture(3), ("bob", "two"): picture(4)}


class Counting:
    """The built-in networks, and how many pictures they were shown."""

    def __init__(self, networks: Embedder) -> None:
        self._networks = networks
        self.method, self.features = networks.method, networks.features
        self.encoders = dict(networks.encoders)
        self.shown = 0

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Mapping[str, NDArray[np.float32]]:
        self.shown += len(images)
        return self._networks.embed(images)


@pytest.fixture(scope="module")
def networks() -> Embedder:
    return lab.opener(Settings(_env_file=None))()


@pytest.fixture
def embedder(networks: Embedder) -> Counting:
    return Counting(networks)


@pytest.fixture
def out(tmp_path: Path) -> Place:
    return located(str(tmp_path / "embeddings"))


def as_folder(root: Path) -> Path:
    for (artist, title), data in WORKS.items():
        (root / artist).mkdir(parents=True, exist_ok=True)
        (root / artist / f"{title}.png").write_bytes(data)
    return root


def as_parquet(root: Path) -> Path:
    """The columns of huggan/wikiart: pictures as structs, artists as numbers that the metadata name."""
    root.mkdir()
    image = pa.array([{"bytes": data, "path": None} for data in WORKS.values()])
    feature = {"info": {"features": {"artist": {"_type": "ClassLabel", "names": ["ada", "bob"]}}}}
    columns = {"image": image, "artist": [0, 0, 1, 1], "title": [title for _, title in WORKS]}
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(feature)})
    pq.write_table(table, root / "train-00000-of-00001.parquet", row_group_size=3)
    return root


def as_tar(root: Path) -> Path:
    """WebDataset: half of the works with JSON beside them, half in their artist's folder."""
    root.mkdir()
    for artist in ("ada", "bob"):
        with tarfile.open(root / f"{artist}.tar", "w") as tar:
            for (owner, title), data in WORKS.items():
                if owner == artist == "ada":
                    add(tar, f"{title}.json", json.dumps({"artist": artist, "title": title}).encode())
                    add(tar, f"{title}.png", data)
                elif owner == artist:
                    add(tar, f"{artist}/{title}.png", data)
    return root


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size = len(data)
    tar.addfile(about, io.BytesIO(data))


def run(source: Path | str, out: Place, embedder: Embedder) -> Written:
    found, bad = shards(str(source), TERMS)
    total = Written(bad=list(bad))
    for each in in_process(found, out, LIMIT, embedder):
        total.add(each)
    return total


def rows(out: Place) -> list[dict[str, object]]:
    return [row for name in parts.names(out) for row in pq.read_table(out.path(name)).to_pylist()]


def each_once(found: list[dict[str, object]], artists: int = 2) -> None:
    digests = {(artist, hashlib.sha256(data).hexdigest()) for (artist, _), data in WORKS.items()}
    assert len(digests) == 2 * artists
    assert sorted((row["artist"], row["file_sha256"]) for row in found) == sorted(digests)


@pytest.mark.parametrize("form", [as_folder, as_parquet, as_tar])
def test_the_same_works_come_out_of_every_form_of_source(form, tmp_path: Path, out: Place, embedder: Counting) -> None:  # type: ignore[no-untyped-def]
    assert run(form(tmp_path / "works"), out, embedder) == Written(embedded=4)
    found = rows(out)
    each_once(found)
    assert {(row["artist"], row["title"]) for row in found} == set(WORKS)
    assert {(row["licence"], row["train"], row["compare"], row["name"]) for row in found} == {
        ("CC0-1.0", False, True, True)
    }


def test_a_list_says_what_holds_for_its_works(tmp_path: Path, out: Place, embedder: Counting) -> None:
    source = as_folder(tmp_path / "works")
    (source / "list.csv").write_text("path,artist,licence,train\nada/one.png,Ada L.,CC-BY-4.0,yes\nbob/no.png,Bob,,\n")
    done = run(source / "list.csv", out, embedder)
    assert [bad.code for bad in done.bad] == ["file_unreadable"]
    [row] = rows(out)
    assert (row["artist"], row["licence"], row["train"]) == ("Ada L.", "CC-BY-4.0", True)


def test_a_row_is_what_the_encoders_say_in_binary16(tmp_path: Path, out: Place, embedder: Counting) -> None:
    run(as_folder(tmp_path / "works"), out, embedder)
    [name] = parts.names(out)
    schema = pq.read_schema(out.path(name))
    keys = [key for key in embedder.encoders if key != embedder.method]
    assert schema.names == [*parts.WORK.names, *keys]
    assert all(schema.field(key).type.value_type == pa.float16() for key in keys)
    wanted = lab.opener(Settings(_env_file=None))()
    [row] = [row for row in rows(out) if (row["artist"], row["title"]) == ("bob", "one")]
    seen = wanted.embed([decode(WORKS["bob", "one"]).pixels])
    for key in keys:
        assert np.allclose(np.array(row[key], np.float32), seen[key][0], atol=2e-3)
    assert row["features"] == wanted.features([decode(WORKS["bob", "one"]).pixels])[0]


def test_a_work_that_is_there_twice_is_looked_at_once(tmp_path: Path, out: Place, embedder: Counting) -> None:
    source = as_folder(tmp_path / "works")
    (source / "ada" / "again.png").write_bytes(WORKS["ada", "one"])
    done = run(source, out, embedder)
    assert (done.embedded, done.known, embedder.shown) == (4, 1, 4)
    each_once(rows(out))


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_run_that_was_cut_off_does_only_what_is_missing(
    taken: int, tmp_path: Path, out: Place, embedder: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "PART_WORKS", 1)
    monkeypatch.setattr(steps, "BATCH_WORKS", 1)
    found, _ = shards(str(as_folder(tmp_path / "works")), TERMS)
    run_of: Iterator[Written] = in_process(found, out, LIMIT, embedder)
    assert sum(each.embedded for each in islice(run_of, taken)) == taken
    before = embedder.shown
    done = run(tmp_path / "works", out, embedder)
    assert (done.embedded, done.known, embedder.shown - before) == (4 - taken, taken, 4 - taken)
    each_once(rows(out))
    assert run(tmp_path / "works", out, embedder) == Written(known=4)


def test_what_a_killed_run_left_unfinished_or_damaged_is_done_again(
    tmp_path: Path, out: Place, embedder: Counting
) -> None:
    run(as_folder(tmp_path / "works"), out, embedder)
    folder = Path(out.folder)
    [whole] = folder.iterdir()
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) // 2])
    (folder / f".{whole.name}.8c5cf1c0-0000-4000-8000-000000000000").write_bytes(b"PAR1")
    pq.write_table(pa.table({"a": [1]}), folder / "somebody-elses.parquet")
    assert run(tmp_path / "works", out, embedder).embedded == 4
    assert {path.name for path in folder.iterdir()} == {whole.name, "somebody-elses.parquet"}
    each_once(rows(out))


def test_bad_pictures_are_named_and_stop_nothing(tmp_path: Path, out: Place, embedder: Counting) -> None:
    source = as_folder(tmp_path / "works")
    (source / "ada" / "cut.png").write_bytes(picture(5)[:-30])
    (source / "ada" / "empty.png").write_bytes(b"")
    (source / "ada" / "huge.png").write_bytes(b"\0" * (LIMIT + 1))
    (source / "loose.png").write_bytes(picture(6))
    done = run(source, out, embedder)
    assert done.embedded == 4
    assert {bad.path: bad.code for bad in done.bad} == {
        "loose.png": "artist_missing",
        "ada/cut.png": "image_truncated",
        "ada/empty.png": "image_empty",
        "ada/huge.png": "image_too_large",
    }


def test_bad_rows_of_parquet_and_tar_are_named_and_stop_nothing(tmp_path: Path, out: Place, embedder: Counting) -> None:
    good = WORKS["ada", "one"]
    image = pa.array([{"bytes": good}, {"bytes": None}, {"bytes": b"no"}, {"bytes": picture(7)}, {"bytes": picture(8)}])
    artist = ["ada", "ada", "ada", None, "a\nb"]
    pq.write_table(pa.table({"image": image, "artist": artist}), tmp_path / "rows.parquet")
    assert [bad.code for bad in run(tmp_path / "rows.parquet", out, embedder).bad] == [
        "image_empty", "image_format_unsupported", "row_incomplete", "row_malformed"
    ]  # fmt: skip
    as_tar(tmp_path / "tars")
    cut = (tmp_path / "tars" / "bob.tar").read_bytes()[:1500]
    (tmp_path / "tars" / "bob.tar").write_bytes(cut)
    done = run(tmp_path / "tars", out, embedder)
    assert (done.embedded, done.known) == (1, 1)
    assert [bad.path for bad in done.bad] == ["bob.tar"]


def test_a_folder_of_other_encoders_is_refused(tmp_path: Path, out: Place, embedder: Counting) -> None:
    run(as_folder(tmp_path / "works"), out, embedder)
    key = next(iter(embedder.encoders))
    embedder.encoders[key] = {**embedder.encoders[key], "weights_sha256": "0" * 64}
    with pytest.raises(Conflict) as error:
        run(tmp_path / "works", out, embedder)
    assert error.value.code == "embeddings_of_other_encoders"
    assert key in error.value.detail


def test_a_task_that_is_tried_again_gets_its_works_and_nobody_else_does() -> None:
    claims = Claims([b"done"])
    assert claims.claim(b"task 1", [b"a", b"done", b"b", b"a"]) == [True, False, True, False]
    assert claims.claim(b"task 2", [b"b", b"c"]) == [False, True]
    assert claims.claim(b"task 1", [b"a", b"done", b"b", b"a"]) == [True, False, True, False]


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    for source in (str(tmp_path / "nowhere"), f"file://{tmp_path}"):
        with pytest.raises(BadRequest) as error:
            shards(source, TERMS)
        assert error.value.code == "source_missing"
    with pytest.raises(BadRequest) as error:
        located("ftp://example.org/works")
    assert error.value.code == "place_unreadable"


def test_what_opens_the_networks_elsewhere_carries_settings_of_networks_alone() -> None:
    secret = Settings(_env_file=None, database_url="postgresql://lawful:hunter2@localhost/lawful")
    opener = lab.opener(secret)
    assert opener.args == (ModelConfig(),)  # type: ignore[attr-defined]


def test_a_file_that_is_no_embedding_is_called_so(tmp_path: Path, out: Place) -> None:
    Path(out.folder).mkdir()
    pq.write_table(pa.table({"a": [1]}), out.path("foreign.parquet"))
    with pytest.raises(BadRequest) as error:
        parts.header(out, "foreign.parquet")
    assert error.value.code == "embeddings_unreadable"


def test_errors_come_back_from_another_process_as_what_they_were() -> None:
    for error in (
        Conflict("held", code="collection_busy", next_step="wait"),
        ImageError("cut", code="image_truncated", next_step="send all of it", status=418),
    ):
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is type(error)
        assert vars(back) == vars(error) | {"code": error.code, "status": error.status}
    assert BadFile("a", "b", "c") == pickle.loads(pickle.dumps(BadFile("a", "b", "c")))
