"""The read-only door for auditors: pages of the log's rows, and whole periods as files. A token is needed.

Nothing here is secret: what it gives in bulk, anybody may read piece by piece. The token is for knowing whom to slow
down, and it can write nothing. Each token has its own count of requests, told in the RateLimit headers of every answer.
"""

import datetime as dt
import re
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from litestar import Router, get
from litestar.concurrency import sync_to_thread
from litestar.di import NamedDependency
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Schema,
)
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from ledger import disclosure
from ledger.disclosure import MAX_ROWS, Decision, Filter, Page
from ledger.errors import BadRequest
from ledger.log.shard import Head, query_of
from ledger.log.state import policy_in_force, shown_head
from ledger.runtime import Runtime
from ledger.web.guard import auditor_id, is_auditor
from ledger.web.limiting import MINUTE, RateLimit, limited
from ledger.web.problems import problems

EXPORTS_PER_MINUTE = 6
NDJSON, PARQUET = "application/x-ndjson", "application/vnd.apache.parquet"
PIECE = 2**18

_NAME = re.compile(r"(?P<period>[0-9-]{4,10})\.(?P<form>ndjson|parquet)", re.ASCII)

Since = Annotated[dt.datetime | None, QueryParameter(description="Integrated at this time or later, ISO 8601.")]
Until = Annotated[dt.datetime | None, QueryParameter(description="Integrated before this time.")]
EntryType = Annotated[
    str | None, QueryParameter(name="type", description="As in an entry, lawful-ledger/record/1, or its middle word.")
]
Model = Annotated[str | None, QueryParameter(description="Records made or declared with a model of this name.")]
Artist = Annotated[
    uuid.UUID | None,
    QueryParameter(description="Records whose report names this artist, and changes of grants of their works."),
]
Decided = Annotated[Decision | None, QueryParameter(description="Of a claim, or `blocked` by the near-copy gate.")]
Cursor = Annotated[int, QueryParameter(ge=0, le=2**53 - 1, description="Where to go on: the last page's `cursor`.")]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_ROWS, description="Rows of a page at most.")]


@get(
    "/v1/audit/entries",
    sync_to_thread=True,
    tags=["Auditing"],
    security=[{"auditor": []}],
    summary="The log, page by page, each row with its proof",
    response_description="A page; it may be empty and still not the last.",
    responses=problems(401, 403, 404, 422, 429),
)
def read_rows(
    runtime: NamedDependency[Runtime],
    cursor: Cursor = 0,
    limit: Limit = MAX_ROWS,
    since: Since = None,
    until: Until = None,
    entry_type: EntryType = None,
    model: Model = None,
    artist: Artist = None,
    decision: Decided = None,
) -> Page:
    """Go on with the same filters and the `cursor` that the page gives, while `more` is true; later from there again.
    A cursor is a place in the log: nothing is skipped and nothing given twice, whatever is appended meanwhile."""
    wanted = Filter(
        since=_aware(since), until=_aware(until), type=entry_type, model=model, artist=artist, decision=decision
    )
    with runtime.reading() as session:
        policy = policy_in_force(runtime.settings.witness_policy)
        return disclosure.page(session, runtime.shard, policy, wanted, cursor, limit)


@dataclass
class ExportOperation(Operation):
    """One status, two forms."""

    def __post_init__(self) -> None:
        given = (self.responses or {})["200"]
        assert isinstance(given, OpenAPIResponse)
        file = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY))
        given.content = dict.fromkeys((NDJSON, PARQUET), file)


@get(
    "/v1/audit/exports/{name:str}",
    operation_class=ExportOperation,
    tags=["Auditing"],
    security=[{"auditor": []}],
    summary="A whole year, month or day as one file",
    response_description="The file: NDJSON or Parquet.",
    media_type=NDJSON,
    responses=problems(401, 403, 404, 422, 429),
)
async def read_export(
    runtime: NamedDependency[Runtime],
    name: FromPath[str],
    entry_type: EntryType = None,
    model: Model = None,
    artist: Artist = None,
    decision: Decided = None,
) -> Stream:
    """By its name: `2026-11.ndjson`, `2026-11-22.parquet`; in UTC. All proofs lead to one checkpoint. A period
    that is not over is given as far as it goes. An answer that breaks off is not a file: ask again."""
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise BadRequest(
            f"{name[:40]!r} is no name of an export",
            code="export_name_malformed",
            next_step="ask for a period and a form, such as 2026-11.ndjson or 2026-11-22.parquet",
        )
    since, until = disclosure.period(parts["period"])
    wanted = Filter(since=since, until=until, type=entry_type, model=model, artist=artist, decision=decision)
    head = await sync_to_thread(_head, runtime, wanted)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    rows = disclosure.export(runtime.reading, runtime.shard, head, wanted)
    from ledger import exports  # and with it Arrow, which nothing else of the web process needs

    if parts["form"] == "ndjson":
        return Stream(exports.ndjson(rows), media_type=NDJSON, headers=headers)
    file = await sync_to_thread(_as_parquet, runtime, rows, head)
    return Stream(_pieces(file), media_type=PARQUET, headers=headers)


def _head(runtime: Runtime, wanted: Filter) -> Head:
    with runtime.reading() as session:
        disclosure.check(session, wanted)
        return shown_head(query_of(session), runtime.shard, policy_in_force(runtime.settings.witness_policy))


def _as_parquet(runtime: Runtime, rows: Iterator[list[disclosure.Row]], head: Head) -> Any:
    """A file without a name: it is gone with its last reader, whatever ends this process."""
    from ledger import exports

    with tempfile.TemporaryDirectory(prefix="lawful-export-") as folder:
        path = Path(folder) / "rows.parquet"
        exports.parquet(rows, head, runtime.settings.origin, path)
        return path.open("rb")


def _pieces(file: Any) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE):
            yield piece


def _aware(time: dt.datetime | None) -> dt.datetime | None:
    """A time without a zone is in UTC."""
    return time if time is None or time.tzinfo is not None else time.replace(tzinfo=dt.UTC)


def routes(pages_per_minute: int) -> list[Router]:
    """The routes, each with its own limit for each token."""
    return [
        Router(
            "/",
            route_handlers=[handler],
            middleware=[limited(RateLimit(what, per_minute, MINUTE, is_auditor, auditor_id))],
        )
        for handler, what, per_minute in (
            (read_rows, "audit entries", pages_per_minute),
            (read_export, "audit exports", EXPORTS_PER_MINUTE),
        )
    ]
