"""Sending a link to sign in: by SMTP with TLS, always; or, where no server is set, to the process's own log."""

import smtplib
import ssl
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

import structlog

from ledger.errors import Unavailable
from ledger.settings import Settings

TIMEOUT = 15.0  # seconds for each answer of the mail server
SUBJECT = "Your link to sign in"
TEXT = """\
Open this link to sign in to the ledger at {public_url}:

{link}

It works once, for {minutes} minutes. If you did not ask for it, ignore this message: nothing happens without it.
"""

_logger = structlog.get_logger(__name__)


def send_link(settings: Settings, email: str, link: str, minutes: int, context: ssl.SSLContext | None = None) -> None:
    """Send `link` to `email`, an address that `identities.address` has seen. Raises Unavailable `mail_not_sent`.

    `context`: whose certificates the mail server is believed by; by default those of the system.
    """
    if settings.smtp_url is None:
        _logger.warning("sign_in_link", link=link, next_step="set LAWFUL_SMTP_URL to send such links by mail")
        return
    message = EmailMessage()
    message["Subject"] = SUBJECT
    message["From"] = settings.mail_from or ""
    message["To"] = email
    message.set_content(TEXT.format(public_url=settings.public_url, link=link, minutes=minutes))
    try:
        _send(settings.smtp_url.get_secret_value(), message, context or ssl.create_default_context())
    except (OSError, smtplib.SMTPException, ValueError) as error:
        # The server's own words may quote the address: only the kind of failure is told.
        raise Unavailable(
            f"the mail server did not take the message: {type(error).__name__}",
            code="mail_not_sent",
            next_step="try again in a while; the operator checks LAWFUL_SMTP_URL and LAWFUL_MAIL_FROM",
        ) from None


def _send(url: str, message: EmailMessage, context: ssl.SSLContext) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
        raise ValueError("no smtp:// or smtps:// address")
    if parts.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(parts.hostname, parts.port or 465, timeout=TIMEOUT, context=context)
    else:
        server = smtplib.SMTP(parts.hostname, parts.port or 587, timeout=TIMEOUT)
    with server:
        if parts.scheme == "smtp":
            server.starttls(context=context)  # refused: SMTPNotSupportedError, and nothing is sent in the clear
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
        server.send_message(message)
