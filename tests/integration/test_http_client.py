"""`ledger.client` against a real server: three lines in somebody else's program."""

import hashlib
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from ledger.client import Ledger
from ledger.database.tables.records import Generation, Record, Stamp
from ledger.errors import BadRequest, NotAllowed, NotFound, Unavailable
from ledger.log.statements import commitment
from ledger.runtime import Runtime
from ledger.settings import Settings

from .conftest import picture
from .http_ledger import api_key, generated, png, served, with_a_port, working

pytestmark = pytest.mark.postgres


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_a_port(settings)


@pytest.fixture
def ledger(runtime: Runtime) -> Iterator[Ledger]:
    with served(runtime) as address, working(runtime), Ledger(address, api_key=api_key(runtime)) as opened:
        yield opened


def test_three_lines_stamp_an_image_and_the_prompt_stays_at_home(
    ledger: Ledger, runtime: Runtime, tmp_path: Path
) -> None:
    stamped = ledger.stamp(Image.fromarray(picture(3)), model="my-model", prompt="a secret boat")
    saved = stamped.save(tmp_path / "stamped.png")
    assert hashlib.sha256(saved.read_bytes()).hexdigest() == stamped.record["file_sha256"]
    assert np.array_equal(np.asarray(Image.open(saved)), picture(3))
    with runtime.sessions() as session:
        kept = session.scalars(sa.select(Stamp)).one()
        everything = " ".join(str(session.execute(sa.text(f"SELECT t::text FROM {table} t")).all()) for table in
            ("records", "stamps", "reports", "log_entries", "procrastinate_jobs"))  # fmt: skip
    assert "secret boat" not in everything
    assert stamped.prompt_salt is not None
    opened = commitment(
        "lawful-ledger/prompt/1", bytes.fromhex(stamped.prompt_salt), hashlib.sha256(b"a secret boat").digest()
    )
    assert kept.prompt_commitment == opened.hex(), "whoever keeps the salt can show what the prompt was"
    answers = ledger.verify(saved)["answers"]
    assert (answers["credential"], answers["content"], answers["ledger"]) == ("present", "intact", "recorded")


def test_a_prompt_is_sent_when_it_is_asked_for(ledger: Ledger, runtime: Runtime) -> None:
    stamped = ledger.stamp(png(4), prompt="an open boat", send_prompt=True)
    assert stamped.prompt_salt is None
    with runtime.sessions() as session:
        kept = session.scalars(sa.select(Stamp)).one()
    assert (kept.prompt, kept.prompt_commitment) == ("an open boat", None)


def test_generating_hands_over_the_finished_file(ledger: Ledger, runtime: Runtime) -> None:
    made = ledger.generate("a boat", seed=5, steps=4)
    assert hashlib.sha256(made.data).hexdigest() == made.record["file_sha256"]
    assert hashlib.sha256(ledger.report(made.record["id"])).hexdigest() == made.record["report_sha256"]
    assert ledger.record(made.record["id"]) == made.record
    with runtime.sessions() as session:
        wish = session.scalars(sa.select(Generation)).one()
    assert (wish.seed, wish.parameters) == (5, {"steps": 4})


def test_a_picture_is_looked_up_by_hash_by_path_and_by_its_pixels(
    ledger: Ledger, runtime: Runtime, tmp_path: Path
) -> None:
    record_id = str(generated(runtime))
    record = ledger.record(record_id)
    (tmp_path / "a.png").write_bytes(ledger.file(record_id))
    for what in (
        record["file_sha256"],
        record["pixel_sha256"].upper(),
        record["iscc"],
        str(tmp_path / "a.png"),
        tmp_path / "a.png",
        ledger.file(record_id),
        png(1),
        picture(1),
        Image.fromarray(picture(1)),
    ):
        assert [each["id"] for each in ledger.lookup(what)] == [record_id], what
    assert ledger.lookup("0" * 64) == []


def test_waiting_ends_with_the_address_of_what_is_still_being_made(runtime: Runtime) -> None:
    with served(runtime) as address, Ledger(address, api_key=api_key(runtime)) as ledger:
        with pytest.raises(Unavailable) as error:
            ledger.generate("a boat", wait=0.3)
        assert error.value.code == "not_finished"
        assert "/v1/generations/" in error.value.next_step


def test_errors_come_back_as_the_ledger_raised_them(ledger: Ledger) -> None:
    with pytest.raises(BadRequest) as refused:
        ledger.generate("x" * 5000)
    assert (refused.value.code, refused.value.status) == ("prompt_too_long", 400)
    with pytest.raises(BadRequest) as unreadable:
        ledger.verify(b"not an image")
    assert (unreadable.value.code, unreadable.value.status) == ("image_format_unsupported", 422)
    with pytest.raises(NotFound) as unknown:
        ledger.record("00000000-0000-7000-8000-000000000000")
    assert unknown.value.next_step


def test_writing_without_a_key_says_what_is_missing(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(runtime) as address:
        with Ledger(address) as ledger, pytest.raises(NotAllowed) as error:
            ledger.stamp(png())
        assert error.value.code == "api_key_missing"
        monkeypatch.setenv("LAWFUL_API_KEY", api_key(runtime))
        with Ledger(address) as ledger, working(runtime):
            assert ledger.stamp(png()).record["state"] == "issued"


def test_a_lost_answer_is_asked_for_again_and_makes_no_second_record(runtime: Runtime) -> None:
    """A proxy takes the request to the ledger and then drops the connection: the sender cannot know that it arrived."""
    dropped = []

    with served(runtime) as address:

        class Proxy(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                kept = {name: self.headers[name] for name in ("authorization", "content-type", "idempotency-key")}
                answer = httpx.post(address + self.path, content=body, headers=kept, timeout=60, trust_env=False)
                if len(dropped) < 2:
                    dropped.append(self.headers["idempotency-key"])
                    self.close_connection = True
                    return
                self._give(answer)

            def do_GET(self) -> None:
                self._give(httpx.get(address + self.path, trust_env=False))

            def _give(self, answer: httpx.Response) -> None:
                self.send_response(answer.status_code)
                for name in ("content-type", "location"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
            threading.Thread(target=proxy.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{proxy.server_address[1]}"
            with working(runtime), Ledger(url, api_key=api_key(runtime)) as ledger:
                stamped = ledger.stamp(png(8))
            proxy.shutdown()
    assert stamped.record["state"] == "issued"
    assert len(set(dropped)) == 1
    with runtime.sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).where(Record.kind == "stamp")) == 1


def test_an_image_of_another_mode_arrives_as_it_was(ledger: Ledger) -> None:
    grey = Image.fromarray(picture(2)).convert("L")
    stamped = ledger.stamp(grey)
    assert Image.open(io.BytesIO(stamped.data)).mode == "L"
