"""The pages' HTML: what is said in which case, by whom it may be framed or run, and what it never says."""

import io
import re
import uuid

import msgspec
import pytest
import sqlalchemy as sa
from PIL import Image

from attribution.evidence import Conflict, Evidence
from ledger.erasure import erase
from ledger.runtime import Runtime
from ledger.web.headers import POLICY

from .http_ledger import FOUND, generated, looked, png, serving, stamped, told

pytestmark = pytest.mark.postgres

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def jpeg(seed: int) -> bytes:
    data = io.BytesIO()
    Image.open(io.BytesIO(png(seed))).save(data, "JPEG", quality=85)
    return data.getvalue()


def test_no_page_runs_a_script_but_our_own_files_or_can_be_framed(runtime: Runtime) -> None:
    record_id, look = generated(runtime), looked(runtime, png(3))
    with serving(runtime) as client:
        for path in (
            "/",
            "/docs",
            "/log",
            "/log?q=x",
            "/about",
            "/claims",
            f"/r/{record_id}",
            f"/v/{look}",
            f"/r/{'0' * 64}",
            "/nothing",
            "/static/style.css",
        ):
            response = client.get(path, headers=HTML)
            assert response.headers["content-security-policy"] == POLICY
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["x-frame-options"] == "DENY"
            assert response.headers["referrer-policy"] == "same-origin"
            markup = _markup(response.text)
            assert not re.search(r"style=|\son\w+=|javascript:|https?://(?!127\.0\.0\.1)", markup)
            assert not re.sub(r'<script src="/static/[a-z.-]+\.js" defer>', "", markup).count("<script")
    assert "unsafe" not in POLICY
    assert "script-src 'self';" in POLICY
    assert POLICY.startswith("default-src 'none'")


def test_an_unknown_hash_never_reads_as_made_by_a_human(runtime: Runtime) -> None:
    with serving(runtime) as client:
        page = client.get(f"/r/{'0' * 64}", headers=HTML)
    assert page.status_code == 404
    assert "Not recorded here" in page.text
    assert "says nothing about how the image was made" in page.text
    assert not re.search(r"(?<!not by a )human|authentic|genuine|\breal\b", page.text)


@pytest.mark.parametrize("path", ["/r/{pixels}", "/r/{id}", "/r/{PIXELS}"])
def test_a_record_page_shows_everything_that_can_be_checked(runtime: Runtime, path: str) -> None:
    record_id = generated(runtime)
    with serving(runtime) as client:
        view = client.get(f"/v1/records/{record_id}").json()
        pixels = view["pixel_sha256"]
        page = client.get(path.format(pixels=pixels, id=record_id, PIXELS=pixels.upper()), headers=HTML).text
    for shown in (
        view["file_sha256"],
        pixels,
        view["iscc"],
        view["log"]["leaf_hash"],
        f"/v1/log/entries/{view['log']['index']}",
        f"of <code>{view['log']['origin']}</code>",
        f'src="/v1/records/{record_id}/file"',
        "test-generator</a>, revision 1",
        "Vincent van Gogh",
        "0.0022",
        "similarity share",
        "none of these",
        "lawful verify",
        "c2patool",
        f"/v1/records/{record_id}/proof",
        f'href="/v1/records/{record_id}"',
    ):
        assert shown.lower() in page.lower(), shown
    said = page.partition("The raw manifest")[0]  # which names the version of a library, 0.91
    assert "0.91" not in said, "a score is not shown beside its p-value"
    assert "41.7" not in said
    assert "influence" not in page.replace("not a share of influence", "")


def test_a_record_page_asks_the_database_four_times(runtime: Runtime) -> None:
    """A page has 50 ms. Which keys are in force is looked up every few seconds, by whoever comes first."""
    record_id = generated(runtime)
    asked: list[str] = []
    sa.event.listen(runtime.database.engine, "before_cursor_execute", lambda *said: asked.append(said[2]))
    with serving(runtime) as client:
        assert client.get(f"/r/{record_id}", headers=HTML).status_code == 200
    assert len([each for each in asked if "announced_keys" not in each]) == 4


def test_a_score_without_an_error_rate_is_not_shown(runtime: Runtime) -> None:
    record_id = generated(runtime)
    with serving(runtime) as client:
        page = client.get(f"/r/{record_id}", headers=HTML).text
    monet = page[page.index("Haystacks") :][:400]
    assert "unknown" in monet
    assert "0.5" not in monet
    assert "error rate is not" in monet


def test_each_axis_is_answered_by_itself_and_nothing_is_one_number(runtime: Runtime) -> None:
    record_id = generated(runtime)
    with serving(runtime) as client:
        page = client.get(f"/r/{record_id}", headers=HTML).text
    findings = page[page.index('class="answers findings"') : page.index("</ul>", page.index("answers findings"))]
    for question, label in (
        ("Is this very image in the collection?", "nothing stands out"),
        ("Is it, or a part of it, a copy of a work?", "found"),
        ("Whose hand does it resemble?", "found"),
        ("Does it show what a work shows?", "found"),
        ("Whom does the artist classifier name?", "found"),
    ):
        assert f">{label}</span>" in findings[findings.index(question) :].partition("</li>")[0]
    assert "Style alone never proves copying or ownership." in findings
    assert "15 %" in page[page.index("What this search misses") :]


def test_a_region_that_is_no_finding_is_shown_without_being_called_a_copy(runtime: Runtime) -> None:
    record_id = generated(runtime)
    with serving(runtime) as client:
        page = client.get(f"/r/{record_id}", headers=HTML).text
    protected = page[page.index("<h4>A protected work") :][4:].partition("<h4>")[0]
    assert "of this image matches a protected work." in protected
    assert "0.031" in protected
    assert "copy of" not in protected
    assert protected.count("<svg") == 1, "where in a protected work it lies is not told"


def test_an_axis_that_cannot_tell_says_so_and_shows_no_number(runtime: Runtime) -> None:
    few = told(msgspec.structs.replace(FOUND, style=None, classification=None, copy=None))
    record_id = generated(runtime, evidence=few)
    with serving(runtime) as client:
        page = client.get(f"/r/{record_id}", headers=HTML).text
    hand = page[page.index("Whose hand does it resemble?") :].partition("</li>")[0]
    assert '<span class="mark open">cannot tell</span>' in hand
    assert "no loaded encoder of style has indexed the collection" in hand
    assert "Resemblance of hand" not in page


def test_without_a_collection_it_is_said_once(runtime: Runtime) -> None:
    record_id = generated(runtime, evidence=told(Evidence(statement="")))
    with serving(runtime) as client:
        page = client.get(f"/r/{record_id}", headers=HTML).text
    closest = page[page.index('id="closest"') : page.index('id="claims"')]
    assert closest.count("there is no collection to compare with") == 1


def test_one_picture_under_two_artists_is_shown_as_a_conflict(runtime: Runtime) -> None:
    disputed = msgspec.structs.replace(FOUND, conflicts=[Conflict(titles=["Boat", "Ship"], artists=["Ada", "Ben"])])
    record_id = generated(runtime, evidence=told(disputed))
    with serving(runtime) as client:
        page = client.get(f"/r/{record_id}", headers=HTML).text
    assert "does not say whose it is: Boat (Ada); Ship (Ben)." in page


def test_evidence_from_before_there_were_findings_is_still_shown(runtime: Runtime) -> None:
    neighbours = {name: msgspec.structs.replace(axis, axes=[]) for name, axis in FOUND.neighbours.items()}
    before = Evidence(statement="No single source stands out.", snapshot=FOUND.snapshot, neighbours=neighbours)
    record_id = generated(runtime, evidence=before)
    with serving(runtime) as client:
        page = client.get(f"/r/{record_id}", headers=HTML).text
    assert "No single source stands out." in page
    assert "Wheat Field" in page
    assert "answers findings" not in page


def test_the_same_address_is_json_for_programs(runtime: Runtime) -> None:
    record_id = str(generated(runtime))
    with serving(runtime) as client:
        for accept in ("application/json", "*/*"):
            answer = client.get(f"/r/{record_id}", headers={"accept": accept})
            assert answer.headers["vary"] == "Accept"
            assert [each["id"] for each in answer.json()["records"]] == [record_id]
        assert client.get(f"/r/{record_id}", headers=HTML).headers["content-type"].startswith("text/html")


def test_a_copy_that_looks_alike_is_a_candidate_and_not_a_record(runtime: Runtime) -> None:
    record_id = generated(runtime)
    look = looked(runtime, jpeg(1))
    with serving(runtime) as client:
        page = client.get(f"/v/{look}", headers=HTML).text
    records, candidates = page.index("Records of this image"), page.index("<h2>Looks like</h2>")
    assert "None. Not being recorded here says nothing" in page[records:candidates]
    assert f"/r/{record_id}" in page[candidates:]
    assert "Candidates, not findings" in page


def test_a_stripped_copy_is_found_by_its_pixels_and_absence_is_not_alarming(runtime: Runtime) -> None:
    generated(runtime)
    look = looked(runtime, png(1))
    with serving(runtime) as client:
        page = client.get(f"/v/{look}", headers=HTML).text
    assert "by its exact pixels; the file around them differs" in page
    assert "It does not mean that a human made it, nor that a machine did." in page
    assert 'class="mark bad"' not in page


def test_conflicting_records_are_flagged(runtime: Runtime) -> None:
    generated(runtime)
    stamped(runtime, png(1), "somebody else's model")
    look = looked(runtime, png(1))
    with serving(runtime) as client:
        page = client.get(f"/v/{look}", headers=HTML).text
    assert "2 records of the same pixels name 2 different models" in page


def test_another_picture_under_our_credential_is_not_presented_as_recorded(runtime: Runtime) -> None:
    record_id = generated(runtime)
    with serving(runtime) as client:
        ours = client.get(f"/v1/records/{record_id}/file").content
        page = client.get(f"/v/{looked(runtime, _with_the_pixels_of(ours, png(8)))}", headers=HTML).text
    assert "Do not rely on this file&#39;s credential" in page
    assert "Records of this image" not in page
    assert "need not be about this image" in page
    assert page.count('class="mark bad">altered') == 1
    assert page.count('class="mark bad">contradicts') == 2  # beside the verdict, and as the ledger's answer


def test_a_verification_page_is_kept_out_of_search_engines(runtime: Runtime) -> None:
    look = looked(runtime, png(1))
    with serving(runtime) as client:
        assert "noindex" in client.get(f"/v/{look}").headers["x-robots-tag"]
        assert client.get(f"/v/{uuid.uuid4()}", headers=HTML).status_code == 404


def test_a_refused_upload_is_told_in_words_with_what_to_do(runtime: Runtime) -> None:
    with serving(runtime) as client:
        page = client.post("/", files={"file": ("a.png", b"not an image")}, headers=HTML)
    assert page.status_code == 422
    assert page.headers["content-type"].startswith("text/html")
    assert "What to do:" in page.text
    assert "image_format_unsupported" in page.text
    assert ".." not in re.sub(r"<[^>]*>", "", page.text), "every sentence ends once"


def test_an_erased_record_says_so_and_shows_nothing(runtime: Runtime) -> None:
    record_id = generated(runtime)
    erase(runtime, record_id, reason="requested", asked_by="submitter")
    with serving(runtime) as client:
        page = client.get(f"/r/{record_id}", headers=HTML).text
    assert "deleted on request" in page
    assert "<img" not in page
    assert "Vincent" not in page


def test_the_documentation_page_names_every_operation_of_the_schema(runtime: Runtime) -> None:
    with serving(runtime) as client:
        schema = client.get("/schema/openapi.json").json()
        page = client.get("/docs", headers=HTML).text
    assert schema["openapi"].startswith("3.1")
    for path, methods in schema["paths"].items():
        assert f"<code>{path}</code>" in page
        for method, operation in methods.items():
            assert f'<span class="method">{method.upper()}</span>' in page
            assert operation["summary"] in page.replace("&#39;", "'")
            assert operation["description"], f"{method} {path} says nothing of itself"
            assert all(
                "application/problem+json" in answer["content"]
                for status, answer in operation["responses"].items()
                if int(status) >= 400
            )
    assert {"/v1/generations", "/v1/stamps", "/v1/verifications", "/v1/records"} <= set(schema["paths"])


def _with_the_pixels_of(ours: bytes, other: bytes) -> bytes:
    """`ours` with every chunk but the picture's, whose data come from `other`; both are PNG of the same size."""
    swapped = [chunk for name, chunk in _chunks(other) if name == b"IDAT"]
    kept = _chunks(ours)
    first = next(place for place, (name, _) in enumerate(kept) if name == b"IDAT")
    before = [chunk for _, chunk in kept[:first]]
    after = [chunk for name, chunk in kept[first:] if name != b"IDAT"]
    return ours[:8] + b"".join([*before, *swapped, *after])


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Name and bytes of each chunk of a PNG."""
    chunks, offset = [], 8
    while offset < len(data):
        end = offset + 12 + int.from_bytes(data[offset : offset + 4], "big")
        chunks.append((data[offset + 4 : offset + 8], data[offset:end]))
        offset = end
    return chunks


def _markup(html: str) -> str:
    """The tags alone: what text says is not what a browser runs."""
    return " ".join(re.findall(r"<[a-zA-Z/!][^>]*>", html))
