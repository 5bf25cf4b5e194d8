"""One image out of a request: a multipart form with a `file`, or the bare bytes. Counted while it arrives.

The framework counts the whole body and answers 413 at its limit. The parts of a form are counted here; a file is
spooled to disk beyond a megabyte, and its place is given back whatever happens: the framework's own reader of forms
leaves a refused upload lying until the garbage collector comes.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from litestar import Request
from multipart import (  # type: ignore[import-untyped]  # it ships no types
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
)

from ledger.errors import BadRequest, TooLarge
from ledger.web.problems import Unsupported

FORM_OVERHEAD = 64 * 2**10
"""What the parts of a form may add to the file, in bytes: their headers and the text fields."""

MAX_PARTS = 8
IN_MEMORY = 2**20
BARE_TYPES = ("image/png", "image/jpeg", "image/webp", "application/octet-stream")
FILENAME_CHARS = 200


@dataclass(frozen=True)
class Upload:
    data: bytes
    filename: str | None
    fields: Mapping[str, str]


async def read_upload(request: "Request[Any, Any, Any]", *, limit: int, bare: bool) -> Upload:
    """The image of a request, at most `limit` bytes. `bare`: the body itself may be the image.

    Raises BadRequest for a broken form or one without a file, Unsupported for other content types, TooLarge.
    An empty file is returned as it is: what it is not, the image decoder says best.
    """
    content_type, options = request.content_type
    if content_type == "multipart/form-data":
        with SpooledTemporaryFile(max_size=IN_MEMORY) as spool:
            return await _read_form(request, options.get("boundary", ""), limit, spool)
    if bare and content_type in BARE_TYPES:
        data = await request.body()
        if len(data) > limit:
            raise too_large(limit)
        return Upload(data, None, {})
    otherwise = f", or the image itself as {BARE_TYPES[0]}" if bare else ""
    raise Unsupported(
        f"Content-Type: {content_type[:80] or 'none'} is not taken here",
        next_step="send multipart/form-data with a part `file`" + otherwise,
    )


async def _read_form(request: "Request[Any, Any, Any]", boundary: str, limit: int, spool: IO[bytes]) -> Upload:
    parts = _Parts(limit, spool)
    try:
        with PushMultipartParser(boundary, max_segment_count=MAX_PARTS) as parser:
            async for chunk in request.stream():
                for event in parser.parse(chunk) if chunk and not parser.closed else ():
                    parts.take(event)
    except ParserLimitReached as error:
        raise _malformed(f"more than {MAX_PARTS} parts, or a part with unusual headers") from error
    except (MultipartError, UnicodeError) as error:
        raise _malformed("it is no complete multipart/form-data in UTF-8") from error
    return parts.upload()


class _Parts:
    """What the parser found so far: one file and some text fields, each at most once."""

    def __init__(self, limit: int, spool: IO[bytes]) -> None:
        self._limit = limit
        self._spool = spool
        self._part: MultipartSegment | None = None
        self._text = bytearray()
        self._filename: str | None = None
        self._fields: dict[str, str] = {}

    def take(self, event: MultipartSegment | bytes | bytearray | None) -> None:
        """The next event: the head of a part, some of its bytes, or None for its end."""
        if isinstance(event, MultipartSegment):
            self._part = self._expected(event)
        elif event is None:
            self._end()
        elif self._is_file():
            if self._spool.tell() + len(event) > self._limit:
                raise too_large(self._limit)
            self._spool.write(event)
        else:
            if len(self._text) + len(event) > FORM_OVERHEAD:
                raise _malformed(f"a text field of more than {FORM_OVERHEAD:,} bytes")
            self._text += event

    def upload(self) -> Upload:
        if self._filename is None:
            raise BadRequest(
                "file: no image was sent",
                code="file_missing",
                next_step="choose a PNG, JPEG or WebP and send it as the part `file`",
            )
        self._spool.seek(0)
        return Upload(self._spool.read(), printable(self._filename, FILENAME_CHARS) or None, self._fields)

    def _expected(self, part: MultipartSegment) -> MultipartSegment:
        name = part.name or ""
        if name in self._fields or (name == "file" and self._filename is not None):
            raise _malformed(f"the part `{printable(name, 40)}` is sent twice")
        if (part.filename is not None) != (name == "file"):
            wanted = "a file" if name == "file" else "text; the image is the part `file`"
            raise _malformed(f"the part `{printable(name, 40)}` must be {wanted}")
        return part

    def _is_file(self) -> bool:
        return self._part is not None and self._part.name == "file"

    def _end(self) -> None:
        assert self._part is not None
        if not self._is_file():
            self._fields[str(self._part.name)] = self._text.decode()
        elif self._part.filename or self._part.size:  # neither is what a browser sends when no file was chosen
            self._filename = str(self._part.filename)
        self._part, self._text = None, bytearray()


def printable(text: str, limit: int) -> str:
    """`text` on one line, without control characters and folders; for showing, never for opening."""
    kept = "".join(character for character in text if not unicodedata.category(character).startswith("C"))
    return kept.replace("\\", "/").rsplit("/", 1)[-1].strip()[:limit]


def _malformed(detail: str) -> BadRequest:
    return BadRequest(f"the form: {detail}", code="form_malformed", next_step="send the form as /docs shows it")


def too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"file: more than {limit:,} bytes",
        code="file_too_large",
        next_step=f"send a file of at most {limit / 2**20:.0f} MiB",
    )
