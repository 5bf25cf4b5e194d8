"""Schemathesis against the API's own description: what is sent follows it or breaks it, what is answered follows it."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import hypothesis
import psycopg
import pytest
import requests
import schemathesis
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from schemathesis.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.generation import GenerationMode

from ledger import genesis
from ledger.database.tables.records import Record
from ledger.runtime import Runtime, open_runtime, sequencing
from ledger.settings import Settings
from ledger.web.access import ACCESS

from .audited import token
from .claiming import claimed, somebody
from .http_ledger import api_key, generated, looked, png, served, stamped, with_a_port
from .reported import settings_of_the_module

pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("schema")]

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

FOR_PROGRAMS = ("/v1/", "/log/", "/.well-known", "/healthz", "/readyz")
DESCRIBED = sorted(f"{method} {path}" for method, path in ACCESS if path.startswith(FOR_PROGRAMS))

schemathesis.openapi.media_type("application/cose", st.binary(max_size=300))
schemathesis.openapi.media_type("application/cbor-seq", st.binary(max_size=300))
schemathesis.openapi.media_type("image/png", st.sampled_from([png(1), png(6)]) | st.binary(max_size=300))


@dataclass(frozen=True)
class Api:
    """A served ledger that holds one of everything: what it describes, names that exist, keys that open its doors."""

    address: str
    operations: dict[str, Any]
    known: dict[str, str]
    headers: dict[str, dict[str, str]]

    def named(self, operation: Any) -> dict[str, str]:
        """Path parameters under which there is something."""
        path = operation.path
        named = dict(self.known)
        for part, name in (("/stamps/", "stamp"), ("/verifications/", "look")):
            named["record_id"] = self.known[name] if part in path else named["record_id"]
        return {name: value for name, value in named.items() if f"{{{name}}}" in path}

    def headers_for(self, operation: Any) -> dict[str, str]:
        return self.headers["auditor" if operation.path.startswith("/v1/audit/") else "operator"]


@pytest.fixture(scope="module")
def api(
    superuser: psycopg.Connection, superuser_url: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    home = tmp_path_factory.mktemp("home")
    with settings_of_the_module(superuser, superuser_url, template, home) as given:
        settings = with_a_port(given).model_copy(update={"audit_pages_per_minute": 1_000_000})
        genesis.found(settings)
        with open_runtime(settings) as runtime, sequencing(runtime), served(runtime) as address:
            yield _filled(runtime, settings, address)


def _filled(runtime: Runtime, settings: Settings, address: str) -> Api:
    record_id, stamp, look = generated(runtime), stamped(runtime, png(2)), looked(runtime, png(3))
    with runtime.sessions() as session:
        record = session.get_one(Record, record_id)
        known = {
            "record_id": str(record_id),
            "stamp": str(stamp),
            "look": str(look),
            "claim_id": str(claimed(runtime, somebody(runtime), about=stamp, work=png(5))),
            "manifest_id": str(record.manifest_urn),
            "leaf_hash": session.scalars(sa.text("SELECT encode(leaf_hash, 'hex') FROM log_entries LIMIT 1")).one(),
            "shard": settings.origin.rpartition("/")[2],
            "path": "0/000.p/1",
            "index": "0",
            "name": f"{dt.datetime.now(dt.UTC):%Y}.ndjson",
        }
    schema = schemathesis.openapi.from_dict(
        httpx.get(f"{address}/schema/openapi.json", trust_env=False, timeout=120).json()
    )
    operations = [result.ok() for result in schema.get_all_operations()]
    return Api(
        address,
        {operation.label: operation for operation in operations},
        known,
        {
            "operator": {"Authorization": f"Bearer {api_key(runtime)}"},
            "auditor": {"Authorization": f"Bearer {token(runtime)}"},
        },
    )


def ask(api: Api, route: str, examples: int) -> None:
    """So many requests, which follow the schema, break it, or name something that exists. Raises what was broken."""
    operation = api.operations[route]
    kinds = [operation.as_strategy(), operation.as_strategy(GenerationMode.NEGATIVE)]
    if named := api.named(operation):
        kinds.append(operation.as_strategy(path_parameters=named))

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=st.one_of(kinds))
    def one(case: Any) -> None:
        if isinstance(case.query, dict):
            case.query.pop("wait", None)  # nobody works here: a wait would be one to its end
        response = case.call(base_url=api.address, session=session, headers=api.headers_for(operation), timeout=120)
        assert response.status_code != 500, response.text
        case.validate_response(response, checks=CHECKS)

    with requests.Session() as session:
        session.trust_env = False
        one()


def test_every_described_route_is_asked(api: Api) -> None:
    assert sorted(api.operations) == DESCRIBED


@pytest.mark.parametrize("route", DESCRIBED)
def test_a_few_requests_are_answered_as_the_schema_says(api: Api, route: str) -> None:
    ask(api, route, examples=4)


@pytest.mark.slow
@pytest.mark.parametrize("route", DESCRIBED)
def test_many_requests_are_answered_as_the_schema_says(api: Api, route: str) -> None:
    ask(api, route, examples=60)
