"""Statements that submitters signed themselves, one at a time or a thousand at once."""

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import Annotated, Any

from litestar import Request, Response, post
from litestar.concurrency import sync_to_thread
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import QueryParameter

from ledger import submissions
from ledger.log.declarations import checked
from ledger.log.entries import Fact
from ledger.runtime import Runtime
from ledger.submissions import Submitted, SubmittedStatement
from ledger.web.problems import Unsupported, problems
from ledger.web.sessions import Connection
from ledger.web.waiting import FIRST_PAUSE, LONGEST_PAUSE
from ledger.web.writing import IdempotencyKey

SINGLE, BATCH = "application/cose", "application/cbor-seq"

WaitFor = Annotated[
    Fact | None,
    QueryParameter(
        description="Answer when a published checkpoint covers the statements, or one that witnesses signed."
    ),
]

PENDING = {
    202: ResponseSpec(Submitted, description="Taken; the log follows by itself.", generate_examples=False),
}


@dataclass
class SubmitOperation(Operation):
    def __post_init__(self) -> None:
        self.request_body = _binary(SINGLE)


@dataclass
class SubmitBatchOperation(Operation):
    def __post_init__(self) -> None:
        self.request_body = _binary(BATCH)


def _binary(media_type: str) -> RequestBody:
    schema = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
    return RequestBody(content={media_type: OpenAPIMediaType(schema=schema)}, required=True)


async def _takes_one(connection: Connection, _handler: BaseRouteHandler) -> None:
    _require_type(connection, SINGLE)


async def _takes_a_sequence(connection: Connection, _handler: BaseRouteHandler) -> None:
    _require_type(connection, BATCH)


def _require_type(connection: Connection, wanted: str) -> None:
    content_type = connection.headers.get("content-type", "none").partition(";")[0].strip().lower()
    if content_type != wanted:
        raise Unsupported(f"Content-Type: {content_type[:80]} is not taken here", next_step=f"send {wanted}")


@post(
    "/v1/statements",
    guards=[_takes_one],
    responses=PENDING | problems(401, 403, 409, 413, 415, 422),
    operation_class=SubmitOperation,
    tags=["Writing"],
    security=[{"key": []}],
    summary="Put a statement of your own into the log",
    response_description="The statement with its index.",
)
async def submit_statement(
    request: "Request[Any, Any, Any]",
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
    wait: WaitFor = None,
) -> Response[Submitted]:
    """One COSE_Sign1 declaration, signed with a key registered for you. The same statement again is the same entry."""
    return await _submit(request, runtime, idempotency_key, wait, batch=False)


@post(
    "/v1/statements/batch",
    guards=[_takes_a_sequence],
    responses=PENDING | problems(401, 403, 409, 413, 415, 422),
    operation_class=SubmitBatchOperation,
    tags=["Writing"],
    security=[{"key": []}],
    summary="Put up to 1,000 statements of your own into the log",
    response_description="The statements with their indices, in the order they were sent.",
)
async def submit_batch(
    request: "Request[Any, Any, Any]",
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
    wait: WaitFor = None,
) -> Response[Submitted]:
    """A CBOR sequence of declarations, at most 4 MiB. All are taken or none; a refusal names the first one at fault."""
    return await _submit(request, runtime, idempotency_key, wait, batch=True)


async def _submit(
    request: "Request[Any, Any, Any]",
    runtime: Runtime,
    idempotency_key: str | None,
    until: Fact | None,
    *,
    batch: bool,
) -> Response[Submitted]:
    body = await request.body()
    principal_id = request.state.principal_id
    leaves = await sync_to_thread(_take, runtime, principal_id, body, idempotency_key, batch=batch)
    # Durable from here on, and bound for the log whoever dies: what follows only looks where it stands.
    submitted = Submitted([SubmittedStatement(leaf.hex()) for leaf in leaves])
    if until is not None:
        submitted = await _covered(runtime, leaves, until)
    if submitted.size is not None:
        return Response(submitted, status_code=201)
    return Response(submitted, status_code=202, headers={"Retry-After": "1"})


async def _covered(runtime: Runtime, leaves: list[bytes], until: Fact) -> Submitted:
    """Where the statements stand once all of them are covered, or after the time that this ledger waits for its log.

    Waiting holds no thread and no connection.
    """
    deadline = time.monotonic() + runtime.settings.issue_timeout
    pause = FIRST_PAUSE
    while True:
        submitted = await sync_to_thread(_places, runtime, leaves, until)
        left = deadline - time.monotonic()
        if submitted.size is not None or left <= 0:
            return submitted
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _take(
    runtime: Runtime, principal_id: uuid.UUID, body: bytes, idempotency_key: str | None, *, batch: bool
) -> list[bytes]:
    with runtime.reading() as session:
        signers = submissions.signers_of(session, principal_id)
    statements = checked(body, signers, batch=batch)  # a tenth of a second for a full batch: no connection is held
    with runtime.sessions.begin() as session:
        return submissions.take(session, principal_id, statements, idempotency_key=idempotency_key, body=body)


def _places(runtime: Runtime, leaves: list[bytes], until: Fact) -> Submitted:
    with runtime.reading() as session:
        return submissions.places(session, runtime.shard, leaves, until)
