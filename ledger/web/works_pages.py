"""The pages of works and artists, for whoever may be named: what is indexed, on what terms, and what credits it."""

import uuid
from typing import Annotated, Any

from litestar import MediaType, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from litestar.response import Template

from ledger import works_shown
from ledger.runtime import Runtime
from ledger.web.plots import Plot, bars
from ledger.web.problems import wants_page
from ledger.works_shown import ArtistView, Credits, WorkView

ATOM = "application/atom+xml"
CREDITED = {
    "identity": "the very picture",
    "copy": "a copy of a work, or of a part",
    "style": "the hand looks alike",
    "content": "what it shows is alike",
}
"""What a credit says of a record, by its axis; the record has the error rate in full."""

VARY = {"Vary": "Accept"}
Before = Annotated[uuid.UUID | None, QueryParameter(description="The last credit of the page before.")]
WorksAfter = Annotated[uuid.UUID | None, QueryParameter(description="The last work of the page before.")]


@get("/works/{work_id:uuid}", include_in_schema=False, sync_to_thread=True)
def work_page(
    request: "Request[Any, Any, Any]",
    runtime: NamedDependency[Runtime],
    work_id: FromPath[uuid.UUID],
    before: Before = None,
) -> Template | Response[WorkView]:
    """A work that may be named: its terms, who has seen it, and which records credit it."""
    with runtime.reading() as session:
        found = works_shown.work(session, work_id, runtime.clock(), before)
    if not wants_page(request):
        return Response(found, media_type=MediaType.JSON, headers=VARY)
    return Template("work.html", context={"work": found, **_credits(found.credits)}, headers=VARY)


@get("/works/{work_id:uuid}/preview", include_in_schema=False, sync_to_thread=True)
def work_preview(runtime: NamedDependency[Runtime], work_id: FromPath[uuid.UUID]) -> Response[bytes]:
    """A small picture of a work, while it may be named."""
    with runtime.reading() as session:
        data = works_shown.preview(session, work_id)
    return Response(data, media_type="image/webp", headers={"Cache-Control": "no-cache"})


@get("/works/{work_id:uuid}/feed", include_in_schema=False, sync_to_thread=True)
def work_feed(runtime: NamedDependency[Runtime], work_id: FromPath[uuid.UUID]) -> Template:
    """The newest records that credit a work, as Atom (RFC 4287)."""
    with runtime.reading() as session:
        found = works_shown.work(session, work_id, runtime.clock())
    title = f"“{found.title}” by {found.artist}"
    return _feed(runtime, f"/works/{found.id}", title, found.artist, found.added_at, found.credits)


@get("/artists/{artist_id:uuid}", include_in_schema=False, sync_to_thread=True)
def artist_page(
    request: "Request[Any, Any, Any]",
    runtime: NamedDependency[Runtime],
    artist_id: FromPath[uuid.UUID],
    before: Before = None,
    works_after: WorksAfter = None,
) -> Template | Response[ArtistView]:
    """An artist with those works that may be named, and the records that credit them."""
    with runtime.reading() as session:
        found = works_shown.artist(session, artist_id, runtime.clock(), works_after=works_after, before=before)
    if not wants_page(request):
        return Response(found, media_type=MediaType.JSON, headers=VARY)
    context = {"artist": found, **_credits(found.credits), "works_page": works_shown.PAGE}
    return Template("artist.html", context=context, headers=VARY)


@get("/artists/{artist_id:uuid}/feed", include_in_schema=False, sync_to_thread=True)
def artist_feed(runtime: NamedDependency[Runtime], artist_id: FromPath[uuid.UUID]) -> Template:
    """The newest records that credit an artist's hand or works, as Atom (RFC 4287)."""
    with runtime.reading() as session:
        found = works_shown.artist(session, artist_id, runtime.clock())
    began = min((each.at for each in found.credits.newest), default="1970-01-01T00:00:00+00:00")
    return _feed(runtime, f"/artists/{found.id}", found.name, found.name, began, found.credits)


def _credits(credits_found: Credits) -> dict[str, Any]:
    plot: Plot = bars([(each.month, each.records) for each in credits_found.months])
    return {"credits": credits_found, "plot_of": plot, "credited": CREDITED, "page": works_shown.PAGE}


def _feed(runtime: Runtime, path: str, title: str, artist: str, began: str, credits_found: Credits) -> Template:
    context = {
        "base": runtime.settings.public_url.rstrip("/"),
        "path": path,
        "title": title,
        "artist": artist,
        "updated": max((each.at for each in credits_found.newest), default=began),
        "lines": credits_found.newest,
        "credited": CREDITED,
    }
    return Template("feed.xml", context=context, media_type=ATOM, headers={"Cache-Control": "no-cache"})
