"""The atelier's own collection: invented studios drawing plain subjects, known to the last image.

python -m models.atelier.collection FOLDER
"""

import argparse
import csv
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.atelier.studios import STUDIOS, Studio
from models.atelier.subjects import SUBJECTS as _SUBJECTS
from models.atelier.subjects import labels

SUBJECTS = tuple(_SUBJECTS)
_BY_KEY = {key: studio for studio in STUDIOS for key in (studio.name, studio.slug)}
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


def write_collection(folder: str | Path, variants: int, size: int = 128) -> Path:
    """Write every work below `folder` and the table of works beside them; return the table's path."""
    folder = Path(folder)
    rows = []
    for studio in STUDIOS:
        (folder / studio.name).mkdir(parents=True, exist_ok=True)
        for subject in SUBJECTS:
            for variant in range(variants):
                path = f"{studio.name}/{subject}-{variant}.png"
                Image.fromarray(draw(studio.name, subject, variant, size)).save(folder / path)
                allowed = ("yes" if granted else "no" for granted in (studio.train, studio.compare, studio.may_name))
                rows.append((path, studio.name, f"{title(subject)}, {variant}", studio.licence, *allowed))
    table = folder / "works.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return table


def contact_sheet(size: int = 128, variant: int = 0) -> Image.Image:
    """Studios down, subjects across."""
    rows = [np.concatenate([draw(s.slug, x, variant, size) for x in SUBJECTS], 1) for s in STUDIOS]
    return Image.fromarray(np.concatenate(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variants", type=int, default=12)
    arguments = parser.parse_args()
    print(write_collection(arguments.folder, arguments.variants))
