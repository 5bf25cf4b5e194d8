"""Answering a write: 202 at once, or 201 when the record is finished within the `wait` that was asked for."""

import asyncio
import time
import uuid
from typing import Any

from litestar import Response
from litestar.concurrency import sync_to_thread

from ledger import jobs, lookup, verifications
from ledger.lookup import RecordView
from ledger.runtime import Runtime

MAX_WAIT = 60
FIRST_PAUSE, LONGEST_PAUSE = 0.03, 0.25

# A verification's answer stands before its entry is in the log; a file is only handed out afterwards.
FINISHED = {
    "generation": {"issued"},
    "stamp": {"issued"},
    "verification": {"signed", "sealed", "issued"},
}


async def answer(runtime: Runtime, kind: str, record_id: uuid.UUID, wait: float) -> "Response[Any]":
    """201 with the finished record or verification; 202 with where to ask again when it is not finished in time.

    Raises the failure of a record that was abandoned. Waiting holds no thread: a few patient callers would otherwise
    keep everybody else from being served.
    """
    deadline = time.monotonic() + wait
    pause = FIRST_PAUSE
    own_address = f"/v1/{kind}s/{record_id}"
    while await sync_to_thread(jobs.wait, runtime.reading, record_id, 0) not in FINISHED[kind]:
        left = deadline - time.monotonic()
        if left <= 0:
            view = await sync_to_thread(_view, runtime, record_id)
            return Response(view, status_code=202, headers={"Location": own_address, "Retry-After": "1"})
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, LONGEST_PAUSE)
    if kind == "verification":
        found = await sync_to_thread(_verification, runtime, record_id)
        return Response(found, status_code=201, headers={"Location": own_address})
    view = await sync_to_thread(_view, runtime, record_id)
    return Response(view, status_code=201, headers={"Location": f"/v1/records/{record_id}"})


def _view(runtime: Runtime, record_id: uuid.UUID) -> RecordView:
    with runtime.reading() as session:
        return lookup.for_its_owner(session, record_id)


def _verification(runtime: Runtime, record_id: uuid.UUID) -> dict[str, Any] | None:
    with runtime.reading() as session:
        return verifications.result(session, record_id)
