"""Times as people read them, in UTC and in one form wherever they stand: pages, reports, sentences, the command line.
Programs get ISO 8601."""

import datetime as dt


def moment(text: str) -> str:
    """An ISO time as people read it. Raises ValueError, OverflowError for what is none."""
    at = _utc(text)
    return f"{at.day} {at:%B %Y, %H:%M:%S} UTC"


def day(text: str) -> str:
    """The day of an ISO time or date. Raises as `moment`."""
    at = _utc(text)
    return f"{at.day} {at:%B %Y}"


def _utc(text: str) -> dt.datetime:
    at = dt.datetime.fromisoformat(text)
    return at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC)
