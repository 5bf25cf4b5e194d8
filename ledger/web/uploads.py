"""One image out of a request: a multipart form with a `file`, or the bare bytes. Counted while it arrives.

The framework counts the body as it streams and answers 413 at the limit; a file of a form is spooled to disk beyond a
megabyte, so that a slow or endless upload fills neither memory nor disk.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from litestar import Request
from litestar.datastructures import UploadFile

from ledger.errors import BadRequest, TooLarge
from ledger.web.problems import Unsupported

FORM_OVERHEAD = 64 * 2**10
"""What the parts of a form may add to the file, in bytes: their headers and the text fields."""

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
    content_type = request.content_type[0]
    if content_type == "multipart/form-data":
        return await _from_form(request, limit)
    if bare and content_type in BARE_TYPES:
        data = await request.body()
        if len(data) > limit:
            raise _too_large(limit)
        return Upload(data, None, {})
    raise Unsupported(
        f"Content-Type: {content_type[:80] or 'none'} is not taken here",
        next_step="send multipart/form-data with a part `file`"
        + (f", or the image itself as {BARE_TYPES[0]}" if bare else ""),
    )


async def _from_form(request: "Request[Any, Any, Any]", limit: int) -> Upload:
    try:
        form = await request.form()
        for value in form.values():
            if isinstance(value, str):
                value.encode()  # some charsets make lone surrogates, which nothing behind this takes
    except (UnicodeError, LookupError) as error:  # a text part in bytes that its charset has not, or an unknown charset
        raise _malformed("a text field is not in the charset it claims") from error
    upload: UploadFile | None = None
    fields: dict[str, str] = {}
    for name, value in form.multi_items():
        if name == "file" and isinstance(value, UploadFile) and upload is None:
            upload = value
        elif name != "file" and isinstance(value, str) and name not in fields:
            fields[name] = value
        elif name == "file" and value == "":
            continue  # what a browser sends when no file was chosen
        else:
            raise _malformed(
                f"the part `{printable(name, 40)}` is sent twice, or text is sent for a file, or a file for text"
            )
    if upload is None:
        raise BadRequest(
            "file: no image was sent",
            code="file_missing",
            next_step="choose a PNG, JPEG or WebP and send it as the part `file`",
        )
    data = await upload.read()
    if len(data) > limit:
        raise _too_large(limit)
    return Upload(data, printable(upload.filename, FILENAME_CHARS) or None, fields)


def printable(text: str, limit: int) -> str:
    """`text` on one line, without control characters and folders; for showing, never for opening."""
    kept = "".join(character for character in text if not unicodedata.category(character).startswith("C"))
    return kept.replace("\\", "/").rsplit("/", 1)[-1].strip()[:limit]


def _malformed(detail: str) -> BadRequest:
    return BadRequest(detail, code="form_malformed", next_step="send the form as /docs shows it")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"file: more than {limit:,} bytes",
        code="file_too_large",
        next_step=f"send a file of at most {limit / 2**20:.0f} MiB",
    )
