"""How the log stands, in two facts that are never one: what is *integrated*, and what is *witnessed* under the policy.

*integrated*: under a checkpoint that this log signed and let out. *witnessed*: under one that enough of the policy's
witnesses have cosigned. Only the second says that others saw the same log.
"""

import datetime as dt
from pathlib import Path

import msgspec

from ledger.errors import NotFound, Unavailable
from ledger.log.notes import NoteError
from ledger.log.policy import Policy, load_policy
from ledger.log.shard import Head, Query, witnessed_head
from ledger.log.tiles import integrated_head


class WitnessView(msgspec.Struct, frozen=True):
    """How a witness of the policy last answered; `failure` is what went wrong then, null when nothing did."""

    name: str
    vkey: str
    size: int | None = None
    cosigned_at: dt.datetime | None = None
    asked_at: dt.datetime | None = None
    failure: str | None = None


class KeyView(msgspec.Struct, frozen=True):
    """A key that an entry of the log announced. `public_key` is hex: raw Ed25519 for `statements`, else DER."""

    use: str
    kid: str
    public_key: str
    leaf_hash: str
    created_at: dt.datetime
    retired_at: dt.datetime | None


class LogView(msgspec.Struct, frozen=True):
    """The log as it stands. What this page says of keys and witnesses is the operator's word; the entries, the
    checkpoints and keys chosen elsewhere are the proof."""

    origin: str
    shard: str
    url: str
    vkey: str
    size: int
    published_at: dt.datetime
    witnessed_size: int | None
    witnessed_at: dt.datetime | None
    witnesses: list[WitnessView]
    keys: list[KeyView]


def policy_in_force(path: Path | None) -> Policy | None:
    """The policy of the file that is set; None where no outsider's word is asked for. Raises Unavailable."""
    if path is None:
        return None
    try:
        policy = load_policy(path)
    except NoteError as error:
        raise Unavailable(
            f"the witness policy of this ledger cannot be used: {error.detail}",
            code="policy_unusable",
            next_step="the operator mends the file that LAWFUL_WITNESS_POLICY names",
        ) from error
    return None if policy.met_by(()) else policy


def policy_text(path: Path | None, vkey: str, url: str) -> str:
    """The policy for others to use, in the format of C2SP tlog-policy: with this log's own line, if it had none."""
    line = f"log {vkey} {url}\n"
    if path is None:
        return f"{line}quorum none\n"
    policy = policy_in_force(path) or load_policy(path)
    named = any(log.verifier.vkey == vkey for log in policy.logs)
    return policy.text if named else line + policy.text


def shown_head(query: Query, shard: str, policy: Policy | None) -> Head:
    """What `<prefix>/checkpoint` serves: the newest witnessed head where a policy asks for witnesses, else the newest
    integrated one. Raises NotFound `log_unknown`, or `checkpoint_not_witnessed` while no quorum has signed any."""
    if policy is None:
        return integrated_head(query, shard)
    found = witnessed_head(query, shard, policy.sha256)
    if found is None:
        integrated = integrated_head(query, shard)
        raise NotFound(
            f"no checkpoint of the log {shard} has the cosignatures that its policy asks for",
            code="checkpoint_not_witnessed",
            next_step=f"ask for checkpoint/integrated, which stands at {integrated.size} on the log's word alone",
        )
    return found


def log_view(query: Query, shard: str, url: str, policy: Policy | None) -> LogView:
    """Everything at once. Raises NotFound `log_unknown`."""
    size = integrated_head(query, shard).size
    origin, vkey, published_at = query(
        "SELECT shard.origin, shard.vkey, published.published_at FROM log_shards shard"
        " JOIN log_published published ON published.shard = shard.name WHERE shard.name = %s",
        (shard,),
    )[0]
    witnessed = query(
        "SELECT size, created_at FROM log_witnessed_heads WHERE shard = %s AND policy_sha256 = %s",
        (shard, policy.sha256 if policy else b""),
    )
    keys = query(
        "SELECT use, kid, public_key, leaf_hash, created_at, retired_at FROM announced_keys ORDER BY created_at, use",
        (),
    )
    return LogView(
        origin=origin,
        shard=shard,
        url=url,
        vkey=vkey,
        size=size,
        published_at=published_at,
        witnessed_size=witnessed[0][0] if witnessed else None,
        witnessed_at=witnessed[0][1] if witnessed else None,
        witnesses=_witnesses(query, shard, policy),
        keys=[KeyView(use, kid.hex(), key.hex(), leaf.hex(), *when) for use, kid, key, leaf, *when in keys],
    )


def _witnesses(query: Query, shard: str, policy: Policy | None) -> list[WitnessView]:
    """Those of the policy, in its order; one that was never asked has nothing but its name."""
    rows = query("SELECT vkey, size, cosigned_at, asked_at, failure FROM log_witnesses WHERE shard = %s", (shard,))
    answers = {vkey: rest for vkey, *rest in rows}
    return [
        WitnessView(each.name, each.verifier.vkey, *answers.get(each.verifier.vkey, ()))
        for each in (policy.witnesses if policy else ())
    ]
