"""Work shared among processes: the interpreter's lock would stop threads, and a forked child may wait for ever on one
that its parent's libraries had. And threads of libraries that would be in each other's way."""

import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import cv2
import faiss
from threadpoolctl import ThreadpoolController

Given = TypeVar("Given")
Made = TypeVar("Made")

FEW = 32  # below it, starting processes costs more than it saves
CHUNK = 4
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_HERE: dict[str, Callable[[Any], Any]] = {}


def in_processes(processes: int, function: Callable[[Given], Made], given: Sequence[Given]) -> Iterator[Made]:
    """Map in order. `function` must be picklable with all it holds; each process gets it once.

    With one process, or little to do, everything happens here. Raises what `function` raises, and
    concurrent.futures.process.BrokenProcessPool when a process cannot start or is killed.
    """
    if processes < 2 or len(given) < FEW:
        yield from map(function, given)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "function"
        path.write_bytes(pickle.dumps(function, protocol=pickle.HIGHEST_PROTOCOL))
        before = {name: os.environ.get(name) for name in THREADS}
        os.environ.update(dict.fromkeys(THREADS, "1"))  # children read it as they start
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, context, _open, (path,)) as pool:
            try:
                made = pool.map(_call, given, chunksize=CHUNK)
            finally:
                for name, value in before.items():
                    os.environ.pop(name) if value is None else os.environ.update({name: value})
            try:
                yield from made
            finally:
                pool.shutdown(cancel_futures=True)


def _open(path: Path) -> None:
    """Threads below a process of its own would only wait for one another; its end is not the command's."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    faiss.omp_set_num_threads(1)
    _HERE["function"] = pickle.loads(path.read_bytes())  # noqa: S301 - our parent wrote it a moment ago


def _call(given: Any) -> Any:
    return _HERE["function"](given)


class _OneBlasThread:
    """How many callers want it; the first sets it and the last takes it back, in whatever order they leave."""

    def __init__(self, blas: ThreadpoolController) -> None:
        self._blas = blas
        self._lock = threading.Lock()
        self._inside = 0
        self._limited: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._limited = self._blas.limit(limits=1)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._limited.restore_original_limits()


@cache
def one_blas_thread() -> _OneBlasThread:
    """A context in which numpy's products take one thread. With small matrices OpenBLAS's other threads mostly wait for
    more, keep the cores busy while they do, and whoever has real work waits for them."""
    return _OneBlasThread(ThreadpoolController().select(internal_api="openblas"))


@cache
def kept_threads(count: int) -> ThreadPoolExecutor:
    """Threads that are never ended: each that ends leaves some kilobytes of its libraries' memory behind."""
    return ThreadPoolExecutor(count, "kept")
