"""What 10⁶, 10⁸ and 10⁹ works and 10³ generations a second take: writes the tables of docs/scale.md.

    python -m benchmarks.scale

Each figure says where it is from. A measured one quotes the line it stands in, and a test looks whether it still does;
the others are published elsewhere or assumed, and say so. Nothing here was run at these sizes.
"""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "scale.md"
RESULTS = "benchmarks/RESULTS.md"
SIZES = (10**6, 10**8, 10**9)
GENERATIONS = 1000  # a second
DAY, MONTH_DAYS, WEEK_HOURS = 86_400, 30, 168


@dataclass(frozen=True)
class Figure:
    """`source` is a file of this repository that holds `quote`, or says `published` or `assumed`, and `quote` why."""

    value: float
    what: str
    source: str
    quote: str

    @property
    def measured(self) -> bool:
        return "/" in self.source


WORKS_A_SECOND = Figure(438 / 14.0, "works indexed a second, two cores", RESULTS, "are copies of others), 14.0 s")
FORWARD_S = Figure(5.3, "seconds of these 14.0 in the networks", RESULTS, "and forward pass (5.3 s)")
COPY_S = Figure(0.234, "seconds of a copy decision among 5,000 works", RESULTS, "**234 ms (")
ISSUE_S = Figure(0.292, "seconds from pixels to record, 288 works", RESULTS, "**292 (")
LOG_RATE = Figure(16_533, "entries a second published, in rows of 64", RESULTS, "16,533/s")
COMMITS = Figure(826, "commits of one row a second, log included", RESULTS, "| 826/s |")
ENTRY_BYTES = Figure(774, "bytes stored for an entry of 500", RESULTS, "| 774, of them tiles 36")
LOOKUP_S = Figure(
    0.00387, "seconds of a look-up by hash, 100,000 records", RESULTS, "file's hash (target: under 10) | 3.87 ("
)
FEATURES_STORED = Figure(
    16 + 96**2 + 500 * (16 + 128),
    "bytes of local features stored a work, at most",
    "attribution/features.py",
    "MOST = 500",
)
FEATURES_HELD = Figure(
    500 * 170 + 10_000,
    "bytes of local features in a worker's memory a work, at most",
    "attribution/copies.py",
    "some 170 bytes a local feature (at most features.MOST a work) and 10 KB a work",
)
CODE_BYTES = Figure(72, "bytes of an IVF code", "attribution/ivf.py", "`code_bytes` + 8 for each work")
GPU_PART = Figure(4, "the part of a GPU for vectors is one in", "attribution/index.py", "GPU_SHARE = 4")
PART_WORKS = Figure(256, "works in a Parquet file", "ledger/embedding/steps.py", "PART_WORKS = 256")

HBM_BYTES = Figure(141e9, "bytes of an H200's memory", "published", "NVIDIA's data sheet")
HBM_RATE = Figure(4.8e12, "bytes a second of it", "published", "NVIDIA's data sheet; not reached in full")
DIMENSIONS = Figure(
    768 + 1024 + 768 + 768 + 512,
    "numbers in the vectors of the flux profile",
    "published",
    "the widths of its five networks",
)
PREVIEW_BYTES = Figure(30_000, "bytes of a small picture", "assumed", "WebP of at most 512 px")
ROW_BYTES = Figure(1_000, "bytes of a work's row with its indexes", "assumed", "eight indexed columns")
CLAIM_BYTES = Figure(91, "bytes to remember that a work is taken", "assumed", "a dict of 16-byte keys, CPython 3.11")
ENCODED_A_SECOND = Figure(300, "works an H200 encodes a second", "assumed", "five networks, bfloat16; never run")
DRAWN_S = Figure(
    1.0, "seconds of an H200 for a picture by FLUX.1-schnell", "assumed", "1,024 px, four steps; never run"
)
FILE_BYTES = Figure(1_500_000, "bytes of a generated file", "assumed", "PNG, 1,024 px")
RECORD_BYTES = Figure(10_000, "bytes in Postgres a generation", "assumed", "report, statement, job, indexes")
ENTRIES = Figure(2, "entries a generation", "docs/decisions/0002-issuing-in-four-steps.md", '"issued" entry')
STEPS = Figure(4, "commits a generation, at least", "docs/decisions/0002-issuing-in-four-steps.md", "Each arrow is one")
CORE_PRICE = Figure(0.04, "$ for a core and its memory an hour", "assumed", "on demand, 2026")
GPU_PRICE = Figure(3.5, "$ for an H200 an hour", "assumed", "on demand, 2026")
OBJECT_PRICE = Figure(0.02, "$ for a GB of object storage a month", "assumed", "2026")
DISK_PRICE = Figure(0.1, "$ for a GB of database disk a month", "assumed", "2026")

FIGURES = [value for value in list(globals().values()) if isinstance(value, Figure)]


def figures() -> str:
    rows = [f"| {each.what} | {_number(each.value)} | {_source(each)} |" for each in FIGURES]
    return "\n".join(["| what | figure | from |", "|---|---|---|", *rows])


def works() -> str:
    """By the number of works, with the five encoders of the flux profile."""
    vector = 2 * DIMENSIONS.value
    usable = HBM_BYTES.value / GPU_PART.value
    describing_s = (14.0 - FORWARD_S.value) / 438
    stored = vector + FEATURES_STORED.value + PREVIEW_BYTES.value + ROW_BYTES.value
    lines = {
        "vectors": [_bytes(n * vector) for n in SIZES],
        "H200s that hold them, at a quarter of each": [_number(_up(n * vector / usable)) for n in SIZES],
        "one exhaustive pass, each over its part": [
            _seconds(n * vector / _up(n * vector / usable) / HBM_RATE.value) for n in SIZES
        ],
        "or IVF codes of one encoder, in memory": [_bytes(n * CODE_BYTES.value) for n in SIZES],
        "local features in a worker's memory": [_bytes(n * FEATURES_HELD.value) for n in SIZES],
        "stored in Postgres": [_bytes(n * stored) for n in SIZES],
        "of that, vectors": [f"{vector / stored:.0%}" for _ in SIZES],
        "its disk, a month": [_dollars(n * stored / 1e9 * DISK_PRICE.value) for n in SIZES],
        "`lawful embed` as it was measured, two cores, atelier": [
            _hours(n / WORKS_A_SECOND.value / 3600) for n in SIZES
        ],
        "describing (all but networks), core-hours": [_number(n * describing_s / 3600) for n in SIZES],
        "cores to do that in a week": [_number(_up(n * describing_s / 3600 / WEEK_HOURS)) for n in SIZES],
        "encoding, H200-hours": [_number(n / ENCODED_A_SECOND.value / 3600) for n in SIZES],
        "both, once": [
            _dollars(n * describing_s / 3600 * CORE_PRICE.value + n / ENCODED_A_SECOND.value / 3600 * GPU_PRICE.value)
            for n in SIZES
        ],
        "Parquet files": [_number(_up(n / PART_WORKS.value)) for n in SIZES],
        "memory of the one actor that says what is taken": [_bytes(n * CLAIM_BYTES.value) for n in SIZES],
    }
    head = "| | " + " | ".join(f"10{_power(n)} works" for n in SIZES) + " |"
    rows = [f"| {name} | {' | '.join(cells)} |" for name, cells in lines.items()]
    return "\n".join([head, "|---" * (len(SIZES) + 1) + "|", *rows])


def generations() -> str:
    """By what a thousand generations a second take."""
    rate = GENERATIONS
    cores = rate * (ISSUE_S.value + COPY_S.value)
    lines = {
        "entries a second; share of what one sequencer published": (
            f"{_number(rate * ENTRIES.value)}; {rate * ENTRIES.value / LOG_RATE.value:.0%}"
        ),
        "the log grows a day by": _bytes(rate * ENTRIES.value * ENTRY_BYTES.value * DAY),
        "commits a second; times what the measured machine did": (
            f"{_number(rate * STEPS.value)}; {rate * STEPS.value / COMMITS.value:.1f}"
        ),
        "Postgres grows a day by": _bytes(rate * RECORD_BYTES.value * DAY),
        "cores of workers, at most (waiting counted as work)": _number(_up(cores)),
        "H200s that draw": _number(_up(rate * DRAWN_S.value)),
        "files a day": _bytes(rate * FILE_BYTES.value * DAY),
        "a month's files, kept a month": _dollars(
            rate * FILE_BYTES.value * DAY * MONTH_DAYS / 1e9 * OBJECT_PRICE.value
        ),
        "workers and GPUs an hour": _dollars(cores * CORE_PRICE.value + rate * DRAWN_S.value * GPU_PRICE.value),
        "cores for ten look-ups of each": _number(_up(10 * rate * LOOKUP_S.value)),
    }
    rows = [f"| {name} | {cell} |" for name, cell in lines.items()]
    return "\n".join(["| | 10³ generations a second |", "|---|---|", *rows])


TABLES = {"figures": figures, "works": works, "generations": generations}


def filled(page: str) -> str:
    """The page with its tables computed anew."""
    for name, table in TABLES.items():
        begin, end = f"<!-- benchmarks.scale: {name} -->", "<!-- end -->"
        before, found, rest = page.partition(f"{begin}\n")
        _, closed, after = rest.partition(end)
        assert found, name
        assert closed, name
        page = f"{before}{begin}\n{table()}\n{end}{after}"
    return page


def _source(figure: Figure) -> str:
    if figure.measured:
        return f"{figure.source}: “{figure.quote.replace('|', '').strip()}”"
    return f"**{figure.source}**: {figure.quote}"


def _up(value: float) -> int:
    return int(-(-value // 1))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _bytes(value: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def _seconds(value: float) -> str:
    return f"{value * 1000:.2g} ms" if value < 1 else f"{value:.2g} s"


def _hours(value: float) -> str:
    return f"{value:.2g} hours" if value < 48 else f"{_number(value / 24)} days"


def _dollars(value: float) -> str:
    return f"${float(f'{value:.2g}'):,.0f}"


def _power(value: int) -> str:
    return str(len(str(value)) - 1).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
