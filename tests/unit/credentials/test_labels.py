"""The XMP packet in a generated PNG: other programs read it, and the pixels stay."""

import io
import xml.etree.ElementTree as ElementTree

import numpy as np
from PIL import Image

from ledger.credentials.labels import labelled
from models.images import decode, encode_png

EXT, PHOTOSHOP = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}", "{http://ns.adobe.com/photoshop/1.0/}"
PICTURE = encode_png(np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3))


def packet(png: bytes) -> dict[str, str]:
    """What Pillow, which knows nothing of us, finds in the file."""
    text = Image.open(io.BytesIO(png)).info["XML:com.adobe.xmp"]
    (description,) = ElementTree.fromstring(text).iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    return {child.tag: child.text or "" for child in description}


def test_another_program_reads_that_a_model_made_it_and_which() -> None:
    png = labelled(PICTURE, system="flux", version="abc1", credit="Made with flux")
    assert packet(png) == {
        EXT + "DigitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
        EXT + "AISystemUsed": "flux",
        EXT + "AISystemVersionUsed": "abc1",
        PHOTOSHOP + "Credit": "Made with flux",
    }
    assert (decode(png).pixels == decode(PICTURE).pixels).all()


def test_a_hostile_name_is_text_and_nothing_else() -> None:
    name = "</rdf:RDF><script>&\x00\u202e\n]]>"
    assert packet(labelled(PICTURE, system=name, version="1", credit=name))[EXT + "AISystemUsed"] == (
        "</rdf:RDF><script>&\ufffd\ufffd\ufffd]]>"
    )


def test_a_file_that_has_a_packet_or_is_no_png_stays_as_it_is() -> None:
    once = labelled(PICTURE, system="flux", version="1", credit="c")
    assert labelled(once, system="other", version="2", credit="d") == once
    assert labelled(b"\xff\xd8\xff", system="flux", version="1", credit="c") == b"\xff\xd8\xff"
