"""The subjects of the atelier's collection, each drawn as a map of labels.

A subject knows nothing of style: it says which part of the picture is sky, ground, body, part, accent or
detail, and a studio (studios.py) renders that. Coordinates are integers on a square of 1000; the pose (size,
place, lean, flip) and the proportions come from `random.Random` over a string, so every machine draws the same.
"""

import random
from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image, ImageDraw

SKY, GROUND, BODY, PART, ACCENT, DETAIL = range(6)
GRID = 256

# a unit circle of 48 points in 1/1024ths, written once with integers' rounding
_ARC = [(round(1024 * np.cos(i * np.pi / 24)), round(1024 * np.sin(i * np.pi / 24))) for i in range(48)]


class Sheet:
    """A label map under construction, with the pose of its subject."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.image = Image.new("L", (2 * GRID, 2 * GRID), SKY)
        self.pen = ImageDraw.Draw(self.image)
        self.flip = rng.random() < 0.5
        self.size = rng.randrange(860, 1100)
        self.lean = rng.randrange(-70, 71)
        self.dx, self.dy = rng.randrange(-70, 71), rng.randrange(-40, 41)

    def between(self, low: int, high: int) -> int:
        return self.rng.randrange(low, high + 1)

    def place(self, x: int, y: int) -> tuple[int, int]:
        x, y = x - 500, y - 500
        if self.flip:
            x = -x
        x = x * self.size // 1000 - y * self.lean // 1000 + 500 + self.dx
        y = y * self.size // 1000 + 500 + self.dy
        return x * 2 * GRID // 1000, y * 2 * GRID // 1000

    def poly(self, label: int, points: Iterable[tuple[int, int]]) -> None:
        self.pen.polygon([self.place(x, y) for x, y in points], fill=label)

    def oval(self, label: int, x: int, y: int, rx: int, ry: int) -> None:
        self.poly(label, [(x + rx * c // 1024, y + ry * s // 1024) for c, s in _ARC])

    def box(self, label: int, x0: int, y0: int, x1: int, y1: int) -> None:
        self.poly(label, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)])

    def bar(self, label: int, x0: int, y0: int, x1: int, y1: int, width: int) -> None:
        """A stroke with round ends."""
        a, b = self.place(x0, y0), self.place(x1, y1)
        half = width * self.size * GRID // 1000000
        self.pen.line([a, b], fill=label, width=2 * half)
        for x, y in (a, b):
            self.pen.ellipse([x - half, y - half, x + half, y + half], fill=label)

    def ring(self, label: int, inside: int, x: int, y: int, rx: int, ry: int, width: int) -> None:
        self.oval(label, x, y, rx, ry)
        self.oval(inside, x, y, rx - width, ry - width)

    def ground(self, height: int, hills: int = 0) -> None:
        """Land or water across the whole sheet, level or rolling; it ignores the pose but for its height."""
        base = (height + self.dy) * 2 * GRID // 1000
        first, last = self.between(-hills, hills), self.between(-hills, hills)
        middle = self.between(-hills, hills)
        ends = [(0, base + first), (GRID, base + middle), (2 * GRID, base + last)]
        self.pen.polygon([*ends, (2 * GRID, 2 * GRID), (0, 2 * GRID)], fill=GROUND)


def boat(s: Sheet) -> None:
    s.ground(680)
    bow, mast = s.between(820, 880), s.between(470, 530)
    s.bar(DETAIL, mast, 160, mast, 640, 26)
    s.poly(PART, [(mast + 30, 170), (mast + 30, 580), (mast + s.between(250, 310), 580)])
    s.poly(ACCENT, [(mast - 30, s.between(240, 290)), (mast - 30, 580), (mast - s.between(200, 260), 580)])
    s.poly(BODY, [(150, 630), (bow, 630), (bow - 120, 800), (270, 800)])


def house(s: Sheet) -> None:
    s.ground(740, 12)
    top, wall = s.between(180, 240), s.between(440, 480)
    s.box(DETAIL, 660, top + 20, 735, wall)
    s.box(BODY, 240, wall - 10, 760, 820)
    s.poly(PART, [(180, wall), (820, wall), (500, top)])
    door = s.between(440, 500)
    s.box(DETAIL, door, 610, door + 110, 820)
    s.box(ACCENT, 300, 540, 390, 640)
    s.box(ACCENT, 630, 540, 720, 640)


def tree(s: Sheet) -> None:
    s.ground(790, 16)
    s.poly(PART, [(450, 880), (465, 560), (535, 560), (560, 880)])
    s.bar(PART, 500, 640, s.between(620, 660), 500, 36)
    s.oval(BODY, 500, 310, s.between(190, 230), 190)
    s.oval(BODY, s.between(330, 360), 440, 150, 135)
    s.oval(BODY, s.between(640, 670), 430, 150, 135)
    s.oval(BODY, 500, 480, 160, 110)
    for x, y in ((400, 330), (560, 260), (640, 430), (450, 470), (330, 450)):
        s.oval(ACCENT, x + s.between(-20, 20), y + s.between(-20, 20), 36, 36)


def fish(s: Sheet) -> None:
    s.ground(s.between(850, 900), 26)
    deep, tail = s.between(165, 205), s.between(130, 170)
    s.poly(PART, [(690, 500), (880, 500 - tail), (835, 500), (880, 500 + tail)])
    s.poly(PART, [(380, 400), (480, 500 - deep - 110), (640, 400)])
    s.poly(PART, [(440, 600), (520, 500 + deep + 70), (590, 600)])
    s.oval(BODY, 450, 500, 310, deep)
    s.poly(
        ACCENT,
        [
            (400, 500 - deep + 20),
            (470, 500 - deep + 10),
            (440, 500),
            (470, 500 + deep - 10),
            (400, 500 + deep - 20),
            (360, 500),
        ],
    )
    s.oval(DETAIL, 250, 455, 38, 38)


def bird(s: Sheet) -> None:
    s.bar(GROUND, 90, 800, 910, 770, 60)
    s.bar(DETAIL, 450, 660, 440, 780, 26)
    s.bar(DETAIL, 540, 660, 540, 780, 26)
    s.poly(PART, [(640, 500), (910, s.between(560, 690)), (860, 720), (600, 640)])
    s.oval(BODY, 500, 530, 215, 160)
    head = s.between(330, 380)
    s.poly(DETAIL, [(250, head - 35), (110, head + 15), (250, head + 45)])
    s.oval(BODY, 325, head, 115, 110)
    s.poly(BODY, [(225, head + 30), (430, head), (560, 480), (320, 620)])
    s.poly(ACCENT, [(430, 470), (620, 440), (760, s.between(560, 620)), (540, 610)])
    s.oval(DETAIL, 300, head - 20, 24, 24)


def cat(s: Sheet) -> None:
    s.ground(800, 8)
    tip = s.between(420, 560)
    s.bar(PART, 640, 820, 810, 740, 70)
    s.bar(PART, 810, 740, 820, tip, 62)
    s.oval(BODY, 500, 690, 200, 215)
    s.poly(BODY, [(320, 330), (300, 120), (470, 240)])
    s.poly(BODY, [(680, 330), (700, 120), (530, 240)])
    s.oval(BODY, 500, 350, 205, 170)
    s.oval(ACCENT, 500, 720, 105, 130)
    s.oval(DETAIL, 420, s.between(325, 345), 32, 40)
    s.oval(DETAIL, 580, 335, 32, 40)
    s.poly(PART, [(460, 400), (540, 400), (500, 450)])
    s.oval(PART, 420, 880, 75, 42)
    s.oval(PART, 580, 880, 75, 42)


def flower(s: Sheet) -> None:
    s.ground(850, 14)
    sway = s.between(-50, 50)
    s.bar(PART, 500, 420, 500 + sway, 880, 36)
    s.poly(PART, [(500 + sway // 2, 760), (660, 590), (760, 610), (690, 720)])
    s.poly(PART, [(500 + sway // 2, 700), (330, 570), (240, 600), (320, 700)])
    turn, reach = s.between(0, 7), s.between(165, 190)
    for i in range(6):
        c, n = _ARC[(8 * i + turn) % 48]
        s.oval(BODY, 500 + reach * c // 1024, 340 + reach * n // 1024, 100, 100)
    s.oval(ACCENT, 500, 340, 110, 110)
    s.oval(DETAIL, 500, 340, 46, 46)


def mountain(s: Sheet) -> None:
    s.oval(ACCENT, s.between(180, 260), 220, 85, 85)
    peak, left = s.between(520, 580), s.between(300, 360)
    s.poly(PART, [(-200, 860), (left, s.between(400, 460)), (700, 860)])
    s.poly(BODY, [(100, 860), (peak, 170), (1150, 860)])
    cap = 170 + s.between(150, 190)
    a, b = peak - (peak - 100) * (cap - 170) // 690, peak + (1150 - peak) * (cap - 170) // 690
    third = (b - a) // 4
    s.poly(
        DETAIL,
        [(peak, 170), (a, cap), (a + third, cap - 40), (a + 2 * third, cap + 50), (b - third, cap - 30), (b, cap)],
    )
    s.ground(780, 26)


def moon(s: Sheet) -> None:
    s.ground(s.between(800, 860), 40)
    bite = s.between(130, 180)
    s.oval(BODY, 500, 430, 290, 290)
    s.oval(SKY, 500 + bite, 400, 235, 240)
    for across, down in ((700, 260), (620, 470), (800, 520), (160, 190), (870, 170)):
        x, y, r = across + s.between(-30, 30), down + s.between(-30, 30), s.between(38, 56)
        s.poly(
            ACCENT,
            [
                (x, y - r),
                (x + r // 3, y - r // 3),
                (x + r, y),
                (x + r // 3, y + r // 3),
                (x, y + r),
                (x - r // 3, y + r // 3),
                (x - r, y),
                (x - r // 3, y - r // 3),
            ],
        )
    s.oval(PART, 300, 480, 44, 44)
    s.oval(PART, 380, 610, 36, 36)


def teapot(s: Sheet) -> None:
    s.ground(730)
    s.ring(PART, SKY, 770, 530, 140, 150, 56)
    s.poly(PART, [(330, 640), (300, 520), (130, s.between(330, 380)), (80, 400), (210, 640), (340, 740)])
    s.oval(BODY, 500, 580, 260, s.between(210, 235))
    s.box(BODY, 370, 770, 630, 830)
    s.oval(ACCENT, 500, 390, 150, 56)
    s.oval(DETAIL, 500, 310, 46, 46)
    band = s.between(560, 620)
    s.box(ACCENT, 250, band, 750, band + 56)


def lighthouse(s: Sheet) -> None:
    s.ground(s.between(720, 760))
    beam = s.between(60, 110)
    s.poly(ACCENT, [(500, 235), (1100, 235 - beam), (1100, 235 + beam)])
    s.oval(DETAIL, 500, 850, 330, 110)
    s.poly(BODY, [(430, 320), (570, 320), (630, 830), (370, 830)])
    for top in (400, 580):
        d, e = (top - 320) * 60 // 510, (top - 230) * 60 // 510
        s.poly(PART, [(430 - d, top), (570 + d, top), (570 + e, top + 90), (430 - e, top + 90)])
    s.box(DETAIL, 395, 290, 605, 330)
    s.box(ACCENT, 445, 190, 555, 290)
    s.poly(PART, [(420, 195), (580, 195), (500, 90)])
    s.oval(DETAIL, 500, 760, 34, 50)


def mushroom(s: Sheet) -> None:
    s.ground(800, 18)
    wide = s.between(300, 340)
    s.poly(BODY, [(430, 460), (570, 460), (610, 880), (390, 880)])
    s.oval(DETAIL, 500, 500, wide - 60, 60)
    cap = [(500 + wide * c // 1024, 500 + s.size * n // 3000) for c, n in _ARC if n <= 0]
    s.poly(PART, [*cap, (500 + wide, 500), (500 - wide, 500)])
    for x, y, r in ((390, 360, 58), (560, 280, 52), (660, 410, 46), (500, 440, 34), (290, 450, 32)):
        s.oval(ACCENT, x + s.between(-20, 20), y + s.between(-12, 12), r, r * 4 // 5)
    if s.between(0, 1):
        s.box(BODY, 760, 740, 810, 880)
        s.oval(PART, 785, 720, 90, 60)


SUBJECTS: dict[str, Callable[[Sheet], None]] = {
    f.__name__: f for f in (boat, house, tree, fish, bird, cat, flower, mountain, moon, teapot, lighthouse, mushroom)
}


def labels(subject: str, rng: random.Random) -> np.ndarray:
    """The label map of one pose of a subject: uint8, (GRID, GRID)."""
    sheet = Sheet(rng)
    SUBJECTS[subject](sheet)
    return np.asarray(sheet.image)[::2, ::2].copy()
