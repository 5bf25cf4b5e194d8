"""The signature of a report's PDF, as ordinary readers show it: PAdES (ETSI EN 319 142-1) over the whole file.

It is made with the credential's certificate: the log has announced it, so the chain that proves a file's credential
proves the document too. The document is certified (DocMDP: no changes), and the signature is added after the rendered
bytes, which stay as they are. With a timestamp authority it carries the authority's word on when (PAdES B-T).

What a whole signature does not prove: that what the pages say is true; nor, without a root that the checker chose,
whose certificate it is.
"""

import datetime as dt
import hashlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from asn1crypto import cms, tsp, x509  # type: ignore[import-untyped]
from cryptography import x509 as certificates
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.pdf_utils.writer import BasePdfFileWriter
from pyhanko.sign.fields import MDPPerm, SigFieldSpec, SigSeedSubFilter
from pyhanko.sign.signers import PdfSignatureMetadata, PdfSigner, Signer
from pyhanko.sign.timestamps import TimeStamper, TimestampRequestError
from pyhanko.sign.validation import EmbeddedPdfSignature, validate_pdf_signature
from pyhanko.sign.validation.settings import KeyUsageConstraints
from pyhanko.sign.validation.status import PdfSignatureStatus, SignatureCoverageLevel
from pyhanko_certvalidator import ValidationContext
from pyhanko_certvalidator.registry import SimpleCertificateStore

from ledger.errors import BadRequest, Unavailable
from ledger.keys.ring import CredentialKey
from ledger.log.timestamps import post_query
from ledger.reports.forms import malformed

# What they find is in what they return; as log lines it would be a traceback for every root that is not ours.
for _name in ("pyhanko", "pyhanko_certvalidator"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

FIELD = "LawfulLedger"
RESERVED = 16_384  # bytes for the signature with its certificates and a timestamp's; about 7,000 are used

Whole = Literal["intact", "altered", "unsigned", "unreadable"]
SignerAnswer = Literal["trusted", "expired", "unknown", "not_checked"]


@dataclass(frozen=True)
class SignatureReading:
    """`whole`: whether one valid signature covers every byte of the file. `signer`: whether its certificate leads to a
    root that was given, at the time of a timestamp that the checker believes, or else now. `certificate_sha256` as the
    log announces it. `stamped_at`: by an authority whose root was given, None without one; `stamped` says whether there
    is a timestamp at all."""

    whole: Whole
    signer: SignerAnswer = "not_checked"
    certificate_sha256: str | None = None
    signer_name: str | None = None
    stamped: bool = False
    stamped_at: dt.datetime | None = None


def sign_document(pdf: bytes, credential: CredentialKey, *, about: str, origin: str, tsa_url: str | None) -> bytes:
    """The PDF of the report on `about` with one invisible signature after its bytes. Each call gives other bytes:
    ECDSA, and the time of day.

    Raises Unavailable `tsa_down` where an authority is set and gives no timestamp, and as the key does.
    """
    meta = PdfSignatureMetadata(
        field_name=FIELD,
        md_algorithm="sha256",
        name=f"Lawful Ledger, {origin}",
        location=origin,
        reason=f"Report on {about}",
        subfilter=SigSeedSubFilter.PADES,
        certify=True,
        docmdp_permissions=MDPPerm.NO_CHANGES,
    )
    out = io.BytesIO()
    try:
        signer = _Pdf17Signer(
            meta,
            _RingSigner(credential),
            timestamper=_Authority(tsa_url) if tsa_url else None,
            new_field_spec=SigFieldSpec(FIELD, on_page=0),
        )
        signer.sign_pdf(IncrementalPdfFileWriter(io.BytesIO(pdf)), bytes_reserved=2 * RESERVED, output=out)
    except TimestampRequestError as error:
        raise Unavailable(
            f"the timestamp authority gave no timestamp: {str(error)[:200]}",
            code="tsa_down",
            next_step="ask again; see that LAWFUL_TSA_URL names an RFC 3161 authority",
        ) from error
    return out.getvalue()


class _Pdf17Signer(PdfSigner):
    """PDF/A-3 is PDF 1.7: the document stays one, and names no extension of PDF 2.0 for what readers know anyway."""

    def register_extensions(self, pdf_out: BasePdfFileWriter, *, md_algorithm: str) -> None:
        pass


class _RingSigner(Signer):
    """The credential's key, wherever it is kept: what it gives are r and s, 64 bytes."""

    def __init__(self, credential: CredentialKey) -> None:
        chain = [_asn1(each) for each in certificates.load_pem_x509_certificates(credential.certificates_pem.encode())]
        registry = SimpleCertificateStore()  # type: ignore[no-untyped-call]
        registry.register_multiple(chain[1:])
        super().__init__(signing_cert=chain[0], cert_registry=registry)
        self._key = credential.key

    async def async_sign_raw(self, data: bytes, digest_algorithm: str, dry_run: bool = False) -> bytes:
        if dry_run:
            return bytes(72)
        assert digest_algorithm == "sha256"
        signature = self._key.sign(data)
        return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


class _Authority(TimeStamper):
    """The authority of the settings, asked as the log asks it."""

    def __init__(self, url: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._url = url

    async def async_request_tsa_response(self, req: tsp.TimeStampReq) -> tsp.TimeStampResp:
        try:
            answer = tsp.TimeStampResp.load(post_query(self._url, req.dump()), strict=True)
            answer.native  # noqa: B018 - reads all of it
        except (ValueError, TypeError) as error:
            raise TimestampRequestError("its answer is no TimeStampResp") from error
        return answer


def _asn1(certificate: certificates.Certificate) -> x509.Certificate:
    return x509.Certificate.load(certificate.public_bytes(Encoding.DER))


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_signature(pdf: bytes, *, roots_pem: str, now: dt.datetime) -> SignatureReading:
    """Check the signature of a PDF with roots that the checker chose, an authority's for timestamps among them. Nothing
    is fetched, so a revocation is not seen. Hostile files give answers, never an exception. Raises BadRequest
    `anchors_unreadable` for roots that are no certificates: that is the checker's mistake, not the file's."""
    roots = _roots(roots_pem)
    try:
        signatures = PdfFileReader(io.BytesIO(pdf)).embedded_signatures
        if not signatures:
            return SignatureReading("unsigned")
        if len(signatures) > 1:  # ours has one; what was added after it is not ours
            return SignatureReading("altered")
        return _reading(signatures[0], roots, now)
    except Exception:  # noqa: BLE001 - any error over a stranger's bytes is an answer about them
        return SignatureReading("unreadable")


def _reading(signature: EmbeddedPdfSignature, roots: list[x509.Certificate], now: dt.datetime) -> SignatureReading:
    status = _validated(signature, roots, now)
    leaf = signature.signer_cert
    covered = status.coverage == SignatureCoverageLevel.ENTIRE_FILE and not any(_after(signature.pkcs7_content))
    whole = status.intact and status.valid and covered
    stamp = status.timestamp_validity
    believed = stamp is not None and stamp.intact and stamp.valid and stamp.trusted
    at = stamp.timestamp if stamp is not None and believed else None
    return SignatureReading(
        "intact" if whole else "altered",
        _signer(signature, roots, at or now) if whole else "not_checked",
        hashlib.sha256(leaf.dump()).hexdigest(),
        str(leaf.subject.native.get("organization_name") or leaf.subject.human_friendly)[:200],
        stamp is not None,
        at.astimezone(dt.UTC) if at is not None and whole else None,
    )


def _after(contents: bytes) -> bytes:
    """What follows the signature in the gap that is left for it, the only bytes of the file that it does not cover."""
    return contents[len(cms.ContentInfo.load(contents).dump()) :]


def _signer(signature: EmbeddedPdfSignature, roots: list[x509.Certificate], at: dt.datetime) -> SignerAnswer:
    if _validated(signature, roots, at).trusted:
        return "trusted"
    leaf = signature.signer_cert
    in_force = leaf.not_valid_after - dt.timedelta(seconds=1)
    if at > leaf.not_valid_after and _validated(signature, roots, in_force).trusted:
        return "expired"
    return "unknown"


def _validated(signature: EmbeddedPdfSignature, roots: list[x509.Certificate], at: dt.datetime) -> PdfSignatureStatus:
    def context(moment: dt.datetime | None) -> ValidationContext:
        return ValidationContext(trust_roots=roots, moment=moment, allow_fetching=False, revocation_mode="soft-fail")

    return validate_pdf_signature(
        signature,
        context(at),
        context(None),
        key_usage_settings=KeyUsageConstraints(key_usage={"digital_signature"}),
        skip_diff=True,  # nothing may follow the signature, so there is nothing to compare
    )


def _roots(pem: str) -> list[x509.Certificate]:
    if not pem.strip():
        return []
    try:
        return [_asn1(each) for each in dict.fromkeys(certificates.load_pem_x509_certificates(pem.encode()))]
    except ValueError as error:
        raise BadRequest(
            "the roots given are no certificates in PEM",
            code="anchors_unreadable",
            next_step="give what `lawful keys anchor` prints",
        ) from error


# ---- attachments -----------------------------------------------------------------------------------------------------


def attachments(pdf: bytes, most: int, most_bytes: int) -> dict[str, bytes]:
    """The associated files of a PDF by name. Raises BadRequest `report_document_malformed`, also beyond `most` files or
    `most_bytes` altogether."""
    files: dict[str, bytes] = {}
    try:
        listed: Sequence[Any] = PdfFileReader(io.BytesIO(pdf)).root["/AF"]
        if len(listed) > most:
            raise malformed(f"it has {len(listed)} attached files; at most {most}")
        for index in range(len(listed)):  # which, unlike iterating, follows references
            each = listed[index]
            name = str(each["/UF"])
            if name in files:
                raise malformed("it has two attached files of one name")
            files[name] = bytes(each["/EF"]["/F"].data)
            if sum(map(len, files.values())) > most_bytes:
                raise malformed(f"its attached files have more than {most_bytes} bytes")
    except BadRequest:
        raise
    except Exception as error:  # any error over a stranger's bytes is one about them
        raise malformed("its attached files cannot be read") from error
    return files
