"""A ledger from somebody else's program, in three lines: no GPU, no database, no torch in that process.

    from ledger.client import Ledger
    ledger = Ledger("http://127.0.0.1:8000", api_key="lawful_…")
    ledger.stamp(image, model="my-model", prompt=prompt).save("stamped.png")

The prompt stays where it is: only a salted commitment to it is sent, and the salt comes back for you to keep.
Errors are those of `ledger.errors`, with the code and next step that the ledger gave. Lost connections are tried again
under one Idempotency-Key, so that no record is made twice.
"""

import hashlib
import io
import secrets
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import httpx
import stamina

from ledger.errors import (
    BadRequest,
    Conflict,
    LedgerError,
    NotAllowed,
    NotFound,
    StorageFull,
    TooLarge,
    Unavailable,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Picture: TypeAlias = Image | NDArray[np.uint8] | bytes | str | Path

PROMPT_DOMAIN = "lawful-ledger/prompt/1"
ATTEMPTS = 5
LONGEST_REQUEST_WAIT = 60.0
PNG_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}
POLL_SECONDS = 0.5

_ERRORS: dict[int, type[LedgerError]] = {
    400: BadRequest,
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    415: BadRequest,
    422: BadRequest,
    503: Unavailable,
    507: StorageFull,
}


@dataclass(frozen=True)
class Stamped:
    """An issued file: its bytes with the credential inside, and its record as the ledger shows it.

    `prompt_salt` (hex) opens the commitment to a prompt that was not sent; without it nobody can show what it was.
    """

    data: bytes
    record: dict[str, Any]
    prompt_salt: str | None = None

    def save(self, path: str | Path) -> Path:
        """Write the bytes as they are. Saving the picture with an image library instead would lose the credential."""
        target = Path(path)
        target.write_bytes(self.data)
        return target


class Ledger:
    """A ledger at `url`. `api_key` None: LAWFUL_API_KEY, if it is set; reading and verifying need none."""

    def __init__(self, url: str, api_key: str | None = None, *, transport: httpx.BaseTransport | None = None) -> None:
        self._api_key = api_key
        base = httpx.URL(url.rstrip("/"))
        # A proxy from the environment leads out of this machine; a ledger on it is asked directly.
        beyond = base.host not in {"localhost", "127.0.0.1", "::1"}
        self._client = httpx.Client(base_url=base, timeout=30.0, transport=transport, trust_env=beyond)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def stamp(
        self,
        image: "Picture",
        *,
        model: str | None = None,
        prompt: str | None = None,
        send_prompt: bool = False,
        wait: float = 60.0,
    ) -> Stamped:
        """Have an image recorded, compared and given a credential; blocks for at most about `wait` seconds.

        `image`: a Pillow image, a uint8 array (height, width, 3), the bytes of a PNG, JPEG or WebP, or a path to one.
        `model` is what you say made it. Raises LedgerError; `not_finished` names the record that is still being made.
        It shows that the ledger saw these pixels then, not that what you declared of them is true.
        """
        fields: dict[str, str] = {}
        salt: bytes | None = None
        if model is not None:
            fields["model"] = model
        if prompt is not None and send_prompt:
            fields["prompt"] = prompt
        elif prompt is not None:
            from ledger.log.statements import SALT_BYTES, commitment

            salt = secrets.token_bytes(SALT_BYTES)
            fields["prompt_commitment"] = commitment(
                PROMPT_DOMAIN, salt, hashlib.sha256(prompt.encode()).digest()
            ).hex()
        request = {"files": {"file": ("image", encoded(image))}, "data": fields}
        return self._issued("/v1/stamps", request, wait, salt)

    def generate(
        self,
        prompt: str,
        *,
        seed: int | None = None,
        steps: int | None = None,
        width: int | None = None,
        height: int | None = None,
        guidance: float | None = None,
        wait: float = 600.0,
    ) -> Stamped:
        """Have the ledger's own generator make an image; sizes in pixels. The prompt is sent."""
        wish = {
            "prompt": prompt,
            "seed": seed,
            "steps": steps,
            "width": width,
            "height": height,
            "guidance": guidance,
        }
        given = {name: value for name, value in wish.items() if value is not None}
        return self._issued("/v1/generations", {"json": given}, wait, None)

    def verify(self, image: "Picture", *, wait: float = 60.0) -> dict[str, Any]:
        """What can be said of an image: the verdict, the six answers, records, evidence and every check."""
        request = {"files": {"file": ("image", encoded(image))}}
        # A second look at the same image is harmless, so this may be tried again without a key.
        found: dict[str, Any] = self._written("/v1/verifications", request, {}, wait)
        return found

    def lookup(self, what: "Picture") -> list[dict[str, Any]]:
        """Records of a hash (64 hex digits of a file or of pixels, or an ISCC) or of an image, earliest first.

        An empty list says nothing about how the image was made.
        """
        if isinstance(what, str) and what.upper().startswith("ISCC:"):
            return self._records(iscc=what)
        if isinstance(what, str) and len(what) == 64 and not set(what.lower()) - set("0123456789abcdef"):
            return self._records(file_sha256=what) or self._records(pixel_sha256=what)
        from models.images import decode, pixel_sha256

        data = encoded(what)
        return self._records(file_sha256=hashlib.sha256(data).hexdigest()) or self._records(
            pixel_sha256=pixel_sha256(decode(data).pixels).hex()
        )

    def record(self, record_id: str) -> dict[str, Any]:
        """One record, in any state."""
        found: dict[str, Any] = self._send("GET", f"/v1/records/{record_id}").json()
        return found

    def file(self, record_id: str) -> bytes:
        """The file of an issued record, credential included."""
        return self._send("GET", f"/v1/records/{record_id}/file").content

    def report(self, record_id: str) -> bytes:
        """The report of an issued record, byte for byte as the log commits to it."""
        return self._send("GET", f"/v1/records/{record_id}/report").content

    def report_pdf(self, record_id: str) -> bytes:
        """The report of an issued record as a signed PDF/A-3, with all that it rests on attached."""
        return self._send("GET", f"/v1/records/{record_id}/report.pdf").content

    def _records(self, **query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._send("GET", "/v1/records", params=query).json()["records"]
        return found

    def _issued(self, path: str, request: dict[str, Any], wait: float, salt: bytes | None) -> Stamped:
        headers = {"Idempotency-Key": str(uuid.uuid4()), **self._authorization()}
        record = self._written(path, request, headers, wait)
        return Stamped(self.file(record["id"]), record, None if salt is None else salt.hex())

    def _written(self, path: str, request: dict[str, Any], headers: dict[str, str], wait: float) -> dict[str, Any]:
        """Send a write and wait for its result: first in the request itself, then by asking again."""
        deadline = time.monotonic() + wait
        asked = max(0.0, min(wait, LONGEST_REQUEST_WAIT))
        response = self._send("POST", path, params={"wait": asked}, headers=headers, timeout=asked + 30.0, **request)
        address = response.headers.get("location", "")
        result: dict[str, Any] = response.json()
        while response.status_code == httpx.codes.ACCEPTED or result.get("state", "issued") != "issued":
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"{address} is not finished after {wait:g} seconds",
                    code="not_finished",
                    next_step=f"it is still being worked on: ask for {address} later, or wait for longer",
                )
            time.sleep(POLL_SECONDS)
            response = self._send("GET", address)
            result = response.json()
        return result

    def _authorization(self) -> dict[str, str]:
        if self._api_key is None:
            from ledger.settings import Settings  # the only place that reads the environment

            kept = Settings().api_key
            self._api_key = kept.get_secret_value() if kept is not None else ""
        return {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            for attempt in stamina.retry_context(on=httpx.TransportError, attempts=ATTEMPTS, timeout=None):
                with attempt:
                    response = self._client.request(method, path, **request)
        except httpx.TransportError as error:
            raise Unavailable(
                f"no answer from {self._client.base_url} ({type(error).__name__})",
                code="ledger_unreachable",
                next_step="check the address, and that the ledger runs (`lawful up`)",
            ) from error
        if response.is_error:
            raise _error_of(response)
        if response.is_redirect or response.headers.get("content-type", "").startswith("text/html"):
            raise _not_a_ledger(response)
        return response


def encoded(image: "Picture") -> bytes:
    """The bytes of an image file: those given, those at a path, or the picture as PNG. Raises BadRequest."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        try:
            return Path(image).read_bytes()
        except (OSError, ValueError) as error:
            raise BadRequest(
                f"{str(image)[:200]!r} cannot be read",
                code="file_unreadable",
                next_step="give the path of an image file",
            ) from error
    import numpy as np
    from PIL import Image

    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise BadRequest(
                f"an array of {image.dtype} with shape {image.shape}; uint8 (height, width, 3) is wanted",
                code="array_unsupported",
                next_step="convert it: (255 * array).round().astype('uint8')",
            )
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise BadRequest(
            f"{type(image).__name__} is no image",
            code="image_type_unsupported",
            next_step="give a Pillow image, an array, bytes or a path",
        )
    png = io.BytesIO()
    (image if image.mode in PNG_MODES else image.convert("RGB")).save(png, "PNG")
    return png.getvalue()


def _error_of(response: httpx.Response) -> LedgerError:
    """The error that the ledger told of, as its own processes would raise it."""
    try:
        problem = response.json()
        detail, code, next_step = str(problem["detail"]), str(problem["code"]), str(problem["next_step"])
    except (ValueError, KeyError, TypeError):
        return _not_a_ledger(response)
    kind = _ERRORS.get(response.status_code, LedgerError)
    return kind(detail, code=code, next_step=next_step, status=response.status_code)


def _not_a_ledger(response: httpx.Response) -> Unavailable:
    return Unavailable(
        f"{response.url.host} answered {response.status_code} in another way than a ledger does",
        code="not_a_ledger",
        next_step="check the address; a proxy before the ledger may be answering in its place",
    )
