"""The log for people: its live checkpoint, its witnesses, how it grows, and what can be found in it."""

import uuid
from typing import Annotated, Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.response import Template

from ledger import log_lines
from ledger.errors import NotFound
from ledger.log.shard import query_of
from ledger.log.state import LogView, log_view, policy_in_force, shown_head
from ledger.log.tiles import integrated_head
from ledger.log_lines import EntryLine, Found
from ledger.runtime import Runtime
from ledger.web import log_wording
from ledger.web.log import log_url
from ledger.web.plots import bars
from ledger.web.problems import wants_page

MAX_ASKED = 200

Asked = Annotated[
    str | None,
    QueryParameter(description="An index, a hash, an id, or an artist's or a model's name.", max_length=MAX_ASKED),
]
BeforeIndex = Annotated[int | None, QueryParameter(description="Entries older than this index.", ge=0)]
BeforeRecord = Annotated[uuid.UUID | None, QueryParameter(description="Records older than the one with this id.")]


class LogPage(msgspec.Struct, frozen=True):
    """The log as it stands, and its newest entries or what was found."""

    log: LogView
    entries: list[EntryLine]
    found: Found | None


@get("/log", include_in_schema=False, sync_to_thread=True)
def log_page(
    request: "Request[Any, Any, Any]",
    runtime: NamedDependency[Runtime],
    q: Asked = None,
    model: Asked = None,
    before: BeforeIndex = None,
    older_than: BeforeRecord = None,
) -> Template | Response[LogPage]:
    """Its checkpoint, witnesses, growth and newest entries; what `q` names, or the records of a `model`."""
    asked = (q or model or "").strip()
    with runtime.reading() as session:
        policy = policy_in_force(runtime.settings.witness_policy)
        query = query_of(session)
        view = log_view(query, runtime.shard, log_url(runtime), policy)
        found, entries = None, []
        if model is not None and q is None:
            found = Found(records=log_lines.by_model(session, asked, before=older_than))
        elif asked:
            found = log_lines.search(session, runtime.shard, asked, before=older_than)
        else:
            entries = log_lines.newest_entries(session, runtime.shard, before=before)
        vary = {"Vary": "Accept"}
        if not wants_page(request):
            return Response(LogPage(view, entries, found), media_type=MediaType.JSON, headers=vary)
        sizes = log_lines.growth(session, runtime.shard, runtime.clock())
        try:
            head = shown_head(query, runtime.shard, policy)
        except NotFound:  # no quorum has signed yet: what there is, is the log's own word
            head = integrated_head(query, runtime.shard)
    context = {
        "log": view,
        "note": head.note.decode(),
        "live": f"/log/{runtime.shard}/checkpoint" if view.witnessed_size or policy is None else None,
        "entry_words": log_wording.entry,
        "asked": asked,
        "entries": entries,
        "found": found,
        "page": log_lines.PAGE,
        "plot_of": bars([(each.day, each.entries) for each in sizes]),
        "first": "model" if model is not None and q is None else "q",
    }
    return Template("log.html", context=context, headers=vary)
