"""Image to Evidence: the public face of this floor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attribution import calibration
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
from models.errors import NetworkError
from models.networks import Encoder, NetworkInfo, encoder_key

NEAREST = 10
LISTED_ARTISTS = 12
OTHER_ARTISTS = "all other artists"
ALPHA = 0.01
METHOD = "leave-artist-out maximum, conformal"
NOT_PROVEN = [
    "Similarity does not prove that a work was copied, or that any generator has learned from it.",
    "A work that was not in the collection, or may not be compared, was not looked at.",
    "That nothing was found does not prove that the image is original.",
]

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
    calibration: calibration.Calibration


class Engine:
    """Compares images with one collection. Works without `compare` are left out before anything is built."""

    def __init__(self, encoders: Mapping[str, Encoder], reference: Reference | None) -> None:
        """Index and calibrate (about two seconds an encoder for 10,000 works).

        Raises NetworkError `encoder_changed` when the collection was indexed with other weights than those loaded, and
        ValueError when vectors do not fit the works.
        """
        self.encoders = dict(encoders)
        self.reference = reference
        rows = [row for row, work in enumerate(reference.works) if work.compare] if reference else []
        self._works = [reference.works[row] for row in rows] if reference else []
        codes = {artist: code for code, artist in enumerate(dict.fromkeys(work.artist_id for work in self._works))}
        pictures = {pixel: code for code, pixel in enumerate(dict.fromkeys(work.pixel_sha256 for work in self._works))}
        self._artists = np.array([codes[work.artist_id] for work in self._works], np.int64)
        self._names = {work.artist_id: work.artist for work in self._works if work.name}
        self._axes: dict[str, _Axis] = {}
        if reference is None or not rows:
            return
        shown = np.array([pictures[work.pixel_sha256] for work in self._works], np.int64)
        for name, encoder in self.encoders.items():
            if name in reference.vectors:
                _same_weights(name, encoder.info, reference.encoders[name])
                index = ExactIndex(_unit_rows(name, reference.vectors[name], len(reference.works), encoder.dim)[rows])
                fitted = calibration.fit(index, [work.id for work in self._works], self._artists, shown)
                self._axes[name] = _Axis(encoder, index, fitted)

    def embed(self, images: Sequence[Pixels]) -> dict[str, NDArray[np.float32]]:
        """Return for each encoder the (n, d) float32 unit rows of n canonical images."""
        return {name: encoder.encode(images) for name, encoder in self.encoders.items()}

    def examine(self, pixels: Pixels, fingerprints: Fingerprints) -> Evidence:
        """Return what one image, (h, w, 3) uint8 canonical pixels, has in common with the collection.

        Scores are cosines; p-values and shares are those of `attribution.calibration`, with all it does not prove.
        """
        identity = self._identity(fingerprints)
        neighbours: dict[str, NeighbourAxis] = {}
        shares: dict[str, Shares] = {}
        for name, axis in self._axes.items():
            query = axis.encoder.encode([pixels])
            neighbours[name] = self._nearest(axis, query)
            if axis.calibration.shares is not None:
                shares[name] = self._shares(name, axis, axis.calibration.shares, query)
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
            artists=len(set(self._artists.tolist())),
            collection=self.reference.collection,
        )

    def _identity(self, fingerprints: Fingerprints) -> Identity:
        matches = []
        for work in self._works:
            if work.file_sha256 == fingerprints.file_sha256 or work.pixel_sha256 == fingerprints.pixel_sha256:
                same_file = work.file_sha256 == fingerprints.file_sha256
                matches.append(Match(by="file_sha256" if same_file else "pixel_sha256", **_shown(work)))
        return Identity(works=sorted(matches, key=lambda match: match.by))

    def _nearest(self, axis: _Axis, query: NDArray[np.float32]) -> NeighbourAxis:
        scores, rows = axis.index.search(query, NEAREST)
        calibrated = len(axis.calibration.null) > 0
        p_values = axis.calibration.p_values(scores[0])
        return NeighbourAxis(
            encoder=encoder_key(axis.encoder.info),
            nearest=[
                Neighbour(score=float(score), p_value=float(p) if calibrated else None, **_shown(self._works[row]))
                for score, row, p in zip(scores[0], rows[0], p_values, strict=True)
            ],
            calibration=_note(axis.calibration) if calibrated else None,
        )

    def _shares(self, name: str, axis: _Axis, model: calibration.ShareModel, query: NDArray[np.float32]) -> Shares:
        weights, none = calibration.share_weights(model, axis.index.scores(query)[0], self._artists)
        # A work that may not be named gives its share to the protected slot, even when its artist is named for others:
        # beside the neighbours' scores, a named share would tell whose work it is.
        nameable = np.array([work.name for work in self._works])
        summed = np.bincount(self._artists[nameable], weights[nameable])
        named = {self._works[row].artist_id: float(summed[code]) for row, code in _first_rows(self._artists, nameable)}
        ranked = sorted(named.items(), key=lambda item: (-item[1], item[0]))
        slots = [ArtistShare(artist_id=key, artist=self._names[key], share=part) for key, part in ranked[:LISTED_ARTISTS]]
        if len(ranked) > LISTED_ARTISTS:
            rest = sum(part for _, part in ranked[LISTED_ARTISTS:])
            slots.append(ArtistShare(artist_id=None, artist=OTHER_ARTISTS, share=rest))
        if not nameable.all():
            slots.append(ArtistShare(artist_id=None, artist=PROTECTED_WORKS, share=float(weights[~nameable].sum())))
        note = (
            f"Similarity shares under {name}. On {model.queries} works of the collection, each left out, the largest share "
            f"fell to its own artist in {model.artist_right:.0%}, and to none of these in {model.none_right:.0%} when its "
            "artist was left out."
        )
        return Shares(artists=slots, none_of_these=none, note=note)

    def _statement(self, identity: Identity, neighbours: Mapping[str, NeighbourAxis]) -> str:
        if identity.works:
            return _identity_sentence(identity.works)
        if reason := self._cannot_tell(neighbours):
            return f"Cannot tell: {reason}."
        calibrated = [(name, axis) for name, axis in neighbours.items() if axis.calibration is not None]
        p_values = [axis.nearest[0].p_value or 1.0 for _, axis in calibrated]
        best = int(np.argmin(p_values))
        if p_values[best] > ALPHA / len(calibrated):  # Bonferroni: each encoder is one more chance to be wrong
            artists = len(set(self._artists.tolist()))
            return f"No single source stands out among {_count(len(self._works), 'work')} by {_count(artists, 'artist')}."
        name, axis = calibrated[best]
        nearest = axis.nearest[0]
        whose = PROTECTED_WORK if nearest.protected else f"“{nearest.title}” by {nearest.artist}"
        return (
            f"Stands closer to {whose} than images by artists outside the collection come to any work in it "
            f"({name}: p = {p_values[best]:.2g})."
        )

    def _cannot_tell(self, neighbours: Mapping[str, NeighbourAxis]) -> str | None:
        if self.reference is None:
            return "there is no collection to compare with"
        if not self.reference.works:
            return "the collection is empty"
        if not self._works:
            return "no work in the collection may be compared"
        if not neighbours:
            return "the image itself is not in the collection, and no loaded encoder has indexed it"
        usable = [axis.calibration for axis in self._axes.values() if len(axis.calibration.null)]
        if not usable:
            return next(axis.calibration.reason for axis in self._axes.values()) or "no error rate can be stated"
        if min(fitted.smallest_p for fitted in usable) > ALPHA / len(usable):
            least = int(len(usable) / ALPHA)
            return f"an error rate of {ALPHA:.0%} needs about {least} works, and the collection has {len(self._works)}"
        return None


def _shown(work: ReferenceWork) -> dict[str, object]: ...
