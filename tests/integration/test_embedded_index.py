"""What `lawful embed` wrote goes into a collection as if it had been looked at there, and only with its encoders."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from ledger import catalog
from ledger.cli import main
from ledger.database.tables.works import Collection, Embedding, LocalFeatureSet, Preview, Work
from ledger.embedding import parts, steps
from ledger.embedding.parts import located
from ledger.embedding.sources import Terms, shards
from ledger.errors import BadRequest, Conflict
from ledger.examiner import Examiner
from ledger.runtime import Runtime
from ledger.sources import Grants

from .test_catalog import folder_of_works

pytestmark = pytest.mark.postgres

GRANTS = Grants(train=False, compare=True, name=True)


def embed(source: Path, out: Path, examiner: Examiner) -> str:
    found, _ = shards(str(source), Terms("CC0-1.0", GRANTS))
    assert [each.bad for each in steps.in_process(found, located(str(out)), 1 << 20, examiner)] == [[]]
    return str(out)


def stored(runtime: Runtime, collection: str) -> list[tuple[object, ...]]:
    """All that is kept of the works of a collection, vectors to the bit."""
    with runtime.sessions() as session:
        rows = session.execute(
            sa.select(
                Work.source, Work.title, Work.licence, Work.file_sha256, Work.pixel_sha256, Work.iscc, Work.pdq,
                Work.width, Work.height, Work.grant_train, Work.grant_compare, Work.grant_name,
                Embedding.encoder, sa.cast(Embedding.vector, sa.Text), LocalFeatureSet.features, Preview.webp,
            )
            .join(Collection, Collection.id == Work.collection_id)
            .join(Embedding, Embedding.work_id == Work.id)
            .join(LocalFeatureSet, LocalFeatureSet.work_id == Work.id)
            .join(Preview, Preview.work_id == Work.id)
            .where(Collection.name == collection)
            .order_by(Work.source, Embedding.encoder)
        )  # fmt: skip
        return [tuple(row) for row in rows]


def test_it_is_the_collection_that_indexing_would_have_made(runtime: Runtime, tmp_path: Path) -> None:
    source, examiner = folder_of_works(tmp_path / "works"), Examiner(runtime)
    out = embed(source, tmp_path / "out", examiner)
    first = catalog.index_embedded(runtime, out, collection="embedded", embedder=examiner)
    assert (first.found, first.added, first.known, first.bad, first.works, first.artists) == (6, 6, 0, [], 6, 2)
    catalog.index(runtime, source, collection="indexed", licence="CC0-1.0", grants=GRANTS, embedder=examiner)
    assert stored(runtime, "embedded") == stored(runtime, "indexed")
    again = catalog.index_embedded(runtime, out, collection="embedded", embedder=examiner)
    assert (again.added, again.known, again.snapshot) == (0, 6, first.snapshot)


def test_other_weights_vectors_of_no_length_and_hostile_rows_stay_outside(runtime: Runtime, tmp_path: Path) -> None:
    examiner = Examiner(runtime)
    out = embed(folder_of_works(tmp_path / "works"), tmp_path / "out", examiner)
    place = located(out)
    [name] = parts.names(place)
    table, whole = pq.read_table(place.path(name)), Path(place.path(name)).read_bytes()
    key = next(iter(examiner.loaded().values())).info
    said = json.loads(table.schema.metadata[parts.METADATA])

    foreign = {name: each | {"weights_sha256": "0" * 64} for name, each in said.items()}
    pq.write_table(table.replace_schema_metadata({parts.METADATA: json.dumps(foreign)}), place.path(name))
    with pytest.raises(Conflict) as error:
        catalog.index_embedded(runtime, out, collection="foreign", embedder=examiner)
    assert error.value.code == "embeddings_of_other_encoders"
    assert key.name in error.value.detail

    rows = table.to_pylist()
    encoder = table.schema.names[len(parts.WORK)]
    rows[0][encoder] = [np.float16(2)] + [np.float16(0)] * (len(rows[0][encoder]) - 1)
    rows[1][encoder] = [np.float16("nan")] * len(rows[1][encoder])
    rows[2][encoder] = None
    rows[3]["artist"] = "two\nlines"
    rows[4]["pixel_sha256"] = "abc"
    pq.write_table(table.from_pylist(rows, table.schema), place.path(name))
    report = catalog.index_embedded(runtime, out, collection="hostile", embedder=examiner)
    assert (report.added, report.works) == (1, 1)
    assert sorted(bad.code for bad in report.bad) == ["row_malformed"] * 2 + ["vector_unusable"] * 3

    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    Path(place.path(name)).write_bytes(damaged)
    with pytest.raises(BadRequest) as unreadable:
        catalog.index_embedded(runtime, out, collection="damaged", embedder=examiner)
    assert unreadable.value.code == "embeddings_unreadable"


def test_the_two_commands_make_a_collection(
    runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = runtime.settings.database_url
    assert url is not None
    source, out = folder_of_works(tmp_path / "works"), tmp_path / "out"
    (source / "artist 0" / "text.png").write_text("no picture")
    ours = ["--home", str(runtime.settings.home), "--set", f"database_url={url.get_secret_value()}"]

    def typed(*words: object) -> dict[str, object]:
        with pytest.raises(SystemExit) as end:
            main([*ours, *map(str, words), "--json"])
        answer: dict[str, object] = json.loads(capsys.readouterr().out)
        return answer | {"exit": end.value.code}

    embedded = typed("embed", source, out, "--licence", "CC0-1.0")
    assert embedded["exit"] == 0
    assert embedded["written"]["embedded"] == 6  # type: ignore[index]
    assert [bad["path"] for bad in embedded["written"]["bad"]] == ["artist 0/text.png"]  # type: ignore[index]
    refused = typed("index", out, "--embedded", "--train")
    assert (refused["exit"], refused["error"]["code"]) == (3, "terms_stated_before")  # type: ignore[index]
    indexed = typed("index", out, "--embedded", "--collection", "paintings")
    assert (indexed["exit"], indexed["added"], indexed["works"], indexed["artists"]) == (0, 6, 6, 2)
