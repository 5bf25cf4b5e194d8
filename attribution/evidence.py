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
    """Nearest works under one encoder, best first. Scores of different encoders are never comparable.

    Not `exhaustive`: some works were not looked at, so nearer ones may be missing; `note` says how many, as measured.
    """

    encoder: str
    axes: list[str] = msgspec.field(default_factory=list)
    metric: str = "cosine"
    nearest: list[Neighbour] = msgspec.field(default_factory=list)
    calibration: CalibrationNote | None = None
    exhaustive: bool = True
    note: str = ""


class Area(msgspec.Struct, frozen=True, kw_only=True):
    """A quadrilateral in one picture: corners in order, x and y as parts of its width and height (0 to 1)."""

    corners: list[tuple[float, float]]


class CopyMatch(msgspec.Struct, frozen=True, kw_only=True):
    """A work of which the image, or a part of it, is a copy by geometry: the same details in the same arrangement.

    `score` orders matches and has no unit; `p_value` is how often an image that copies nothing reaches it with any
    work of the collection. `of_image` and `of_work` are the two ends of the matched region; `mirrored` says that one is
    the mirror image of the other. `picture` is the SHA-256 of a drawing of both, where one was made.
    """

    work_id: str | None
    artist_id: str | None
    artist: str | None
    title: str
    score: float
    p_value: float | None
    details: int
    of_image: Area
    of_work: Area
    mirrored: bool
    picture: str | None = None
    protected: bool = False


class CopyAxis(msgspec.Struct, frozen=True, kw_only=True):
    """Is the image a copy of a work? `matches` are those that pass the check, best first.

    Every work was looked at (`searched`); what that misses of each kind of edit, as measured, is in `missed` (0-1).
    """

    method: str
    searched: int
    matches: list[CopyMatch] = msgspec.field(default_factory=list)
    missed: dict[str, float] = msgspec.field(default_factory=dict)
    calibration: CalibrationNote | None = None


class ArtistFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One artist on the style axis. `p_value`: how often a picture by somebody who is not in the collection resembles
    its nearest artist as much as this. `share` is the artist's part of the similarity. Protected: all of them together.
    """

    artist_id: str | None
    artist: str
    share: float
    p_value: float | None = None
    protected: bool = False


class StyleAxis(msgspec.Struct, frozen=True, kw_only=True):
    """Whose hand does it resemble? Artists by share, best first; with `none_of_these` the shares sum to 1."""

    method: str
    artists: list[ArtistFinding] = msgspec.field(default_factory=list)
    none_of_these: float
    calibration: CalibrationNote | None = None
    note: str = ""


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """What the artist classifier says: calibrated probabilities of its artists, and of `unknown`; together 1."""

    classifier: str
    artists: list[ArtistFinding] = msgspec.field(default_factory=list)
    unknown: float


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """One picture that stands in the collection under several artists: the ledger does not say whose it is."""

    titles: list[str]
    artists: list[str]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One axis in one plain sentence, and whether something was found, nothing was, or it cannot be told."""

    axis: str
    outcome: Literal["found", "nothing", "cannot_tell"]
    text: str
    p_value: float | None = None


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy in force made of the evidence before the image was finalised. `reasons` are stable codes."""

    decision: Literal["allow", "warn", "block"]
    reasons: list[str] = msgspec.field(default_factory=list)
    text: str = ""
    policy: dict[str, str] = msgspec.field(default_factory=dict)


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's answer for one image. `statement` is the one sentence to show when there is room for one."""

    version: str = VERSION
    snapshot: SnapshotRef | None = None
    identity: Identity = msgspec.field(default_factory=Identity)
    neighbours: dict[str, NeighbourAxis] = msgspec.field(default_factory=dict)
    copy: CopyAxis | None = None
    style: StyleAxis | None = None
    classification: Classification | None = None
    findings: list[Finding] = msgspec.field(default_factory=list)
    conflicts: list[Conflict] = msgspec.field(default_factory=list)
    gate: Gate | None = None
    calibration_sha256: str | None = None
    statement: str
    not_proven: list[str] = msgspec.field(default_factory=list)

    @property
    def drawings(self) -> list[str]:
        """The drawings of matched regions that it names, by the SHA-256 of each."""
        return [match.picture for match in self.copy.matches if match.picture] if self.copy is not None else []


_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(Evidence)


def to_json(evidence: Evidence) -> bytes:
    """Write evidence as UTF-8 JSON; equal evidence gives equal bytes."""
    return _ENCODER.encode(evidence)


def from_json(data: bytes | str) -> Evidence:
    """Read evidence of this or a later minor form; unknown fields and axes are skipped.

    Raises msgspec.ValidationError (or DecodeError) when it is no evidence at all.
    """
    try:
        return _DECODER.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
