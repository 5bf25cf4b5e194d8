"""Whom this ledger itself believes when it looks at a file: its own keys, and those that its settings add."""

from ledger.credentials.read import trust_list
from ledger.errors import Unavailable
from ledger.file_proof import Trust
from ledger.log.state import policy_in_force
from ledger.runtime import Runtime


def anchors(runtime: Runtime) -> str:
    """The C2PA roots this ledger trusts: its own, and those of the settings."""
    more = runtime.settings.trust_anchors
    try:
        return trust_list(runtime.keys.root_pem, *([more.read_text()] if more is not None else []))
    except OSError as error:
        raise Unavailable(
            f"the trust anchors cannot be read: {error.strerror}",
            code="anchors_missing",
            next_step="point LAWFUL_TRUST_ANCHORS at a PEM file, or unset it",
        ) from error


def file_trust(runtime: Runtime) -> Trust:
    """The logs and witnesses whose word on a file counts here. Raises Unavailable `policy_unusable`."""
    return Trust(runtime.log_vkeys, policy=policy_in_force(runtime.settings.witness_policy))
