"""Does the whole engine keep quiet about works that may be compared and not named? Part of the generated suite."""

import hashlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attribution.calibrated import calibrate
from attribution.engine import Engine
from attribution.evaluation.asking import Pictures
from attribution.evaluation.dataset import Item, Pixels
from attribution.evidence import to_json
from attribution.fingerprints import fingerprint
from attribution.reference import Reference
from attribution.snapshot import ReferenceWork
from models.images import pixel_sha256
from models.networks import Encoder


def names_that_got_out(
    items: Sequence[Item], embedded: Pictures, images: Sequence[Pixels], encoders: Mapping[str, Encoder]
) -> NDArray[np.bool_]:
    """Return (m,) whether the evidence on each image says a name, title or id of a protected work.

    `items` are works of the atelier, which knows what its studios grant; `embedded` are the same with local features.
    Every work has a title and an id that occur nowhere else, so that whatever gets out is seen.
    """
    works = tuple(_work(item) for item in items)
    infos = {name: encoder.info for name, encoder in encoders.items()}
    without = Reference(works, embedded.vectors, infos, None, "atelier")
    # Uncalibrated, the copy axis lists whatever aligns: more than the engine would ever show.
    searched = Reference(works, embedded.vectors, infos, None, "atelier", features=embedded.local)
    engine = Engine(encoders, searched, calibrate(encoders, without))
    secrets = {text for work in works if not work.name for text in (work.id, work.artist_id, work.artist, work.title)}
    got_out = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        said = to_json(engine.examine(image, fingerprint(file.getvalue(), image)).evidence).decode()
        got_out.append(any(secret in said for secret in secrets))
    return np.array(got_out, np.bool_)


def _work(item: Item) -> ReferenceWork:
    from models.atelier.collection import studio_of

    studio = studio_of(item.artist)
    return ReferenceWork(
        id=f"work:{item.name}",
        artist_id=f"artist:{studio.slug}",
        artist=studio.name,
        title=f"title:{item.name}",
        licence=studio.licence,
        file_sha256=hashlib.sha256(item.name.encode()).hexdigest(),
        pixel_sha256=pixel_sha256(item.pixels()).hex(),
        train=studio.train,
        compare=studio.compare,
        name=studio.may_name,
    )
