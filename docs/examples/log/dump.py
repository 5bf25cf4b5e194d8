"""Write CBOR out byte by byte: hexadecimal on the left, what it means on the right, one item a line."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

Place = tuple[int | str, ...]
"""Where an item stands: array indices and map keys, "tag" for what a tag holds, "in" for CBOR inside a byte string."""

_NAMES = {0: "", 1: "", 2: "bytes", 3: "text", 4: "array of", 5: "map of", 6: "tag"}
_ROW = 32  # bytes


def dump(data: bytes, words: Mapping[Place, str], embedded: Collection[Place] = ()) -> str:
    """`words` says what items stand for, or, at a place that ends in "key", what a map's key does. Byte strings at
    `embedded` places are CBOR themselves and are opened too.

    The bytes left of the number signs, joined, are `data`. Reads definite lengths and null only, as our files have.
    """
    reading = _Reading(data, words, embedded)
    reading.item((), 0)
    assert reading.at == len(data)
    margin = max(len(left) for left, right in reading.lines if right) + 2
    return "".join(f"{left:<{margin}}# {right}\n" if right else f"{left}\n" for left, right in reading.lines)


@dataclass
class _Reading:
    data: bytes
    words: Mapping[Place, str]
    embedded: Collection[Place]
    at: int = 0
    lines: list[tuple[str, str]] = field(default_factory=list)

    def item(self, place: Place, depth: int) -> None:
        start = self.at
        major, number = self.head()
        value = "null" if major == 7 else f"{_NAMES[major]} {number if major != 1 else -1 - number}".strip()
        text = repr(self.data[self.at : self.at + number].decode()) if major == 3 else ""
        self.line(depth, start, self.at, ": ".join(filter(None, (value, text, self.words.get(place)))))
        if major in (2, 3):
            self.string(place, depth + 1, number)
        elif major == 6:
            self.item((*place, "tag"), depth + 1)
        elif major in (4, 5):
            for index in range(number):
                step = index if major == 4 else self.key(place, depth + 1)
                self.item((*place, step), depth + 1)

    def key(self, place: Place, depth: int) -> int:
        start = self.at
        major, number = self.head()
        key = number if major == 0 else -1 - number
        word = self.words.get((*place, key, "key"), "")
        self.line(depth, start, self.at, f"key {key}: {word}" if word else f"key {key}")
        return key

    def string(self, place: Place, depth: int, size: int) -> None:
        end = self.at + size
        if place in self.embedded:
            self.item((*place, "in"), depth)
            assert self.at == end
            return
        for row in range(self.at, end, _ROW):
            self.line(depth, row, min(row + _ROW, end), "")
        self.at = end

    def head(self) -> tuple[int, int]:
        """Major type and number (RFC 8949 section 3)."""
        major, small = self.data[self.at] >> 5, self.data[self.at] & 31
        width = 0 if small < 24 else 1 << (small - 24)
        start, self.at = self.at + 1, self.at + 1 + width
        return major, int.from_bytes(self.data[start : self.at], "big") if width else small

    def line(self, depth: int, start: int, end: int, comment: str) -> None:
        self.lines.append(("  " * depth + self.data[start:end].hex(), comment))
