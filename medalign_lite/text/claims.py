"""What a text asserts: finding, polarity, side, zone and size of every mention, with the characters that say so.

A rule-based reader in the line of NegEx (Chapman et al. 2001): a lexicon of findings, negating cues with a scope that
ends at "but", a semicolon or a new noun phrase, and attributes given to the nearest mention. The words are data, at
the top of this file. Characters are Python string indices, end exclusive.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from medalign_lite.text import facts
from medalign_lite.text.facts import Fact

# Regular expressions of each finding's names. The group `term`, where there is one, is what counts as the name.
_HEART = r"(?:heart(?: size)?|cardiac (?:silhouette|size|shadow))"
FINDING_TERMS: dict[str, tuple[str, ...]] = {
    "nodule": (r"(?:(?:lung|pulmonary) )?nod(?:ule|ular opacit)(?:s|y|ies)?",),
    "consolidation": (r"consolidations?", r"air-?space (?:opacit(?:y|ies)|opacification|disease)", r"infiltrates?"),
    "effusion": (r"(?<!pericardial )(?:pleural )?effusions?", r"pleural fluid"),
    "pneumothorax": (r"pneumothora(?:x|ces)",),
    "cardiomegaly": (
        r"cardiomegaly",
        r"cardiac enlargement",
        rf"(?:enlarged|increased) {_HEART}",
        rf"{_HEART}\b[^,]{{0,40}}?\b(?P<term>enlarged|increased)",
    ),
    "atelectasis": (r"atelectas[ei]s", r"volume loss", r"atelectatic changes?"),
    "fracture": (r"(?:rib )?fractures?", r"(?:fractured|broken) ribs?"),
    "pacemaker": (r"(?:cardiac |pacing )?(?:pacemaker|device)s?",),
}

# Sentences that deny several findings through an organ: (expression with groups `term` and `cue`, findings).
_BE = r"(?:is|are|was|were|appears?|remains?)"
NORMAL_ORGANS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (rf"(?P<term>{_HEART}) {_BE} (?:of )?(?P<cue>normal|within normal limits|unremarkable)", ("cardiomegaly",)),
    (rf"(?P<cue>normal) (?P<term>{_HEART})", ("cardiomegaly",)),
    (rf"(?P<term>lungs?(?: fields)?) {_BE} (?:both |otherwise )?(?P<cue>clear)",
     ("nodule", "consolidation", "atelectasis")),
    (rf"(?P<term>pleural spaces?|pleura) {_BE} (?:otherwise )?(?P<cue>clear)", ("effusion", "pneumothorax")),
    (rf"(?P<term>ribs?) {_BE} (?:otherwise )?(?P<cue>intact)", ("fracture",)),
)  # fmt: skip

# Cues in front of what they deny; "No," and "No." answer a question and deny nothing here.
NEGATES_AFTER = (
    r"no(?! longer\b| (?:\w+ )?(?:change|increase|decrease)\b)(?!\s*[,.:!?]|\s*$)",
    r"not", r"\w+n't", r"cannot", r"without", r"free of", r"negative for", r"neither", r"nor", r"lacks?", r"absence of",
)  # fmt: skip
# Cues behind what they deny.
_SEEN = r"(?:seen|present|visible|visuali[sz]ed|identified|noted|detected|evident|shown|demonstrated|appreciated|there)"
NEGATES_BEFORE = (
    rf"(?P<cue>not)(?: \w+)?(?: be)? {_SEEN}", rf"(?P<cue>\w+n't|cannot)(?: be)? {_SEEN}",
    r"(?:is|are) (?P<cue>absent)",
    r"(?<!cannot be )(?<!not be )(?P<cue>excluded|ruled out)",
)  # fmt: skip
CLAUSE_ENDS = r";|:|\b(?:but|however|although|though|while|whereas|yet|except(?: for)?|apart from|other than)\b"
_NEW_PHRASE = (
    r"(?:,|\band\b|\bwith\b|\bor\b)(?: there (?:is|are))? (?:an?|the|there)\b|(?:\band\b|\bwith\b) (?:{words})\b"
)

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
_PLACE_TAIL = r"(?: lung)?[ -](?:zones?|lungs?|ribs?|sided?|hemithorax|lobes?)\b"


def _words(values: Mapping[str, str]) -> str:
    return "|".join(sorted(values, key=len, reverse=True))


_VALUES = {"side": SIDES, "zone": ZONES, "size": SIZES}
_GROUPS = "|".join(f"(?P<{name}>{_words(values)})" for name, values in _VALUES.items())
_ATTRIBUTES = re.compile(rf"\b(?<!not on the )(?<!not in the )(?:{_GROUPS})(?!\w)", re.I)
_TERMS = [(f, re.compile(rf"\b(?:{t})\b", re.I)) for f, terms in FINDING_TERMS.items() for t in terms]
_ORGANS = [(re.compile(rf"\b(?:{p})\b", re.I), findings) for p, findings in NORMAL_ORGANS]
_AFTER = re.compile(rf"\b(?:{'|'.join(NEGATES_AFTER)})(?!\w)", re.I)
_BEFORE = [re.compile(rf"\b(?:{p})\b", re.I) for p in NEGATES_BEFORE]
_SENTENCE = re.compile(r"(?:[^.!?\n]|\.(?=\d)){1,600}[.!?]*")
_CLAUSE_END = re.compile(CLAUSE_ENDS, re.I)
_SCOPE_END = re.compile(_NEW_PHRASE.format(words=_words(SIZES | SIDES)), re.I)
_SEPARATOR = re.compile(r",|\b(?:and|or|nor|with|an?|no|there (?:is|are))\b", re.I)
_REACH = 200  # characters in front of a name in which its own words stand
_ARTICLE = re.compile(r"\b(an?)\s+$", re.I)


@dataclass(frozen=True)
class Claim:
    """One assertion. `start`, `end`: the characters of the finding and its attributes (the cue not included).

    `parts` holds the characters of "finding", "side", "zone", "size", "cue" and "organ" (where `radiology` reads the
    claim from an organ: "the lungs are clear"), those that are there. The cue is the negating or doubting word, shared
    by coordinated findings, or the article of an affirmed one. `extract_claims` gives present and absent claims
    without a time; `radiology.read_report` also gives doubt and time.
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


@dataclass(frozen=True)
class _Mention:
    findings: tuple[str, ...]
    start: int
    end: int
    cue: tuple[int, int] | None  # the word that makes an organ normal, which denies the findings


def extract_claims(text: str) -> tuple[Claim, ...]:
    """Every mention of a finding in `text` as a claim, in reading order.

    A mention that names two sides (or zones, or sizes) gives a claim for each, so that a contradiction is seen.
    """
    claims: list[Claim] = []
    for sentence in find_sentences(text):
        said: list[Claim] = []
        for start, end in _clauses(text, *sentence):
            said += _read_clause(text, start, end)
        affirmed = {c.finding for c in said if c.polarity == "present"}
        claims += [c for c in said if not (c.polarity == "absent" and _is_organ(text, c) and c.finding in affirmed)]
    return tuple(claims)


def find_sentences(text: str) -> tuple[tuple[int, int], ...]:
    """The characters of every sentence, the space in front of it included."""
    return tuple(m.span() for m in _SENTENCE.finditer(text))


def find_attributes(text: str, start: int = 0, end: int | None = None) -> tuple[Attribute, ...]:
    """The side, zone and size words of `text[start:end]`, with characters of `text`."""
    found = _ATTRIBUTES.finditer(text, start, len(text) if end is None else end)
    return tuple(Attribute(m.lastgroup, _VALUES[m.lastgroup][m.group().lower()], m.start(), m.end()) for m in found)


def find_negations(text: str) -> tuple[tuple[int, int], ...]:
    """The characters of every negating word of `text`, before or behind what it denies."""
    found = {m.span() for m in _AFTER.finditer(text)}
    return tuple(sorted(found | {m.span("cue") for p in _BEFORE for m in p.finditer(text)}))


def find_terms(text: str) -> tuple[tuple[int, int, str], ...]:
    """(start, end, finding) of every name of a finding."""
    return tuple((m.start, m.end, f) for m in _mentions(text, 0, len(text)) for f in m.findings)


def judge(claim: Claim, facts: Sequence[Fact]) -> Verdict:
    """Whether `claim` is true of `facts`, judged on what it states; what cannot be seen can be neither.

    An attribute that the fact does not have (the zone of an effusion) is not judged.
    """
    same = [f for f in facts if f.finding == claim.finding]
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


def _clauses(text: str, start: int, end: int) -> list[tuple[int, int]]:
    cuts = [m.span() for m in _CLAUSE_END.finditer(text, start, end)]
    starts, ends = [start, *(b for _, b in cuts)], [*(a for a, _ in cuts), end]
    return list(zip(starts, ends, strict=True))


def _mentions(text: str, start: int, end: int) -> list[_Mention]:
    """Non-overlapping names of findings and normal organs, the longer one first where two overlap."""
    found = []
    for finding, pattern in _TERMS:
        for m in pattern.finditer(text, start, end):
            found.append(_Mention((finding,), *m.span("term" if "term" in pattern.groupindex else 0), None))
    for pattern, findings in _ORGANS:
        found += [_Mention(findings, *m.span("term"), m.span("cue")) for m in pattern.finditer(text, start, end)]
    kept: list[_Mention] = []
    for mention in sorted(found, key=lambda m: (m.start - m.end, m.start)):
        if all(mention.end <= k.start or k.end <= mention.start for k in kept):
            kept.append(mention)
    return sorted(kept, key=lambda m: m.start)


def _read_clause(text: str, start: int, end: int) -> list[Claim]:
    mentions = _mentions(text, start, end)
    attributes = _attach(text, mentions, start, end)
    claims = []
    for mention, own in zip(mentions, attributes, strict=True):
        cue = mention.cue or _negation(text, mention, mentions, start, end)
        for finding in mention.findings:
            claims += _claims(text, finding, mention, cue, own)
    return claims


def _negation(text: str, mention: _Mention, mentions: list[_Mention], start: int, end: int) -> tuple[int, int] | None:
    """The cue whose scope covers the mention: the nearest in front of it, else one behind it."""
    behind = {m.span("cue") for p in _BEFORE for m in p.finditer(text, start, end) if mentions[0].end <= m.start()}
    front = [m for m in _AFTER.finditer(text, start, end) if m.end() <= mention.start]
    for m in reversed(front):
        taken = any(a <= m.start() < b for a, b in behind)
        if not taken and not _SCOPE_END.search(text, m.end(), mention.start):
            return m.span()
    for a, b in sorted(behind):
        between = [m for m in mentions if mention.start < m.start < a]
        if a >= mention.end and not any(_SCOPE_END.search(text, mention.end, m.start) for m in between):
            return a, b
    return None


def _attach(text: str, mentions: list[_Mention], start: int, end: int) -> list[list[Attribute]]:
    """Each attribute word to one mention: between two, the last separator decides; else the one it stands against."""
    owned: list[list[Attribute]] = [[] for _ in mentions]
    if not mentions:
        return owned
    borders = [start]
    for a, b in zip(mentions, mentions[1:], strict=False):
        cuts = list(_SEPARATOR.finditer(text, a.end, b.start))
        borders.append(cuts[-1].start() if cuts else run_start(text, a.end, b.start))
    borders.append(end)
    for i, mention in enumerate(mentions):
        for a in find_attributes(text, borders[i], borders[i + 1]):
            if a.end <= mention.start or a.start >= mention.end:
                owned[i].append(a)
    return owned


def run_start(text: str, start: int, end: int) -> int:
    """Where the unbroken run of attribute words that ends at `end` begins."""
    run = end
    for a in reversed(find_attributes(text, max(start, end - _REACH), end)):
        if re.fullmatch(r"(?:-sided|\s|lung|zone|lobe)*", text[a.end : run]):
            run = a.start
    return run


def _claims(
    text: str, finding: str, mention: _Mention, cue: tuple[int, int] | None, own: list[Attribute]
) -> list[Claim]:
    """One claim, and one more for each second value of the same attribute."""
    usable = [a for a in own if finding != "cardiomegaly" or a.name == "size"]
    distance = {a: max(mention.start - a.end, a.start - mention.end) for a in usable}
    first: dict[str, Attribute] = {}
    for a in sorted(usable, key=distance.get):
        first.setdefault(a.name, a)
    more = [{a.name: a} for a in usable if a.value != first[a.name].value]
    polarity = "absent" if cue else "present"
    return [_claim(text, finding, polarity, mention, cue, chosen) for chosen in (first, *more)]


def _claim(text, finding, polarity, mention, cue, chosen: Mapping[str, Attribute]) -> Claim:
    parts = {"finding": (mention.start, mention.end)} | {n: (a.start, a.end) for n, a in chosen.items()}
    start, end = min(a for a, _ in parts.values()), max(b for _, b in parts.values())
    tail = re.compile(_PLACE_TAIL, re.I).match(text, end) if end > mention.end else None
    run = run_start(text, 0, mention.start)
    article = _ARTICLE.search(text, max(run - _REACH, 0), run)
    if cue:
        parts["cue"] = cue
    elif article:
        parts["cue"] = article.span(1)
    values = {name: chosen[name].value if name in chosen else None for name in _VALUES}
    return Claim(finding, polarity, **values, start=start, end=tail.end() if tail else end, parts=parts)


def _is_organ(text: str, claim: Claim) -> bool:
    """Whether the claim is read from a normal organ and not from the finding's own name."""
    spoken = text[slice(*claim.parts["finding"])]
    return not any(f == claim.finding and p.fullmatch(spoken) for f, p in _TERMS)


def by_side(claim: Claim) -> tuple[Claim, ...]:
    """The claim, or one for each side where it is bilateral."""
    return tuple(replace(claim, side=side) for side in facts.SIDES) if claim.side == "bilateral" else (claim,)
