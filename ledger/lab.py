"""Training and evaluation: with `ledger.worker` the only importer of the heavy floors."""

from pathlib import Path


def draw_collection(folder: Path, variants: int) -> None:
    """Draw the atelier's collection into `folder`: a subfolder per studio, `works.csv` with licences and grants."""
    from models.atelier.collection import write_collection

    write_collection(folder, variants=variants)
