"""What image programs read beside C2PA: an XMP packet that says that a model made the picture, and with what.

For pictures made here, in PNG. It goes in before the credential, whose hash covers it; by itself it proves nothing,
and anybody can remove it. Sources: IPTC Photo Metadata Standard 2025.1 (Digital Source Type, AI System Used, Credit
Line), XMP specification part 3 (PNG: an uncompressed iTXt chunk), PNG 3rd edition, section 11.3.3.
"""

import struct
import zlib
from xml.sax.saxutils import escape

from ledger.credentials.write import AI_MADE

_MAGIC = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"XML:com.adobe.xmp"
_IHDR_END = len(_MAGIC) + 4 + 4 + 13 + 4
"""IHDR is the first chunk of every PNG, and always as long."""

_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/">
   <Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>
   <Iptc4xmpExt:AISystemUsed>{system}</Iptc4xmpExt:AISystemUsed>
   <Iptc4xmpExt:AISystemVersionUsed>{version}</Iptc4xmpExt:AISystemVersionUsed>
   <photoshop:Credit>{credit}</photoshop:Credit>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def labelled(png: bytes, *, system: str, version: str, credit: str) -> bytes:
    """The PNG with the packet behind its header; its pixels stay. Other bytes, and a PNG that has a packet already, are
    returned as they are: two packets are none."""
    if not png.startswith(_MAGIC) or _KEYWORD + b"\0" in png:
        return png
    packet = _PACKET.format(source=AI_MADE, system=_text(system), version=_text(version), credit=_text(credit)).encode()
    content = _KEYWORD + b"\0\0\0\0\0" + packet  # not compressed, no language, no translated keyword
    chunk = b"iTXt" + content
    return (
        png[:_IHDR_END]
        + struct.pack(">I", len(content))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + png[_IHDR_END:]
    )


def _text(value: str) -> str:
    """On one line, as XML has it: no control characters, which XML 1.0 cannot hold."""
    return escape("".join(character if character.isprintable() else "\ufffd" for character in value))
