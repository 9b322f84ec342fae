"""Organs and places of a sentence: what is said of findings through an organ ("the lungs are clear" denies some, "the
heart is enlarged" is one), and which side, zone and size words belong to which finding.

Text is a `form.Sentence`'s: lower case, single spaces.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from medalign_lite.text.context import Reading, Span
from medalign_lite.text.lexicon import NO_SIDE, NO_SIDE_FINDINGS, ORGANS, SIDE_WORDS, SIZE_WORDS, ZONE_WORDS

_ORGAN = re.compile("|".join(rf"(?P<{name}>\b{pattern}(?!\w))" for name, (pattern, _) in ORGANS.items()))
_NORMAL = (
    r"(?:normal(?! saline)(?! position(?! of (?:both|the)(?: hemi-?)?)| course|ly positioned)|"
    r"clear(?:ed)?(?!ly| of)|unremarkable|"
    r"within (?:the )?normal (?:limits|range|size)|wnl|intact|not (?:\w+ )?(?:enlarged|widened|increased|engorged|"
    r"congested|prominent|elevated|raised)|nonenlarged|non-enlarged|sharp|preserved|maintained|negative|nl|"
    r"(?:limits of|top) normal|no abnormality|central|(?:in the )?midline(?! shift| structures)|"
    r"not (?:shifted|deviated|displaced))"
)
_ABNORMAL = (
    r"(?:enlarged|enlargement|increased|widened|prominent|prominence|large|big|dilated|generous|elevated|raised)"
)
_BORDERLINE = r"borderline(?= ?(?:in|heart|cardiac|size|[.,;]|$))"
_PREDICATE = re.compile(
    rf"(?P<border>\b{_BORDERLINE}(?!\w))|(?P<normal>\b{_NORMAL}(?!\w))|(?P<abnormal>\b{_ABNORMAL}(?!\w))"
)
_DENIES = re.compile(r"\b(?:not|no|\w+n't|without|nor|cannot)\b")
_DOUBTS = re.compile(
    r"\b(?:borderline|possibl[ey]|probabl[ey]|may|might|likely|equivocal|questionabl[ey]|normal to|suspected)\b"
)
_STRAIGHT = re.compile(r"central|(?:in the )?midline|not (?:shifted|deviated|displaced)")  # of what can be shifted
_ALMOST = re.compile(r" to (?:mildly|slightly|minimally|borderline)")  # "normal to mildly enlarged"
_EXCUSED = re.compile(r" (?:in ap|by|due to the|on this ap)")  # "prominent due to the projection"
_OTHER_STATEMENT = re.compile(
    r"\b(?:shows?|demonstrates?|reveals?|with|there (?:is|are)|has|have|no|tip|obscur\w+|due|given)\b|;"
)
_JOINS = re.compile(
    r"(?: (?:the|in|of|both|for|size|position|and|or|visuali[sz]ed|right|left|bilateral|appearance)){0,4}[ ,/]*"
)
_BUT = re.compile(r"\bbut\b")
_ENLARGEABLE = {"heart": "cardiomegaly", "mediastinum": "enlarged mediastinum",
                "cardiomediastinum": "enlarged mediastinum", "diaphragm": "raised diaphragm",
                "spleen": "splenomegaly", "liver": "hepatomegaly"}

_Organ = tuple[int, int, str]  # characters, a key of `ORGANS`


class Mention(NamedTuple):
    """Where findings are named; `reading` None: the context decides, else the organ has."""

    findings: tuple[str, ...]
    start: int
    end: int
    reading: Reading | None


def read_organs(text: str, spoken: Sequence[Span]) -> list[Mention]:
    """The findings that predicates of organs deny, doubt or affirm; `spoken`: where findings are named themselves.

    A predicate speaks of every organ since the one before it, or of those it stands directly in front of.
    """
    organs = [
        (*m.span(), m.lastgroup)
        for m in _ORGAN.finditer(text)
        if not any(m.start() < end and start < m.end() for start, end in spoken)
    ]
    found: list[Mention] = []
    at = 0
    for predicate in _PREDICATE.finditer(text) if organs else ():
        start, end = predicate.span()
        if any(a <= start < b for a, b in spoken):
            continue
        named = [o for o in organs if at <= o[0] and o[1] <= start and _is_subject(text, o[1], start, spoken)]
        named = [o for o in named if o[2] != "chest" or o is named[-1]]  # "CHEST, TWO VIEWS: The lungs are clear"
        named = named or _directly_behind(text, organs, end)
        found += [m for organ in named if (m := _judge(text, organ, predicate, at))]
        at = max([end, *(o[1] for o in named)])
    return found


def _is_subject(text: str, end: int, word: int, spoken: Sequence[Span]) -> bool:
    """Whether the predicate at `word` is said of the organ that ends at `end`: no other statement between."""
    if any(end <= a < word for a, _ in spoken) and not _BUT.search(text, end, word):
        return False
    return not _OTHER_STATEMENT.search(text, end, word)


def _directly_behind(text: str, organs: Sequence[_Organ], end: int) -> list[_Organ]:
    """The organs right behind a predicate and those joined to them: "normal heart size and mediastinal contours"."""
    named = []
    for organ in organs:
        if organ[0] >= end and _JOINS.fullmatch(text, end, organ[0]):
            named.append(organ)
            end = organ[1]
    return named


def _judge(text: str, organ: _Organ, predicate: re.Match, at: int) -> Mention | None:
    """The mention that one predicate makes of one organ; `at`: where the statement may begin."""
    start, end, name = organ
    word = predicate.span()
    said = text[end : word[0]] if end <= word[0] else text[at : word[0]]
    enlarged = _ENLARGEABLE.get(name)
    if predicate["border"]:
        return Mention((enlarged,), start, max(end, word[1]), Reading("uncertain", None, word)) if enlarged else None
    if predicate["normal"]:
        straight = _STRAIGHT.fullmatch(predicate.group())
        findings = ("midline shift",) if straight and name == "mediastinum" else ORGANS[name][1]
        if _DENIES.search(said) or not findings or straight and "midline shift" not in findings:
            return None
        if enlarged and _ALMOST.match(text, word[1]):
            return Mention((enlarged,), start, end, Reading("uncertain", None, word))
        return Mention(findings, start, end, Reading("absent", None, word))
    if not enlarged or _EXCUSED.match(text, word[1]):
        return None
    polarity = "absent" if _DENIES.search(said) else "uncertain" if _DOUBTS.search(said) else "present"
    return Mention((enlarged,), start, max(end, word[1]), Reading(polarity, None, word))


# --- places -----------------------------------------------------------------------------------------------------------
# Between two findings the last separator decides; joined findings share a place that only one of them has
# ("atelectasis and effusion at the left base").
# "a marked decrease in the effusion" says nothing of its size
_NO_SIZE = r"(?! (?:interval )?(?:decreas|increase\b|improv|worsen|change|resol|clear))"
_WORD = r"(?:{words})(?!\w)"


def _alternatives(table: Mapping[str, str], frame: Mapping[str, str], tail: str = "") -> re.Pattern:
    named = (rf"(?P<{value}>\b{frame.get(value, _WORD).format(words=words)})" for value, words in table.items())
    return re.compile(f"(?:{'|'.join(named)}){tail}")


_PATTERNS = {
    "side": _alternatives(SIDE_WORDS, {"right": NO_SIDE, "left": NO_SIDE}),
    "zone": _alternatives(ZONE_WORDS, {}),
    "size": _alternatives(SIZE_WORDS, {}, _NO_SIZE),
}
_BORDER = re.compile(
    r",|;|:|\b(?:and|or|nor|with|an?|no|but|however|although|though|while|whereas|there (?:is|are)|may|might|could|"
    r"likely|suggest\w*|represent\w*|versus|vs|without|is|are|overlying|adjacent|reflecting)\b|/"
)
_CLAUSE_CUT = re.compile(  # "nodules, the largest in the left base": one of them is there
    r";|\b(?:but|while|whereas|however|although|though)\b|,? (?:the|with) (?:the )?(?:larg|bigg|great|dominant|worst)"
)
_JOINED = re.compile(r"^ ?(?:and/or|versus|vs\.?|and|or|/|,|, and|, or|with)(?! no\b| without\b)(?: \w+)? ?$")
_RUN = re.compile(r"(?:[\s,]|-sided|lung|zone|lobe|sided|focal|patchy|new|stable|unchanged|pleural|to)*")
_ONE_SIDE = re.compile(r"\b(?:right|left)(?: \w+)? $")  # "large right" of "large right and small left effusions"
_OTHER_SIDE = re.compile(r" (?:\w+ )?(?:right|left)\b")


class Place(NamedTuple):
    """A side, zone or size word: `name` "side" | "zone" | "size", `value` as in a `Claim`, characters."""

    name: str
    value: str
    start: int
    end: int


def attach_places(text: str, mentions: Sequence[Mention]) -> list[list[Place]]:
    """The places of each mention."""
    places = [Place(name, m.lastgroup, *m.span()) for name, p in _PATTERNS.items() for m in p.finditer(text)]
    owned: list[list[Place]] = [[] for _ in mentions]
    if not places:
        return owned
    inner = [_border(text, a.end, b.start, places) for a, b in zip(mentions, mentions[1:], strict=False)]
    borders = [0, *inner, len(text)]
    for i, mention in enumerate(mentions):
        first, last = _own_clause(text, borders[i], mention, borders[i + 1])
        owned[i] = [p for p in places if first <= p.start and p.end <= last]
    for i in range(1, len(mentions)):
        a, b = mentions[i - 1 : i + 1]
        if not a.reading and not b.reading and _JOINED.match(text[a.end : b.start]):
            before = [p for p in owned[i - 1] if p.start < a.end and p.name != "size"]
            behind = [p for p in owned[i] if p.start >= b.end and p.name != "size"]
            if not any(p.name == "side" for p in owned[i]):
                owned[i] = owned[i] + before
            if not any(p.name == "side" for p in owned[i - 1]):
                owned[i - 1] = owned[i - 1] + behind
    return owned


def choose_places(text: str, finding: str, mention: Mention, places: Sequence[Place]) -> list[dict[str, Place]]:
    """Side, zone and size of each claim: one, or two where right and left are named, each with the size beside it."""
    if finding in NO_SIDE_FINDINGS:
        places = [p for p in places if p.name == "size"]
    if finding != "cardiomegaly":  # "slightly increased" is a change
        places = [p for p in places if p.name != "size" or not text.startswith(" increas", p.end)]
    near = sorted(places, key=lambda p: max(mention.start - p.end, p.start - mention.end))
    chosen: dict[str, Place] = {}
    for place in near:
        chosen.setdefault(place.name, place)
    sides = {p.value: p for p in reversed(near) if p.name == "side"}
    if "bilateral" in sides:
        return [chosen | {"side": sides["bilateral"]}]
    if len(sides) < 2:
        return [chosen]
    return [{"side": side} | _beside(side, near) for side in sorted(sides.values(), key=lambda p: p.start)]


def _beside(side: Place, near: Sequence[Place]) -> dict[str, Place]:
    """The zone and the size that stand nearest to a side."""
    own = {}
    for name in ("size", "zone"):
        close = [p for p in near if p.name == name]
        if close:
            own[name] = min(close, key=lambda p: max(side.start - p.end, p.start - side.end, 0))
    return own


def _own_clause(text: str, start: int, mention: Mention, end: int) -> tuple[int, int]:
    """The stretch around a mention that speaks of it: ";" and "while the left ..." end it."""
    before = [m.end() for m in _CLAUSE_CUT.finditer(text, start, mention.start)]
    behind = _CLAUSE_CUT.search(text, mention.end, end)
    return (before[-1] if before else start), (behind.start() if behind else end)


def _border(text: str, start: int, end: int, places: Sequence[Place]) -> int:
    """Between two mentions: the last separator, else where the unbroken run of places in front of `end` begins."""
    cuts = list(_BORDER.finditer(text, start, end))
    if cuts:
        hard = [c for c in cuts if _CLAUSE_CUT.fullmatch(c.group())]
        cut = (hard or cuts)[-1]
        pair = cut.group() == "and" and _ONE_SIDE.search(text[start : cut.start()])
        if pair and len(cuts) > 1 and _OTHER_SIDE.match(text, cut.end(), end):
            return cuts[-2].start()
        return cut.start()
    run = end
    for place in sorted(places, key=lambda p: -p.end):
        if start <= place.start and place.end <= run and _RUN.fullmatch(text, place.end, run):
            run = place.start
    return run
