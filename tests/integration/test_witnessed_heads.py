"""Which cosigned checkpoint counts: one rule, and every place that tells of witnesses follows it."""

import re
import uuid
from dataclasses import dataclass

import pytest

from ledger import doctor, lookup, submissions
from ledger.database.tables.records import Record
from ledger.errors import NotFound
from ledger.log import entries, merkle
from ledger.log.cosignatures import Cosigner
from ledger.log.notes import Note
from ledger.log.policy import Policy
from ledger.log.shard import newest_head, query_of
from ledger.log.state import log_view, shown_head
from ledger.runtime import Runtime
from ledger.witness.asking import Witnesses
from ledger.witness.entries import record_policy

from .log_growing import grow

pytestmark = pytest.mark.postgres

ENTRY = b"entry 0"
LEAF = merkle.leaf_hash(ENTRY)


@dataclass(frozen=True)
class Log:
    """A log that holds `ENTRY` and a record of it, and two policies, each of one witness."""

    runtime: Runtime
    record_id: uuid.UUID
    policies: dict[str, tuple[Policy, Cosigner]]

    def announce(self, name: str | None) -> None:
        """Put the policy of this name into the log, and let the log grow by that entry."""
        runtime = self.runtime
        policy = None if name is None else self.policies[name][0]
        with runtime.sessions.begin() as session:
            record_policy(
                session, runtime.shard, runtime.settings.origin, policy, runtime.keys.statements, runtime.clock()
            )
        grow(runtime, 0)

    def cosign(self, name: str) -> int:
        """Have the newest checkpoint cosigned as the policy of this name asks; its size."""
        policy, witness = self.policies[name]
        with self.runtime.sessions() as session:
            head = newest_head(query_of(session), self.runtime.shard)
        assert head is not None
        line = witness.cosign(Note.parse(head.note).text, 1_800_000_000)
        self.witnesses(policy).keep_witnessed(head, [line])
        return head.size

    def witnesses(self, policy: Policy) -> Witnesses:
        return Witnesses(policy, self.runtime.sessions, self.runtime.keys.log.verifier, self.runtime.shard)

    def told(self, name: str) -> dict[str, int | None]:
        """The witnessed size as each place tells it, where the policy of this name is the one that is set."""
        policy, shard = self.policies[name][0], self.runtime.shard
        with self.runtime.sessions() as session:
            query = query_of(session)
            found = entries.find(session, shard, LEAF, witnessed=True)
            try:
                served = shown_head(query, shard, policy).size
            except NotFound:  # checkpoint_not_witnessed
                served = None
            return {
                "proof": found.size if found is not None else None,
                "submission": submissions.places(session, shard, [LEAF], "witnessed").size,
                "checkpoint": served,
                "log page": log_view(query, shard, "", policy).witnessed_size,
                "next round": self.witnesses(policy).newest_witnessed() or None,
                "doctor": self._of_doctor(policy),
            }

    def _of_doctor(self, policy: Policy) -> int | None:
        path = self.runtime.settings.home / "policy"
        path.write_text(policy.text)
        settings = self.runtime.settings.model_copy(update={"witness_policy": path})
        (detail,) = (each.detail for each in doctor.examine(settings, networks=False) if each.name == "witnesses")
        said = re.match(r"(\d+) of \d+ entries are witnessed|nothing is witnessed yet", detail)
        assert said is not None, detail
        return int(said[1]) if said[1] else None

    @property
    def record_is_witnessed(self) -> bool:
        with self.runtime.sessions() as session:
            place = lookup.by_id(session, self.record_id).log
        assert place is not None
        return place.witnessed


@pytest.fixture
def log(quiet: Runtime) -> Log:
    grow(quiet, 4)
    record_id = uuid.uuid4()
    with quiet.sessions.begin() as session:
        session.add(
            Record(id=record_id, kind="generation", state="signed", listed=False, statement=ENTRY, leaf_hash=LEAF)
        )
    policies = {}
    for name in ("first", "second"):
        witness = Cosigner.generate(f"{name}.example/w")
        policies[name] = Policy.parse(f"witness one {witness.vkey}\nquorum one\n"), witness
    return Log(quiet, record_id, policies)


def test_a_head_that_met_the_policy_in_force_counts_everywhere(log: Log) -> None:
    log.announce("first")
    assert (set(log.told("first").values()), log.record_is_witnessed) == ({None}, False)
    size = log.cosign("first")
    grow(log.runtime, 3, first=4)
    assert (set(log.told("first").values()), log.record_is_witnessed) == ({size}, True)


def test_a_head_that_met_an_older_policy_only_does_not_count(log: Log) -> None:
    log.announce("first")
    log.cosign("first")
    log.announce("second")
    assert (set(log.told("second").values()), log.record_is_witnessed) == ({None}, False)
    size = log.cosign("second")
    assert (set(log.told("second").values()), log.record_is_witnessed) == ({size}, True)


def test_a_policy_that_was_put_back_counts_from_its_next_head_on(log: Log) -> None:
    """What was shown last stood under the other policy and was larger: nothing is shown that is older."""
    log.announce("first")
    log.cosign("first")
    log.announce("second")
    log.cosign("second")
    log.announce("first")
    assert (set(log.told("first").values()), log.record_is_witnessed) == ({None}, False)
    size = log.cosign("first")
    assert (set(log.told("first").values()), log.record_is_witnessed) == ({size}, True)


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")], ids="-then-".join)
def test_of_two_policies_met_at_one_size_the_one_in_force_counts(log: Log, order: tuple[str, str]) -> None:
    log.announce("second")
    log.announce("first")
    sizes = {log.cosign(name) for name in order}
    assert set(log.told("first").values()) == sizes


def test_a_head_that_is_not_published_does_not_count(log: Log) -> None:
    log.announce("first")
    size = log.cosign("first")
    grow(log.runtime, 3, first=4, publish=False)
    assert log.cosign("first") == size + 3
    assert set(log.told("first").values()) == {size}


def test_without_a_policy_no_head_counts(log: Log) -> None:
    log.announce("first")
    log.cosign("first")
    log.announce(None)
    assert (set(log.told("first").values()), log.record_is_witnessed) == ({None}, False)
