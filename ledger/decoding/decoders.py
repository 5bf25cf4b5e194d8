"""The parent's side: a few decoder processes, started when they are needed and again when they died.

What a file does to a decoder costs that file's answer and nobody else's:

it crashes, asks for too much memory or computes too long   ImageError 422 `image_undecodable`: it always would
no answer within `ANSWER_SECONDS`, no start, or killed      Unavailable 503 `decoder_lost`: not the file's doing, maybe
no decoder free in that time                                Unavailable 503 `decoders_busy`

What comes back is checked for its form alone: who takes a decoder over may lie about the file that did it, no more.
"""

import contextlib
import hashlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from ledger.credentials.read import CredentialReading
from ledger.decoding.messages import (
    Answer,
    Broke,
    Credential,
    Decode,
    Picture,
    ReadCredential,
    Refused,
    Request,
    Terms,
    read,
    reading_of,
    write,
)
from ledger.errors import BadRequest, Unavailable
from models.errors import ImageError
from models.images import DecodedImage, Limits

MEMORY_BYTES = 2 * 2**30  # of address space; the largest WebP with alpha that `Limits` lets in takes 1.6 GiB
CPU_SECONDS = 30  # for one file; the same picture takes eight on a slow processor
ANSWER_SECONDS = 120.0
START_SECONDS = 120.0
PIPE_BYTES = 2**20

_logger = structlog.get_logger(__name__)


class Decoders:
    """A `FileReader` whose work is done by other processes, `at_once` of them at most. Any thread may ask."""

    def __init__(
        self,
        limits: Limits,
        *,
        at_once: int = 2,
        memory_bytes: int = MEMORY_BYTES,
        cpu_seconds: int = CPU_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._terms = Terms(limits, memory_bytes, cpu_seconds)
        self._patience = answer_seconds
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()  # None: one that may be started
        for _ in range(at_once):
            self._idle.put(None)
        self._running: set[_Child] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, count: int = 1) -> None:
        """Have `count` decoders running and do not wait for them: the first files then do not pay for the start."""
        with contextlib.ExitStack() as taken:
            for _ in range(count):
                taken.enter_context(self._child())

    def close(self) -> None:
        """End all decoders. Whoever waits for one gets `decoder_lost`."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for child in running:
            child.end()

    @property
    def pids(self) -> list[int]:
        with self._lock:
            return [child.process.pid for child in self._running]

    def decode(self, data: bytes) -> DecodedImage:
        """As `models.images.decode`, to the bit. Raises ImageError, also `image_undecodable`; Unavailable."""
        answer, pixels = self._ask(Decode(), data)
        if not isinstance(answer, Picture) or pixels is None:
            raise _undecodable("the decoder answered something else")
        pixels.flags.writeable = False
        return DecodedImage(pixels, answer.media_type, tuple(answer.changes))

    def read_credential(self, data: bytes, media_type: str, *, anchors_pem: str, now: datetime) -> CredentialReading:
        """As `ledger.credentials.read.read_credential`; a credential that ends the decoder is `unreadable`.

        Raises BadRequest `anchors_unreadable`, Unavailable.
        """
        try:
            answer, _ = self._ask(ReadCredential(media_type, anchors_pem, now), data)
            if isinstance(answer, Credential):
                return reading_of(answer.reading)
            raise _undecodable("the decoder answered something else")
        except (ImageError, msgspec.ValidationError) as error:
            trusted = hashlib.sha256(anchors_pem.encode()).hexdigest()
            return CredentialReading("unreadable", now, trusted, codes=["reader.ended"], reason=str(error))

    def _ask(self, request: Request, data: bytes) -> tuple[Answer, NDArray[np.uint8] | None]:
        with self._child() as child:
            try:
                answer, pixels = child.ask(request, data, self._terms.limits, self._patience)
            except (OSError, EOFError, msgspec.MsgspecError) as error:
                raise self._lost(child) from error
            if isinstance(answer, Broke):
                raise self._lost(child, answer.error)
        if isinstance(answer, Refused):
            kind = ImageError if answer.of_image else BadRequest
            raise kind(answer.detail, code=answer.code, next_step=answer.next_step, status=answer.status)
        return answer, pixels

    @contextlib.contextmanager
    def _child(self) -> Iterator["_Child"]:
        """A decoder that runs, for one file. One that ended meanwhile is replaced."""
        try:
            child = self._idle.get(timeout=self._patience)
        except queue.Empty:
            raise Unavailable(
                "every image decoder is busy", code="decoders_busy", next_step="send it again in a few seconds"
            ) from None
        try:
            if child is not None and child.process.poll() is not None:
                self._forget(child)
                child = None
            child = child or self._started()
            yield child
        finally:
            if child is not None and child.ended:
                self._forget(child)
                child = None
            self._idle.put(child)

    def _started(self) -> "_Child":
        with self._lock:
            if self._closed:
                raise Unavailable(
                    "this process is about to end", code="decoder_lost", next_step="send it again in a moment"
                )
            try:
                child = _Child(self._terms)
            except OSError as error:
                raise Unavailable(
                    f"no image decoder could be started: {error.strerror}",
                    code="decoder_lost",
                    next_step="send it again in a moment",
                ) from error
            self._running.add(child)
            return child

    def _forget(self, child: "_Child") -> None:
        child.end()
        with self._lock:
            self._running.discard(child)

    def _lost(self, child: "_Child", error: str | None = None) -> Unavailable | ImageError:
        """What is said of a file whose decoder did not answer; the decoder has ended by then."""
        code = child.end(patience=1.0)
        by_itself = child.ready and not child.late and code not in (None, -signal.SIGKILL)
        said = error or (signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}")
        _logger.warning("decoder_lost", ended=said, late=child.late)
        if error == "MemoryError":
            return _undecodable(f"it takes more than {self._terms.memory_bytes / 2**30:.1f} GiB of memory")
        if code == -signal.SIGXCPU:
            return _undecodable(f"it takes more than {self._terms.cpu_seconds} seconds of computing")
        if error is not None or by_itself:
            return _undecodable("the decoder broke over it")
        why = f"gave no answer in {self._patience:.0f} seconds" if child.late else "was ended from outside"
        why = why if child.ready else "could not be started"
        return Unavailable(f"the image decoder {why}", code="decoder_lost", next_step="send it again in a moment")


class _Child:
    """One process and its pipes. Used by one thread at a time; `end` may come from any."""

    def __init__(self, terms: Terms) -> None:
        # -P, -s: what is imported is what this process would import, and nothing that lies in a folder it stands in.
        # One arena and one thread: address space is what is limited. None of our environment: it may hold secrets.
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-P", "-s", "-m", "ledger.decoding.child", msgspec.json.encode(terms).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                "PYTHONPATH": os.pathsep.join(str(Path(each).absolute()) for each in sys.path),
                "OPENBLAS_NUM_THREADS": "1",
                "MALLOC_ARENA_MAX": "1",
            },
            pipesize=PIPE_BYTES,
        )
        self.late = self.ended = self.ready = False

    def ask(
        self, request: Request, data: bytes, limits: Limits, patience: float
    ) -> tuple[Answer, NDArray[np.uint8] | None]:
        """Raises OSError, EOFError, msgspec.MsgspecError when no answer comes, or one that cannot be."""
        requests, answers = self.process.stdin, self.process.stdout
        assert requests is not None
        assert answers is not None
        if not self.ready:
            with self._deadline(START_SECONDS):
                if answers.read(1) != b"\n":
                    raise EOFError
            self.ready = True
        with self._deadline(patience):
            write(requests, request, data)
            answer, length = read(answers, Answer)
            if not isinstance(answer, Picture):
                if length:
                    raise msgspec.DecodeError("pixels where none belong")
                return answer, None
            shape = (answer.height, answer.width, 3)
            if not (min(shape) > 0 and max(shape) <= limits.max_side and shape[0] * shape[1] <= limits.max_pixels):
                raise msgspec.DecodeError("a picture beyond the limits")
            pixels = np.empty(shape, np.uint8)
            if length != pixels.size or answers.readinto(pixels.data.cast("B")) != length:  # type: ignore[attr-defined]
                raise EOFError
            return answer, pixels

    @contextlib.contextmanager
    def _deadline(self, seconds: float) -> Iterator[None]:
        """Kill the process unless the block ends before: reads and writes that wait for it then fail."""

        def kill() -> None:
            self.late = True
            self.process.kill()

        timer = threading.Timer(seconds, kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # from here on nobody kills it any more
            if self.late:
                self.end()

    def end(self, patience: float = 0.0) -> int | None:
        """Its exit code, negative for a signal; None when it had to be killed."""
        self.ended = True
        code: int | None = None
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError, ValueError):  # what was not sent yet is not sent
                    pipe.close()
        return code


def _undecodable(why: str) -> ImageError:
    return ImageError(
        f"The file could not be opened: {why}.",
        code="image_undecodable",
        next_step="Open it in an image program, save it again and send that.",
    )
