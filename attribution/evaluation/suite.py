"""What every suite takes and gives, and where each is found.

A suite is a module of this package with `evaluate(dataset, encoders, options) -> Result`, imported when it is run.
Our figure stands beside its baselines and a control of the same run, each with the number of trials and an interval.
"""

import importlib
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from attribution.calibration import clopper_pearson
from attribution.evaluation.dataset import Dataset, DatasetError
from models.networks import Encoder

OURS = "ours"
SHUFFLED = "control: shuffled labels"
PERFECT = "control: a perfect model at these confidences"
VERSION = "evaluation/1"

_MODULES = {
    name: f"attribution.evaluation.{name}" for name in ("copy", "style", "head", "claims", "generated", "atelier")
}
_VERSIONED = ("lawful-ledger", "numpy", "opencv-python-headless", "faiss-cpu", "faiss-gpu", "torch", "scipy")


def quiet(_stage: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


def unseen(_name: str, _png: bytes) -> None:
    """Pictures that nobody keeps."""


@dataclass(frozen=True)
class Options:
    """`sample`: about how many pictures to measure on (all if None); call `progress(stage, done, total)` often.

    `processes`: how many may work at once. No figure depends on it. Pictures that a person should look at go to
    `keep(name, png)`.
    """

    seed: int = 0
    sample: int | None = None
    progress: Callable[[str, int, int], None] = quiet
    processes: int = 1
    keep: Callable[[str, bytes], None] = unseen


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured number.

    `low` and `high` are the ends of its 95 % interval, `n` the trials behind it. `method`: "ours", "baseline: …" or
    "control: …". `group` says which pictures it is about. `target` is what we set out to reach, where we did; with
    `at_most` it is a limit from above, as for an error.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    method: str = OURS
    target: float | None = None
    at_most: bool = False
    unit: str = "rate"
    group: str = ""

    @property
    def missed(self) -> bool:
        """Is there a target, and the value on the wrong side of it? The interval may still hold the target."""
        if self.target is None:
            return False
        return self.value > self.target if self.at_most else self.value < self.target


Made = TypeVar("Made")


def told(made: Iterable[Made], stage: str, total: int, options: Options) -> Iterator[Made]:
    """Each as it is made, and how many of `total` there are to whoever watches."""
    for done, each in enumerate(made, start=1):
        yield each
        options.progress(stage, done, total)


def share(
    name: str,
    happened: NDArray[np.bool_],
    method: str = OURS,
    target: float | None = None,
    group: str = "",
) -> Figure:
    """How often it happened in (n,) trials, with Clopper and Pearson's interval."""
    low, high = clopper_pearson(int(happened.sum()), len(happened))
    return Figure(
        name=name, value=float(happened.mean()), low=low, high=high, n=len(happened), method=method, target=target,
        group=group,
    )  # fmt: skip


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Figures that belong in rows, as they are shown."""

    title: str
    columns: list[str]
    rows: list[list[str | float | int | None]]


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured on. `digest` names the very pictures; `name` alone says nothing."""

    name: str
    works: int
    artists: int
    digest: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite found. From `command` on, `run` fills in; a suite leaves those alone."""

    suite: str
    figures: list[Figure]
    data: Data
    seed: int
    sample: int | None
    tables: list[Table] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)
    version: str = VERSION
    command: str = ""
    machine: dict[str, str | int] = msgspec.field(default_factory=dict)
    seconds: float = 0.0
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    encoders: dict[str, str] = msgspec.field(default_factory=dict)


Suite = Callable[[Dataset | None, Mapping[str, Encoder], Options], Result]


def load(name: str) -> Suite:
    """The suite of that name. Raises DatasetError `no_suite`."""
    if name not in _MODULES:
        raise DatasetError(
            f"There is no suite {name!r}.", code="no_suite", next_step=f"Choose one of {', '.join(_MODULES)}."
        )
    return cast("Suite", importlib.import_module(_MODULES[name]).evaluate)


def _lazily(name: str) -> Suite:
    def evaluate(dataset: Dataset | None, encoders: Mapping[str, Encoder], options: Options) -> Result:
        return load(name)(dataset, encoders, options)

    return evaluate


SUITES: dict[str, Suite] = {name: _lazily(name) for name in _MODULES}


def data_of(dataset: Dataset) -> Data:
    return Data(name=dataset.name, works=len(dataset.items), artists=len(dataset.artists), digest=dataset.digest)


def to_json(result: Result) -> bytes:
    """Write a result as UTF-8 JSON, indented, ending in a line break. What is not finite becomes null."""
    return msgspec.json.format(msgspec.json.encode(result, order="deterministic"), indent=2) + b"\n"


def run(name: str, dataset: Dataset | None, encoders: Mapping[str, Encoder], options: Options, command: str) -> Result:
    """Run one suite and say with what, on what machine and for how long. Raises what the suite raises."""
    from models.networks import encoder_key

    suite = load(name)
    began = time.perf_counter()
    result = suite(dataset, encoders, options)
    return msgspec.structs.replace(
        result,
        command=command,
        machine=_machine(),
        seconds=round(time.perf_counter() - began, 1),
        versions=_versions(),
        encoders={each: encoder_key(encoder.info) for each, encoder in encoders.items()},
    )


def _machine() -> dict[str, str | int]:
    import multiprocessing

    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": multiprocessing.cpu_count(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    """The processor's own name where the system tells it (Linux), else what Python knows."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
