"""The process that opens strangers' files: `python -m ledger.decoding.child TERMS`, requests on stdin, answers on
stdout.

It holds no key, no socket and no address of the database, may write no file, and takes no more memory and processor
time than its terms say. It ends when its stdin does. Light: Pillow, numpy and c2pa; no torch, no database.
"""

import math
import os
import resource
import signal
import sys
import time
from typing import IO

import msgspec

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
    exactly,
    read,
    reading_as_json,
    write,
)
from ledger.decoding.reading import FileReader, InThisProcess
from ledger.errors import LedgerError
from models.errors import ModelError

OPEN_FILES = 16


def main() -> None:
    terms = msgspec.json.decode(sys.argv[1], type=Terms)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    _confine(terms)
    answers.write(b"\n")  # ready: what follows is within the limits
    answers.flush()
    _silence()
    files = InThisProcess(terms.limits)
    while (asked := _next(requests)) is not None:
        request, data = asked
        _allow_seconds(terms.cpu_seconds)
        answer, payload = _answer(files, request, data)
        write(answers, answer, payload)
        del asked, data, answer, payload


def _next(requests: IO[bytes]) -> tuple[Request, bytes] | None:
    try:
        request, length = read(requests, Request)
        return request, exactly(requests, length)
    except EOFError:
        return None


def _answer(files: FileReader, request: Request, data: bytes) -> tuple[Answer, bytes | memoryview]:
    try:
        match request:
            case Decode():
                image = files.decode(data)
                height, width, _ = image.pixels.shape
                return Picture(image.media_type, height, width, image.changes), image.pixels.data
            case ReadCredential(media_type, anchors_pem, now):
                reading = files.read_credential(data, media_type, anchors_pem=anchors_pem, now=now)
                return Credential(reading_as_json(reading)), b""
    except (LedgerError, ModelError) as error:
        of_image = isinstance(error, ModelError)
        return Refused(of_image, error.detail, error.code, error.next_step, error.status), b""
    except Exception as error:  # noqa: BLE001 - the parent is told, and ends this process
        return Broke(type(error).__name__), b""


def _confine(terms: Terms) -> None:
    for what, limit in (
        (resource.RLIMIT_AS, terms.memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (limit, limit))
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which then closes our stdin
        signal.signal(number, signal.SIG_IGN)


def _allow_seconds(seconds: int) -> None:
    """SIGXCPU ends a file that takes longer. Counted in processor time: a busy machine is not the file's fault."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + seconds, most))


def _silence() -> None:
    """What native libraries print about a hostile file goes nowhere; least of all between two answers."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)


if __name__ == "__main__":
    main()
    os._exit(0)  # nothing is left to do, and tidying up takes seconds on a busy machine
