"""Signing in by a link that was sent to an address: whoever can read that mail is that person here. No passwords.

What this does not prove: who somebody is. Addresses stay in Postgres, can be erased, and never reach the log.
"""

import datetime as dt
import hashlib
import secrets
import uuid

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from ledger.artists import links
from ledger.database.tables.artists import ArtistWebhook, Enrolment
from ledger.database.tables.claims import Claim, ControlProof, Identity, SignInLink, WebSession
from ledger.errors import BadRequest, LedgerError, NotAllowed, NotFound
from ledger.runtime import Runtime

LINK_LIFE = dt.timedelta(minutes=20)
SESSION_LIFE = dt.timedelta(hours=12)
LINKS_PER_HOUR = 5
MAX_EMAIL_CHARS = 254  # RFC 5321, section 4.5.3.1.3
AN_HOUR = dt.timedelta(hours=1)


def address(text: str) -> str:
    """An e-mail address in the one spelling that we keep: trimmed, in lower case. Raises BadRequest `email_malformed`.

    Only what could mislead a mail server is refused; whether the address exists, the message shows.
    """
    email = text.strip()
    local, at, domain = email.rpartition("@")
    harmless = email.isascii() and email.isprintable() and not set(email) & set(' <>()[]\\,;:"')
    if not (at and local and "." in domain.strip(".") and "@" not in local and harmless):
        raise _malformed(email)
    if len(email) > MAX_EMAIL_CHARS:
        raise _malformed(email)
    return email.lower()


def _malformed(email: str) -> BadRequest:
    return BadRequest(
        f"email: an address such as name@example.org of at most {MAX_EMAIL_CHARS} ASCII characters is wanted,"
        f" {len(email)} were given",
        code="email_malformed",
        next_step="type the address at which you read mail",
    )


def new_link(session: Session, email: str, now: dt.datetime, page: str | None = None) -> str:
    """A token that signs `email` in once, within LINK_LIFE; what is returned is stored nowhere. `page`: a path of this
    site that whoever asks came from.

    The answer is the same for known and unknown addresses. Raises LedgerError `links_too_many` (429).
    """
    # One at a time for an address: otherwise ten requests at once would each see none before them.
    session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(email, 0))))
    recent = session.scalar(
        sa.select(sa.func.count())
        .select_from(SignInLink)
        .where(SignInLink.email == email, SignInLink.created_at > now - AN_HOUR)
    )
    if recent is not None and recent >= LINKS_PER_HOUR:
        raise LedgerError(
            f"{recent} links were sent to this address in the last hour",
            code="links_too_many",
            status=429,
            next_step="use the newest of them, or wait an hour",
        )
    token = secrets.token_urlsafe(32)
    session.add(
        SignInLink(token_sha256=digest(token), email=email, page=page, created_at=now, expires_at=now + LINK_LIFE)
    )
    session.flush()
    return token


def page_of(session: Session, token: str) -> str | None:
    """The page that whoever asked for this link came from."""
    return session.scalar(sa.select(SignInLink.page).where(SignInLink.token_sha256 == digest(token)))


def sign_in(session: Session, token: str, now: dt.datetime) -> str:
    """Use a link up; the token of a new session. Of two that use one link at once, one gets in.

    Raises NotAllowed `link_invalid`, the same for an unknown link, a used one and one that expired.
    """
    email = session.scalar(
        sa.update(SignInLink)
        .where(SignInLink.token_sha256 == digest(token), SignInLink.used_at.is_(None), SignInLink.expires_at > now)
        .values(used_at=now)
        .returning(SignInLink.email)
    )
    if email is None:
        raise NotAllowed(
            "this link was used already, has expired, or never was one of ours",
            code="link_invalid",
            next_step="ask for a new link at /sign-in",
        )
    session.execute(insert(Identity).values(id=uuid7(), email=email).on_conflict_do_nothing(index_elements=["email"]))
    identity_id = session.scalars(sa.select(Identity.id).where(Identity.email == email)).one()
    cookie = secrets.token_urlsafe(32)  # new at every sign-in: no cookie from before is ever signed in
    session.add(
        WebSession(token_sha256=digest(cookie), identity_id=identity_id, created_at=now, expires_at=now + SESSION_LIFE)
    )
    session.flush()
    return cookie


def identity_of(session: Session, cookie: str, now: dt.datetime) -> uuid.UUID | None:
    """Who is signed in with this cookie."""
    return session.scalar(
        sa.select(WebSession.identity_id).where(WebSession.token_sha256 == digest(cookie), WebSession.expires_at > now)
    )


def sign_out(session: Session, cookie: str) -> None:
    """End this session; the cookie is worth nothing from here on."""
    session.execute(sa.delete(WebSession).where(WebSession.token_sha256 == digest(cookie)))


def forget_expired(session: Session, now: dt.datetime) -> None:
    """Links are kept for as long as they count against the limit, sessions until they end."""
    session.execute(sa.delete(SignInLink).where(SignInLink.expires_at < now - AN_HOUR))
    session.execute(sa.delete(WebSession).where(WebSession.expires_at < now))


def erase_identity(session: Session, runtime: Runtime, identity_id: uuid.UUID) -> None:
    """Forget who somebody is: address, links, sessions, proofs of control, for whom they acted and where they were
    told of it, what they handed in, and whose claims were whose.

    Their claims stand, by nobody; `ledger.claims.erasing` deletes what they say. Works that were enrolled stay: they
    are the artist's. A picture that still waits is swept from the store. Raises NotFound `identity_unknown`.
    """
    identity = session.get(Identity, identity_id)
    if identity is None:
        raise NotFound(
            f"no identity {identity_id}", code="identity_unknown", next_step="the person's own page shows their id"
        )
    session.execute(sa.delete(SignInLink).where(SignInLink.email == identity.email))
    session.execute(sa.delete(WebSession).where(WebSession.identity_id == identity_id))
    session.execute(sa.delete(ControlProof).where(ControlProof.identity_id == identity_id))
    links.unlink_all(session, runtime, identity_id)
    session.execute(sa.delete(ArtistWebhook).where(ArtistWebhook.identity_id == identity_id))
    session.execute(sa.delete(Enrolment).where(Enrolment.identity_id == identity_id))
    session.execute(sa.update(Claim).where(Claim.identity_id == identity_id).values(identity_id=None))
    session.flush()
    session.delete(identity)
    session.flush()


def digest(token: str) -> bytes:
    """What is stored of a token. It is random and long, so a plain hash is enough, and no comparison leaks it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
