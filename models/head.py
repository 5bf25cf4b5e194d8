"""The artist classifier: one linear map per encoder, added up late on calibrated scores, with an "unknown" outcome.

Under each encoder an artist is a Gaussian around the mean of their works, with the covariance all artists share: linear
discriminant analysis (Fisher 1936; Rao 1948), which is linear in the vector. In coordinates where that covariance is
the identity, an artist a has a row r and scores g = r·z - |r|²/2, the log-likelihood up to what all artists have in
common. The row is their mean drawn towards the middle by psi / (psi + 1/n): an artist with one work says less than one
with a hundred (the posterior mean of two-covariance PLDA; Sizov, Lee & Kinnunen 2014). The logit of an artist is the
weighted sum of its g over encoders, that of "unknown" is constant + sum of weights x |z|²/dim, the Mahalanobis
distance from the middle (Lee et al. 2018: far from everything is a sign of none of these); a softmax makes
probabilities. Raw embeddings are never joined.

Artists are named, never numbered, and each has rows of its own: one can be added while the others' rows stay.

What it does not prove: probabilities hold for pictures like those it was calibrated on, one in two by an artist it does
not know. It names the nearest of its artists or none; that a picture is theirs is not for it to say.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models.errors import ModelError, NetworkError
from models.networks import NetworkInfo, weights_digest

FORMAT = "lawful-ledger/head/1"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
PARTS = ("mean", "whitening", "rows")

Vectors = NDArray[np.float32]
Rows = NDArray[np.float64]


class HeadError(ModelError):
    """What was given is not enough to learn from, or not what this classifier reads."""

    code = "vectors_unusable"
    status = 422


@dataclass(frozen=True)
class LinearMap:
    """One encoder's part, for A artists and vectors of d numbers; everything float32.

    `mean` (d), `whitening` (d, d): z = (x - mean) @ whitening. `rows` (A, d). `spread` is psi, the variance of artists'
    means in units of the variance within an artist. `weight` of an artist's score and `distance` of |z|²/d are what
    the late sum takes.
    """

    mean: Vectors
    whitening: Vectors
    rows: Vectors
    spread: float
    weight: float = 1.0
    distance: float = 0.0

    def whitened(self, vectors: NDArray[np.floating[Any]]) -> Rows:
        """(m, d) → (m, d) float64."""
        return np.asarray((np.asarray(vectors, np.float64) - self.mean) @ self.whitening.astype(np.float64))

    def scores(self, whitened: Rows) -> tuple[Rows, Rows]:
        """(m, d) whitened → g of each artist, (m, A), and |z|²/d, (m,)."""
        rows = self.rows.astype(np.float64)
        return whitened @ rows.T - 0.5 * (rows**2).sum(1), (whitened**2).mean(1)

    def row(self, whitened: Rows) -> Vectors:
        """The row of an artist with these works, (n, d) whitened."""
        return row_of(whitened.mean(0), len(whitened), self.spread)


def row_of(mean: Rows, works: int, spread: float) -> Vectors:
    """An artist's mean over `works` works, drawn towards the middle as far as it is uncertain: (d,) float32."""
    return (mean * (spread / (spread + 1.0 / works))).astype(np.float32)


@dataclass(frozen=True)
class ArtistHead:
    """A trained classifier of `artists` (ids, in the order of its columns) over the encoders `maps` is keyed by.

    `constant` is the logit of "unknown" before distances. `learnt_from` says on what: names and digests, kept with the
    weights so that the weights' digest binds both.
    """

    artists: tuple[str, ...]
    maps: Mapping[str, LinearMap]
    constant: float
    learnt_from: Mapping[str, str | int]
    info: NetworkInfo

    @classmethod
    def make(
        cls,
        artists: Sequence[str],
        maps: Mapping[str, LinearMap],
        constant: float,
        learnt_from: Mapping[str, str | int],
        licence: str = "unknown",
    ) -> Self:
        """Put a classifier together and give it the identity its saved files will have."""
        unnamed = NetworkInfo("artist-head", "1", "", licence)
        head = cls(tuple(artists), dict(maps), constant, dict(learnt_from), unnamed)
        with tempfile.TemporaryDirectory() as folder:
            head.save(Path(folder))
            return replace(head, info=replace(unnamed, weights_sha256=weights_digest(Path(folder))))

    @property
    def encoders(self) -> tuple[str, ...]:
        """The keys of the vectors it reads."""
        return tuple(self.maps)

    def classify(self, vectors: Mapping[str, NDArray[np.floating[Any]]]) -> tuple[Rows, Rows]:
        """Return the probabilities of the artists, (m, A), and of "unknown", (m,), float64; each row sums to 1.

        `vectors` holds (m, d) unit rows for every key of `encoders`; others are not looked at. Raises HeadError for a
        missing encoder, another number of dimensions, and vectors that are not finite.
        """
        logits = self.logits(vectors)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        return shares[:, :-1], shares[:, -1]

    def logits(self, vectors: Mapping[str, NDArray[np.floating[Any]]]) -> Rows:
        """(m, A + 1): the artists' and, last, that of "unknown"."""
        total: Rows | None = None
        for key, part in self.maps.items():
            known, distance = part.scores(part.whitened(_checked(vectors, key, len(part.mean))))
            logits = np.column_stack([part.weight * known, part.distance * distance])
            if total is not None and len(total) != len(logits):
                raise HeadError(
                    f"The vectors of {key} are {len(logits)}, those of another encoder {len(total)}.",
                    next_step="Encode the same pictures with every encoder.",
                )
            total = logits if total is None else total + logits
        assert total is not None  # a head has at least one encoder
        total[:, -1] += self.constant
        return total

    def add_artist(self, artist: str, vectors: Mapping[str, NDArray[np.floating[Any]]]) -> "ArtistHead":
        """Return a classifier with one artist more, from their works' vectors, (n, d) for every key of `encoders`.

        Nobody else's rows change; weights and the "unknown" outcome stay as calibrated on the others, so that train
        again where many are added. Raises HeadError for a known artist, no works, or unusable vectors.
        """
        if artist in self.artists:
            raise HeadError(
                f"The artist {artist!r} is known already.",
                code="artist_known",
                next_step="Train the classifier anew to learn from more of their works.",
            )
        maps = {}
        for key, part in self.maps.items():
            works = _checked(vectors, key, len(part.mean))
            if not len(works):
                raise HeadError("There are no works to learn from.", next_step="Give at least one work of the artist.")
            row = part.row(part.whitened(works))
            maps[key] = replace(part, rows=np.vstack([part.rows, row]))
        return ArtistHead.make(
            (*self.artists, artist), maps, self.constant, {**self.learnt_from, "added": artist}, self.info.licence
        )

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors; the same classifier gives the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "format": FORMAT,
            "artists": list(self.artists),
            "constant": self.constant,
            "learnt_from": dict(self.learnt_from),
            "licence": self.info.licence,
            "encoders": [
                {"key": key, "spread": part.spread, "weight": part.weight, "distance": part.distance}
                for key, part in self.maps.items()
            ],
        }
        tensors = {
            f"{number}.{name}": np.ascontiguousarray(getattr(part, name))
            for number, part in enumerate(self.maps.values())
            for name in PARTS
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        save_file(tensors, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Raises NetworkError: network_missing, or network_unreadable for anything else."""
        if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
            raise NetworkError(
                f"{folder.name!r} holds no artist classifier.",
                code="network_missing",
                next_step="Point the setting at a folder that `lawful train-head` wrote.",
            )
        try:
            config = json.loads((folder / CONFIG).read_bytes())
            artists, maps = _read(config, load_file(folder / WEIGHTS))
            info = NetworkInfo("artist-head", "1", weights_digest(folder), str(config["licence"]))
            return cls(artists, maps, float(config["constant"]), dict(config["learnt_from"]), info)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise NetworkError(
                f"The artist classifier in {folder.name!r} cannot be read ({type(error).__name__}).",
                code="network_unreadable",
                next_step="Train it again with `lawful train-head`, or fetch its files again.",
            ) from error


def _checked(vectors: Mapping[str, NDArray[np.floating[Any]]], key: str, dim: int) -> NDArray[np.floating[Any]]:
    if key not in vectors:
        raise HeadError(
            f"There are no vectors of {key}, which this classifier reads.",
            code="encoder_missing",
            next_step="Run the encoders it was trained with, or train it anew.",
        )
    found = np.asarray(vectors[key])
    if found.ndim != 2 or found.shape[1] != dim:
        raise HeadError(
            f"The vectors of {key} have the shape {found.shape}, and (n, {dim}) is wanted.",
            next_step="Encode the pictures with the encoder of that name.",
        )
    if not np.isfinite(found).all():
        raise HeadError(
            f"Vectors of {key} hold what is no finite number.",
            next_step="Encode those pictures again, or leave them out.",
        )
    return found


def _read(config: Any, tensors: Mapping[str, Vectors]) -> tuple[tuple[str, ...], dict[str, LinearMap]]:
    """Raises ValueError, KeyError or TypeError for what does not fit together."""
    if config["format"] != FORMAT:
        raise ValueError("another format")
    artists = tuple(config["artists"])
    if len(set(artists)) != len(artists) or not all(isinstance(artist, str) for artist in artists):
        raise ValueError("artists that are not told apart")
    if not config["encoders"] or len(tensors) != len(PARTS) * len(config["encoders"]):
        raise ValueError("other weights than the configuration names")
    maps = {}
    for number, encoder in enumerate(config["encoders"]):
        mean, whitening, rows = (tensors[f"{number}.{name}"] for name in PARTS)
        dim = len(mean)
        fits = mean.shape == (dim,) and whitening.shape == (dim, dim) and rows.shape == (len(artists), dim)
        numbers = {name: float(encoder[name]) for name in ("spread", "weight", "distance")}
        if not fits or not all(np.isfinite(each).all() for each in (mean, whitening, rows, list(numbers.values()))):
            raise ValueError("shapes that do not fit, or numbers that are none")
        maps[str(encoder["key"])] = LinearMap(mean, whitening, rows, **numbers)
    return artists, maps
