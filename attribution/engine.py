"""Image to Evidence: the public face of this floor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attribution.calibration import Calibration, ShareModel, fit, share_weights
from attribution.evidence import (
    PROTECTED_WORK,
    PROTECTED_WORKS,
    ArtistShare,
    CalibrationNote,
    Evidence,
    Identity,
    Match,
    Neighbour,
    NeighbourAxis,
    Shares,
    SnapshotRef,
)
from attribution.fingerprints import Fingerprints
from attribution.index import ExactIndex
from attribution.snapshot import ReferenceWork
from attribution.wording import NOT_PROVEN, found_sentence, similarity_sentence
from models.errors import NetworkError
from models.networks import Encoder, NetworkInfo, encoder_key

NEAREST = 10
LISTED_ARTISTS = 12
OTHER_ARTISTS = "all other artists"
METHOD = "leave-artist-out/1"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Reference:
    """A frozen collection: works and, for each encoder, one row per work in the same order, (n, d) float32."""

    works: tuple[ReferenceWork, ...]
    vectors: Mapping[str, NDArray[np.float32]]
    encoders: Mapping[str, NetworkInfo]
    digest: bytes | None
    collection: str


@dataclass(frozen=True)
class _Axis:
    encoder: Encoder
    index: ExactIndex
    calibration: Calibration


class Engine:
    """Compares images with one collection. Works that may not be compared are left out before anything is built."""

    def __init__(self, encoders: Mapping[str, Encoder], reference: Reference | None) -> None:
        """Index and calibrate: up to two seconds an encoder for 10,000 works.

        Raises NetworkError `encoder_changed` when the collection was indexed with other weights than those loaded, and
        ValueError when vectors do not fit the works.
        """
        self.encoders = dict(encoders)
        self.reference = reference
        works = reference.works if reference else ()
        self._works = [work for work in works if work.compare]
        self._artists = _codes([work.artist_id for work in self._works])
        self._nameable = np.array([work.name for work in self._works], np.bool_)
        self._axes: dict[str, _Axis] = {}
        if reference is None or not self._works:
            return
        ids = [work.id for work in self._works]
        pictures = _codes([work.pixel_sha256 for work in self._works])
        for name, encoder in self.encoders.items():
            if name in reference.vectors:
                _check_weights(name, encoder.info, reference.encoders.get(name))
                rows = _unit_rows(name, reference.vectors[name], works, encoder.dim)
                index = ExactIndex(rows)
                self._axes[name] = _Axis(encoder, index, fit(index, ids, self._artists, pictures))

    def embed(self, images: Sequence[Pixels]) -> dict[str, NDArray[np.float32]]:
        """Return for each encoder the (n, d) float32 unit rows of n canonical images."""
        return {name: encoder.encode(images) for name, encoder in self.encoders.items()}

    def examine(self, pixels: Pixels, fingerprints: Fingerprints) -> Evidence:
        """Return what one image, (h, w, 3) uint8 canonical pixels, has in common with the collection.

        Scores are cosines; p-values and shares are those of `attribution.calibration`, with all that they do not prove.
        """
        identity = self._identity(fingerprints)
        neighbours: dict[str, NeighbourAxis] = {}
        shares: dict[str, Shares] = {}
        for name, axis in self._axes.items():
            query = axis.encoder.encode([pixels])
            neighbours[name] = self._nearest(axis, query)
            if axis.calibration.shares is not None:
                shares[name] = self._shares(name, axis.calibration.shares, axis.index.scores(query)[0])
        return Evidence(
            snapshot=self._snapshot(),
            identity=identity,
            neighbours=neighbours,
            shares=shares,
            statement=self._statement(identity, neighbours),
            not_proven=list(NOT_PROVEN),
        )

    def _snapshot(self) -> SnapshotRef | None:
        if self.reference is None:
            return None
        return SnapshotRef(
            digest=self.reference.digest.hex() if self.reference.digest else None,
            works=len(self._works),
            artists=self._artist_count(),
            collection=self.reference.collection,
        )

    def _artist_count(self) -> int:
        return int(self._artists.max(initial=-1)) + 1

    def _identity(self, fingerprints: Fingerprints) -> Identity:
        files, pictures = [], []
        for work in self._works:
            if work.file_sha256 == fingerprints.file_sha256:
                files.append(_match(work, same_file=True))
            elif work.pixel_sha256 == fingerprints.pixel_sha256:
                pictures.append(_match(work, same_file=False))
        return Identity(works=files + pictures)

    def _nearest(self, axis: _Axis, query: NDArray[np.float32]) -> NeighbourAxis:
        scores, rows = axis.index.search(query, NEAREST)
        null = len(axis.calibration.null)
        p_values = axis.calibration.p_values(scores[0]) if null else [None] * scores.shape[1]
        nearest = [
            _neighbour(self._works[row], float(score), None if p is None else float(p))
            for score, row, p in zip(scores[0], rows[0], p_values, strict=True)
        ]
        note = _note(axis.calibration) if null else None
        return NeighbourAxis(encoder=encoder_key(axis.encoder.info), nearest=nearest, calibration=note)

    def _shares(self, name: str, model: ShareModel, scores: NDArray[np.float32]) -> Shares:
        weights, none = share_weights(model, scores, self._artists)
        # A work that may not be named gives its share to the protected slot even when its artist is named for others:
        # set beside the neighbours' scores, a named share would tell whose work it is.
        summed: dict[str, float] = {}
        names: dict[str, str] = {}
        for row in np.flatnonzero(self._nameable):
            work = self._works[row]
            summed[work.artist_id] = summed.get(work.artist_id, 0.0) + float(weights[row])
            names[work.artist_id] = work.artist
        ranked = sorted(summed, key=lambda artist: (-summed[artist], artist))
        listed, rest = ranked[:LISTED_ARTISTS], ranked[LISTED_ARTISTS:]
        slots = [ArtistShare(artist_id=artist, artist=names[artist], share=summed[artist]) for artist in listed]
        if rest:
            slots.append(
                ArtistShare(artist_id=None, artist=OTHER_ARTISTS, share=sum(summed[artist] for artist in rest))
            )
        if not self._nameable.all():
            protected = float(weights[~self._nameable].sum())
            slots.append(ArtistShare(artist_id=None, artist=PROTECTED_WORKS, share=protected))
        return Shares(artists=slots, none_of_these=none, note=_share_note(name, model))

    def _statement(self, identity: Identity, neighbours: Mapping[str, NeighbourAxis]) -> str:
        if identity.works:
            return found_sentence(identity.works)
        if self.reference is None:
            return "Cannot tell: there is no collection to compare with."
        if not self.reference.works:
            return "Cannot tell: the collection is empty."
        if not self._works:
            return "Cannot tell: no work in the collection may be compared."
        if not self._axes:
            return "Cannot tell: this very image is not in the collection, and no loaded encoder has indexed it."
        if not any(axis.calibration for axis in neighbours.values()):
            reasons = [axis.calibration.reason for axis in self._axes.values()]
            return f"Cannot tell: {reasons[0]}."
        return similarity_sentence(neighbours, len(self._works), self._artist_count())


def _match(work: ReferenceWork, *, same_file: bool) -> Match:
    return Match(
        work_id=work.id if work.name else None,
        artist_id=work.artist_id if work.name else None,
        artist=work.artist if work.name else None,
        title=work.title if work.name else PROTECTED_WORK,
        by="file_sha256" if same_file else "pixel_sha256",
        protected=not work.name,
    )


def _neighbour(work: ReferenceWork, score: float, p_value: float | None) -> Neighbour:
    return Neighbour(
        work_id=work.id if work.name else None,
        artist_id=work.artist_id if work.name else None,
        artist=work.artist if work.name else None,
        title=work.title if work.name else PROTECTED_WORK,
        score=score,
        p_value=p_value,
        protected=not work.name,
    )


def _note(calibration: Calibration) -> CalibrationNote:
    n = len(calibration.null)
    return CalibrationNote(
        n=n,
        method=METHOD,
        smallest_p=calibration.smallest_p,
        text=(
            f"p is the part of {n} works by {calibration.artists} artists that come as near to some work when their "
            "own artist is left out. It holds for images like those of the collection; works of one artist are not "
            "independent, so with few artists it is rough."
        ),
    )


def _share_note(name: str, model: ShareModel) -> str:
    return (
        f"Similarity shares under {name}. On {model.queries} works of the collection, each left out, the largest share "
        f"fell to its own artist in {model.artist_right:.0%}, and to none of these in {model.none_right:.0%} when its "
        "artist was left out."
    )


def _codes(keys: Sequence[str]) -> NDArray[np.int64]:
    """Number equal keys alike, 0.. in the order they appear; (n,) int64."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], np.int64)


def _check_weights(name: str, loaded: NetworkInfo, indexed: NetworkInfo | None) -> None:
    if indexed is None or encoder_key(indexed) != encoder_key(loaded):
        was = encoder_key(indexed) if indexed else "no named network"
        raise NetworkError(
            f"The collection was indexed with {was}, and {encoder_key(loaded)} is loaded as {name!r}.",
            code="encoder_changed",
            next_step="Index the collection again, or set the network back to the one that indexed it.",
        )


def _unit_rows(
    name: str, vectors: NDArray[np.float32], works: Sequence[ReferenceWork], dim: int
) -> NDArray[np.float32]:
    """Return the rows of works that may be compared, scaled to length 1 (halfvec storage rounds them)."""
    if vectors.shape != (len(works), dim):
        raise ValueError(f"{name!r} needs ({len(works)}, {dim}) vectors, not {vectors.shape}")
    rows = vectors[np.array([work.compare for work in works], np.bool_)].astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or lengths.min() <= 0:
        raise ValueError(f"{name!r} has a vector that is zero or not finite")
    return np.asarray(rows / lengths, np.float32)
