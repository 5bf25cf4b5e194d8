"""`lawful log override`: go on although a witness claims, without proof, that this database is not the newest."""

import click
import rich_click

from ledger.commands.frame import Invocation, answer_json, err, json_option, out, shown
from ledger.errors import BadRequest, NotFound


@rich_click.command(
    "override", epilog="Example: lawful log override --witness w1 --size 5120 --reason 'restored from its own backup'"
)
@rich_click.option("--witness", "name", required=True, help="The witness, by its name in the policy or its key.")
@rich_click.option(
    "--size", type=click.IntRange(min=0), required=True, help="The number of entries it claims, from the error."
)
@rich_click.option("--reason", required=True, help="Why you believe the database instead. Everybody can read it.")
@json_option
@click.pass_obj
def override(invocation: Invocation, name: str, size: int, reason: str, as_json: bool) -> None:
    """Go on against a witness's bare word, in an entry of the log that everybody sees.

    For `witness_claims_more` and `witness_claims_other` only, and only for claims of up to SIZE entries. A witness that
    shows a checkpoint signed by this log's own key cannot be overridden: then there is a second history.
    """
    from ledger.commands.work import founded
    from ledger.log.policy import load_policy
    from ledger.witness.entries import record_override

    with founded(invocation.settings()) as runtime:
        path = runtime.settings.witness_policy
        if path is None:
            raise BadRequest(
                "this ledger has no witness policy, so no witness holds it up",
                code="witness_policy_missing",
                next_step="set witness_policy as for `lawful up`; docs/reference/settings.md says how",
            )
        named = {key: each for each in load_policy(path).witnesses for key in (each.name, each.verifier.vkey)}
        if name not in named:
            raise NotFound(
                f"the policy knows no witness {shown(name)}",
                code="witness_unknown",
                next_step=f"it is one of: {', '.join(sorted({each.name for each in named.values()})) or 'none'}",
            )
        vkey = named[name].verifier.vkey
        with runtime.sessions.begin() as session:
            leaf = record_override(
                session,
                runtime.shard,
                runtime.settings.origin,
                vkey,
                size,
                reason,
                runtime.keys.statements,
                runtime.clock(),
            )
    if as_json:
        answer_json({"witness": vkey, "size": size, "leaf_hash": leaf.hex()})
        return
    out().print(f"entry {leaf.hex()}", soft_wrap=True)
    err().print("The sequencer goes on within seconds, and puts this entry into the log first of all that is new.")
