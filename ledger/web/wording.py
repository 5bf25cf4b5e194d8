"""The words of the pages: what each of the six answers means, and what it does not. Values: `ledger.verify`."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from attribution.evidence import CopyMatch, Evidence, NeighbourAxis
from attribution.levels import content_axes
from attribution.wording import covered, credit, percent

__all__ = ["covered", "credit"]  # for the templates, which say it in the engine's words

Tone = Literal["good", "bad", "warn", "plain", "note", "open"]


class Meaning(NamedTuple):
    """`tone` is told by a word and a mark as well as by a colour."""

    label: str
    tone: Tone
    means: str
    does_not_mean: str


NAVIGATION = {"/": "Check an image", "/log": "Log", "/claims": "Claims", "/about": "About", "/docs": "API"}

QUESTIONS = {
    "credential": "Does the file carry a credential?",
    "content": "Is the file as it was when it was signed?",
    "signature": "Is the signature valid?",
    "signer": "Is the signer known here?",
    "ingredients": "Are the credentials of its sources intact?",
    "ledger": "Does this ledger know it?",
}

_UNASKED = "It does not mean that something is wrong."

ANSWERS: dict[str, dict[str, Meaning]] = {
    "credential": {
        "present": Meaning(
            "present", "good", "The file carries a C2PA credential that could be read.",
            "It does not mean that what the credential says is true.",
        ),
        "absent": Meaning(
            "absent", "plain", "The file carries no credential. Most files carry none, and many services remove them.",
            "It does not mean that a human made it, nor that a machine did.",
        ),
        "unreadable": Meaning(
            "unreadable", "warn", "There is a credential, but it is damaged or of a form this checker does not read.",
            "It does not mean that somebody forged it.",
        ),
        "remote_only": Meaning(
            "kept elsewhere", "plain", "The file names an address where its credential is kept. It was not fetched.",
            "It does not mean that the credential there fits this file.",
        ),
    },
    "content": {
        "intact": Meaning(
            "intact", "good", "Not a byte that the credential protects has changed since it was signed.",
            "It does not mean that the picture shows something true.",
        ),
        "altered": Meaning(
            "altered", "bad", "The file was changed after it was signed.",
            "It does not say who changed it, what, or why: saving it again is enough.",
        ),
        "not_checked": Meaning("not checked", "plain", "There was no readable credential to check it by.", _UNASKED),
    },
    "signature": {
        "valid": Meaning(
            "valid", "good", "The credential was signed with the key that its certificate names.",
            "It does not mean that you should trust whoever holds this key.",
        ),
        "invalid": Meaning(
            "invalid", "bad", "The signature does not fit the credential.",
            "It does not say what the picture is or who made it.",
        ),
        "expired": Meaning(
            "expired", "warn", "The certificate has run out, and no timestamp shows that it was signed in time.",
            "It does not mean that the credential was forged or the file changed.",
        ),
        "not_checked": Meaning("not checked", "plain", "There was no readable credential with a signature.", _UNASKED),
    },
    "signer": {
        "trusted": Meaning(
            "trusted", "good", "The signer's certificate leads to a root that this checker was told to trust.",
            "It does not mean that everything this signer says is true.",
        ),
        "unknown": Meaning(
            "unknown", "plain", "The signer's certificate leads to no root that this checker was given.",
            "It does not mean that the credential is forged: anyone may sign, and nobody knows everyone.",
        ),
        "not_checked": Meaning("not checked", "plain", "There was no valid signature to ask this of.", _UNASKED),
    },
    "ingredients": {
        "none": Meaning(
            "none named", "plain", "The credential names no earlier files.",
            "It does not mean that none were used.",
        ),
        "intact": Meaning(
            "intact", "good", "The credentials of the earlier files it names hold.",
            "It does not mean that these were all the files used.",
        ),
        "broken": Meaning(
            "broken", "warn", "The credential of an earlier file it names does not hold.",
            "It does not mean that this file's own credential is broken.",
        ),
        "not_checked": Meaning("not checked", "plain", "There was no readable credential to name any.", _UNASKED),
    },
    "ledger": {
        "recorded": Meaning(
            "recorded", "good", "The ledger holds a record of this file or of exactly these pixels.",
            "It shows that they existed by then. It does not show who made them, or that nobody made them earlier.",
        ),
        "similar": Meaning(
            "looks like one", "plain", "A record's picture looks much like this one, as after re-encoding or resizing.",
            "It is a candidate, not a finding: pictures can look alike by chance or by craft.",
        ),
        "not_recorded": Meaning(
            "not recorded", "plain", "Neither this file nor these pixels are in this ledger.",
            "It does not mean that a human made it. Other generators, and other ledgers, are not asked.",
        ),
        "redacted": Meaning(
            "redacted", "plain", "There was a record; its content was deleted on request. The log keeps its place.",
            "It does not say what the content was or that anything was wrong with it.",
        ),
        "contradicts": Meaning(
            "contradicts", "bad", "The file points to an entry of a log that says something else.",
            "It does not say who put the pointer there. Do not rely on this file's credential.",
        ),
        "not_checked": Meaning("not checked", "plain", "The ledger was not asked.", _UNASKED),
    },
}  # fmt: skip

FOUND_BY = {
    "credential": "by the ledger entry in its credential",
    "file_sha256": "by the file's bytes",
    "pixel_sha256": "by its exact pixels; the file around them differs",
    "soft_binding": "by its likeness only",
    "copy": "by a matched region",
}

AXES = {
    "identity": "Is this very image in the collection?",
    "copy": "Is it, or a part of it, a copy of a work?",
    "style": "Whose hand does it resemble?",
    "content": "Does it show what a work shows?",
    "classification": "Whom does the artist classifier name?",
}

OUTCOMES: dict[str, tuple[str, Tone]] = {
    "found": ("found", "note"),
    "nothing": ("nothing stands out", "plain"),
    "cannot_tell": ("cannot tell", "open"),
}

GATE_REASONS = {
    "identical_work": "it is, pixel for pixel, a work of the collection",
    "copy_of_work": "it, or a part of it, is a copy of a work",
    "artist_refused": "the artist of such a work has not agreed that generators learn from it",
    "copy_not_judged": "it may be a copy, and too few images are there to calibrate on to tell",
}


def policy(in_force: Mapping[str, str]) -> str:
    """The gate's policy in one line, in a fixed order."""
    return ", ".join(f"{name} {value}" for name, value in sorted(in_force.items()))


def tells(evidence: Evidence) -> bool:
    """Whether the axes have anything of their own to say: not where all of them lack the same collection."""
    return len({finding.text for finding in evidence.findings}) > 1


def nearest_by(evidence: Evidence) -> list[tuple[str, dict[str, NeighbourAxis]]]:
    """The encoders in two groups with their headings: those that tell what an image shows, and the others."""
    content = content_axes(evidence)
    others = {name: axis for name, axis in evidence.neighbours.items() if name not in content}
    groups = [("Closest works by what they show", content), ("Closest works under encoders of style", others)]
    return [(title, axes) for title, axes in groups if axes]


def matching(match: CopyMatch) -> str:
    """What a match is, without saying that it is a copy: whether that stands is for the axis's finding to say."""
    of_work = "a protected work" if match.protected else f"{percent(covered(match.of_work))} of the work"
    return (
        f"{percent(covered(match.of_image))} of this image matches {of_work}{', mirrored' if match.mirrored else ''}."
    )


def match_seen(match: CopyMatch) -> str:
    """For whoever cannot see the drawing of a match."""
    if match.protected:
        return "This image; an outline marks the region that matches a protected work, which is not shown."
    turned = " One of them is the mirror image of the other." if match.mirrored else ""
    return (
        f"This image beside {credit(match.title, match.artist)}; outlines mark the region that matches in both.{turned}"
    )


def pair_seen(*, work_drawn: bool) -> str:
    """For whoever cannot see the drawing of an image that is claimed on beside the work named."""
    if not work_drawn:
        return "The image claimed on; an outline marks the region that matches the work named, which is not shown."
    return "The image claimed on beside the work named; outlines mark the region that matches in both."


def drawn(*, work_drawn: bool) -> str:
    """What stands below the drawing of a match."""
    if not work_drawn:
        return "The region of this image that matches; the work itself is not shown."
    return "What matches is outlined in both."


CLAIM_KINDS = {
    "mine": "This image is my work",
    "copies": "This image copies my work",
    "style": "This image imitates my style",
    "unconsented": "My work was used without consent",
}

CLAIM_OUTCOMES = {
    "supported": "What is on record and what was measured support the claim about image and work.",
    "contradicted": "What is on record contradicts the claim about image and work.",
    "inconclusive": "What is on record and what was measured neither support nor contradict the claim.",
}

OUTCOME_TONES: dict[str, Tone] = {"supported": "note", "contradicted": "bad", "inconclusive": "open"}

CLAIMANTS = {
    "declared": "That the claimant is the artist was declared, and not verified.",
    "verified": "That the claimant is the artist was verified: they control the page that is on record.",
}

RESULTS = {"pass": "holds", "fail": "fails", "info": "noted", "skip": "not checked"}

KINDS = {"generation": "Generated here", "stamp": "Stamped here", "verification": "Looked at here"}

STATES = {
    "accepted": "waiting for the worker, or being worked on",
    "signed": "its statement is on its way into the log",
    "sealed": "its file is finished; the log has the last word",
    "issued": "issued",
    "abandoned": "given up",
}

STATUS_TITLES = {
    400: "The request is not right",
    401: "A key is needed",
    403: "Not allowed",
    404: "Not found",
    405: "Not that way",
    409: "In conflict with what is already here",
    413: "Too large",
    414: "Too long for an address",
    415: "Not a form that is taken here",
    422: "Cannot be worked with",
    429: "Too many for now",
    500: "Something broke on our side",
    503: "Not ready",
    507: "No room left",
}
