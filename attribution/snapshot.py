"""A collection as it was indexed, and the digest that names it. Light."""

import hashlib
import json
from collections.abc import Iterable, Mapping

import msgspec

CALIBRATION_DOMAIN = b"lawful-ledger/calibration-inputs/1\n"
CALIBRATION_RECIPE = "4"  # raised whenever another engine would fit the same works otherwise
SNAPSHOT_DOMAIN = b"lawful-ledger/snapshot/1\n"
ENCODER_FIELDS = ("name", "revision", "weights_sha256", "licence")


class ReferenceWork(msgspec.Struct, frozen=True):
    """One work of a collection, with the three grants: train (learn from), compare (search), name (show and credit)."""

    id: str
    artist_id: str
    artist: str
    title: str
    licence: str
    file_sha256: str
    pixel_sha256: str
    train: bool
    compare: bool
    name: bool


def snapshot_digest(
    works: Iterable[ReferenceWork], encoders: Mapping[str, Mapping[str, str]], calibration: bytes | None
) -> bytes:
    """Return the 32-byte digest that names a snapshot, whatever the order of `works` and `encoders`.

    SHA-256 over "lawful-ledger/snapshot/1" LF and then one JSON object in RFC 8785 form and LF each: for every encoder,
    by its key, {"encoder", name, revision, weights_sha256, licence}; for the calibration, if there is one,
    {"calibration": its SHA-256 in hex}; for every work, by its id, {"work", artist_id, file_sha256, pixel_sha256,
    licence, train, compare, name}. An artist's name and a work's title are left out: they
    are personal and can be erased, and the digest must outlive that. Raises ValueError when an id occurs twice or an
    encoder lacks a field.

    It names what was indexed. It does not prove that any generator learned from it.
    """
    digest = hashlib.sha256(SNAPSHOT_DOMAIN)
    for key in sorted(encoders):
        if missing := [field for field in ENCODER_FIELDS if field not in encoders[key]]:
            raise ValueError(f"encoder {key!r} lacks {missing[0]}")
        digest.update(_line({"encoder": key} | {field: encoders[key][field] for field in ENCODER_FIELDS}))
    if calibration is not None:
        digest.update(_line({"calibration": calibration.hex()}))
    previous = None
    for work in sorted(works, key=lambda work: work.id):
        if work.id == previous:
            raise ValueError(f"work id {work.id!r} occurs twice")
        previous = work.id
        digest.update(
            _line(
                {
                    "work": work.id,
                    "artist_id": work.artist_id,
                    "file_sha256": work.file_sha256,
                    "pixel_sha256": work.pixel_sha256,
                    "licence": work.licence,
                    "train": work.train,
                    "compare": work.compare,
                    "name": work.name,
                }
            )
        )
    return digest.digest()


def calibration_inputs(works: Iterable[ReferenceWork], encoders: Iterable[str], background: bytes | None) -> bytes:
    """Return the 32-byte digest of all that a calibration depends on: equal inputs need no new one.

    SHA-256 over "lawful-ledger/calibration-inputs/1" LF and then, as above, one line for the recipe's version, the
    encoders' keys and the digest of the snapshot that serves as background, and one for every work that may be
    compared, by its id: {"work", artist_id, pixel_sha256, name}. What may be learned from, and under which licence,
    changes no likeness.
    """
    digest = hashlib.sha256(CALIBRATION_DOMAIN)
    digest.update(
        _line(
            {
                "recipe": CALIBRATION_RECIPE,
                "encoders": " ".join(sorted(encoders)),
                "background": (background or b"").hex(),
            }
        )
    )
    for work in sorted(works, key=lambda work: work.id):
        if work.compare:
            digest.update(
                _line(
                    {
                        "work": work.id,
                        "artist_id": work.artist_id,
                        "pixel_sha256": work.pixel_sha256,
                        "name": work.name,
                    }
                )
            )
    return digest.digest()


def _line(values: Mapping[str, str | bool]) -> bytes:
    # For flat objects of strings and booleans with ASCII keys this is RFC 8785; a test holds it against a library.
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
