"""From scores to statements with an error rate: conformal p-values, intervals, batches, reliability. Pure statistics.

A p-value here answers: how often does an image that has nothing to do with the collection score at least this high?
Its calibration images must be like the images asked about and by artists who are not searched; then p <= a happens to
at most a part a of such images (Vovk et al., Algorithmic Learning in a Random World, 2005: conformal prediction).
Scores must be made the same way on both sides; the maximum over all works or artists is such a score, so that one
p-value covers "some artist of the collection" whichever it is.

What this does not prove: images of one artist are not independent, and the guarantee is about a further image drawn
like the calibration images, not about every artist: few artists make p-values rough, whatever the number of images.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats  # type: ignore[import-untyped]

SAME_SCORE = 1e-6  # two ways of computing one float32 score may differ by this part of it; ties count against a claim
RESAMPLES = 2000


@dataclass(frozen=True)
class Null:
    """Scores of calibration images that have nothing to do with the collection, (n,) float32, ascending.

    An image in which nothing at all was found has -inf, and counts: leaving it out would make findings look ordinary.
    `artists` is how many artists made them, where that is known: the number of independent pieces of evidence.
    """

    scores: NDArray[np.float32]
    artists: int | None = None

    @classmethod
    def of(cls, scores: ArrayLike, artists: int | None = None) -> Self:
        """Sort scores in any order. Raises ValueError on NaN and +inf."""
        every = np.asarray(scores, np.float32).ravel()
        if np.isnan(every).any() or np.isposinf(every).any():
            raise ValueError("null scores must be numbers, or -inf where nothing was found")
        return cls(np.sort(every), artists)

    @property
    def n(self) -> int:
        return len(self.scores)

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that can come out, 1 / (n + 1)."""
        return 1.0 / (self.n + 1)

    def enough_for(self, alpha: float) -> bool:
        """Can any score at all have p <= alpha? Needs n >= 1 / alpha - 1: 999 images for 0.001."""
        return self.smallest_p <= alpha * (1 + 1e-12)

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return p = (1 + #{null >= s}) / (n + 1) in (0, 1] for scores of any shape; the higher s, the smaller p.

        A score within SAME_SCORE of a null score counts as equal to it. Raises ValueError on NaN.
        """
        asked = np.asarray(scores, np.float64)
        if np.isnan(asked).any():
            raise ValueError("a score that is not a number has no p-value")
        size = np.where(np.isfinite(asked), np.maximum(1.0, np.abs(asked)), 1.0)  # inf - inf is no number
        lowered = asked - SAME_SCORE * size
        below = np.searchsorted(self.scores.astype(np.float64), lowered, side="left")
        return np.asarray((1.0 + self.n - below) / (self.n + 1.0), np.float64)

    def threshold(self, alpha: float) -> float:
        """Return the score above which p <= alpha (up to SAME_SCORE); +inf where the null is too small for alpha."""
        allowed = int(np.floor(alpha * (self.n + 1) * (1 + 1e-12))) - 1  # how many null scores may be as high
        if allowed < 0:
            return float("inf")
        return float("-inf") if allowed >= self.n else float(self.scores[self.n - 1 - allowed])

    def to_bytes(self) -> bytes:
        """Write the scores as little-endian float32, so that a calibration can be kept and hashed."""
        return self.scores.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, artists: int | None = None) -> Self:
        """Read `to_bytes`. Raises ValueError when cut short, out of order or no scores."""
        scores = np.frombuffer(data, "<f4").astype(np.float32)
        if not (scores < np.inf).all() or (scores[1:] < scores[:-1]).any():
            raise ValueError("null scores must be numbers, ascending")
        return cls(scores, artists)


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a rate seen k times in n independent trials (Clopper & Pearson 1934).

    Covers the true rate in at least `level` of cases. Trials of one artist are not independent: for those take
    `clustered_rate_interval`. No trials say nothing: (0, 1). Raises ValueError unless 0 <= k <= n.
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is no count of successes")
    return _exact_interval(float(k), float(n), level)


def clustered_rate_interval(happened: ArrayLike, clusters: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of a rate over trials that come in clusters, such as images by artist.

    `happened` (n,) bool, `clusters` (n,) integers. Korn & Graubard (Survey Methodology 24, 1998): the exact interval of
    Clopper and Pearson with the number of independent trials that would have the variance seen between clusters. Where
    it never (or always) happened that variance is not known, and trials count as independent: the interval is then too
    narrow if they are not. One cluster says nothing about others: (0, 1). Raises ValueError on unequal lengths.
    """
    flags, codes = _paired(happened, clusters)
    sums, counts = _by_cluster(flags, codes)
    n, groups = len(flags), len(counts)
    if groups < 2:
        return 0.0, 1.0
    rate = float(sums.sum() / n)
    if rate in (0.0, 1.0):
        return _exact_interval(rate * n, n, level)
    residuals = (sums - rate * counts) / n  # linearised ratio estimator
    variance = groups / (groups - 1) * float((residuals**2).sum())
    effective = min(float(n), rate * (1 - rate) / variance) if variance > 0 else float(n)
    tail = (1 - level) / 2
    shrunk = float((stats.t.ppf(tail, n - 1) / stats.t.ppf(tail, groups - 1)) ** 2)
    effective *= shrunk
    return _exact_interval(rate * effective, effective, level)


def clustered_interval(
    values: ArrayLike, clusters: ArrayLike, *, seed: int, level: float = 0.95, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of `values` (n,), whole clusters drawn with replacement.

    (Cameron, Gelbach & Miller 2008, pairs cluster bootstrap.) Clusters are artists: what is uncertain is which artists
    happened to be in the data. Fewer than about ten clusters make it too narrow; one makes it a point, and says nothing
    about other artists. The same seed gives the same interval. Raises ValueError on no values or unequal lengths.
    """
    numbers, codes = _paired(values, clusters)
    sums, counts = _by_cluster(numbers, codes)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=resamples)
    means = (drawn @ sums) / (drawn @ counts)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def benjamini_hochberg(p_values: ArrayLike, alpha: float) -> NDArray[np.bool_]:
    """Return which of (m,) p-values stand when at most a part `alpha` of those that stand may be false.

    Benjamini & Hochberg (1995), step-up. Conformal p-values on one calibration set are positively dependent, where it
    holds (Bates et al., Annals of Statistics 51, 2023). Of use for a batch; one image keeps its own p-value.
    Raises ValueError on p outside [0, 1].
    """
    p = np.asarray(p_values, np.float64).ravel()
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values lie between 0 and 1")
    order = np.argsort(p, kind="stable")
    passing = np.flatnonzero(p[order] <= alpha * np.arange(1, len(p) + 1) / max(len(p), 1))
    stands = np.zeros(len(p), np.bool_)
    if len(passing):
        stands[order[: passing[-1] + 1]] = True
    return stands


class Bin(NamedTuple):
    """One bar of a reliability diagram: answers whose confidence lay in (low, high], and how many were right."""

    low: float
    high: float
    n: int
    confidence: float
    right: float


def reliability(confidences: ArrayLike, right: ArrayLike, bins: int = 15) -> list[Bin]:
    """Return the bins of equal width that hold answers, in order. Confidences (n,) in [0, 1]; right (n,) bool."""
    confidence, correct = _paired(confidences, right)
    if not ((confidence >= 0) & (confidence <= 1 + 1e-9)).all():
        raise ValueError("confidences lie between 0 and 1")
    where = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    found = []
    for number in np.unique(where):
        inside = where == number
        mean, hit = float(confidence[inside].mean()), float(correct[inside].astype(np.float64).mean())
        found.append(Bin(number / bins, (number + 1) / bins, int(inside.sum()), mean, hit))
    return found


def expected_calibration_error(confidences: ArrayLike, right: ArrayLike, bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over bins of equal width (Guo et al., ICML 2017, eq. 3).

    0 is perfect. It does not say that answers are right, only that they are as often right as they claim; and it grows
    with few answers even for a calibrated model.
    """
    found = reliability(confidences, right, bins)
    return sum(bar.n * abs(bar.confidence - bar.right) for bar in found) / sum(bar.n for bar in found)


def _exact_interval(k: float, n: float, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low = float(stats.beta.ppf(tail, k, n - k + 1)) if k > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, k + 1, n - k)) if k < n else 1.0
    return low, high


def _paired(values: ArrayLike, others: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    one, other = np.asarray(values, np.float64).ravel(), np.asarray(others).ravel().astype(np.int64)
    if len(one) == 0 or len(one) != len(other):
        raise ValueError(f"needs as many values as labels, and at least one; there are {len(one)} and {len(other)}")
    return one, other


def _by_cluster(
    values: NDArray[np.float64], clusters: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and number of the values of each cluster."""
    _, codes = np.unique(clusters, return_inverse=True)
    return np.bincount(codes, values).astype(np.float64), np.bincount(codes).astype(np.float64)
