"""What a credential of ours says, in the eyes of readers that are not ours, and what it leaves alone."""

import hashlib
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import c2pa
import numpy as np
import pytest
from PIL import Image

from ledger.credentials.write import (
    AI_MADE,
    ATTRIBUTION_ASSERTION,
    LEDGER_ASSERTION,
    MEDIA_TYPES,
    WrittenCredential,
    thumbnail,
    write_credential,
)
from ledger.errors import BadRequest, Unavailable
from ledger.keys.ring import KeyRing, init_keys

Make = Callable[..., Any]


def foreign_reading(data: bytes, media_type: str, trust: dict[str, str] | None = None) -> dict[str, Any]:
    """The SDK as others use it: its default context, or one with a trust list and nothing else of ours."""
    context = c2pa.Context.from_dict({"trust": trust}) if trust else None
    with c2pa.Reader(media_type, io.BytesIO(data), context=context) as reader:
        return dict(json.loads(reader.json()))


def active(reading: dict[str, Any]) -> dict[str, Any]:
    return dict(reading["manifests"][reading["active_manifest"]])


def contents(manifest: dict[str, Any]) -> dict[str, Any]:
    return {assertion["label"]: assertion["data"] for assertion in manifest["assertions"]}


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize("intent", ["create", "declared"])
def test_format_and_pixels_stay_as_they_were(
    media_type: str, intent: str, picture: Make, asked: Make, sign: Make
) -> None:
    data = picture(media_type)
    written = sign(data, asked(intent=intent), media_type)
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(written.data))
    assert after.format == before.format
    assert np.array_equal(np.asarray(after), np.asarray(before))


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_other_readers_find_it_valid_and_with_our_anchor_trusted(
    media_type: str, picture: Make, asked: Make, sign: Make, ring: KeyRing
) -> None:
    written = sign(picture(media_type), asked(), media_type)
    assert foreign_reading(written.data, media_type)["validation_state"] == "Valid"
    # as `c2patool trust --trust_anchors … --trust_config …` sets it
    trust = {"trust_anchors": ring.root_pem, "trust_config": "1.3.6.1.5.5.7.3.4"}
    assert foreign_reading(written.data, media_type, trust)["validation_state"] == "Trusted"


def test_the_pictures_own_bytes_are_untouched_in_a_png(picture: Make, signed_png: WrittenCredential, png: Any) -> None:
    left = [(kind, body) for kind, body in png.chunks(signed_png.data) if kind != b"caBX"]
    assert png.assemble(left) == picture()


def test_a_generated_image_says_everything_the_conformance_rubric_asks(
    signed_png: WrittenCredential,
) -> None:
    manifest = active(foreign_reading(signed_png.data, "image/png"))
    assert manifest["label"] == signed_png.manifest_urn
    assert manifest["claim_version"] == 2
    assert manifest["claim_generator_info"][0]["name"] == "Lawful Ledger"
    assert manifest["claim_generator_info"][0]["specVersion"] == "2.4.0"
    assert all(assertion["created"] for assertion in manifest["assertions"])
    said = contents(manifest)
    assert list(said) == [
        "c2pa.actions.v2",
        "c2pa.ai-disclosure",
        LEDGER_ASSERTION,
        ATTRIBUTION_ASSERTION,
        "c2pa.soft-binding",
        "cawg.training-mining",
    ]
    assert said["c2pa.actions.v2"] == {
        "allActionsIncluded": True,
        "actions": [
            {
                "action": "c2pa.created",
                "digitalSourceType": AI_MADE,
                "softwareAgent": {"name": "atelier", "version": "r1"},
            }
        ],
    }
    assert said["c2pa.ai-disclosure"]["modelName"] == "atelier"
    assert said["c2pa.ai-disclosure"]["contentProfile"] == {"humanOversightLevel": "prompt_guided"}
    assert said["c2pa.soft-binding"]["alg"] == "io.iscc.v0"
    assert said["cawg.training-mining"]["entries"]["cawg.ai_training"] == {"use": "notAllowed"}
    assert said[LEDGER_ASSERTION]["schema"] == "lawful-ledger/record/1"


def test_works_and_models_are_never_ingredients(signed_png: WrittenCredential) -> None:
    reading = foreign_reading(signed_png.data, "image/png")
    assert "ingredients" not in active(reading)
    assert "ingredientDeltas" not in reading["validation_results"]


def test_a_declared_image_claims_nothing_about_how_it_was_made(picture: Make, asked: Make, sign: Make) -> None:
    written = sign(picture(), asked(intent="declared", software=("Lawful Ledger", "1")))
    reading = foreign_reading(written.data, "image/png")
    assert "trainedAlgorithmicMedia" not in json.dumps(reading)
    assert "c2pa.ai-disclosure" not in contents(active(reading))
    actions = [action["action"] for action in contents(active(reading))["c2pa.actions.v2"]["actions"]]
    assert actions == ["c2pa.opened", "c2pa.edited.metadata"]
    assert len(reading["manifests"]) == 1


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_a_credential_that_is_there_becomes_the_parent(
    media_type: str, picture: Make, asked: Make, sign: Make, stranger: KeyRing
) -> None:
    theirs = sign(picture(media_type), asked(), media_type, by=stranger)
    ours = sign(theirs.data, asked(intent="edit"), media_type)
    reading = foreign_reading(ours.data, media_type)
    assert set(reading["manifests"]) == {ours.manifest_urn, theirs.manifest_urn}
    [parent] = active(reading)["ingredients"]
    assert parent["relationship"] == "parentOf"
    assert parent["active_manifest"] == theirs.manifest_urn
    assert AI_MADE not in json.dumps(active(reading))


@pytest.mark.parametrize(
    ("intent", "has_credential", "names_model"),
    [("create", True, True), ("declared", True, False), ("edit", False, False), ("create", False, False)],
)
def test_a_request_that_does_not_fit_the_file_is_refused(
    intent: str, has_credential: bool, names_model: bool, picture: Make, asked: Make, sign: Make
) -> None:
    data = sign(picture(), asked()).data if has_credential else picture()
    request = asked(intent=intent) if names_model or intent != "create" else asked(model=None)
    with pytest.raises(BadRequest) as caught:
        sign(data, request)
    assert caught.value.code == "credential_intent"


def test_only_formats_the_ledger_knows_are_written(asked: Make, sign: Make) -> None:
    with pytest.raises(BadRequest) as caught:
        sign(b"GIF89a", asked(), "image/gif")
    assert caught.value.code == "credential_intent"


def test_a_credential_that_cannot_be_read_is_not_painted_over(
    signed_png: WrittenCredential, asked: Make, sign: Make, png: SimpleNamespace
) -> None:
    parts = png.chunks(signed_png.data)
    broken = png.assemble([(kind, body[:200] if kind == b"caBX" else body) for kind, body in parts])
    with pytest.raises(BadRequest) as caught:
        sign(broken, asked(intent="edit"))
    assert caught.value.code == "credential_unreadable"


def test_statements_beyond_the_limit_are_refused_with_their_size(picture: Make, asked: Make, sign: Make) -> None:
    with pytest.raises(BadRequest, match=r"come to 11\d{5} bytes; the limit is 1048575") as caught:
        sign(picture(), asked(attribution={"statement": "x" * 1_100_000}))
    assert caught.value.code == "credential_too_large"


def test_bytes_that_are_no_image_get_one_clear_error(asked: Make, sign: Make) -> None:
    with pytest.raises(BadRequest) as caught:
        sign(b"\x89PNG\r\n\x1a\n and then nothing", asked())
    assert caught.value.code == "credential_not_written"
    assert caught.value.next_step


def test_the_data_hash_is_the_hash_of_everything_but_the_credential(signed_png: WrittenCredential) -> None:
    start = signed_png.data.index(b"caBX") - 4
    length = int.from_bytes(signed_png.data[start : start + 4], "big") + 12
    outside = signed_png.data[:start] + signed_png.data[start + length :]
    assert signed_png.data_hash == hashlib.sha256(outside).hexdigest()


def test_the_same_picture_signed_twice_has_one_data_hash_and_two_claims(picture: Make, asked: Make, sign: Make) -> None:
    one, two = sign(picture(), asked()), sign(picture(), asked())
    assert one.data_hash == two.data_hash
    assert one.claim_sha256 != two.claim_sha256
    assert one.manifest_urn != two.manifest_urn


def test_a_thumbnail_is_a_small_jpeg_of_the_pixels(sign: Make, picture: Make, asked: Make) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(picture(size=600))))
    small = thumbnail(pixels)
    assert small is not None
    assert Image.open(io.BytesIO(small)).size == (256, 256)
    assert len(small) < 20_000
    written = sign(picture(size=600), asked(thumbnail=small))
    with c2pa.Reader("image/png", io.BytesIO(written.data)) as reader:
        manifest = active(json.loads(reader.json()))
        stored = io.BytesIO()
        reader.resource_to_stream(manifest["thumbnail"]["identifier"], stored)
    assert stored.getvalue() == small


def test_a_picture_smaller_than_a_thumbnail_gets_none() -> None:
    assert thumbnail(np.zeros((255, 200, 3), np.uint8)) is None
    assert thumbnail(np.zeros((4, 256, 3), np.uint8)) is not None


def test_an_expired_certificate_signs_nothing_and_says_so(tmp_path: Path, picture: Make, asked: Make) -> None:
    ring = init_keys(tmp_path / "keys", "localhost/ledger/2020", now=datetime.now(UTC) - timedelta(days=366))
    with pytest.raises(Unavailable) as caught:
        write_credential(picture(), "image/png", asked(), ring.credential, root_pem=ring.root_pem)
    assert caught.value.code == "credential_expired"


def test_threads_sign_side_by_side(picture: Make, asked: Make, sign: Make, read: Make) -> None:
    data = picture()
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda _: sign(data, asked()), range(24)))
    assert len({one.manifest_urn for one in written}) == 24
    assert {read(one.data).signer for one in written} == {"trusted"}


def test_the_ledgers_own_text_comes_back_letter_for_letter(picture: Make, asked: Make, sign: Make, read: Make) -> None:
    said = {
        "schema": "lawful-ledger/record/1",
        "tlog_proof": "— é\n\n\u202e\x00",
        "statement": "A" * 80_000,
        "n": 2**53,
    }
    written = sign(picture(), asked(ledger=said))
    assert read(written.data).ledger == said
