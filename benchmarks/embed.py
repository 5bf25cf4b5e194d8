"""`lawful embed` through Ray Data on one machine against the plain loop, and indexing what they wrote.

    python -m benchmarks.embed FOLDER [--works 400] [--rounds 3]

FOLDER has a subfolder per artist. The two take turns, each round into a fresh folder, and change their order from round
to round. A run through Ray includes loading the networks into its actors; joining the cluster is measured apart.
`after_first` leaves out what comes before a run's first file: on a collection worth a cluster, starting costs nothing.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import ray

from benchmarks.measuring import ratio, show, spread, throwaway_ledger
from ledger import catalog, lab
from ledger.embedding import on_ray, parts, steps
from ledger.embedding.parts import Place, located
from ledger.embedding.sources import Files, Shard, Terms, shards
from ledger.embedding.steps import Written
from ledger.examiner import Examiner
from ledger.settings import Settings
from ledger.sources import Grants

TARGET = 0.9
TERMS = Terms("unknown", Grants(train=False, compare=True, name=True))
Run = Callable[[Place], Iterator[Written]]


def timed(run: Run, place: Place) -> tuple[float, float, int]:
    """Seconds in all, seconds a work after the first file, and works."""
    begun = time.perf_counter()
    moments, counts = [], []
    for each in run(place):
        moments.append(time.perf_counter())
        counts.append(each.embedded)
    later = sum(counts[1:])
    return moments[-1] - begun, (moments[-1] - moments[0]) / later if later else float("nan"), sum(counts)


def processor_s(run: Run, place: Place) -> float:
    """Processor seconds a work, of this process and the decoder that it ends: the same however loaded a machine is."""
    begun = os.times()
    works = sum(each.embedded for each in run(place))
    ended = os.times()
    return sum(ended[:4]) / works - sum(begun[:4]) / works


def sample(folder: str, works: int) -> list[Shard]:
    """Evenly drawn from all artists, in parts small enough for two cores to share."""
    listed = [work for shard in shards(folder, TERMS)[0] if isinstance(shard, Files) for work in shard.works]
    chosen = listed[:: max(1, len(listed) // works)][:works]
    return [Files(tuple(chosen[first : first + 64])) for first in range(0, len(chosen), 64)]


def folder_bytes(place: Place) -> int:
    return sum(Path(place.path(name)).stat().st_size for name in parts.names(place))


def indexing(place: Place, works: int) -> dict[str, float]:
    """COPY into Postgres, without the calibration that follows it."""
    with throwaway_ledger() as runtime:
        moments = [time.perf_counter()]
        catalog.index_embedded(
            runtime,
            place.folder,
            collection="embedded",
            embedder=Examiner(runtime),
            progress=lambda each: moments.append(time.perf_counter()) if each.name != "measuring error rates" else None,
        )
        return {"works_per_s": round(works / (moments[-1] - moments[0]), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--works", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="Only the plain loop's processor time.")
    options = parser.parse_args()
    settings = Settings(_env_file=None)
    limit, opener = settings.max_upload_bytes, lab.opener(settings)
    chosen = sample(options.folder, options.works)
    embedder = opener()
    embedder.encoders  # noqa: B018  (loads the networks before the clock starts)
    runs: dict[str, Run] = {
        "plain": partial(steps.in_process, chosen, limit=limit, embedder=embedder),
        "ray": partial(on_ray.on_ray, chosen, limit=limit, open_embedder=opener),
    }
    if options.plain:
        with tempfile.TemporaryDirectory() as root:
            place = located(root)
            used = processor_s(runs["plain"], place)
            works = sum(parts.header(place, name).works for name in parts.names(place))
            show({"works": works, "processor_s_a_work": round(used, 4), "bytes_a_work": folder_bytes(place) // works})
        return
    begun = time.perf_counter()
    on_ray.join()
    joined = time.perf_counter() - begun
    whole: dict[str, list[float]] = {name: [] for name in runs}
    later: dict[str, list[float]] = {name: [] for name in runs}
    with tempfile.TemporaryDirectory() as root:
        for number in range(options.rounds):
            names: Sequence[str] = sorted(runs, reverse=bool(number % 2))
            for name in names:
                seconds, each, works = timed(runs[name], located(f"{root}/{name}-{number}"))
                whole[name].append(seconds)
                later[name].append(each)
        ray.shutdown()
        written = located(f"{root}/plain-0")
        show(
            {
                "works": works,
                "target_rate": TARGET,
                "joined_s": round(joined, 1),
                "whole": {name: spread(values) for name, values in whole.items()},
                "ray_rate_to_plain": ratio(whole["plain"], whole["ray"]),
                "after_first_ms_a_work": {name: spread(values) for name, values in later.items()},
                "ray_rate_to_plain_after_first": ratio(later["plain"], later["ray"]),
                "bytes_a_work": round(folder_bytes(written) / works),
                "index_embedded": indexing(written, works),
            }
        )


if __name__ == "__main__":
    main()
