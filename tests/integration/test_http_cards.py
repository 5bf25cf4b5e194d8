"""The card of a record in somebody else's page: it says what the report says, and can do nothing."""

import uuid
from html.parser import HTMLParser

import pytest

from ledger.erasure import erase
from ledger.runtime import Runtime

from .http_ledger import EVIDENCE, HOSTILE, MODEL, generated, looked, png, serving, stamped

pytestmark = pytest.mark.postgres


class Parsed(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_card_says_what_the_report_says_and_where_to_check_it(runtime: Runtime) -> None:
    record_id = generated(runtime)
    with serving(runtime) as client:
        answer = client.get(f"/v1/records/{record_id}/card")
        index = client.get(f"/v1/records/{record_id}").json()["log"]["index"]
    card = Parsed(answer.text)
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert EVIDENCE.statement.rstrip(".") in card.text
    assert MODEL["name"] in card.text
    assert f"entry {index}" in card.text
    assert ("href", f"{runtime.settings.public_url}/r/{record_id}") in card.attributes


def test_what_a_submitter_wrote_does_nothing_in_a_card(runtime: Runtime) -> None:
    name = HOSTILE.replace("\n", " ")
    with serving(runtime) as client:
        card = Parsed(client.get(f"/v1/records/{stamped(runtime, png(2), name)}/card").text)
    assert set(card.tags) <= {"article", "p", "strong", "dl", "dt", "dd", "a"}
    assert {attribute for attribute, _ in card.attributes} == {"class", "lang", "href"}
    assert name in card.text


def test_there_is_no_card_of_what_is_erased_unknown_or_no_record(runtime: Runtime) -> None:
    record_id, look = generated(runtime), looked(runtime, png(5))
    erase(runtime, record_id, reason="requested", asked_by="artist")
    with serving(runtime) as client:
        for each in (record_id, look, uuid.uuid4()):
            assert client.get(f"/v1/records/{each}/card").status_code == 404
