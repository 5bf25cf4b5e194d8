"""What changes the ledger: generations and stamps (a key is needed), verifications (none is)."""

import uuid
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, post
from litestar.concurrency import sync_to_thread
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import HeaderParameter, JSONBody, QueryParameter

from ledger.errors import BadRequest
from ledger.issue import accept_generation, accept_stamp
from ledger.lookup import RecordView
from ledger.requests import MAX_SEED
from ledger.runtime import Runtime
from ledger.verifications import accept_verification
from ledger.verify import Verification
from ledger.web.in_turn import in_turn
from ledger.web.problems import Unsupported, problems
from ledger.web.uploads import BARE_TYPES, Upload, read_upload
from ledger.web.waiting import MAX_WAIT, answer

MAX_MODEL_CHARS = 200
STAMP_FIELDS = ("model", "prompt", "prompt_commitment")

Wait = Annotated[
    float, QueryParameter(ge=0, le=MAX_WAIT, description="Seconds to wait for the result before the answer is 202.")
]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        pattern=r"^[\x20-\x7e]*$",
        description="Your own name for this request, at most 200 characters. Sent again it makes no second record.",
    ),
]

PENDING = {
    202: ResponseSpec(RecordView, description="Accepted; ask the address in Location again.", generate_examples=False)
}


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The image that is wanted. What is left out, the generator of this ledger chooses and the record tells."""

    prompt: str
    seed: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEED)] | None = None
    steps: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    width: Annotated[int, msgspec.Meta(ge=16, le=4096)] | None = None
    height: Annotated[int, msgspec.Meta(ge=16, le=4096)] | None = None
    guidance: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None


@dataclass
class StampOperation(Operation):
    def __post_init__(self) -> None:
        fields = {
            "file": Schema(type=OpenAPIType.STRING, content_media_type="image/*", description="PNG, JPEG or WebP."),
            "model": Schema(type=OpenAPIType.STRING, max_length=MAX_MODEL_CHARS, description="What you say made it."),
            "prompt": Schema(type=OpenAPIType.STRING, description="Kept in an erasable row; never in the log."),
            "prompt_commitment": Schema(
                type=OpenAPIType.STRING,
                pattern="^[0-9a-f]{64}$",
                description="Instead of the prompt: SHA-256('lawful-ledger/prompt/1' ‖ 0x00 ‖ salt ‖ SHA-256(prompt)).",
            ),
        }
        self.request_body = _form(fields)


@dataclass
class VerificationOperation(Operation):
    def __post_init__(self) -> None:
        image = Schema(type=OpenAPIType.STRING, content_media_type="image/*", description="Any PNG, JPEG or WebP.")
        self.request_body = _form({"file": image})
        for media_type in BARE_TYPES:
            self.request_body.content[media_type] = OpenAPIMediaType(schema=Schema())


def _form(fields: dict[str, Schema]) -> RequestBody:
    schema = Schema(type=OpenAPIType.OBJECT, properties=dict(fields), required=["file"])
    return RequestBody(content={"multipart/form-data": OpenAPIMediaType(schema=schema)}, required=True)


async def takes_json(connection: Any, _handler: Any) -> None:
    """Refuse (415) a body that is not declared as JSON, before it is read."""
    content_type = connection.headers.get("content-type", "none").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise Unsupported(f"Content-Type: {content_type[:80]} is not taken here", next_step="send application/json")


@post(
    "/v1/generations",
    guards=[takes_json],
    responses=PENDING | problems(401, 403, 409, 413, 415, 422),
    tags=["Writing"],
    security=[{"key": []}],
    summary="Make an image and record it",
    response_description="The issued record.",
)
async def make_generation(
    request: "Request[Any, Any, Any]",
    runtime: NamedDependency[Runtime],
    data: JSONBody[GenerationRequest],
    idempotency_key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response[RecordView]:
    """The image is made by the worker, compared with the collection, logged, and given a credential."""
    record_id = await sync_to_thread(_accept_generation, runtime, request.state.principal_id, data, idempotency_key)
    return await answer(runtime, "generation", record_id, wait)


@post(
    "/v1/stamps",
    responses=PENDING | problems(401, 403, 409, 413, 415, 422, 507),
    operation_class=StampOperation,
    tags=["Writing"],
    security=[{"key": []}],
    summary="Record an image made elsewhere",
    response_description="The issued record.",
)
async def make_stamp(
    request: "Request[Any, Any, Any]",
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response[RecordView]:
    """The ledger vouches for what it saw and when, never for how the image was made. An existing credential is kept."""
    upload = await read_upload(request, limit=runtime.settings.max_upload_bytes, bare=False)
    record_id = await in_turn(request, _accept_stamp, runtime, request.state.principal_id, upload, idempotency_key)
    return await answer(runtime, "stamp", record_id, wait)


@post(
    "/v1/verifications",
    responses=PENDING
    | {201: ResponseSpec(Verification, description="The finished look.", generate_examples=False)}
    | problems(401, 413, 415, 422, 429, 507),
    operation_class=VerificationOperation,
    tags=["Reading"],
    summary="Ask what can be said of an image",
)
async def make_verification(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], wait: Wait = 0
) -> Response[Any]:
    """No key is needed. The look is logged as an unlisted entry; the image itself is not kept."""
    upload = await read_upload(request, limit=runtime.settings.max_upload_bytes, bare=True)
    _only(upload, ())
    record_id = await in_turn(request, look_at, runtime, request.state.principal_id, upload)
    return await answer(runtime, "verification", record_id, wait)


def look_at(runtime: Runtime, principal_id: uuid.UUID | None, upload: Upload) -> uuid.UUID:
    """Accept a verification. Raises ImageError for bytes that are no image."""
    with runtime.sessions.begin() as session:
        return accept_verification(session, runtime, image=upload.data, principal_id=principal_id)


def _accept_generation(
    runtime: Runtime, principal_id: uuid.UUID, wish: GenerationRequest, idempotency_key: str | None
) -> uuid.UUID:
    with runtime.sessions.begin() as session:
        return accept_generation(
            session,
            principal_id=principal_id,
            prompt=wish.prompt,
            seed=wish.seed,
            parameters={"steps": wish.steps, "width": wish.width, "height": wish.height, "guidance": wish.guidance},
            idempotency_key=idempotency_key,
            max_prompt_chars=runtime.settings.max_prompt_chars,
        )


def _accept_stamp(runtime: Runtime, principal_id: uuid.UUID, upload: Upload, idempotency_key: str | None) -> uuid.UUID:
    _only(upload, STAMP_FIELDS)
    model = upload.fields.get("model") or None
    if model is not None and (len(model) > MAX_MODEL_CHARS or not model.isprintable()):
        raise BadRequest(
            f"model: {len(model)} characters; one line of at most {MAX_MODEL_CHARS} is wanted",
            code="model_malformed",
            next_step="send the model's name, or leave it out",
        )
    image = runtime.files.decode(upload.data)
    with runtime.sessions.begin() as session:
        return accept_stamp(
            session,
            runtime,
            principal_id=principal_id,
            image=upload.data,
            media_type=image.media_type,
            declared_model=model,
            prompt=upload.fields.get("prompt") or None,
            prompt_commitment=upload.fields.get("prompt_commitment") or None,
            idempotency_key=idempotency_key,
        )


def _only(upload: Upload, known: tuple[str, ...]) -> None:
    """A misspelt field must not be dropped in silence: a prompt sent as `promt` would otherwise go unrecorded."""
    unknown = sorted(set(upload.fields) - set(known))
    if unknown:
        raise BadRequest(
            f"{unknown[0][:40]!r} is no field of this form",
            code="form_malformed",
            next_step="send only: " + ", ".join(("file", *known)),
        )
