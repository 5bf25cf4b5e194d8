"""What this ledger promises and how often it is wrong: its policy, its error rates, its keys."""

import hashlib
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from litestar import MediaType, Request, Response, get
from litestar.di import NamedDependency
from litestar.response import Template
from sqlalchemy.orm import Session

from attribution.evidence import CalibrationNote
from attribution.wording import ALPHA
from ledger.claims import rules
from ledger.database.tables.records import Record, Report
from ledger.database.tables.works import Collection
from ledger.log.shard import query_of
from ledger.log.state import KeyView, log_view, policy_in_force, policy_text
from ledger.lookup import SOFT_BITS
from ledger.reports.schema import read_report
from ledger.runtime import Runtime
from ledger.snapshots import newest_snapshot
from ledger.web.log import log_url
from ledger.web.problems import wants_page


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshot that images are compared with now; digests are hex."""

    collection: str
    works: int
    artists: int
    digest: str
    calibration: str | None
    encoders: dict[str, Any]


class Rates(NamedTuple):
    """The error rates that stand in the newest report: by axis, and of the search for copies by kind of edit."""

    record_id: str
    notes: dict[str, CalibrationNote]
    missed: dict[str, float]


class About(msgspec.Struct, frozen=True, kw_only=True):
    """The policy in force, what it is measured by, and the keys as this ledger says they are."""

    origin: str
    log_vkey: str
    root_sha256: str
    keys: list[KeyView]
    witness_policy: str
    gate: dict[str, str]
    alpha: float
    soft_bits: dict[str, int]
    compared: Compared | None


@get("/about", include_in_schema=False, sync_to_thread=True)
def about_page(request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime]) -> Template | Response[About]:
    """The policy, the error rates and the keys. Believe keys that you got elsewhere."""
    settings = runtime.settings
    with runtime.reading() as session:
        policy = policy_in_force(settings.witness_policy)
        view = log_view(query_of(session), runtime.shard, log_url(runtime), policy)
        about = About(
            origin=settings.origin,
            log_vkey=runtime.keys.log.vkey,
            root_sha256=hashlib.sha256(runtime.keys.root_pem.encode()).hexdigest(),
            keys=view.keys,
            witness_policy=policy_text(settings.witness_policy, runtime.keys.log.vkey, log_url(runtime)),
            gate={
                "identical work": settings.gate_identity,
                "copy of a work": settings.gate_copy,
                "its artist has not agreed to training": settings.gate_refused,
            },
            alpha=ALPHA,
            soft_bits=SOFT_BITS,
            compared=_compared(session, runtime),
        )
        rates = _rates(session)
    vary = {"Vary": "Accept"}
    if not wants_page(request):
        return Response(about, media_type=MediaType.JSON, headers=vary)
    context = {"about": about, "rates": rates, "gate_alpha": settings.gate_alpha, "rules": rules.published()}
    return Template("about.html", context=context, headers=vary)


def _compared(session: Session, runtime: Runtime) -> Compared | None:
    settings = runtime.settings
    snapshot = newest_snapshot(session, collection=settings.collection, background=settings.background)
    if snapshot is None:
        return None
    return Compared(
        collection=session.get_one(Collection, snapshot.collection_id).name,
        works=snapshot.works,
        artists=snapshot.artists,
        digest=snapshot.digest.hex(),
        calibration=snapshot.calibration.hex() if snapshot.calibration else None,
        encoders=snapshot.encoders,
    )


def _rates(session: Session) -> Rates | None:
    row = session.execute(
        sa.select(Record.id, Report.body)
        .join(Report, Report.record_id == Record.id)
        .where(Record.listed)
        .order_by(Record.id.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    evidence = read_report(row.body).evidence
    axes = {"copy": evidence.copy, "style": evidence.style} | {
        f"nearest, {name}": axis for name, axis in sorted(evidence.neighbours.items())
    }
    notes = {name: axis.calibration for name, axis in axes.items() if axis is not None and axis.calibration is not None}
    return Rates(str(row.id), notes, evidence.copy.missed if evidence.copy else {})
