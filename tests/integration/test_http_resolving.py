"""The C2PA Soft Binding Resolution API: a copy without its credential gets the manifest back, byte for byte."""

import base64
import io
import json
import uuid
from dataclasses import replace
from typing import Any

import c2pa
import iscc_core
import numpy as np
import pytest
import sqlalchemy as sa
from litestar.testing import TestClient
from PIL import Image

from attribution.fingerprints import fingerprint, image_code, iscc_bits
from ledger import bindings, issue
from ledger.credentials.jumbf import manifest_stores, newest_claim
from ledger.credentials.read import read_credential
from ledger.database.tables.records import Record
from ledger.erasure import erase
from ledger.runtime import Runtime
from models.images import decode, encode_png
from tests.waiting import until

from .conftest import picture
from .http_ledger import EVIDENCE, generated, operator, png, serving, stamped

pytestmark = pytest.mark.postgres


def saved_again(data: bytes, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image = Image.open(io.BytesIO(data)).convert("RGB")
    side = options.pop("side", None)
    (image if side is None else image.resize((side, side))).save(out, kind, **options)
    return out.getvalue()


def sequence(code: str) -> str:
    return base64.b64encode(iscc_core.encode_seq([code])).decode()


def ask(client: TestClient, code: str, **more: Any) -> Any:  # type: ignore[type-arg]
    return client.get("/v1/matches/byBinding", params={"alg": bindings.ALG, "value": sequence(code), **more})


def urn(runtime: Runtime, record_id: uuid.UUID) -> str:
    with runtime.sessions() as session:
        return str(session.get_one(Record, record_id).manifest_urn)


def stamped_over(runtime: Runtime, image: bytes, parent: str) -> uuid.UUID:
    """An issued stamp of a file that brought the credential `parent`, which is kept beneath the new one."""
    with runtime.sessions.begin() as session:
        record_id = issue.accept_stamp(
            session,
            runtime,
            principal_id=operator(runtime),
            image=image,
            media_type="image/png",
            declared_model=None,
            prompt=None,
            prompt_commitment=None,
            idempotency_key=None,
        )
    found = fingerprint(image, decode(image).pixels)
    issue.sign(runtime, record_id, issue.Produced(image, "image/png", found, EVIDENCE, parent_manifest_urn=parent))
    issue.finish(runtime, record_id)
    return record_id


EDITS = {
    "saved as PNG": ("PNG", {}),
    "saved as JPEG at quality 60": ("JPEG", {"quality": 60}),
    "saved as WebP": ("WEBP", {"quality": 80}),
    "at twice the size": ("PNG", {"side": 192}),
}


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_a_copy_without_its_credential_gets_its_manifest_back_byte_for_byte(runtime: Runtime, edit: str) -> None:
    record_id = generated(runtime)
    generated(runtime, seed=2)
    with serving(runtime) as client:
        issued = client.get(f"/v1/records/{record_id}/file").content
        kind, options = EDITS[edit]
        copy = saved_again(issued, kind, **options)
        assert manifest_stores(copy) == []
        headers = {"content-type": f"image/{kind.lower()}"}
        (match,) = client.post("/v1/matches/byContent", content=copy, headers=headers).json()["matches"]
        store = client.get(f"/v1/manifests/{match['manifestId']}")
    assert match["manifestId"] == urn(runtime, record_id)
    assert 94 <= match["similarityScore"] <= 100
    assert store.headers["content-type"] == "application/c2pa"
    assert [store.content] == manifest_stores(issued)
    with c2pa.Reader("image/png", io.BytesIO(issued), store.content) as reader:
        assert json.loads(reader.json())["active_manifest"] == match["manifestId"]


def test_the_code_of_a_picture_finds_it_in_each_way_it_may_be_written(runtime: Runtime) -> None:
    record_id = generated(runtime)
    code = image_code(picture(1))
    other_units = [iscc_core.gen_data_code(io.BytesIO(b"x" * 99), 256)["iscc"], code]
    longer = base64.b64encode(iscc_core.encode_seq(other_units)).decode()
    values = [sequence(code), longer, base64.b64encode(code.encode()).decode()]
    values += [value.rstrip("=").replace("+", "-").replace("/", "_") for value in values]
    wanted = {"matches": [{"manifestId": urn(runtime, record_id), "similarityScore": 100}]}
    with serving(runtime) as client:
        for value in values:
            question = {"alg": bindings.ALG, "value": value}
            assert client.get("/v1/matches/byBinding", params=question).json() == wanted
            assert client.post("/v1/matches/byBinding", json=question).json() == wanted


def test_the_score_is_the_part_of_bits_that_agree_and_ends_where_strangers_begin(runtime: Runtime) -> None:
    generated(runtime)
    digest = bytearray.fromhex(iscc_bits(image_code(picture(1))))
    with serving(runtime) as client:
        for flipped, score in ((1, 99), (16, 93), (17, None)):
            changed = bytearray(digest)
            for bit in range(flipped):
                changed[bit // 8] ^= 1 << (bit % 8)
            value = base64.b64encode(iscc_core.encode_seq([image_code(picture(1))])[:2] + bytes(changed)).decode()
            found = client.get("/v1/matches/byBinding", params={"alg": bindings.ALG, "value": value}).json()["matches"]
            assert [each["similarityScore"] for each in found] == ([] if score is None else [score])
        assert ask(client, image_code(picture(7))).json() == {"matches": []}


def test_of_equal_pictures_the_earliest_comes_first_and_no_more_than_asked_for(runtime: Runtime) -> None:
    first = generated(runtime)
    second = stamped(runtime, png(1), "another model")
    with serving(runtime) as client:
        found = ask(client, image_code(picture(1))).json()["matches"]
        assert [each["manifestId"] for each in found] == [urn(runtime, first), urn(runtime, second)]
        assert ask(client, image_code(picture(1)), maxResults=1).json()["matches"] == found[:1]
        assert len(ask(client, image_code(picture(1)), maxResults=10**9).json()["matches"]) == 2


def test_the_active_manifest_alone_is_a_store_that_a_reader_takes(runtime: Runtime) -> None:
    """Of a stamp whose file brought a credential: its store holds two manifests, one of them its parent's."""
    with serving(runtime) as client:
        first = generated(runtime)
        parent = client.get(f"/v1/records/{first}/file").content
        record_id = stamped_over(runtime, parent, urn(runtime, first))
        name = urn(runtime, record_id)
        whole = client.get(f"/v1/manifests/{name}").content
        alone = client.get(f"/v1/manifests/{name}", params={"returnActiveManifest": "true"}).content
    claim = newest_claim(whole)
    assert claim is not None
    assert newest_claim(alone) == claim
    assert claim.manifest_urn == name
    assert len(alone) < len(whole)
    assert alone[-200:] == whole[-200:]
    with c2pa.Reader("image/png", io.BytesIO(parent), alone) as reader:
        assert list(json.loads(reader.json())["manifests"]) == [name]


def test_an_erased_record_is_neither_matched_nor_handed_out(runtime: Runtime) -> None:
    record_id = generated(runtime)
    name = urn(runtime, record_id)
    with serving(runtime) as client:
        assert client.get(f"/v1/manifests/{name}").status_code == 200
        erase(runtime, record_id, reason="requested", asked_by="artist")
        assert ask(client, image_code(picture(1))).json() == {"matches": []}
        assert client.get(f"/v1/manifests/{name}").json()["code"] == "manifest_unknown"


def test_a_record_that_is_not_issued_yet_is_not_matched(runtime: Runtime) -> None:
    record_id = generated(runtime)
    with runtime.sessions.begin() as session:
        session.execute(sa.update(Record).where(Record.id == record_id).values(state="sealed", listed=False))
    with serving(runtime) as client:
        assert ask(client, image_code(picture(1))).json() == {"matches": []}
        assert client.get(f"/v1/manifests/{urn(runtime, record_id)}").status_code == 404


@pytest.mark.parametrize(
    ("question", "status", "code"),
    [
        ({}, 400, "query_malformed"),
        ({"alg": bindings.ALG}, 400, "query_malformed"),
        ({"alg": "com.example.other.1", "value": "AAAA"}, 400, "alg_unsupported"),
        ({"alg": bindings.ALG, "value": ""}, 400, "binding_malformed"),
        ({"alg": bindings.ALG, "value": "not base64!"}, 400, "binding_malformed"),
        ({"alg": bindings.ALG, "value": "\x00ÿ"}, 400, "binding_malformed"),
        ({"alg": bindings.ALG, "value": base64.b64encode(b"ISCC:\xff").decode()}, 400, "binding_malformed"),
        ({"alg": bindings.ALG, "value": base64.b64encode(b"ISCC:KACT4").decode()}, 400, "binding_malformed"),
        ({"alg": bindings.ALG, "value": base64.b64encode(bytes(33)).decode()}, 400, "binding_malformed"),
        ({"alg": bindings.ALG, "value": "A" * 2049}, 414, "query_too_long"),
        ({"alg": bindings.ALG, "value": "AAAA", "maxResults": "0"}, 400, "query_malformed"),
        ({"alg": bindings.ALG, "value": "AAAA", "maxResults": "many"}, 400, "query_malformed"),
    ],
    ids=str,
)
def test_a_question_that_cannot_be_answered_is_refused_with_the_reason(
    runtime: Runtime, question: dict[str, str], status: int, code: str
) -> None:
    with serving(runtime) as client:
        answer = client.get("/v1/matches/byBinding", params=question)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["next_step"]
        if status != 414 and "maxResults" not in question:
            assert client.post("/v1/matches/byBinding", json=question).status_code == 400
        assert client.post("/v1/matches/byBinding", content=b"{}").status_code == 415


def test_content_that_is_no_picture_is_refused(runtime: Runtime) -> None:
    with serving(runtime) as client:
        as_png = {"content-type": "image/png"}
        assert client.post("/v1/matches/byContent", content=b"nothing", headers=as_png).status_code == 422
        assert (
            client.post("/v1/matches/byContent", content=b"x", headers={"content-type": "text/html"}).status_code == 415
        )
        other = client.post("/v1/matches/byContent", params={"alg": "x"}, content=png(), headers=as_png)
        assert other.json()["code"] == "alg_unsupported"


def test_asking_by_content_keeps_and_logs_nothing(runtime: Runtime) -> None:
    flat = encode_png(np.full((64, 64, 3), 200, np.uint8))
    with serving(runtime) as client:
        until(lambda: client.get("/v1/log").json().get("size"))  # the entry that founds the log is published
        size = client.get("/v1/log").json()["size"]
        assert client.post("/v1/matches/byContent", files={"file": ("a.png", flat)}).json() == {"matches": []}
        assert client.get("/v1/log").json()["size"] == size
    with runtime.sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Record)) == 0


def test_asking_by_content_is_limited_like_any_look(runtime: Runtime) -> None:
    few = runtime.settings.model_copy(update={"looks_per_minute": 2})
    runtime = replace(runtime, settings=few)
    with serving(runtime) as client:
        answers = [client.post("/v1/matches/byContent", files={"file": ("a.png", png())}) for _ in range(3)]
        assert [each.status_code for each in answers] == [200, 200, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert ask(client, image_code(picture(1))).status_code == 200


def test_what_is_advertised_is_there_and_what_is_not_there_is_not_advertised(runtime: Runtime) -> None:
    with serving(runtime) as client:
        found = client.get("/.well-known/c2pa-soft-binding-resolution").json()
        assert found == {
            "apiEndpoint": f"{runtime.settings.public_url}/v1",
            "c2paSpecificationVersion": "2.4.0",
            "capabilitiesEndpoint": f"{runtime.settings.public_url}/v1/services/capabilities",
            "statusEndpoint": f"{runtime.settings.public_url}/v1/services/status",
        }
        capabilities = client.get(found["capabilitiesEndpoint"].removeprefix(runtime.settings.public_url)).json()
        assert capabilities == {"c2paSpecificationVersion": "2.4.0", "supportedCapabilities": ["queryByContent"]}
        algorithms = client.get("/v1/services/supportedAlgorithms").json()
        assert algorithms == {"watermarks": [], "fingerprints": [{"alg": "io.iscc.v0"}]}
        assert client.get("/v1/services/status").json()["status"] == "ok"
        for absent in ("/v1/matches/byReference", "/v1/manifests", "/v1/bindings"):
            assert client.post(absent, json={}).status_code in (404, 405)


def test_the_code_of_the_picture_is_what_its_own_credential_states(runtime: Runtime) -> None:
    """So whoever holds the manifest can ask with its soft binding as it stands there."""
    with serving(runtime) as client:
        issued = client.get(f"/v1/records/{generated(runtime)}/file").content
    with c2pa.Reader("image/png", io.BytesIO(issued)) as reader:
        manifest = json.loads(reader.json())
    assertions = manifest["manifests"][manifest["active_manifest"]]["assertions"]
    (stated,) = [each["data"] for each in assertions if each["label"] == "c2pa.soft-binding"]
    assert stated["alg"] == bindings.ALG
    assert stated["blocks"][0]["value"] == image_code(decode(issued).pixels)


def test_a_generation_says_what_it_is_in_xmp_too_and_its_credential_covers_that(runtime: Runtime) -> None:
    with serving(runtime) as client:
        issued = client.get(f"/v1/records/{generated(runtime)}/file").content
        declared = client.get(f"/v1/records/{stamped(runtime, png(2), 'a model')}/file").content
    xmp = Image.open(io.BytesIO(issued)).info["XML:com.adobe.xmp"]
    assert "digitalsourcetype/trainedAlgorithmicMedia" in xmp
    assert "XML:com.adobe.xmp" not in Image.open(io.BytesIO(declared)).info  # of whose making nothing is known
    for data, content in ((issued, "intact"), (issued.replace(b"Made with", b"Mode with"), "altered")):
        read = read_credential(data, "image/png", anchors_pem=runtime.keys.root_pem, now=runtime.clock())
        assert read.content == content
