"""Every error as a problem (RFC 9457): one shape for our own errors, the framework's and what nobody expected.

Members beyond the RFC's: `code` (stable, documented), `next_step` (what to do about it) and, where it helps, `errors`.
`instance` names the occurrence: the request's id, which is also in the log line that holds an unexpected traceback.
"""

from typing import Any, NamedTuple

import msgspec
import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import Template
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from uuid_utils.compat import uuid7

from ledger.errors import BadRequest, LedgerError, Unavailable
from ledger.log.declarations import BatchRefused
from ledger.web.observed import QUIET, request_id
from ledger.web.returning import asked_page
from ledger.web.wording import STATUS_TITLES
from models.errors import ModelError

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "tag:lawful-ledger.org,2026:problem/"
RETRY_SECONDS = "5"
"""After which whoever was told 503 may ask again."""


class Refusal(NamedTuple):
    code: str
    detail: str
    next_step: str


# What the framework itself refuses, by status; an empty detail leaves the framework's own words.
FRAMEWORK = {
    400: Refusal("request_malformed", "", "send the request as /docs shows it"),
    404: Refusal("route_unknown", "there is nothing at this address", "see /docs for every address there is"),
    405: Refusal("method_not_allowed", "this address takes other methods", "use one that the Allow header names"),
    429: Refusal(
        "too_many_requests",
        "more than this ledger takes from one address in this time",
        "wait for the seconds in Retry-After, then send it again",
    ),
    413: Refusal(
        "body_too_large", "the body is larger than this address takes", "send less; the first page names the limit"
    ),
    422: Refusal("validation_failed", "", "correct the named fields; /docs shows their limits"),
}
OTHERWISE = Refusal("request_refused", "", "see /docs")
GONE = "client disconnected prematurely"
"""What the framework says, as an error of ours, of a visitor who left before the body had come."""

TOO_DEEP = "while deserializing an object"
"""What the decoder of bodies says, as no error of its own, of brackets in brackets in brackets."""

_logger = structlog.get_logger(__name__)


class FieldError(msgspec.Struct, frozen=True):
    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every answer with a status of 400 and above."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    next_step: str
    instance: str
    errors: list[FieldError] = msgspec.field(default_factory=list)


class Unsupported(LedgerError):
    """The body has a content type that this address does not take."""

    code = "media_type_unsupported"
    status = 415


def problem_of(error: Exception, instance: str) -> Problem:
    """What is told of `error`. Of an error that is none of ours nothing is told but that it happened."""
    match error:
        case BatchRefused():
            fault = FieldError(f"statements[{error.index}]", error.detail)
            return _problem(error.status, error.code, error.detail, error.next_step, instance, [fault])
        case LedgerError() | ModelError():
            return _problem(error.status, error.code, error.detail, error.next_step, instance)
        case OperationalError() | PoolTimeout():
            busy = Unavailable(
                "the database did not answer in time", code="database_busy", next_step="try again in a moment"
            )
            return _problem(busy.status, busy.code, busy.detail, busy.next_step, instance)
        case HTTPException(detail=detail) if detail == GONE:
            left = BadRequest(
                "the connection ended before the body did", code="body_cut_off", next_step="send it again, whole"
            )
            return _problem(left.status, left.code, left.detail, left.next_step, instance)
        case RecursionError() if TOO_DEEP in str(error):
            refusal = FRAMEWORK[400]
            return _problem(400, refusal.code, "the body is nested too deeply", refusal.next_step, instance)
        case HTTPException(status_code=status) if status < 500:
            return _of_framework(error, instance)
        case _:
            return _problem(
                500,
                "internal_error",
                "something broke on our side; nothing was recorded that had not been acknowledged",
                "try again; if it happens again, give the operator the text under `instance`",
                instance,
            )


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """For the schema: the errors that an address answers with, besides the 500 that any may."""
    return {
        status: ResponseSpec(
            Problem, description=STATUS_TITLES[status], media_type=PROBLEM_JSON, generate_examples=False
        )
        for status in (400, *statuses, 503)
    }


def answer_with_problem(request: "Request[Any, Any, Any]", error: Exception) -> "Response[Any]":
    """The exception handler of the whole application."""
    problem = problem_of(error, f"urn:uuid:{request_id() or uuid7()}")
    expected = isinstance(error, LedgerError | ModelError)
    if problem.status >= 500 and not (expected and request.scope["path"] in QUIET):
        _logger.error(
            "request_failed", code=problem.code, instance=problem.instance, exc_info=None if expected else error
        )
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    headers.pop("content-type", None)
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.status == 503:
        headers["Retry-After"] = RETRY_SECONDS
    if problem.status == 429 and (seconds := headers.get("RateLimit-Reset")) is not None:
        headers["Retry-After"] = seconds
    if wants_page(request):
        context = {"problem": problem, "back": asked_page(request)}
        return Template("problem.html", context=context, status_code=problem.status, headers=headers)
    return Response(problem, media_type=PROBLEM_JSON, status_code=problem.status, headers=headers)


def wants_page(request: "Request[Any, Any, Any]") -> bool:
    """True for a browser that asks for something meant for people; the API answers in JSON whoever asks."""
    if request.scope["path"].startswith(("/v1/", "/.well-known", "/schema", "/healthz", "/readyz")):
        return False
    if "hx-request" in request.headers:  # our own page asks for a part of another, and takes whatever comes
        return True
    return request.accept.best_match([MediaType.JSON, MediaType.HTML]) == MediaType.HTML


def _of_framework(error: HTTPException, instance: str) -> Problem:
    """The framework answers 400 to a well-formed body with wrong fields; that is 422 here."""
    extra = error.extra if isinstance(error.extra, list) else []
    fields = [_field_error(each) for each in extra if isinstance(each, dict)]
    status = 422 if fields else error.status_code
    refusal = FRAMEWORK.get(status, OTHERWISE)
    detail = refusal.detail or "; ".join(f"{each.field}: {each.message}" for each in fields) or error.detail
    return _problem(status, refusal.code, detail, refusal.next_step, instance, fields)


def _field_error(said: dict[str, Any]) -> FieldError:
    """`data` is the handler's name for the body, and its own name as a message means that there is none."""
    field, message = str(said.get("key", "")), str(said.get("message", ""))
    if field == "data":
        return FieldError("body", "it is missing" if message == "'data'" else message)
    return FieldError(field, message)


def _problem(
    status: int, code: str, detail: str, next_step: str, instance: str, errors: list[FieldError] | None = None
) -> Problem:
    return Problem(
        type=TYPE_PREFIX + code,
        title=STATUS_TITLES.get(status, "Request refused" if status < 500 else "Service error"),
        status=status,
        detail=detail,
        code=code,
        next_step=next_step,
        instance=instance,
        errors=errors or [],
    )
