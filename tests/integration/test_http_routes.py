"""Every address with every role, and by whose it is: who is let in, and that nobody else finds a way to write."""

import re
import uuid

import pytest
import sqlalchemy as sa

from ledger import api_keys
from ledger.claims import identities
from ledger.database.tables.claims import Identity
from ledger.database.tables.log import LogEntry, LogOutbox
from ledger.database.tables.principals import Principal
from ledger.database.tables.records import Record
from ledger.log.statements import parse_statement
from ledger.runtime import Runtime
from ledger.web.access import ACCESS
from ledger.web.app import create_app
from ledger.web.sessions import cookie_name

from .audited import artist, bearer, token
from .claiming import claimed
from .desks import link
from .http_ledger import api_key, generated, looked, png, serving, stamped

pytestmark = pytest.mark.postgres

# By what they send: a key or nothing good, an auditor's token, or the cookie of a session.
STRANGERS = ("none", "unknown", "revoked", "other scheme")
HOLDERS = ("submitter", "owner", "operator", "auditor", "admin")  # owner: the submitter whose record it is
TOKENS = ("entries token", "exports token")
PEOPLE = ("person", "claimant", "artist", "another artist")  # the claim is the claimant's, the address the artist's
CALLERS = (*STRANGERS, *HOLDERS, *TOKENS, *PEOPLE)

KEY = "{key_id:uuid}"
ID = "{record_id:uuid}"
CLAIM = "{claim_id:uuid}"
ARTIST = "/account/artists/{artist_id:uuid}"

Row = dict[str, int]


def anyone(status: int) -> Row:
    return dict.fromkeys(CALLERS, status)


def keys(status: int, *roles: str, **others: int) -> Row:
    """Holders of keys of these roles; other keys are refused, and who has none is asked for one."""
    return anyone(401) | dict.fromkeys(HOLDERS, 403) | dict.fromkeys(roles, status) | others


def writers(status: int, **others: int) -> Row:
    return keys(status, "submitter", "owner", "operator", **others)


def people(status: int, **others: int) -> Row:
    """Whoever is signed in; no key opens it."""
    return anyone(403) | dict.fromkeys(PEOPLE, status) | {name.replace("_", " "): told for name, told in others.items()}


def the_artist(status: int) -> Row:
    """Who is signed in and somebody else is told that there is no such desk."""
    return people(404, artist=status)


# method, path → the status for each of CALLERS
TABLE = {
    ("POST", "/v1/generations"): writers(202),
    ("POST", "/v1/stamps"): writers(202),
    ("POST", "/v1/verifications"): anyone(202) | dict.fromkeys((*STRANGERS[1:], *TOKENS), 401),
    ("GET", "/v1/standing"): keys(200, "operator", "auditor", "admin"),
    ("GET", "/v1/keys"): keys(200, "admin"),
    ("POST", "/v1/keys"): keys(201, "admin"),
    ("DELETE", f"/v1/keys/{KEY}"): keys(404, "admin"),  # there is no such key
    ("GET", f"/v1/generations/{ID}"): anyone(200),
    ("GET", f"/v1/stamps/{ID}"): anyone(200),
    ("GET", f"/v1/verifications/{ID}"): anyone(200),
    ("GET", "/v1/records"): anyone(200),
    ("GET", f"/v1/records/{ID}"): anyone(200),
    ("GET", f"/v1/records/{ID}/file"): anyone(200),
    ("GET", f"/v1/records/{ID}/report"): anyone(200),
    ("GET", f"/v1/records/{ID}/report.pdf"): anyone(200),
    ("GET", f"/v1/records/{ID}/evidence.zip"): anyone(200),
    ("GET", "/v1/schemas/report"): anyone(200),
    ("GET", f"/v1/records/{ID}/card"): anyone(200),
    ("GET", f"/v1/records/{ID}/proof"): anyone(200),
    ("GET", f"/v1/records/{ID}/receipt"): anyone(200),
    ("GET", "/v1/matches/byBinding"): anyone(400),  # nothing is asked for
    ("POST", "/v1/matches/byBinding"): anyone(400),
    ("POST", "/v1/matches/byContent"): anyone(200),
    ("GET", "/v1/manifests/{manifest_id:str}"): anyone(404),
    ("GET", "/v1/services/supportedAlgorithms"): anyone(200),
    ("GET", "/v1/services/capabilities"): anyone(200),
    ("GET", "/v1/services/status"): anyone(200),
    ("GET", "/.well-known/c2pa-soft-binding-resolution"): anyone(200),
    ("POST", "/v1/statements"): writers(400),  # nothing is sent
    ("POST", "/v1/statements/batch"): writers(400),
    ("GET", "/v1/statements/{leaf_hash:str}/proof"): anyone(404),
    ("GET", "/v1/statements/{leaf_hash:str}/receipt"): anyone(404),
    ("GET", "/v1/audit/entries"): anyone(401) | {"entries token": 200, "exports token": 403},  # no API key opens them
    ("GET", "/v1/audit/exports/{name:str}"): anyone(401) | {"entries token": 403, "exports token": 400},  # no period
    ("GET", "/v1/log"): anyone(200),
    ("GET", "/v1/log/proofs/{index:int}"): anyone(200),
    ("GET", "/v1/log/entries/{index:int}"): anyone(200),
    ("GET", "/log/policy"): anyone(200),
    ("GET", "/log/{shard:str}/checkpoint"): anyone(200),
    ("GET", "/log/{shard:str}/checkpoint/integrated"): anyone(200),
    ("GET", "/log/{shard:str}/tile/{path:path}"): anyone(200),
    ("GET", "/log/{shard:str}/timestamp"): anyone(404),  # no authority is set
    ("GET", "/v1/claims"): anyone(200),
    ("GET", "/v1/claims/rules"): anyone(200),
    ("GET", f"/v1/claims/{CLAIM}"): anyone(200),
    ("GET", f"/v1/claims/{CLAIM}/report"): anyone(404),  # not decided yet
    ("GET", f"/v1/claims/{CLAIM}/report.pdf"): anyone(404),
    ("GET", f"/v1/claims/{CLAIM}/evidence.zip"): anyone(404),
    ("GET", "/v1/schemas/claim-report"): anyone(200),
    ("POST", f"/v1/claims/{CLAIM}/answer"): writers(409, submitter=403),  # the record is another's
    ("POST", f"/v1/claims/{CLAIM}/appeal"): writers(409, submitter=403),
    # For people, who are known by a cookie.
    ("GET", "/claims"): anyone(200),
    ("GET", f"/claims/{CLAIM}"): anyone(200),
    ("GET", "/claims/new"): people(200),
    ("POST", "/claims/new"): people(400),
    ("POST", f"/claims/{CLAIM}/appeal"): people(403, claimant=409),
    ("POST", f"/claims/{CLAIM}/control"): people(403, claimant=404),
    ("POST", f"/claims/{CLAIM}/control/check"): people(403, claimant=404),
    ("POST", f"/claims/{CLAIM}/withdraw"): people(403, claimant=303),
    ("GET", "/sign-in"): anyone(200),
    ("POST", "/sign-in"): anyone(400),
    ("GET", "/sign-in/{token:str}"): anyone(200),
    ("POST", "/sign-in/{token:str}"): anyone(403),
    ("GET", "/account"): people(200),
    ("GET", ARTIST): people(200),
    ("POST", f"{ARTIST}/grants"): the_artist(400),
    ("POST", f"{ARTIST}/works/{{work_id:uuid}}/grants"): the_artist(400),
    ("POST", f"{ARTIST}/enrolments"): the_artist(400),
    ("POST", f"{ARTIST}/webhook"): the_artist(400),
    ("POST", f"{ARTIST}/webhook/remove"): the_artist(303),
    ("POST", f"{ARTIST}/control"): people(404),
    ("POST", f"{ARTIST}/control/check"): people(404),
    ("GET", "/healthz"): anyone(200),
    ("GET", "/readyz"): anyone(503),  # no worker runs beside these tests
    ("GET", "/"): anyone(200),
    ("POST", "/"): anyone(303),
    ("GET", f"/v/{ID}"): anyone(200),
    ("GET", "/r"): anyone(303),
    ("GET", "/r/{name:str}"): anyone(200),
    ("GET", "/log"): anyone(200),
    ("GET", "/about"): anyone(200),
    ("GET", "/works/{work_id:uuid}"): anyone(404),  # nothing is indexed
    ("GET", "/works/{work_id:uuid}/preview"): anyone(404),
    ("GET", "/works/{work_id:uuid}/feed"): anyone(404),
    ("GET", "/artists/{artist_id:uuid}"): anyone(404),
    ("GET", "/artists/{artist_id:uuid}/feed"): anyone(404),
    ("GET", "/docs"): anyone(200),
    ("GET", "/pictures/{name:str}"): anyone(404),  # the name that is asked for is no picture's
    ("GET", "/schema"): anyone(200),
    ("GET", "/schema/openapi.json"): anyone(200),
    ("GET", "/schema/{path:str}"): anyone(404),
    ("GET", "/static/{file_path:path}"): anyone(200),
    ("POST", "/sign-out"): anyone(303),  # last: it ends the sessions
}


def test_every_route_lets_in_exactly_whom_the_table_says(runtime: Runtime) -> None:
    sent = everybody(runtime)
    owner, claimant = holder(runtime, "owner"), identity(runtime, "claimant")
    generation, stamp, look = generated(runtime), stamped(runtime, png(2), by=owner), looked(runtime, png(3))
    claim = claimed(runtime, claimant, about=stamp, work=png(5))
    ada, bert = artist(runtime, "Ada", named=True), artist(runtime, "Bert", named=True)
    link(runtime, ada, identity(runtime, "artist"))
    link(runtime, bert, identity(runtime, "another artist"))
    ids = {"/v1/stamps": stamp, "/v1/verifications": look, "/v/": look}
    bodies = {
        "/v1/generations": {"json": {"prompt": "a boat"}},
        "/v1/keys": {"json": {"name": "studio north"}},
        f"/v1/keys/{KEY}": {},
        f"/v1/claims/{CLAIM}/answer": {"json": {"words": "no"}},
        f"/v1/claims/{CLAIM}/appeal": {"json": {"words": "no"}},
        f"/claims/{CLAIM}/appeal": {"data": {"words": "no"}},
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
            address = path.replace(ARTIST, f"/account/artists/{ada}").replace(KEY, str(generation))
            address = address.replace(CLAIM, str(claim)).replace("{token:str}", "nothing")
            address = address.replace(ID, str(record_id)).replace("{name:str}", str(generation))
            address = address.replace("{shard:str}", runtime.shard).replace("{path:path}", "0/000.p/1")
            address = address.replace("{work_id:uuid}", str(generation)).replace("{artist_id:uuid}", str(generation))
            address = address.replace("{leaf_hash:str}", "ab" * 32).replace("{index:int}", "0")
            address = address.replace("{path:str}", "nothing").replace("{file_path:path}", "style.css")
            for caller in CALLERS:
                request = dict(bodies.get(path, form if method == "POST" else {}))
                headers = request.pop("headers", {}) | sent[caller]
                client.cookies.clear()
                response = client.request(method, address, headers=headers, follow_redirects=False, **request)
                if response.status_code != expected[caller]:
                    wrong.append((method, path, caller, response.status_code, expected[caller], response.text[:200]))
                if response.status_code == 401:
                    assert response.headers["www-authenticate"] == "Bearer"
    assert not wrong


def test_whom_the_applications_own_table_does_not_name_is_refused() -> None:
    """The table above tells what is seen, `ACCESS` what is meant."""
    for (method, path), row in TABLE.items():
        access = ACCESS[method, re.sub(r":\w+}", "}", path)]
        for caller, status in row.items():
            role = "submitter" if caller == "owner" else caller
            scope = caller.partition(" ")[0]
            named = (
                role in access.keys
                or (access.public and (caller in {"none", *PEOPLE} or not access.looks))
                or scope == access.scope
                or (caller in PEOPLE and access.session == "person")
                or (caller == "artist" and access.session == "artist")
            )
            if not named:
                assert status in {401, 403, 404}, (method, path, caller)


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


def test_no_route_is_named_like_what_is_typed_on_the_ledgers_own_machine(runtime: Runtime) -> None:
    with serving(runtime) as client:
        headers = bearer(_key_of(runtime, "admin"))
        for path in ("/v1/grants", "/v1/erasures", "/v1/records/1", "/v1/auditors", "/admin", "/metrics", "/debug"):
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                assert client.request(method, path, headers=headers).status_code in {404, 405}


def test_an_admin_gives_keys_and_takes_them_but_makes_no_admin(runtime: Runtime) -> None:
    admin = bearer(_key_of(runtime, "admin"))
    with serving(runtime) as client:
        for wrong in ({"name": "x", "role": "admin"}, {"name": ""}, {"name": "x", "id": "1"}, {"name": "a\x00b"}):
            assert client.post("/v1/keys", json=wrong, headers=admin).status_code in {400, 422}
        known = client.post("/v1/keys", json={"name": "admin"}, headers=admin)  # the name is an admin's
        assert (known.status_code, known.json()["code"]) == (409, "submitter_differs")
        made = client.post("/v1/keys", json={"name": "studio north", "role": "operator"}, headers=admin).json()
        theirs = bearer(made["api_key"])
        assert client.get("/v1/standing", headers=theirs).status_code == 200
        assert client.get("/v1/keys", headers=theirs).json()["code"] == "role_not_allowed"
        listed = client.get("/v1/keys", headers=admin)
        assert made["api_key"] not in listed.text
        assert [each["revoked_at"] for each in listed.json()["keys"] if each["id"] == made["id"]] == [None]
        for _ in range(2):
            assert client.delete(f"/v1/keys/{made['id']}", headers=admin).status_code == 204
        assert client.get("/v1/standing", headers=theirs).status_code == 401
    said = [each for each in _said_of_keys(runtime) if each["key_id"] == made["id"]]
    assert sorted((each["valid"], each["role"]) for each in said) == [(False, "operator"), (True, "operator")]


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
    assert said == {route for route, access in ACCESS.items() if not access.public and access.session is None}


def test_a_method_that_is_asked_for_by_options_needs_no_key_and_does_nothing(runtime: Runtime) -> None:
    with serving(runtime) as client:
        answered = client.options("/v1/stamps")
    assert (answered.status_code, answered.headers["allow"]) == (204, "OPTIONS, POST")


def everybody(runtime: Runtime) -> dict[str, dict[str, str]]:
    """The headers that each of CALLERS sends."""
    sent = {
        "none": {},
        "unknown": bearer("lawful_nobody"),
        "revoked": bearer(_revoked_key(runtime)),
        "other scheme": {"Authorization": f"Basic {api_key(runtime)}"},
        "operator": {"Authorization": f"bearer {api_key(runtime)}"},
        "entries token": bearer(token(runtime, "entries")),
        "exports token": bearer(token(runtime, "exports")),
    }
    sent |= {each: bearer(_key_of(runtime, each)) for each in HOLDERS if each != "operator"}
    now = runtime.clock()
    with runtime.sessions.begin() as session:
        for each in PEOPLE:
            link = identities.new_link(session, _email(each), now)
            sent[each] = {"Cookie": f"{cookie_name(runtime.settings)}={identities.sign_in(session, link, now)}"}
    assert set(sent) == set(CALLERS)
    return sent


def holder(runtime: Runtime, name: str) -> uuid.UUID:
    with runtime.sessions() as session:
        return session.scalars(sa.select(Principal.id).where(Principal.name == name)).one()


def identity(runtime: Runtime, name: str) -> uuid.UUID:
    with runtime.sessions() as session:
        return session.scalars(sa.select(Identity.id).where(Identity.email == _email(name))).one()


def _email(name: str) -> str:
    return f"{name.replace(' ', '.')}@example.org"


def _key_of(runtime: Runtime, name: str) -> str:
    role: api_keys.Role = "submitter" if name == "owner" else name  # type: ignore[assignment]
    with runtime.sessions.begin() as session:
        return api_keys.make(session, runtime, name, role, "test")[1]


def _revoked_key(runtime: Runtime) -> str:
    with runtime.sessions.begin() as session:
        key_id, key = api_keys.make(session, runtime, "somebody who was", "submitter", "test")
        api_keys.revoke(session, runtime, key_id)
    return key


def _said_of_keys(runtime: Runtime) -> list[dict[str, object]]:
    with runtime.sessions() as session:
        both = sa.union(sa.select(LogEntry.entry), sa.select(LogOutbox.entry))
        payloads = [parse_statement(entry).payload for entry in session.scalars(both)]
    return [dict(each) for each in payloads if each["type"] == api_keys.API_KEY]
