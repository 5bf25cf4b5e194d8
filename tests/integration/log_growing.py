"""Entries put into a log by hand, in whole batches, by a sequencer that runs only for that."""

import contextlib

from ledger.log import entries
from ledger.log.sequencer import Sequencer
from ledger.runtime import Runtime
from tests.waiting import until


class _Stop(BaseException):
    """Ends the sequencer as a kill would, between two steps."""


def grow(runtime: Runtime, count: int, *, first: int = 0, publish: bool = True) -> None:
    """Log `entry <first>` and the following, `count` of them; without `publish` they are only committed."""
    with runtime.sessions.begin() as session:
        entries.append_many(session, [b"entry %d" % number for number in range(first, first + count)])

    def step(name: str) -> None:
        if name == "committed" and not publish:
            raise _Stop

    sequencer = Sequencer(
        runtime.database.connect, runtime.keys.log, runtime.shard, head=runtime.head, batch=4096, step=step
    )
    until(sequencer.open)
    with contextlib.suppress(_Stop):
        while sequencer.run_once():
            pass
    sequencer.close()
