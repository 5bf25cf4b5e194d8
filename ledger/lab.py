"""Training and evaluation: with `ledger.worker` and `ledger.examiner` the only importer of the heavy floors."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ledger.settings import Settings

if TYPE_CHECKING:
    from attribution.evaluation.suite import Result
    from attribution.training import TrainingReport
    from ledger.runtime import Runtime
    from ledger.seeing import Embedder
    from ledger.sources import Grants

SUITES = ("copy", "style", "head", "claims", "generated", "atelier")
MOST_THREADS = 8


def draw_collection(folder: Path, works: int) -> None:
    """Draw `works` works by each studio of the atelier into `folder`, a subfolder per studio, and a few copies that are
    planted among them; `works.csv` has licences and grants."""
    from models.atelier.collection import SUBJECTS, write_collection

    write_collection(folder, variants=-(-works // len(SUBJECTS)), at_most=works)


def evaluate(
    suite: str,
    folder: Path | None,
    settings: Settings,
    *,
    sample: int | None,
    seed: int,
    progress: Callable[[str, int, int], None],
    keep: Callable[[str, bytes], None],
    command: str,
) -> tuple["Result", list[str]]:
    """Run one suite with the encoders of the settings, on the pictures in `folder` or, without one, the atelier's own.

    Pictures that a person should look at are handed to `keep`, by name, as PNG. Returns what it found, and a line for
    every file passed over. Raises DatasetError, ImageError, NetworkError.
    """
    from attribution.evaluation import suite as suites
    from attribution.evaluation.dataset import read
    from ledger.examiner import model_config
    from models.registry import load_encoders

    dataset = None if folder is None else read(folder)
    options = suites.Options(seed=seed, sample=sample, progress=progress, processes=_threads(), keep=keep)
    found = suites.run(suite, dataset, load_encoders(model_config(settings)), options, command)
    passed_over = [] if dataset is None else [f"{bad.name}: {bad.detail} [{bad.code}]" for bad in dataset.bad]
    return found, passed_over


def written(result: "Result", pictures: Mapping[str, bytes], folder: Path) -> list[Path]:
    """Write `<suite>.json`, `<suite>.svg` and each PNG by its name into `folder`, made if need be; return the paths."""
    from attribution.evaluation.plots import svg
    from attribution.evaluation.suite import to_json

    folder.mkdir(parents=True, exist_ok=True)
    files = {f"{result.suite}.json": to_json(result), f"{result.suite}.svg": svg(result).encode()}
    files |= {f"{name}.png": png for name, png in pictures.items()}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in files]


def opener(settings: Settings) -> Callable[[], "Embedder"]:
    """What loads the encoders of the settings wherever it is called; it is picklable, and carries no secret."""
    from ledger.examiner import Networks, model_config

    return partial(Networks, model_config(settings))


def train_head_on_source(
    source: Path,
    settings: Settings,
    grants: "Grants",
    out: Path,
    seed: int,
    progress: Callable[[str, int, int], None],
) -> tuple["TrainingReport", list[str]]:
    """Train the artist classifier on a folder or list of works, and save it to `out`; artists are known by name.

    A work without the grant *train* is not even decoded. Returns what was measured, and a line for every file passed
    over. Raises BadRequest for no such source, HeadError for too little to learn from, NetworkError.
    """
    import numpy as np

    from attribution.training import train
    from ledger.examiner import model_config
    from ledger.sources import list_works
    from models.errors import ImageError
    from models.images import Limits, decode, pixel_sha256
    from models.networks import encoder_key
    from models.registry import load_encoders

    listed, bad = list_works(source, "unknown", grants)
    passed_over = [f"{each.path}: {each.detail} [{each.code}]" for each in bad]
    allowed = [each for each in listed if each.grants.train]
    encoders = load_encoders(model_config(settings)).values()
    rows: dict[str, list[np.ndarray]] = {encoder_key(encoder.info): [] for encoder in encoders}
    artists, pictures = [], []
    for number, work in enumerate(allowed):
        progress("encode", number + 1, len(allowed))
        try:
            pixels = decode(work.path.read_bytes(), Limits(max_bytes=settings.max_upload_bytes)).pixels
        except ImageError as error:
            passed_over.append(f"{work.name}: {error.detail} [{error.code}]")
            continue
        artists.append(work.artist)
        pictures.append(pixel_sha256(pixels).hex())
        for encoder in encoders:
            rows[encoder_key(encoder.info)].append(encoder.encode([pixels]))
    vectors = {key: np.concatenate(parts) if parts else np.empty((0, 1), np.float32) for key, parts in rows.items()}
    may = np.ones(len(artists), bool)
    trained = train(vectors, artists, pictures, may, name=source.resolve().name, seed=seed)
    trained.head.save(out)
    refused = len(listed) - len(allowed)
    return msgspec.structs.replace(trained.report, not_learnt=trained.report.not_learnt + refused), passed_over


def train_head_on_collection(runtime: "Runtime", collection: str, out: Path, seed: int) -> "TrainingReport":
    """Train the artist classifier on a collection, by name, from its stored vectors; artists are known by id.

    Grants count as they stand now. Raises NotFound `collection_missing` and HeadError.
    """
    import numpy as np

    from attribution.training import train
    from ledger import snapshots
    from ledger.database import vectors
    from ledger.errors import NotFound
    from ledger.examiner import Examiner
    from models.networks import encoder_key

    with runtime.sessions() as session:
        snapshot = snapshots.newest_snapshot(session, collection=collection)
        if snapshot is None:
            raise NotFound(
                f"there is no collection {collection!r}",
                code="collection_missing",
                next_step="index it with `lawful index`, or name another",
            )
        works = list(snapshots.reference_works(session, snapshot.collection_id))
        ids = [work.id for work in works]
        keys = [encoder_key(encoder.info) for encoder in Examiner(runtime).loaded().values()]
        stored = {key: vectors.load(session, key, snapshot.collection_id, ids) for key in keys}
    trained = train(
        {key: rows for key, rows in stored.items() if rows is not None},
        [work.artist_id for work in works],
        [work.pixel_sha256 for work in works],
        np.array([work.train for work in works], bool),
        name=snapshot.digest.hex(),
        seed=seed,
    )
    trained.head.save(out)
    return trained.report


def _threads() -> int:
    """Cores that this process may use, at most MOST_THREADS: each thread holds pictures of its own."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, MOST_THREADS)
