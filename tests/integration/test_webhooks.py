"""Webhooks: who is credited hears of it, signed, at least once; nobody else does, and nothing waits for them."""

import base64
import hashlib
import hmac
import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from ledger import jobs, worker
from ledger.artists import webhooks
from ledger.claims.fetching import Fetcher, PageRefused
from ledger.database.tables.artists import ArtistWebhook
from ledger.database.tables.records import Record
from ledger.erasure import erase
from ledger.errors import NotFound, Unavailable
from ledger.runtime import Runtime
from ledger.standing import standing

from .claiming import somebody, works_of
from .desks import PAGE, artist_of, desk, link, sign_in, unlink
from .http_ledger import generated, serving
from .test_works_pages import copy_of

pytestmark = pytest.mark.postgres

HOOK = "https://jane.example.org/hook"
TOLD = sa.text("SELECT args, queue_name FROM procrastinate_jobs WHERE task_name = 'tell' ORDER BY id")


@dataclass
class Receiver:
    """What arrives at a webhook. (How it gets there: tests/unit/claims/test_fetching.)"""

    answers: bool = True
    heard: list[tuple[str, bytes, Mapping[str, str]]] = field(default_factory=list)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        self.heard.append((url, body, headers))
        if not self.answers:
            raise PageRefused("the page's server answered 500")


@pytest.fixture
def client(runtime: Runtime) -> Iterator[TestClient]:  # type: ignore[type-arg]
    with serving(runtime) as opened:
        opened.follow_redirects = False
        yield opened


@pytest.fixture
def work(runtime: Runtime, tmp_path: Path) -> uuid.UUID:
    return works_of(runtime, tmp_path)[0]


def hooked(runtime: Runtime, work_id: uuid.UUID, email: str = "jane@example.org") -> tuple[uuid.UUID, uuid.UUID, str]:
    """(artist, identity, secret) of a linked person with a webhook."""
    artist, jane = artist_of(runtime, work_id), somebody(runtime, email)
    link(runtime, artist, jane)
    with runtime.sessions.begin() as session:
        return artist, jane, webhooks.put(session, jane, artist, HOOK)


def told(runtime: Runtime) -> list[dict[str, str]]:
    """The notices that wait, each in the queue of its own."""
    with runtime.sessions() as session:
        rows = session.execute(TOLD).all()
    assert {row.queue_name for row in rows} <= {jobs.NOTICES}
    return [row.args for row in rows]


def send(runtime: Runtime, notice: Mapping[str, str], receiver: Receiver | Fetcher) -> None:
    ids = (uuid.UUID(notice[each]) for each in ("about", "artist_id", "identity_id"))
    webhooks.send(runtime, *ids, receiver)  # type: ignore[arg-type]


def hook(runtime: Runtime) -> ArtistWebhook:
    with runtime.sessions() as session:
        return session.scalars(sa.select(ArtistWebhook)).one()


def test_an_issued_record_that_credits_an_artist_is_told_signed(runtime: Runtime, work: uuid.UUID) -> None:
    artist, jane, secret = hooked(runtime, work)
    record_id = generated(runtime, evidence=copy_of(runtime, work))
    (notice,) = told(runtime)
    assert notice == {"about": str(record_id), "artist_id": str(artist), "identity_id": str(jane)}
    receiver = Receiver()
    send(runtime, notice, receiver)
    ((url, body, headers),) = receiver.heard
    assert url == HOOK
    said = json.loads(body)
    assert said["type"] == "record.credited"
    assert said["data"] == {
        "record_id": str(record_id),
        "url": f"{runtime.settings.public_url.rstrip('/')}/r/{record_id}",
        "artist_id": str(artist),
        "work_ids": [str(work)],
    }
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['Webhook-Id']}.{headers['Webhook-Timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["Webhook-Signature"] == f"v1,{expected}"
    assert "jane@example.org" not in str(receiver.heard)


def test_a_record_that_credits_somebody_else_is_not_told(runtime: Runtime, work: uuid.UUID, tmp_path: Path) -> None:
    hooked(runtime, work)
    (other,) = works_of(runtime, tmp_path / "other", artist="Rosa", seeds=(60,))
    generated(runtime, evidence=copy_of(runtime, other))
    generated(runtime, seed=2)  # credits nobody here
    assert told(runtime) == []


def test_a_notice_that_waits_for_hours_alarms_no_operator(runtime: Runtime, work: uuid.UUID) -> None:
    hooked(runtime, work)
    generated(runtime, evidence=copy_of(runtime, work))
    queue = standing(runtime).queues["tell"]
    assert (queue.waiting, queue.oldest) == (1, None)


def test_a_silent_address_keeps_no_record_waiting_and_in_the_end_hears_nothing_any_more(
    runtime: Runtime, work: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MOST_FAILURES", 3)
    hooked(runtime, work)
    record_id = generated(runtime, evidence=copy_of(runtime, work))
    with runtime.sessions() as session:
        assert session.get_one(Record, record_id).state == "issued"
    (notice,) = told(runtime)
    dead, alive = Receiver(answers=False), Receiver()
    for _ in range(2):
        with pytest.raises(Unavailable) as failed:
            send(runtime, notice, dead)
        assert failed.value.code == "webhook_failed"
    send(runtime, notice, alive)
    assert (hook(runtime).failures, hook(runtime).off_at) == (0, None)
    assert {headers["Webhook-Id"] for _, _, headers in dead.heard + alive.heard} == {alive.heard[0][2]["Webhook-Id"]}, (
        "the same notice has the same id when it is sent again"
    )
    for _ in range(3):
        with pytest.raises(Unavailable):
            send(runtime, notice, dead)
    assert hook(runtime).off_at is not None
    send(runtime, notice, alive)
    assert len(alive.heard) == 1
    generated(runtime, seed=2, evidence=copy_of(runtime, work))
    assert len(told(runtime)) == 1, "nothing is enqueued for it either"


@pytest.mark.xdist_group("worker")
def test_a_worker_takes_notices_beside_images(runtime: Runtime, work: uuid.UUID) -> None:
    """The real worker, which finds no such host."""
    artist, jane, _ = hooked(runtime, work)
    with runtime.sessions.begin() as session:
        webhooks.put(session, jane, artist, "https://jane.invalid/hook")
    generated(runtime, evidence=copy_of(runtime, work))
    stop = threading.Event()
    thread = threading.Thread(target=worker.serve, args=(runtime.settings, stop))
    thread.start()
    deadline = time.monotonic() + 120
    try:
        while not hook(runtime).failures and time.monotonic() < deadline:
            time.sleep(0.2)
    finally:
        stop.set()
        thread.join(60)
    assert hook(runtime).failures >= 1
    assert len(told(runtime)) == 1, "it is tried again"


def test_what_was_unlinked_removed_or_erased_meanwhile_is_not_told(runtime: Runtime, work: uuid.UUID) -> None:
    artist, jane, _ = hooked(runtime, work)
    record_id = generated(runtime, evidence=copy_of(runtime, work))
    (notice,) = told(runtime)
    receiver = Receiver()
    unlink(runtime, artist, jane)
    send(runtime, notice, receiver)
    link(runtime, artist, jane)
    send(runtime, notice, receiver)
    assert receiver.heard == [], "a link that comes back brings no webhook back"
    with runtime.sessions.begin() as session:
        webhooks.put(session, jane, artist, HOOK)
    erase(runtime, record_id, reason="requested", asked_by="submitter")
    send(runtime, notice, receiver)
    assert receiver.heard == []


def test_no_webhook_leads_into_the_operators_network(runtime: Runtime, work: uuid.UUID) -> None:
    """A name that leads inside is found out when it is connected to, each time."""
    hooked(runtime, work)
    generated(runtime, evidence=copy_of(runtime, work))
    (notice,) = told(runtime)
    for inside in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"):
        with pytest.raises(Unavailable, match="public internet"):
            send(runtime, notice, Fetcher(resolve=lambda _, inside=inside: [inside]))  # type: ignore[misc]


@pytest.mark.parametrize(
    "url", ["", "http://example.org/", "https://127.0.0.1/", "https://localhost/", "https://example.org:8443/",
            "https://user:word@example.org/", "javascript:alert(1)", "https://example.org/" + "x" * 2000],
    ids=lambda url: url[:24].encode().hex(),
)  # fmt: skip
def test_an_address_that_would_never_be_asked_is_refused(
    client: TestClient,  # type: ignore[type-arg]
    runtime: Runtime,
    work: uuid.UUID,
    url: str,
) -> None:
    artist = artist_of(runtime, work)
    link(runtime, artist, sign_in(client, runtime))
    answer = client.post(desk(artist, "/webhook"), data={"url": url})
    assert (answer.status_code, answer.json()["code"]) == (400, "webhook_malformed")


def test_the_secret_is_shown_once_and_only_to_whoever_set_it(
    client: TestClient,  # type: ignore[type-arg]
    runtime: Runtime,
    work: uuid.UUID,
) -> None:
    artist = artist_of(runtime, work)
    link(runtime, artist, sign_in(client, runtime))
    first = client.post(desk(artist, "/webhook"), data={"url": HOOK}, headers=PAGE)
    assert first.headers["cache-control"] == "no-store"
    secret = "whsec_" + base64.b64encode(hook(runtime).secret).decode()
    assert secret in first.text
    again = client.get(desk(artist), headers=PAGE).text
    assert "whsec_" not in again
    assert HOOK in again
    with serving(runtime) as other:
        other.follow_redirects = False
        link(runtime, artist, sign_in(other, runtime, "agent@example.org"))
        assert HOOK not in other.get(desk(artist), headers=PAGE).text, "each person's address is their own"
        assert other.post(desk(artist, "/webhook/remove")).status_code == 303
    assert hook(runtime).url == HOOK
    assert client.post(desk(artist, "/webhook/remove")).status_code == 303
    with runtime.sessions() as session:
        assert session.scalars(sa.select(ArtistWebhook)).all() == []


def test_a_stranger_sets_no_webhook(client: TestClient, runtime: Runtime, work: uuid.UUID) -> None:  # type: ignore[type-arg]
    artist, thief = artist_of(runtime, work), sign_in(client, runtime, "thief@example.org")
    assert client.post(desk(artist, "/webhook"), data={"url": HOOK}).json()["code"] == "desk_unknown"
    with runtime.sessions.begin() as session, pytest.raises(NotFound):
        webhooks.put(session, thief, artist, HOOK)
