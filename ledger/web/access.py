"""Who may ask for what: one row for each route, and no route without one. The application refuses to start otherwise.

A role is an API key's: `submitter` writes records and statements of its own, `auditor` sees how the ledger stands and
writes nothing, `operator` may do both. Whoever sends no key is the public, which reads everything that is shown at all.
People who sign in are no role of this table: their cookie opens forms for themselves alone. Administrative acts (keys,
grants, erasure, rotation) have no route: they are typed on the ledger's own machine.
"""

from typing import Literal, NamedTuple

Role = Literal["operator", "submitter", "auditor"]
ROLES: tuple[Role, ...] = ("operator", "submitter", "auditor")


class Access(NamedTuple):
    """`keys`: the roles whose keys open it; `public`: it opens without one; `looks`: a key that is sent is looked at.

    A wrong key is refused where keys are looked at, even if none is needed: it is a mistake. Elsewhere a header that
    some client always sends opens nothing and closes nothing.
    """

    keys: frozenset[Role]
    public: bool = False
    looks: bool = True


ANYBODY = Access(frozenset(ROLES), public=True, looks=False)
ANYBODY_BY_NAME = Access(frozenset(ROLES), public=True)  # it is noted whose look it was
WRITERS = Access(frozenset({"operator", "submitter"}))
OVERSEERS = Access(frozenset({"operator", "auditor"}))

ACCESS: dict[tuple[str, str], Access] = {
    ("POST", "/v1/generations"): WRITERS,
    ("POST", "/v1/stamps"): WRITERS,
    ("POST", "/v1/statements"): WRITERS,
    ("POST", "/v1/statements/batch"): WRITERS,
    ("POST", "/v1/verifications"): ANYBODY_BY_NAME,
    ("GET", "/v1/standing"): OVERSEERS,
    ("GET", "/v1/generations/{record_id}"): ANYBODY,
    ("GET", "/v1/stamps/{record_id}"): ANYBODY,
    ("GET", "/v1/verifications/{record_id}"): ANYBODY,
    ("GET", "/v1/records"): ANYBODY,
    ("GET", "/v1/records/{record_id}"): ANYBODY,
    ("GET", "/v1/records/{record_id}/file"): ANYBODY,
    ("GET", "/v1/records/{record_id}/report"): ANYBODY,
    ("GET", "/v1/records/{record_id}/proof"): ANYBODY,
    ("GET", "/v1/records/{record_id}/receipt"): ANYBODY,
    ("GET", "/v1/statements/{leaf_hash}/proof"): ANYBODY,
    ("GET", "/v1/statements/{leaf_hash}/receipt"): ANYBODY,
    ("GET", "/v1/log"): ANYBODY,
    ("GET", "/v1/log/proofs/{index}"): ANYBODY,
    ("GET", "/v1/log/entries/{index}"): ANYBODY,
    ("GET", "/log/policy"): ANYBODY,
    ("GET", "/log/{shard}/checkpoint"): ANYBODY,
    ("GET", "/log/{shard}/checkpoint/integrated"): ANYBODY,
    ("GET", "/log/{shard}/tile/{path}"): ANYBODY,
    ("GET", "/log/{shard}/timestamp"): ANYBODY,
    ("GET", "/healthz"): ANYBODY,
    ("GET", "/readyz"): ANYBODY,
    ("GET", "/"): ANYBODY,
    ("POST", "/"): ANYBODY,
    ("GET", "/v/{record_id}"): ANYBODY,
    ("GET", "/r/{name}"): ANYBODY,
    ("GET", "/docs"): ANYBODY,
    ("GET", "/pictures/{name}"): ANYBODY,
    ("GET", "/schema"): ANYBODY,
    ("GET", "/schema/openapi.json"): ANYBODY,
    ("GET", "/schema/{path}"): ANYBODY,
    ("GET", "/static/{file_path}"): ANYBODY,
}
