"""Timestamps of a real RFC 3161 authority (OpenSSL's) on a loopback port: what they save, and what a dead one costs."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ledger.credentials.read import CredentialReading, read_credential, trust_list
from ledger.credentials.write import (
    CredentialRequest,
    ModelDisclosure,
    WrittenCredential,
    new_manifest_urn,
    write_credential,
)
from ledger.errors import Unavailable
from ledger.keys.certificates import LEAF_LIFETIME
from ledger.keys.ring import KeyRing, init_keys

from .timestamp_authority import Authority, needs_openssl, running_authority

pytestmark = needs_openssl


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    with running_authority(tmp_path / "authority") as running:
        yield running


@pytest.fixture
def picture() -> bytes:
    return (Path(__file__).parent.parent / "golden" / "credentials" / "plain.png").read_bytes()


def sign(picture: bytes, ring: KeyRing, tsa_url: str | None) -> WrittenCredential:
    request = CredentialRequest(
        manifest_urn=new_manifest_urn(),
        intent="create",
        software=("atelier", "r1"),
        ledger={"schema": "lawful-ledger/record/1"},
        model=ModelDisclosure("atelier", "atelier@sha256:00ff"),
    )
    return write_credential(picture, "image/png", request, ring.credential, tsa_url=tsa_url, root_pem=ring.root_pem)


def read(written: WrittenCredential, *anchors: str) -> CredentialReading:
    return read_credential(
        written.data, "image/png", anchors_pem=trust_list(*anchors), now=datetime.now(UTC) + timedelta(seconds=1)
    )


def test_a_timestamp_outlives_the_certificate(authority: Authority, tmp_path: Path, picture: bytes) -> None:
    made = datetime.now(UTC) - LEAF_LIFETIME + timedelta(seconds=5)
    ring = init_keys(tmp_path / "keys", "localhost/ledger/2025", now=made)
    stamped, bare = sign(picture, ring, authority.url), sign(picture, ring, None)
    time.sleep(max(0.0, (ring.credential.not_after - datetime.now(UTC)).total_seconds() + 1.1))

    known = read(stamped, ring.root_pem, authority.root_pem)
    assert (known.content, known.signature, known.signer) == ("intact", "valid", "trusted")
    assert known.signed_at is not None
    assert datetime.fromisoformat(known.signed_at) <= ring.credential.not_after

    unknown_authority = read(stamped, ring.root_pem)
    assert (unknown_authority.content, unknown_authority.signature) == ("intact", "expired")
    assert unknown_authority.signed_at is None
    assert (read(bare, ring.root_pem).content, read(bare, ring.root_pem).signature) == ("intact", "expired")


def test_the_time_is_told_only_by_an_authority_the_checker_trusts(
    authority: Authority, tmp_path: Path, picture: bytes
) -> None:
    ring = init_keys(tmp_path / "keys", "localhost/ledger/2026", now=datetime.now(UTC))
    written = sign(picture, ring, authority.url)
    assert authority.requests == 1
    assert read(written, ring.root_pem, authority.root_pem).signed_at is not None
    without = read(written, ring.root_pem)
    assert (without.signature, without.signer, without.signed_at) == ("valid", "trusted", None)
    assert "timeStamp.untrusted" in without.codes


@pytest.mark.parametrize("mode", ["broken", "lying", "gone"])
def test_an_authority_that_fails_stops_the_signing_and_is_named(
    mode: str, authority: Authority, tmp_path: Path, picture: bytes
) -> None:
    ring = init_keys(tmp_path / "keys", "localhost/ledger/2026", now=datetime.now(UTC))
    authority.mode = mode
    url = "http://127.0.0.1:1/" if mode == "gone" else authority.url
    with pytest.raises(Unavailable) as caught:
        sign(picture, ring, url)
    assert caught.value.code == "tsa_down"
    assert "LAWFUL_TSA_URL" in caught.value.next_step
