"""Evidence in plain sentences: one Finding per axis, and the one statement. Each has its error rate, or says why it has
none. Light.

Which p-values stand is settled in `attribution.levels`: all axes together share one error rate. Words are an artist's,
not a statistician's; a p-value becomes "an image that copies nothing reaches this in at most 1 of 1,000".
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from attribution.evidence import (
    Area,
    Classification,
    Conflict,
    CopyMatch,
    Evidence,
    Finding,
    Match,
)
from attribution.levels import AxisTest, askable, axis_tests, content_axes, holm

ALPHA = 0.01
WHOLE = 0.8  # of a picture's area: a matched region seldom reaches the very edges
LIKELY = 0.5
MOST_NAMED = 3
NOT_PROVEN = (
    "Similarity does not prove that a work was copied, or that any generator has learned from it.",
    "A work that was not in the collection, or may not be compared, was not looked at.",
    "That nothing was found does not prove that the image is original.",
)

NO_REASONS: Mapping[str, str] = MappingProxyType({})
_QUESTIONS = {
    "copy": "whether it copies a work",
    "style": "whose hand it resembles",
    "content": "what it has in common with a work",
}
_NOT_ALL = "not every work was looked at, and none of those that were stands out"
_NOT_LOOKED = {
    "copy": "no work has been prepared for this search",
    "style": "no loaded encoder of style has indexed the collection",
    "content": "no loaded encoder of content has indexed the collection",
}


def findings(evidence: Evidence, alpha: float = ALPHA, reasons: Mapping[str, str] = NO_REASONS) -> list[Finding]:
    """Return what each axis says: identity, copy, style, content, and classification where there is one.

    `reasons` tells why an axis has no error rate, by its name, or under "collection" why none has; each goes on after
    "Cannot tell:". All axes together are wrong for at most a part `alpha` of images that have nothing to do with the
    collection, as far as these are like the images it was calibrated on.
    """
    none = _no_collection(evidence, reasons)
    if none is not None:
        return [_cannot_tell(axis, none) for axis in ("identity", *_QUESTIONS)]
    known = axis_tests(evidence)
    asked = askable(known, alpha)
    stand = holm({axis: known[axis].p for axis in asked}, alpha)
    said = [_identity(evidence.identity.works, evidence.conflicts)]
    for axis, sentences in (("copy", _copy), ("style", _style), ("content", _content)):
        found, nothing, nearest = sentences(evidence, alpha / max(1, len(asked)))
        if axis not in known:
            why = reasons.get(axis, _NOT_LOOKED[axis])
            said.append(_cannot_tell(axis, why + nearest))
        elif axis not in asked:
            said.append(_cannot_tell(axis, _too_few(known[axis], len(known), alpha) + nearest))
        elif axis in stand:
            said.append(Finding(axis=axis, outcome="found", text=found, p_value=known[axis].p))
        elif axis == "content" and not all(each.exhaustive for each in content_axes(evidence).values()):
            said.append(_cannot_tell(axis, _NOT_ALL))
        else:
            said.append(Finding(axis=axis, outcome="nothing", text=nothing, p_value=known[axis].p))
    if evidence.classification is not None:
        said.append(_classified(evidence.classification))
    elif "classification" in reasons:
        said.append(_cannot_tell("classification", reasons["classification"]))
    return said


def statement(evidence: Evidence, findings: Sequence[Finding]) -> str:
    """Return the one sentence to show when there is room for one: the strongest finding, or that none stands out.

    Identity speaks before copy, copy before style, style before content. The classifier never speaks alone: it can only
    name artists that it knows.
    """
    outcomes = {finding.axis: finding for finding in findings}
    for axis in ("identity", *_QUESTIONS):
        if outcomes[axis].outcome == "found":
            return outcomes[axis].text
    untold = [axis for axis in _QUESTIONS if outcomes[axis].outcome == "cannot_tell"]
    if len(untold) == len(_QUESTIONS):
        return outcomes[untold[0]].text
    assert evidence.snapshot is not None
    among = f"{count(evidence.snapshot.works, 'work')} by {count(evidence.snapshot.artists, 'artist')}"
    open_end = f"; {' and '.join(_QUESTIONS[axis] for axis in untold)} cannot be told" if untold else ""
    return f"No single source stands out among {among}{open_end}."


def not_proven(evidence: Evidence, alpha: float = ALPHA) -> list[str]:
    """Return what the evidence does not prove, with the error rate that all its findings share."""
    asked = askable(axis_tests(evidence), alpha)
    if not asked:
        return list(NOT_PROVEN)
    shared = f" The axes asked ({', '.join(asked)}) share this rate." if len(asked) > 1 else ""
    rate = f"Of images that owe the collection nothing, {chance_of(alpha)} gets a finding by chance.{shared}"
    return [*NOT_PROVEN, rate]


# ---- identity and classification -----------------------------------------------------------------------------------


def _no_collection(evidence: Evidence, reasons: Mapping[str, str]) -> str | None:
    if "collection" in reasons:
        return reasons["collection"]
    if evidence.snapshot is None:
        return "there is no collection to compare with"
    return None if evidence.snapshot.works else "no work in the collection may be compared"


def _cannot_tell(axis: str, why: str) -> Finding:
    return Finding(axis=axis, outcome="cannot_tell", text=f"Cannot tell: {why}.")


def _too_few(test: AxisTest, family: int, alpha: float) -> str:
    needed = math.ceil(test.chances * family / alpha * (1 - 1e-12)) - 1
    rate = f"an error rate of 1 in {round(1 / alpha):,}"
    if test.n >= needed:
        return f"{rate} needs works by more artists: those there differ from one another, and a further one may as well"
    return f"{rate} needs {count(needed, 'calibration work')}, and {count(test.n, 'is', 'are')} there"


def _identity(works: Sequence[Match], conflicts: Sequence[Conflict]) -> Finding:
    if not works:
        text = "Neither this very file nor a picture with these very pixels is in the collection."
        return Finding(axis="identity", outcome="nothing", text=text)
    disputed = " The same picture stands there under several artists; whose it is, the ledger does not say."
    text = found_sentence(works) + (disputed if conflicts else "")
    return Finding(axis="identity", outcome="found", text=text)


def _classified(said: Classification) -> Finding:
    """More likely than everything else together is what counts as found: the probability is its own error rate."""
    first = max(said.artists, key=lambda each: each.share, default=None)
    unknown = f"it gives {percent(said.unknown)} to somebody it does not know"
    limits = "It can only name artists whose works it was made from."
    if first is None or first.share <= LIKELY:
        text = f"The classifier takes no artist for more likely than all others together; {unknown}. {limits}"
        return Finding(axis="classification", outcome="nothing", text=text)
    named = "an artist whose works are protected" if first.protected else first.artist
    text = f"The classifier names {named} with a probability of {percent(first.share)}; {unknown}. {limits}"
    return Finding(axis="classification", outcome="found", text=text)


# ---- each axis that is tested: (found, nothing, what comes nearest where no error rate is small enough); a finding's
# further works have to reach `level` by themselves ----


def _copy(evidence: Evidence, level: float) -> tuple[str, str, str]:
    axis = evidence.copy
    if axis is None:
        return "", "", ""
    missed = ""
    if axis.missed:
        low, high = min(axis.missed.values()), max(axis.missed.values())
        span = percent(high) if percent(low) == percent(high) else f"{percent(low)} to {percent(high)}"
        missed = f" As measured, this search misses {span} of copies, by kind of edit."
    nothing = f"No copy was found; each of {count(axis.searched, 'work')} was looked at.{missed}"
    if not axis.matches:
        return "", nothing, ""
    first, others = axis.matches[0], axis.matches[1:]
    lowered = copied(first)[0].lower() + copied(first)[1:]
    if first.p_value is None:
        return "", nothing, f". It looks as though {lowered}, and how often that is chance is not known"
    rate = f"an image that copies nothing reaches this in {chance_of(first.p_value)}"
    others = [match for match in others if match.p_value is not None and match.p_value <= level]
    more = f" {count(len(others), 'other work matches', 'other works match')} as well." if others else ""
    return f"{copied(first)}; {rate}.{more}", nothing, f". It looks as though {lowered}; {rate}"


def copied(match: CopyMatch) -> str:
    """Say which part of which picture is a copy, without a full stop."""
    image = "This image" if covered(match.of_image) >= WHOLE else "A part of this image"
    work = "" if covered(match.of_work) >= WHOLE else "a part of "
    mirrored = "mirrored " if match.mirrored else ""
    return f"{image} is a {mirrored}copy of {work}{credit(match.title, match.artist)}"


def covered(area: Area) -> float:
    """The part of the picture's area, 0-1, that a quadrilateral encloses (shoelace formula); what lies outside of the
    picture is drawn to its edge first."""
    points = [(min(1.0, max(0.0, x)), min(1.0, max(0.0, y))) for x, y in area.corners]
    turned = zip(points, [*points[1:], *points[:1]], strict=True)
    return abs(sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in turned)) / 2


def _style(evidence: Evidence, _level: float) -> tuple[str, str, str]:
    axis = evidence.style
    known = [each for each in axis.artists if each.p_value is not None] if axis is not None else []
    artists = evidence.snapshot.artists if evidence.snapshot is not None else 0
    nothing = f"No single source stands out among {count(artists, 'artist')}."
    if not known:
        return "", nothing, ""
    best = min(known, key=lambda each: (each.p_value or 0.0, -each.share))
    hand = "an artist whose works are protected" if best.protected else best.artist
    found = (
        f"This image resembles the hand of {hand} more than images by somebody outside the collection do"
        f" (p = {best.p_value:.2g}). Style alone never proves copying or ownership."
    )
    return found, nothing, ""


def _content(evidence: Evidence, _level: float) -> tuple[str, str, str]:
    near = [
        (axis.nearest[0], name)
        for name, axis in content_axes(evidence).items()
        if axis.nearest and axis.nearest[0].p_value is not None
    ]
    nothing = "What it shows is no closer to a work than in images by artists outside the collection."
    if not near:
        return "", nothing, ""
    best, name = min(near, key=lambda pair: (pair[0].p_value or 0.0, pair[1]))
    found = (
        f"What it shows is closer to {credit(best.title, best.artist)} than images by artists outside the collection"
        f" come to any work in it ({name}: p = {best.p_value:.2g}). The same subject is not the same picture."
    )
    return found, nothing, ""


# ---- words ---------------------------------------------------------------------------------------------------------


def credit(title: str, artist: str | None) -> str:
    """Name a work and its artist; a protected work has no artist."""
    return f"“{title}” by {artist}" if artist is not None else title


def count(number: int, singular: str, plural: str | None = None) -> str:
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def chance_of(p: float) -> str:
    """A p-value as "at most 1 of N", N in two digits and rounded down, so that no rate is told smaller than it is."""
    n = max(1, math.floor(1 / p * (1 + 1e-9))) if p > 0 else 1
    step = 10 ** max(0, len(str(n)) - 2)
    return f"at most 1 of {n // step * step:,}"


def percent(part: float) -> str:
    """A share in whole percent; neither 0 % nor 100 % is said of what is only close to it."""
    if 0 < part < 0.01:
        return "under 1 %"
    return "over 99 %" if 0.99 < part < 1 else f"{part:.0%}".replace("%", " %")


def found_sentence(matches: Sequence[Match]) -> str:
    """Say which works are this very image; `matches` has at least one."""
    first = matches[0]
    what = "This very file" if first.by == "file_sha256" else "A picture with these very pixels"
    more = f", and {count(len(matches) - 1, 'more time', 'more times')}" if len(matches) > 1 else ""
    return f"{what} is in the collection: {credit(first.title, first.artist)}{more}."
