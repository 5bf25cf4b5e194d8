"""One witness, asked over HTTP: C2SP tlog-witness, seen from the log. Nothing it says is believed without a signature.

A cosignature counts when the key of the policy verifies it over the very checkpoint that was sent. A size in a 409 is
only a claim: it chooses which proof is sent next, and what it says of the log is `witnessing`'s to judge.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from ledger.log.cosignatures import cosigned_at, parse_signature_lines
from ledger.log.merkle import MAX_SIZE
from ledger.log.notes import Note, NoteError, NoteVerifier
from ledger.log.policy import PolicyWitness
from ledger.witness.witness import MAX_REQUEST_BYTES, SIZE, Submission, origin_hash

CONNECT_SECONDS, SILENCE_SECONDS, ANSWER_SECONDS = 3.0, 10.0, 15.0
"""To reach it, its longest silence, the whole answer however slowly it drips."""

MOST_ANSWER_BYTES = 65_536
MOST_AHEAD_SECONDS = 600
"""A cosignature dated further into the future than this would stand in files for ever: it is not taken."""

_DECIMAL_LINE = re.compile(rb"(0|[1-9][0-9]{0,18})\n?")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


class WitnessFailure(Exception):
    """The witness gave nothing that can be used. The text is for the operator, and holds nothing unprintable."""


@dataclass(frozen=True)
class Cosigned:
    """The witness's verified line, with its newline, and when the witness says it signed, in Unix seconds."""

    line: bytes
    at: int


@dataclass(frozen=True)
class Claims:
    """It says that `size` is what it cosigned last for this log. Nothing proves it."""

    size: int


@dataclass(frozen=True)
class Refuses:
    """It does not accept the proof, or holds another root for the size: it may have seen another history."""

    said: str


class WitnessClient:
    """The witness at its URL, which is both its submission and its monitoring prefix. Safe for several threads."""

    def __init__(self, witness: PolicyWitness, *, transport: httpx.BaseTransport | None = None) -> None:
        if witness.url is None:
            raise ValueError("a witness without a URL cannot be asked")
        self.witness = witness
        self._url = witness.url.rstrip("/")
        try:
            # A proxy from the environment leads out of this machine; a witness on it is asked directly.
            beyond = httpx.URL(self._url).host not in {"localhost", "127.0.0.1", "::1"}
        except httpx.InvalidURL:
            beyond = True  # told as a failure when it is asked
        self._http = httpx.Client(
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
            transport=transport,
            trust_env=beyond,
            follow_redirects=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "lawful-ledger"},
        )

    @property
    def verifier(self) -> NoteVerifier:
        return self.witness.verifier

    def close(self) -> None:
        self._http.close()

    def add_checkpoint(self, old_size: int, proof: Sequence[bytes], note: bytes) -> Cosigned | Claims | Refuses:
        """Ask for a cosignature of `note`, which carries the log's own lines only. Raises WitnessFailure."""
        body = Submission.write(old_size, proof, note)
        if len(body) > MAX_REQUEST_BYTES:
            raise WitnessFailure(f"the request would have {len(body)} bytes, witnesses take {MAX_REQUEST_BYTES}")
        status, media_type, answer = self._ask("POST", "/add-checkpoint", body)
        if status == 200:
            return self._cosigned(note, answer)
        if status == 409 and media_type == SIZE:
            match = _DECIMAL_LINE.fullmatch(answer)
            if match is None or int(match[1]) > MAX_SIZE:
                raise WitnessFailure("it answered 409 without a size")
            return Claims(int(match[1]))
        if status in (409, 422):
            return Refuses(f"it answered {status}: {_printable(answer)}")
        raise WitnessFailure(f"it answered {status}: {_printable(answer)}")

    def checkpoint(self, origin: str) -> bytes | None:
        """The signed note it shows as its newest for this log, nothing verified; None if it shows none."""
        status, _, answer = self._ask("GET", f"/{origin_hash(origin)}/checkpoint", None)
        return answer if status == 200 else None

    def _cosigned(self, note: bytes, answer: bytes) -> Cosigned:
        """The line of the policy's key; others are ignored, as are false ones beside a good one."""
        text = Note.parse(note).text
        try:
            lines = parse_signature_lines(answer)
        except NoteError as error:
            raise WitnessFailure(f"its answer is not signature lines: {error.detail}") from error
        for line in lines:
            times = cosigned_at(Note(text, (line,)), [self.verifier])
            if times:
                at = times[self.verifier]
                if at > time.time() + MOST_AHEAD_SECONDS:
                    raise WitnessFailure("its cosignature is dated in the future; its clock or ours is wrong")
                return Cosigned(line.to_bytes(), at)
        raise WitnessFailure("its answer holds no valid cosignature by the key of the policy")

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, str, bytes]:
        deadline = time.monotonic() + ANSWER_SECONDS
        answer = bytearray()
        try:
            with self._http.stream(method, self._url + path, content=body) as response:
                for chunk in response.iter_raw():
                    answer += chunk
                    if len(answer) > MOST_ANSWER_BYTES:
                        raise WitnessFailure(f"its answer has more than {MOST_ANSWER_BYTES} bytes")
                    if time.monotonic() > deadline:
                        raise WitnessFailure(f"its answer took more than {ANSWER_SECONDS:g} s")
                media_type = response.headers.get("content-type", "").partition(";")[0].strip()
                return response.status_code, media_type, bytes(answer)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise WitnessFailure(f"it cannot be reached: {type(error).__name__}: {_printable(str(error))}") from error


def _printable(text: str | bytes) -> str:
    """Somebody else's words, cut and made harmless for a terminal and a database."""
    words = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    return _UNPRINTABLE.sub(" ", words[:400]).strip()[:200]
