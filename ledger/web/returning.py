"""The page to come back to after signing in: one of this ledger's own, or none.

An address that a stranger may have written is believed only where it can be nothing but a path of ours, as our pages
spell theirs. So a link that signs somebody in leads nobody to another site.
"""

import re
from typing import Any

from litestar import Request

MOST = 200  # characters
_OWN = re.compile(r"(?:/[0-9a-z]+(?:-[0-9a-z]+)*)+(?:\?[a-z]+=[0-9a-z]+(?:-[0-9a-z]+)*)?")
_ITSELF = ("/sign-in", "/sign-out")


def own_page(text: str | None) -> str | None:
    """`text` where it is a path of this site with at most one value behind it, such as `/claims/new?about=0190…`;
    otherwise None. No scheme, host, backslash, escape, dot or control character is in one."""
    if text is None or len(text) > MOST or not _OWN.fullmatch(text) or text.startswith(_ITSELF):
        return None
    return text


def asked_page(request: "Request[Any, Any, Any]") -> str | None:
    """The page that a browser asked for, to come back to; None where a form was sent."""
    if request.method != "GET":
        return None
    query = request.scope["query_string"].decode("latin-1")
    return own_page(request.url.path + (f"?{query}" if query else ""))
