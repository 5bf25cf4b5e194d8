"""Local features and previews of works, in and out of Postgres."""

import uuid
from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ledger.database.tables.works import LocalFeatureSet, Preview, Work

AT_ONCE = 200  # some 70 KB each


def replace(session: Session, method: str, works: Sequence[uuid.UUID], features: Sequence[bytes]) -> None:
    """Store the features of each work in the session's transaction, in place of earlier ones."""
    rows = [
        {"work_id": work, "method": method, "features": content} for work, content in zip(works, features, strict=True)
    ]
    adding = insert(LocalFeatureSet).values(rows)
    session.execute(
        adding.on_conflict_do_update(index_elements=["work_id", "method"], set_={"features": adding.excluded.features})
    )


def load(session: Session, method: str, collection_id: uuid.UUID) -> Iterator[tuple[str, bytes]]:
    """(work id, features) of every work of a collection that has them, in no order."""
    rows = session.execute(
        sa.select(LocalFeatureSet.work_id, LocalFeatureSet.features)
        .join(Work, Work.id == LocalFeatureSet.work_id)
        .where(Work.collection_id == collection_id, LocalFeatureSet.method == method)
        .execution_options(yield_per=AT_ONCE)
    )
    for work_id, features in rows:
        yield str(work_id), features


def keep_previews(session: Session, works: Sequence[uuid.UUID], previews: Sequence[bytes]) -> None:
    """Store the small pictures of works that have none yet."""
    rows = [{"work_id": work, "webp": webp} for work, webp in zip(works, previews, strict=True)]
    session.execute(insert(Preview).values(rows).on_conflict_do_nothing())


def preview(session: Session, work_id: str) -> bytes | None:
    """A work's small picture, WebP. Whether it may be shown is for the caller to know."""
    return session.scalar(sa.select(Preview.webp).where(Preview.work_id == uuid.UUID(work_id)))
