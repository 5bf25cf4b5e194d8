"""The log goes round by round: what it has published is sent to its witnesses until enough of them have cosigned it.

The newest published checkpoint becomes the *target*, and every witness is asked for that one, each in a thread of its
own. Enough cosignatures for the policy make it *witnessed* (a row with the log's line and theirs), and the next round
begins, at most one an interval. Without a quorum the target is held until every witness has cosigned or failed, for
`PATIENCE` seconds at most: otherwise slow witnesses would for ever sign different sizes.
"""

import datetime as dt
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from sqlalchemy.orm import Session, sessionmaker

from ledger.errors import Inconsistent, LedgerError
from ledger.log.notes import NoteVerifier
from ledger.log.policy import NO_QUORUM, Policy
from ledger.log.sequencer import SequencerThread
from ledger.log.shard import Head
from ledger.log.statements import StatementKey
from ledger.witness.asking import Witnesses
from ledger.witness.client import Cosigned, WitnessClient, WitnessFailure
from ledger.witness.entries import record_policy

__all__ = ["Witnesses", "Witnessing", "WitnessingThread", "witnessing"]

PATIENCE = 30.0
"""Seconds for which a target without a quorum is held for a witness that neither answers nor fails."""

LONGEST_PAUSE = 60.0
"""Seconds until a witness that fails and fails is asked again."""

_logger = structlog.get_logger(__name__)


@dataclass
class _Round:
    """What is asked for now. `lines` are verified cosignatures of this very target; `stale`: a witness is beyond it."""

    target: Head
    begun: float
    lines: dict[NoteVerifier, bytes] = field(default_factory=dict)
    stored: bool = False
    stale: bool = False


class WitnessingThread(threading.Thread):
    """Goes round by round while `active` says that this process writes the log; otherwise stands by.

    `halt` is called, once, with the Inconsistent that a witness has proven; `failure` keeps it, and nothing more is
    sent. `wake` shortens the wait for a new checkpoint. `stop` ends it: requests under way are not waited for.
    """

    def __init__(
        self,
        witnesses: Witnesses,
        *,
        interval: float = 1.0,
        active: Callable[[], bool] = lambda: True,
        halt: Callable[[Inconsistent], None] = lambda _: None,
    ) -> None:
        super().__init__(name="witnessing", daemon=True)
        self._witnesses = witnesses
        self._interval = interval
        self._active = active
        self._halt = halt
        self._stop_asked = threading.Event()
        self._changed = threading.Condition()
        self._woken = False
        self._round: _Round | None = None
        self._away: set[NoteVerifier] = set()  # those that failed and are not asked again yet
        self.failure: Inconsistent | None = None

    def wake(self, _: object = None) -> None:
        """Something was published. Cheap; may be the sequencer's `publish`."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def stop(self, timeout: float | None = 5.0) -> None:
        self._stop_asked.set()
        self.wake()
        if self.is_alive():
            self.join(timeout)

    def run(self) -> None:
        """Choose targets and store what was witnessed; one thread more for each witness does the asking."""
        for client in self._witnesses.clients:
            threading.Thread(target=self._follow, args=(client,), name="witness", daemon=True).start()
        while not self._ended:
            try:
                if self._active():
                    self._store()
                    self._advance()
            except Exception as error:  # noqa: BLE001 - a database that is away comes back; the thread must be there then
                _logger.warning("witnessing_failed", error=_said(error))
                self._stop_asked.wait(self._interval)
            with self._changed:
                if not self._woken:
                    self._changed.wait(min(self._interval, 0.25))
                self._woken = False

    @property
    def _ended(self) -> bool:
        return self._stop_asked.is_set() or self.failure is not None

    def _store(self) -> None:
        with self._changed:
            current = self._round
            if current is None or current.stored or not self._met(current):
                return
            lines = list(current.lines.values())
        self._witnesses.keep_witnessed(current.target, lines)
        with self._changed:
            current.stored = True
        _logger.info("witnessed", size=current.target.size, cosignatures=len(lines))

    def _met(self, current: _Round) -> bool:
        policy = self._witnesses.policy
        return policy.quorum != NO_QUORUM and policy.met_by(current.lines)

    def _advance(self) -> None:
        """Begin a round for the newest published checkpoint, once the round before and the interval are over."""
        current, now = self._round, time.monotonic()
        if current is not None:
            with self._changed:
                answered = len(self._away | current.lines.keys()) == len(self._witnesses.clients)
                waits_for_its_row = self._met(current) and not current.stored
            overdue = now - current.begun >= max(PATIENCE, self._interval)
            done = current.stored or current.stale or answered or overdue
            if waits_for_its_row or not done or now - current.begun < self._interval:
                return
        head = self._witnesses.newest_published()
        least = current.target.size if current is not None else self._witnesses.newest_witnessed()  # at least 0
        if head is None or head.size <= least:
            return
        with self._changed:
            self._round = _Round(head, now)
            self._changed.notify_all()

    def _follow(self, client: WitnessClient) -> None:
        """One witness's thread: each target once, and again after a pause that grows while it fails."""
        failures = 0
        last: _Round | None = None
        known: int | None = None
        while (current := self._next(last)) is not None:
            last = current
            try:
                answer = self._witnesses.ask(client, current.target, known)
                failures = 0
                with self._changed:
                    if isinstance(answer, Cosigned):
                        known = current.target.size
                        current.lines[client.verifier] = answer.line
                    else:
                        known = answer.size
                        current.stale = True
                    self._woken = True
                    self._changed.notify_all()
            except Inconsistent as error:
                self._fail(error)
            except Exception as error:  # noqa: BLE001 - neither a witness nor a database that is away ends this thread
                if not isinstance(error, WitnessFailure):
                    _logger.warning("witnessing_failed", witness=client.witness.name, error=_said(error))
                failures, last, known = failures + 1, None, None
                self._rest(client, failures)

    def _rest(self, client: WitnessClient, failures: int) -> None:
        """Leave it alone for a while, longer each time, and never all at once; no round waits for it meanwhile."""
        pause = min(LONGEST_PAUSE, self._interval * 2.0 ** min(failures, 16))
        with self._changed:
            self._away.add(client.verifier)
            self._changed.notify_all()
        self._stop_asked.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - nothing secret about it
        with self._changed:
            self._away.discard(client.verifier)

    def _next(self, last: _Round | None) -> _Round | None:
        """The round after `last`, when there is one and this process writes the log; None when all is over."""
        with self._changed:
            while not self._ended:
                if self._round is not None and self._round is not last and self._active():
                    return self._round
                self._changed.wait(0.5)
        return None

    def _fail(self, error: Inconsistent) -> None:
        with self._changed:
            first, self.failure = self.failure is None, self.failure or error
        if first:
            _logger.error("log_contradicted", code=error.code, detail=error.detail)
            self._halt(error)
        self.wake()


class Witnessing:
    """What a sequencer is given of the world outside: a look before it signs, and witnesses for what it publishes."""

    def __init__(
        self,
        policy: Policy | None,
        sessions: sessionmaker[Session],
        verifier: NoteVerifier,
        shard: str,
        key: Callable[[], StatementKey],
        *,
        interval: float,
        evidence: Path | None,
        clock: Callable[[], dt.datetime],
    ) -> None:
        self._policy, self._sessions, self._origin, self._shard = policy, sessions, verifier.name, shard
        self._key, self._interval, self._clock = key, interval, clock
        asked = policy is not None and any(witness.url for witness in policy.witnesses)
        self.witnesses = Witnesses(policy, sessions, verifier, shard, evidence=evidence) if asked and policy else None
        self._thread: WitnessingThread | None = None
        self._announced = False

    def check_outside(self, head: Head) -> None:
        """For `Sequencer`: ask the witnesses. Raises as `Witnesses.check_outside` does."""
        self._announced = False
        if self.witnesses is not None:
            self.witnesses.check_outside(head)

    def published(self, note: bytes) -> None:
        """For `Sequencer`, as its `publish`. The first note after each opening says that the shard is there and is the
        one that the witnesses know: then the policy in force is announced, if it is another than before."""
        if not self._announced:
            with self._sessions.begin() as session:
                record_policy(session, self._shard, self._origin, self._policy, self._key(), self._clock())
            self._announced = True
        if self._thread is not None:
            self._thread.wake(note)

    @contextmanager
    def beside(self, sequencer: SequencerThread) -> Iterator[None]:
        """Have what this sequencer publishes witnessed, while it is active; end it when a witness proves a fork."""

        def halt(error: Inconsistent) -> None:
            sequencer.failure = error
            sequencer.stop(timeout=0)

        if self.witnesses is None:
            yield
            return
        self._thread = WitnessingThread(
            self.witnesses, interval=self._interval, active=lambda: sequencer.active, halt=halt
        )
        self._thread.start()
        try:
            yield
        finally:
            self._thread.stop()


@contextmanager
def witnessing(
    policy: Policy | None,
    sessions: sessionmaker[Session],
    verifier: NoteVerifier,
    shard: str,
    key: Callable[[], StatementKey],
    *,
    interval: float = 1.0,
    evidence: Path | None = None,
    clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
) -> Iterator[Witnessing]:
    """The world outside for one sequencer. `verifier` is the log's own, `key` gives the one that signs statements now,
    `evidence` is a folder for what proves a second history, `interval` the seconds between two rounds.

    Without a policy nobody is asked; that there is none any more is announced all the same.
    """
    outside = Witnessing(policy, sessions, verifier, shard, key, interval=interval, evidence=evidence, clock=clock)
    try:
        yield outside
    finally:
        if outside.witnesses is not None:
            outside.witnesses.close()


def _said(error: Exception) -> str:
    return f"{error.code}: {error.detail}" if isinstance(error, LedgerError) else f"{type(error).__name__}: {error}"
