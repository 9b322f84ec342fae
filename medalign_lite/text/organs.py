"""What a report says of findings through an organ: "the lungs are clear" denies some, "the heart is enlarged" is one.

Words in front of an organ ("normal heart size") or behind it ("heart size and mediastinal contours are normal").
Text is a `sections.Sentence`'s: lower case, single spaces.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from medalign_lite.text.context import Reading, Span
from medalign_lite.text.lexicon import ORGANS

_ORGAN = re.compile("|".join(rf"(?P<{name}>\b{pattern}(?!\w))" for name, (pattern, _) in ORGANS.items()))
_NORMAL = (
    r"(?:normal(?! saline)(?! position| course|ly positioned)|clear(?:ed)?(?!ly| of)|unremarkable|"
    r"within (?:the )?normal (?:limits|range|size)|wnl|intact|"
    r"not (?:\w+ )?(?:enlarged|widened|increased|engorged|congested|prominent|elevated|raised)|nonenlarged|"
    r"non-enlarged|sharp|"
    r"preserved|maintained|negative|nl|(?:limits of|top) normal|no abnormality)"
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
_ALMOST = re.compile(r" to (?:mildly|slightly|minimally|borderline)")  # "normal to mildly enlarged"
_EXCUSED = re.compile(r" (?:in ap|by|due to the|on this ap)")  # "prominent due to the projection"
_OTHER_STATEMENT = re.compile(
    r"\b(?:shows?|demonstrates?|reveals?|with|there (?:is|are)|has|have|no|tip|obscur\w+|due|given)\b|;"
)
_BETWEEN = re.compile(
    r"(?: (?:the|in|of|both|for|size|and|or|visuali[sz]ed|right|left|bilateral|appearance)){0,4}[ ,/]*"
)
_BUT = re.compile(r"\bbut\b")
_ENLARGEABLE = {"heart": "cardiomegaly", "mediastinum": "enlarged mediastinum", "diaphragm": "raised diaphragm"}

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
        if organ[0] >= end and _BETWEEN.fullmatch(text, end, organ[0]):
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
        if _DENIES.search(said) or not ORGANS[name][1]:
            return None
        if enlarged and _ALMOST.match(text, word[1]):
            return Mention((enlarged,), start, end, Reading("uncertain", None, word))
        return Mention(ORGANS[name][1], start, end, Reading("absent", None, word))
    if not enlarged or _EXCUSED.match(text, word[1]):
        return None
    polarity = "absent" if _DENIES.search(said) else "uncertain" if _DOUBTS.search(said) else "present"
    return Mention((enlarged,), start, max(end, word[1]), Reading(polarity, None, word))
