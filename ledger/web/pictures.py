"""The drawings of matched regions, for the pages of records and claims: served while one that may be shown has them."""

from typing import Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from ledger.reports.pictures import picture
from ledger.runtime import Runtime


@get("/pictures/{name:str}", include_in_schema=False, sync_to_thread=True)
def read_picture(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], name: FromPath[str]
) -> Response[bytes]:
    """The matched region that a report's evidence names, `<SHA-256>.png`."""
    with runtime.reading() as session:
        data = picture(session, name)  # also for a caller that has it: a record may have been erased since
    etag = f'"{name}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=304, media_type="image/png", headers=headers)
    return Response(data, media_type="image/png", headers=headers)
