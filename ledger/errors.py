"""One tree of errors, each with a stable code, an HTTP status and the next thing to do.

LedgerError
├── BadRequest        400  the request itself is wrong: field, limit, size
├── NotAllowed        401/403  no key, or a key without the right
├── NotFound          404  nothing recorded under that name
├── Conflict          409  the same idempotency key with another request; a second `lawful up`
├── TooLarge          413  more bytes than the limit
├── Unavailable       503  database, storage, worker or timestamp authority is out of reach
├── StorageFull       507  the disk has no room; nothing half-written is left behind
└── Inconsistent      500  an invariant of the log does not hold: stop and look

`models.errors.ModelError` of the lower floors has the same fields (`code`, `status`, `detail`, `next_step`).
"""

from functools import partial
from typing import Any


class LedgerError(Exception):
    """Root of the tree. `detail` names the field, the limit and the value's size, never a secret."""

    code = "ledger_error"
    status = 500

    def __init__(self, detail: str, *, code: str | None = None, next_step: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.next_step = next_step
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        """An error comes back from another process as what it was."""
        return partial(type(self), self.detail, code=self.code, next_step=self.next_step, status=self.status), ()


class BadRequest(LedgerError):
    code = "bad_request"
    status = 400


class NotAllowed(LedgerError):
    code = "not_allowed"
    status = 403


class NotFound(LedgerError):
    code = "not_found"
    status = 404


class Conflict(LedgerError):
    code = "conflict"
    status = 409


class TooLarge(LedgerError):
    code = "too_large"
    status = 413


class Unavailable(LedgerError):
    code = "unavailable"
    status = 503


class StorageFull(LedgerError):
    code = "storage_full"
    status = 507


class Inconsistent(LedgerError):
    code = "inconsistent"
    status = 500
