"""Every address, with every kind of key: who is let in, and that nobody else finds a way to write."""

import datetime as dt

import pytest
import sqlalchemy as sa

from ledger.commands.work import api_key_for
from ledger.database.tables.principals import ApiKey
from ledger.database.tables.records import Record
from ledger.runtime import Runtime
from ledger.web.access import ACCESS
from ledger.web.app import create_app

from .claiming import claimed, somebody
from .http_ledger import api_key, generated, looked, png, serving, stamped

pytestmark = pytest.mark.postgres

KEYS = ("none", "unknown", "revoked", "other scheme", "submitter", "auditor", "operator")
ID = "{record_id:uuid}"
CLAIM = "{claim_id:uuid}"
ARTIST = "/account/artists/{artist_id:uuid}"

# method, path → the status for each of KEYS
ANYONE = lambda status: dict.fromkeys(KEYS, status)  # noqa: E731
WRONG = {"none": 401, "unknown": 401, "revoked": 401, "other scheme": 401}
WRITER = lambda status=202: WRONG | {"submitter": status, "auditor": 403, "operator": status}  # noqa: E731
TABLE = {
    ("POST", "/v1/generations"): WRITER(),
    ("POST", "/v1/stamps"): WRITER(),
    ("POST", "/v1/verifications"): WRITER() | {"none": 202, "auditor": 202},
    ("GET", "/v1/standing"): WRONG | {"submitter": 403, "auditor": 200, "operator": 200},
    ("GET", f"/v1/generations/{ID}"): ANYONE(200),
    ("GET", f"/v1/stamps/{ID}"): ANYONE(200),
    ("GET", f"/v1/verifications/{ID}"): ANYONE(200),
    ("GET", "/v1/records"): ANYONE(200),
    ("GET", f"/v1/records/{ID}"): ANYONE(200),
    ("GET", f"/v1/records/{ID}/file"): ANYONE(200),
    ("GET", f"/v1/records/{ID}/report"): ANYONE(200),
    ("GET", f"/v1/records/{ID}/report.pdf"): ANYONE(200),
    ("GET", f"/v1/records/{ID}/evidence.zip"): ANYONE(200),
    ("GET", "/v1/schemas/report"): ANYONE(200),
    ("GET", f"/v1/records/{ID}/card"): ANYONE(200),
    ("GET", f"/v1/records/{ID}/proof"): ANYONE(200),
    ("GET", f"/v1/records/{ID}/receipt"): ANYONE(200),
    ("GET", "/v1/matches/byBinding"): ANYONE(400),  # nothing is asked for
    ("POST", "/v1/matches/byBinding"): ANYONE(400),
    ("POST", "/v1/matches/byContent"): ANYONE(200),
    ("GET", "/v1/manifests/{manifest_id:str}"): ANYONE(404),
    ("GET", "/v1/services/supportedAlgorithms"): ANYONE(200),
    ("GET", "/v1/services/capabilities"): ANYONE(200),
    ("GET", "/v1/services/status"): ANYONE(200),
    ("GET", "/.well-known/c2pa-soft-binding-resolution"): ANYONE(200),
    ("POST", "/v1/statements"): WRITER(400),  # nothing is sent
    ("POST", "/v1/statements/batch"): WRITER(400),
    ("GET", "/v1/statements/{leaf_hash:str}/proof"): ANYONE(404),
    ("GET", "/v1/statements/{leaf_hash:str}/receipt"): ANYONE(404),
    ("GET", "/v1/audit/entries"): ANYONE(401),  # an API key is no auditor's token
    ("GET", "/v1/audit/exports/{name:str}"): ANYONE(401),
    ("GET", "/v1/log"): ANYONE(200),
    ("GET", "/v1/log/proofs/{index:int}"): ANYONE(200),
    ("GET", "/v1/log/entries/{index:int}"): ANYONE(200),
    ("GET", "/log/policy"): ANYONE(200),
    ("GET", "/log/{shard:str}/checkpoint"): ANYONE(200),
    ("GET", "/log/{shard:str}/checkpoint/integrated"): ANYONE(200),
    ("GET", "/log/{shard:str}/tile/{path:path}"): ANYONE(200),
    ("GET", "/log/{shard:str}/timestamp"): ANYONE(404),  # no authority is set
    ("GET", "/v1/claims"): ANYONE(200),
    ("GET", "/v1/claims/rules"): ANYONE(200),
    ("GET", f"/v1/claims/{CLAIM}"): ANYONE(200),
    ("GET", f"/v1/claims/{CLAIM}/report"): ANYONE(404),  # not decided yet
    ("GET", f"/v1/claims/{CLAIM}/report.pdf"): ANYONE(404),
    ("GET", f"/v1/claims/{CLAIM}/evidence.zip"): ANYONE(404),
    ("GET", "/v1/schemas/claim-report"): ANYONE(200),
    ("POST", f"/v1/claims/{CLAIM}/answer"): WRITER(409) | {"submitter": 403},  # the record is another's
    ("POST", f"/v1/claims/{CLAIM}/appeal"): WRITER(409) | {"submitter": 403},
    # For people, who are known by a cookie: no key opens these (tests/integration/test_http_claims.py).
    ("GET", "/claims"): ANYONE(200),
    ("GET", f"/claims/{CLAIM}"): ANYONE(200),
    ("GET", "/claims/new"): ANYONE(403),
    ("POST", "/claims/new"): ANYONE(403),
    ("POST", f"/claims/{CLAIM}/withdraw"): ANYONE(403),
    ("POST", f"/claims/{CLAIM}/appeal"): ANYONE(403),
    ("POST", f"/claims/{CLAIM}/control"): ANYONE(403),
    ("POST", f"/claims/{CLAIM}/control/check"): ANYONE(403),
    ("GET", "/sign-in"): ANYONE(200),
    ("POST", "/sign-in"): ANYONE(400),
    ("GET", "/sign-in/{token:str}"): ANYONE(200),
    ("POST", "/sign-in/{token:str}"): ANYONE(403),
    ("POST", "/sign-out"): ANYONE(303),
    ("GET", "/account"): ANYONE(403),
    ("GET", ARTIST): ANYONE(403),
    ("POST", f"{ARTIST}/grants"): ANYONE(403),
    ("POST", f"{ARTIST}/works/{{work_id:uuid}}/grants"): ANYONE(403),
    ("POST", f"{ARTIST}/enrolments"): ANYONE(403),
    ("POST", f"{ARTIST}/webhook"): ANYONE(403),
    ("POST", f"{ARTIST}/webhook/remove"): ANYONE(403),
    ("POST", f"{ARTIST}/control"): ANYONE(403),
    ("POST", f"{ARTIST}/control/check"): ANYONE(403),
    ("GET", "/healthz"): ANYONE(200),
    ("GET", "/readyz"): ANYONE(503),  # no worker runs beside these tests
    ("GET", "/"): ANYONE(200),
    ("POST", "/"): ANYONE(303),
    ("GET", f"/v/{ID}"): ANYONE(200),
    ("GET", "/r"): ANYONE(303),
    ("GET", "/r/{name:str}"): ANYONE(200),
    ("GET", "/log"): ANYONE(200),
    ("GET", "/about"): ANYONE(200),
    ("GET", "/works/{work_id:uuid}"): ANYONE(404),  # nothing is indexed
    ("GET", "/works/{work_id:uuid}/preview"): ANYONE(404),
    ("GET", "/works/{work_id:uuid}/feed"): ANYONE(404),
    ("GET", "/artists/{artist_id:uuid}"): ANYONE(404),
    ("GET", "/artists/{artist_id:uuid}/feed"): ANYONE(404),
    ("GET", "/docs"): ANYONE(200),
    ("GET", "/pictures/{name:str}"): ANYONE(404),  # the name that is asked for is no picture's
    ("GET", "/schema"): ANYONE(200),
    ("GET", "/schema/openapi.json"): ANYONE(200),
    ("GET", "/schema/{path:str}"): ANYONE(404),
    ("GET", "/static/{file_path:path}"): ANYONE(200),
}


def test_every_route_lets_in_exactly_whom_the_table_says(runtime: Runtime) -> None:
    generation, stamp, look = generated(runtime), stamped(runtime, png(2)), looked(runtime, png(3))
    claim = claimed(runtime, somebody(runtime), about=stamp, work=png(5))
    ids = {"/v1/stamps": stamp, "/v1/verifications": look, "/v/": look}
    sent = {
        "none": None,
        "unknown": "Bearer lawful_nobody",
        "revoked": f"Bearer {_revoked_key(runtime)}",
        "other scheme": f"Basic {api_key(runtime)}",
        "operator": f"bearer {api_key(runtime)}",
        "submitter": f"Bearer {_key_of(runtime, 'submitter')}",
        "auditor": f"Bearer {_key_of(runtime, 'auditor')}",
    }
    bodies = {
        "/v1/generations": {"json": {"prompt": "a boat"}},
        f"/v1/claims/{CLAIM}/answer": {"json": {"words": "no"}},
        f"/v1/claims/{CLAIM}/appeal": {"json": {"words": "no"}},
        "/r": {"params": {"name": "0" * 64}},
        "/v1/records": {"params": {"file_sha256": "0" * 64}},
        "/v1/matches/byBinding": {"json": {}},
        "/v1/statements": {"headers": {"Content-Type": "application/cose"}},
        "/v1/statements/batch": {"headers": {"Content-Type": "application/cbor-seq"}},
    }
    form = {"files": {"file": ("a.png", png(4))}}
    wrong = []
    with serving(runtime) as client:
        routes = {(method, route.path) for route in client.app.routes for method in route.methods - {"OPTIONS", "HEAD"}}
        assert routes == set(TABLE), "a route without a row in the table, or a row without a route"
        for (method, path), expected in TABLE.items():
            record_id = next((found for prefix, found in ids.items() if path.startswith(prefix)), generation)
            address = path.replace(CLAIM, str(claim)).replace("{token:str}", "nothing")
            address = address.replace(ID, str(record_id)).replace("{name:str}", str(generation))
            address = address.replace("{shard:str}", runtime.shard).replace("{path:path}", "0/000.p/1")
            address = address.replace("{work_id:uuid}", str(generation)).replace("{artist_id:uuid}", str(generation))
            address = address.replace("{leaf_hash:str}", "ab" * 32).replace("{index:int}", "0")
            address = address.replace("{path:str}", "nothing").replace("{file_path:path}", "style.css")
            for key in KEYS:
                request = dict(bodies.get(path, form if method == "POST" else {}))
                headers = request.pop("headers", {}) | ({"Authorization": sent[key]} if sent[key] else {})
                response = client.request(method, address, headers=headers, follow_redirects=False, **request)
                if response.status_code != expected[key]:
                    wrong.append((method, path, key, response.status_code, expected[key], response.text[:200]))
                if response.status_code == 401:
                    assert response.headers["www-authenticate"] == "Bearer"
    assert not wrong


def test_a_refused_write_leaves_nothing_behind(runtime: Runtime) -> None:
    with serving(runtime) as client:
        for path, request in (
            ("/v1/generations", {"json": {"prompt": "a boat"}}),
            ("/v1/stamps", {"files": {"file": ("a.png", png())}}),
        ):
            assert client.post(path, **request).status_code == 401
    with runtime.sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Record)) == 0
    assert not list(runtime.settings.files_folder.rglob("*.*"))


@pytest.mark.parametrize("key", ["none", "submitter", "auditor"])
def test_no_key_over_http_makes_keys_changes_grants_or_erases(runtime: Runtime, key: str) -> None:
    """What only an operator may do is typed on the ledger's machine: no route is named like it."""
    with serving(runtime) as client:
        headers = {} if key == "none" else {"Authorization": f"Bearer {_key_of(runtime, key)}"}
        for path in ("/v1/keys", "/v1/grants", "/v1/erasures", "/v1/records/1", "/admin", "/metrics", "/debug"):
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                assert client.request(method, path, headers=headers).status_code in {404, 405}


def test_a_route_without_a_row_keeps_the_application_from_starting(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(ACCESS, ("GET", "/v1/standing"))
    with pytest.raises(LookupError, match="/v1/standing"):
        create_app(runtime.settings, runtime)


def test_the_schema_asks_for_a_key_exactly_where_the_table_does(runtime: Runtime) -> None:
    with serving(runtime) as client:
        paths = client.get("/schema/openapi.json").json()["paths"]
    said = {
        (method.upper(), path)
        for path, methods in paths.items()
        for method, told in methods.items()
        if "security" in told
    }
    assert said == {route for route, access in ACCESS.items() if not access.public}


def test_a_method_that_is_asked_for_by_options_needs_no_key_and_does_nothing(runtime: Runtime) -> None:
    with serving(runtime) as client:
        answered = client.options("/v1/stamps")
    assert (answered.status_code, answered.headers["allow"]) == (204, "OPTIONS, POST")


def _key_of(runtime: Runtime, role: str) -> str:
    with runtime.sessions.begin() as session:
        return api_key_for(session, f"somebody who is {role}", None, role)


def _revoked_key(runtime: Runtime) -> str:
    key = api_key(runtime)
    with runtime.sessions.begin() as session:
        newest = session.scalars(sa.select(ApiKey).order_by(ApiKey.id.desc())).first()
        assert newest is not None
        newest.revoked_at = dt.datetime.now(dt.UTC)
    return key
