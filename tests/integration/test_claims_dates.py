"""Since when an image is known, and on whose word: a real timestamp authority's, or the ledger's own clock."""

import datetime as dt
from pathlib import Path

import pytest

from ledger.claims import on_record
from ledger.claims.facts import Sighting
from ledger.database.tables.records import Record
from ledger.log.timestamps import Timestamps
from ledger.runtime import Runtime
from ledger.tampering import strip
from models.images import decode, pixel_sha256

from .http_ledger import generated, png, stamped
from .timestamp_authority import needs_openssl, running_authority

pytestmark = pytest.mark.postgres


def sighting(runtime: Runtime, image: bytes) -> Sighting | None:
    with runtime.sessions() as session:
        return on_record.sighting(session, pixel_sha256(decode(image).pixels))


def test_without_an_authority_it_is_the_ledgers_own_word(runtime: Runtime) -> None:
    record = stamped(runtime, png(50))
    seen = sighting(runtime, png(50))
    assert seen is not None
    assert (seen.by, seen.record_id, seen.made_here) == ("log", str(record), False)
    assert abs(runtime.clock() - seen.at) < dt.timedelta(minutes=2)
    assert sighting(runtime, png(51)) is None


@needs_openssl
def test_an_authoritys_token_over_a_checkpoint_that_covers_the_record_goes_before_it(
    runtime: Runtime, tmp_path: Path
) -> None:
    stamped(runtime, png(50))
    logged = sighting(runtime, png(50))
    with running_authority(tmp_path / "authority") as authority:
        Timestamps(runtime.sessions, runtime.shard, authority.url, 0.01).stamp_if_due()
    told = sighting(runtime, png(50))
    stamped(runtime, png(52))  # after the token: it says nothing of this one
    later = sighting(runtime, png(52))
    assert logged is not None
    assert told is not None
    assert later is not None
    assert (logged.by, told.by, later.by) == ("log", "authority", "log")
    assert told.at >= logged.at.replace(microsecond=0)  # a token has whole seconds


def test_the_earliest_record_of_the_pixels_counts_and_says_whether_they_were_made_here(runtime: Runtime) -> None:
    first = generated(runtime, seed=4)
    with runtime.sessions() as session:
        file = runtime.storage.get(session.get_one(Record, first).file_key or "")
    stamped(runtime, strip(file))
    seen = sighting(runtime, file)
    assert seen is not None
    assert (seen.record_id, seen.made_here) == (str(first), True)
