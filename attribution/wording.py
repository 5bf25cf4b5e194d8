"""The one plain sentence of an Evidence: similarity with its error rate, or that it cannot tell. Light."""

from collections.abc import Mapping, Sequence

from attribution.evidence import Match, NeighbourAxis

ALPHA = 0.01
NOT_PROVEN = (
    "Similarity does not prove that a work was copied, or that any generator has learned from it.",
    "A work that was not in the collection, or may not be compared, was not looked at.",
    "That nothing was found does not prove that the image is original.",
)


def found_sentence(matches: Sequence[Match]) -> str:
    """Say which works are this very image; `matches` has at least one."""
    first = matches[0]
    what = "This very file" if first.by == "file_sha256" else "A picture with these very pixels"
    more = f", and {count(len(matches) - 1, 'more time', 'more times')}" if len(matches) > 1 else ""
    return f"{what} is in the collection: {credit(first.title, first.artist)}{more}."


def similarity_sentence(neighbours: Mapping[str, NeighbourAxis], works: int, artists: int) -> str:
    """Say what stands out at ALPHA over all calibrated axes together (Bonferroni), or that nothing does, or why not.

    At least one axis must be calibrated and have a nearest work.
    """
    p_values = {
        name: axis.nearest[0].p_value
        for name, axis in neighbours.items()
        if axis.nearest and axis.calibration is not None
    }
    known = {name: p for name, p in p_values.items() if p is not None}
    level = ALPHA / len(known)  # each axis is one more chance to be wrong
    reach = min(axis.calibration.smallest_p for axis in neighbours.values() if axis.calibration is not None)
    if reach > level:
        return (
            f"Cannot tell: an error rate of {ALPHA:.0%} needs {round(1 / level) - 1} works to calibrate on, "
            f"and the collection offers {round(1 / reach) - 1}."
        )
    best = min(known, key=lambda name: known[name])
    if known[best] > level:
        return f"No single source stands out among {count(works, 'work')} by {count(artists, 'artist')}."
    nearest = neighbours[best].nearest[0]
    return (
        f"Closer to {credit(nearest.title, nearest.artist)} than images by artists outside the collection come to any "
        f"work in it ({best}: p = {known[best]:.2g})."
    )


def credit(title: str, artist: str | None) -> str:
    """Name a work and its artist; a protected work has no artist."""
    return f"“{title}” by {artist}" if artist is not None else title


def count(number: int, singular: str, plural: str | None = None) -> str:
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
