"""What a caller asks for: its words checked, and the record that its Idempotency-Key names, made once."""

import hashlib
import re
import uuid
from collections.abc import Mapping
from typing import Any

import rfc8785
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from ledger.database.tables.records import Record
from ledger.erasure import refuse_erased
from ledger.errors import BadRequest, Conflict

MAX_SEED = 2**53 - 1  # what JSON readers in every language can hold
MAX_MODEL_CHARS = 200
MAX_KEY_CHARS = 200


def record_of(
    session: Session, kind: str, principal_id: uuid.UUID, idempotency_key: str | None, request: Mapping[str, Any]
) -> tuple[uuid.UUID, bool]:
    """A new record in state `accepted`, or the one this principal's key already names: (id, is new).

    Raises BadRequest `idempotency_key_too_long`, Conflict `idempotency_key_reused` for another request under the key,
    NotFound `record_redacted` for one whose record was deleted.
    """
    request_sha256 = hashlib.sha256(rfc8785.dumps(_jsonable(request))).digest()
    key = idempotency_key or str(uuid7())
    if len(key) > MAX_KEY_CHARS:
        raise BadRequest(
            f"Idempotency-Key: {len(key)} characters, at most {MAX_KEY_CHARS}",
            code="idempotency_key_too_long",
            next_step="send a UUID",
        )
    refuse_erased(session, principal_id, idempotency_key)
    inserted = session.execute(
        insert(Record)
        .values(
            id=uuid7(),
            kind=kind,
            state="accepted",
            listed=False,
            principal_id=principal_id,
            idempotency_key=key,
            request_sha256=request_sha256,
        )
        .on_conflict_do_nothing(index_elements=["principal_id", "idempotency_key"])
        .returning(Record.id)
    ).scalar()
    if inserted is not None:
        return inserted, True
    known = session.execute(
        sa.select(Record.id, Record.kind, Record.request_sha256).where(
            Record.principal_id == principal_id, Record.idempotency_key == key
        )
    ).one()
    if (known.kind, known.request_sha256) != (kind, request_sha256):
        raise Conflict(
            "this Idempotency-Key was used for another request",
            code="idempotency_key_reused",
            next_step="send a new key for a new request, or the very same request again",
        )
    return known.id, False


def check_prompt(prompt: str, limit: int) -> None:
    """Raises BadRequest `prompt_empty`, `prompt_too_long` (`limit` in characters), `prompt_malformed`."""
    if not prompt.strip():
        raise BadRequest("prompt: it is empty", code="prompt_empty", next_step="say what the picture should show")
    if len(prompt) > limit:
        raise BadRequest(
            f"prompt: {len(prompt)} characters, at most {limit}", code="prompt_too_long", next_step="shorten the prompt"
        )
    try:
        encoded = prompt.encode()
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise BadRequest(
            "prompt: it holds a character that is no text (NUL or half a surrogate pair)",
            code="prompt_malformed",
            next_step="send it as UTF-8 without control characters",
        )


def check_seed(seed: int | None) -> None:
    """Raises BadRequest `seed_refused`."""
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise BadRequest(
            f"seed: {seed:.3g} is outside 0 to 2^53 - 1",
            code="seed_refused",
            next_step="choose a smaller number, or none",
        )


def check_declared(model: str | None, prompt: str | None, prompt_commitment: str | None) -> None:
    """What a submitter says of an image made elsewhere.

    Raises BadRequest `prompt_twice`, `model_malformed`, `prompt_commitment_malformed`.
    """
    if prompt is not None and prompt_commitment is not None:
        raise BadRequest(
            "prompt and prompt_commitment: both were given",
            code="prompt_twice",
            next_step="send the prompt, or keep it and send its commitment",
        )
    if model is not None and not (len(model) <= MAX_MODEL_CHARS and model.isprintable()):
        raise BadRequest(
            f"model: one line of at most {MAX_MODEL_CHARS} characters is wanted, {len(model)} were given",
            code="model_malformed",
            next_step="name the model as its maker does",
        )
    if prompt_commitment is not None and not re.fullmatch("[0-9a-f]{64}", prompt_commitment):
        raise BadRequest(
            "prompt_commitment: 64 lower-case hex digits are wanted",
            code="prompt_commitment_malformed",
            next_step="send SHA256('lawful-ledger/prompt/1' ‖ 0x00 ‖ salt ‖ SHA256(prompt)) in hex, or leave it out",
        )


def _jsonable(request: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 8785 refuses integers beyond 2^53, which a caller may send; they are refused by name before or later."""
    return {key: str(value) if isinstance(value, int) else value for key, value in request.items()}
