"""The networks of one profile and the engine over the newest snapshot: what embeds, calibrates and examines.

With `ledger.worker` and `ledger.lab` the only importer of the heavy floors.
"""

import hashlib
import io
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import sqlalchemy as sa
import structlog
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy.orm import Session

from attribution import features as local
from attribution.calibrated import Calibrated, calibrate
from attribution.drawing import draw_match
from attribution.engine import Engine, Examined, Pair, Step, area, unwatched
from attribution.evidence import Evidence
from attribution.features import LocalFeatures
from attribution.fingerprints import Fingerprints
from attribution.reference import Reference
from attribution.snapshot import ReferenceWork, snapshot_digest
from attribution.vector_sets import VectorSet, open_set
from attribution.wording import ALPHA, covered
from ledger import snapshots
from ledger.claims.examined import Compared
from ledger.claims.facts import CopyFact
from ledger.database import features, vectors
from ledger.database.tables.works import Calibration, Collection, LocalFeatureSet, Snapshot, Work
from ledger.errors import Inconsistent
from ledger.gate import policy_of
from ledger.runtime import Runtime
from ledger.settings import Settings
from models.head import ArtistHead
from models.networks import Encoder, NetworkInfo, encoder_key
from models.registry import ModelConfig, load_encoders, load_generator

if TYPE_CHECKING:
    from models.generator import Generator

log = structlog.get_logger()

METHOD = encoder_key(local.METHOD)
Pixels = NDArray[np.uint8]


def model_config(settings: Settings) -> ModelConfig:
    return ModelConfig(
        profile=settings.profile,
        device=settings.device,
        dtype=settings.dtype,
        offload=settings.offload,
        generator=settings.generator,
        clip=settings.clip,
        internvit=settings.internvit,
        dinov2=settings.dinov2,
        csd=settings.csd,
        sscd=settings.sscd,
    )


class Networks:
    """The encoders of a profile, loaded when first needed: the `Embedder` of `ledger.seeing`. Needs no ledger."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._encoders: dict[str, Encoder] | None = None

    def loaded(self) -> dict[str, Encoder]:
        if self._encoders is None:
            self._encoders = load_encoders(self._config)
        return self._encoders

    @property
    def encoders(self) -> dict[str, dict[str, str]]:
        infos = [*(encoder.info for encoder in self.loaded().values()), local.METHOD]
        return {encoder_key(info): asdict(info) for info in infos}

    @property
    def method(self) -> str:
        return METHOD

    def embed(self, images: Sequence[Pixels]) -> Mapping[str, NDArray[np.float32]]:
        return {encoder_key(encoder.info): encoder.encode(images) for encoder in self.loaded().values()}

    def features(self, images: Sequence[Pixels]) -> list[bytes]:
        return [local.extract(image).to_bytes() for image in images]


class Examiner:
    """Networks load when first needed. It is the `Embedder` of `ledger.catalog`, and the engine of the worker."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._config = model_config(runtime.settings)
        self._networks = Networks(self._config)
        self._generator: Generator | None = None
        self._engine: tuple[bytes | None, Engine] | None = None
        self.loaded, self.embed, self.features = self._networks.loaded, self._networks.embed, self._networks.features

    def generator(self) -> "Generator":
        if self._generator is None:
            self._generator = load_generator(self._config)
        return self._generator

    def examine(self, pixels: Pixels, fingerprints: Fingerprints, on_step: Step = unwatched) -> Examined:
        """Compare an image that is to be issued with the newest snapshot, and judge it by the policy in force."""
        return self.engine().examine(pixels, fingerprints, policy_of(self.runtime.settings), on_step=on_step)

    def look(self, on_step: Step = unwatched) -> Callable[[Pixels, Fingerprints], Evidence]:
        """Open the engine for a verification, which is judged by no policy and keeps no drawing."""
        engine = self.engine()

        def look(pixels: Pixels, fingerprints: Fingerprints) -> Evidence:
            on_step("decoded")
            return engine.examine(pixels, fingerprints, on_step=on_step).evidence

        return look

    # ---- as the comparer of claims ----

    def compare(self, image: Pixels, fingerprints: Fingerprints, work: Pixels | str | None, *, draw: bool) -> Compared:
        """An image that is claimed on, against the newest snapshot and beside one work: its pixels, or the id under
        which it was indexed."""
        engine = self.engine()
        examined = engine.examine(image, fingerprints, draw=draw)
        if work is None:
            return Compared(examined.evidence, None, examined.pictures)
        seen, shown = self._named(work) if isinstance(work, str) else (local.extract(work), None)
        if seen is None:
            why = CopyFact(found=False, reason="the work was indexed without local features")
            return Compared(examined.evidence, why, examined.pictures)
        pair = engine.pair(image, seen)
        fact = _copy_fact(pair)
        if not draw or pair.found is None or fact.p_value is None:
            return Compared(examined.evidence, fact, examined.pictures)
        drawing = draw_match(image, shown, pair.found.alignment)
        name = hashlib.sha256(drawing).hexdigest()
        return Compared(
            examined.evidence, msgspec.structs.replace(fact, picture=name), {**examined.pictures, name: drawing}
        )

    def _named(self, work: str) -> tuple[LocalFeatures | None, Pixels | None]:
        """What was indexed of a work, and its small picture where it may be shown."""
        with self.runtime.sessions() as session:
            kept = session.get(LocalFeatureSet, (uuid.UUID(work), METHOD))
            shown = session.scalar(sa.select(Work.grant_name).where(Work.id == uuid.UUID(work)))
        seen = LocalFeatures.from_bytes(kept.features) if kept is not None else None
        return seen, self._preview(work) if shown else None

    # ---- for enrolments ----

    def evidence(self, image: Pixels, fingerprints: Fingerprints) -> Evidence:
        """A picture that is to become a work, against the newest snapshot."""
        return self.engine().examine(image, fingerprints).evidence

    def engine(self) -> Engine:
        """The engine over the newest snapshot; one job sees one snapshot from beginning to end.

        A snapshot that was frozen without a calibration gets one first, in a snapshot of its own.
        """
        settings = self.runtime.settings
        with self.runtime.sessions() as session:
            found = snapshots.newest_snapshot(session, collection=settings.collection, background=settings.background)
        if found is not None and found.calibration is None:
            found = snapshots.freeze_calibrated(self.runtime, found.collection_id, self.encoders, self)
        digest = found.digest if found is not None else None
        if self._engine is None or self._engine[0] != digest:
            self._engine = (digest, self._over(found))
        return self._engine[1]

    # ---- as the catalog's embedder ----

    @property
    def encoders(self) -> dict[str, dict[str, str]]:
        return self._networks.encoders

    @property
    def method(self) -> str:
        return self._networks.method

    def calibrate(self, session: Session, collection_id: uuid.UUID, works: Sequence[ReferenceWork]) -> bytes:
        loaded = self.loaded()
        background = snapshots.background_snapshot(session, self.runtime)
        other = None
        if background is not None and background.collection_id != collection_id:
            theirs = tuple(snapshots.reference_works(session, background.collection_id, background.created_at))
            other = self._reference(session, background.collection_id, theirs, background.digest)
        own = self._reference(session, collection_id, tuple(works), None)
        return calibrate(loaded, own, other).to_bytes()

    # ---- the collection as it is stored ----

    def _over(self, snapshot: Snapshot | None) -> Engine:
        """Raises Inconsistent when the stored works no longer give the snapshot's digest."""
        loaded = self.loaded()
        head = ArtistHead.load(self.runtime.settings.head) if self.runtime.settings.head is not None else None
        if snapshot is None:
            return Engine(loaded, None, head=head)
        with self.runtime.sessions() as session:
            works = tuple(snapshots.reference_works(session, snapshot.collection_id, until=snapshot.created_at))
            if snapshot_digest(works, snapshot.encoders, snapshot.calibration) != snapshot.digest:
                raise Inconsistent(
                    "the works of the newest snapshot do not give its digest",
                    code="snapshot_mismatch",
                    next_step="run `lawful index` again to freeze the collection as it is; ask who changed its works",
                )
            reference = self._reference(session, snapshot.collection_id, works, snapshot.digest)
            content = session.scalar(
                sa.select(Calibration.content).where(Calibration.sha256 == snapshot.calibration).limit(1)
            )
        calibrated = Calibrated.from_bytes(content) if content is not None else None
        return Engine(loaded, reference, calibrated, head=head)

    def _reference(
        self, session: Session, collection_id: uuid.UUID, works: tuple[ReferenceWork, ...], digest: bytes | None
    ) -> Reference:
        ids = [work.id for work in works]
        cache = self.runtime.settings.home / "cache"
        rows: dict[str, NDArray[np.float32] | VectorSet] = {}
        infos: dict[str, NetworkInfo] = {}
        for name, encoder in self.loaded().items():
            key = encoder_key(encoder.info)
            read = partial(vectors.read, session, key, collection_id)
            try:
                found = open_set(cache / "vectors" / str(collection_id) / key, key, ids, read)
            except vectors.Missing:
                log.warning("encoder_not_in_snapshot", encoder=key, next_step="lawful index")
                continue
            rows[name], infos[name] = found, encoder.info
            snapshot = digest.hex() if digest else None
            log.info("vectors_mapped", snapshot=snapshot, set=found.name, works=len(found), files=len(found.segments))
        name = session.execute(sa.select(Collection.name).where(Collection.id == collection_id)).scalar_one()
        return Reference(
            works=works,
            vectors=rows,
            encoders=infos,
            digest=digest,
            collection=name,
            features=self._features(session, collection_id, ids),
            preview=self._preview,
            cache=cache,
        )

    def _features(self, session: Session, collection_id: uuid.UUID, ids: Sequence[str]) -> list[LocalFeatures] | None:
        at = {work: row for row, work in enumerate(ids)}
        found: dict[int, LocalFeatures] = {}
        for work, content in features.load(session, METHOD, collection_id):
            if work in at:
                found[at[work]] = LocalFeatures.from_bytes(content)
        return [found[row] for row in range(len(ids))] if len(found) == len(ids) else None

    def _preview(self, work_id: str) -> Pixels | None:
        with self.runtime.sessions() as session:
            webp = features.preview(session, work_id)
        if webp is None:
            return None
        with Image.open(io.BytesIO(webp)) as image:
            return np.asarray(image.convert("RGB"))


def _copy_fact(pair: Pair) -> CopyFact:
    found = pair.found is not None
    if pair.null is None:
        return CopyFact(found=found, reason=pair.reason)
    smallest_p, n = pair.null.smallest_p, pair.null.n
    if not pair.null.enough_for(ALPHA):
        why = f"the {n} calibration works there are, by so few artists, give no error rate of {ALPHA:g}"
        return CopyFact(found=found, smallest_p=smallest_p, n=n, reason=why)
    if pair.found is None:
        return CopyFact(found=False, p_value=1.0, smallest_p=smallest_p, n=n)
    alignment = pair.found.alignment
    return CopyFact(
        found=True,
        p_value=float(pair.null.p_values(pair.found.score)),
        smallest_p=smallest_p,
        n=n,
        of_image=covered(area(alignment.of_image)),
        of_work=covered(area(alignment.of_work)),
        details=alignment.details,
        mirrored=alignment.mirrored,
    )
