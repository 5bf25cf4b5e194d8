"""Image to Evidence: the public face of this floor."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from attribution import gate, neighbours
from attribution.calibrated import (
    BACKGROUND,
    NO_ENCODER,
    OWN,
    TOO_LARGE,
    Calibrated,
    NullScores,
    copy_index,
    copy_vectors,
)
from attribution.calibration import Null
from attribution.copies import CopyIndex, Found
from attribution.drawing import draw_match
from attribution.evidence import (
    PROTECTED_WORK,
    PROTECTED_WORKS,
    Area,
    ArtistFinding,
    CalibrationNote,
    Classification,
    Conflict,
    CopyAxis,
    CopyMatch,
    Evidence,
    Identity,
    Match,
    Neighbour,
    NeighbourAxis,
    SnapshotRef,
    StyleAxis,
)
from attribution.features import METHOD, LocalFeatures
from attribution.fingerprints import Fingerprints
from attribution.gate import GatePolicy
from attribution.index import ExactIndex
from attribution.ivf import IvfIndex, index_over
from attribution.measured import MISSED
from attribution.reference import Compared, Pixels, Reference, Rows
from attribution.snapshot import ReferenceWork
from attribution.style import StyleReference
from attribution.wording import findings, not_proven, statement
from models.head import ArtistHead
from models.networks import Encoder, encoder_key

NEAREST = 10
LISTED_ARTISTS = 12
LISTED_COPIES = 5
OTHER_ARTISTS = "all other artists"
WORTH_SHOWING = 0.05
COPIED, RESEMBLED, CAME_NEAR = (
    "match some work as well",
    "resemble some artist as much",
    "come as near to some work",
)


@dataclass(frozen=True)
class Examined:
    """What was found, and the drawings that it names: SHA-256 in hex → PNG."""

    evidence: Evidence
    pictures: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """One image beside one work. `found` None: no arrangement of details is common to both.

    `null` is the copy axis's, which is about *some* work of the collection: for one given work its p-values are too
    large, never too small. `reason` says why there is none.
    """

    found: Found | None
    null: Null | None
    reason: str | None


@dataclass(frozen=True)
class _Rate:
    """What the error rate of an axis rests on, decoded once, and the evidence's words for it. None: it has none."""

    null: Null | None
    note: CalibrationNote | None

    @classmethod
    def of(cls, kept: NullScores, what: str, calibrated: Calibrated | None) -> "_Rate":
        null = kept.null()
        twice = calibrated.twice if calibrated else 0
        return cls(null, None if null is None else _note(kept.method, null, what, twice))


@dataclass(frozen=True)
class _Nearest:
    encoder: Encoder
    index: ExactIndex | IvfIndex
    rate: _Rate


Step = Callable[[str], None]


def unwatched(step: str) -> None:
    """Whoever times the steps passes a function in its place."""


class Engine:
    """Compares images with one collection. Works that may not be compared are left out before anything is built."""

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        reference: Reference | None,
        calibrated: Calibrated | None = None,
        *,
        head: ArtistHead | None = None,
    ) -> None:
        """Index the collection. Without `calibrated`, no axis but identity can tell anything.

        Raises what `Compared.of` raises, and ValueError when `calibrated` was fitted to another collection.
        """
        self.encoders = dict(encoders)
        self.reference = reference
        self._compared = compared = Compared.of(reference, encoders)
        self._calibrated = calibrated
        self._head = head
        self._reasons: dict[str, str] = {}
        if reference is not None and not reference.works:
            self._reasons["collection"] = "the collection is empty"
        if calibrated is not None and calibrated.works != len(compared.works):
            raise ValueError(f"calibrated on {calibrated.works} works, and {len(compared.works)} are compared")
        self._nearest = {
            name: self._axis(name)
            for name in compared.vectors
            if encoders[name].axes & {"style", "content"} and len(compared.works)
        }
        self._style, self._style_rate = self._style_axis()
        self._copies, self._copy_rate = self._copy_axis()

    def examine(
        self,
        pixels: Pixels,
        fingerprints: Fingerprints,
        policy: GatePolicy | None = None,
        *,
        draw: bool = False,
        on_step: Step = unwatched,
    ) -> Examined:
        """Return what one image, (h, w, 3) uint8 canonical pixels, has in common with the collection.

        With a `policy` the image is to be issued: it is judged, and matched regions are drawn; with `draw` they are
        drawn alone. Scores, p-values and shares are those of their axes, with all that they do not prove.
        """
        vectors, reasons = self._seen(pixels)
        on_step("embedded")
        identity, same = self._identity(fingerprints)
        found = self._found_copies(pixels)
        pictures: dict[str, bytes] | None = {} if draw or policy is not None else None
        copy = self._copy_evidence(pixels, found, pictures)
        evidence = Evidence(
            snapshot=self._snapshot(),
            identity=identity,
            neighbours={
                name: self._neighbours(axis, vectors[name]) for name, axis in self._nearest.items() if name in vectors
            },
            copy=copy,
            style=self._style_evidence(vectors),
            classification=self._classification(vectors),
            conflicts=self._conflicts(same),
            statement="",
        )
        on_step("searched")
        told = findings(evidence, reasons=reasons)
        evidence = msgspec.structs.replace(
            evidence, findings=told, statement=statement(evidence, told), not_proven=not_proven(evidence)
        )
        if policy is not None:
            null = self._copy_rate.null
            counted = [each.row for each in found if null and null.p_values(each.score) <= policy.alpha]
            refused = any(not self._compared.works[row].train for row in (*same, *counted))
            evidence = msgspec.structs.replace(evidence, gate=gate.decide(evidence, refused, policy))
        return Examined(evidence, pictures or {})

    def pair(self, pixels: Pixels, work: LocalFeatures) -> Pair:
        """Compare one image, (h, w, 3) uint8, with one work, in the collection or not, by its local features alone."""
        found = CopyIndex([work]).find(pixels)
        return Pair(next(iter(found), None), self._copy_rate.null, self._reasons.get("copy"))

    def _seen(self, pixels: Pixels) -> tuple[dict[str, Rows], dict[str, str]]:
        """What the encoders of style and content see, and why an axis cannot be told of this very image."""
        vectors: dict[str, Rows] = {}
        reasons = dict(self._reasons)
        for name, encoder in self.encoders.items():
            axes = encoder.axes & {"style", "content"}
            if not axes:
                continue
            row = encoder.encode([pixels])
            if np.isfinite(row).all() and row.any():
                vectors[name] = row
            else:
                reasons |= dict.fromkeys(axes, f"this image gives the encoder {name} nothing to go by")
        return vectors, reasons

    # ---- identity ----

    def _identity(self, fingerprints: Fingerprints) -> tuple[Identity, list[int]]:
        files, pictures = [], []
        for row, work in enumerate(self._compared.works):
            if work.file_sha256 == fingerprints.file_sha256:
                files.append(row)
            elif work.pixel_sha256 == fingerprints.pixel_sha256:
                pictures.append(row)
        found = [_match(self._compared.works[row], "file_sha256") for row in files]
        found += [_match(self._compared.works[row], "pixel_sha256") for row in pictures]
        return Identity(works=found), files + pictures

    def _conflicts(self, same: Sequence[int]) -> list[Conflict]:
        works = [self._compared.works[row] for row in same]
        if len({work.artist_id for work in works}) < 2:
            return []
        return [
            Conflict(
                titles=[work.title if work.name else PROTECTED_WORK for work in works],
                artists=[work.artist if work.name else PROTECTED_WORKS for work in works],
            )
        ]

    # ---- copies ----

    def _copy_axis(self) -> tuple[CopyIndex | None, _Rate]:
        compared = self._compared
        if compared.features is None or not len(compared.works):
            return None, _Rate(None, None)
        null = self._calibrated.copy_null if self._calibrated else _uncalibrated()
        if null.reason is not None:
            self._reasons["copy"] = null.reason
        assert self.reference is not None
        return copy_index(compared, self.encoders, self.reference.cache), _Rate.of(null, COPIED, self._calibrated)

    def _found_copies(self, pixels: Pixels) -> list[Found]:
        if self._copies is None:
            return []
        return self._copies.find(pixels, copy_vectors(self.encoders, pixels))

    def _copy_evidence(
        self, pixels: Pixels, found: Sequence[Found], pictures: dict[str, bytes] | None
    ) -> CopyAxis | None:
        """The matches that at most one image in twenty would reach by chance: beyond that there is nothing to see."""
        if self._copies is None:
            return None
        null = self._copy_rate.null
        matches: list[CopyMatch] = []
        for each in found:
            p_value = None if null is None else float(null.p_values(each.score))
            if null is not None and p_value is not None and p_value > max(WORTH_SHOWING, null.smallest_p):
                continue
            if len(matches) < LISTED_COPIES:
                matches.append(self._copy_match(pixels, each, p_value, pictures))
        return CopyAxis(
            method=encoder_key(METHOD),
            searched=len(self._compared.works),
            matches=matches,
            missed=dict(MISSED),
            calibration=self._copy_rate.note,
        )

    def _copy_match(
        self, pixels: Pixels, found: Found, p_value: float | None, pictures: dict[str, bytes] | None
    ) -> CopyMatch:
        work = self._compared.works[found.row]
        assert self.reference is not None
        name = None
        if pictures is not None:
            drawing = draw_match(pixels, self.reference.preview(work.id) if work.name else None, found.alignment)
            name = hashlib.sha256(drawing).hexdigest()
            pictures[name] = drawing
        return CopyMatch(
            **_credited(work),
            score=found.score,
            p_value=p_value,
            details=found.alignment.details,
            of_image=area(found.alignment.of_image),
            of_work=area(found.alignment.of_work),
            mirrored=found.alignment.mirrored,
            picture=name,
        )

    # ---- style ----

    def _style_axis(self) -> tuple[StyleReference | None, _Rate]:
        compared = self._compared
        null = self._calibrated.style_null if self._calibrated else _uncalibrated()
        if null.reason is not None:
            self._reasons["style"] = null.reason
        model = self._calibrated.style if self._calibrated else None
        rate = _Rate.of(null, RESEMBLED, self._calibrated)
        vectors = compared.of_axis(self.encoders, "style")
        if model is None:
            return None, rate
        if not set(model.encoders) <= set(vectors):  # calibrated where there is more memory, or with another profile
            self._reasons["style"] = TOO_LARGE if set(model.encoders) <= set(compared.vectors) else NO_ENCODER
            return None, rate
        return StyleReference(vectors, compared.groups, compared.artists, compared.pictures, model), rate

    def _style_evidence(self, vectors: Mapping[str, Rows]) -> StyleAxis | None:
        if self._style is None or not set(self._style.model.encoders) <= set(vectors):
            return None
        scores = self._style.scores(vectors)
        shares, none = self._style.shares(scores)
        null = self._style_rate.null
        p_values = None if null is None else null.p_values(scores[0])
        model = self._style.model
        return StyleAxis(
            method=" + ".join(encoder_key(self.encoders[name].info) for name in model.encoders),
            artists=self._by_artist(shares[0], p_values),
            none_of_these=float(none[0]),
            calibration=self._style_rate.note,
            note=(
                f"On {model.queries} works of the collection, each left out, the largest share fell to its own artist "
                f"in {model.artist_right:.0%}, and to none of these in {model.none_right:.0%} when its artist was left "
                "out."
            ),
        )

    def _by_artist(self, shares: NDArray[np.float64], p_values: NDArray[np.float64] | None) -> list[ArtistFinding]:
        """The groups that may be named, the largest first, then the rest of them, then all that are protected."""
        first_of = [int(np.argmax(self._compared.groups == group)) for group in range(len(shares))]
        works = [self._compared.works[row] for row in first_of]
        named = sorted((g for g, work in enumerate(works) if work.name), key=lambda g: (-shares[g], works[g].artist_id))
        protected = [group for group, work in enumerate(works) if not work.name]

        def lowest(groups: Sequence[int]) -> float | None:
            return None if p_values is None else float(p_values[list(groups)].min())

        found = [
            ArtistFinding(
                artist_id=works[g].artist_id, artist=works[g].artist, share=float(shares[g]), p_value=lowest([g])
            )
            for g in named[:LISTED_ARTISTS]
        ]
        if rest := named[LISTED_ARTISTS:]:
            part = float(shares[rest].sum())
            found.append(ArtistFinding(artist_id=None, artist=OTHER_ARTISTS, share=part, p_value=lowest(rest)))
        if protected:
            part = float(shares[protected].sum())
            found.append(
                ArtistFinding(
                    artist_id=None, artist=PROTECTED_WORKS, share=part, p_value=lowest(protected), protected=True
                )
            )
        return found

    # ---- nearest works, classifier ----

    def _axis(self, name: str) -> _Nearest:
        kept = self._calibrated.neighbours.get(name) if self._calibrated else None
        kept = kept or _uncalibrated()
        if kept.reason is not None and "content" in self.encoders[name].axes:
            self._reasons.setdefault("content", kept.reason)
        rate = _Rate.of(kept, CAME_NEAR, self._calibrated)
        return _Nearest(self.encoders[name], index_over(self._compared.vectors[name]), rate)

    def _neighbours(self, axis: _Nearest, query: Rows) -> NeighbourAxis:
        found = neighbours.nearest(axis.index, axis.rate.null, query[0], NEAREST)
        p_values = [None] * len(found.rows) if found.p_values is None else [float(p) for p in found.p_values]
        nearest = [
            Neighbour(**_credited(self._compared.works[row]), score=float(score), p_value=p)
            for row, score, p in zip(found.rows, found.scores, p_values, strict=True)
        ]
        return NeighbourAxis(
            encoder=encoder_key(axis.encoder.info),
            axes=sorted(axis.encoder.axes),
            nearest=nearest,
            calibration=axis.rate.note,
            exhaustive=isinstance(axis.index, ExactIndex),
            note="" if isinstance(axis.index, ExactIndex) else _not_exhaustive(axis.index),
        )

    def _classification(self, vectors: Mapping[str, Rows]) -> Classification | None:
        """Named are artists of the collection whose every compared work may be named; the others are put together.

        A classifier knows its artists by the collection's ids, or by name where it was trained on a folder.
        """
        if self._head is None or not {encoder_key(self.encoders[name].info) for name in vectors} >= set(
            self._head.encoders
        ):
            return None
        keyed = {encoder_key(self.encoders[name].info): rows for name, rows in vectors.items()}
        probabilities, unknown = self._head.classify(keyed)
        of_key = {key: work for work in self._compared.works for key in (work.artist_id, work.artist)}
        hidden = {work.artist_id for work in self._compared.works if not work.name}
        found, protected, others = [], 0.0, 0.0
        for key, share in zip(self._head.artists, probabilities[0], strict=True):
            work = of_key.get(key)
            if work is None:
                others += float(share)
            elif work.artist_id in hidden:
                protected += float(share)
            else:
                found.append(ArtistFinding(artist_id=work.artist_id, artist=work.artist, share=float(share)))
        found.sort(key=lambda each: (-each.share, each.artist_id or ""))
        others += sum(each.share for each in found[LISTED_ARTISTS:])
        del found[LISTED_ARTISTS:]
        if others:
            found.append(ArtistFinding(artist_id=None, artist=OTHER_ARTISTS, share=others))
        if protected:
            found.append(ArtistFinding(artist_id=None, artist=PROTECTED_WORKS, share=protected, protected=True))
        return Classification(classifier=encoder_key(self._head.info), artists=found, unknown=float(unknown[0]))

    def _snapshot(self) -> SnapshotRef | None:
        if self.reference is None:
            return None
        return SnapshotRef(
            digest=self.reference.digest.hex() if self.reference.digest else None,
            works=len(self._compared.works),
            artists=int(self._compared.artists.max(initial=-1)) + 1,
            collection=self.reference.collection,
        )


def _credited(work: ReferenceWork) -> dict[str, Any]:
    """A work's names, or none of them."""
    return {
        "work_id": work.id if work.name else None,
        "artist_id": work.artist_id if work.name else None,
        "artist": work.artist if work.name else None,
        "title": work.title if work.name else PROTECTED_WORK,
        "protected": not work.name,
    }


def _match(work: ReferenceWork, by: Literal["file_sha256", "pixel_sha256"]) -> Match:
    return Match(**_credited(work), by=by)


def area(corners: NDArray[np.float32]) -> Area:
    """(4, 2) corners as parts of width and height, as evidence has them."""
    return Area(corners=[(round(float(x), 4), round(float(y), 4)) for x, y in corners])


def _uncalibrated() -> NullScores:
    return NullScores(OWN, reason="the collection has not been calibrated yet")


def _not_exhaustive(index: IvfIndex) -> str:
    said = "The collection is larger than the memory it is searched in, so a part of it was looked at."
    if (recall := index.recall) is None:
        return said
    measured = f"For {recall.queries} of its works this finds {recall.value:.1%} of the {recall.k} nearest others."
    return f"{said} {measured}"


def _note(method: str, null: Null, what: str, twice: int) -> CalibrationNote:
    """What an error rate rests on, in a sentence."""
    by = f" by {null.artists} artists" if null.artists else ""
    source = f"{null.n} works{by}, each with its own artist left out"
    if twice:
        source += f" ({twice} that stand there under two artists were not asked)"
    if method == BACKGROUND:
        source = f"{null.n} works{by} who are not in the collection"
    return CalibrationNote(
        n=null.n,
        method=method,
        smallest_p=null.smallest_p,
        text=(
            f"p is the part of {source}, that {what}. It holds for images like those; "
            + (
                "works of one artist are not independent, so with few artists it is rough."
                if null.between is None
                else "where those artists differ from one another it is raised to what a further artist may reach."
            )
        ),
    )
