"""No secret is compared with one that is kept: it is looked up by its SHA-256, so no time tells how much is right.

Seen at the database: what is asked for is the digest, and neither the secret nor a part of it is ever sent there.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from ledger.claims import identities
from ledger.runtime import Runtime
from ledger.web.sessions import cookie_name

from ..integration.audited import bearer, token  # noqa: TID252 - tests are no package
from ..integration.http_ledger import api_key, serving  # noqa: TID252

pytestmark = pytest.mark.postgres

PART = 8  # characters of a secret that are not sent in a row either


@contextmanager
def sent(runtime: Runtime) -> Iterator[list[object]]:
    """Every value that goes to the database meanwhile."""
    values: list[object] = []

    def note(_connection: object, _cursor: object, _statement: str, parameters: Any, *_: object) -> None:
        several = parameters if isinstance(parameters, list) else [parameters]
        plain = (value for each in several for value in (each.values() if isinstance(each, dict) else each))
        values.extend(getattr(value, "obj", value) for value in plain)  # bytes come in the driver's wrapper

    sa.event.listen(runtime.database.engine, "before_cursor_execute", note)
    try:
        yield values
    finally:
        sa.event.remove(runtime.database.engine, "before_cursor_execute", note)


def assert_by_digest(values: list[object], secret: str) -> None:
    assert hashlib.sha256(secret.encode()).digest() in values
    parts = [secret[start : start + PART] for start in range(len(secret) - PART + 1)]
    unique = [part for part in parts if part not in "lawful_audit_"]
    for value in values:
        text = bytes(value).decode("latin-1") if isinstance(value, bytes | bytearray | memoryview) else str(value)
        assert not any(part in text for part in unique)


def test_keys_tokens_cookies_and_links_are_looked_up_by_their_digest(runtime: Runtime) -> None:
    key, shown = api_key(runtime), token(runtime)
    with runtime.sessions.begin() as session:
        now = runtime.clock()
        cookie = identities.sign_in(session, identities.new_link(session, "jane@example.org", now), now)
        link = identities.new_link(session, "jane@example.org", now)
    name = cookie_name(runtime.settings)
    asked = {
        key: ("GET", "/v1/standing", bearer(key), 200),
        shown: ("GET", "/v1/audit/entries", bearer(shown), 200),
        cookie: ("GET", "/account", {"cookie": f"{name}={cookie}"}, 200),
        link: ("POST", f"/sign-in/{link}", {}, 303),
    }
    with serving(runtime) as client:
        for secret, (method, address, headers, status) in asked.items():
            with sent(runtime) as values:
                answer = client.request(method, address, headers=headers, follow_redirects=False)
            assert answer.status_code == status, address
            assert_by_digest(values, secret)


def test_a_key_that_is_nearly_right_is_refused_in_the_words_of_one_that_is_not(runtime: Runtime) -> None:
    key = api_key(runtime)
    wrong = (key[:-1] + ("A" if key[-1] != "A" else "B"), "lawful_" + "A" * 43, "x", key.upper(), key + "x")
    with serving(runtime) as client:
        answers = [client.get("/v1/standing", headers=bearer(each)) for each in wrong]
        assert client.get("/v1/standing", headers=bearer(key)).status_code == 200
    told = [{**each.json(), "instance": ""} for each in answers]
    assert [each.status_code for each in answers] == [401] * len(wrong)
    assert all(each == told[0] for each in told)
