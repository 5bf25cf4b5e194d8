"""Errors of the two lower floors. They carry the same fields as `ledger.errors.LedgerError`; edges show both alike."""

from functools import partial
from typing import Any


class ModelError(Exception):
    """Bad input to, or an unusable network of, the `models` and `attribution` floors.

    `code` is stable and documented, `status` the HTTP status an edge may answer with, `next_step` what to do about it.
    """

    code = "model_error"
    status = 500

    def __init__(self, detail: str, *, code: str | None = None, next_step: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.next_step = next_step
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        """An error comes back from another process as what it was."""
        return partial(type(self), self.detail, code=self.code, next_step=self.next_step, status=self.status), ()


class ImageError(ModelError):
    """The bytes are no image this project reads, or one beyond its limits."""

    code = "image_unreadable"
    status = 422


class NetworkError(ModelError):
    """A network cannot be loaded from where the settings point."""

    code = "network_unavailable"
    status = 503


class PromptError(ModelError):
    """A prompt the generator does not accept."""

    code = "prompt_refused"
    status = 422
