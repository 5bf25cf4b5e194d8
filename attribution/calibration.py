"""From scores to statements with an error rate: conformal p-values, intervals, batches, reliability. Pure statistics.

A p-value here answers: how often does an image that has nothing to do with the collection score at least this high?
Its calibration images must be like the images asked about and by artists who are not searched; then p <= a happens to
at most a part a of such images (Vovk et al., Algorithmic Learning in a Random World, 2005: conformal prediction).
Scores must be made the same way on both sides; the maximum over all works or artists is such a score, so that one
p-value covers "some artist of the collection" whichever it is.

Images of one artist are not independent: counting images as if they were makes p-values too small for an artist who is
not among them, the more so the fewer artists there are. Where it is known who made which image, `Between` corrects it.

What this does not prove: the guarantee is about a further image by an artist like those of the calibration images, not
about every artist. One in a hundred who works in an indexed artist's manner is not seen in a null of twenty.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats  # type: ignore[import-untyped]

SAME_SCORE = 1e-6  # two ways of computing one float32 score may differ by this part of it; ties count against a claim
RESAMPLES = 2000
CONSISTENT = 500  # sets of answers drawn as a perfect model would give them


class Between(NamedTuple):
    """How null scores by a further artist lie, when ranks among all null scores are read as normal scores.

    A random-effects model of those, one-way by artist: `middle`, the artists' weighted mean; `width`, the standard
    deviation of a prediction for a new artist's image; `freedom`, its degrees of freedom (Satterthwaite 1946). Normal
    scores are standard normal over all images whatever the scores are, so that only the dependence within artists is
    modelled. Simulated with 4 to 20 artists and up to half of the variance between them, false findings come down from
    twice alpha to alpha. They stay at several times alpha where one artist in ten lies far above all others: such an
    artist is likely not to be in the null at all.
    """

    middle: float
    width: float
    freedom: float

    @classmethod
    def of(cls, scores: NDArray[np.float32], artists: NDArray[np.int64]) -> Self:
        """From (n,) scores and who made them, at least two artists; of one image each, images are independent."""
        _, codes, counts = np.unique(artists, return_inverse=True, return_counts=True)
        n, groups = len(scores), len(counts)
        normal = special.ndtri((stats.rankdata(scores) - 0.5) / n)
        means = np.bincount(codes, normal) / counts
        if n == groups:
            return cls(0.0, 1.0, float(n - 1))
        within = float(((normal - means[codes]) ** 2).sum()) / (n - groups)
        across = float((counts * (means - normal.mean()) ** 2).sum()) / (groups - 1)
        images = (n - float((counts**2).sum()) / n) / (groups - 1)  # of an artist, as the variance of means sees them
        own = max(0.0, (across - within) / images)
        if own == 0.0:
            return cls(0.0, 1.0, float(n - groups))
        weights = 1.0 / (own + within / counts)
        total = own + within
        parts = across**2 / images**2 / (groups - 1) + ((1 - 1 / images) * within) ** 2 / (n - groups)
        middle, width = weights @ means / weights.sum(), np.sqrt(total + 1 / weights.sum())
        return cls(*(float(np.float32(each)) for each in (middle, width, total**2 / parts)))

    def corrected(self, p_values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return p-values that count images, (n,), as they are for an image by a new artist: never smaller."""
        place = (-special.ndtri(p_values) - self.middle) / self.width
        return np.asarray(np.maximum(p_values, stats.t.sf(place, self.freedom)), np.float64)


ONE_ARTIST = Between(0.0, 1e9, 1.0)  # nothing is known of how artists differ


@dataclass(frozen=True)
class Null:
    """Scores of calibration images that have nothing to do with the collection, (n,) float32, ascending.

    An image in which nothing at all was found has -inf, and counts: leaving it out would make findings look ordinary.
    `artists` is how many artists made them, where that is known: the number of independent pieces of evidence.
    `between` is known where it was told who made which.
    """

    scores: NDArray[np.float32]
    artists: int | None = None
    between: Between | None = None

    @classmethod
    def of(cls, scores: ArrayLike, artists: ArrayLike | None = None) -> Self:
        """Sort scores in any order; `artists`: who made each, (n,) integers, or merely how many artists made them all.

        Told who made each, p-values are corrected for it; a null by one artist then gives none below 1/2. Raises
        ValueError on NaN and +inf, and on labels that do not fit.
        """
        every = np.asarray(scores, np.float32).ravel()
        if np.isnan(every).any() or np.isposinf(every).any():
            raise ValueError("null scores must be numbers, or -inf where nothing was found")
        if artists is None or np.ndim(artists) == 0:
            return cls(np.sort(every), None if artists is None else int(np.asarray(artists)))
        codes = np.asarray(artists, np.int64).ravel()
        if len(codes) != len(every):
            raise ValueError(f"{len(codes)} artists do not fit {len(every)} null scores")
        several = len(np.unique(codes))
        between = Between.of(every, codes) if several > 1 else ONE_ARTIST
        return cls(np.sort(every), several, between)

    @property
    def n(self) -> int:
        return len(self.scores)

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that can come out: 1 / (n + 1), or more where artists are few and differ."""
        return float(self._p_values(np.zeros(1, np.int64))[0])

    def enough_for(self, alpha: float) -> bool:
        """Can any score at all have p <= alpha? Needs n >= 1 / alpha - 1 at least: 999 images for 0.001."""
        return self.smallest_p <= alpha * (1 + 1e-12)

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return p = (1 + #{null >= s}) / (n + 1), corrected by `between`, in (0, 1]; the higher s, the smaller p.

        `scores` have any shape. One within SAME_SCORE of a null score counts as equal to it. Raises ValueError on NaN.
        """
        asked = np.asarray(scores, np.float64)
        if np.isnan(asked).any():
            raise ValueError("a score that is not a number has no p-value")
        size = np.where(np.isfinite(asked), np.maximum(1.0, np.abs(asked)), 1.0)  # inf - inf is no number
        lowered = asked - SAME_SCORE * size
        below = np.searchsorted(self.scores.astype(np.float64), lowered, side="left")
        return self._p_values(self.n - below)

    def threshold(self, alpha: float) -> float:
        """Return the score above which p <= alpha (up to SAME_SCORE); +inf where the null is too small for alpha."""
        possible = self._p_values(np.arange(self.n + 1))
        allowed = int(np.searchsorted(possible, alpha * (1 + 1e-12), side="right")) - 1  # null scores as high
        if allowed < 0:
            return float("inf")
        return float("-inf") if allowed >= self.n else float(self.scores[self.n - 1 - allowed])

    def _p_values(self, as_high: NDArray[np.int64]) -> NDArray[np.float64]:
        """From how many null scores are as high."""
        plain = np.asarray((1.0 + as_high) / (self.n + 1.0), np.float64)
        return plain if self.between is None else self.between.corrected(plain)

    def to_bytes(self) -> bytes:
        """Write `between` (zeros where unknown) and the scores as little-endian float32, to be kept and hashed."""
        known = np.array(self.between or (0.0, 0.0, 0.0), np.float32)
        return np.concatenate([known, self.scores]).astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, artists: int | None = None) -> Self:
        """Read `to_bytes`. Raises ValueError when cut short, out of order or no scores."""
        numbers = np.frombuffer(data, "<f4").astype(np.float32)
        middle, width, freedom = numbers[:3].tolist()
        scores = numbers[3:]
        if not (scores < np.inf).all() or (scores[1:] < scores[:-1]).any():
            raise ValueError("null scores must be numbers, ascending")
        known = (middle, width, freedom) != (0.0, 0.0, 0.0)
        if known and not (np.isfinite(middle) and width > 0.1 and freedom > 0.9):  # normal scores allow no less
            raise ValueError("how null scores differ between artists is not what a null writes")
        return cls(scores, artists, Between(middle, width, freedom) if known else None)


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
    """One bar of a reliability diagram: answers whose confidence lay in (low, high], and how many were right.

    `part` of all answers by weight is in it; `confidence` and `right` are weighted means.
    """

    low: float
    high: float
    n: int
    confidence: float
    right: float
    part: float


def balanced(*codes: ArrayLike) -> NDArray[np.float64]:
    """Return weights (n,) that sum to 1: every value of the first codes weighs the same, of the second within it, ...

    `balanced(unknown, artists)`: known and unknown half each, and every artist as much as another within each.
    """
    weights = np.ones(np.size(codes[0]))
    seen = np.zeros(len(weights), np.int64)
    for each in codes:
        _, inner = np.unique(np.asarray(each).ravel(), return_inverse=True)
        outer = seen
        pairs = np.unique(np.column_stack([outer, inner]), axis=0)
        _, seen = np.unique(outer * (inner.max(initial=0) + 1) + inner, return_inverse=True)
        weights /= np.bincount(pairs[:, 0])[outer]
    weights /= np.bincount(seen)[seen]
    return np.asarray(weights, np.float64)


def reliability(
    confidences: ArrayLike, right: ArrayLike, bins: int = 15, weights: ArrayLike | None = None
) -> list[Bin]:
    """Return the bins of equal width that hold answers, in order. Confidences (n,) in [0, 1]; right (n,) bool.

    `weights` (n,) make answers count as in the population that the confidences are meant for; 1 each otherwise.
    """
    confidence, correct = _paired(confidences, right)
    if not ((confidence >= 0) & (confidence <= 1 + 1e-9)).all():
        raise ValueError("confidences lie between 0 and 1")
    weight = np.ones(len(confidence)) if weights is None else np.asarray(weights, np.float64).ravel()
    where = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    n, part, sure, hit = (
        np.bincount(where, each, bins).astype(np.float64)
        for each in (np.ones(len(where)), weight, weight * confidence, weight * (correct != 0))
    )
    found = []
    for at in np.flatnonzero(part).tolist():
        means = float(sure[at] / part[at]), float(hit[at] / part[at])
        found.append(Bin(at / bins, (at + 1) / bins, int(n[at]), *means, float(part[at] / part.sum())))
    return found


def expected_calibration_error(
    confidences: ArrayLike, right: ArrayLike, bins: int = 15, weights: ArrayLike | None = None
) -> float:
    """Return the mean gap between confidence and accuracy over bins of equal width (Guo et al., ICML 2017, eq. 3).

    0 is perfect. It does not say that answers are right, only that they are as often right as they claim; and it grows
    with few answers even for a calibrated model: lay `calibration_noise` beside it. `weights` as for `reliability`.
    """
    bars = reliability(confidences, right, bins, weights)
    return float(sum(bar.part * abs(bar.confidence - bar.right) for bar in bars))


def calibration_noise(
    confidences: ArrayLike, *, seed: int, bins: int = 15, weights: ArrayLike | None = None
) -> tuple[float, float, float]:
    """Return the mean, 2.5 % and 97.5 % quantile of the calibration error of a perfect model at these confidences.

    Answers (n,) are drawn anew, each right with the probability it claims (consistency resampling, Bröcker & Smith,
    Weather and Forecasting 22, 2007). A measured error within the interval is no evidence of miscalibration; one below
    the mean is luck. Answers count as independent: those of one artist are not, and stray further.
    """
    confidence = np.asarray(confidences, np.float64).ravel()
    rng = np.random.default_rng(seed)
    drawn = [
        expected_calibration_error(confidence, rng.random(len(confidence)) < confidence, bins, weights)
        for _ in range(CONSISTENT)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(np.mean(drawn)), float(low), float(high)


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
