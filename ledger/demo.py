"""`lawful demo`: the whole way once, with the very commands and the client that others use.

Found a ledger in a folder, draw the built-in collection, index it, start `lawful up`, make an image over HTTP, then ask
the ledger about that image and about copies of it. What is left behind: generated.png, report.json, report.pdf,
summary.json, the copies, the collection and the ledger itself, so that a second run has less to do.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ledger import api_keys, genesis, supervisor
from ledger.client import Ledger
from ledger.commands.files import write_whole
from ledger.commands.frame import Invocation
from ledger.database.session import open_database
from ledger.errors import LedgerError, Unavailable
from ledger.runtime import open_runtime
from ledger.settings import Settings
from ledger.tampering import copies
from models.images import encode_png

PROMPT = "a lighthouse in the manner of Studio Clerestory"
SEED = 7
WORKS = 25  # by each of twelve studios, and seven planted copies: axes that share 1 in 100 need up to 299
PORTS = 5  # tried, should others take each just before us
STOP_PATIENCE = supervisor.STOP_PATIENCE + 10

Say = Callable[[str], None]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One copy and what the ledger said of it; `seconds` is the whole request as its sender sees it."""

    name: str
    file: str
    answers: dict[str, str]
    found_by: str | None
    candidates: int
    verdict: str
    seconds: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What `summary.json` holds; `seconds` by step."""

    url: str
    page: str
    prompt: str
    seed: int
    record: dict[str, Any]
    finding: str
    collection: dict[str, Any]
    copies: list[Row]
    seconds: dict[str, float]


@contextmanager
def demo(folder: Path, invocation: Invocation, say: Say) -> Iterator[Summary]:
    """Do it all; the ledger serves while the context is open and is stopped, with all its parts, when it closes.

    `invocation` gives further settings; its home is `folder`/ledger. Raises LedgerError as the commands do.
    """
    watch = _Watch(say)
    folder.mkdir(parents=True, exist_ok=True)
    own = Invocation(folder.absolute() / "ledger", invocation.overrides)
    settings = own.settings()
    watch.step("found", "founding a ledger (keys, database, the log's first entry)")
    api_key = _found(settings)
    with open_database(settings):  # holds the embedded server over the steps that come and go
        watch.step("draw", "drawing the collection")
        _draw(folder / "collection")
        watch.step("index", "indexing it, and starting worker and web meanwhile")
        with (
            _indexing(own, folder / "collection") as indexed,
            _running(own, folder / "ledger.log") as url,
            Ledger(url, api_key=api_key) as ledger,
        ):
            collection = indexed()
            watch.step("generate", f"generating over HTTP: {PROMPT}")
            made = ledger.generate(PROMPT, seed=SEED)
            report = ledger.report(made.record["id"])
            write_whole(folder / "generated.png", made.data, force=True)
            write_whole(folder / "report.json", report, force=True)
            watch.step("report", "drawing up its signed report")
            write_whole(folder / "report.pdf", ledger.report_pdf(made.record["id"]), force=True)
            watch.step("verify", "asking the ledger about it and about copies of it")
            rows = _ask_about_copies(ledger, made.data, folder)
            watch.end()
            summary = Summary(
                url=url,
                page=f"{url}/r/{made.record['file_sha256']}",
                prompt=PROMPT,
                seed=SEED,
                record=made.record,
                finding=json.loads(report)["evidence"]["statement"],
                collection=collection,
                copies=rows,
                seconds=watch.seconds,
            )
            document = msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"
            write_whole(folder / "summary.json", document, force=True)
            yield summary
            say("stopping …")


def _found(settings: Settings) -> str:
    """The API key of this demo's ledger, kept beside it for its next run."""
    kept = settings.home / "demo-api-key"
    key = genesis.found(settings).api_key
    if key is None and kept.exists():
        return kept.read_text(encoding="ascii").strip()
    if key is None:
        with open_runtime(settings) as runtime, runtime.sessions.begin() as session:
            key = api_keys.make(session, runtime, genesis.OPERATOR, "operator", "made by lawful demo")[1]
    with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(key + "\n")
    return key


def _draw(folder: Path) -> None:
    """Drawn aside and moved there whole: a folder that exists is complete."""
    if folder.exists():
        return
    from ledger.lab import draw_collection

    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".collection-"))
    try:
        draw_collection(aside, WORKS)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _indexing(own: Invocation, folder: Path) -> Iterator[Callable[[], dict[str, Any]]]:
    """`lawful index` as a process of its own; what is yielded waits for its answer. Left early, it is told to stop."""
    with subprocess.Popen(  # noqa: S603 - our own command
        own.argv("index", str(folder / "works.csv"), "--collection", "atelier", "--json"), stdout=subprocess.PIPE
    ) as process:

        def answer() -> dict[str, Any]:
            told, _ = process.communicate()
            answer = _document(told)
            if process.returncode != 0 or answer is None:
                raise _failed(answer, f"lawful index ended with exit code {process.returncode}")
            return answer

        try:
            yield answer
        finally:
            if process.poll() is None:
                process.terminate()


@contextmanager
def _running(own: Invocation, log: Path) -> Iterator[str]:
    """`lawful up` as a process of its own, with its messages in `log`; yields its URL once it is ready."""
    process, url = _start(own, log)
    with process:
        try:
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _start(own: Invocation, log: Path) -> "tuple[subprocess.Popen[bytes], str]":
    """`lawful up` on a free port: on another one when somebody takes that port before it listens."""
    for attempt in range(PORTS):
        with log.open("wb") as messages:
            process = subprocess.Popen(  # noqa: S603 - our own command
                Invocation(own.home, (*own.overrides, f"port={_free_port(own.settings())}")).argv(
                    "up", "--supervised", "--json"
                ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                start_new_session=True,
            )
        try:
            assert process.stdout is not None
            told = b""
            while (answer := _document(told)) is None and (line := process.stdout.readline()):
                told += line
        except BaseException:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
        if answer is not None and "url" in answer:
            return process, answer["url"]
        with process:  # it ends by itself after an error
            process.wait(STOP_PATIENCE)
        error = _failed(answer, f"lawful up ended before it was ready; {log} says why")
        if error.code != "address_in_use" or attempt == PORTS - 1:
            raise error
    raise AssertionError


def _ask_about_copies(ledger: Ledger, png: bytes, folder: Path) -> list[Row]:
    rows = []
    (folder / "copies").mkdir(exist_ok=True)
    for name, file, data in [*copies(png), ("other picture", "other.png", _unrelated())]:
        path = folder / file if name == "original" else folder / "copies" / file
        write_whole(path, data, force=True)
        began = time.monotonic()
        found = ledger.verify(data)
        rows.append(
            Row(
                name=name,
                file=str(path.relative_to(folder)),
                answers=found["answers"],
                found_by=found["found_by"],
                candidates=len(found["candidates"]),
                verdict=found["verdict"],
                seconds=round(time.monotonic() - began, 3),
            )
        )
    return rows


def _unrelated() -> bytes:
    """A picture that nobody's hand drew: interfering waves in three colours."""
    y, x = np.mgrid[0:256, 0:256] / 256.0
    waves = [np.sin(9 * x + k) * np.cos(7 * y - k) + np.sin(12 * (x * y) + 2 * k) for k in (0.0, 0.9, 2.1)]
    return encode_png(np.stack([(wave + 2) * 63.75 for wave in waves], axis=-1).astype(np.uint8))


def _free_port(settings: Settings) -> int:
    """The port of the settings, or any other when that one is taken."""
    try:
        listener = supervisor.listen(settings.host, settings.port)
    except LedgerError:
        listener = supervisor.listen(settings.host, 0)
    with listener:
        return int(listener.getsockname()[1])


def _document(told: bytes) -> dict[str, Any] | None:
    """The JSON object that a command printed, once it is complete."""
    try:
        document = json.loads(told)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _failed(answer: dict[str, Any] | None, otherwise: str) -> LedgerError:
    """The error that a command of ours reported, told on."""
    error = (answer or {}).get("error")
    if error is None:
        return Unavailable(otherwise, code="demo_failed", next_step="see `lawful --home demo/ledger doctor`")
    return LedgerError(error["detail"], code=error["code"], next_step=error["next_step"], status=error["status"])


class _Watch:
    """Says each step as it begins and how long it took."""

    def __init__(self, say: Say) -> None:
        self._say, self._began, self._step = say, time.monotonic(), ""
        self.seconds: dict[str, float] = {}
        self._start = self._began

    def step(self, name: str, said: str) -> None:
        self._close()
        self._step = name
        self._say(f"{said} …")

    def end(self) -> None:
        self._close()
        self.seconds["total"] = round(time.monotonic() - self._start, 2)
        self._say(f"done in {self.seconds['total']:.0f} s")

    def _close(self) -> None:
        now = time.monotonic()
        if self._step:
            self.seconds[self._step] = round(now - self._began, 2)
        self._began = now
