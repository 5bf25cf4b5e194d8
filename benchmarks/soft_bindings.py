"""How many bits re-encodings and unrelated pictures differ in, under ISCC Image-Code and PDQ; both have 256 bits.

    python -m benchmarks.soft_bindings FOLDER

The thresholds in ledger/lookup.py come from this: the share of strangers that each would call alike, with a 95 %
bound (all pairs of different files in FOLDER), and of re-encodings that would be missed.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attribution.fingerprints import image_code, iscc_bits, pdq_hash
from benchmarks.measuring import show
from ledger.lookup import SOFT_BITS
from ledger.sources import Grants, list_works
from models.errors import ImageError
from models.images import decode

Pixels = NDArray[np.uint8]


def jpeg(quality: int) -> Callable[[Pixels], Pixels]:
    def change(pixels: Pixels) -> Pixels:
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "JPEG", quality=quality)
        return decode(out.getvalue()).pixels

    return change


def half(pixels: Pixels) -> Pixels:
    size = (max(1, pixels.shape[1] // 2), max(1, pixels.shape[0] // 2))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def crop(percent: int) -> Callable[[Pixels], Pixels]:
    def change(pixels: Pixels) -> Pixels:
        top, left = pixels.shape[0] * percent // 100, pixels.shape[1] * percent // 100
        return np.ascontiguousarray(pixels[top:, left:])

    return change


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "JPEG, quality 60": jpeg(60),
    "JPEG, quality 30": jpeg(30),
    "halved": half,
    "cropped by 10 %": crop(10),
}


def codes(pixels: Pixels) -> dict[str, NDArray[np.uint8]]:
    raw = {"iscc": iscc_bits(image_code(pixels)), "pdq": pdq_hash(pixels)[0]}
    return {name: np.unpackbits(np.frombuffer(bytes.fromhex(code), np.uint8)) for name, code in raw.items()}


def upper_bound(hits: int, trials: int) -> float:
    """95 % upper bound of a rate after `hits` in `trials`: exact for none, else Wilson's."""
    if hits == 0:
        return float(1 - 0.05 ** (1 / trials))
    rate, z = hits / trials, 1.645
    middle = rate + z * z / (2 * trials)
    return float((middle + z * np.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2))) / (1 + z * z / trials))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    listed, _ = list_works(options.folder, "unknown", Grants(train=False, compare=True, name=True))
    originals: dict[str, list[NDArray[np.uint8]]] = {"iscc": [], "pdq": []}
    changed: dict[str, dict[str, list[int]]] = {name: {"iscc": [], "pdq": []} for name in CHANGES}
    for each in listed:
        try:
            pixels = decode(each.path.read_bytes()).pixels
        except ImageError:
            continue
        own = codes(pixels)
        for binding, code in own.items():
            originals[binding].append(code)
        for name, change in CHANGES.items():
            for binding, code in codes(change(pixels)).items():
                changed[name][binding].append(int((code != own[binding]).sum()))
    result: dict[str, object] = {}
    for binding, rows in originals.items():
        matrix = np.stack(rows).astype(np.int32)
        distance = (matrix[:, None, :] != matrix[None, :, :]).sum(2)[np.triu_indices(len(rows), 1)]
        alike = int((distance <= SOFT_BITS[binding]).sum())
        result[binding] = {
            "bits_allowed": SOFT_BITS[binding],
            "strangers": {
                "pairs": len(distance),
                "called_alike": alike,
                "rate_upper_95": upper_bound(alike, len(distance)),
                "nearest": np.sort(distance)[:5].tolist(),
                "median": float(np.median(distance)),
            },
            "re-encodings": {
                name: {
                    "median": float(np.median(values[binding])),
                    "p99": float(np.percentile(values[binding], 99)),
                    "missed": float(np.mean(np.asarray(values[binding]) > SOFT_BITS[binding])),
                }
                for name, values in changed.items()
            },
        }
    show({"works": len(originals["iscc"]), "bindings": result})


if __name__ == "__main__":
    main()
