"""What is fuzzed: something that reads bytes, the errors it may raise, and good inputs to start from."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ledger.errors import LedgerError
from models.errors import ModelError

Error = type[LedgerError] | type[ModelError]


@dataclass(frozen=True)
class Target:
    read: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: Sequence[bytes]
    drawn: Callable[[random.Random], bytes] | None = None
    """A good, or nearly good, input that is in no corpus."""
    mended: Callable[[bytes], bytes] | None = None
    """Makes checksums right again, so that what lies behind them is reached."""

    def answers(self, data: bytes) -> bool:
        """Whether it reads the data, or refuses them in its documented way; any other exception gets out."""
        try:
            self.read(data)
        except self.errors as error:
            ours = isinstance(error, LedgerError | ModelError)
            return not ours or bool(error.code and error.next_step)  # type: ignore[attr-defined]
        return True
