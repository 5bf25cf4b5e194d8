"""Headers on every answer, and HEAD for every GET. Nothing here depends on the route."""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

# Only our own files are run or loaded, and nothing inline; `nosniff` keeps what others uploaded from being a script.
POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
ALWAYS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    # The address of a verification is known to whoever made it, and to no other site. With `no-referrer` our own forms
    # would come without their origin.
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), microphone=(), geolocation=()",
    b"cache-control": b"no-store",
}


def with_headers(app: ASGIApp) -> ASGIApp:
    """Wrap `app`: what a handler set itself stays; the rest of `ALWAYS` is added. HEAD is GET without the body."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        head = scope["method"] == "HEAD"
        if head:
            scope["method"] = "GET"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                missing = [(name, value) for name, value in ALWAYS.items() if name not in present]
                message["headers"] = [*message["headers"], *missing]
            elif message["type"] == "http.response.body" and head:
                message["body"] = b""
            await send(message)

        await app(scope, receive, send_with_headers)

    return wrapped
