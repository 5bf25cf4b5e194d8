"""What a generator says it learned from: a list beside its weights, one work a line, by the digest of its pixels.

The list is one of the files that the weights' digest is over, so whoever names the weights names the list. It proves
that its author said so, not that nothing else was learned from.
"""

import re
from pathlib import Path

from models.errors import NetworkError

LEARNED_FROM = "learned_from.txt"
_LINE = re.compile(r"[0-9a-f]{64}")


def read_learned_from(folder: Path) -> tuple[str, ...] | None:
    """Return the `models.images.pixel_sha256` of each work, hex, sorted; None where there is no list.

    Raises NetworkError `network_unreadable` for a list that is empty, out of order or no list of digests.
    """
    path = folder / LEARNED_FROM
    if not path.is_file():
        return None
    lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    if not lines or not all(_LINE.fullmatch(line) for line in lines) or lines != sorted(set(lines)):
        raise NetworkError(
            f"{LEARNED_FROM} in {folder.name!r} is no sorted list of SHA-256 digests.",
            code="network_unreadable",
            next_step="Write one lower-case digest a line, sorted, each once; or remove the file.",
        )
    return tuple(lines)
