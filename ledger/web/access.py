"""Who may ask for what: one row for each route, and no route without one. The application refuses to start otherwise.

A role is an API key's: `submitter` writes records and statements of its own, `auditor` sees how the ledger stands and
writes nothing, `operator` may do both. An auditor's token is no key: it has a scope and an end, and reads in bulk.
Whoever sends neither is the public, which reads everything that is shown at all. Administrative acts (keys, who acts
for an artist, grants in anybody's name, erasure, rotation) have no route: they are typed on the ledger's own machine.
Who is signed in and acts for an artist changes that artist's grants, in the artist's name alone.
"""

from typing import Literal, NamedTuple

from ledger.auditors import Scope

Role = Literal["operator", "submitter", "auditor"]
ROLES: tuple[Role, ...] = ("operator", "submitter", "auditor")


class Access(NamedTuple):
    """`keys`: the roles whose keys open it; `public`: it opens without one; `looks`: a key that is sent is looked at;
    `scope`: an auditor's token of that scope opens it, and nothing else does.

    A wrong key is refused where keys are looked at, even if none is needed: it is a mistake. Elsewhere a header that
    some client always sends opens nothing and closes nothing.
    """

    keys: frozenset[Role]
    public: bool = False
    looks: bool = True
    scope: Scope | None = None


ANYBODY = Access(frozenset(ROLES), public=True, looks=False)
ANYBODY_BY_NAME = Access(frozenset(ROLES), public=True)  # it is noted whose look it was
SIGNED_IN = ANYBODY  # the session's cookie opens them, for oneself alone: `ledger.web.sessions` looks at it
WRITERS = Access(frozenset({"operator", "submitter"}))
OVERSEERS = Access(frozenset({"operator", "auditor"}))
ENTRIES = Access(frozenset(), scope="entries")
EXPORTS = Access(frozenset(), scope="exports")

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
    ("GET", "/v1/records/{record_id}/report.pdf"): ANYBODY,
    ("GET", "/v1/records/{record_id}/evidence.zip"): ANYBODY,
    ("GET", "/v1/records/{record_id}/card"): ANYBODY,
    ("GET", "/v1/schemas/report"): ANYBODY,
    ("GET", "/v1/records/{record_id}/proof"): ANYBODY,
    ("GET", "/v1/records/{record_id}/receipt"): ANYBODY,
    ("GET", "/v1/statements/{leaf_hash}/proof"): ANYBODY,
    ("GET", "/v1/statements/{leaf_hash}/receipt"): ANYBODY,
    ("GET", "/v1/matches/byBinding"): ANYBODY,
    ("POST", "/v1/matches/byBinding"): ANYBODY,
    ("POST", "/v1/matches/byContent"): ANYBODY,
    ("GET", "/v1/manifests/{manifest_id}"): ANYBODY,
    ("GET", "/v1/services/supportedAlgorithms"): ANYBODY,
    ("GET", "/v1/services/capabilities"): ANYBODY,
    ("GET", "/v1/services/status"): ANYBODY,
    ("GET", "/.well-known/c2pa-soft-binding-resolution"): ANYBODY,
    ("GET", "/v1/audit/entries"): ENTRIES,
    ("GET", "/v1/audit/exports/{name}"): EXPORTS,
    ("GET", "/v1/claims"): ANYBODY,
    ("GET", "/v1/claims/rules"): ANYBODY,
    ("GET", "/v1/claims/{claim_id}"): ANYBODY,
    ("GET", "/v1/claims/{claim_id}/report"): ANYBODY,
    ("GET", "/v1/claims/{claim_id}/report.pdf"): ANYBODY,
    ("GET", "/v1/claims/{claim_id}/evidence.zip"): ANYBODY,
    ("GET", "/v1/schemas/claim-report"): ANYBODY,
    ("POST", "/v1/claims/{claim_id}/answer"): WRITERS,
    ("POST", "/v1/claims/{claim_id}/appeal"): WRITERS,
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
    ("GET", "/r"): ANYBODY,
    ("GET", "/r/{name}"): ANYBODY,
    ("GET", "/log"): ANYBODY,
    ("GET", "/about"): ANYBODY,
    ("GET", "/works/{work_id}"): ANYBODY,
    ("GET", "/works/{work_id}/preview"): ANYBODY,
    ("GET", "/works/{work_id}/feed"): ANYBODY,
    ("GET", "/artists/{artist_id}"): ANYBODY,
    ("GET", "/artists/{artist_id}/feed"): ANYBODY,
    ("GET", "/claims"): ANYBODY,
    ("GET", "/claims/{claim_id}"): ANYBODY,
    ("GET", "/claims/new"): SIGNED_IN,
    ("POST", "/claims/new"): SIGNED_IN,
    ("POST", "/claims/{claim_id}/withdraw"): SIGNED_IN,
    ("POST", "/claims/{claim_id}/appeal"): SIGNED_IN,
    ("POST", "/claims/{claim_id}/control"): SIGNED_IN,
    ("POST", "/claims/{claim_id}/control/check"): SIGNED_IN,
    ("GET", "/sign-in"): ANYBODY,
    ("POST", "/sign-in"): ANYBODY,
    ("GET", "/sign-in/{token}"): ANYBODY,
    ("POST", "/sign-in/{token}"): ANYBODY,
    ("POST", "/sign-out"): ANYBODY,
    ("GET", "/account"): SIGNED_IN,
    ("GET", "/account/artists/{artist_id}"): SIGNED_IN,
    ("POST", "/account/artists/{artist_id}/grants"): SIGNED_IN,
    ("POST", "/account/artists/{artist_id}/works/{work_id}/grants"): SIGNED_IN,
    ("POST", "/account/artists/{artist_id}/enrolments"): SIGNED_IN,
    ("POST", "/account/artists/{artist_id}/webhook"): SIGNED_IN,
    ("POST", "/account/artists/{artist_id}/webhook/remove"): SIGNED_IN,
    ("POST", "/account/artists/{artist_id}/control"): SIGNED_IN,
    ("POST", "/account/artists/{artist_id}/control/check"): SIGNED_IN,
    ("GET", "/docs"): ANYBODY,
    ("GET", "/pictures/{name}"): ANYBODY,
    ("GET", "/schema"): ANYBODY,
    ("GET", "/schema/openapi.json"): ANYBODY,
    ("GET", "/schema/{path}"): ANYBODY,
    ("GET", "/static/{file_path}"): ANYBODY,
}
