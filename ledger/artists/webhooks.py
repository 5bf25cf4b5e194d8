"""Webhooks: each newly issued record that credits an artist is told to the address that the artist's desk has set.

A notice is signed as Standard Webhooks has it (https://www.standardwebhooks.com, symmetric, version 1), so their
libraries check it: HMAC-SHA256 by the secret, over `id.timestamp.body`. It says which record it is and which works of
the artist it credits, whether or not they may still be named: it goes to whoever acts for the artist. It is sent at
least once; its id stays the same when it is sent again.

The address is somebody else's choice, so what is asked is bounded: https to a public host (`ledger.claims.fetching`),
no answer is read, and after MOST_FAILURES attempts in a row that did not arrive nothing is sent there any more.
"""

import base64
import datetime as dt
import hashlib
import hmac
import secrets
import uuid

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ledger import jobs
from ledger.artists import links
from ledger.claims.fetching import Fetcher, PageRefused, checked_host
from ledger.database.tables.artists import ArtistWebhook
from ledger.database.tables.records import Credit, Record
from ledger.errors import BadRequest, Unavailable
from ledger.runtime import Runtime

MOST_FAILURES = 20
SECRET_PREFIX = "whsec_"  # noqa: S105 - the standard's mark of a secret, and no secret
CREDITED = "record.credited"


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """Without works the record credits the artist's hand."""

    record_id: str
    url: str
    artist_id: str
    work_ids: list[str]


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a notice, as JSON. `timestamp`: when the record was issued."""

    type: str
    timestamp: str
    data: Data


def put(session: Session, identity_id: uuid.UUID, artist_id: uuid.UUID, url: str) -> str:
    """Set the one address for this artist's notices; the secret that signs them, which is shown this once.

    Setting it again, the same address too, makes a new secret and forgets failures. Raises NotFound `desk_unknown`,
    BadRequest `webhook_malformed`.
    """
    links.require(session, identity_id, artist_id)
    try:
        checked_host(url)
    except PageRefused as error:
        raise BadRequest(
            f"url: {error.detail}",
            code="webhook_malformed",
            next_step="give an https:// address on a public host, on port 443",
        ) from error
    secret = secrets.token_bytes(32)
    row = {"url": url, "secret": secret, "failures": 0, "off_at": None}
    adding = insert(ArtistWebhook).values(identity_id=identity_id, artist_id=artist_id, **row)
    session.execute(adding.on_conflict_do_update(index_elements=["identity_id", "artist_id"], set_=row))
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def remove(session: Session, identity_id: uuid.UUID, artist_id: uuid.UUID) -> None:
    """Send nothing there any more. One's own can always be removed."""
    session.execute(sa.delete(ArtistWebhook).filter_by(identity_id=identity_id, artist_id=artist_id))


def tell(session: Session, record_id: uuid.UUID) -> None:
    """Enqueue the notices of a record, in the transaction that issues it. Nothing is sent here."""
    hooks = session.execute(
        sa.select(ArtistWebhook.artist_id, ArtistWebhook.identity_id)
        .where(
            ArtistWebhook.off_at.is_(None),
            ArtistWebhook.artist_id.in_(sa.select(Credit.artist_id).where(Credit.record_id == record_id)),
        )
        .order_by(ArtistWebhook.artist_id, ArtistWebhook.identity_id)
    )
    for artist_id, identity_id in hooks.all():
        jobs.defer_notice(session, record_id, artist_id, identity_id)


def send(
    runtime: Runtime,
    record_id: uuid.UUID,
    artist_id: uuid.UUID,
    identity_id: uuid.UUID,
    fetcher: Fetcher | None = None,
) -> None:
    """Send one notice, unless there is nothing left to say or nobody to hear it. No transaction is open meanwhile.

    Raises Unavailable `webhook_failed` where it did not arrive.
    """
    with runtime.sessions() as session:
        hook = session.get(ArtistWebhook, (identity_id, artist_id))
        if hook is None or hook.off_at is not None or not links.acts_for(session, identity_id, artist_id):
            return
        notice = _notice(session, runtime, record_id, artist_id)
    if notice is None:
        return
    body = msgspec.json.encode(notice)
    message, stamp = f"{record_id}.{artist_id}", str(int(runtime.clock().timestamp()))
    headers = {
        "Content-Type": "application/json",
        "Webhook-Id": message,
        "Webhook-Timestamp": stamp,
        "Webhook-Signature": signature(hook.secret, message, stamp, body),
    }
    try:
        (fetcher or Fetcher()).post(hook.url, body, headers)
    except PageRefused as error:
        _count(runtime, hook)
        raise Unavailable(
            f"a notice did not arrive: {error.detail}", code="webhook_failed", next_step="it is sent again by itself"
        ) from error
    if hook.failures:
        with runtime.sessions.begin() as session:
            session.execute(_same(hook).values(failures=0))


def signature(secret: bytes, message: str, stamp: str, body: bytes) -> str:
    """The header `Webhook-Signature`, version 1."""
    signed = hmac.digest(secret, f"{message}.{stamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(signed).decode()


def _notice(session: Session, runtime: Runtime, record_id: uuid.UUID, artist_id: uuid.UUID) -> Notice | None:
    """None where the record was erased meanwhile, and its credits with it."""
    issued_at = session.scalar(sa.select(Record.issued_at).where(Record.id == record_id, Record.listed))
    if issued_at is None:
        return None
    credited = sa.select(Credit.work_id).where(Credit.record_id == record_id, Credit.artist_id == artist_id)
    works = session.scalars(credited.distinct()).all()
    if not works:
        return None
    return Notice(
        type=CREDITED,
        timestamp=issued_at.astimezone(dt.UTC).isoformat(),
        data=Data(
            record_id=str(record_id),
            url=f"{runtime.settings.public_url.rstrip('/')}/r/{record_id}",
            artist_id=str(artist_id),
            work_ids=sorted(str(each) for each in works if each is not None),
        ),
    )


def _count(runtime: Runtime, hook: ArtistWebhook) -> None:
    over = ArtistWebhook.failures + 1 >= MOST_FAILURES
    with runtime.sessions.begin() as session:
        session.execute(
            _same(hook).values(
                failures=ArtistWebhook.failures + 1, off_at=sa.case((over, runtime.clock()), else_=ArtistWebhook.off_at)
            )
        )


def _same(hook: ArtistWebhook) -> sa.Update:
    """With the secret it was sent by: one that was set anew meanwhile begins from nothing."""
    return sa.update(ArtistWebhook).where(
        ArtistWebhook.identity_id == hook.identity_id,
        ArtistWebhook.artist_id == hook.artist_id,
        ArtistWebhook.secret == hook.secret,
    )
