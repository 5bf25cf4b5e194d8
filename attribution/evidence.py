"""What the attribution engine found, in types that travel: versioned, JSON, and open to axes that come later. Light.

Readers ignore fields and axes they do not know. Every score stands beside what it does not prove; a score without an
error rate has `p_value` null and is for ordering only. A protected work (may be compared, not named) has no ids and no
artist, and its title is PROTECTED_WORK.
"""

from typing import Literal

import msgspec

VERSION = "evidence/1"
PROTECTED_WORK = "a protected work"
PROTECTED_WORKS = "protected works"


class SnapshotRef(msgspec.Struct, frozen=True, kw_only=True):
    """The collection that was searched. `digest` is 64 hex digits, or null for one without a snapshot."""

    digest: str | None
    works: int
    artists: int
    collection: str


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A work with the very bytes (`file_sha256`) or the very canonical pixels (`pixel_sha256`) of the image."""

    work_id: str | None
    artist_id: str | None
    artist: str | None
    title: str
    by: Literal["file_sha256", "pixel_sha256"]
    protected: bool = False


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Is this very image in the collection? An empty list says no, for the collection searched."""

    works: list[Match] = msgspec.field(default_factory=list)


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """A near work. `p_value`: how often an image by an artist outside the collection comes this near to some work."""

    work_id: str | None
    artist_id: str | None
    artist: str | None
    title: str
    score: float
    p_value: float | None = None
    protected: bool = False


class CalibrationNote(msgspec.Struct, frozen=True, kw_only=True):
    """How p-values were made: from `n` null scores by `method`; none can be below `smallest_p`."""

    n: int
    method: str
    smallest_p: float
    text: str


class NeighbourAxis(msgspec.Struct, frozen=True, kw_only=True):
    """Nearest works under one encoder, best first. Scores of different encoders are never comparable."""

    encoder: str
    metric: str = "cosine"
    nearest: list[Neighbour] = msgspec.field(default_factory=list)
    calibration: CalibrationNote | None = None


class ArtistShare(msgspec.Struct, frozen=True, kw_only=True):
    """An artist's part of the similarity, 0-1; `artist_id` null stands for all protected works together."""

    artist_id: str | None
    artist: str
    share: float


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """Similarity shares under one encoder. With `none_of_these` they sum to 1. Similarity, not influence."""

    artists: list[ArtistShare]
    none_of_these: float
    note: str


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's answer for one image. `statement` is the one sentence to show when there is room for one."""

    version: str = VERSION
    snapshot: SnapshotRef | None = None
    identity: Identity = msgspec.field(default_factory=Identity)
    neighbours: dict[str, NeighbourAxis] = msgspec.field(default_factory=dict)
    shares: dict[str, Shares] = msgspec.field(default_factory=dict)
    statement: str
    not_proven: list[str] = msgspec.field(default_factory=list)


_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(Evidence)


def to_json(evidence: Evidence) -> bytes:
    """Write evidence as UTF-8 JSON; equal evidence gives equal bytes."""
    return _ENCODER.encode(evidence)


def from_json(data: bytes | str) -> Evidence:
    """Read evidence of this or a later minor form; unknown fields and axes are skipped.

    Raises msgspec.ValidationError (or DecodeError) when it is no evidence at all.
    """
    return _DECODER.decode(data)
