"""Which characters a report's fonts can show. What they cannot is written as [U+XXXX], so that no name is left out, no
name hides anything, and no name stops a report from being drawn.

`fonts/coverage.json` says which characters each font has, in ranges; a test compares it with the fonts. A character may
be there and yet read like another one (homoglyphs): the attached JSON has the code points.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

FONTS = Path(__file__).parent / "fonts"
TEXT = "NotoSans-Regular.ttf"  # bold and italic have the same characters
MOST = 300  # characters of one stranger's text; the JSON has all of it
RUN = 24  # characters without a break before one is allowed: a name of 300 letters must not leave its column
BREAK = "\u200b"

_JOINERS = "\u200c\u200d"  # between letters of Persian or Devanagari they belong to the spelling
_RTL = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc"
_RIGHT_TO_LEFT = re.compile(rf"[{_RTL}]+(?:[\s'\u2019\-{_JOINERS}]+[{_RTL}]+)*")


def shown(text: object, most: int = MOST, run: int = RUN) -> str:
    """`text` in characters that the fonts have, at most `most` of them, breakable after `run` of them, and with what
    runs from right to left closed off, so that it cannot reorder what stands around it."""
    said = str(text)
    kept = said if len(said) <= most else said[:most] + "…"
    plain = "".join(cluster if _is_shown(cluster) else _escaped(cluster) for cluster in _clusters(kept))
    broken = re.sub(rf"(\S{{{run}}})(?=\S)", rf"\1{BREAK}", plain)
    return _RIGHT_TO_LEFT.sub(lambda run: f"\u2067{run[0]}\u2069", broken)


def _clusters(text: str) -> Iterator[str]:
    """Each character with the marks and joiners on it, which have to come from the same font."""
    cluster = ""
    for character in text:
        if cluster and (unicodedata.category(character).startswith("M") or character in _JOINERS):
            cluster += character
            continue
        if cluster:
            yield cluster
        cluster = character
    if cluster:
        yield cluster


def _is_shown(cluster: str) -> bool:
    if any(unicodedata.category(each)[0] in "CZ" and each not in (" ", *_JOINERS) for each in cluster):
        return False
    points = {ord(each) for each in cluster}
    return any(points <= font for font in _coverage())


def _escaped(cluster: str) -> str:
    return "".join(f"[U+{ord(each):04X}]" for each in cluster)


@lru_cache(maxsize=1)
def _coverage() -> list[frozenset[int]]:
    """The characters of each font, the text's own first."""
    fonts = json.loads((FONTS / "coverage.json").read_text(encoding="ascii"))
    ordered = sorted(fonts.items(), key=lambda item: item[0] != TEXT)
    return [frozenset(_points(ranges)) for _, ranges in ordered]


def _points(ranges: str) -> Iterator[int]:
    for each in ranges.split():
        first, _, last = each.partition("-")
        yield from range(int(first, 16), int(last or first, 16) + 1)
