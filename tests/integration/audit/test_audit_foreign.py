"""`lawful audit` over HTTP on a log that is not ours: honest, growing, and ill-meaning in every way that has a code."""

import base64
import gzip
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.audit import fetch
from ledger.audit.auditor import Reading
from ledger.audit.fetch import HttpLog
from ledger.audit.state import read_state
from ledger.audit.trust import Trust
from ledger.audit.watch import Auditor
from ledger.errors import Unavailable
from ledger.log import merkle

from .foreign_log import Log, Server, reply, sha256, streamed
from .looking import ORIGIN, PREFIX, after_an_audit, codes, held, look, numbered

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


@pytest.mark.slow
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
