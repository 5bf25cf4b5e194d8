"""Who may ask for what: one row for each route, and no route without one. The application refuses to start otherwise.

    who                  is known by          may
    public               nothing              read what is shown at all, and ask for looks
    person               a session's cookie   claim, and ask to act for an artist: for oneself alone
    artist               the same cookie      change grants and enrol works, of the artist in the address, for whom they
                                              act by a link or by the artist's own page
    submitter            an API key           write records and statements of its own
    operator             an API key           write like a submitter, see how the ledger stands
    auditor              an API key           see how the ledger stands
    auditor, in bulk     a token              read within its scope until it ends
    admin                an API key           see how the ledger stands, make and revoke API keys

The operator makes records, the admin decides who may: neither opens the other's doors. What else is administrative
(who acts for an artist, grants in anybody's name, erasure, auditors' tokens, an admin's key, rotation) has no route: it
is typed on the ledger's own machine. Whose a record or a claim is, the use cases ask (`ledger.claims.replies`).
"""

from typing import Literal, NamedTuple

from ledger.api_keys import ROLES, Role
from ledger.auditors import Scope

SignedIn = Literal["person", "artist"]


class Access(NamedTuple):
    """`keys`: the roles whose keys open it; `public`: it opens without one; `looks`: a key that is sent is looked at;
    `scope`: an auditor's token of that scope opens it, and nothing else does; `session`: who is signed in opens it,
    or who acts for the artist in the address, and nothing else does.

    A wrong key is refused where keys are looked at, even if none is needed: it is a mistake. Elsewhere a header that
    some client always sends opens nothing and closes nothing.
    """

    keys: frozenset[Role]
    public: bool = False
    looks: bool = True
    scope: Scope | None = None
    session: SignedIn | None = None


ANYBODY = Access(frozenset(ROLES), public=True, looks=False)
ANYBODY_BY_NAME = Access(frozenset(ROLES), public=True)  # it is noted whose look it was
PERSON = Access(frozenset(), session="person")
ARTIST = Access(frozenset(), session="artist")
WRITERS = Access(frozenset({"operator", "submitter"}))
OVERSEERS = Access(frozenset({"operator", "auditor", "admin"}))
ADMINS = Access(frozenset({"admin"}))
ENTRIES = Access(frozenset(), scope="entries")
EXPORTS = Access(frozenset(), scope="exports")

ACCESS: dict[tuple[str, str], Access] = {
    ("POST", "/v1/generations"): WRITERS,
    ("POST", "/v1/stamps"): WRITERS,
    ("POST", "/v1/statements"): WRITERS,
    ("POST", "/v1/statements/batch"): WRITERS,
    ("POST", "/v1/verifications"): ANYBODY_BY_NAME,
    ("GET", "/v1/standing"): OVERSEERS,
    ("GET", "/v1/keys"): ADMINS,
    ("POST", "/v1/keys"): ADMINS,
    ("DELETE", "/v1/keys/{key_id}"): ADMINS,
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
    ("GET", "/claims/new"): PERSON,
    ("POST", "/claims/new"): PERSON,
    ("POST", "/claims/{claim_id}/withdraw"): PERSON,
    ("POST", "/claims/{claim_id}/appeal"): PERSON,
    ("POST", "/claims/{claim_id}/control"): PERSON,
    ("POST", "/claims/{claim_id}/control/check"): PERSON,
    ("GET", "/sign-in"): ANYBODY,
    ("POST", "/sign-in"): ANYBODY,
    ("GET", "/sign-in/{token}"): ANYBODY,
    ("POST", "/sign-in/{token}"): ANYBODY,
    ("POST", "/sign-out"): ANYBODY,
    ("GET", "/account"): PERSON,
    ("GET", "/account/artists/{artist_id}"): PERSON,
    ("POST", "/account/artists/{artist_id}/grants"): ARTIST,
    ("POST", "/account/artists/{artist_id}/works/{work_id}/grants"): ARTIST,
    ("POST", "/account/artists/{artist_id}/enrolments"): ARTIST,
    ("POST", "/account/artists/{artist_id}/webhook"): ARTIST,
    ("POST", "/account/artists/{artist_id}/webhook/remove"): ARTIST,
    ("POST", "/account/artists/{artist_id}/control"): PERSON,
    ("POST", "/account/artists/{artist_id}/control/check"): PERSON,
    ("GET", "/docs"): ANYBODY,
    ("GET", "/pictures/{name}"): ANYBODY,
    ("GET", "/schema"): ANYBODY,
    ("GET", "/schema/openapi.json"): ANYBODY,
    ("GET", "/schema/{path}"): ANYBODY,
    ("GET", "/static/{file_path}"): ANYBODY,
}
