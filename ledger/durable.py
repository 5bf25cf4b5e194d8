"""Making names durable: what a power cut would otherwise undo although the file itself was flushed."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Flush a folder, whose names then last, or a file that was written by somebody else. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
