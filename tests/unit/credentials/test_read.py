"""Anybody's credential: what was done to a file and what is answered, on real files."""

import hashlib
import io
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import c2pa
import pytest
from PIL import Image

from ledger.credentials.read import CredentialReading, read_credential, trust_list
from ledger.credentials.write import MEDIA_TYPES, WrittenCredential, write_credential
from ledger.errors import BadRequest
from ledger.keys.certificates import LEAF_LIFETIME
from ledger.keys.ring import KeyRing, init_keys

Make = Callable[..., Any]
Read = Callable[..., CredentialReading]


def four(reading: CredentialReading) -> tuple[str, str, str, str]:
    return reading.credential, reading.content, reading.signature, reading.signer


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_our_own_file_is_intact_and_trusted(
    media_type: str, picture: Make, asked: Make, sign: Make, read: Read, ring: KeyRing
) -> None:
    written = sign(picture(media_type), asked(), media_type)
    reading = read(written.data, media_type)
    assert four(reading) == ("present", "intact", "valid", "trusted")
    assert reading.ingredients == "none"
    assert reading.validation_state == "Trusted"
    assert (reading.manifest_urn, reading.claim_sha256) == (written.manifest_urn, written.claim_sha256)
    assert reading.data_hash == written.data_hash
    assert reading.signer_name == "Lawful Ledger, localhost/ledger/2026"
    assert reading.certificate_expires == ring.credential.not_after
    assert reading.signed_at is None
    assert reading.claim_generator is not None
    assert reading.claim_generator.startswith("Lawful Ledger ")
    assert reading.ledger is not None
    assert reading.attribution is not None
    assert reading.trust_list_sha256 == hashlib.sha256(ring.root_pem.encode()).hexdigest()


def test_with_no_anchors_the_signer_is_unknown_and_nothing_else_changes(
    signed_png: WrittenCredential, read: Read
) -> None:
    reading = read(signed_png.data, anchors="")
    assert four(reading) == ("present", "intact", "valid", "unknown")
    assert reading.validation_state == "Valid"


def test_anybody_can_sign_under_our_name_and_is_unknown(
    picture: Make, asked: Make, sign: Make, read: Read, stranger: KeyRing
) -> None:
    reading = read(sign(picture(), asked(), by=stranger).data)
    assert four(reading) == ("present", "intact", "valid", "unknown")
    assert reading.signer_name == "Lawful Ledger, localhost/ledger/2026"


def test_a_second_root_in_the_trust_list_is_trusted_too(
    picture: Make, asked: Make, sign: Make, read: Read, ring: KeyRing, stranger: KeyRing
) -> None:
    anchors = trust_list("# ours\n" + ring.root_pem, stranger.root_pem, ring.root_pem)
    assert anchors.count("BEGIN CERTIFICATE") == 2
    for signer in (ring, stranger):
        assert read(sign(picture(), asked(), by=signer).data, anchors=anchors).signer == "trusted"


@pytest.mark.parametrize("pem", ["rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_trust_list_that_is_none_is_the_operators_error(signed_png: WrittenCredential, read: Read, pem: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(signed_png.data, anchors=pem)
    assert caught.value.code == "anchors_unreadable"


# ---- the tamper table ------------------------------------------------------------------------------------------------


def test_one_changed_pixel_is_altered(signed_png: WrittenCredential, read: Read, png: SimpleNamespace) -> None:
    parts = png.chunks(signed_png.data)
    image = Image.open(io.BytesIO(signed_png.data))
    image.putpixel((3, 3), (1, 2, 3))
    out = io.BytesIO()
    image.save(out, "png")
    repainted = [part for part in png.chunks(out.getvalue()) if part[0] == b"IDAT"]
    changed = png.assemble([p for p in parts if p[0] in (b"IHDR", b"caBX")] + repainted + [(b"IEND", b"")])
    reading = read(changed)
    assert four(reading) == ("present", "altered", "valid", "trusted")
    assert "assertion.dataHash.mismatch" in reading.codes


@pytest.mark.parametrize("where", ["text chunk", "after the end", "before the credential"])
def test_added_bytes_are_altered(where: str, signed_png: WrittenCredential, read: Read, png: SimpleNamespace) -> None:
    parts, note = png.chunks(signed_png.data), (b"tEXt", b"Comment\0hello")
    changed = {
        "text chunk": png.assemble([*parts[:-1], note, parts[-1]]),
        "after the end": signed_png.data + b"trailing",
        "before the credential": png.assemble([parts[0], note, *parts[1:]]),
    }[where]
    reading = read(changed)
    assert four(reading) == ("present", "altered", "valid", "trusted")


def test_an_edited_assertion_is_altered_under_a_valid_signature(
    signed_png: WrittenCredential, read: Read, png: SimpleNamespace
) -> None:
    reading = read(png.edit_credential(signed_png.data, b"no single source stands out", b"by Vincent van Gogh himself"))
    assert four(reading) == ("present", "altered", "valid", "trusted")
    assert "assertion.hashedURI.mismatch" in reading.codes


def test_an_edited_claim_is_an_invalid_signature_that_vouches_for_nothing(
    signed_png: WrittenCredential, read: Read, png: SimpleNamespace
) -> None:
    reading = read(png.edit_credential(signed_png.data, b"2.4.0", b"2.4.1"))
    assert four(reading) == ("present", "not_checked", "invalid", "not_checked")
    assert "claimSignature.mismatch" in reading.codes
    assert reading.claim_sha256 != signed_png.claim_sha256


def test_a_credential_moved_to_another_picture_is_altered(
    signed_png: WrittenCredential, read: Read, png: SimpleNamespace, picture: Make
) -> None:
    credential = [part for part in png.chunks(signed_png.data) if part[0] == b"caBX"]
    other = png.chunks(picture(size=72))
    assert read(png.assemble(other[:1] + credential + other[1:])).content == "altered"


@pytest.mark.parametrize("how", ["chunk cut out", "saved again"])
def test_a_stripped_file_has_no_credential(
    how: str, signed_png: WrittenCredential, read: Read, png: SimpleNamespace
) -> None:
    out = io.BytesIO()
    if how == "saved again":
        Image.open(io.BytesIO(signed_png.data)).save(out, "png")
    else:
        out.write(png.assemble([part for part in png.chunks(signed_png.data) if part[0] != b"caBX"]))
    reading = read(out.getvalue())
    assert four(reading) == ("absent", "not_checked", "not_checked", "not_checked")
    assert reading.codes == []


@pytest.mark.parametrize("keep", [0.05, 0.1, 0.5])
def test_a_file_cut_off_inside_its_credential_is_unreadable(
    keep: float, signed_png: WrittenCredential, read: Read
) -> None:
    reading = read(signed_png.data[: int(len(signed_png.data) * keep)])
    assert four(reading) == ("unreadable", "not_checked", "not_checked", "not_checked")
    assert reading.codes


@pytest.mark.parametrize("missing", [1, 200])
def test_a_file_cut_off_after_its_credential_is_altered(
    missing: int, signed_png: WrittenCredential, read: Read
) -> None:
    assert four(read(signed_png.data[:-missing])) == ("present", "altered", "valid", "trusted")


def test_two_manifest_stores_are_unreadable_even_if_they_are_the_same(
    signed_png: WrittenCredential, read: Read, png: SimpleNamespace
) -> None:
    parts = png.chunks(signed_png.data)
    reading = read(png.assemble(parts[:2] + parts[1:]))
    assert reading.credential == "unreadable"
    assert reading.codes == ["reader.several_manifest_stores"]


def test_a_second_jpeg_box_cannot_lend_its_claim_to_another_signature(
    picture: Make, asked: Make, sign: Make, read: Read, stranger: KeyRing
) -> None:
    """Two stores under one box number: a reader that checks one and hashes the other would say ours and mean theirs."""
    ours, theirs = (sign(picture("image/jpeg"), asked(), "image/jpeg", by=by) for by in (None, stranger))
    spot, end = _app11(ours.data)
    at, _ = _app11(theirs.data)
    both = theirs.data[:at] + ours.data[spot:end] + theirs.data[at:]
    assert read(both, "image/jpeg").codes == ["reader.several_manifest_stores"]


def _app11(jpeg: bytes) -> tuple[int, int]:
    start = jpeg.index(b"\xff\xeb")
    return start, start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big")


@pytest.mark.parametrize("body", [b"", b"\0" * 64, b"jumb" * 40, None])
def test_a_garbage_store_is_unreadable_not_absent(
    body: bytes | None, signed_png: WrittenCredential, read: Read, png: SimpleNamespace
) -> None:
    parts = png.chunks(signed_png.data)
    garbage = parts[1][1][:300] if body is None else body
    reading = read(png.assemble([parts[0], (b"caBX", garbage), *parts[2:]]))
    assert reading.credential == "unreadable"
    assert len(reading.codes) == 1


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x04\0\0\0WEBP"])
def test_what_is_no_image_is_answered_too(data: bytes, read: Read) -> None:
    assert read(data).credential in ("unreadable", "absent")


# ---- time ----------------------------------------------------------------------------------------------------------


def test_an_expired_certificate_without_timestamp_is_expired_and_the_content_intact(
    signed_png: WrittenCredential, ring: KeyRing
) -> None:
    later = ring.credential.not_after + timedelta(seconds=1)
    reading = read_credential(signed_png.data, "image/png", anchors_pem=ring.root_pem, now=later)
    assert four(reading) == ("present", "intact", "expired", "not_checked")
    assert reading.checked_at == later


def test_the_machines_clock_says_expired_in_the_same_words(tmp_path: Path, picture: Make, asked: Make) -> None:
    ring = init_keys(tmp_path / "keys", "localhost/ledger/2025", now=datetime.now(UTC) - LEAF_LIFETIME + _seconds(3))
    written = write_credential(picture(), "image/png", asked(), ring.credential, root_pem=ring.root_pem)
    time.sleep(max(0.0, (ring.credential.not_after - datetime.now(UTC)).total_seconds() + 1.1))
    reading = read_credential(written.data, "image/png", anchors_pem=ring.root_pem, now=datetime.now(UTC))
    assert four(reading) == ("present", "intact", "expired", "not_checked")
    assert "signingCredential.expired" in reading.codes
    assert reading.validation_state == "Invalid"


def _seconds(count: int) -> timedelta:
    return timedelta(seconds=count)


# ---- ancestry --------------------------------------------------------------------------------------------------------


def test_an_intact_parent_is_intact(signed_png: WrittenCredential, asked: Make, sign: Make, read: Read) -> None:
    reading = read(sign(signed_png.data, asked(intent="edit")).data)
    assert four(reading) == ("present", "intact", "valid", "trusted")
    assert reading.ingredients == "intact"


def test_an_unknown_signer_of_the_parent_breaks_nothing(
    picture: Make, asked: Make, sign: Make, read: Read, stranger: KeyRing
) -> None:
    theirs = sign(picture(), asked(), by=stranger)
    reading = read(sign(theirs.data, asked(intent="edit")).data)
    assert reading.signer == "trusted"
    assert reading.ingredients == "intact"
    assert "signingCredential.untrusted" in reading.codes


@pytest.mark.parametrize("generations", [1, 2])
def test_a_tampered_ancestor_is_seen_though_the_active_manifest_is_fine(
    generations: int, signed_png: WrittenCredential, asked: Make, sign: Make, read: Read
) -> None:
    data = signed_png.data + b"tampered"
    for _ in range(generations):
        data = sign(data, asked(intent="edit")).data
    reading = read(data)
    assert four(reading) == ("present", "intact", "valid", "trusted")
    assert reading.validation_state == "Trusted"  # so the SDK's own state does not show it
    assert reading.ingredients == "broken"
    assert "assertion.dataHash.mismatch" in reading.codes


def test_a_parent_manifest_edited_afterwards_is_broken(
    signed_png: WrittenCredential, asked: Make, sign: Make, read: Read, png: SimpleNamespace
) -> None:
    ours = sign(signed_png.data, asked(intent="edit", attribution=None))
    edited = png.edit_credential(ours.data, b"no single source stands out", b"by Vincent van Gogh himself")
    reading = read(edited)
    assert (reading.content, reading.ingredients) == ("intact", "broken")
    assert "ingredient.manifest.mismatch" in reading.codes


def test_a_parent_without_credential_is_not_checked(picture: Make, asked: Make, sign: Make, read: Read) -> None:
    reading = read(sign(picture(), asked(intent="declared")).data)
    assert reading.ingredients == "not_checked"
    assert "ingredient.unknownProvenance" in reading.codes


def test_what_an_ancestor_says_is_not_what_this_file_says(
    signed_png: WrittenCredential, asked: Make, sign: Make, read: Read
) -> None:
    assert read(signed_png.data).attribution is not None
    assert read(sign(signed_png.data, asked(intent="edit", attribution=None)).data).attribution is None


# ---- the network -----------------------------------------------------------------------------------------------------


class Loopback:
    """A server that counts who asks."""

    def __init__(self) -> None:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(404)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.asked = asked
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/manifest.c2pa"


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    loop = Loopback()
    thread = threading.Thread(target=loop.server.serve_forever, daemon=True)
    thread.start()
    yield loop
    loop.server.shutdown()
    loop.server.server_close()


def with_provenance(media_type: str, data: bytes, url: str, png: SimpleNamespace) -> bytes:
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dcterms="http://purl.org/dc/terms/" '
        f'dcterms:provenance="{url}"/></rdf:RDF></x:xmpmeta>'
    ).encode()
    if media_type == "image/png":
        parts = png.chunks(data)
        return bytes(png.assemble([parts[0], (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp), *parts[1:]]))
    segment = b"http://ns.adobe.com/xap/1.0/\0" + xmp
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


@pytest.mark.parametrize("media_type", ["image/png", "image/jpeg"])
def test_a_remote_manifest_is_named_and_never_fetched(
    media_type: str, loopback: Loopback, picture: Make, read: Read, png: SimpleNamespace
) -> None:
    data = with_provenance(media_type, picture(media_type), loopback.url, png)
    reading = read(data, media_type)
    assert reading.credential == "remote_only"
    assert reading.remote_url == loopback.url
    assert loopback.asked == []
    with pytest.raises(c2pa.C2paError):  # the SDK's default reader does ask: the server above can be reached
        c2pa.Reader(media_type, io.BytesIO(data))
    assert loopback.asked == ["/manifest.c2pa"]


def test_neither_signing_nor_reading_follows_an_address_in_the_file(
    loopback: Loopback, picture: Make, asked: Make, sign: Make, read: Read, png: SimpleNamespace
) -> None:
    data = with_provenance("image/png", picture(), loopback.url, png)
    written = sign(data, asked(intent="declared"))
    assert four(read(written.data)) == ("present", "intact", "valid", "trusted")
    assert loopback.asked == []


# ---- strangers' text -------------------------------------------------------------------------------------------------


def test_text_from_a_manifest_is_plain_and_bounded(picture: Make, read: Read, ring: KeyRing) -> None:
    name = "<script>\u202e\n\x1b[31m" + "x" * 2000
    definition = {
        "claim_generator_info": [{"name": name}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [_created()]}}],
    }
    signer = c2pa.Signer.from_callback(
        ring.credential.key.sign, c2pa.C2paSigningAlg.ES256, ring.credential.certificates_pem, None
    )
    out = io.BytesIO()
    c2pa.Builder(json.dumps(definition)).sign(signer, "image/png", io.BytesIO(picture()), out)
    reading = read(out.getvalue())
    assert reading.claim_generator is not None
    assert len(reading.claim_generator) <= 512
    assert reading.claim_generator.startswith("<script>��")
    assert not set(reading.claim_generator) & {"\n", "\x1b", "\u202e"}
    assert reading.ledger is None
    assert reading.attribution is None


def _created() -> dict[str, str]:
    return {
        "action": "c2pa.created",
        "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCreation",
    }
