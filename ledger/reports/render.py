"""A dossier as PDF/A-3: pages to read, and every part attached. The same dossier gives the same bytes.

Typst draws, from this folder's template and fonts and nothing else: no font of the machine, no clock, no network. What
is in the dossier is data to it, never markup. The document's date is the dossier's; its identifiers follow from its
content. PDF/A-3a: ISO 19005-3, with associated files (section 6.8) and tags for screen readers. Another version of
Typst may draw other bytes; which one drew is in the dossier.
"""

import datetime as dt
import json
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Final

import typst
from PIL import Image

from ledger.decoding.reading import IN_THIS_PROCESS, FileReader
from ledger.errors import BadRequest
from ledger.reports.claim_pages import claim_page_data
from ledger.reports.dossier import AnyDossier, ClaimDossier, files_of, picture_of
from ledger.reports.forms import malformed
from ledger.reports.lettering import FONTS
from ledger.reports.pages import page_data, part_meaning
from models.errors import ImageError

TEMPLATE = Path(__file__).parent / "report.typ"
STANDARD: Final = "a-3a"
SHOWN_PIXELS = 900  # of the longer side: 300 dots an inch where the picture is 7.6 cm wide

MEDIA_TYPES = {
    "json": "application/json",
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "cose": "application/cose",
    "receipt": "application/cose",
    "tlog-proof": "text/plain",
    "tsr": "application/timestamp-reply",
}


def render(dossier: AnyDossier, reader: FileReader = IN_THIS_PROCESS) -> bytes:
    """The unsigned PDF. Raises BadRequest `report_document_malformed` for a dossier (a stranger's) that cannot be
    drawn, and as `page_data` and `claim_page_data`."""
    data = claim_page_data(dossier) if isinstance(dossier, ClaimDossier) else page_data(dossier)
    files = files_of(dossier)
    data["files"] = [
        {"name": name, "type": MEDIA_TYPES.get(name.rpartition(".")[2], "application/octet-stream"),
         "relation": "source" if name == "report.json" else "data", "meaning": part_meaning(name)}
        for name in files
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="lawful-report-") as name:
        folder = Path(name)
        (folder / "parts").mkdir()
        for part, content in files.items():
            (folder / "parts" / part).write_bytes(content)
        if (picture := picture_of(dossier)) is not None:
            pixels, width, height = _shown(picture, reader)
            (folder / "shown.rgb").write_bytes(pixels)
            data["picture"] |= {"width": width, "height": height}
        (folder / "data.json").write_text(json.dumps(data), encoding="ascii")
        for source in TEMPLATE.parent.glob("*.typ"):
            shutil.copyfile(source, folder / source.name)
        return _compiled(folder, dossier.facts.drawn_up_at)


def _compiled(folder: Path, drawn_up_at: str) -> bytes:
    try:
        pdf = typst.compile(
            str(folder / TEMPLATE.name),
            root=str(folder),
            font_paths=_fonts(),
            format="pdf",
            pdf_standards=STANDARD,
            timestamp=dt.datetime.fromisoformat(drawn_up_at),
        )
    except (typst.TypstError, ValueError, OverflowError) as error:
        raise malformed(f"it cannot be drawn: {str(error)[:300]}") from error
    assert isinstance(pdf, bytes)
    return pdf


@lru_cache(maxsize=1)
def _fonts() -> typst.Fonts:
    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[FONTS])


def _shown(data: bytes, reader: FileReader) -> tuple[bytes, int, int]:
    """The picture for the page, its width and height: canonical pixels, made smaller, and nothing else of the file.
    They are handed over bare: an image encoder's bytes may differ from one processor to the next."""
    try:
        pixels = reader.decode(data).pixels
    except ImageError as error:
        raise BadRequest(
            f"the picture in it cannot be read: {error.detail}", code=error.code, next_step=error.next_step
        ) from error
    image = Image.fromarray(pixels)
    image.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS), Image.Resampling.LANCZOS)
    return image.tobytes(), image.width, image.height
