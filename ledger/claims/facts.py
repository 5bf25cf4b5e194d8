"""What is known about an image, a work and a claimant when a claim is decided: plain data, without opinion. Light.

Facts are written into the claim's documents, so that anybody who holds them can apply `ledger.claims.rules` again.
"""

import datetime as dt
from typing import Literal

import msgspec

Kind = Literal["mine", "copies", "style", "unconsented"]


class CopyFact(msgspec.Struct, frozen=True, kw_only=True):
    """The geometric comparison of image and work. `found` False: no arrangement of details is common to both.

    `p_value`: how often an image that copies nothing matches *some* work of the collection as well, which is more often
    than it matches one given work; None where no such rate is known, `reason` then says why. `of_image` and `of_work`
    are the parts of the two areas (0-1) that the common region covers. `missed`: measured miss rates by kind of edit.
    `picture`: the SHA-256 of a drawing of the region, in the work too where that is on record and may be named.
    """

    found: bool
    p_value: float | None = None
    smallest_p: float | None = None
    n: int | None = None
    reason: str | None = None
    of_image: float = 0.0
    of_work: float = 0.0
    details: int = 0
    mirrored: bool = False
    missed: dict[str, float] = msgspec.field(default_factory=dict)
    picture: str | None = None


class StyleFact(msgspec.Struct, frozen=True, kw_only=True):
    """How the image resembles the hand of the work's artist. `stands`: the style axis as a whole has a finding at the
    shared error rate; `p_value` and `share` are this artist's."""

    stands: bool
    p_value: float | None = None
    share: float | None = None
    reason: str | None = None


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """The earliest time by which the image's very pixels are known to have existed, and on whose word.

    `authority`: a timestamp token over a checkpoint that covers the record's entry; its signature is for the checker of
    the report to verify. `log`: the ledger's own clock.
    """

    at: dt.datetime
    by: Literal["authority", "log"]
    record_id: str
    made_here: bool


class WorkFact(msgspec.Struct, frozen=True, kw_only=True):
    """The named work. Off the record, all that is known is the file that the claimant handed in.

    A work that may not be named has no id here. `credit`: whether the collection credits it to the artist that the
    claimant says to be. `train` is the grant as it stood when the image was first seen (else: now), `granted_by` the
    role that set it, or `enrolled`.
    """

    on_record: bool
    work_id: str | None = None
    licence: str | None = None
    enrolled_at: dt.datetime | None = None
    credit: Literal["claimant", "another"] | None = None
    train: bool | None = None
    granted_by: str | None = None


class OtherWork(msgspec.Struct, frozen=True, kw_only=True):
    """A work on record under another artist that the image shows, by its pixels or as a whole by geometry.

    `same_picture`: it has the named work's pixels too. `work_id` None: a protected work, whose artist is told nobody,
    not even by what follows from it.
    """

    work_id: str | None
    by: Literal["identity", "copy"]
    p_value: float | None = None
    same_picture: bool = False


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """`identical`: the image has the work's bytes or pixels. `style` and `copy` None: not compared at all."""

    kind: Kind
    claimant: Literal["verified", "declared"]
    made_on: dt.date | None
    work: WorkFact
    identical: Literal["file", "pixels"] | None = None
    copy: CopyFact | None = None
    style: StyleFact | None = None
    sighting: Sighting | None = None
    others: list[OtherWork] = msgspec.field(default_factory=list)
    snapshot: str | None = None
