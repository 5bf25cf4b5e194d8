"""Is one picture a copy of another, or of a part of it? Local features in one arrangement, then the pixels themselves.

1. Pairs: each feature with its nearest of the other picture (RootSIFT), with Lowe's ratio as its weight.
2. Arrangement: every good pair proposes a similarity (its two points, sizes and angles: four numbers), all pairs vote,
   the best few are refined by least squares to an affine map. No random draw: the same pictures give the same answer.
3. Meaning: how unlikely so many agreeing pairs are if each fell anywhere (a contrario, Moisan and Stival, "A
   probabilistic criterion to detect rigid point matches", IJCV 2004).
4. Pixels: both pictures laid over each other at low resolution, corrected by ECC (Evangelidis and Psarakis, PAMI
   2008), and correlated window by window. Flat drawings have few local features, and one designer's faces share most of
   those: they are told apart by the one window that disagrees most.

An alignment shows that two pictures share their details in one arrangement. It does not show which was first, nor that
one was made from the other: two photographs of one painting align, and so do two drawings from one template.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from attribution.features import PREVIEW, LocalFeatures

Floats = NDArray[np.float64]
Grey = NDArray[np.uint8]

NEAR = 0.85  # RootSIFT distance (of unit vectors) beyond which two descriptors say nothing
MOST_PAIRS = 400
PROPOSERS = 80
LOOSE, TIGHT = 0.02, 0.01  # of the work's mean side: while a map is looked for, and when agreeing pairs are counted
FREE = 2  # pairs that agree with a similarity because it was made from them
SIZES, ANGLES = np.log(1.6), 30.0
FEWEST = 4
LEAST_AGREEMENT, LEAST_RARITY, SURE = 0.3, 6.0, 0.97  # below: nothing to correct; above: no need
LARGEST, MOST_SHEAR = 12.0, 2.2
ONE_PICTURE, BEYOND_PIXELS, ALIKE = 100.0, 300.0, 0.9  # rarity, and agreement; see `Alignment.is_one_picture`
RARE, RARITY, SAME, MOST_DISAGREEMENT = 20.0, 40.0, 50.0, 0.4  # chosen on emoji, see benchmarks/RESULTS.md


@dataclass(frozen=True)
class Alignment:
    """How the image lies on the work.

    `transform` (3, 3) float64 takes image pixels to work pixels, a mirroring included. `of_image` and `of_work` (4, 2)
    float32 are the matched region's corners in the same order, as parts of width and height. `details` are distinct
    agreeing features. `rarity` is -log10 of the expected number of such agreements by chance; `agreement` (0 to 1) the
    correlation of the pixels where both have any contrast; `disagreement` how far the window that agrees least is from
    being the work's (0: not at all; 1: as far as a window of that contrast may be on average); `area` the part of the
    work that the image covers. `score` orders alignments and has no unit: an error rate belongs to it only by
    calibration.
    """

    score: float
    details: int
    rarity: float
    agreement: float
    disagreement: float
    area: float
    transform: Floats
    mirrored: bool
    of_image: NDArray[np.float32]
    of_work: NDArray[np.float32]

    @property
    def is_one_picture(self) -> bool:
        """Whether one shows the other, or a part of it, so plainly that no error rate is asked.

        Calibration needs it: what stands twice in a collection is no image that copies nothing. The bounds lie far from
        what was seen of works that are not: between eight painters no pair of 445 paintings has a rarity above 26. They
        are not for a finding: copies that are hard to see stay below them.
        """
        alike = self.agreement >= ALIKE and self.disagreement <= MOST_DISAGREEMENT
        return self.rarity >= BEYOND_PIXELS or (self.rarity >= ONE_PICTURE and alike)


def pairs(image: LocalFeatures, work: LocalFeatures) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return (k, 2) indexes of image features and their nearest work features, most distinctive first, and (k,) ratios.

    A ratio is the distance over that to the best feature at another place of the work; features that are each other's
    nearest count as more distinctive. At most MOST_PAIRS.
    """
    if len(image) < 2 or len(work) < 2:
        return np.zeros((0, 2), np.intp), np.zeros(0, np.float32)
    alike = _unit(image.descriptors) @ _unit(work.descriptors).T
    rows = np.arange(len(image))
    first = alike.argmax(axis=1)
    mutual = alike.argmax(axis=0)[first] == rows
    best = alike[rows, first].copy()
    place, reach = work.points[:, :2], 0.75 * work.points[first, 2]
    rival = best
    for _ in range(3):  # one spot has several key points (angles, layers): they are no rivals
        alike[rows, alike.argmax(axis=1)] = -1
        other = alike.argmax(axis=1)
        rival = alike[rows, other]
        if (np.hypot(*(place[other] - place[first]).T) > reach).mean() > 0.9:
            break
    distance = np.sqrt(np.maximum(2 - 2 * best, 1e-6))
    ratio = distance / np.sqrt(np.maximum(2 - 2 * rival, 1e-6)) - 0.1 * mutual
    order = np.argsort(ratio, kind="stable")
    order = order[distance[order] < NEAR][:MOST_PAIRS]
    return np.stack([order, first[order]], axis=1), ratio[order]


def _unit(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    rows = descriptors.astype(np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows)) + 1e-6
    return np.asarray(rows / lengths[:, None], np.float32)


@dataclass(frozen=True)
class Arrangement:
    """The best affine map of image to work pixels (2, 3), the pairs that agree with it, and how rare that is."""

    affine: Floats
    details: int
    rarity: float


def arrangements(image: LocalFeatures, work: LocalFeatures, most: int = 1) -> list[Arrangement]:
    """Find the maps that most pairs agree with, best first; none when fewer than FEWEST details do."""
    found, ratio = pairs(image, work)
    if len(found) < FEWEST:
        return []
    p, q = image.points[found[:, 0]].astype(np.float64), work.points[found[:, 1]].astype(np.float64)
    side = np.sqrt(work.width * work.height)
    weight = np.clip((1.0 - ratio) * 5, 0.05, 1.0)
    size, turn = np.log(q[:, 2] / p[:, 2]), q[:, 3] - p[:, 3]
    few = slice(0, PROPOSERS)  # the most distinctive pairs
    grow, angle = np.exp(size[few, None]), np.deg2rad(turn[few, None])
    c, s = grow * np.cos(angle), grow * np.sin(angle)
    x, y = p[:, 0] - p[few, 0, None], p[:, 1] - p[few, 1, None]
    off_x = c * x - s * y - (q[:, 0] - q[few, 0, None])
    off_y = s * x + c * y - (q[:, 1] - q[few, 1, None])
    reach = 2.5 * LOOSE * side
    agree = (off_x**2 + off_y**2 < reach**2) & (np.abs(size - size[few, None]) < SIZES)
    proposer, pair = agree.nonzero()  # few: the remainder below is what takes time
    agree[proposer, pair] = np.abs((turn[pair] - turn[proposer] + 180) % 360 - 180) < ANGLES
    out: list[Arrangement] = []
    for best in np.argsort(-(agree @ weight), kind="stable")[: 2 * most]:
        one = _refined(p, q, agree[best], weight, side)
        if one is not None:
            out.append(one)
    out.sort(key=lambda each: -each.rarity)
    return out[:most]


def _refined(p: Floats, q: Floats, agree: NDArray[np.bool_], weight: Floats, side: float) -> Arrangement | None:
    affine = np.zeros((2, 3))
    for reach in (LOOSE, LOOSE, TIGHT):
        if agree.sum() < FEWEST:
            return None
        affine = _fit(p[agree, :2], q[agree, :2], weight[agree], side)
        a = affine[:, :2]
        determinant = np.linalg.det(a)
        if determinant < 1e-4:
            return None
        off = np.linalg.norm(p[:, :2] @ a.T + affine[:, 2] - q[:, :2], axis=1)
        turn = np.rad2deg(np.arctan2(a[1, 0] - a[0, 1], a[0, 0] + a[1, 1]))
        angle = np.abs((q[:, 3] - p[:, 3] - turn + 180) % 360 - 180)
        size = np.abs(np.log(q[:, 2] / p[:, 2]) - 0.5 * np.log(determinant))
        agree = (off < reach * side) & (size < SIZES) & (angle < ANGLES)
    stretch = np.linalg.svd(affine[:, :2], compute_uv=False)
    if stretch[0] > MOST_SHEAR * stretch[1] or not 1 / LARGEST < stretch[0] < LARGEST:
        return None
    details = _distinct(p[agree], q[agree], side)
    if details < FEWEST:
        return None
    chance = np.pi * TIGHT**2 * (ANGLES / 180) * 0.5  # of one pair: its place, its turn, its size
    return Arrangement(affine, details, _rarity(details - FREE, len(p), chance))


def _fit(p: Floats, q: Floats, weight: Floats, side: float) -> Floats:
    """Weighted least squares for an affine map, drawn to a similarity as far as few points leave it open."""
    centre_p, centre_q = weight @ p / weight.sum(), weight @ q / weight.sum()
    x, y = p - centre_p, q - centre_q
    w = weight[:, None]
    spread = (w * x * x).sum() + 1e-9
    c = (w * x * y).sum() / spread
    s = (weight * (x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0])).sum() / spread
    alike = np.array([[c, -s], [s, c]])
    ridge = 0.05 * spread / len(p) * 4 * np.eye(2)
    a = (((w * (y - x @ alike.T)).T @ x) @ np.linalg.inv((w * x).T @ x + ridge)) + alike
    return np.concatenate([a, (centre_q - a @ centre_p)[:, None]], axis=1)


def _distinct(p: Floats, q: Floats, side: float) -> int:
    """Count agreeing features at distinct places of both pictures: one spot with five angles is one detail."""
    unit = max(0.015 * side, 1e-6)
    scale = np.exp(np.median(np.log(q[:, 2] / p[:, 2]))) if len(p) else 1.0
    cells = [
        np.unique(np.floor(points[:, :2] * f / unit).astype(np.int64), axis=0) for points, f in ((p, scale), (q, 1.0))
    ]
    return min(len(each) for each in cells)


def _rarity(k: int, n: int, chance: float) -> float:
    """-log10 of the Chernoff bound on P(Binomial(n, chance) >= k), times the n maps that were tried."""
    share = k / n
    if share <= chance:
        return 0.0
    divergence = share * np.log(share / chance) + (1 - share) * np.log((1 - share) / (1 - chance))
    return max(0.0, float(n * divergence / np.log(10) - np.log10(n)))


@dataclass(frozen=True)
class Look:
    """The image's grey pixels at full, half, quarter ... size, so that any part of it can be laid over a preview."""

    levels: tuple[Grey, ...]

    @classmethod
    def at(cls, pixels: NDArray[np.uint8]) -> "Look":
        """Halve canonical pixels (h, w, 3) uint8 until neither side is larger than PREVIEW."""
        levels = [cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)]
        while max(levels[-1].shape) > PREVIEW:
            height, width = levels[-1].shape
            half = (max(1, width // 2), max(1, height // 2))
            levels.append(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA))
        return cls(tuple(each.astype(np.uint8, copy=False) for each in levels))


@dataclass(frozen=True)
class Overlay:
    """Image and preview laid over each other.

    `agreement` is the mean correlation of windows that have any contrast, `disagreement` the largest mean square in any
    window of what the image leaves unexplained of the preview after one gain and one offset for all of it, over the
    preview's variance; `area` the part of the preview that the image covers.
    """

    affine: Floats
    agreement: float
    disagreement: float
    area: float


def overlay(look: Look, shape: tuple[int, int], work: Grey, affine: Floats, *, steps: int = 0) -> Overlay:
    """Lay the image over a work's preview by `affine` (2, 3; image pixels to preview pixels) and compare.

    `steps` of ECC correct the map first. `shape` is the image's (height, width).
    """
    scale = np.sqrt(abs(np.linalg.det(affine[:, :2])))  # preview pixels for one image pixel
    level = int(np.clip(np.floor(np.log2(max(1 / max(scale, 1e-9), 1))), 0, len(look.levels) - 1))
    grey = look.levels[level]
    down = np.diag([grey.shape[1] / shape[1], grey.shape[0] / shape[0], 1.0])
    centre = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    to_level = np.linalg.inv(centre) @ down @ centre
    back: Floats = to_level @ np.linalg.inv(_square(affine))  # preview to level pixels
    if steps:
        back = _corrected(grey, work, back, steps)
        affine = np.asarray(np.linalg.inv(np.linalg.inv(to_level) @ back)[:2], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(grey, back[:2], (PREVIEW, PREVIEW), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones_like(grey), back[:2], (PREVIEW, PREVIEW), flags=flags) > 0
    pixels = laid.astype(np.uint8, copy=False)
    blur = float(np.clip(FINEST * 2.0**level * scale, *BLUR))  # as coarse as the coarser of both
    return Overlay(
        affine=affine,
        agreement=_agreement(pixels, work, inside),
        disagreement=_disagreement(pixels, work, inside, blur),
        area=float(inside.mean()),
    )


def _corrected(grey: Grey, work: Grey, back: Floats, steps: int) -> Floats:
    start = back[:2].astype(np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-4)
    try:
        _, moved = cv2.findTransformECC(work, grey, start.copy(), cv2.MOTION_AFFINE, stop, np.full_like(grey, 255), 3)
    except cv2.error:  # it did not converge, or nothing overlaps
        return back
    corners = np.array([[0, 0, 1], [PREVIEW, 0, 1], [0, PREVIEW, 1], [PREVIEW, PREVIEW, 1]], np.float64)
    far = np.abs(corners @ (moved - start).astype(np.float64).T).max() / np.sqrt(
        abs(np.linalg.det(start[:, :2])) + 1e-12
    )
    return _square(moved.astype(np.float64)) if far < PREVIEW / 6 else back


WINDOW, SMALL_WINDOW = 15, 9
FLAT = 4.0  # grey levels: a window that varies less has nothing to correlate
FINEST, BLUR = 0.6, (1.0, 2.5)  # of an image pixel, and its bounds in preview pixels
FEWEST_PIXELS = 200
NONE_EXPLAINED = 9.0


def _agreement(laid: Grey, work: Grey, inside: NDArray[np.bool_]) -> float:
    m = inside.astype(np.float32)
    a, b = laid.astype(np.float32), work.astype(np.float32)
    n = cv2.boxFilter(m, -1, (WINDOW, WINDOW), borderType=cv2.BORDER_CONSTANT)

    def mean(x: NDArray[np.float32]) -> NDArray[np.float32]:
        filtered = cv2.boxFilter(x * m, -1, (WINDOW, WINDOW), borderType=cv2.BORDER_CONSTANT)
        return np.asarray(filtered / np.maximum(n, 1e-6), np.float32)

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    # A little is added so that flat windows count as unrelated, whatever their noise does.
    ncc = (mean(a * b) - mean_a * mean_b) / np.sqrt((np.maximum(var_a, 0) + 4) * (np.maximum(var_b, 0) + 4))
    textured = inside & (n > 0.6) & ((var_b > FLAT**2) | (var_a > FLAT**2))
    return float(ncc[textured].mean()) if textured.sum() >= WINDOW * WINDOW / 2 else 0.0


def _disagreement(laid: Grey, work: Grey, inside: NDArray[np.bool_], blur: float) -> float:
    # The rim is left out, where the warp mixes in what lies outside.
    core = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1).astype(bool)
    if core.sum() < FEWEST_PIXELS:
        return NONE_EXPLAINED
    a, b = (np.asarray(cv2.GaussianBlur(each.astype(np.float32), (0, 0), blur)) for each in (laid, work))
    a, b = a - a[core].mean(), b - b[core].mean()
    gain = (a * b)[core].mean() / max(a[core].var(), 1e-6)
    if gain <= 0:
        return NONE_EXPLAINED
    left = np.where(core, b - gain * a, 0)
    window = (SMALL_WINDOW, SMALL_WINDOW)
    largest = cv2.boxFilter(left * left, -1, window, borderType=cv2.BORDER_CONSTANT).max()
    return min(NONE_EXPLAINED, float(largest / (b[core].var() + FLAT**2)))


def _square(affine: Floats) -> Floats:
    return np.concatenate([affine, [[0.0, 0.0, 1.0]]])


def align(image: LocalFeatures, work: LocalFeatures, look: Look, *, mirrored: bool = False) -> Alignment | None:
    """Align by local features and check with the pixels; None when too few features agree on any map.

    `mirrored` looks for the work's mirror image.
    """
    found = arrangements(image.mirrored if mirrored else image, work)
    if not found:
        return None
    best = found[0]
    return _checked(
        image, work, look, _unmirrored(best.affine, image.width, mirrored), best.details, best.rarity, mirrored
    )


def align_whole(
    image: LocalFeatures, work: LocalFeatures, look: Look, box: tuple[int, int, int, int], *, mirrored: bool = False
) -> Alignment | None:
    """Lay the image, or what is inside `box` (preview pixels), over the whole work, and check with the pixels alone.

    For drawings that have hardly a feature. None when the pixels do not agree even roughly.
    """
    left, top, right, bottom = box
    x, y = image.width / PREVIEW, image.height / PREVIEW
    sx, sy = work.width / ((right - left) * x), work.height / ((bottom - top) * y)
    affine = np.array([[sx, 0, -left * x * sx], [0, sy, -top * y * sy]])
    if mirrored:
        affine = np.array([[-sx, 0, work.width + left * x * sx], [0, sy, -top * y * sy]])
    stretch = max(sx, sy) / min(sx, sy)
    if stretch > MOST_SHEAR:
        return None
    return _checked(image, work, look, affine, 0, 0.0, mirrored)


def _checked(
    image: LocalFeatures, work: LocalFeatures, look: Look, affine: Floats, details: int, rarity: float, mirrored: bool
) -> Alignment | None:
    shape = (image.height, image.width)
    to_preview = np.array([[PREVIEW / work.width, 0, 0], [0, PREVIEW / work.height, 0], [0, 0, 1.0]])
    laid = overlay(look, shape, work.preview, (to_preview @ _square(affine))[:2])
    if laid.agreement < LEAST_AGREEMENT and rarity < LEAST_RARITY:
        return None
    if laid.agreement < SURE:
        moved = overlay(look, shape, work.preview, laid.affine, steps=15)
        laid = moved if moved.agreement > laid.agreement else laid
    transform = np.linalg.inv(to_preview) @ _square(laid.affine)
    of_image, of_work = _regions(transform, image, work)
    return Alignment(
        score=_score(rarity, laid),
        details=details,
        rarity=rarity,
        agreement=max(0.0, laid.agreement),
        disagreement=laid.disagreement,
        area=laid.area,
        transform=transform,
        mirrored=mirrored,
        of_image=of_image,
        of_work=of_work,
    )


def _score(rarity: float, laid: Overlay) -> float:
    """Rarity grows without end where a family of drawings shares its details, so it counts by its logarithm; what only
    the pixels can tell, whether everything that is covered agrees, is added."""
    same = max(0.0, 1 - laid.disagreement / MOST_DISAGREEMENT)
    return RARE * float(np.log1p(rarity / RARITY)) + SAME * same * laid.area


def _unmirrored(affine: Floats, width: int, mirrored: bool) -> Floats:
    if not mirrored:
        return affine
    return np.asarray(affine @ np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]]), np.float64)


def _regions(
    transform: Floats, image: LocalFeatures, work: LocalFeatures
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The common region's four corners in both pictures: what the image's and the work's rectangles share, boxed."""
    inverse: Floats = np.asarray(np.linalg.inv(transform), np.float64)
    frame = np.array([[0, 0], [work.width, 0], [work.width, work.height], [0, work.height]], np.float32)
    seen = np.array([[0, 0], [image.width, 0], [image.width, image.height], [0, image.height]], np.float32)
    laid = _apply(transform, seen)
    common, shared = cv2.intersectConvexConvex(laid.astype(np.float32), frame)
    points = np.asarray(shared if common > 0 else frame, np.float64).reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    box = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]], np.float64)
    on_image = _apply(inverse, box) / (image.width, image.height)
    on_work = box / (work.width, work.height)
    return np.clip(on_image, 0, 1).astype(np.float32), np.clip(on_work, 0, 1).astype(np.float32)


def _apply(transform: Floats, points: NDArray[np.float32] | Floats) -> Floats:
    moved = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ transform.T
    return np.asarray(moved[:, :2] / moved[:, 2:], np.float64)
