"""Whatever is sent, the answer is one that the schema knows, and never a 500."""

import json
import urllib.parse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from ledger.runtime import Runtime

from .http_ledger import api_key, generated, looked, png, serving

pytestmark = pytest.mark.postgres

FUZZ = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40).map(
    lambda text: text.strip().encode("latin-1")
)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
ANYTHING = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NEARLY_A_WISH = st.fixed_dictionaries(
    {"prompt": st.text(max_size=60) | SCALAR},
    optional=dict.fromkeys(("seed", "steps", "width", "height", "guidance", "prompt "), SCALAR),
)


@pytest.fixture
def client(runtime: Runtime):  # type: ignore[no-untyped-def]
    with serving(runtime) as client:
        client.headers["authorization"] = f"Bearer {api_key(runtime)}"
        yield client


def check(response) -> None:  # type: ignore[no-untyped-def]
    assert response.status_code < 500, (response.request.url, response.text)
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["next_step"]


def test_reading_with_any_path_query_and_header(client: TestClient, runtime: Runtime) -> None:
    record_id, look = str(generated(runtime)), str(looked(runtime, png()))
    tail = st.one_of(st.text(max_size=70), st.just("0" * 64), st.just(record_id), st.just(look), st.binary(max_size=20))
    paths = (
        "/r/",
        "/v/",
        "/v1/records/",
        "/v1/generations/",
        "/v1/stamps/",
        "/v1/verifications/",
        "/static/",
        "/schema/",
        "/",
    )

    @FUZZ
    @given(
        prefix=st.sampled_from(paths),
        tail=tail,
        part=st.sampled_from(["", "/file", "/report", "/proof", "/"]),
        query=st.dictionaries(
            st.sampled_from(["file_sha256", "pixel_sha256", "iscc", "wait", "x"]), st.text(max_size=70)
        ),
        accept=HEADER,
        known=HEADER,
    )
    def ask(prefix: str, tail: str | bytes, part: str, query: dict[str, str], accept: bytes, known: bytes) -> None:
        path = prefix + urllib.parse.quote(tail, safe="") + part
        encoded = {name: value.encode("utf-8", "surrogatepass") for name, value in query.items()}
        address = path + "?" + urllib.parse.urlencode(encoded)
        headers = {"accept": b"application/json, " + accept, "if-none-match": known}
        check(client.get(address, headers=headers, follow_redirects=False))
        check(client.get("/v1/records?" + urllib.parse.urlencode(encoded), headers=headers))

    ask()


def test_a_page_with_any_accept_header(client: TestClient) -> None:
    @FUZZ
    @given(accept=HEADER)
    def ask(accept: bytes) -> None:
        response = client.get(f"/r/{'0' * 64}", headers={"accept": accept})
        assert response.status_code == 404

    ask()


def test_generating_with_any_json(client: TestClient) -> None:
    @FUZZ
    @given(body=NEARLY_A_WISH | ANYTHING, key=HEADER, wait=st.sampled_from(["0", "-1", "1e999", "", "0x1", "nan"]))
    def ask(body: object, key: bytes, wait: str) -> None:
        content = json.dumps(body).encode("utf-8", "surrogatepass")
        headers = {"content-type": "application/json", "idempotency-key": key}
        check(client.post("/v1/generations", params={"wait": wait}, content=content, headers=headers))

    ask()


@pytest.mark.parametrize("path", ["/v1/generations", "/v1/matches/byBinding"])
def test_json_that_is_no_utf8_is_refused(client: TestClient, path: str) -> None:
    for body in (b'{"pr\xff\xffpt": "a"}', b'{"prompt": "\xed\xa0\x80"}', b"\xff\xfe{}", b'"\xc3"'):
        response = client.post(path, content=body, headers={"content-type": "application/json"})
        assert (response.status_code, response.json()["code"]) == (400, "request_malformed")


def test_uploading_any_bytes_in_any_form(client: TestClient) -> None:
    image = png(1, 48)

    @FUZZ
    @given(
        path=st.sampled_from(["/v1/stamps", "/v1/verifications", "/"]),
        names=st.lists(st.sampled_from(["file", "model", "prompt", "prompt_commitment", "x", ""]), max_size=5),
        filename=st.none() | st.text(max_size=30),
        body=st.binary(max_size=60) | st.just(image) | st.integers(0, len(image)).map(lambda end: image[:end]),
        cut=st.integers(0, 40),
        boundary=st.sampled_from(["x", "y", "", '"x"', "x; charset=utf-7"]),
    )
    def ask(path: str, names: list[str], filename: str | None, body: bytes, cut: int, boundary: str) -> None:
        form = b""
        for name in names:
            form += b'--x\r\nContent-Disposition: form-data; name="' + name.encode() + b'"'
            if filename is not None and name == "file":
                form += b'; filename="' + filename.encode("utf-8", "surrogatepass") + b'"'
            form += b"\r\n\r\n" + body + b"\r\n"
        form += b"--x--\r\n"
        headers = {"content-type": f"multipart/form-data; boundary={boundary}", "accept": "application/json"}
        check(client.post(path, content=form[: len(form) - cut], headers=headers, follow_redirects=False))
        check(client.post("/v1/verifications", content=body, headers={"content-type": "image/png"}))

    ask()


def test_any_authorization_header(runtime: Runtime) -> None:
    with serving(runtime) as client:

        @FUZZ
        @given(value=HEADER | HEADER.map(lambda text: b"Bearer " + text))
        def ask(value: bytes) -> None:
            response = client.post("/v1/generations", json={"prompt": "a"}, headers={"authorization": value})
            assert response.status_code == 401, response.text

        ask()
