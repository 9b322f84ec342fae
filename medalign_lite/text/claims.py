"""A claim: what a text asserts of one finding, and whether a table of facts bears it out. `reports` reads claims."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from medalign_lite.text import facts
from medalign_lite.text.facts import Fact

SIDES = {"right": "right", "left": "left", "bilateral": "bilateral", "bilaterally": "bilateral", "both": "bilateral"}
ZONES = {"upper": "upper", "apical": "upper", "mid": "mid", "middle": "mid", "lower": "lower", "basal": "lower"}
SIZES = {
    "small": "small", "small-sized": "small", "tiny": "small", "minimal": "small",
    "mild": "small", "mildly": "small", "slight": "small", "slightly": "small",
    "moderate": "moderate", "moderate-sized": "moderate", "moderately": "moderate", "medium-sized": "moderate",
    "large": "large", "large-sized": "large", "massive": "large",
    "marked": "large", "markedly": "large", "severe": "large", "severely": "large",
}  # fmt: skip
SEVERITY_WORDS = frozenset("mild mildly slight slightly moderately marked markedly severe severely".split())


def _words(values: Mapping[str, str]) -> str:
    return "|".join(sorted(values, key=len, reverse=True))


_VALUES = {"side": SIDES, "zone": ZONES, "size": SIZES}
_GROUPS = "|".join(f"(?P<{name}>{_words(values)})" for name, values in _VALUES.items())
_ATTRIBUTES = re.compile(rf"\b(?<!not on the )(?<!not in the )(?:{_GROUPS})(?!\w)", re.I)


@dataclass(frozen=True)
class Claim:
    """One assertion. `start`, `end`: the characters of the finding and its attributes (the cue not included).

    `parts` holds the characters of "finding", "side", "zone", "size", "cue" and "organ" (where the claim is read from
    an organ: "the lungs are clear"), those that are there. The cue is the denying or doubting word, shared by
    coordinated findings.
    """

    finding: str
    polarity: str  # "present" | "absent" | "uncertain"
    side: str | None
    zone: str | None
    size: str | None
    start: int
    end: int
    parts: Mapping[str, tuple[int, int]]
    temporal: str | None = None  # "new" | "worse" | "unchanged" | "better" | "resolved" | "old"
    kind: str = ""  # the finer name, see `lexicon.KINDS`
    qualifiers: frozenset[str] = frozenset()  # words that narrow it
    words: str = ""  # its characters, in a report
    unsure: frozenset[str] = frozenset()  # what may have been read wrong: "claim", "side", "zone", "size"

    @property
    def said(self) -> tuple:
        """What it says, wherever it stands."""
        return self.finding, self.polarity, self.side, self.zone, self.size

    def restates(self, other: "Claim") -> bool:
        """Whether it says all that the other says: the finding or its denial, and each attribute that it states."""
        attributes = zip(self.said[2:], other.said[2:], strict=True)
        return self.said[:2] == other.said[:2] and all(wanted in (None, stated) for stated, wanted in attributes)


class Attribute(NamedTuple):
    """A side, zone or size word: `name` "side" | "zone" | "size", `value` as in a `Fact`, characters."""

    name: str
    value: str
    start: int
    end: int


class Verdict(NamedTuple):
    """`verdict`: "true" | "false" | "unverifiable"; `wrong`: which of finding, side, zone, size are not so."""

    verdict: str
    wrong: tuple[str, ...] = ()


def find_attributes(text: str, start: int = 0, end: int | None = None) -> tuple[Attribute, ...]:
    """The side, zone and size words of `text[start:end]`, with characters of `text`."""
    found = _ATTRIBUTES.finditer(text, start, len(text) if end is None else end)
    return tuple(Attribute(m.lastgroup, _VALUES[m.lastgroup][m.group().lower()], m.start(), m.end()) for m in found)


def judge(claim: Claim, facts: Sequence[Fact]) -> Verdict:
    """Whether `claim` is true of `facts`, judged on what it states; what cannot be seen can be neither.

    An attribute that the fact does not have (the zone of an effusion) is not judged.
    """
    same = [f for f in facts if f.finding == claim.finding]
    if claim.polarity == "uncertain":
        return Verdict("unverifiable")
    agreeing = [f for f in same if not wrong_attributes(claim, f)]
    if claim.polarity == "absent":
        if any(f.visible for f in agreeing):
            return Verdict("false", ("finding",))
        return Verdict("unverifiable" if agreeing else "true")
    if any(f.visible for f in agreeing):
        return Verdict("true")
    visible = [f for f in same if f.visible]
    if agreeing or (same and not visible):
        return Verdict("unverifiable")
    if not same:
        return Verdict("false", ("finding",))
    return Verdict("false", min((wrong_attributes(claim, f) for f in visible), key=len))


def wrong_attributes(claim: Claim, fact: Fact) -> tuple[str, ...]:
    """Which of side, zone and size the claim states otherwise than the fact."""
    stated = {name: getattr(claim, name) for name in _VALUES}
    return tuple(n for n, value in stated.items() if value and getattr(fact, n) and value != getattr(fact, n))


def by_side(claim: Claim) -> tuple[Claim, ...]:
    """The claim, or one for each side where it is bilateral."""
    return tuple(replace(claim, side=side) for side in facts.SIDES) if claim.side == "bilateral" else (claim,)
