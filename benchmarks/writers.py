"""Verifications, stamps and generations at their appointed times, each followed until it has ended; and, afterwards,
whether everything that was acknowledged is there: once, in the log, in a file that proves it.
"""

import asyncio
import hashlib
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import msgspec
import numpy as np
import psycopg

from benchmarks.open_loop import BACK_PRESSURE, Http, Reply, percentiles
from ledger.commands.checking import believed, believed_roots
from ledger.runtime import utc_now
from ledger.settings import Settings
from ledger.verify import verify
from models.atelier.collection import SUBJECTS, draw
from models.atelier.studios import STUDIOS
from models.images import encode_png

Kind = Literal["verification", "stamp", "generation"]
SIDE = 256
POLL_SECONDS, LONGEST_POLL = 0.5, 5.0  # between two looks at a record: rarer the longer it takes, as polite clients do
PATIENCE = 600.0  # for one record; whoever waits longer calls it unfinished
AGAIN = {0, 429, 500, 502, 503, 504, 507}
"""Statuses (0: no answer) after which a careful client sends the same write again, under the same key."""


@dataclass
class Write:
    """One write and what became of it. Times in seconds from when it was due."""

    kind: Kind
    due: float  # monotonic
    key: str = field(default_factory=lambda: str(uuid.uuid4()))
    image: bytes = b""
    status: int = 0  # of the answer to it; 0: none
    refused: Counter[str] = field(default_factory=Counter)  # answers before the last one, where it was sent again
    back_pressure: bool = False
    answered: float | None = None
    record_id: str | None = None
    ended: Literal["done", "failed"] | None = None
    failure: str | None = None
    finished: float | None = None

    @property
    def acknowledged(self) -> bool:
        return self.record_id is not None


class Writers(threading.Thread):
    """`rates`: writes a minute. With `again`, what had no answer or was refused for now is sent again, under its key.

    A verification has no key: sent again, it is another look, and each that was acknowledged counts.
    """

    def __init__(
        self, port: int, api_key: str, rates: Mapping[Kind, float], *, seed: int, again: bool, recorded: Sequence[bytes]
    ) -> None:
        super().__init__(name="writers", daemon=True)
        self._http, self._authorization = Http(port), {"Authorization": f"Bearer {api_key}"}
        self._rates, self._seed, self._again = rates, seed, again
        self._recorded = recorded
        self._ended, self._left = threading.Event(), threading.Event()
        self.writes: list[Write] = []

    def run(self) -> None:
        asyncio.run(self._run())

    def do(self, *kinds: Kind) -> list[Write]:
        """One write of each, now; returns when they have ended. In place of `start`."""
        writes = [Write(kind, time.monotonic()) for kind in kinds]

        async def together() -> None:
            chance = np.random.default_rng(self._seed)
            await asyncio.gather(*(self._do(write, chance) for write in writes))
            self._http.close()

        asyncio.run(together())
        return writes

    def stop(self, *, leave: bool = False) -> None:
        """No new ones; returns when all have ended or their patience is over. `leave`: nobody waits any more."""
        self._ended.set()
        if leave:
            self._left.set()
        self.join()

    async def _run(self) -> None:
        following: set[asyncio.Task[None]] = set()

        async def schedule(kind: Kind, rate: float, number: int) -> None:
            chance = np.random.default_rng([self._seed, number])
            due = time.monotonic()
            while not self._ended.is_set():
                due += chance.exponential(60 / rate)
                while (ahead := due - time.monotonic()) > 0:
                    await asyncio.sleep(min(ahead, 1.0))
                    if self._ended.is_set():
                        return
                write = Write(kind, due)
                self.writes.append(write)
                task = asyncio.create_task(self._do(write, chance))
                following.add(task)
                task.add_done_callback(following.discard)

        wanted = [(kind, rate) for kind, rate in self._rates.items() if rate > 0]
        await asyncio.gather(*(schedule(kind, rate, number) for number, (kind, rate) in enumerate(wanted)))
        await asyncio.gather(*following)
        self._http.close()

    async def _do(self, write: Write, chance: np.random.Generator) -> None:
        path, headers, body = self._request(write, chance)
        deadline = write.due + PATIENCE
        while True:
            reply = await self._send("POST", path, headers, body)
            write.status = reply.status
            if reply.status in (201, 202) or not self._again or reply.status not in AGAIN:
                break
            if time.monotonic() > deadline or self._left.is_set():
                return
            write.refused[str(reply.status)] += 1
            await asyncio.sleep(POLL_SECONDS)
        write.answered = time.monotonic() - write.due
        if reply.status not in (201, 202):
            write.back_pressure = reply.status in BACK_PRESSURE and reply.header("retry-after") is not None
            return
        write.record_id = (reply.header("location") or "").rpartition("/")[2]
        await self._follow(write, deadline)

    def _request(self, write: Write, chance: np.random.Generator) -> tuple[str, dict[str, str], bytes]:
        if write.kind == "generation":
            said = {"prompt": f"a boat, no. {write.key}", "seed": int(chance.integers(2**31))}
            return "/v1/generations", self._headers(write, "application/json"), json.dumps(said).encode()
        if write.kind == "verification":
            if self._recorded and chance.random() < 0.5:
                write.image = self._recorded[int(chance.integers(len(self._recorded)))]
            else:
                write.image = picture(chance)
            return "/v1/verifications", {"Content-Type": "image/png"}, write.image
        write.image = picture(chance)
        form = httpx.Request(
            "POST", "http://form", files={"file": ("a.png", write.image)}, data={"model": "somebody's"}
        )
        return "/v1/stamps", self._headers(write, form.headers["content-type"]), form.read()

    def _headers(self, write: Write, content_type: str) -> dict[str, str]:
        return {**self._authorization, "Content-Type": content_type, "Idempotency-Key": write.key}

    async def _follow(self, write: Write, deadline: float) -> None:
        pause = POLL_SECONDS
        while time.monotonic() < deadline and not self._left.is_set():
            reply = await self._send("GET", f"/v1/{write.kind}s/{write.record_id}")
            if reply.status == 200:
                state = json.loads(reply.body).get("state")
                if write.kind == "verification" or state == "issued":
                    write.ended = "done"
            elif reply.status >= 400 and not (reply.status in AGAIN and _is_passing(reply)):
                write.ended, write.failure = "failed", json.loads(reply.body).get("code")
            if write.ended:
                write.finished = time.monotonic() - write.due
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.2, LONGEST_POLL)

    async def _send(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Reply:
        try:
            return await self._http.send(method, path, headers, body)
        except (OSError, EOFError, TimeoutError):
            return Reply(0, b"", b"")


def _is_passing(reply: Reply) -> bool:
    """Of the service, and not the stored failure of the record that was asked for."""
    return reply.status in (0, 502, 504) or reply.header("retry-after") is not None or b"internal_error" in reply.body


def picture(chance: np.random.Generator) -> bytes:
    """A drawing that nobody has handed in before, as PNG: no two are the same, pixel for pixel."""
    studio, subject = STUDIOS[int(chance.integers(len(STUDIOS)))], SUBJECTS[int(chance.integers(len(SUBJECTS)))]
    pixels = draw(studio.slug, subject, int(chance.integers(10**9)), SIDE)
    pixels[:4, :4] = chance.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return encode_png(pixels)


def summary(writes: Sequence[Write]) -> dict[str, Any]:
    """Per kind: how many, how they ended, from due to accepted and from due to done."""
    found = {}
    for kind in ("verification", "stamp", "generation"):
        ours = [write for write in writes if write.kind == kind]
        refused = [write for write in ours if not write.acknowledged]
        errors = Counter(str(write.status or "no answer") for write in refused if not write.back_pressure)
        found[kind] = {
            "count": len(ours),
            "acknowledged": sum(write.acknowledged for write in ours),
            "done": sum(write.ended == "done" for write in ours),
            "failed": dict(Counter(write.failure for write in ours if write.ended == "failed")),
            "not_ended": sum(write.acknowledged and write.ended is None for write in ours),
            "back_pressure": dict(Counter(str(write.status) for write in refused if write.back_pressure)),
            "errors": dict(errors),
            "sent_again_after": dict(sum((write.refused for write in ours), Counter[str]())),
            "until_accepted": percentiles(np.asarray([w.answered for w in ours if w.acknowledged and w.answered])),
            "until_done": percentiles(np.asarray([w.finished for w in ours if w.ended == "done" and w.finished])),
        }
    return found


# ---- what was acknowledged is there ----------------------------------------------------------------------------------

_STANDING = """
    SELECT records.id, kind, state,
        (SELECT count(*) FROM log_entries WHERE leaf_hash = records.leaf_hash),
        (SELECT count(*) FROM log_entries WHERE leaf_hash = records.issued_leaf),
        (SELECT count(*) FROM log_outbox WHERE leaf_hash IN (records.leaf_hash, records.issued_leaf)),
        failure IS NOT NULL
    FROM records WHERE records.id = ANY (%s)
"""
_DOUBLED = """
    SELECT count(*) FROM (
        SELECT submitted_sha256 FROM records WHERE kind = 'stamp' AND submitted_sha256 = ANY (%s)
        GROUP BY 1 HAVING count(*) > 1) AS doubled
"""
_JOBS = "SELECT count(*) FROM procrastinate_jobs WHERE queue_name = 'images' AND status IN ('todo', 'doing')"


@dataclass
class Standing:
    """`lost`: acknowledged, and not there as it should be; with the reason. All of it empty or 0 where all is well."""

    acknowledged: int
    done: int
    failed_visibly: int
    unfinished: list[str]
    lost: dict[str, str]
    doubled: int
    files_checked: int

    @property
    def is_well(self) -> bool:
        return not (self.lost or self.doubled or self.unfinished)


def settle(url: str, writes: Sequence[Write], *, and_queue: bool, seconds: float = PATIENCE) -> float:
    """Seconds until every acknowledged record has ended, `and_queue`: and no job is left; gives up after `seconds`.

    `url` is the database's, as any role that may read.
    """
    begun = time.monotonic()
    ids = [uuid.UUID(write.record_id) for write in writes if write.record_id]
    with psycopg.connect(url, autocommit=True) as connection:
        while time.monotonic() - begun < seconds:
            (left,) = connection.execute(_JOBS).fetchone() or (0,)
            rows = connection.execute(_STANDING, (ids,)).fetchall()
            if not (left and and_queue) and all(_has_ended(*row[1:6]) for row in rows):
                break
            time.sleep(POLL_SECONDS)
    return time.monotonic() - begun


def _has_ended(kind: str, state: str, entry: int, _issued: int, waiting: int) -> bool:
    if kind == "verification" and state != "abandoned":
        return state in ("signed", "sealed", "issued") and entry > 0
    return state in ("issued", "abandoned") and not waiting


def audit(settings: Settings, url: str, writes: Sequence[Write], files: int | None = None) -> Standing:
    """Look each acknowledged record up in the database and in the log, and verify its file offline.

    `files`: of how many, the newest; None: of all.
    """
    ids = [uuid.UUID(write.record_id) for write in writes if write.record_id]
    images = [hashlib.sha256(write.image).digest() for write in writes if write.kind == "stamp" and write.acknowledged]
    with psycopg.connect(url, autocommit=True) as connection:
        rows = {row[0]: row for row in connection.execute(_STANDING, (ids,))}
        (doubled,) = connection.execute(_DOUBLED, (images,)).fetchone() or (0,)
    lost = {str(each): "no record" for each in ids if each not in rows}
    lost |= {str(each): "two writes were told of it" for each, count in Counter(ids).items() if count > 1}
    done, failed, unfinished, issued = 0, 0, [], []
    for record_id, (_, kind, state, entry, issued_entry, waiting, has_failure) in rows.items():
        if state == "abandoned":
            failed += 1
            if not has_failure:
                lost[str(record_id)] = "abandoned without a reason"
        elif not _has_ended(kind, state, entry, issued_entry, waiting):
            unfinished.append(f"{record_id}: {kind} {state}")
        elif entry != 1 or (kind != "verification" and issued_entry != 1):
            lost[str(record_id)] = f"{entry} entries, {issued_entry} that say issued"
        else:
            done += 1
            if kind != "verification":
                issued.append(str(record_id))
    looked = sorted(issued)[-files:] if files is not None else issued  # ids begin with the time
    for record_id in looked:
        if (wrong := _file_fails(settings, record_id)) is not None:
            lost[record_id] = wrong
    return Standing(len(set(ids)), done, failed, unfinished, lost, doubled, len(looked))


def _file_fails(settings: Settings, record_id: str) -> str | None:
    """What is wrong with its file, checked with this ledger's own keys and neither its database nor its word."""
    answer = httpx.get(f"http://127.0.0.1:{settings.port}/v1/records/{record_id}/file", timeout=60, trust_env=False)
    if answer.status_code != 200:
        return f"its file: {answer.status_code}"
    trust = believed(settings, (), (), None)
    found = verify(
        answer.content,
        session=None,
        anchors_pem=believed_roots(settings, ()),
        log_vkeys=trust.log_vkeys,
        witness_vkeys=trust.witness_vkeys,
        policy=trust.policy,
        examine=None,
        now=utc_now(),
    )
    said = msgspec.to_builtins(found.answers)
    wanted = {"credential": "present", "content": "intact", "signature": "valid", "ledger": "recorded"}
    wrong = {name: said[name] for name, value in wanted.items() if said[name] != value}
    return f"its file: {wrong}" if wrong else None
