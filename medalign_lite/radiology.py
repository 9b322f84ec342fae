"""What a real radiology report asserts: the claims of its sections, with doubt, time, side, zone and size.

The reader for people's reports; `claims.extract_claims` is the one for the synthetic world, whose table of facts is
complete. Words are in `lexicon`, the form of a report in `sections`, the words around a mention in `context`.
"""

import re
from dataclasses import dataclass, replace

from medalign_lite.claims import Claim
from medalign_lite.context import Cue, Reading, find_cues, read_context, read_time
from medalign_lite.lexicon import (
    FINDINGS, NO_SIDE, NO_SIDE_FINDINGS, ORGANS, SIDE_WORDS, SIZE_WORDS, ZONE_WORDS,
)  # fmt: skip
from medalign_lite.sections import Sentence, find_report_sentences, normalise

_NAMES = {re.sub(r"\W", "_", name): name for name in FINDINGS}
_MENTION = re.compile("|".join(rf"(?P<{g}>\b(?:{'|'.join(FINDINGS[n])})(?!\w))" for g, n in _NAMES.items()))
_ORGAN = re.compile("|".join(rf"(?P<{name}>\b{pattern}(?!\w))" for name, (pattern, _) in ORGANS.items()))
_HOW = (
    r"(?:(?:is|are|was|were|appears?|remains?|seems?|looks?|be|to be|otherwise|grossly|essentially|again|also|both|"
    r"overall|now|still|all|"
    r"generally|relatively|mildly|markedly|moderately|slightly|severely|borderline|significantly|stably|well[- ]\w+|"
    r"and|clearly|minimally|"
    r"bilaterally|upper|at|the|top|within|radiographically|normally|currently|somewhat|massively|likely|likewise|"
    r"appear|upper limits of|probably|possibly) ){0,6}"
)
_NORMAL = (
    r"(?:normal(?! saline)(?! position| course|ly positioned)|clear(?:ed)?(?!ly| of)|unremarkable|"
    r"within (?:the )?normal (?:limits|range|size)|wnl|intact|"
    r"not (?:\w+ )?(?:enlarged|widened|increased|engorged|congested|prominent)|nonenlarged|non-enlarged|sharp|"
    r"preserved|maintained|negative|nl|"
    r"(?:limits of|top) normal|no abnormality)"
)
_ABNORMAL = r"(?:enlarged|enlargement|increased|widened|prominent|prominence|large|big|dilated|generous)"
_PREDICATE = re.compile(rf"(?P<how>{_HOW})(?:(?P<normal>\b{_NORMAL}(?!\w))|(?P<abnormal>\b{_ABNORMAL}(?!\w)))")
_DENIES = re.compile(r"\b(?:not|no|n't|without|nor|cannot)\b")
_ENLARGEABLE = {"heart": "cardiomegaly", "mediastinum": "enlarged mediastinum"}

_PLACES = {"side": SIDE_WORDS, "zone": ZONE_WORDS, "size": SIZE_WORDS}
_PLAIN = r"(?:{words})(?!\w)"
_SIDE = re.compile(
    "|".join(
        rf"(?P<{value}>\b{(_PLAIN if value == 'bilateral' else NO_SIDE).format(words=words)})"
        for value, words in SIDE_WORDS.items()
    )
)
# "a marked decrease in the effusion" says nothing of its size
_NO_SIZE = r"(?! (?:interval )?(?:decreas|increase\b)| (?:interval )?(?:improv|worsen|change|resol|clear))"
_ZONE, _SIZE = (
    re.compile("(?:" + "|".join(rf"(?P<{v}>\b(?:{words})(?!\w))" for v, words in table.items()) + ")" + tail)
    for table, tail in ((ZONE_WORDS, ""), (SIZE_WORDS, _NO_SIZE))
)
_BORDER = re.compile(
    r",|;|:|\b(?:and|or|nor|with|an?|no|but|however|although|though|while|whereas|there (?:is|are)|may|might|could|"
    r"likely|suggest\w*|represent\w*|"
    r"versus|vs|without|is|are|overlying|adjacent|reflecting)\b|/"
)
_JOINED = re.compile(r"^ ?(?:and/or|versus|vs\.?|and|or|/|,|, and|, or|with)(?! no\b| without\b)(?: \w+)? ?$")
_CLAUSE_CUT = re.compile(r";|\b(?:but|while|whereas|however|although|though)\b")
_RUN = re.compile(r"(?:[\s,]|-sided|lung|zone|lobe|sided|focal|patchy|new|stable|unchanged|pleural|to)*")


@dataclass(frozen=True)
class _Mention:
    findings: tuple[str, ...]
    start: int
    end: int
    reading: Reading | None  # decided already (an organ's), or None: the context decides


def read_report(report: str) -> tuple[Claim, ...]:
    """Every mention of a finding or device that the report asserts, doubts or denies, in reading order.

    Findings are those of `lexicon.FINDINGS`. A mention of two sides with sizes of their own ("large right and small
    left effusions") gives a claim for each. What is only asked for or remembered gives none. Any text is read.
    """
    claims: list[Claim] = []
    for start, end in find_report_sentences(report):
        claims += _read_sentence(normalise(report, start, end))
    return tuple(claims)


def _read_sentence(sentence: Sentence) -> list[Claim]:
    text = sentence.text
    spoken = [
        _Mention((_NAMES[m.lastgroup],), *m.span(), None) for m in _MENTION.finditer(text) if m.end() > m.start()
    ]
    mentions = sorted(spoken + _organs(text, spoken), key=lambda m: m.start)
    if not mentions:
        return []
    cues = _outside(find_cues(text), mentions)
    spans = [(m.start, m.end) for m in mentions if m.reading is None]
    claims: list[Claim] = []
    for mention, places in zip(mentions, _attach(text, mentions)):
        span = mention.start, mention.end
        reading = mention.reading or read_context(text, span, spans, cues)
        if mention.reading and reading.polarity == "present":  # "the heart is enlarged but stable"
            reading = reading._replace(temporal=read_time(text, span, [*spans, span], cues)[0])
        if reading.polarity:
            for finding in mention.findings:
                claims += _claims(sentence, finding, mention, reading, places)
    affirmed = {c.finding for c in claims if c.polarity != "absent"}
    organ = {sentence.span(m.start, m.end) for m in mentions if m.reading is not None}
    return [c for c in claims if not (c.polarity == "absent" and c.finding in affirmed and c.parts["finding"] in organ)]


def _outside(cues: tuple[Cue, ...], mentions: list[_Mention]) -> list[Cue]:
    """Cues that are not inside a name ("increased" of "increased markings"); "old" of "old fracture" counts."""
    return [c for c in cues if c.kind == "old" or not any(m.start <= c.start < m.end for m in mentions)]


def _organs(text: str, spoken: list[_Mention]) -> list[_Mention]:
    """Organs that are said to be normal, which denies findings, or enlarged, which is one.

    "Heart size and mediastinal contours are normal": one predicate for every organ since the one before it.
    "Normal heart size": the predicate stands in front.
    """
    organs = [
        (m.start(), m.end(), m.lastgroup)
        for m in _ORGAN.finditer(text)
        if not any(m.start() < s.end and s.start < m.end() for s in spoken)
    ]
    if not organs:
        return []
    found: list[_Mention] = []
    at = 0
    for predicate in _PREDICATE.finditer(text):
        word = predicate.span(predicate.lastgroup)
        if any(s.start <= word[0] < s.end for s in spoken):
            continue
        named = [o for o in organs if at <= o[0] and o[1] <= word[0] and _belongs(text, o[1], word[0], spoken)]
        named = [o for o in named if o[2] != "chest" or o is named[-1]]  # "CHEST, TWO VIEWS: The lungs are clear"
        named = named or _in_front(text, organs, word[1])
        found += [m for organ in named if (m := _judge_organ(text, organ, predicate, at))]
        at = max([word[1], *(o[1] for o in named)])
    return found


def _belongs(text: str, end: int, word: int, spoken: list[_Mention]) -> bool:
    """Whether an organ is the subject of a predicate behind it: no finding and no other statement between."""
    gap = text[end:word]
    if any(end <= s.start < word for s in spoken) and not re.search(r"\bbut\b", gap):
        return False
    return not re.search(r"\b(?:shows?|demonstrates?|reveals?|with|there (?:is|are)|has|have|no|tip|obscur\w+|due|"
    r"given)\b|;", gap)


def _in_front(text: str, organs, end: int):
    """Organs directly behind a predicate and those joined to them: "normal heart size and mediastinal contours"."""
    named = []
    for organ in organs:
        if organ[0] >= end and re.fullmatch(r"(?: (?:the|in|of|both|for|size|and|or|visuali[sz]ed|right|left|"
        r"bilateral|appearance))*[ ,/]*", text[end : organ[0]]):
            named.append(organ)
            end = organ[1]
    return named


def _judge_organ(text: str, organ: tuple[int, int, str], predicate: re.Match, at: int) -> _Mention | None:
    start, end, name = organ
    word = predicate.span(predicate.lastgroup)
    near = text[min(start, word[0]) : max(end, word[0])] if end <= word[0] else text[at : word[0]]
    denied = bool(_DENIES.search(near))
    doubted = re.search(r"\b(?:borderline|possibl[ey]|probabl[ey]|may|might|likely|equivocal|questionabl[ey]|"
    r"normal to|suspected|upper normal to)\b", near + predicate["how"])
    if predicate["normal"]:
        if denied or not ORGANS[name][1]:
            return None
        if re.match(r" to (?:mildly|slightly|minimally|borderline)", text[word[1] : word[1] + 16]) and name in _ENLARGEABLE:
            return _Mention((_ENLARGEABLE[name],), start, end, Reading("uncertain", None, word))
        return _Mention(ORGANS[name][1], start, end, Reading("absent", None, word))
    if name not in _ENLARGEABLE or re.match(r" (?:in ap|by|due to the|on this ap)", text[word[1] : word[1] + 14]):
        return None
    polarity = "absent" if denied else "uncertain" if doubted else "present"
    return _Mention((_ENLARGEABLE[name],), start, word[1] if word[1] > end else end, Reading(polarity, None, word))


_Place = tuple[str, str, int, int]  # name, value, characters


def _attach(text: str, mentions: list[_Mention]) -> list[list[_Place]]:
    """Every side, zone and size word to one mention; joined mentions without words of their own share their neighbour's."""
    places = [
        (name, m.lastgroup, m.start(), m.end())
        for name, pattern in (("side", _SIDE), ("zone", _ZONE), ("size", _SIZE))
        for m in pattern.finditer(text)
    ]
    owned: list[list[_Place]] = [[] for _ in mentions]
    if not places:
        return owned
    borders = [0]
    for a, b in zip(mentions, mentions[1:], strict=False):
        borders.append(_border(text, a.end, b.start, places))
    borders.append(len(text))
    for i, _ in enumerate(mentions):
        first, last = _own_clause(text, borders[i], mentions[i], borders[i + 1])
        owned[i] = [p for p in places if first <= p[2] and p[3] <= last]
    for i in range(1, len(mentions)):
        gap = text[mentions[i - 1].end : mentions[i].start]
        if not _JOINED.match(gap) or mentions[i].reading or mentions[i - 1].reading:
            continue
        before = [p for p in owned[i - 1] if p[2] < mentions[i - 1].end and p[0] != "size"]
        behind = [p for p in owned[i] if p[2] >= mentions[i].end and p[0] != "size"]
        if not any(p[0] == "side" for p in owned[i]):
            owned[i] = owned[i] + before
        if not any(p[0] == "side" for p in owned[i - 1]):
            owned[i - 1] = owned[i - 1] + behind
    return owned


def _own_clause(text: str, start: int, mention: _Mention, end: int) -> tuple[int, int]:
    """The stretch around a mention that speaks of it: ";" and ", while the left ..." end it."""
    before = [m.end() for m in _CLAUSE_CUT.finditer(text, start, mention.start)]
    behind = _CLAUSE_CUT.search(text, mention.end, end)
    return (before[-1] if before else start), (behind.start() if behind else end)


def _border(text: str, start: int, end: int, places: list[_Place]) -> int:
    """Between two mentions: the last separator, else where the unbroken run of place words in front of `end` begins."""
    cuts = list(_BORDER.finditer(text, start, end))
    if cuts:
        hard = [c for c in cuts if _CLAUSE_CUT.fullmatch(c.group())]
        cut = (hard or cuts)[-1]
        pair = re.search(r"\b(?:small|large|moderate|tiny|trace)? ?(?:right|left)(?: \w+)? $", text[start : cut.start()])
        if pair and cut.group() == "and" and re.match(r" (?:\w+ )?(?:right|left)\b", text[cut.end() : end]) and len(cuts) > 1:
            return cuts[-2].start()
        return cut.start()
    run = end
    for _, _, a, b in sorted(places, key=lambda p: -p[3]):
        if start <= a and b <= run and _RUN.fullmatch(text, b, run):
            run = a
    return run


def _claims(sentence: Sentence, finding: str, mention: _Mention, reading: Reading, places: list[_Place]) -> list[Claim]:
    """One claim; two where right and left are both named, each with the size that stands next to its side."""
    if finding in NO_SIDE_FINDINGS:
        places = [p for p in places if p[0] == "size"]
    if finding != "cardiomegaly":  # "slightly increased" is a change
        places = [p for p in places if p[0] != "size" or not sentence.text.startswith(" increas", p[3])]
    near = sorted(places, key=lambda p: max(mention.start - p[3], p[2] - mention.end))
    chosen: dict[str, _Place] = {}
    for place in near:
        chosen.setdefault(place[0], place)
    sides = {p[1]: p for p in reversed(near) if p[0] == "side"}
    if "bilateral" in sides or not {"right", "left"} <= set(sides):
        if "bilateral" in sides:
            chosen["side"] = sides["bilateral"]
        return [_claim(sentence, finding, mention, reading, chosen)]
    claims = []
    for side in sorted(sides.values(), key=lambda p: p[2]):
        own = {"side": side}
        for name in ("size", "zone"):
            close = [p for p in near if p[0] == name]
            if close:
                own[name] = min(close, key=lambda p: max(side[2] - p[3], p[2] - side[3], 0))
        claims.append(_claim(sentence, finding, mention, reading, own))
    return claims


def _claim(sentence: Sentence, finding: str, mention: _Mention, reading: Reading, chosen: dict[str, _Place]) -> Claim:
    parts = {"finding": sentence.span(mention.start, mention.end)}
    parts |= {name: sentence.span(p[2], p[3]) for name, p in chosen.items()}
    start, end = min(a for a, _ in parts.values()), max(b for _, b in parts.values())
    if reading.cue:
        parts["cue"] = sentence.span(*reading.cue)
    if mention.reading:
        parts["organ"] = parts["finding"]
    values = {name: chosen[name][1] if name in chosen else None for name in _PLACES}
    return Claim(finding, reading.polarity, **values, start=start, end=end, parts=parts, temporal=reading.temporal)
