"""`lawful audit` over time: a log out of reach, witnesses, ages, what is kept between two looks, watching for ever."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger.audit import fetch, watch
from ledger.audit.auditor import Reading
from ledger.audit.fetch import HttpLog
from ledger.audit.state import keep_evidence, only_one
from ledger.audit.trust import Trust
from ledger.audit.watch import Auditor, Told
from ledger.errors import BadRequest, Conflict, Unavailable
from ledger.log.policy import Policy

from .foreign_log import Key, Log, Server, reply
from .looking import NOW, ORIGIN, PREFIX, after_an_audit, codes, held, look, numbered

# ---- out of reach --------------------------------------------------------------------------------------------------


def test_a_busy_server_is_asked_again(log: Log, server: Server, state: Path) -> None:
    def once_busy(request: Any) -> None:
        del server.answers["tile/0/001"]
        reply(503, b"")(request)

    server.answers["tile/0/001"] = once_busy
    assert codes(look(server, log, state)) == []
    assert server.asked.count("tile/0/001") >= 2


def test_a_server_that_stays_broken_is_out_of_reach_and_moves_nothing(log: Log, server: Server, state: Path) -> None:
    before = after_an_audit(server, log, state)
    log.append(numbered(1000, 1300))
    server.answers["tile/0/004"] = reply(500, b"")
    with pytest.raises(Unavailable) as caught:
        look(server, log, state)
    assert caught.value.code == "log_unreachable"
    assert state.read_bytes() == before


def test_an_address_without_a_log_says_so(log: Log, server: Server, state: Path) -> None:
    server.url = server.url.replace("2026", "2025")
    with pytest.raises(Unavailable) as caught:
        look(server, log, state)
    assert caught.value.code == "log_not_there"


@pytest.mark.parametrize("url", ["ftp://x/", "file:///etc/", "x", "http://", "http://x/?y", "http://u:p@x/"])
def test_an_address_that_no_log_has_is_refused(url: str) -> None:
    with pytest.raises(BadRequest) as caught:
        HttpLog(url)
    assert caught.value.code == "log_url_invalid"


# ---- witnesses and time --------------------------------------------------------------------------------------------


def test_witnesses_that_were_asked_for_must_have_signed(log: Log, server: Server, state: Path) -> None:
    one, two = Key("one.example", 4), Key("two.example", 4)
    log.witnesses = [(one, int(NOW) - 5)]
    log.sign()
    assert look(server, log, state, witness_vkeys=[one.vkey]).report.quorum is True
    told = look(server, log, state, witness_vkeys=[one.vkey, two.vkey])
    assert codes(told) == ["quorum_missing"]
    assert told.report.consistent
    assert told.state_moved, "the tree holds: what was seen is remembered"
    nobody = Policy.parse(f"log {log.key.vkey}\nwitness a {one.vkey}\nquorum none\n")
    assert look(server, log, state, policy=nobody).report.quorum is None
    policy = f"witness a {one.vkey}\nwitness b {two.vkey}\ngroup any 1 a b\nquorum any\n"
    assert look(server, log, state, policy=Policy.parse(policy)).report.quorum is True
    policy = policy.replace("any 1", "any 2")
    assert codes(look(server, log, state, policy=Policy.parse(policy))) == ["quorum_missing"]


def test_a_false_cosignature_refuses_the_checkpoint(log: Log, server: Server, state: Path) -> None:
    witness = Key("one.example", 4)
    log.witnesses = [(witness, int(NOW))]
    log.sign()
    line = log.files["checkpoint"].decode().splitlines(keepends=True)[-1]
    log.append(numbered(1000, 1001))
    good = log.files["checkpoint"].decode().splitlines(keepends=True)
    log.files["checkpoint"] = "".join([*good[:-1], line]).encode()
    held(state, look(server, log, state, witness_vkeys=[witness.vkey]), "checkpoint_signature_false")


def test_an_old_checkpoint_is_an_alarm_by_the_witness_s_clock(log: Log, server: Server, state: Path) -> None:
    witness = Key("one.example", 4)
    log.witnesses = [(witness, int(NOW) - 100)]
    log.sign()
    assert codes(look(server, log, state, max_age=101, witness_vkeys=[witness.vkey])) == []
    told = look(server, log, state, max_age=99, witness_vkeys=[witness.vkey])
    assert codes(told) == ["stale"]
    assert told.report.age == 100


def test_without_witnesses_the_age_counts_from_when_it_was_first_seen(log: Log, server: Server, state: Path) -> None:
    assert codes(look(server, log, state, max_age=60)) == []
    assert codes(look(server, log, state, max_age=60, now=NOW + 60)) == []
    assert codes(look(server, log, state, max_age=60, now=NOW + 61)) == ["stale"]
    log.append([b"alive"])
    assert codes(look(server, log, state, max_age=60, now=NOW + 62)) == []


# ---- state and evidence --------------------------------------------------------------------------------------------


def test_a_state_that_another_key_signed_is_not_believed(log: Log, server: Server, state: Path) -> None:
    look(server, log, state)
    with pytest.raises(BadRequest) as caught:
        look(server, Log(ORIGIN, []), state)
    assert caught.value.code == "audit_state_unusable"


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"note":"x","first_seen":1,"version":2}', b"\xff"])
def test_a_damaged_state_is_never_taken_for_none(log: Log, server: Server, state: Path, content: bytes) -> None:
    state.write_bytes(content)
    with pytest.raises(BadRequest) as caught:
        look(server, log, state)
    assert caught.value.code == "audit_state_unusable"
    assert state.read_bytes() == content


def test_one_state_serves_one_auditor_at_a_time(state: Path) -> None:
    with only_one(state), pytest.raises(Conflict) as caught, only_one(state):
        pass
    assert caught.value.code == "audit_running"
    with only_one(state):
        pass


def test_the_same_evidence_is_kept_once_and_never_too_much_of_it(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    first = keep_evidence(state, "forked", {"served": "a", "found_at": 1})
    assert keep_evidence(state, "forked", {"served": "a", "found_at": 2}) == first
    for i in range(100):
        keep_evidence(state, "forked", {"served": str(i), "found_at": 3})
    assert len(list(tmp_path.iterdir())) == 20
    assert json.loads(first.read_text())["found_at"] == 1


def test_memory_and_open_answers_do_not_grow_with_the_log(state: Path) -> None:
    """What the auditor holds is bounded by what is on its way: here counted by what the server has sent and not got rid
    of, since a reader that does not keep up is the one that would fill memory."""
    log = Log(ORIGIN, numbered(0, 256 * 40))
    running, most = 0, 0

    with Server(log.files, PREFIX) as server:

        def slow(path: str) -> Callable[[Any], None]:
            def answer(request: Any) -> None:
                nonlocal running, most
                running += 1
                most = max(most, running)
                time.sleep(0.01)
                reply(200, log.files[path])(request)
                running -= 1

            return answer

        for path in list(log.files):
            if path.startswith("tile/0/"):
                server.answers[path] = slow(path)
        assert codes(look(server, log, state, Reading(new=0, old=0))) == []
    assert 1 < most <= 8


def test_the_log_watched_without_a_state_file_remembers_in_memory(
    log: Log, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with HttpLog(server.url) as http:
        auditor = Auditor(http, Trust.of([log.key.vkey]), None, Reading())
        assert auditor.once().report.previous_size is None
        log.append([b"more"])
        assert auditor.once().report.previous_size == 1000
        server.files = Log(ORIGIN, numbered(1, 1500), log.key).files
        told = auditor.once()
    assert codes(told) == ["forked"]
    assert Path(told.evidence[0]).resolve().parent == tmp_path


def test_a_watch_goes_on_after_findings_and_waits_longer_for_a_log_that_is_away(
    log: Log, server: Server, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    told: list[Told] = []
    pauses: list[float] = []
    honest = server.files

    class Enough(Exception):
        pass

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        match len(pauses):
            case 1:
                server.files = Log(ORIGIN, numbered(1, 1500), log.key).files
            case 2:
                server.files = honest
                server.answers["checkpoint"] = reply(503, b"")
            case 5:
                server.answers.clear()
                log.append([b"back"])
            case 6:
                raise Enough

    metrics = watch.Metrics()
    with HttpLog(server.url) as http, pytest.raises(Enough):
        Auditor(http, Trust.of([log.key.vkey]), state, Reading()).watch(60, told.append, metrics, sleep)
    assert [codes(each) for each in told] == [[], ["forked"], []]
    assert told[-1].report.size == 1001
    assert pauses == [60, 60, 120, 240, 480, 60]
    sample = metrics.registry.get_sample_value
    assert sample("lawful_audit_consistent") == 1
    assert sample("lawful_audit_log_size") == 1001
    assert sample("lawful_audit_failures_total", {"code": "forked"}) == 1
    assert sample("lawful_audit_failures_total", {"code": "log_unreachable"}) == 3
