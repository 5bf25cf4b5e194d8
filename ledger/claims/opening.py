"""Opening a claim: on a record, or on an image that is handed in; naming a work on record, or handing one in."""

import datetime as dt
import uuid
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from attribution.fingerprints import Fingerprints, fingerprint
from ledger import jobs
from ledger.artists import links
from ledger.claims import moving, on_record
from ledger.claims.facts import Kind
from ledger.claims.on_record import NamedWork
from ledger.claims.steps import ENDED
from ledger.database.tables.claims import Claim, ClaimStep, Identity
from ledger.database.tables.records import Record
from ledger.database.tables.works import Work
from ledger.errors import BadRequest, Conflict, LedgerError, NotFound
from ledger.runtime import Runtime

KINDS: tuple[Kind, ...] = ("mine", "copies", "style", "unconsented")
MAX_NAME_CHARS, MAX_WORDS_CHARS = 200, 4000
JOINERS = "\r\n\t\u200c\u200d"  # the last two hold emoji and Persian together, and hide nothing
A_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Wish:
    """What somebody claims. `about` is a record, or else `image` the bytes of a file; `work` likewise.

    `claimant` is the artist's name under which they claim, `words` whatever else they have to say.
    """

    kind: Kind
    claimant: str
    about: uuid.UUID | None = None
    image: bytes | None = None
    work_id: uuid.UUID | None = None
    work: bytes | None = None
    made_on: dt.date | None = None
    words: str = ""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a picture is known by."""

    file_sha256: str
    pixel_sha256: str

    @classmethod
    def of(cls, found: Fingerprints) -> "Seen":
        return cls(file_sha256=found.file_sha256, pixel_sha256=found.pixel_sha256)


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """The claim's first document. Of a work that may not be named it says nothing: `work_id` and `work` are null."""

    schema: str = "lawful-ledger/claim/1"
    claim_id: str
    kind: Kind
    claimant: str
    words: str
    made_on: dt.date | None
    about: str | None
    image: Seen
    work_id: str | None
    work: Seen | None
    created_at: str


def open_claim(
    runtime: Runtime, wish: Wish, *, identity_id: uuid.UUID | None, examined_elsewhere: bool = False
) -> uuid.UUID:
    """Put the claim on record, and into the queue of what is to be examined; `identity_id` None: by the operator.

    Raises BadRequest `claim_malformed`, NotFound `record_unknown` or `work_unknown`, ImageError for a file that is no
    image, LedgerError `claims_too_many` (429) or `record_claims_too_many` (429), Conflict `claim_exists`, Unavailable
    `queue_full`. Nothing is stored then.
    """
    check(wish, runtime.clock().date())
    if not examined_elsewhere:
        with runtime.sessions() as session:
            jobs.require_room(session, "examine")
    # Decoded before the transaction: whoever sends the largest images holds no row and no connection by it.
    seen_image = _fingerprint(runtime, wish.image) if wish.image is not None else None
    seen_work = _fingerprint(runtime, wish.work) if wish.work is not None else None
    claim_id = moving.new_id()
    with runtime.sessions.begin() as session:
        if identity_id is not None:
            _within_limits(session, runtime, identity_id)
        about, image = _image(session, wish, seen_image)
        work_id, shown_work, work = _work(session, runtime, wish, seen_work, identity_id)
        if identity_id is not None and about is not None:
            _not_flooded(session, runtime, identity_id, about, work_id)
        _not_twice(session, identity_id, wish.kind, about, work_id)
        document = Opening(
            claim_id=str(claim_id),
            kind=wish.kind,
            claimant=" ".join(wish.claimant.split()),
            words=wish.words,
            made_on=wish.made_on,
            about=str(about) if about is not None else None,
            image=image,
            work_id=shown_work,
            work=work,
            created_at=runtime.clock().isoformat(),
        )
        claim = moving.begin(
            session,
            runtime,
            claim_id=claim_id,
            kind=wish.kind,
            role="operator" if identity_id is None else "claimant",
            identity_id=identity_id,
            about=about,
            work_id=work_id,
            shown_work=shown_work,
            document=msgspec.to_builtins(document),
        )
        # Durable before the job that reads them can be seen; orphans if this transaction rolls back.
        if about is None and wish.image is not None:
            claim.image_key = f"claims/{claim_id}/image"
            runtime.storage.put(claim.image_key, wish.image)
        if work_id is None and wish.work is not None:
            claim.work_key = f"claims/{claim_id}/work"
            runtime.storage.put(claim.work_key, wish.work)
        if not examined_elsewhere:
            jobs.defer(session, "examine", claim_id)
    return claim_id


def check(wish: Wish, today: dt.date) -> None:
    """Refuse what cannot be a claim, whatever is on record. Raises BadRequest `claim_malformed`."""
    name = wish.claimant.strip()
    if wish.kind not in KINDS:
        raise _malformed(f"kind: {str(wish.kind)[:40]!r} is not known", f"name one of {', '.join(KINDS)}")
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise _malformed(
            f"claimant: one line of 1 to {MAX_NAME_CHARS} characters is wanted, {len(name)} were given",
            "give the artist's name under which you claim",
        )
    if len(wish.words) > MAX_WORDS_CHARS or not is_text(wish.words):
        raise _malformed(
            f"words: at most {MAX_WORDS_CHARS} characters of plain text, {len(wish.words)} were given", "shorten them"
        )
    if (wish.about is None) == (wish.image is None):
        raise _malformed("one image is claimed on: a record, or a file", "name the record, or hand in the file")
    if (wish.work_id is None) == (wish.work is None):
        raise _malformed("one work is named: by its id, or as a file", "give the work's id, or its file")
    if wish.made_on is not None and wish.made_on > today:
        raise _malformed("made_on: that day is still to come", "give the day on which the work was made, or none")


def is_text(words: str) -> bool:
    try:
        words.encode()
    except UnicodeEncodeError:
        return False
    return all(character.isprintable() or character in JOINERS for character in words)


def _malformed(detail: str, next_step: str) -> BadRequest:
    return BadRequest(detail, code="claim_malformed", next_step=next_step)


def _within_limits(session: Session, runtime: Runtime, identity_id: uuid.UUID) -> None:
    """So many claims a day for one identity, whatever asks for it: a browser, a script, ten of them at once."""
    session.execute(sa.select(Identity.id).where(Identity.id == identity_id).with_for_update())
    limit = runtime.settings.claims_per_day
    since = runtime.clock() - A_DAY
    opened = session.scalar(
        sa.select(sa.func.count())
        .select_from(Claim)
        .join(ClaimStep, sa.and_(ClaimStep.claim_id == Claim.id, ClaimStep.number == 0))
        .where(Claim.identity_id == identity_id, ClaimStep.created_at > since)
    )
    if opened is not None and opened >= limit:
        raise LedgerError(
            f"{opened} claims were opened in the last day, and at most {limit} are taken from one person",
            code="claims_too_many",
            status=429,
            next_step="wait a day; or write to the operator if there really are so many",
        )


def _not_flooded(
    session: Session, runtime: Runtime, identity_id: uuid.UUID, about: uuid.UUID, work_id: uuid.UUID | None
) -> None:
    """So many claims a day on one record: a script has as many addresses of mail as it likes. Whoever acts for the
    artist of the work named is not kept out by others' claims."""
    session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(str(about), 0))))
    limit = runtime.settings.claims_per_record
    since = runtime.clock() - A_DAY
    opened = session.scalars(
        sa.select(sa.func.count())
        .select_from(Claim)
        .join(ClaimStep, sa.and_(ClaimStep.claim_id == Claim.id, ClaimStep.number == 0))
        .where(Claim.about == about, ClaimStep.by_role == "claimant", ClaimStep.created_at > since)
    ).one()
    if opened < limit:
        return
    named = session.get(Work, work_id) if work_id is not None else None
    if named is not None and links.acts_for(session, identity_id, named.artist_id):
        return
    raise LedgerError(
        f"{opened} claims were opened on this record in the last day, and at most {limit} are taken",
        code="record_claims_too_many",
        status=429,
        next_step="wait a day; or show first that the artist's page is yours, which others' claims cannot keep out",
    )


def _image(session: Session, wish: Wish, found: Fingerprints | None) -> tuple[uuid.UUID | None, Seen]:
    """The record claimed on and what its picture is known by. A file is taken for the earliest record of its pixels."""
    if found is not None:
        record_id = session.scalar(
            sa.select(Record.id)
            .where(Record.listed, Record.pixel_sha256 == bytes.fromhex(found.pixel_sha256))
            .order_by(Record.created_at, Record.id)
            .limit(1)
        )
        return record_id, Seen.of(found)
    record = session.execute(sa.select(Record).where(Record.id == wish.about, Record.listed)).scalar_one_or_none()
    if record is None or record.file_sha256 is None or record.pixel_sha256 is None:
        raise NotFound(
            f"no issued record {wish.about}",
            code="record_unknown",
            next_step="open the record's page: its address ends with its id",
        )
    return record.id, Seen(file_sha256=record.file_sha256.hex(), pixel_sha256=record.pixel_sha256.hex())


def _work(
    session: Session, runtime: Runtime, wish: Wish, found: Fingerprints | None, identity_id: uuid.UUID | None
) -> tuple[uuid.UUID | None, str | None, Seen | None]:
    """(id, id to be shown, what it is known by) of the work on record, also where its very picture was handed in.

    Where several are, the one credited to the claimant goes first. A protected work is there for the operator and for
    whoever acts for its artist; for others it reads like one that never was, whatever name they claim under.
    """

    def is_there(named: NamedWork) -> bool:
        if named.work.grant_name or identity_id is None:
            return True
        return links.acts_for(session, identity_id, named.work.artist_id)

    if wish.work_id is not None:
        named = on_record.named_work(session, wish.work_id)
        if named is None or not is_there(named):
            raise NotFound(
                f"no work {wish.work_id}", code="work_unknown", next_step="hand in the work's file instead of an id"
            )
        return _on_record(named)
    assert found is not None
    same = on_record.works_of_picture(
        session,
        file_sha256=bytes.fromhex(found.file_sha256),
        pixel_sha256=bytes.fromhex(found.pixel_sha256),
        background=runtime.settings.background,
    )
    there = [each for each in same if is_there(each)]
    own = [each for each in there if on_record.same_name(each.artist, wish.claimant)]
    first = next(iter([*own, *there]), None)
    return (None, None, Seen.of(found)) if first is None else _on_record(first)


def _on_record(named: NamedWork) -> tuple[uuid.UUID, str | None, Seen | None]:
    work = named.work
    if not work.grant_name:
        return work.id, None, None
    return work.id, str(work.id), Seen(file_sha256=work.file_sha256.hex(), pixel_sha256=work.pixel_sha256.hex())


def _fingerprint(runtime: Runtime, data: bytes) -> Fingerprints:
    return fingerprint(data, runtime.files.decode(data).pixels)


def _not_twice(
    session: Session, identity_id: uuid.UUID | None, kind: Kind, about: uuid.UUID | None, work_id: uuid.UUID | None
) -> None:
    """One open claim of one kind by one person on one record and work: a second would be examined the same."""
    if identity_id is None or about is None:
        return
    ended = sa.exists().where(ClaimStep.claim_id == Claim.id, ClaimStep.state.in_(ENDED))
    known = session.scalar(
        sa.select(Claim.id)
        .where(
            Claim.identity_id == identity_id, Claim.kind == kind, Claim.about == about,
            Claim.work_id.is_not_distinct_from(work_id), ~ended,
        )
        .limit(1)
    )  # fmt: skip
    if known is not None:
        raise Conflict(
            f"you have claimed that before: claim {known}",
            code="claim_exists",
            next_step=f"follow it at /claims/{known}, or withdraw it there",
        )


def opening_of(body: bytes) -> Opening:
    """Read the first document back."""
    return msgspec.json.decode(body, type=Opening)
