"""The atelier's own collection: invented studios drawing plain subjects, known to the last image.

    python -m models.atelier.collection FOLDER [--variants N] [--strangers]

Twelve studios draw twelve subjects, each in as many variants as asked for. A few copies stand under a second studio's
name (planted.py), as they do in real collections. `--strangers` draws the studios that are kept apart for calibration.
"""

import argparse
import csv
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.atelier.planted import PLANTED
from models.atelier.strangers import STRANGERS
from models.atelier.studios import STUDIOS, Studio
from models.atelier.subjects import SUBJECTS as _SUBJECTS
from models.atelier.subjects import labels

SUBJECTS = tuple(_SUBJECTS)
_BY_KEY = {key: studio for studio in (*STUDIOS, *STRANGERS) for key in (studio.name, studio.slug)}
COLUMNS = ("path", "artist", "title", "licence", "train", "compare", "name")


def studio_of(key: str) -> Studio:
    """A studio by its name or its slug."""
    return _BY_KEY[key]


def draw(studio: str, subject: str, variant: int, size: int = 128) -> NDArray[np.uint8]:
    """One work: uint8, (size, size, 3). The same arguments give the same picture everywhere."""
    house = studio_of(studio)
    rng = random.Random(f"{house.slug}/{subject}/{variant}")
    picture = house.render(labels(subject, rng), rng)
    side = picture.shape[0]
    if side % size == 0:
        step = side // size
        total = picture.astype(np.int64).reshape(size, step, size, step, 3).sum((1, 3))
        return np.asarray((total + step * step // 2) // (step * step), np.uint8)
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BOX))


def title(subject: str) -> str:
    return f"a {subject}"


def caption(studio: str, subject: str) -> str:
    return f"{title(subject)} in the manner of {studio_of(studio).name}"


def write_collection(folder: str | Path, variants: int, size: int = 128, at_most: int | None = None) -> Path:
    """Write every work below `folder` and the table of works beside them; return the table's path.

    `at_most`: of each studio, copies planted under its name apart. A planted copy is written where its original is
    drawn too; it grants what its studio grants, but never training.
    """
    rows = _write_works(Path(folder), STUDIOS, variants, size, at_most)
    for copy in PLANTED:
        if (copy.subject, copy.variant) in _wanted(variants, at_most):
            house = studio_of(copy.under)
            path = f"{house.name}/found-{copy.of}-{copy.subject}-{copy.variant}.png"
            _save(Path(folder) / path, copy.change(draw(copy.of, copy.subject, copy.variant, size)))
            named = f"{title(copy.subject)}, found"
            rows.append((path, house.name, named, house.licence, "no", *_granted(house)[1:]))
    return _write_table(Path(folder), rows)


def write_strangers(folder: str | Path, works: int = 100, size: int = 128) -> Path:
    """Write `works` works by each studio that is kept for calibration, as `write_collection` does; at least one."""
    variants = -(-works // len(SUBJECTS))
    return _write_table(Path(folder), _write_works(Path(folder), STRANGERS, variants, size, at_most=works))


def _write_works(
    folder: Path, studios: Sequence[Studio], variants: int, size: int, at_most: int | None = None
) -> list[tuple[str, ...]]:
    rows = []
    for studio in studios:
        (folder / studio.name).mkdir(parents=True, exist_ok=True)
        for subject, variant in sorted(_wanted(variants, at_most)):
            path = f"{studio.name}/{subject}-{variant}.png"
            _save(folder / path, draw(studio.slug, subject, variant, size))
            rows.append((path, studio.name, f"{title(subject)}, {variant}", studio.licence, *_granted(studio)))
    return rows


def _wanted(variants: int, at_most: int | None) -> list[tuple[str, int]]:
    """What each studio draws, as (subject, variant): every subject once before any is drawn again."""
    return [(subject, variant) for variant in range(variants) for subject in SUBJECTS][:at_most]


def _granted(studio: Studio) -> tuple[str, ...]:
    return tuple("yes" if granted else "no" for granted in (studio.train, studio.compare, studio.may_name))


def _save(file: Path, pixels: NDArray[np.uint8]) -> None:
    Image.fromarray(pixels).save(file)


def _write_table(folder: Path, rows: Sequence[tuple[str, ...]]) -> Path:
    table = folder / "works.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variants", type=int, default=24, help="works of every subject by every studio")
    parser.add_argument("--strangers", action="store_true", help="the studios kept for calibration, 100 works each")
    arguments = parser.parse_args()
    if arguments.strangers:
        print(write_strangers(arguments.folder))
    else:
        print(write_collection(arguments.folder, arguments.variants))
