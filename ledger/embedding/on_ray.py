"""The steps of `ledger.embedding.steps` on Ray Data: reading and decoding on all cores, networks in actors of their
own, on GPUs where there are any. The only importer of ray.

A task that fails with its machine is tried again by Ray. It claims the same works and writes a file of the same name,
so a work is in one file, however often its task ran. All machines have to see the source and the folder under the same
names, and have this package with the same weights installed.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from ledger.embedding import parts, steps
from ledger.embedding.parts import Place
from ledger.embedding.sources import Shard
from ledger.embedding.steps import Describing, Written
from ledger.errors import BadRequest, LedgerError, Unavailable
from ledger.seeing import Embedder
from ledger.snapshots import Encoders
from ledger.sources import BadFile
from models.errors import ModelError

LOCAL = "local"
Open = Callable[[], Embedder]

_WRITTEN = pa.schema([("embedded", pa.int64()), ("known", pa.int64()), ("bad", pa.binary())])


def on_ray(
    shards: Sequence[Shard], place: Place, limit: int, open_embedder: Open, address: str = LOCAL
) -> Iterator[Written]:
    """Do what `steps.in_process` does, on the cluster at `address`, or on one that is started here and ended again.
    A process that is in a cluster already stays in that one.

    `open_embedder` is called on the machines that look, and must be picklable. Yields what became of some pictures each
    time. Raises what the steps raise; Unavailable `ray_unreachable`.
    """
    if not shards:
        return
    ray = _ray()
    ours = not ray.is_initialized()
    try:
        if ours:
            join(address)
        yield from _run(ray, shards, place, limit, open_embedder)
    except ray.exceptions.RayTaskError as error:
        raise _cause(error) from error
    finally:
        if ours:
            ray.shutdown()


def _run(ray: Any, shards: Sequence[Shard], place: Place, limit: int, open_embedder: Open) -> Iterator[Written]:
    gpus = int(ray.cluster_resources().get("GPU", 0))
    cores = int(ray.cluster_resources().get("CPU", 1))
    one = {"num_gpus": 1} if gpus else {"num_cpus": 1}
    encoders = ray.get(ray.remote(_encoders).options(**one).remote(open_embedder))
    claims = ray.remote(steps.Claims).options(num_cpus=0).remote(list(steps.finished(place, encoders)))
    shared = ray.put([msgspec.json.encode(shard) for shard in shards])
    done = (
        ray.data.range(len(shards), override_num_blocks=len(shards))
        .map_batches(
            _described,
            batch_size=1,
            fn_kwargs={"shared": [shared], "limit": limit, "open_embedder": open_embedder, "claims": claims},
        )
        .map_batches(
            _Encoding,
            batch_size=None,
            batch_format="pyarrow",
            fn_constructor_args=(open_embedder, encoders),
            concurrency=(1, max(1, gpus or cores // 2)),
            **one,
        )
        .map_batches(
            _written,
            batch_size=steps.PART_WORKS,
            batch_format="pyarrow",
            fn_kwargs={"place": place, "encoders": encoders},
        )
    )
    for batch in done.iter_batches(batch_size=1, batch_format="pyarrow"):
        for row in batch.to_pylist():
            yield Written(row["embedded"], row["known"], msgspec.json.decode(row["bad"], type=list[BadFile]))


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers of every cluster
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ImportError as error:
        raise BadRequest(
            f"Ray is not installed: {error}",
            code="ray_missing",
            next_step="pip install 'lawful-ledger[ray]', or leave --ray out",
        ) from error
    return ray


def _cause(error: BaseException) -> BaseException:
    """What a step of ours raised, out of what Ray wraps around it; Ray's own error where it was none of ours."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, LedgerError | ModelError):
        found = getattr(found, "cause", None) or found.__cause__
    return found or error


def join(address: str = LOCAL) -> None:
    """Enter the cluster at `address`, or start one on all cores of this machine. Raises Unavailable."""
    ray = _ray()
    local = {"num_cpus": max(2, os.cpu_count() or 1)} if address == LOCAL else {}
    try:
        ray.init(address=None if address == LOCAL else address, include_dashboard=False, log_to_driver=False, **local)
    except Exception as error:  # Ray raises that very class where a node does not start
        raise Unavailable(
            f"there is no Ray cluster to join at {address[:200]}: {str(error)[:200]}",
            code="ray_unreachable",
            next_step="start one with `ray start --head`, give its address, or say --ray local",
        ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False


# ---- what runs on the machines of the cluster ----------------------------------------------------------------------


def _encoders(open_embedder: Open) -> Encoders:
    return open_embedder().encoders


def _described(
    batch: dict[str, np.ndarray], *, shared: list[Any], limit: int, open_embedder: Open, claims: Any
) -> Iterator[pa.Table]:
    import ray

    [number] = batch["id"]
    shard = msgspec.json.decode(ray.get(shared[0])[number], type=Shard)

    def claim(task: bytes, works: Sequence[bytes]) -> list[bool]:
        ours: list[bool] = ray.get(claims.claim.remote(task, works))
        return ours

    with steps.decoders(limit) as files:
        yield from steps.described(shard, Describing(limit, files.decode, open_embedder().features, claim))


class _Encoding:
    """The networks, loaded once for many batches."""

    def __init__(self, open_embedder: Open, encoders: Encoders) -> None:
        self._embedder = open_embedder()
        parts.check_encoders(self._embedder.encoders, encoders)  # another machine may have other weights

    def __call__(self, table: pa.Table) -> pa.Table:
        return steps.encoded(table, self._embedder)


def _written(table: pa.Table, *, place: Place, encoders: Encoders) -> pa.Table:
    found = steps.written(table, place, encoders)
    row = {"embedded": found.embedded, "known": found.known, "bad": msgspec.json.encode(found.bad)}
    return pa.Table.from_pylist([row], _WRITTEN)
