"""The atelier's studios: invented names, each with one manner of rendering a label map into a picture.

A manner takes the labels (subjects.py), the studio's palette (one colour per label, then paper and ink) and a
`random.Random`; it returns uint8 (GRID, GRID, 3). Integer arithmetic throughout, so that machines agree.
"""

import random
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from models.atelier.drawing import INK, PAPER, Manner, X, Y, at, blur, cells, clip, edges, grow, jittered, noise
from models.atelier.subjects import ACCENT, BODY, DETAIL, GRID, GROUND, PART, SKY


def stipple(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    sheet = Image.new("RGB", (GRID, GRID), tuple(map(int, colours[PAPER])))
    pen = ImageDraw.Draw(sheet)
    radius = {SKY: 0, GROUND: 2, BODY: 4, PART: 4, ACCENT: 3, DETAIL: 4}
    for i, (y, x) in enumerate(jittered(7, rng, 1)):
        label = at(labels, y, x)
        r = radius[label] if label != SKY else (1 if i % 3 == 0 else -1)
        if r >= 0:
            pen.ellipse([x - r, y - r, x + r, y + r], fill=tuple(map(int, colours[label])))
    return np.asarray(sheet)


def hatch(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    shift = rng.randrange(64)
    lines = {
        SKY: (0, 1, 20, 3),
        GROUND: (1, 3, 34, 10),
        BODY: (1, 1, 18, 8),
        PART: (1, -1, 18, 10),
        ACCENT: (1, 0, 10, 4),
        DETAIL: (1, 1, 8, 6),
    }
    ink = np.zeros(labels.shape, bool)
    for label, (a, b, period, width) in lines.items():
        ink |= (labels == label) & ((a * X + b * Y + shift) % period < width)
    ink |= (labels == DETAIL) & ((X - Y + shift) % 12 < 5)
    ink |= grow(edges(labels), 1)
    picture = np.where(ink[..., None], colours[INK], colours[PAPER])
    tint = (labels == ACCENT) & ~ink
    picture[tint] = colours[ACCENT]
    return clip(picture)


def glass(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    points = np.array(jittered(38, rng, 11))
    index = cells(points)
    piece = index * 8 + labels
    shade = noise(rng).integers(-44, 45, (len(points) * 8, 1)) + np.zeros((1, 3), np.int64)
    light = 14 - ((X - 128) ** 2 + (Y - 128) ** 2) // 900
    picture = colours[labels] + shade[piece] + light[..., None]
    picture[grow(edges(index), 1)] = colours[INK]
    picture[grow(edges(labels), 3)] = colours[INK]
    return clip(picture)


def wash(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    grains = noise(rng)
    wobble = [blur(grains.integers(-4000, 4001, (GRID, GRID)), 10) // 36 for _ in range(2)]
    bent = labels[np.clip(Y + wobble[0], 0, GRID - 1), np.clip(X + wobble[1], 0, GRID - 1)]
    picture = np.broadcast_to(colours[PAPER], (GRID, GRID, 3)).astype(np.int64)
    cloud = blur(grains.integers(-3000, 3001, (GRID, GRID)), 12) // 4
    for label in range(6):
        mask = (bent == label).astype(np.int64) * 1024
        soft = blur(mask, 5)
        rim = np.clip(soft - blur(mask, 11), 0, 1024)
        amount = np.clip(soft * 3 // 5 + rim + soft * cloud // 1024, 0, 1024)[..., None]
        picture = (picture * (1024 - amount) + (picture * colours[label] // 255) * amount) // 1024
    return clip(picture)


def cut(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    grain = noise(rng).integers(-5, 6, (GRID, GRID, 1))
    picture = np.broadcast_to(colours[SKY], (GRID, GRID, 3)).astype(np.int64)
    for label in range(1, 6):
        above = (labels >= label).astype(np.int64) * 1024
        mine = labels == label
        shadow = np.roll(blur(above * (labels == label), 3), (9, 7), (0, 1))[..., None] * 5 // 8
        picture = picture * (1024 - shadow) // 1024
        picture[mine] = colours[label]
        lit = mine & ~np.roll(mine, (3, 2), (0, 1))
        picture[lit] = (picture[lit] * 3 + 255 * 2) // 5
    return clip(picture + grain)


def contour(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    depth = np.zeros(labels.shape, np.int64)
    front = edges(np.where(labels >= BODY, BODY, labels))
    seam = edges(labels)
    reached = front
    for _ in range(1, 72):
        reached = grow(reached, 1)
        depth += ~reached
    depth = depth.max() - depth
    lines = (depth + rng.randrange(3)) % 14 < 5
    inner = labels >= BODY
    picture = np.where(lines[..., None], colours[labels], colours[PAPER])
    picture[inner & ~lines] = (colours[labels] + 2 * colours[PAPER])[inner & ~lines] // 3
    picture[grow(seam & inner, 2)] = colours[INK]
    return clip(picture)


def mosaic(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    step, grains = 14, noise(rng)
    oy, ox = rng.randrange(step), rng.randrange(step)
    y, x = (Y + oy) // step, (X + ox) // step
    n = GRID // step + 2
    picture = np.zeros((GRID, GRID, 3), np.int64)
    picture[:] = colours[INK]
    count = np.zeros((n, n, 6), np.int64)
    weight = np.array([4, 4, 5, 5, 6, 8])
    np.add.at(count, (y.ravel(), x.ravel(), labels.ravel()), 1)
    tile = (count * weight).argmax(2)
    shade = grains.integers(-26, 27, (n, n, 1))
    flat = colours[tile] + shade
    face = ((Y + oy) % step >= 3) & ((X + ox) % step >= 3)
    shine = ((Y + oy) % step < 6) & face
    picture[face] = flat[y, x][face]
    picture[shine] += 26
    return clip(picture)


def halftone(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    step, phase = 16, rng.randrange(16)
    u, v = (X + Y + phase) % step - step // 2, (X - Y + phase) % step - step // 2
    reach = np.array([22, 46, 0, 74, 0, 150])[labels] * (100 + (Y - 128) // 4) // 100
    dot = (u * u + v * v) < reach
    plain = np.stack([colours[PAPER], colours[PAPER], colours[BODY], colours[BODY], colours[ACCENT], colours[PAPER]])
    spot = np.stack([colours[SKY], colours[GROUND], colours[BODY], colours[PART], colours[ACCENT], colours[DETAIL]])
    picture = np.where(dot[..., None], spot[labels], plain[labels])
    shape = edges(np.where(labels >= BODY, labels, 0))
    picture[grow(shape, 2)] = colours[INK]
    return clip(picture)


def woodcut(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    grains = noise(rng)
    wave = blur(grains.integers(-4000, 4001, (GRID, GRID)), 14) // 30
    cy, cx = GRID // 2 + rng.randrange(-40, 41), GRID // 2 + rng.randrange(-40, 41)
    rays = np.abs(X - cx) + 2 * np.abs(Y - cy)
    white = {
        SKY: (rays + 2 * wave) % 26 < 5,
        GROUND: (Y + wave) % 16 < 7,
        PART: (X + Y + wave) % 16 < 8,
        DETAIL: np.zeros(labels.shape, bool),
    }
    carved = np.isin(labels, (BODY,))
    for label, mask in white.items():
        carved |= (labels == label) & mask
    carved |= (labels == BODY) & ((X + wave) % 18 > 3)
    carved &= ~((labels == BODY) & ((X + wave) % 18 < 4) & (X > GRID // 2))
    picture = np.where(carved[..., None], colours[PAPER], colours[INK])
    picture[labels == ACCENT] = colours[ACCENT]
    outline = grow(edges(np.where(labels >= BODY, BODY, 0)), 2)
    picture[outline] = colours[PAPER]
    picture[grow(edges(labels), 1) & (labels >= BODY)] = colours[INK]
    return clip(picture)


def neon(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    picture = np.zeros((GRID, GRID, 3), np.int64)
    picture[:] = colours[PAPER]
    for label in (GROUND, BODY, PART, ACCENT, DETAIL):
        tube = grow(edges(labels == label), 2).astype(np.int64) * 1024
        glow = (blur(tube, 9) * 3 // 2 + blur(tube, 3) // 2)[..., None]
        picture += colours[label] * np.minimum(glow, 1024) // 1024
        core = tube > 0
        picture[core] = (colours[label] * 2 + 255)[None] // 3
    bricks = ((Y + rng.randrange(24)) % 24 < 2) | ((X + 20 * ((Y // 24) % 2)) % 40 < 2)
    picture[bricks & (picture.sum(2) < 200)] += 12
    return clip(picture)


def stitch(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    step = 12
    u, v = X % step, Y % step
    middle = labels[
        np.minimum(Y // step * step + step // 2, GRID - 1), np.minimum(X // step * step + step // 2, GRID - 1)
    ]
    n = GRID // step + 1
    shade = noise(rng).integers(-12, 13, (n, n, 1))[Y // step, X // step]
    up, down = np.abs(u - v) <= 2, np.abs(u + v - step + 1) <= 2
    cloth = colours[PAPER] - 16 * (((X // 3) + (Y // 3)) % 2)[..., None]
    thread = middle != SKY
    picture = np.where((thread & down)[..., None], colours[middle] * 3 // 4 + shade, cloth)
    picture = np.where((thread & up)[..., None], colours[middle] + shade, picture)
    return clip(picture)


def strokes(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    sheet = Image.new("RGB", (GRID, GRID), tuple(map(int, colours[PAPER])))
    pen = ImageDraw.Draw(sheet)
    run = {SKY: (26, 4), GROUND: (30, -3), BODY: (12, 14), PART: (-12, 12), ACCENT: (10, 8), DETAIL: (4, 8)}
    for layer, (step, width) in enumerate(((16, 17), (11, 11), (8, 6))):
        points = jittered(step, rng, step // 2)
        rng.shuffle(points)
        for y, x in points:
            label = at(labels, y, x)
            if layer == 2 and label < BODY:
                continue
            shade, warm = rng.randrange(-26, 27), rng.randrange(-12, 13)
            r, g, b = (int(c) + shade for c in colours[label])
            dx, dy = run[label]
            dx, dy = (dx + rng.randrange(-4, 5)) // (1 + layer // 2), (dy + rng.randrange(-4, 5)) // (1 + layer // 2)
            w = width if label < BODY else width * 3 // 4
            tint = tuple(min(max(c, 0), 255) for c in (r + warm, g, b - warm))
            pen.line([x - dx // 2, y - dy // 2, x + dx // 2, y + dy // 2], fill=tint, width=w)
    return np.asarray(sheet)


@dataclass(frozen=True)
class Studio:
    """An invented artist of the collection, with what it grants. `may_name` is the grant called *name*."""

    name: str
    slug: str
    manner: str
    palettes: tuple[str, ...] = field(repr=False)  # sky ground body part accent detail paper ink
    draw: Manner = field(repr=False)
    licence: str = "CC-BY-4.0"
    train: bool = True
    compare: bool = True
    may_name: bool = True

    def render(self, labels: np.ndarray, rng: random.Random) -> np.ndarray:
        words = self.palettes[rng.randrange(len(self.palettes))].split()
        colours = np.array([[int(w[i : i + 2], 16) for i in (0, 2, 4)] for w in words], np.int64)
        return self.draw(labels, colours, rng)


KEPT = "All rights reserved"
STUDIOS = (
    Studio(
        "Studio Marram",
        "marram",
        "stippling",
        (
            "9fb8c8 6f8f4f 1f4e79 b5482f e0962a 222222 f6efdf 222222",
            "9fb8c8 6f8f4f 6a2c5a 1f6e69 d0802a 222222 f6efdf 222222",
        ),
        stipple,
    ),
    Studio(
        "Studio Quern",
        "quern",
        "hatching by plane",
        (
            "ffffff ffffff ffffff ffffff d9b36a ffffff f3e6cc 4a2c17",
            "ffffff ffffff ffffff ffffff c98a5a ffffff f3e6cc 4a2c17",
        ),
        hatch,
    ),
    Studio(
        "Studio Clerestory",
        "clerestory",
        "stained glass",
        (
            "3d6fd0 2f9a5c d8342f f0a428 ffe25a 7a3fa8 000000 101014",
            "6a4fd0 2a8f8a e8772a c22f6a fff06a 2f4fb0 000000 101014",
        ),
        glass,
    ),
    Studio(
        "Studio Saltpan",
        "saltpan",
        "wash",
        (
            "c6def0 a8c890 5a86c0 d88a7a f0cc60 40506a fcfbf6 000000",
            "e4d4ec b0c8a0 9a6ab0 6aaab0 f0b070 504a5a fcfbf6 000000",
        ),
        wash,
    ),
    Studio(
        "Studio Deckle",
        "deckle",
        "cut paper",
        (
            "f4c7a1 4f8a7b e4572e 2e4057 f3d250 fbf6ea 000000 000000",
            "a8d8d0 e0a458 7a306c 419d78 ffdb57 2d2a32 000000 000000",
        ),
        cut,
    ),
    Studio(
        "Studio Isobar",
        "isobar",
        "contour lines",
        (
            "7fb2c4 8fa86a 0f5c6e b8542e d8932f 2a2a3a faf5e6 2a3a44",
            "8fbfb4 b09a5a 5a3f7a 0f6e5a c85a4a 2a2a3a faf5e6 2a3a44",
        ),
        contour,
        may_name=False,
    ),
    Studio(
        "Studio Tessel",
        "tessel",
        "mosaic",
        (
            "b8d4dc 5f8f6f 1f6a9a c86a3a e8c45a 3a2f4a 000000 8a8478",
            "d8cfae 7a9a5a a83a3a 2f5f8a f0d070 2f2a2a 000000 8a8478",
        ),
        mosaic,
    ),
    Studio(
        "Studio Dotwell",
        "dotwell",
        "halftone",
        (
            "4fb8e0 e05a8a f04a4a 3a6ae0 ffd93a 1a1a1a fff6dc 1a1a1a",
            "4fb8e0 e05a8a 3aa86a e07a2a ffd93a 1a1a1a fff6dc 1a1a1a",
        ),
        halftone,
    ),
    Studio(
        "Studio Gouge",
        "gouge",
        "woodcut",
        ("000000 000000 000000 000000 c8321f 000000 f2ecdc 16120f",),
        woodcut,
        licence=KEPT,
        train=False,
    ),
    Studio(
        "Studio Tungsten",
        "tungsten",
        "neon on black",
        (
            "000000 2040ff ff2f8a 22e8ff ffd22a 7aff4a 0a0812 000000",
            "000000 8a2aff 22ffb0 ff5a2a ff3aff 3aa0ff 0a0812 000000",
        ),
        neon,
    ),
    Studio(
        "Studio Sampler",
        "sampler",
        "cross-stitch",
        (
            "000000 5a8a4a b02a3a 2a4a7a d89a2a 4a2a20 efe4cc 000000",
            "000000 4a8a8a 7a3a8a c05a2a e0a83a 2a2a4a efe4cc 000000",
        ),
        stitch,
    ),
    Studio(
        "Studio Scumble",
        "scumble",
        "brush strokes",
        (
            "7aa8d8 5a8a3a c84a2a 7a4a2a f0c040 2a2a4a 6a8aa0 000000",
            "e0a878 6a6a9a 2a5a8a a83a5a f0e080 3a2a2a b08a70 000000",
        ),
        strokes,
        licence=KEPT,
        train=False,
        may_name=False,
    ),
)
