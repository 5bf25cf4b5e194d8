"""Claims over HTTP: a link opens once, forms come from our own pages, nobody acts for another, words are inert."""

import asyncio
import dataclasses
import re
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa
import structlog
from litestar.testing import TestClient

from ledger import api_keys, grants
from ledger.claims import deciding, identities
from ledger.database.tables.claims import Claim, Identity, SignInLink, WebSession
from ledger.database.tables.principals import Principal
from ledger.runtime import Runtime
from ledger.web import returning, sessions
from ledger.web.headers import POLICY

from .claiming import JANE, Answers, claim_entries, claimed, settled, somebody, works_of
from .http_ledger import HOSTILE, api_key, png, serving, stamped

pytestmark = pytest.mark.postgres

PAGE = {"accept": "text/html"}


@pytest.fixture
def client(runtime: Runtime) -> Iterator[TestClient]:  # type: ignore[type-arg]
    with serving(runtime) as opened:
        opened.follow_redirects = False
        yield opened


def ask_link(client: TestClient, email: str, **fields: str) -> str:  # type: ignore[type-arg]
    """The address of the link that is sent to this address."""
    with structlog.testing.capture_logs() as logged:
        assert client.post("/sign-in", data={"email": email, **fields}, headers=PAGE).status_code == 200
    (line,) = [each for each in logged if each["event"] == "sign_in_link"]
    assert email not in str(line)
    return str(line["link"]).partition("8000")[2]


def sign_in(client: TestClient, email: str = "jane@example.org") -> None:  # type: ignore[type-arg]
    link = ask_link(client, email)
    answer = client.post(link)
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")


def form(record: uuid.UUID, **fields: object) -> dict[str, object]:
    plain = {"kind": "mine", "about": str(record), "claimant": JANE, "made_on": "", "words": "", "work_id": ""}
    return plain | fields


# ---- signing in ------------------------------------------------------------------------------------------------------


def test_a_link_signs_in_once_and_not_again(client: TestClient, runtime: Runtime) -> None:  # type: ignore[type-arg]
    link = ask_link(client, "Jane@Example.org")
    for _ in range(2):  # opening it, as mail scanners do, uses nothing up
        assert client.get(link, headers=PAGE).status_code == 200
    assert client.post(link).status_code == 303
    assert client.get("/account", headers=PAGE).status_code == 200
    again = client.post(link)
    assert (again.status_code, again.json()["code"]) == (403, "link_invalid")
    with runtime.sessions() as session:
        assert session.scalars(sa.select(Identity.email)).all() == ["jane@example.org"]


def test_of_two_who_replay_one_link_at_once_one_gets_in(runtime: Runtime) -> None:
    now = runtime.clock()
    with runtime.sessions.begin() as session:
        link = identities.new_link(session, "jane@example.org", now)
    outcomes: list[str] = []
    gate = threading.Barrier(6)

    def use() -> None:
        gate.wait()
        try:
            with runtime.sessions.begin() as session:
                identities.sign_in(session, link, now)
            outcomes.append("in")
        except identities.NotAllowed as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["in", *["link_invalid"] * 5]


def test_a_link_and_a_session_end_by_themselves(runtime: Runtime) -> None:
    now = runtime.clock()
    with runtime.sessions.begin() as session:
        link = identities.new_link(session, "jane@example.org", now)
    with runtime.sessions.begin() as session, pytest.raises(identities.NotAllowed):
        identities.sign_in(session, link, now + identities.LINK_LIFE)
    with runtime.sessions.begin() as session:
        cookie = identities.sign_in(session, link, now)
        assert identities.identity_of(session, cookie, now) is not None
        assert identities.identity_of(session, cookie, now + identities.SESSION_LIFE) is None
        identities.forget_expired(session, now + identities.SESSION_LIFE * 2)
        assert session.scalar(sa.select(sa.func.count()).select_from(WebSession)) == 0
        assert session.scalar(sa.select(sa.func.count()).select_from(SignInLink)) == 0


def test_one_address_gets_five_links_an_hour_whoever_asks(client: TestClient) -> None:  # type: ignore[type-arg]
    given = {"email": "jane@example.org"}
    statuses = [client.post("/sign-in", data=given).status_code for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    assert client.post("/sign-in", data=given | {"email": "else@example.org"}).status_code == 200


@pytest.mark.parametrize(
    "email", ["", "jane", "@example.org", "jane@localhost", "a b@example.org", "jane@example.org\nBcc: x@y.org",
              "jane@example.org, x@y.org", "<jane@example.org>", "jäne@example.org", "x" * 250 + "@example.org"],
    ids=lambda email: f"{len(email)}-{email[:8].encode().hex()}",
)  # fmt: skip
def test_what_is_no_address_is_refused_before_anything_is_sent(email: str) -> None:
    with pytest.raises(identities.BadRequest) as refused:
        identities.address(email)
    assert refused.value.code == "email_malformed"


def test_the_database_holds_no_token_that_could_be_used(client: TestClient, runtime: Runtime) -> None:  # type: ignore[type-arg]
    sign_in(client)
    cookie = client.cookies["lawful"]
    with runtime.sessions() as session:
        rows = [
            *session.scalars(sa.select(WebSession.token_sha256)),
            *session.scalars(sa.select(SignInLink.token_sha256)),
        ]
    assert cookie.encode() not in rows
    assert identities.digest(cookie) in rows


def test_signing_in_gives_a_new_cookie_whatever_the_browser_brought(client: TestClient, runtime: Runtime) -> None:  # type: ignore[type-arg]
    client.cookies.set("lawful", "planted-by-somebody-else")
    link = ask_link(client, "jane@example.org")
    answer = client.post(link)
    (cookie,) = [line for line in answer.headers.get_list("set-cookie") if line.startswith("lawful=")]
    assert "planted" not in cookie
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    with runtime.sessions() as session:
        assert identities.identity_of(session, "planted-by-somebody-else", runtime.clock()) is None


def test_over_https_cookies_are_for_this_host_and_for_https_alone(runtime: Runtime) -> None:
    settings = runtime.settings.model_copy(update={"public_url": "https://ledger.example.org"})
    assert sessions.cookie_name(settings) == "__Host-lawful"
    assert sessions.session_cookie(settings, "x").secure


def test_signing_out_ends_the_session_for_whoever_kept_the_cookie(client: TestClient) -> None:  # type: ignore[type-arg]
    sign_in(client)
    kept = client.cookies["lawful"]
    assert client.post("/sign-out").status_code == 303
    client.cookies.set("lawful", kept)
    assert client.get("/account").json()["code"] == "sign_in_needed"


# ---- and coming back -------------------------------------------------------------------------------------------------

HOSTILE_PAGES = (
    "//evil.example",
    "///evil.example",
    "https://evil.example/claims/new",
    "https:evil.example",
    "javascript:alert(1)",
    "/\\evil.example",
    "\\\\evil.example",
    "/claims\\new",
    "/claims/new\r\nSet-Cookie: lawful=x",
    "/\t/evil.example",
    "\x00/claims/new",
    " /claims/new",
    "/claims/new#x",
    "/%2f%2fevil.example",
    "/claims//evil.example",
    "/./claims",
    "/../claims",
    "/claims/new@evil.example",
    "/claims/new?about=//evil.example",
    "/sign-out",
    "/sign-in/token",
    "/" + "a" * 300,
    "claims/new",
    "",
)


def led_to(client: TestClient, link: str) -> str:  # type: ignore[type-arg]
    answer = client.post(link)
    assert answer.status_code == 303
    return str(answer.headers["location"])


def test_who_wanted_to_claim_comes_back_to_the_claim_form(client: TestClient, runtime: Runtime) -> None:  # type: ignore[type-arg]
    wanted = f"/claims/new?about={stamped(runtime, png(50))}"
    refused = client.get(wanted, headers=PAGE)
    assert refused.status_code == 403
    leads = f'href="/sign-in?back={quote(wanted)}"'
    assert leads in refused.text
    asked = client.get(f"/sign-in?back={quote(wanted)}", headers=PAGE).text
    assert f'<input type="hidden" name="back" value="{wanted}">' in asked
    assert led_to(client, ask_link(client, "jane@example.org", back=wanted)) == wanted
    assert "Open a claim" in client.get(wanted, headers=PAGE).text


@pytest.mark.parametrize("page", HOSTILE_PAGES, ids=lambda page: page.encode().hex()[:40] or "empty")
def test_signing_in_leads_to_no_other_site(runtime: Runtime, page: str) -> None:
    """Neither by the form nor by what somebody wrote into the table."""
    assert returning.own_page(page) is None
    with serving(runtime) as client:
        client.follow_redirects = False
        assert 'name="back"' not in client.get("/sign-in", params={"back": page}, headers=PAGE).text
        link = ask_link(client, "jane@example.org", back=page)
        with runtime.sessions.begin() as session:
            assert session.scalars(sa.select(SignInLink.page)).one() is None
            session.execute(sa.update(SignInLink).values(page=page.replace("\x00", "\x01")))
        assert led_to(client, link) == "/account"


# ---- forms of others -------------------------------------------------------------------------------------------------


STRANGE = (
    {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8000"},
    {"sec-fetch-site": "same-site"},  # another name of the same domain
    {"origin": "https://evil.example.org"},
    {"origin": "null"},
)


@pytest.mark.parametrize("strange", STRANGE, ids=lambda headers: "-".join(headers.values()).replace("/", ""))
def test_no_form_is_taken_from_a_page_of_somebody_elses(
    client: TestClient,
    runtime: Runtime,
    strange: dict[str, str],  # type: ignore[type-arg]
) -> None:
    sign_in(client)
    record = stamped(runtime, png(50))
    claim_id = claimed(runtime, somebody(runtime), about=record, work=png(51))
    actions = [f"/claims/{claim_id}/{action}" for action in ("withdraw", "appeal", "control", "control/check")]
    for address in ("/sign-in", "/sign-in/token", "/sign-out", *actions):
        answer = client.post(address, data={"words": "x"}, headers=strange)
        assert (answer.status_code, answer.json()["code"]) == (403, "form_refused"), address
    refused = client.post("/claims/new", data=form(record), files={"file": ("work.png", png(50))}, headers=strange)
    assert (refused.status_code, refused.json()["code"]) == (403, "form_refused")
    with runtime.sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Claim)) == 1
    assert len(claim_entries(runtime)) == 1


@pytest.mark.parametrize("known", [{"sec-fetch-site": "same-origin", "origin": "null"}, {}], ids=["new", "old"])
def test_a_form_is_taken_from_our_own_page(client: TestClient, runtime: Runtime, known: dict[str, str]) -> None:  # type: ignore[type-arg]
    sign_in(client)
    headers = known or {"origin": runtime.settings.public_url}
    assert client.post("/sign-out", headers=headers).status_code == 303


def test_of_a_refused_upload_no_byte_is_read(client: TestClient) -> None:  # type: ignore[type-arg]
    """Neither of a stranger's nor of another site's: whatever its size, it costs nothing."""
    said: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        said.append(message)

    async def receive() -> dict[str, object]:
        raise AssertionError("the body was read")

    plain = [(b"host", b"127.0.0.1"), (b"content-type", b"multipart/form-data; boundary=x")]
    for headers in (plain, [*plain, (b"sec-fetch-site", b"cross-site")]):
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/claims/new", "raw_path": b"/claims/new", "root_path": "", "query_string": b"", "headers": headers,
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000), "state": {},
        }  # fmt: skip
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, client.app(scope, receive, send)).result()  # type: ignore[arg-type]
    assert [each["status"] for each in said if each["type"] == "http.response.start"] == [403, 403]


# ---- claiming --------------------------------------------------------------------------------------------------------


def test_a_person_claims_sees_the_decision_appeals_and_withdraws(
    client: TestClient, runtime: Runtime, tmp_path: Path
) -> None:  # type: ignore[type-arg]
    (work,) = works_of(runtime, tmp_path)
    record = stamped(runtime, png(50))
    sign_in(client)
    answer = client.post("/claims/new", data=form(record, work_id=str(work)), files={"file": ("", b"")})
    assert answer.status_code == 303
    address = answer.headers["location"]
    assert "Not decided yet" in client.get(address, headers=PAGE).text
    settled(runtime, uuid.UUID(address.rpartition("/")[2]))
    page = client.get(address, headers=PAGE).text
    assert ">supported</span>" in page
    assert "declared" in page
    assert client.post(f"{address}/appeal", data={"words": "Look again."}).status_code == 303
    assert client.post(f"{address}/withdraw").status_code == 303
    assert client.get(address).json()["state"] == "withdrawn"
    assert address in client.get("/account", headers=PAGE).text
    assert address in client.get(f"/claims?about={record}", headers=PAGE).text


def test_a_work_may_be_handed_in_as_a_file(client: TestClient, runtime: Runtime) -> None:  # type: ignore[type-arg]
    record = stamped(runtime, png(50))
    sign_in(client)
    answer = client.post("/claims/new", data=form(record), files={"file": ("w.png", png(50))})
    claim_id = uuid.UUID(answer.headers["location"].rpartition("/")[2])
    assert settled(runtime, claim_id).decision.outcome == "inconclusive"  # type: ignore[union-attr]


def test_what_is_wrong_with_a_form_is_said_and_nothing_is_kept(client: TestClient, runtime: Runtime) -> None:  # type: ignore[type-arg]
    record = stamped(runtime, png(50))
    sign_in(client)
    work = {"file": ("w.png", png(51))}
    given = form(record)
    for fields, files, status, code in (
        ({"about": str(uuid.uuid4())}, work, 404, "record_unknown"),
        ({"about": "the one with the cat"}, work, 400, "claim_malformed"),
        ({"kind": "theft"}, work, 400, "claim_malformed"),
        ({"made_on": "yesterday"}, work, 400, "claim_malformed"),
        ({"work_id": str(uuid.uuid4())}, None, 404, "work_unknown"),
        ({}, {"file": ("w.svg", b"<svg onload=alert(1)>")}, 422, "image_format_unsupported"),
        ({"is_admin": "1"}, work, 400, "claim_malformed"),
    ):
        answer = client.post("/claims/new", data=given | fields, files=files or {"file": ("", b"")})
        assert (answer.status_code, answer.json()["code"]) == (status, code), fields
    with runtime.sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Claim)) == 0
    assert claim_entries(runtime) == []


def test_a_protected_work_named_in_a_claim_is_answered_like_one_that_never_was(
    client: TestClient,  # type: ignore[type-arg]
    runtime: Runtime,
    tmp_path: Path,
) -> None:
    (work,) = works_of(runtime, tmp_path)
    grants.change_grants(runtime, [work], {"name": False}, by_role="artist")
    record, nobody = stamped(runtime, png(60)), uuid.uuid4()
    sign_in(client)
    for accept in ({}, PAGE):
        answers = []
        for named in (work, nobody):
            given = form(record, work_id=str(named))
            answer = client.post("/claims/new", data=given, files={"file": ("", b"")}, headers=accept)
            said = re.sub(r"urn:uuid:[0-9a-f-]+", "", answer.text.replace(str(named), ""))
            answers.append((answer.status_code, sorted(set(answer.headers)), said))
        assert answers[0] == answers[1]
        assert answers[0][0] == 404


def test_who_sends_forms_by_script_is_slowed_down_whatever_the_forms_lead_to(runtime: Runtime) -> None:
    limited = dataclasses.replace(runtime, settings=runtime.settings.model_copy(update={"looks_per_minute": 2}))
    with serving(limited) as client:
        for address in ("/sign-in", "/claims/new", f"/claims/{uuid.uuid4()}/control/check"):
            answers = [client.post(address).status_code for _ in range(3)]
            assert answers[-1] == 429


def test_claims_from_one_network_address_end_at_the_days_limit_whoever_signs_in(runtime: Runtime) -> None:
    few = {"claims_per_address": 3}
    limited = dataclasses.replace(runtime, settings=runtime.settings.model_copy(update=few))
    record = stamped(runtime, png(50))
    with serving(limited) as client:
        client.follow_redirects = False
        for _ in range(5):  # without a session's cookie, as from the form of another site, none is used up
            assert client.post("/claims/new").status_code == 403
        statuses = []
        for number in range(5):
            sign_in(client, f"{number}@example.org")
            answer = client.post("/claims/new", data=form(record), files={"file": ("w.png", png(51))})
            statuses.append(answer.status_code)
        assert statuses == [303] * 3 + [429] * 2
        assert answer.json()["code"] == "too_many_requests"
        assert int(answer.headers["retry-after"]) > 3600


def test_who_is_not_signed_in_opens_no_claim(client: TestClient, runtime: Runtime) -> None:  # type: ignore[type-arg]
    record = stamped(runtime, png(50))
    given = {"kind": "mine", "about": str(record), "claimant": JANE}
    answer = client.post("/claims/new", data=given, files={"file": ("w.png", png(51))})
    assert (answer.status_code, answer.json()["code"]) == (403, "sign_in_needed")


def test_another_persons_claim_is_read_and_not_moved(client: TestClient, runtime: Runtime) -> None:  # type: ignore[type-arg]
    claim_id = claimed(runtime, somebody(runtime, "other@example.org"), about=stamped(runtime, png(50)), work=png(51))
    sign_in(client)
    assert "Withdraw" not in client.get(f"/claims/{claim_id}", headers=PAGE).text
    given = {"words": "mine now"}
    for action in ("withdraw", "appeal", "control", "control/check"):
        answer = client.post(f"/claims/{claim_id}/{action}", data=given)
        assert (answer.status_code, answer.json()["code"]) == (403, "claim_not_yours")


def test_the_other_side_answers_with_the_key_that_the_image_was_recorded_with(
    client: TestClient, runtime: Runtime
) -> None:  # type: ignore[type-arg]
    record = stamped(runtime, png(50))
    claim_id = claimed(runtime, somebody(runtime), about=record, work=png(51))
    address, said = f"/v1/claims/{claim_id}/answer", {"words": "It was made for us."}
    with runtime.sessions.begin() as session:
        stranger = Principal(id=uuid.uuid4(), name="stranger", role="submitter")
        session.add(stranger)
        session.flush()
        strange = api_keys.new_key(session, stranger.id, "test")[1]
    keys = {"none": {}, "stranger": {"authorization": f"Bearer {strange}"}}
    owner = {"authorization": f"Bearer {api_key(runtime)}"}
    assert client.post(address, json=said, headers=owner).json()["code"] == "claim_not_now"  # not decided yet
    deciding.settle(runtime, Answers(), claim_id)
    assert client.post(address, json=said, headers=keys["none"]).status_code == 401
    assert client.post(address, json=said, headers=keys["stranger"]).json()["code"] == "claim_not_yours"
    for wrong in ({"words": ""}, {"words": "x" * 4001}, {"words": "a\u0000b"}):
        assert client.post(address, json=wrong, headers=owner).json()["code"] == "reply_malformed"
    answer = client.post(address, json=said, headers=owner)
    assert (answer.status_code, answer.json()["state"]) == (201, "answered")
    assert client.post(address, json=said, headers=owner).json()["code"] == "claim_not_now"


def test_hostile_words_and_names_are_inert(client: TestClient, runtime: Runtime) -> None:  # type: ignore[type-arg]
    record = stamped(runtime, png(50))
    claim_id = claimed(
        runtime, somebody(runtime), about=record, work=png(51), claimant=HOSTILE[:190], words=HOSTILE + "\n{{ 7*7 }}"
    )
    settled(runtime, claim_id)
    page = client.get(f"/claims/{claim_id}", headers=PAGE)
    assert "<script>alert" not in page.text
    assert "<img src=x" not in page.text
    assert page.headers["content-security-policy"] == POLICY


def test_programs_read_claims_rules_and_the_signed_report(client: TestClient, runtime: Runtime, tmp_path: Path) -> None:  # type: ignore[type-arg]
    (work,) = works_of(runtime, tmp_path)
    record = stamped(runtime, png(50))
    claim_id = claimed(runtime, somebody(runtime), about=record, work_id=work)
    address = f"/v1/claims/{claim_id}"
    assert client.get(f"{address}/report").json()["code"] == "claim_undecided"
    settled(runtime, claim_id)
    assert client.get(address).json()["decision"]["outcome"] == "supported"
    listed = client.get("/v1/claims", params={"about": str(record)}).json()["claims"]
    assert [(each["id"], each["outcome"]) for each in listed] == [(str(claim_id), "supported")]
    for _ in range(200):
        signed = client.get(f"{address}/report")
        if signed.status_code == 200:
            break
        assert signed.json()["code"] == "entry_not_integrated"
    assert signed.json()["report"]["decision"]["outcome"] == "supported"
    assert len(client.get("/v1/claims/rules").json()) == 17
    assert client.get(f"/v1/claims/{uuid.uuid4()}").json()["code"] == "claim_unknown"
    assert "jane@example.org" not in client.get(address).text + signed.text


def test_an_erased_person_is_known_by_nothing(client: TestClient, runtime: Runtime) -> None:  # type: ignore[type-arg]
    sign_in(client)
    record = stamped(runtime, png(50))
    client.post("/claims/new", data=form(record), files={"file": ("w.png", png(50))})
    with runtime.sessions.begin() as session:
        identities.erase_identity(session, runtime, session.scalars(sa.select(Identity.id)).one())
    assert client.get("/account").status_code == 403
    with runtime.sessions() as session:
        tables = ("identities", "sign_in_links", "web_sessions")
        counts = [session.scalar(sa.text(f"SELECT count(*) FROM {table}")) for table in tables]
        assert counts == [0, 0, 0]
        assert session.scalars(sa.select(Claim.identity_id)).all() == [None]
