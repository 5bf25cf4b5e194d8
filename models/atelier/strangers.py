"""Twenty further studios, drawn only to calibrate: never trained on, never part of the collection.

An error rate of "this is by an artist of the collection" is measured on works by artists who are not in it. These have
manners of their own, over the same subjects, so that what they have in common with the collection is the subject alone.
"""

import random

import numpy as np
from PIL import Image, ImageDraw

from models.atelier.drawing import INK, PAPER, Manner, X, Y, at, blur, cells, clip, edges, grow, jittered, noise
from models.atelier.studios import Studio
from models.atelier.subjects import ACCENT, BODY, DETAIL, GRID, GROUND, PART, SKY

TONE = np.array([1, 3, 6, 7, 4, 9], np.int64)
"""How dark a label is for those who work in one colour, 0 to 10."""


def engraving(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Upright lines that swell with the tone."""
    ink = (X + rng.randrange(9)) % 9 < TONE[labels] * 8 // 10
    ink |= grow(edges(labels >= BODY), 1)
    return clip(np.where(ink[..., None], colours[INK], colours[PAPER]))


def scribble(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Loose loops of a coloured pencil, denser where it is darker."""
    sheet = Image.new("RGB", (GRID, GRID), tuple(map(int, colours[PAPER])))
    pen = ImageDraw.Draw(sheet)
    for y, x in jittered(9, rng, 5):
        label = at(labels, y, x)
        for _ in range(1 + int(TONE[label]) // 3):
            points = [(x + rng.randrange(-11, 12), y + rng.randrange(-11, 12)) for _ in range(4)]
            pen.line(points, fill=tuple(map(int, colours[label])), width=1)
    return np.asarray(sheet)


def charcoal(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Smudged greys on a grained sheet."""
    grain = noise(rng).integers(-300, 301, (GRID, GRID))
    tone = blur(TONE[labels] * 100, 4) + blur(grain, 1) + grain // 6
    tone = np.maximum(tone, blur(grow(edges(labels), 2) * 900, 1))[..., None]
    tone = np.clip(tone, 0, 1000)
    return clip((colours[PAPER] * (1000 - tone) + colours[INK] * tone) // 1000)


def hexagons(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Six-sided tiles, each of one colour."""
    points = np.array([(y, x) for y, x in jittered(12, rng, 0)])
    index = cells(points)
    colour_of = np.array([at(labels, y, x) for y, x in points])
    shade = noise(rng).integers(-18, 19, (len(points), 1))
    picture = colours[colour_of[index]] + shade[index]
    picture[edges(index)] = colours[PAPER]
    return clip(picture)


def batik(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Dyed cloth with cracks where the wax broke, and pale lines where it held."""
    cracks = edges(cells(np.array(jittered(26, rng, 16))))
    soft = blur(noise(rng).integers(-2000, 2001, (GRID, GRID)), 6) // 12
    picture = colours[labels] + soft[..., None]
    picture[cracks] = picture[cracks] * 2 // 5
    picture[grow(edges(labels), 3)] = colours[PAPER]
    return clip(picture)


def spray(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Stencils and an airbrush: each shape fades from its rim inwards, in specks."""
    specks = noise(rng).integers(0, 1000, (GRID, GRID))
    picture = np.broadcast_to(colours[PAPER], (GRID, GRID, 3)).astype(np.int64)
    for label in range(1, 6):
        mask = labels == label
        depth = blur(mask * 1000, 9)
        thick = np.where(mask, 1150 - depth * 7 // 10, 0)
        hit = specks < thick
        picture[hit] = colours[label]
    return clip(picture)


def facets(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Triangles, lit from one side."""
    step = 20
    u, v = (X + rng.randrange(step)) // step, (Y + rng.randrange(step)) // step
    upper = ((X % step) + (Y % step)) < step
    index = (v * 64 + u) * 2 + upper
    middle = labels[np.minimum(Y // 10 * 10 + 5, GRID - 1), np.minimum(X // 10 * 10 + 5, GRID - 1)]
    shade = noise(rng).integers(-34, 35, (64 * 64 * 2, 1))
    return clip(colours[middle] + shade[index] + np.where(upper, 14, -14)[..., None])


def dusk(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Dark shapes before a sky that changes colour downwards."""
    height = (Y + rng.randrange(-20, 21)).clip(0, GRID - 1)[..., None]
    sky = (colours[SKY] * (GRID - height) + colours[ACCENT] * height) // GRID
    near = np.isin(labels, (BODY, PART, DETAIL))
    picture = np.where(near[..., None], colours[INK] + TONE[labels][..., None] * 2, sky)
    picture[labels == GROUND] = colours[INK] // 2
    picture[labels == ACCENT] = (colours[ACCENT] + 255) // 2
    return clip(picture)


def blots(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Ink dropped on wet paper: two tones with ragged rims."""
    rough = blur(noise(rng).integers(-1000, 1001, (GRID, GRID)), 2)
    tone = blur(TONE[labels] * 100, 2) + rough
    picture = np.where((tone > 320)[..., None], (colours[PAPER] + colours[INK]) // 2, colours[PAPER])
    return clip(np.where((tone > 620)[..., None], colours[INK], picture))


def basket(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Strips woven over and under, on the slant."""
    u, v = X + Y + rng.randrange(16), X - Y + 4 * GRID
    over = ((u // 16) + (v // 16)) % 2 == 0
    across = np.where(over, v % 16, u % 16)
    bend = np.where(over, u % 16, v % 16)
    picture = colours[labels] + (8 - np.abs(across - 8))[..., None] * 5 - 20 - (np.abs(bend - 8) > 5)[..., None] * 26
    return clip(picture)


def marbled(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Floating colours drawn through with a comb."""
    grains = noise(rng)
    swirl = blur(grains.integers(-6000, 6001, (GRID, GRID)), 9) // 22
    rake = (X % 44 - 22) ** 2 // 26
    bent = labels[np.clip(Y + rake - 9 + swirl // 2, 0, GRID - 1), np.clip(X + swirl, 0, GRID - 1)]
    vein = (Y + rake + 2 * swirl) % 22 < 3
    return clip(np.where(vein[..., None], (colours[bent] + colours[PAPER]) // 2, colours[bent]))


def turned(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Rings around one point, as on a lathe, thick or thin."""
    cy, cx = 128 + rng.randrange(-30, 31), 128 + rng.randrange(-30, 31)
    far = (Y - cy) ** 2 + (X - cx) ** 2
    ring = np.searchsorted(np.arange(400, dtype=np.int64) ** 2, far, side="right")
    cut = ring % 8 < TONE[labels] * 8 // 10
    return clip(np.where(cut[..., None], colours[labels], colours[PAPER]))


def blocks(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Large square picture elements with a dark outline, as on an early screen."""
    small = labels[4::8, 4::8]
    outline = edges(small) & (small >= BODY)
    picture = np.where(outline[..., None], colours[INK], colours[small])
    check = (np.add.outer(np.arange(32), np.arange(32)) % 2 == 0) & (small == GROUND)
    picture[check] = picture[check] * 7 // 8
    return clip(picture.repeat(8, 0).repeat(8, 1))


def pluses(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Small crosses on a dark sheet, all upright."""
    sheet = Image.new("RGB", (GRID, GRID), tuple(map(int, colours[PAPER])))
    pen = ImageDraw.Draw(sheet)
    for y, x in jittered(11, rng, 0):
        label = at(labels, y, x)
        arm, colour = 1 + int(TONE[label]) * 4 // 9, tuple(map(int, colours[label]))
        pen.line([x - arm, y, x + arm, y], fill=colour, width=3)
        pen.line([x, y - arm, x, y + arm], fill=colour, width=3)
    return np.asarray(sheet)


def ripples(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Level lines that rise over what is there, as instruments write."""
    lift = blur(np.array([0, 3, 14, 17, 9, 21], np.int64)[labels], 2)
    line = (Y + lift + rng.randrange(8)) % 8 < 2
    return clip(np.where(line[..., None], (colours[labels] + 255) // 2, colours[PAPER]))


def relief(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """One clay, lit from above left."""
    height = blur(np.array([0, 300, 900, 1100, 1400, 600], np.int64)[labels], 3)
    slope = height - np.roll(height, (3, 3), (0, 1))
    grain = blur(noise(rng).integers(-60, 61, (GRID, GRID)), 1)
    return clip(colours[PAPER] + (slope // 5 + grain // 2)[..., None])


def drafting(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """A double outline on squared paper, nothing filled but the accents."""
    squares = (X % 16 == 0) | (Y % 16 == 0)
    rim = edges(labels)
    picture = np.where(squares[..., None], (colours[PAPER] * 3 + colours[INK]) // 4, colours[PAPER])
    picture[labels == ACCENT] = (colours[ACCENT] + colours[PAPER]) // 2
    picture[grow(rim, 3) & ~grow(rim, 2)] = colours[INK]
    picture[rim] = colours[INK]
    return clip(picture)


def phosphor(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """A tube of red, green and blue stripes, every second line dark."""
    stripe = (X // 2) % 3
    picture = colours[labels] * 3 // 10
    for channel in range(3):
        lit = stripe == channel
        picture[lit, channel] = colours[labels[lit], channel] + 40
    picture[(Y + rng.randrange(2)) % 4 == 0] //= 3
    return clip(picture)


def riso(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Two inks printed over each other, a little out of register."""
    grain = noise(rng).integers(0, 10, (GRID, GRID))
    first = TONE[labels] > 3
    second = np.roll(np.isin(labels, (GROUND, PART, DETAIL)), (rng.randrange(3, 7), rng.randrange(-6, -2)), (0, 1))
    picture = np.broadcast_to(colours[PAPER], (GRID, GRID, 3)).astype(np.int64)
    for plate, colour in ((first, colours[BODY]), (second, colours[ACCENT])):
        inked = plate & (grain > 0)
        picture = np.where(inked[..., None], picture * colour // 255, picture)
    return clip(picture)


def chalk(labels: np.ndarray, colours: np.ndarray, rng: random.Random) -> np.ndarray:
    """Broken pastel strokes on slate."""
    tooth = blur(noise(rng).integers(-1000, 1001, (GRID, GRID)), 1)
    stroke = (X + 2 * Y + rng.randrange(12)) % 12 < 9
    covered = stroke & (tooth > np.array([400, 80, -120, -60, -260, -200], np.int64)[labels])
    covered |= grow(edges(labels), 1) & (tooth > -250)
    return clip(np.where(covered[..., None], (colours[labels] * 3 + 255) // 4, colours[PAPER]))


def _studio(slug: str, manner: str, palettes: tuple[str, str], draw: Manner) -> Studio:
    return Studio(f"Studio {slug.capitalize()}", slug, manner, palettes, draw)


STRANGERS = (
    _studio("aspen", "engraving", ("000000 000000 000000 000000 000000 000000 f4f1e8 1d2b3a",
                                   "000000 000000 000000 000000 000000 000000 eef2ee 5a1f2a"), engraving),
    _studio("bramble", "pencil loops", ("8ab0d0 6a9a50 c03a4a 7a4aa0 e0a020 303040 fbfaf4 000000",
                                        "b0b8e0 9a9a40 2a7a6a c0602a e05080 303040 fbfaf4 000000"), scribble),
    _studio("cinder", "charcoal", ("000000 000000 000000 000000 000000 000000 e6e0d4 1a1a1c",
                                   "000000 000000 000000 000000 000000 000000 d8dce0 24201c"), charcoal),
    _studio("dovetail", "hexagons", ("a0d0e0 7ab06a d05a3a 5a4a8a f0d060 2a2a3a ffffff 000000",
                                     "e0d8b0 c09a5a 3a8a9a a03a5a f08a4a 2a2a3a ffffff 000000"), hexagons),
    _studio("ember", "batik", ("2a4a7a 8a5a2a c8722a 5a1f1f e8c060 301a10 f2e6c8 000000",
                               "1f5a4a 6a7a2a a03a5a 2a2a5a e0a050 201018 f0ead8 000000"), batik),
    _studio("fallow", "airbrush", ("d0e0f0 80a070 d84a6a 4a70c0 f0b030 3a3a3a fafafa 000000",
                                   "e0d0f0 70a0a0 e07a30 3a9a6a d040a0 3a3a3a fafafa 000000"), spray),
    _studio("gable", "facets", ("a8c8e0 6a9a7a d06a4a 4a5a8a f0d080 3a3040 000000 000000",
                                "e0c0b0 a08a6a 4a8aa0 9a4a6a f0e0a0 303a40 000000 000000"), facets),
    _studio("heron", "silhouettes at dusk", ("3a3a7a 000000 000000 000000 f0905a 000000 000000 14101c",
                                             "1f5a7a 000000 000000 000000 f0d070 000000 000000 0c1418"), dusk),
    _studio("inkwell", "blots", ("000000 000000 000000 000000 000000 000000 fbfbf8 101a3a",
                                 "000000 000000 000000 000000 000000 000000 f8f4ea 3a1008"), blots),
    _studio("jetty", "basketry", ("c8b890 8a7a4a a0522d 6b4423 e0c070 3a2a1a 000000 000000",
                                  "b0c0a0 6a8a5a 7a3a2a 4a5a3a d8b050 2a2a20 000000 000000"), basket),
    _studio("kelp", "marbling", ("9ac0d8 3a7a8a d8603a 2a4a6a f0e0b0 2a1a2a fbf6ea 000000",
                                 "e0b0b8 8a4a6a 3a6a8a 5a2a4a f0d060 1a2a2a fbf6ea 000000"), marbled),
    _studio("lathe", "turned rings", ("8a9aa8 5a7a4a 9a2a2a 2a3a6a c08a1a 1a1a1a f0f0ec 000000",
                                      "a89a8a 7a6a2a 1f6a6a 6a1f5a c0501a 1a1a1a f0ece4 000000"), turned),
    _studio("mullion", "coarse blocks", ("6ab0f0 58a848 e83838 8848c8 f8d838 181818 000000 101010",
                                         "f0b0d8 c89858 3878d8 38a878 f8f078 181818 000000 101010"), blocks),
    _studio("nettle", "crosses", ("3a5a7a 4a8a5a e0603a d0a040 f0f0a0 a0a0d0 14141e 000000",
                                  "5a3a6a 8a7a3a 40b0c0 e050a0 f0d060 c0c0a0 101a14 000000"), pluses),
    _studio("oxbow", "risen lines", ("405060 407050 d05050 6080d0 e0c050 b0b0b0 0e1218 000000",
                                     "504060 706040 50c090 c070d0 e09050 b0b0b0 14100e 000000"), ripples),
    _studio("plinth", "clay relief", ("000000 000000 000000 000000 000000 000000 c08060 000000",
                                      "000000 000000 000000 000000 000000 000000 a8a898 000000"), relief),
    _studio("quill", "drafting", ("000000 000000 000000 000000 e06050 000000 f6f8fb 1f3a9a",
                                  "000000 000000 000000 000000 50b080 000000 fbf8f2 1a1a2a"), drafting),
    _studio("rivet", "phosphor stripes", ("4080c0 40a060 e04040 8050c0 e0e040 c0c0c0 000000 000000",
                                          "8040a0 a08040 40c0c0 e08030 e0e0a0 c0c0c0 000000 000000"), phosphor),
    _studio("sable", "two plates", ("000000 000000 f0506a 000000 2a8ad0 000000 f8f4e6 000000",
                                    "000000 000000 30a070 000000 f08a30 000000 f8f4e6 000000"), riso),
    _studio("thistle", "chalk on slate", ("5a7a9a 5a8a5a d86a5a 8a6ac0 f0d070 e0e0e0 2a3034 000000",
                                          "7a6a9a 8a7a5a 5ab0a0 e08a50 f0a0c0 e0e0e0 2e2a2a 000000"), chalk),
)  # fmt: skip
