"""The spans of an answer that somebody may want to correct, each with corrections to choose from.

Spans are the claims of the answer, yes or no at its beginning, and side, zone and size words beside those. A choice
changes characters of the answer and nothing else; one that cannot be written grammatically is not offered.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from medalign_lite.cases.case import Case
from medalign_lite.edits.repair import corrected, turns
from medalign_lite.edits.truths import Facts
from medalign_lite.text.answers import case_like, like_word
from medalign_lite.text.claims import Claim, find_attributes
from medalign_lite.text.diff import diff_spans
from medalign_lite.text.facts import SIDES, SIZES, ZONES, Fact
from medalign_lite.text.reports import extract_claims, read_report
from medalign_lite.text.spans import Change, NoEdit

_VALUES = {"side": SIDES, "zone": ZONES, "size": SIZES}
_LEAD = re.compile(r"\W*(yes|no)\b(?=\W*$|\s*[,.;])", re.I)


@dataclass(frozen=True)
class Choice:
    """One correction: what it makes of the span, in words, and the changes that do it."""

    label: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Span:
    """The characters [start, end) that can be clicked; `tone` is "present", "absent", "uncertain" or "other"."""

    start: int
    end: int
    label: str
    tone: str
    choices: tuple[Choice, ...]


def find_spans(answer: str, case: Case) -> list[Span]:
    """Spans in reading order that do not overlap; claims that share characters are one span."""
    read = extract_claims if case.facts is not None else read_report  # the world's words, or people's
    found: list[Span] = []
    if lead := _LEAD.match(answer):
        other = case_like("no" if lead[1].lower() == "yes" else "yes", lead[1])
        choice = Choice(other.lower(), (Change(*lead.span(1), other),))
        found.append(Span(*lead.span(1), "the answer", "other", (choice,)))
    claims = read(answer)
    found = _merged([*found, *(_claim_span(answer, claim, claims, read) for claim in claims)])
    taken = [(span.start, span.end) for span in found]
    for word in find_attributes(answer):
        if all(word.end <= a or b <= word.start for a, b in taken):
            choices = _other_values(answer, word.name, word.value, (word.start, word.end))
            found.append(Span(word.start, word.end, word.name, "other", tuple(choices)))
    return sorted(found, key=lambda span: span.start)


def _claim_span(answer: str, claim: Claim, claims: Sequence[Claim], read: Callable) -> Span:
    named = " ".join(filter(None, (claim.size, claim.side, claim.zone, claim.finding)))
    label = f"{named}: {claim.polarity}"
    if read is read_report:
        # none where it is read from an organ that denies many findings
        alone = sum(other.parts["finding"] == claim.parts["finding"] for other in claims) == 1
        made = [Choice(label, changes) for label, changes in turns(answer, claim, claims)] if alone else []
        return Span(claim.start, claim.end, label, claim.polarity, tuple(made))
    choices = []
    for name in ("side", "zone", "size"):
        if name in claim.parts and getattr(claim, name):
            choices += _other_values(answer, name, getattr(claim, name), claim.parts[name])
    choices += _turned(answer, claim, claims)
    return Span(claim.start, claim.end, label, claim.polarity, tuple(choices))


def _other_values(answer: str, name: str, value: str, place: tuple[int, int]) -> list[Choice]:
    """Another side, zone or size in the place of a word."""
    said = answer[slice(*place)]
    new = {other: like_word(other, said, name) for other in _VALUES[name] if other != value}
    return [Choice(other, (Change(*place, word),)) for other, word in new.items() if word != said]


def _turned(answer: str, claim: Claim, claims: Sequence[Claim]) -> list[Choice]:
    """The finding denied where it is affirmed, affirmed (on each side that it can have) where it is denied."""
    affirmed = [c for c in claims if c.polarity == "present"]
    others = tuple(Fact(c.finding, c.side, c.zone, c.size) for c in affirmed if c.finding != claim.finding)
    if claim.polarity == "absent":
        if len(others) < len(affirmed):  # said to be there elsewhere
            return []
        facts = [Fact(claim.finding, size=size) for size in SIZES] if claim.finding == "cardiomegaly" else \
            [Fact(claim.finding, claim.side)] if claim.side else [Fact(claim.finding, side) for side in SIDES]
        named = {" ".join(filter(None, (fact.size, fact.side, fact.zone, fact.finding))): fact for fact in facts}
        worlds = {name: (*others, fact) for name, fact in named.items()}  # "small left effusion"
        said = others
    else:
        worlds = {"not there": others}
        said = (*others, Fact(claim.finding, claim.side, claim.zone, claim.size))
    own = set(_repairs(answer, said))  # what contradicts itself in the answer is not this claim's matter
    choices = {label: set(_repairs(answer, world)) - own for label, world in worlds.items()}
    return [Choice(label, tuple(sorted(changes))) for label, changes in choices.items() if changes]


def _repairs(answer: str, world: Sequence[Fact]) -> tuple[Change, ...]:
    """The changes that make a true answer of this one in such a world; none where it is true, or there are none."""
    try:
        true = corrected(answer, Facts(tuple(world)))
    except NoEdit:
        return ()
    pairs = zip(*diff_spans(answer, true), strict=True)
    return tuple(Change(a, b, true[c:d]) for (a, b, _), (c, d, _) in pairs)


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, s.end)):
        last = merged[-1] if merged else None
        if last and span.start < last.end:
            tone = last.tone if last.tone == span.tone else "other"
            choices = tuple(dict.fromkeys([*last.choices, *span.choices]))
            merged[-1] = Span(last.start, max(last.end, span.end), f"{last.label}; {span.label}", tone, choices)
        else:
            merged.append(span)
    return merged
