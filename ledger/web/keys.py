"""API keys over HTTP, for an admin: who has one, another one, and the end of one.

An admin's own key is made on the ledger's machine alone (`lawful keys api NAME --role admin`): whoever steals one
cannot make himself a second, and what he makes or revokes stands in the log.
"""

import datetime as dt
import uuid
from typing import Annotated, Literal

import msgspec
from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from ledger import api_keys
from ledger.runtime import Runtime
from ledger.web.problems import problems

GivenRole = Literal["submitter", "operator", "auditor"]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class KeyWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose key it becomes. `generator`: their stamps that declare this model may say that AI made the image."""

    name: Name
    role: GivenRole = "submitter"
    generator: str | None = None


class MadeKey(msgspec.Struct, frozen=True):
    """`api_key` is shown here and never again."""

    id: uuid.UUID
    name: str
    role: str
    api_key: str


class KeyView(msgspec.Struct, frozen=True):
    """A key without what opens anything."""

    id: uuid.UUID
    name: str
    role: str
    created_at: dt.datetime
    revoked_at: dt.datetime | None


class Keys(msgspec.Struct, frozen=True):
    keys: list[KeyView]


@get(
    "/v1/keys",
    sync_to_thread=True,
    tags=["Administration"],
    security=[{"key": []}],
    summary="All API keys",
    response_description="The oldest first, without what opens anything.",
    responses=problems(401, 403),
)
def read_keys(runtime: NamedDependency[Runtime]) -> Keys:
    """For an admin: which keys there are, whose, and which were revoked."""
    with runtime.reading() as session:
        found = api_keys.keys(session)
    return Keys([KeyView(each.id, each.name, each.role, each.created_at, each.revoked_at) for each in found])


@post(
    "/v1/keys",
    sync_to_thread=True,
    tags=["Administration"],
    security=[{"key": []}],
    summary="Make an API key",
    response_description="The key, shown once.",
    responses=problems(401, 403, 409, 413, 415, 422),
)
def make_key(runtime: NamedDependency[Runtime], data: JSONBody[KeyWish]) -> MadeKey:
    """For an admin. Where the name is known it is one key more with the same rights. The log tells of it, unnamed."""
    with runtime.sessions.begin() as session:
        key_id, key = api_keys.make(session, runtime, data.name, data.role, "made over HTTP", data.generator)
    return MadeKey(key_id, data.name, data.role, key)


@delete(
    "/v1/keys/{key_id:uuid}",
    sync_to_thread=True,
    tags=["Administration"],
    security=[{"key": []}],
    summary="Revoke an API key",
    responses=problems(401, 403, 404),
)
def revoke_key(runtime: NamedDependency[Runtime], key_id: FromPath[uuid.UUID]) -> None:
    """For an admin. It opens nothing from the next request on; twice is once. The log tells of it."""
    with runtime.sessions.begin() as session:
        api_keys.revoke(session, runtime, key_id)
