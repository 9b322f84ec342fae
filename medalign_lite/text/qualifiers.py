"""What narrows a statement: "acute", "large", "of the clavicle"; which of the things under one name it is about; and
whether it was read without doubt.

A denial speaks only of what it names: "no acute fracture" leaves an old one. Words that are not known to say nothing
narrow, so that a word nobody thought of makes a denial narrower and never broader. Text is a `form.Sentence`'s.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from medalign_lite.text.context import Cue, Reading, Span
from medalign_lite.text.lexicon import KINDS, SIDE_WORDS, SIZE_WORDS, ZONE_WORDS

_PLAIN = frozenset(
    "a an the any some this these that there is are was were be been of in on at to evidence sign signs visible "
    "radiographic radiographically radiologic radiological pleural pulmonary lung lungs parenchymal airspace air space cardiac heart chest "
    "thoracic vascular seen identified noted present evident visualized visualised detected demonstrated appreciated "
    "shown found observed demonstrable detectable discernible either both each side sides zone zones lobe lobes base "
    "bases field fields hemithorax hemithoraces thorax today film image view views radiograph study exam examination currently now "
    "anywhere residual remaining persistent has have had it we i can also again still however yes no not suggest "
    "suggestion indication indicate definitely clearly bony osseous size within by feature again together as "
    "negative positive for without free from nil zero devoid lack lacks lacking absence absent neither nor nothing nowhere none "
    "longer more never cannot not n't resolved cleared gone completely fully entirely now since resolution complete interval been "
    "excluded ruled out rules excludes unaccompanied accompanied be do does did could can removed clear way normal limits range "
    "unremarkable intact preserved sharp wnl maintained enlarged widened increased congested prominent engorged nonenlarged also elevated raised mediastinal mediastinum congestive costophrenic angle angles hemidiaphragm "
    "diaphragm diaphragmatic under beneath over along ct mr mri see any multiple several few scattered".split()
)
_FIRST_ONLY = frozenset("focal pleural pulmonary bony".split())  # "no focal consolidation, effusion or pneumothorax"
_STOPS = re.compile(
    r"[,;:.()/]|\b(?:and|or|nor|with|but|is|are|was|were|has|have|had|shows?|showed|demonstrates?|reveals?|of|in|on|at|from|"
    r"for|to|by|than|see|sees?|there|without|no|not|nil|also|which|that|over|under|through|contains?)\b"
)
_CLAUSE = re.compile(r"[,;:.()]|\b(?:and|or|nor|but|with|although|though|while|whereas|however|which)\b")
_PHRASE_END = re.compile(r"[,;:.()]|\b(?:but|with|although|though|while|whereas|however|which)\b")
_WORD = re.compile(r"[a-z][\w'-]*|\d[\w.]*")
_PLACE = re.compile(rf"(?:{'|'.join([*SIDE_WORDS.values(), *ZONE_WORDS.values(), *SIZE_WORDS.values()])})")
_CHARGED = re.compile(  # words that deny, doubt or ask: one that no cue has accounted for makes the reading unsure
    r"\b(?:no|not|nor|none|nothing|nowhere|never|neither|without|cannot|\w+n't|w/o|free|negative|absent|absence|nil|zero|"
    r"devoid|lack\w*|exclud\w+|rule[sd]? out|unlikely|rather than|instead of|if|whether|unless|seems?|hardly|scarcely|gone|"
    r"cleared|resolved|disappeared|questionabl\w+|might|perhaps|equivocal|difficult|limited|misinterpret\w+|mimic\w*|look\w* like|resembl\w+|when)\b|\?"
)
_LIST = re.compile(r"\b(?:or|nor|and)\b|/")
_LINKS = ("or", "and")
_SEVERAL = {"size": re.compile(r"\b(?:small|minimal|mild|slight|moderate|trace)(?:ly)?(?: |-)to(?: |-)(?:moderate|large|severe|marked)")}
_KINDS = {
    finding: re.compile("|".join(rf"(?P<k{i}>{words})" for i, words in enumerate(kinds.values())))
    for finding, kinds in KINDS.items()
}


def kind_of(finding: str, said: str) -> str:
    """The finer name: scar, fibrosis and infiltrate are all `opacity` in the lexicon, and not one thing."""
    found = _KINDS[finding].search(said) if finding in _KINDS else None
    return list(KINDS[finding])[int(found.lastgroup[1:])] if found else finding


def qualifiers(text: str, mention: Span, others: Sequence[Span], reading: Reading) -> frozenset[str]:
    """The words of a mention's noun phrase, and behind a denial those of its clause, that narrow it."""
    start, end = mention
    before = max([b for _, b in others if b <= start], default=0)
    if reading.cue and reading.cue[1] <= start:
        before = max(before, reading.cue[1])
    stops = [m.end() for m in _STOPS.finditer(text, before, start)]
    words = _content(text[stops[-1] if stops else before : start]) + _content(text[start:end])[:-1]
    behind = (_PHRASE_END if text.startswith(" of", end) else _CLAUSE).search(text, end)
    last = min([behind.start() if behind else len(text), *(a for a, _ in others if a >= end)])
    if reading.polarity == "present":
        stop = _PHRASE_END.search(text, end)
        words += _content(text[end : min([stop.start() if stop else len(text), *(a for a, _ in others if a >= end)])])
    if reading.polarity == "absent" and reading.cue:
        if reading.cue[1] <= start:
            first = min([a for a, _ in others if reading.cue[1] <= a], default=start)
            lead = text[reading.cue[1] : min(first, start)]
            words += [w for w in _content(lead) if first >= start or w not in _FIRST_ONLY]
            inner = [m for m in others if m[0] == first and m[0] < start]
            words += [w for a, b in inner for w in _content(text[a:b])[:-1] if w not in _FIRST_ONLY]
            words += _content(text[slice(*reading.cue)])
        found = _content(text[end:last])
        either = "or" in found or "and" in found  # "no fracture of the ribs or clavicles" denies each of them
        words += ["|".join(sorted({w for w in found if w not in _LINKS}))] if either else found
    return frozenset(word for word in words if word and word not in _LINKS)


def _content(text: str) -> list[str]:
    words = [w.removesuffix("s") if len(w) > 3 and not w.endswith("ss") else w for w in _WORD.findall(text) if w not in _PLAIN]
    return [w for w in words if w not in _PLAIN and not _PLACE.fullmatch(w) and not w.endswith("n't")]


def organ_qualifiers(text: str, mention: Span, reading: Reading) -> frozenset[str]:
    """What narrows a statement about an organ: "not significantly enlarged"; "the right clavicle is intact"."""
    words = _content(text[slice(*reading.cue)]) if reading.cue else []
    return frozenset([*words, *re.findall(r"rib|clavicle", text[slice(*mention)])])


@lru_cache(maxsize=8)
def _charged(text: str) -> tuple[re.Match, ...]:
    return tuple(_CHARGED.finditer(text))


def doubts(text: str, mention: Span, reading: Reading, cues: Sequence[Cue], used: Iterable[Span]) -> frozenset[str]:
    """What of the reading is unsure: "claim", where a word that denies or doubts is not accounted for; "size"."""
    used = set(used)
    explained = [c[2:] for c in cues if c[2:] in used or c.kind not in ("denied", "doubt", "asked", "hint", "resolved")]
    loose = [m for m in _charged(text) if not any(a <= m.start() < b for a, b in [*explained, *used, mention])] \
        if reading.polarity == "present" else []
    found = {name for name, pattern in _SEVERAL.items() if pattern.search(text)}
    if reading.polarity == "present" and any(_same_clause(text, mention, m.span()) for m in loose):
        found.add("claim")
    if reading.polarity == "absent" and reading.cue and reading.cue[1] <= mention[0]:
        gap = text[reading.cue[1] : mention[0]]
        ends = re.compile(r"[;.]|$").search(text, mention[1]).start()
        if "," in gap and not _LIST.search(text, reading.cue[1], ends):  # "No fracture, osteopenic bones"
            found.add("claim")
    return frozenset(found)


def _same_clause(text: str, mention: Span, word: Span) -> bool:
    between = text[mention[1] : word[0]] if mention[1] <= word[0] else text[word[1] : mention[0]]
    return not re.search(r"[;:]|\bbut\b|, (?:and )?(?:there|the)\b", between)
