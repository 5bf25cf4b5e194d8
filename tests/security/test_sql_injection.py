"""What looks like SQL is text: in every query parameter and path, in forms, bodies and headers."""

import time
import urllib.parse
from typing import Any

import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from ledger import api_keys
from ledger.database.tables.principals import ApiKey
from ledger.runtime import Runtime
from ledger.web.access import ACCESS

from ..integration.audited import bearer, token  # noqa: TID252 - tests are no package
from ..integration.http_ledger import looked, png, serving  # noqa: TID252

pytestmark = pytest.mark.postgres

SLEEP = 30
HOSTILE = (
    "' OR '1'='1",
    "'; DROP TABLE api_keys; --",
    "' UNION SELECT encode(key_sha256, 'hex') FROM api_keys --",
    f"'; SELECT pg_sleep({SLEEP}); --",
    f"1 OR pg_sleep({SLEEP}) IS NULL",
    "\\'; --",
    "$$; SELECT 1; $$",
    "%' OR 1=1 --",
)


def names(client: TestClient[Any]) -> list[str]:
    """Every query parameter that any address knows."""
    paths = client.get("/schema/openapi.json").json()["paths"]
    found = {
        each["name"]
        for methods in paths.values()
        for told in methods.values()
        for each in told.get("parameters", ())
        if each["in"] == "query"
    }
    assert len(found) > 10
    return sorted(found | {"after", "before", "about", "page"})  # the last ones are pages' own


@pytest.fixture
def hidden(runtime: Runtime) -> list[str]:
    """What no answer to any of it may hold: an unlisted record's id, and keys' digests."""
    look = looked(runtime, png(3))
    with runtime.sessions() as session:
        return [str(look), *(each.hex() for each in session.scalars(sa.select(ApiKey.key_sha256)))]


def check(answer: Any, hidden: list[str]) -> None:
    assert answer.status_code < 500, (answer.request.url, answer.text)
    assert answer.elapsed.total_seconds() < SLEEP, answer.request.url
    assert not any(each in answer.text for each in hidden), answer.request.url
    assert "syntax error" not in answer.text
    assert "psycopg" not in answer.text


def test_every_query_parameter_and_path_of_every_address(runtime: Runtime, hidden: list[str]) -> None:
    shown = token(runtime)
    with serving(runtime) as client:
        parameters = names(client)
        for hostile in HOSTILE:
            written = urllib.parse.quote(hostile, safe="")
            for method, path in sorted(ACCESS):
                if method != "GET" or path == "/readyz":  # 503 without a worker
                    continue
                key = bearer(shown) if path.startswith("/v1/audit") else {}
                parts = ["x" if part == "{shard}" else part for part in path.split("/")]
                address = "/".join(written if part.startswith("{") else part for part in parts)
                check(client.get(address, headers=key, follow_redirects=False), hidden)
                whole = address.replace(written, "0" * 64)
                if path in {"/v1/audit/entries", "/v1/records", "/v1/claims", "/claims", "/r", "/log"}:
                    for name in parameters:
                        answer = client.get(whole, params={name: hostile}, headers=key, follow_redirects=False)
                        check(answer, hidden)
                else:
                    everything = dict.fromkeys(parameters, hostile)
                    check(client.get(whole, params=everything, headers=key, follow_redirects=False), hidden)
    with runtime.sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(ApiKey)) == 1


def test_forms_bodies_and_headers_are_text(runtime: Runtime, hidden: list[str]) -> None:
    with runtime.sessions.begin() as session:
        admin = bearer(api_keys.make(session, runtime, "admin", "admin", "test")[1])
        writer = bearer(api_keys.make(session, runtime, "writer", "submitter", "test")[1])
    began = time.monotonic()
    with serving(runtime) as client:
        for number, hostile in enumerate(HOSTILE):
            check(client.post("/sign-in", data={"email": f"a{hostile}@example.org"}), hidden)
            check(client.get("/account", headers={"cookie": f"lawful={urllib.parse.quote(hostile)}"}), hidden)
            check(client.get("/v1/standing", headers=bearer(hostile)), hidden)
            check(client.post("/v1/matches/byBinding", json={"value": hostile, "alg": hostile}), hidden)
            said = {"files": {"file": (hostile, png(number + 5))}, "data": {"model": hostile, "prompt": hostile}}
            check(client.post("/v1/stamps", headers=writer | {"Idempotency-Key": hostile}, **said), hidden)
            made = client.post("/v1/keys", json={"name": hostile, "generator": hostile}, headers=admin)
            assert made.status_code == 201, made.text
        listed = [each["name"] for each in client.get("/v1/keys", headers=admin).json()["keys"]]
    assert set(HOSTILE) <= set(listed)
    assert time.monotonic() - began < SLEEP * len(HOSTILE)
