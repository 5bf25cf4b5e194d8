"""What is known of a loaded network, and what every encoder offers. Light: no torch here."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import NetworkError

WEIGHTS_DOMAIN = b"lawful-ledger/weights/1\0"
# What loaders read. Documentation, pictures, call defaults and pickled copies do not make another network.
COUNTED_SUFFIXES = frozenset({".safetensors", ".json", ".model", ".txt"})
CALL_DEFAULTS = "lawful.json"


@dataclass(frozen=True)
class NetworkInfo:
    """The identity of a network as records and snapshots name it.

    `weights_sha256` (64 hex digits) says which files were loaded. It does not say who trained them, or on what.
    """

    name: str
    revision: str
    weights_sha256: str
    licence: str


Axis = Literal["copy", "style", "content"]


class Encoder(Protocol):
    """A network, or a weight-free descriptor, that turns images into comparable vectors.

    `axes` are the questions that its vectors are evidence for.
    """

    name: str
    info: NetworkInfo
    dim: int
    axes: frozenset[Axis]

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return (n, dim) float32 with L2-normalised rows for n canonical images, each (h, w, 3) uint8.

        Sizes may differ between images; no images give (0, dim).
        """
        ...


def encoder_key(info: NetworkInfo) -> str:
    """Name an encoder so that vectors of different weights are never compared: name@16 hex of the weights digest."""
    return f"{info.name}@{info.weights_sha256[:16]}"


def weights_digest(folder: Path) -> str:
    """Return 64 hex digits over the files of a saved network (a folder, or one file).

    SHA-256 over a domain tag and then, for each file in the byte order of its POSIX path below `folder`: u32be path
    length, path (UTF-8), u64be size, the file's own SHA-256. Counted are safetensors and their configuration and
    tokenizer files; of a diffusers pipeline only model_index.json and the folders it names. Links are followed, as hub
    caches are made of them. Raises NetworkError `network_missing` when nothing is left to count. Equal digests mean
    equal files, not that two different files behave differently.
    """
    files = _counted(folder)
    if not files:
        raise NetworkError(
            f"There are no weights in {folder.name!r}.",
            code="network_missing",
            next_step="Point the setting at a folder that save_pretrained wrote.",
        )
    whole = hashlib.sha256(WEIGHTS_DOMAIN)
    with ThreadPoolExecutor(4) as pool:  # hashing releases the GIL; a large pipeline has several shards
        for (name, _), (size, digest) in zip(files, pool.map(_file_digest, (path for _, path in files)), strict=True):
            encoded = name.encode()
            whole.update(len(encoded).to_bytes(4, "big") + encoded + size.to_bytes(8, "big") + digest)
    return whole.hexdigest()


def _counted(folder: Path) -> list[tuple[str, Path]]:
    if folder.is_file():
        return [(folder.name, folder)]
    index = folder / "model_index.json"
    parts = None
    if index.is_file():
        parts = {name for name, value in json.loads(index.read_bytes()).items() if isinstance(value, list)}
    found = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        of_the_pipeline = parts is None or relative == Path(index.name) or relative.parts[0] in parts
        hidden = any(part.startswith(".") for part in relative.parts)
        read = path.suffix in COUNTED_SUFFIXES and path.name != CALL_DEFAULTS and path.is_file()
        if of_the_pipeline and read and not hidden:
            found.append((relative.as_posix(), path))
    return sorted(found, key=lambda pair: pair[0].encode())


def _file_digest(path: Path) -> tuple[int, bytes]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").digest()
