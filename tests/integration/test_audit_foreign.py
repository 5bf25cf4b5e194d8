"""`lawful audit` over HTTP on a log that is not ours: honest, growing, and ill-meaning in every way that has a code."""

import base64
import gzip
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.audit import fetch, watch
from ledger.audit.auditor import Reading
from ledger.audit.fetch import HttpLog
from ledger.audit.state import keep_evidence, only_one, read_state
from ledger.audit.trust import Trust
from ledger.audit.watch import Auditor, Told
from ledger.errors import BadRequest, Conflict, Unavailable
from ledger.log import merkle
from ledger.log.policy import Policy

from .foreign_log import Key, Log, Server, reply, sha256, streamed

ORIGIN = "log.example.org/2026"
PREFIX = "/some/where/2026/"
NOW = 1_800_000_000.0


def numbered(start: int, end: int) -> list[bytes]:
    return [b"entry %d" % i for i in range(start, end)]


@pytest.fixture
def log() -> Log:
    return Log(ORIGIN, numbered(0, 1000))


@pytest.fixture
def server(log: Log) -> Iterator[Server]:
    with Server(log.files, PREFIX) as serving:
        yield serving


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def look(
    server: Server,
    log: Log,
    state: Path | None,
    reading: Reading = Reading(),  # noqa: B008 - frozen
    max_age: float | None = None,
    now: float = NOW,
    **trust: Any,
) -> Told:
    with HttpLog(server.url) as http:
        chosen = Trust.of([log.key.vkey], **trust)
        return Auditor(http, chosen, state, reading, max_age, clock=lambda: now).once()


def codes(told: Told) -> list[str]:
    return [finding.code for finding in told.report.findings]


# ---- an honest log -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 1000])
@pytest.mark.parametrize("reading", [Reading(), Reading(full=True), Reading(new=1, old=0)])
def test_an_honest_log_of_any_size_is_consistent(size: int, reading: Reading, state: Path) -> None:
    log = Log(ORIGIN, numbered(0, size))
    with Server(log.files, PREFIX) as server:
        told = look(server, log, state, reading)
    assert told.report.consistent
    assert codes(told) == []
    assert (told.report.size, told.report.root) == (size, base64.b64encode(log.root()).decode())
    remembered = read_state(state)
    assert remembered is not None
    assert remembered.note.encode() == log.files["checkpoint"]


@pytest.mark.parametrize("reading", [Reading(), Reading(full=True), Reading(every_new=True), Reading(new=0, old=0)])
@pytest.mark.parametrize("partial", [True, False], ids=["partial tiles kept", "partial tiles deleted"])
def test_a_growing_log_is_followed_from_any_size_to_any_other(state: Path, reading: Reading, partial: bool) -> None:
    log = Log(ORIGIN, numbered(0, 3), partial=partial)
    with Server(log.files, PREFIX) as server:
        for size in (3, 200, 256, 300, 512, 513, 1024, 1024, 1300):
            log.append(numbered(log.size, size))
            told = look(server, log, state, reading)
            assert codes(told) == []
            assert told.report.size == size


def test_a_log_grows_over_66000_entries_and_upper_tiles_are_checked(state: Path) -> None:
    log = Log(ORIGIN, numbered(0, 65_000))
    with Server(log.files, PREFIX) as server:
        assert codes(look(server, log, state)) == []
        log.append(numbered(65_000, 66_000))
        assert codes(look(server, log, state)) == []
        assert "tile/1/000" in server.asked
        assert "tile/2/000.p/1" in server.asked
        log.files["tile/1/000"] = sha256(b"lie") + log.files["tile/1/000"][32:]
        assert codes(look(server, log, state, Reading(full=True))) == ["tile_contradicts"]


def test_only_new_tiles_are_fetched_again(log: Log, server: Server, state: Path) -> None:
    look(server, log, state)
    server.asked.clear()
    log.append(numbered(1000, 1100))
    look(server, log, state, Reading(new=0, old=0))
    assert set(server.asked) == {"checkpoint", "tile/0/003", "tile/0/004.p/76", "tile/1/000.p/4"}


def test_entries_of_a_foreign_log_are_opaque_and_all_are_read_when_asked(log: Log, server: Server, state: Path) -> None:
    told = look(server, log, state, Reading(full=True))
    assert told.report.statements == {"opaque": 1000}
    assert told.report.entries_read == 1000
    assert told.report.entries_to == 1000
    assert told.report.bundles_read == 4


def test_a_sample_reads_as_many_bundles_as_were_asked_for(state: Path) -> None:
    log = Log(ORIGIN, numbered(0, 256 * 20))
    with Server(log.files, PREFIX) as server:
        told = look(server, log, state, Reading(new=3, old=2))
        assert told.report.bundles_read in {3, 4}  # three by lot and the first
        log.append(numbered(256 * 20, 256 * 40))
        server.asked.clear()
        told = look(server, log, state, Reading(new=3, old=2))
        assert told.report.bundles_read == 5
        read = [path for path in server.asked if path.startswith("tile/entries/")]
        assert sum(path >= "tile/entries/020" for path in read) == 3


def test_nothing_outside_the_prefix_is_asked_for(log: Log, server: Server, state: Path) -> None:
    look(server, log, state, Reading(full=True))
    assert "(outside)" not in server.asked
    assert set(server.asked) <= set(log.files)


def test_a_url_without_its_last_slash_means_the_same(log: Log, server: Server, state: Path) -> None:
    server.url = server.url.rstrip("/")
    assert codes(look(server, log, state)) == []


def test_gzip_without_being_asked_is_understood(log: Log, server: Server, state: Path) -> None:
    for path in [each for each in log.files if "entries" in each]:
        server.answers[path] = reply(200, gzip.compress(log.files[path]), Content_Encoding="gzip")
    assert codes(look(server, log, state, Reading(full=True))) == []


# ---- a log that lies -----------------------------------------------------------------------------------------------


def held(state: Path, told: Told, code: str) -> dict[str, Any]:
    """The finding is this one alone, the state stays, the evidence is kept: returned."""
    assert codes(told) == [code]
    assert not told.report.consistent
    assert not told.state_moved
    [path] = told.evidence
    evidence = json.loads(Path(path).read_text())
    assert (evidence["code"], Path(path).parent) == (code, state.parent)
    return evidence


def after_an_audit(server: Server, log: Log, state: Path) -> bytes:
    assert codes(look(server, log, state)) == []
    return state.read_bytes()


@pytest.mark.parametrize("reading", [Reading(), Reading(full=True), Reading(every_new=True)])
@pytest.mark.parametrize("size", [1000, 1001, 1300])
@pytest.mark.parametrize("changed", [0, 255, 999])
def test_a_forked_log_is_proved_to_be_one(
    log: Log, server: Server, state: Path, reading: Reading, size: int, changed: int
) -> None:
    before = after_an_audit(server, log, state)
    entries = numbered(0, size)
    entries[changed] = b"another entry"
    fork = Log(ORIGIN, entries, log.key)
    server.files = fork.files
    told = look(server, log, state, reading)
    evidence = held(state, told, "two_roots" if size == 1000 else "forked")
    assert state.read_bytes() == before
    assert evidence["seen_before"].encode() == log.files["checkpoint"]
    assert evidence["served"].encode() == fork.files["checkpoint"]
    if size == 1000:
        return
    # With the two notes, both signed by the log, and these hashes, anybody can tell: the new root stands over another
    # tree of 1,000 entries than the old note does.
    proof = evidence["consistency"]
    other = base64.b64decode(proof["root_of_old_size_in_new_tree"])
    hashes = [base64.b64decode(value) for value in proof["hashes"]]
    merkle.verify_consistency(1000, size, other, fork.root(), hashes)
    assert other == fork.root(1000) != log.root()


def test_a_log_that_lost_entries_has_shrunk(log: Log, server: Server, state: Path) -> None:
    before = after_an_audit(server, log, state)
    log.sign(size=900)
    evidence = held(state, look(server, log, state), "log_shrank")
    assert "900" in evidence["served"]
    assert state.read_bytes() == before


def test_a_checkpoint_of_another_origin_is_not_this_log(log: Log, server: Server, state: Path) -> None:
    log.sign(origin="other.example.org")
    held(state, look(server, log, state), "origin_unknown")


def test_a_believed_log_in_the_place_of_another_is_told_apart(log: Log, server: Server, state: Path) -> None:
    after_an_audit(server, log, state)
    other = Log("other.example.org", numbered(0, 2000))
    server.files = other.files
    with HttpLog(server.url) as http:
        told = Auditor(http, Trust.of([log.key.vkey, other.key.vkey]), state, Reading()).once()
    held(state, told, "origin_changed")


def test_a_checkpoint_by_another_key_proves_nothing(log: Log, server: Server, state: Path) -> None:
    server.files = Log(ORIGIN, numbered(0, 1000)).files
    held(state, look(server, log, state), "checkpoint_unsigned")


def test_a_false_signature_under_a_believed_name_refuses_the_checkpoint(log: Log, server: Server, state: Path) -> None:
    text, _, lines = log.files["checkpoint"].decode().rpartition("\n\n")
    log.sign(size=999)
    log.files["checkpoint"] = log.files["checkpoint"].decode().partition("\n\n")[0].encode() + f"\n\n{lines}".encode()
    assert text
    held(state, look(server, log, state), "checkpoint_signature_false")


@pytest.mark.parametrize("note", [b"", b"hello\n", b"\xff\xfe", b"a\n1\nAAAA\n\n" + "— a AAAA\n".encode()])
def test_a_checkpoint_that_is_none_is_refused(log: Log, server: Server, state: Path, note: bytes) -> None:
    log.files["checkpoint"] = note
    held(state, look(server, log, state), "checkpoint_malformed")


@pytest.mark.parametrize("reading", [Reading(), Reading(full=True)])
def test_a_root_that_the_tiles_do_not_hash_to_is_found(log: Log, server: Server, state: Path, reading: Reading) -> None:
    log.sign(root=sha256(b"some root"))
    evidence = held(state, look(server, log, state, reading), "root_mismatch")
    assert {"tile/0/003.p/232", "tile/1/000.p/3"} <= {each["path"] for each in evidence["fetched"]}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("tile/0/001", "tile_contradicts"),  # level 1 says otherwise
        ("tile/0/003.p/232", "root_mismatch"),
        ("tile/1/000.p/3", "tile_contradicts"),
    ],
)
def test_a_tile_that_lies_is_found(log: Log, server: Server, state: Path, path: str, code: str) -> None:
    log.files[path] = sha256(b"lie") + log.files[path][32:]
    held(state, look(server, log, state, Reading(new=0, old=0)), code)


def test_a_partial_tile_of_the_past_that_lies_now_is_found(log: Log, server: Server, state: Path) -> None:
    after_an_audit(server, log, state)
    log.append(numbered(1000, 1010))
    log.files["tile/0/003.p/242"] = sha256(b"lie") + log.files["tile/0/003.p/242"][32:]
    server.files = dict(log.files)
    told = look(server, log, state, Reading(new=0, old=0))
    assert codes(told)[0] in {"root_mismatch", "tile_contradicts"}
    assert not told.state_moved


@pytest.mark.parametrize("reading", [Reading(), Reading(full=True)])
def test_an_entry_that_is_not_its_leaf_is_named(log: Log, server: Server, state: Path, reading: Reading) -> None:
    body = log.files["tile/entries/002"]
    log.files["tile/entries/002"] = body.replace(b"entry 600", b"entry 6oo")
    told = look(server, log, state, reading)
    evidence = held(state, told, "entry_contradicts_tile")
    assert told.report.findings[0].index == 600
    assert bytes.fromhex(evidence["entry"]) == b"entry 6oo"


def test_an_old_bundle_with_its_tile_replaced_does_not_stand_under_the_root(
    log: Log, server: Server, state: Path
) -> None:
    """A sample finds what following alone never would: history rewritten below tiles that are not read again."""
    after_an_audit(server, log, state)
    entries = numbered(0, 1000)
    entries[7] = b"another entry"
    other = Log(ORIGIN, entries)
    for path in ("tile/entries/000", "tile/0/000"):
        log.files[path] = other.files[path]
    held(state, look(server, log, state), "root_mismatch")


@pytest.mark.parametrize(
    ("path", "change", "code"),
    [
        ("tile/0/000", lambda body: body[:-1], "tile_malformed"),
        ("tile/0/000", lambda body: body[:-32], "tile_malformed"),
        ("tile/0/000", lambda _: b"", "tile_malformed"),
        ("tile/0/003.p/232", lambda body: body + bytes(32), "body_too_large"),
        ("tile/entries/000", lambda body: body[:-1], "bundle_malformed"),
        ("tile/entries/000", lambda body: body + b"\0", "bundle_malformed"),
        ("tile/entries/000", lambda body: body + b"\0\0", "bundle_malformed"),
        ("tile/entries/000", lambda _: b"", "bundle_malformed"),
        ("tile/entries/000", lambda body: b"\xff\xff" + body[2:], "bundle_malformed"),
    ],
)
def test_a_file_of_a_wrong_length_is_refused(
    log: Log, server: Server, state: Path, path: str, change: Callable[[bytes], bytes], code: str
) -> None:
    log.files[path] = change(log.files[path])
    held(state, look(server, log, state, Reading(full=True)), code)


@pytest.mark.parametrize("path", ["tile/0/001", "tile/entries/001", "tile/0/003.p/232", "tile/1/000.p/3"])
def test_a_file_that_the_checkpoint_covers_must_be_there(log: Log, server: Server, state: Path, path: str) -> None:
    del log.files[path]
    told = look(server, log, state, Reading(full=True))
    held(state, told, "not_served")
    assert path in told.report.findings[0].detail


# ---- a server that lies --------------------------------------------------------------------------------------------


def test_a_redirect_is_not_followed(log: Log, server: Server, state: Path) -> None:
    with Server(log.files, "/elsewhere/") as elsewhere:
        server.answers["tile/0/001"] = reply(302, b"", Location=f"{elsewhere.url}tile/0/001")
        held(state, look(server, log, state), "redirected")
        assert elsewhere.asked == []


@pytest.mark.parametrize("path", ["checkpoint", "tile/0/000", "tile/entries/000"])
def test_an_endless_body_is_cut_off(log: Log, server: Server, state: Path, path: str) -> None:
    sent = itertools.count()

    def forever() -> Iterator[bytes]:
        for _ in sent:
            yield bytes(65_536)

    server.answers[path] = streamed(forever)
    held(state, look(server, log, state, Reading(full=True)), "body_too_large")
    assert next(sent) < 20_000, "the server could send more than 1.3 GB"


def test_a_body_that_unpacks_to_far_more_than_it_can_be_is_cut_off(log: Log, server: Server, state: Path) -> None:
    bomb = gzip.compress(bytes(50_000_000), 1)
    server.answers["tile/0/000"] = reply(200, bomb, Content_Encoding="gzip")
    held(state, look(server, log, state), "body_too_large")


def test_blocks_of_gzip_without_content_end_as_well(log: Log, server: Server, state: Path) -> None:
    head, empty_block = gzip.compress(b"")[:10], b"\x00\x00\x00\xff\xff"
    endless = streamed(lambda: itertools.chain([head], itertools.repeat(empty_block * 10_000)), Content_Encoding="gzip")
    server.answers["tile/0/000"] = endless
    held(state, look(server, log, state), "body_too_large")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip"])
def test_an_encoding_that_was_not_asked_for_or_is_none_is_refused(
    log: Log, server: Server, state: Path, encoding: str
) -> None:
    server.answers["tile/0/000"] = reply(200, log.files["tile/0/000"], Content_Encoding=encoding)
    held(state, look(server, log, state), "encoding_broken")


def test_a_gzip_cut_short_is_refused(log: Log, server: Server, state: Path) -> None:
    packed = gzip.compress(log.files["tile/0/000"])[:-4]
    server.answers["tile/0/000"] = reply(200, packed, Content_Encoding="gzip")
    held(state, look(server, log, state), "encoding_broken")


def test_a_body_that_drips_for_ever_is_no_answer(
    log: Log, server: Server, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(fetch, "ATTEMPTS", 2)

    def drip() -> Iterator[bytes]:
        while not server.stopping.wait(0.05):
            yield b"\0"

    server.answers["checkpoint"] = streamed(drip)
    with pytest.raises(Unavailable) as caught:
        look(server, log, state)
    assert caught.value.code == "log_unreachable"


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
