"""What `verify` answers for our own files and what becomes of them, without the collection (that is the engine's)."""

import base64
import dataclasses
import datetime as dt
import io
import uuid
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from PIL import Image

from ledger import erasure, issue, lookup, verdict, verify
from ledger.credentials.read import read_credential
from ledger.credentials.write import CredentialRequest, new_manifest_urn, write_credential
from ledger.database.tables.records import Record
from ledger.errors import BadRequest, NotFound
from ledger.keys.ring import KeyRing, init_keys
from ledger.log.merkle import leaf_hash
from ledger.log.notes import Checkpoint, NoteSigner, TlogProof, sign_note
from ledger.runtime import Runtime
from ledger.settings import Settings
from ledger.tampering import change_one_pixel, strip
from models.errors import ImageError
from models.images import decode, encode_png

from .conftest import picture
from .test_issue import accept, produced

pytestmark = pytest.mark.postgres


@pytest.fixture
def issued(runtime: Runtime) -> bytes:
    return issue_one(runtime)[1]


def issue_one(runtime: Runtime, seed: int = 1) -> tuple[uuid.UUID, bytes]:
    record_id = accept(runtime)
    issue.sign(runtime, record_id, produced(seed))
    issue.finish(runtime, record_id)
    with runtime.sessions() as session:
        return record_id, runtime.storage.get(lookup.file_key(session, record_id)[0])


def look(runtime: Runtime, data: bytes, *, asked: bool = True, vkeys: list[str] | None = None) -> verify.Verification:
    with runtime.sessions() as session:
        return verify.verify(
            data,
            session=session if asked else None,
            anchors_pem=runtime.keys.root_pem,
            log_vkeys=runtime.log_vkeys if vkeys is None else vkeys,
            examine=None,
            now=runtime.clock(),
        )


def jpeg(data: bytes, quality: int = 60) -> bytes:
    out = io.BytesIO()
    Image.fromarray(decode(data).pixels).save(out, "JPEG", quality=quality)
    return out.getvalue()


def halved(data: bytes) -> bytes:
    pixels = decode(data).pixels
    half = Image.fromarray(pixels).resize((pixels.shape[1] // 2, pixels.shape[0] // 2), Image.Resampling.LANCZOS)
    return encode_png(np.asarray(half))


def answers(found: verify.Verification) -> tuple[str, ...]:
    return msgspec.structs.astuple(found.answers)


@pytest.mark.parametrize(
    ("change", "expected", "found_by"),
    [
        (lambda data: data, ("present", "intact", "valid", "trusted", "none", "recorded"), "credential"),
        (change_one_pixel, ("present", "altered", "valid", "trusted", "none", "contradicts"), "credential"),
        (strip, ("absent", "not_checked", "not_checked", "not_checked", "not_checked", "recorded"), "pixel_sha256"),
        (jpeg, ("absent", "not_checked", "not_checked", "not_checked", "not_checked", "similar"), "soft_binding"),
        (halved, ("absent", "not_checked", "not_checked", "not_checked", "not_checked", "similar"), "soft_binding"),
        (
            lambda _: encode_png(picture(77)),
            ("absent", "not_checked", "not_checked", "not_checked", "not_checked", "not_recorded"),
            None,
        ),
    ],
    ids=["original", "one pixel changed", "stripped", "JPEG-60", "halved", "unrelated"],
)
def test_each_copy_gets_its_six_answers(
    runtime: Runtime, issued: bytes, change: Callable[[bytes], bytes], expected: tuple[str, ...], found_by: str | None
) -> None:
    found = look(runtime, change(issued))
    assert answers(found) == expected
    assert found.found_by == found_by
    assert [check.step for check in found.checks] == list(range(1, len(verdict.CHECKS) + 1))
    assert found.verdict.endswith(".")


def test_a_day_is_written_out_for_people_and_in_iso_for_programs(runtime: Runtime, issued: bytes) -> None:
    found = look(runtime, issued)
    made = dt.datetime.fromisoformat(found.records[0].created_at).astimezone(dt.UTC)
    assert f" on {made.day} {made:%B %Y}; " in found.verdict


def test_without_a_ledger_the_file_proves_its_entry_to_whoever_holds_the_log_key(
    runtime: Runtime, issued: bytes
) -> None:
    assert look(runtime, issued, asked=False).answers.ledger == "recorded"
    assert look(runtime, issued, asked=False, vkeys=[]).answers.ledger == "not_checked"
    assert look(runtime, change_one_pixel(issued), asked=False).answers.ledger == "contradicts"


def test_another_ledgers_file_is_not_ours_and_no_contradiction(
    runtime: Runtime, settings: Settings, superuser_url: str, issued: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = init_keys(tmp_path_factory.mktemp("stranger") / "keys", "elsewhere/ledger/2026", now=runtime.clock())
    found = look(dataclasses.replace(runtime, current_keys=lambda: stranger), strip(issued))
    assert found.answers.ledger == "recorded"  # the pixels are in this database, whoever asks
    found = look(dataclasses.replace(runtime, current_keys=lambda: stranger), issued)
    assert found.answers.signer == "unknown"
    assert "log_key_unknown" in {check.code for check in found.checks}


def test_a_foreign_credential_around_our_entry_contradicts_the_issued_one(runtime: Runtime, issued: bytes) -> None:
    """Anybody can lift our assertion into a file of their own: same pixels, same statement, another manifest."""
    said, _ = assertion(runtime, issued)
    found = look(runtime, forge(runtime, strip(issued), said))
    assert found.answers.ledger == "contradicts"
    assert verdict.CONTRADICTIONS["credential_is_not_the_issued_one"] in found.verdict


def forge(
    runtime: Runtime, picture_of: bytes, said: dict[str, object], ring: KeyRing | None = None, /, **changes: object
) -> bytes:
    """A credential that the ledger never issued and that carries our ledger assertion, changed as told. It is signed
    with `ring`, a stranger's, or else with the ledger's own certificate, as if that were stolen."""
    request = CredentialRequest(
        manifest_urn=str(changes.pop("manifest_urn", new_manifest_urn())),
        intent="declared",
        software=("someone", "1"),
        ledger={**said, **changes},
    )
    ring = ring or runtime.keys
    return write_credential(picture_of, "image/png", request, ring.credential, root_pem=ring.root_pem).data


def assertion(runtime: Runtime, data: bytes) -> tuple[dict[str, object], str]:
    reading = read_credential(data, "image/png", anchors_pem=runtime.keys.root_pem, now=runtime.clock())
    assert reading.ledger is not None
    assert reading.manifest_urn is not None
    return reading.ledger, reading.manifest_urn


def test_our_statement_under_a_strangers_proof_does_not_make_another_picture_recorded(
    runtime: Runtime, issued: bytes
) -> None:
    said, _ = assertion(runtime, issued)
    entry = base64.b64decode(str(said["statement"]))
    stranger = NoteSigner.generate("stranger/ledger/2026")
    note = sign_note(Checkpoint(stranger.name, 1, leaf_hash(entry)).text, stranger)
    proof = TlogProof(0, (), note).to_bytes().decode()
    found = look(runtime, forge(runtime, encode_png(picture(66)), said, tlog_proof=proof))
    assert found.answers.ledger == "contradicts"


def test_the_issued_manifests_name_on_another_claim_contradicts(runtime: Runtime, issued: bytes) -> None:
    said, urn = assertion(runtime, issued)
    found = look(runtime, forge(runtime, strip(issued), said, manifest_urn=urn))
    assert found.answers.ledger == "contradicts"


@pytest.mark.parametrize("changes", [{"salt": "00"}, {"salt": "zz"}, {"statement": "AA=="}, {"tlog_proof": "no"}])
def test_a_ledger_assertion_of_nonsense_never_raises(
    runtime: Runtime, issued: bytes, changes: dict[str, object]
) -> None:
    said, _ = assertion(runtime, issued)
    found = look(runtime, forge(runtime, strip(issued), said, **changes))
    assert found.answers.ledger == "contradicts"


def test_what_strangers_wrote_is_kept_as_plain_bounded_text_and_never_the_salt(runtime: Runtime, issued: bytes) -> None:
    said, _ = assertion(runtime, issued)
    found = look(runtime, forge(runtime, strip(issued), said, lookup_url="a\x00b" * 5000, more={"deep": ["x"]}))
    kept = found.credential["ledger"]
    assert "salt" not in kept
    assert "more" not in kept
    assert len(kept["lookup_url"]) == verdict.MAX_SHOWN_CHARS
    assert "\x00" not in str(kept)


def test_several_records_of_the_same_pixels_are_all_listed_earliest_first(runtime: Runtime, issued: bytes) -> None:
    second, _ = issue_one(runtime)
    found = look(runtime, strip(issued))
    assert len(found.records) == 2
    assert found.records[1].id == str(second)


def test_an_erased_record_is_redacted_to_who_holds_the_file_and_gone_to_everybody_else(runtime: Runtime) -> None:
    record_id, data = issue_one(runtime)
    erasure.erase(runtime, record_id, reason="requested", asked_by="depicted person")
    erasure.erase(runtime, record_id, reason="requested", asked_by="depicted person")
    found = look(runtime, data)
    assert found.answers.ledger == "redacted"
    assert found.records[0].redacted
    assert found.records[0].pixel_sha256 is None
    assert look(runtime, strip(data)).answers.ledger == "not_recorded"
    with runtime.sessions() as session:
        row = session.get_one(Record, record_id)
        assert (row.salt, row.pixel_sha256, row.file_key) == (None, None, None)
        with pytest.raises(NotFound):
            lookup.report(session, record_id)
    with pytest.raises(NotFound):
        runtime.storage.get(f"files/{found.file_sha256}.png")
    with pytest.raises(BadRequest):
        erasure.erase(runtime, record_id, reason="requested", asked_by="Jane Doe")


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"x" * 1000])
def test_what_is_no_image_is_refused_with_a_code(runtime: Runtime, data: bytes) -> None:
    with pytest.raises(ImageError) as error:
        look(runtime, data)
    assert error.value.code.startswith("image_")
    assert error.value.next_step
