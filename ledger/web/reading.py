"""What anyone may read: records by id and by hash, their files, reports and proofs, and how far a job is."""

import hashlib
import uuid
from typing import Annotated, Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, QueryParameter
from sqlalchemy.orm import Session

from ledger import jobs, lookup, verifications
from ledger.errors import NotFound
from ledger.lookup import EntryView, RecordView
from ledger.reports.schema import report_schema
from ledger.runtime import Runtime, shard_of
from ledger.verify import Verification
from ledger.web.log import NOTE, RECEIPT, Until, proof_answer, receipt_answer
from ledger.web.problems import problems

FileHash = Annotated[str | None, QueryParameter(description="SHA-256 of the file, 64 hex digits.")]
PixelHash = Annotated[str | None, QueryParameter(description="SHA-256 of the canonical pixels, 64 hex digits.")]
Iscc = Annotated[str | None, QueryParameter(description="ISCC Image-Code as text: ISCC:…")]

# Files never change under their name, but a record may be erased: caches must ask.
REVALIDATE = "no-cache"

PDF = "application/pdf"
ZIP = "application/zip"
SCHEMA = "application/schema+json"


class Records(msgspec.Struct, frozen=True):
    """Records, earliest first. An empty list says nothing about how an image was made."""

    records: list[RecordView]


@get(
    "/v1/generations/{record_id:uuid}",
    sync_to_thread=True,
    tags=["Writing"],
    summary="How far a generation is",
    response_description="The record as it stands.",
    responses=problems(404),
)
def read_generation(runtime: NamedDependency[Runtime], record_id: FromPath[uuid.UUID]) -> Response[RecordView]:
    """The record in any state; the failure, with its own status, when it was abandoned."""
    return _progress(runtime, record_id, "generation")


@get(
    "/v1/stamps/{record_id:uuid}",
    sync_to_thread=True,
    tags=["Writing"],
    summary="How far a stamp is",
    response_description="The record as it stands.",
    responses=problems(404),
)
def read_stamp(runtime: NamedDependency[Runtime], record_id: FromPath[uuid.UUID]) -> Response[RecordView]:
    """The record in any state; the failure, with its own status, when it was abandoned."""
    return _progress(runtime, record_id, "stamp")


@get(
    "/v1/verifications/{record_id:uuid}",
    sync_to_thread=True,
    tags=["Reading"],
    summary="What a verification found",
    responses={
        200: ResponseSpec(Verification, description="The finished look.", generate_examples=False),
        202: ResponseSpec(RecordView, description="Not finished yet; ask again.", generate_examples=False),
    }
    | problems(404),
)
def read_verification(runtime: NamedDependency[Runtime], record_id: FromPath[uuid.UUID]) -> Response[Any]:
    """Whoever knows the id may read it; it is not listed anywhere."""
    with runtime.reading() as session:
        found = verifications.result(session, record_id)
        if found is None:
            return Response(lookup.by_id(session, record_id), status_code=202, headers={"Retry-After": "1"})
    return Response(found)


@get(
    "/v1/records",
    sync_to_thread=True,
    tags=["Reading"],
    summary="Look a record up by one hash",
    response_description="The records, which may be none.",
    responses=problems(),
)
def find_records(
    runtime: NamedDependency[Runtime],
    file_sha256: FileHash = None,
    pixel_sha256: PixelHash = None,
    iscc: Iscc = None,
) -> Records:
    """Exactly one of the three. Several records of the same hash are all listed, earliest first."""
    with runtime.reading() as session:
        return Records(lookup.find(session, file_sha256=file_sha256, pixel_sha256=pixel_sha256, iscc=iscc))


@get(
    "/v1/records/{record_id:uuid}",
    sync_to_thread=True,
    tags=["Reading"],
    summary="One record",
    response_description="The record as it stands.",
    responses=problems(404),
)
def read_record(runtime: NamedDependency[Runtime], record_id: FromPath[uuid.UUID]) -> RecordView:
    """In any state: hashes and content are shown once it is issued, and no more when it was erased."""
    with runtime.reading() as session:
        return lookup.by_id(session, record_id)


@get(
    "/v1/log/entries/{index:int}",
    sync_to_thread=True,
    tags=["Reading"],
    summary="One entry of the log by its index",
    response_description="The entry, and whether what stands behind it was deleted.",
    responses=problems(404),
)
def read_log_entry(runtime: NamedDependency[Runtime], index: FromPath[int]) -> Response[EntryView]:
    """`redacted` where the content behind the entry was deleted, with the redaction's own index, reason and role."""
    with runtime.reading() as session:
        found = lookup.by_index(session, runtime.shard, index)
    return Response(found, headers={"Cache-Control": REVALIDATE})


@get(
    "/v1/records/{record_id:uuid}/file",
    sync_to_thread=True,
    tags=["Reading"],
    summary="The file with its credential",
    responses={200: ResponseSpec(bytes, description="The file.", media_type="image/*", generate_examples=False)}
    | problems(404),
)
def read_file(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], record_id: FromPath[uuid.UUID]
) -> Response[bytes]:
    """The bytes as issued. The name is the record's id: nothing that a submitter wrote."""
    with runtime.reading() as session:
        key, media_type = lookup.file_key(session, record_id)
        file_sha256 = lookup.by_id(session, record_id).file_sha256
    name = f"{record_id}.{media_type.rsplit('/', 1)[-1]}"
    headers = {
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    return _cached(request, str(file_sha256), media_type, headers) or _bytes(
        runtime.storage.get(key), str(file_sha256), media_type, headers
    )


@get(
    "/v1/records/{record_id:uuid}/report",
    sync_to_thread=True,
    tags=["Reading"],
    summary="The report",
    responses={200: ResponseSpec(dict[str, Any], description="The report.", generate_examples=False)} | problems(404),
)
def read_report(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], record_id: FromPath[uuid.UUID]
) -> Response[bytes]:
    """Canonical JSON (RFC 8785), byte for byte as the record's logged statement commits to it."""
    with runtime.reading() as session:
        body = lookup.report(session, record_id)
        report_sha256 = str(lookup.by_id(session, record_id).report_sha256)
    return _cached(request, report_sha256, MediaType.JSON, {}) or _bytes(body, report_sha256, MediaType.JSON, {})


@get(
    "/v1/records/{record_id:uuid}/report.pdf",
    sync_to_thread=True,
    tags=["Reading"],
    summary="The report as a signed PDF",
    response_description="The PDF.",
    media_type=PDF,
    responses=problems(404, 503),
)
def read_report_pdf(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], record_id: FromPath[uuid.UUID]
) -> Response[bytes]:
    """PDF/A-3, with the report, statement, proofs, receipt and picture attached: `lawful report verify` checks it from
    itself. Drawn up and signed when it is first asked for; the same bytes ever after."""
    from ledger.reports.document import signed_pdf  # what draws and signs is loaded by the process that first does

    return pdf_answer(request, signed_pdf(runtime, record_id), f"report-{record_id}.pdf")


@get(
    "/v1/records/{record_id:uuid}/evidence.zip",
    sync_to_thread=True,
    tags=["Reading"],
    summary="The report and all its evidence as files",
    response_description="The zip.",
    media_type=ZIP,
    responses=problems(404, 503),
)
def read_evidence(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], record_id: FromPath[uuid.UUID]
) -> Response[bytes]:
    """The signed PDF, what it has attached as files, and a README for an expert of the court."""
    from ledger.reports.document import signed_dossier
    from ledger.reports.forms import to_zip

    return zip_answer(request, to_zip(*signed_dossier(runtime, record_id)), f"evidence-{record_id}.zip")


@get(
    "/v1/schemas/report",
    sync_to_thread=False,
    tags=["Reading"],
    summary="The form of the report",
    response_description="A JSON Schema.",
    media_type=SCHEMA,
)
def read_report_schema() -> Response[dict[str, Any]]:
    """JSON Schema (draft 2020-12) of what `/v1/records/{record_id}/report` answers."""
    return Response(report_schema(), media_type=SCHEMA)


@get(
    "/v1/records/{record_id:uuid}/proof",
    sync_to_thread=True,
    tags=["Reading"],
    summary="The log's proof of inclusion",
    response_description="The proof, as text.",
    media_type=NOTE,
    responses=problems(404, 422),
)
def read_proof(
    runtime: NamedDependency[Runtime], record_id: FromPath[uuid.UUID], until: Until = "integrated"
) -> Response[bytes]:
    """A C2SP tlog-proof of the record's statement, under the newest checkpoint that covers it."""
    with runtime.reading() as session:
        return proof_answer(session, *_entry_of(session, record_id), until)


@get(
    "/v1/records/{record_id:uuid}/receipt",
    sync_to_thread=True,
    tags=["Reading"],
    summary="The log's receipt",
    response_description="The receipt.",
    media_type=RECEIPT,
    responses=problems(404),
)
def read_receipt(runtime: NamedDependency[Runtime], record_id: FromPath[uuid.UUID]) -> Response[bytes]:
    """A COSE receipt (RFC 9942) of the record's statement. Its Link header names a proof under the same checkpoint."""
    with runtime.reading() as session:
        return receipt_answer(session, runtime, *_entry_of(session, record_id))


def _entry_of(session: Session, record_id: uuid.UUID) -> tuple[str, bytes]:
    """Shard and leaf hash of the record's statement. Raises NotFound, code `proof_pending` while it has none."""
    view = lookup.by_id(session, record_id)
    if view.log is None:
        raise NotFound(
            f"no proof for {record_id} yet", code="proof_pending", next_step="ask again when the record is issued"
        )
    return shard_of(view.log.origin), bytes.fromhex(view.log.leaf_hash)


def _progress(runtime: Runtime, record_id: uuid.UUID, kind: str) -> "Response[RecordView]":
    with runtime.reading() as session:
        view = of_kind(session, record_id, kind)
    if view.state == "abandoned":
        jobs.wait(runtime.reading, record_id, 0)  # raises what ended it
    return Response(view, headers={} if view.state == "issued" else {"Retry-After": "1"})


def of_kind(session: Session, record_id: uuid.UUID, kind: str) -> RecordView:
    """The record, if it is a `kind`. Raises NotFound."""
    view = lookup.by_id(session, record_id)
    if view.kind != kind:
        raise NotFound(
            f"no {kind} {record_id}",
            code="record_unknown",
            next_step=f"it is a {view.kind}: ask /v1/{view.kind}s/{record_id}",
        )
    return view


def pdf_answer(request: "Request[Any, Any, Any]", pdf: bytes, name: str) -> "Response[bytes]":
    """A PDF to be shown in place, or 304 for a caller that has it."""
    digest = hashlib.sha256(pdf).hexdigest()
    headers = {"Content-Disposition": f'inline; filename="{name}"'}
    return _cached(request, digest, PDF, headers) or _bytes(pdf, digest, PDF, headers)


def zip_answer(request: "Request[Any, Any, Any]", data: bytes, name: str) -> "Response[bytes]":
    """An evidence zip to be kept as a file, or 304 for a caller that has it."""
    digest = hashlib.sha256(data).hexdigest()
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return _cached(request, digest, ZIP, headers) or _bytes(data, digest, ZIP, headers)


def _cached(
    request: "Request[Any, Any, Any]", digest: str, media_type: str, headers: dict[str, str]
) -> "Response[bytes] | None":
    """304 for a caller that has these bytes."""
    if f'"{digest}"' in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=304, media_type=media_type, headers={**headers, "ETag": f'"{digest}"'})
    return None


def _bytes(body: bytes, digest: str, media_type: str, headers: dict[str, str]) -> "Response[bytes]":
    return Response(
        body, media_type=media_type, headers={**headers, "ETag": f'"{digest}"', "Cache-Control": REVALIDATE}
    )
