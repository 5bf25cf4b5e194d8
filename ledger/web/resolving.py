"""The C2PA Soft Binding Resolution API 2.4: a picture that lost its credential gets it back.

Both mandatory parts and of the optional ones `queryByContent`: what is advertised is what is here. Reading is open to
everybody, so the specification's OAuth2 scopes, which are for stores that are not, are not asked for. Manifests come in
through the ledger's own records only.
"""

import datetime as dt
from typing import Annotated, Any, Literal

import msgspec
import sqlalchemy as sa
from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.exceptions import ValidationException
from litestar.params import FromPath, JSONBody, QueryParameter

from attribution.fingerprints import image_code
from ledger import bindings
from ledger.bindings import ManifestMatch
from ledger.errors import BadRequest, LedgerError
from ledger.runtime import Runtime
from ledger.web.in_turn import in_turn
from ledger.web.log import ANYWHERE
from ledger.web.problems import answer_with_problem, problem_of, problems
from ledger.web.uploads import read_upload
from ledger.web.writing import VerificationOperation, takes_json

MANIFEST = "application/c2pa"
MAX_QUERY_CHARS = 2048
"""Of a value in an address; a longer one is for POST."""

CAPABILITIES = ["queryByContent"]

Alg = Annotated[str, QueryParameter(description=f"The soft binding algorithm: {bindings.ALG}.")]
Value = Annotated[str, QueryParameter(description="Base64 of an ISCC-SEQ, or of the ISCC as text.")]
MaxResults = Annotated[
    int, QueryParameter(name="maxResults", ge=1, description=f"No more than {bindings.MAX_RESULTS} are given.")
]
ReturnActiveManifest = Annotated[
    bool, QueryParameter(name="returnActiveManifest", description="This manifest without those of its ingredients.")
]


class BindingQuery(msgspec.Struct, frozen=True):
    alg: str
    value: str


class Matches(msgspec.Struct, frozen=True):
    """An empty list says nothing about how an image was made."""

    matches: list[ManifestMatch]


class Algorithm(msgspec.Struct, frozen=True):
    alg: str


class Algorithms(msgspec.Struct, frozen=True):
    watermarks: list[Algorithm]
    fingerprints: list[Algorithm]


class Capabilities(
    msgspec.Struct, frozen=True, rename={"version": "c2paSpecificationVersion", "supported": "supportedCapabilities"}
):
    version: str
    supported: list[str]


class Status(msgspec.Struct, frozen=True):
    status: Literal["ok", "degraded", "down"]
    timestamp: str


class Discovery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    api_endpoint: str
    version: str = msgspec.field(name="c2paSpecificationVersion")
    capabilities_endpoint: str
    status_endpoint: str


@get(
    "/v1/matches/byBinding",
    sync_to_thread=True,
    tags=["Recovery"],
    summary="Manifests by a soft binding",
    response_description="The manifests, nearest first, which may be none.",
    responses=problems(414),
)
def query_by_binding(
    runtime: NamedDependency[Runtime], alg: Alg, value: Value, max_results: MaxResults = 10
) -> Response[Matches]:
    """Credentials of this ledger whose ISCC Image-Code is near. What looks alike may still be another picture."""
    if len(value) > MAX_QUERY_CHARS:
        raise LedgerError(
            f"value: {len(value)} characters; in an address at most {MAX_QUERY_CHARS}",
            code="query_too_long",
            status=414,
            next_step="send it with POST",
        )
    return _found(runtime, bindings.codes_of(alg, value), max_results)


@post(
    "/v1/matches/byBinding",
    sync_to_thread=True,
    status_code=200,
    guards=[takes_json],
    tags=["Recovery"],
    summary="Manifests by a soft binding of any length",
    response_description="The manifests, nearest first, which may be none.",
    responses=problems(413, 415),
)
def query_by_large_binding(
    runtime: NamedDependency[Runtime], data: JSONBody[BindingQuery], max_results: MaxResults = 10
) -> Response[Matches]:
    """As GET, with alg and value in the body."""
    return _found(runtime, bindings.codes_of(data.alg, data.value), max_results)


@post(
    "/v1/matches/byContent",
    status_code=200,
    operation_class=VerificationOperation,
    tags=["Recovery"],
    summary="Manifests by the picture itself",
    response_description="The manifests, nearest first, which may be none.",
    responses=problems(413, 415, 422, 429),
)
async def query_by_content(
    request: "Request[Any, Any, Any]",
    runtime: NamedDependency[Runtime],
    alg: Alg = bindings.ALG,
    max_results: MaxResults = 10,
) -> Response[Matches]:
    """The ISCC is computed here; the picture is neither kept nor compared with works, and nothing is logged."""
    bindings.check_alg(alg)
    upload = await read_upload(request, limit=runtime.settings.max_upload_bytes, bare=True)

    def search() -> Response[Matches]:
        return _found(runtime, [image_code(runtime.files.decode(upload.data).pixels)], max_results)

    return await in_turn(request, search)


@get(
    "/v1/manifests/{manifest_id:str}",
    sync_to_thread=True,
    tags=["Recovery"],
    summary="A manifest store",
    response_description="The manifest store, byte for byte as the issued file holds it.",
    media_type=MANIFEST,
    responses=problems(404),
)
def read_manifest(
    runtime: NamedDependency[Runtime],
    manifest_id: FromPath[str],
    return_active_manifest: ReturnActiveManifest = False,
) -> Response[bytes]:
    """By the identifier of its active manifest. Its hard binding fits the issued file alone, no copy saved again."""
    with runtime.reading() as session:
        store = bindings.manifest_store(session, runtime.storage, manifest_id, alone=return_active_manifest)
    return Response(store, media_type=MANIFEST, headers=ANYWHERE | {"Cache-Control": "no-cache"})


@get(
    "/v1/services/supportedAlgorithms",
    tags=["Recovery"],
    summary="Which soft bindings are searched",
    sync_to_thread=False,
)
def read_algorithms() -> Response[Algorithms]:
    """Names from C2PA's list of soft binding algorithms."""
    return Response(Algorithms(watermarks=[], fingerprints=[Algorithm(bindings.ALG)]), headers=ANYWHERE)


@get("/v1/services/capabilities", tags=["Recovery"], summary="Which optional parts are here", sync_to_thread=False)
def read_capabilities() -> Response[Capabilities]:
    """Of C2PA's Soft Binding Resolution API."""
    return Response(Capabilities(bindings.SPECIFICATION, CAPABILITIES), headers=ANYWHERE)


@get("/v1/services/status", tags=["Recovery"], summary="Whether manifests can be found now", sync_to_thread=True)
def read_status(runtime: NamedDependency[Runtime]) -> Response[Status]:
    """`down` while the database does not answer. Neither worker nor log is needed to find a manifest."""
    try:
        with runtime.reading() as session:
            session.execute(sa.select(1))
        status: Literal["ok", "down"] = "ok"
    except (LedgerError, sa.exc.SQLAlchemyError):
        status = "down"
    now = runtime.clock().astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Response(Status(status, now), headers=ANYWHERE)


@get(
    "/.well-known/c2pa-soft-binding-resolution",
    tags=["Recovery"],
    summary="Where the Soft Binding Resolution API is",
    sync_to_thread=False,
)
def discover(runtime: NamedDependency[Runtime]) -> Response[Discovery]:
    """For C2PA clients that know this host only (RFC 8615)."""
    base = f"{runtime.settings.public_url.rstrip('/')}/v1"
    found = Discovery(
        api_endpoint=base,
        version=bindings.SPECIFICATION,
        capabilities_endpoint=f"{base}/services/capabilities",
        status_endpoint=f"{base}/services/status",
    )
    return Response(found, headers=ANYWHERE)


def _found(runtime: Runtime, codes: list[str], limit: int) -> Response[Matches]:
    with runtime.reading() as session:
        return Response(Matches(bindings.matches(session, codes, limit)), headers=ANYWHERE)


def _malformed(request: "Request[Any, Any, Any]", error: ValidationException) -> "Response[Any]":
    """The specification has 400 for what is 422 elsewhere here."""
    return answer_with_problem(
        request,
        BadRequest(
            problem_of(error, "").detail,
            code="query_malformed",
            next_step="send alg, value and maxResults as the C2PA Soft Binding Resolution API has them",
        ),
    )


def routes(content_limit: int) -> list[Router]:
    """The API's routes; `content_limit`: bytes of the body of `byContent`."""
    handlers: dict[Any, Any] = {ValidationException: _malformed}
    small = (
        query_by_binding,
        query_by_large_binding,
        read_manifest,
        read_algorithms,
        read_capabilities,
        read_status,
        discover,
    )
    return [
        Router("/", route_handlers=small, exception_handlers=handlers),
        Router(
            "/", route_handlers=[query_by_content], exception_handlers=handlers, request_max_body_size=content_limit
        ),
    ]
