"""What narrows a statement: "acute", "large", "of the clavicle"; which of the things under one name it is about; and
whether it was read without doubt; and what a reference report therefore decides about a claim.

A denial speaks only of what it names: "no acute fracture" leaves an old one. A report is no table of facts: what it
does not mention may still be there, and doubt decides nothing. Words that are not known to say nothing narrow, so that
a word nobody thought of makes a denial narrower and never broader. Text is a `form.Sentence`'s.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from medalign_lite.text.claims import Claim, by_side
from medalign_lite.text.context import Cue, Reading, Span
from medalign_lite.text.facts import Fact
from medalign_lite.text.lexicon import SIDE_WORDS, SIZE_WORDS, ZONE_WORDS

# What stands under one name above and is not one thing: finding -> kind -> expression. What fits none is the finding.
KINDS: dict[str, dict[str, str]] = {
    "opacity": {"infiltrate": r"infiltrat", "scar": r"scar", "fibrosis": r"fibro", "bronchial thickening": r"bronchial",
                "air-space disease": r"air[- ]?space (?:disease|process|abn|change)|"
                                     r"alveolar (?:disease|process|filling)",
                "interstitial change": r"interstitial|reticul|septal|markings", "density": r"densit",
                "haze": r"^haz\w*$|glass",
                "white-out": r"white|silhouett|bronchogram", "lung abnormality": r"abnormalit"},
    "mass": {"lesion": r"^(?!.*mass).*lesion|lump", "cancer": r"malign|neoplas|carcinoma|cancer|tumou?r|lymphoma",
             "metastasis": r"metasta"},
    "nodule": {"nodularity": r"nodular"}, "emphysema": {"COPD": r"copd|obstructive", "bulla": r"bull|bleb"},
    "effusion": {"empyema": r"empyema|pyo", "haemothorax": r"h(?:a)?emo-?thorax", "hydrothorax": r"hydro"},
    "atelectasis": {"collapse": r"collaps", "volume loss": r"volume"},
    "edema": {"overload": r"overload", "interstitial lines": r"kerley"},
    "aortic disease": {"aneurysm": r"aneurysm", "atheroma": r"ather", "calcified aorta": r"calcif",
                       "dilated aorta": r"dilat"},
    "pneumonia": {"infection": r"infect"}, "hemorrhage": {"contusion": r"contus", "hematoma": r"hematoma"},
    "pleural thickening": {"plaque": r"plaque", "scar": r"scar", "calcified pleura": r"calcif(?!.*plaque)",
                           "tumour": r"mass|lesion|meso"},
    "bronchitis": {"bronchiectasis": r"bronchiect", "asthma": r"asthma", "bronchiolitis": r"bronchiol",
                   "airways": r"airway"},
    "granuloma": {"sarcoid": r"sarcoid", "granulomatous disease": r"granulomat|histo"},
    "degenerative change": {"osteophyte": r"osteophyt|spur", "arthritis": r"arthr", "spondylosis": r"spondyl"},
    "vascular congestion": {"redistribution": r"cephal|redistrib", "prominence": r"prominen|indistinct|increased"},
    "lymphadenopathy": {"hilar prominence": r"prominence|fullness|\bfull"},
    "bone deformity": {"wedging": r"wedg", "height loss": r"height"}, "foreign body": {"bullet": r"bullet|shrapnel"},
    "enlarged mediastinum": {"mediastinal mass": r"mass|hematoma"},
    "valve": {"mitral": r"mitral", "aortic": r"aortic|tavr|tavi", "tricuspid": r"tricuspid"},
    "central line": {"port": r"port", "PICC": r"picc|peripherally", "Swan-Ganz": r"swan"},
    "aspiration": {"pneumonitis": r"pneumonitis"},
    "pulmonary embolism": {"filling defect": r"defect"}, "dislocation": {"subluxation": r"sublux"},
    "hyperinflation": {"air trapping": r"trapping", "flat diaphragm": r"\bflat"},
}  # fmt: skip
VAGUE = frozenset(
    {"abnormality", "bone abnormality", "other device", "drain", "hardware"}
)  # say nothing that can be compared
SEVERAL = frozenset({  # a second one may well be there, so another place is no contradiction
    "nodule", "opacity", "fracture", "granuloma", "calcification", "central line", "clips", "chest tube",
    "pleural thickening", "bone deformity", "degenerative change", "lymphadenopathy", "stent", "drain", "foreign body",
    "aortic disease", "hemorrhage", "valve", "infarct", "cyst", "pulmonary embolism", "stones", "thrombosis",
    "stenosis", "abscess", "stranding",
})  # fmt: skip

PLAIN_WORDS = frozenset(
    "a an the any some this these that there is are was were be been of in on at to evidence sign signs visible "
    "radiographic radiographically radiologic radiological pleural pulmonary lung lungs parenchymal airspace air "
    "space cardiac heart chest thoracic vascular seen identified noted present evident visualized visualised "
    "detected demonstrated appreciated shown found observed demonstrable detectable discernible either both each "
    "side sides zone zones lobe lobes base bases field fields hemithorax hemithoraces thorax today film image view "
    "views radiograph study exam examination currently now anywhere residual remaining persistent has have had it we "
    "i can also again still however yes no not suggest suggestion indication indicate definitely clearly bony "
    "osseous size within by feature again together as negative positive for without free from nil zero devoid lack "
    "lacks lacking absence absent neither nor nothing nowhere none longer more never cannot not n't resolved cleared "
    "gone completely fully entirely now since resolution complete interval been excluded ruled out rules excludes "
    "unaccompanied accompanied be do does did could can removed clear way normal limits range unremarkable intact "
    "preserved sharp liver spleen wnl maintained enlarged widened increased congested prominent engorged nonenlarged "
    "also elevated raised mediastinal mediastinum congestive costophrenic angle angles hemidiaphragm diaphragm "
    "diaphragmatic under beneath over along ct mr mri see any multiple several few scattered removal extraction "
    "previously previous prior known shifted deviated".split()
)
_FIRST_ONLY = frozenset("focal pleural pulmonary bony".split())  # "no focal consolidation, effusion or pneumothorax"
_STOPS = re.compile(
    r"[,;:.()/]|\b(?:and|or|nor|with|but|is|are|was|were|has|have|had|shows?|showed|demonstrates?|reveals?|of|in|on|at|"
    r"from|for|to|by|than|see|sees?|there|without|no|not|nil|also|which|that|over|under|through|contains?)\b"
)
_CLAUSE = re.compile(r"[,;:.()]|\b(?:and|or|nor|but|with|although|though|while|whereas|however|which)\b")
_PHRASE_END = re.compile(r"[,;:.()]|\b(?:but|with|although|though|while|whereas|however|which)\b")
_WORD = re.compile(r"[a-z][\w'-]*|\d[\w.]*")
_PLACE = re.compile(rf"(?:{'|'.join([*SIDE_WORDS.values(), *ZONE_WORDS.values(), *SIZE_WORDS.values()])})")
_CHARGED = re.compile(  # words that deny, doubt or ask: one that no cue has accounted for makes the reading unsure
    r"\b(?:no|not|nor|none|nothing|nowhere|never|neither|without|cannot|\w+n't|w/o|free|negative|absent|absence|nil|"
    r"zero|devoid|lack\w*|exclud\w+|rule[sd]? out|unlikely|rather than|instead of|if|whether|unless|seems?|hardly|"
    r"scarcely|gone|cleared|resolved|disappeared|questionabl\w+|might|perhaps|equivocal|difficult|limited|"
    r"misinterpret\w+|mimic\w*|look\w* like|resembl\w+|when)\b|\?"
)
_LIST = re.compile(r"\b(?:or|nor|and)\b|/")
_LINKS = ("or", "and")
_REST = re.compile(r"\b(?:remaining|remainder of|rest of|otherwise|elsewhere)\b")  # "the remaining lungs are clear"
_SEVERAL = {
    "size": re.compile(
        r"\b(?:small|minimal|mild|slight|moderate|trace)(?:ly)?(?: |-)to(?: |-)(?:moderate|large|severe|marked)"
    )
}
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
    words = [
        w.removesuffix("s") if len(w) > 3 and not w.endswith("ss") else w
        for w in _WORD.findall(text)
        if w not in PLAIN_WORDS
    ]
    return [w for w in words if w not in PLAIN_WORDS and not _PLACE.fullmatch(w) and not w.endswith("n't")]


def organ_qualifiers(text: str, mention: Span, reading: Reading) -> frozenset[str]:
    """What narrows a statement about an organ: "not significantly enlarged"; "the right clavicle is intact"."""
    words = _content(text[slice(*reading.cue)]) if reading.cue else []
    said = text[max(mention[0] - 20, 0) : max(mention[1], reading.cue[1] if reading.cue else 0)]
    words += ["other"] if _REST.search(said) else []
    return frozenset([*words, *re.findall(r"rib|clavicle", text[slice(*mention)])])


@lru_cache(maxsize=8)
def _charged(text: str) -> tuple[re.Match, ...]:
    return tuple(_CHARGED.finditer(text))


def doubts(text: str, mention: Span, reading: Reading, cues: Sequence[Cue], used: Iterable[Span]) -> frozenset[str]:
    """What of the reading is unsure: "claim", where a word that denies or doubts is not accounted for; "size"."""
    used = set(used)
    explained = [c[2:] for c in cues if c[2:] in used or c.kind not in ("denied", "doubt", "asked", "hint", "resolved")]
    told = [*explained, *used]
    words = _charged(text) if reading.polarity == "present" else ()
    inside = [m for m in words if m.group() == "free" and mention[0] <= m.start() < mention[1]]  # "free air"
    loose = [m for m in words if m not in inside and not any(a <= m.start() < b for a, b in told)]
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


# --- what a report decides about a claim ------------------------------------------------------------------------------
ATTRIBUTES = ("side", "zone", "size")
_WHOLE_ORGAN = {  # what "clear", "intact" or "normal" of an organ denies for certain, small and old things apart
    "cardiomegaly", "enlarged mediastinum", "consolidation", "effusion", "pneumothorax", "vascular congestion",
    "opacity", "fracture", "raised diaphragm", "splenomegaly", "hepatomegaly", "costophrenic blunting",
    "osteopenia", "aortic disease",
}  # fmt: skip
FRESH = frozenset({"acute", "new", "recent"})
_NO_OTHER, _ONE = {"other", "additional", "further"}, {"single", "solitary", "only"}  # fmt: skip


def denies(denial: Claim, claim: Claim) -> bool:
    """Whether a denial is at least as broad as an affirmed claim: it speaks of the same thing and narrows nothing that
    the claim does not have ("no acute fracture" denies no old one, "no left effusion" none on the right)."""
    narrow = (word.split("|") for word in denial.qualifiers)  # one of several will do
    had = {word for words in claim.qualifiers for word in words.split("|")}
    had |= {"focal"} if claim.zone or claim.side in ("right", "left") else set()
    if denial.kind != claim.kind or not all(had & {*words} for words in narrow):
        return False
    if "organ" in denial.parts and (claim.finding not in _WHOLE_ORGAN or is_old(claim)):
        return False
    places = [(getattr(denial, name), getattr(claim, name)) for name in ATTRIBUTES]
    return all(narrow in (None, "bilateral", had) or had == "bilateral" for narrow, had in places)


def is_old(claim: Claim) -> bool:
    return claim.temporal == "old" or bool(claim.qualifiers & {"old", "healed", "healing", "chronic", "remote"})


def drops(better: Sequence[Claim], true: Sequence[Claim]) -> bool:
    """Whether some true claim, with each attribute that it states, is no longer said; what is vague may go."""
    return any(not any(c.restates(known) for c in better) for known in true if known.finding not in VAGUE)


def contradicts(truth: Sequence[Claim], claim: Claim) -> bool:
    """Whether a report says otherwise than the claim, without any doubt on either side.

    The one rule for edits and for figures. Doubt decides nothing, silence decides nothing, and what is said without a
    side or a size neither agrees nor disagrees about it.
    """
    same = [c for c in truth if c.finding == claim.finding]
    if claim.finding in VAGUE or claim.polarity == "uncertain" or "claim" in claim.unsure:
        return False
    if any(c.polarity == "uncertain" or "claim" in c.unsure for c in same):
        return False
    there = [c for c in same if c.polarity == "present" and c.kind == claim.kind]
    gone = [c for c in same if c.polarity == "absent"]
    if claim.polarity == "absent":
        return any(denies(claim, c) for c in there if not is_old(c)) and not any(_broader(c, claim) for c in gone)
    only = claim.finding not in SEVERAL or any(c.qualifiers and c.qualifiers <= _NO_OTHER for c in gone)
    only = only or any(_ONE & c.qualifiers or _measured(c) & _measured(claim) for c in there)
    if any(_all_other(claim, name, there, only) for name in ATTRIBUTES):
        return True
    if any(not differ(claim, c) for c in there):
        return any(denies(d, claim) and not any(denies(d, c) for c in there) for d in gone if d.side or d.qualifiers)
    return any(denies(c, claim) for c in gone)


def _measured(claim: Claim) -> frozenset[str]:
    """Its measures: a nodule of 12 mm on the other side is that of 12 mm."""
    return frozenset(word for word in claim.qualifiers if word[0].isdigit())


def supports(truth: Sequence[Claim], claim: Claim) -> bool:
    """The report says it: the same thing and polarity, and every side, zone and size that the claim names."""
    same = [c for c in truth if c.finding == claim.finding and c.kind == claim.kind]
    if claim.unsure or any(c.unsure & {"claim"} or c.polarity == "uncertain" for c in same):
        return False
    if claim.polarity == "absent":
        broad = [c for c in same if c.polarity == "absent" and _broader(c, claim)]
        return bool(broad) and not any(c.polarity == "present" and denies(claim, c) for c in same)
    fresh = bool(claim.qualifiers & FRESH)
    agree = [c for c in same if c.polarity == "present" and not differ(claim, c) and not (fresh and is_old(c))]
    named = [(n, v) for n in ATTRIBUTES if (v := getattr(claim, n))]
    covered = bool(agree) and all(any(_has(c, n, v) for c in agree) for n, v in named)
    return (
        claim.polarity == "present"
        and covered
        and not any(
            c.polarity == "absent" and denies(c, claim) and c.side in (None, claim.side) and c.side for c in same
        )
    )


def _broader(denial: Claim, other: Claim) -> bool:
    """A denial that takes in another denial."""
    return denies(denial, replace(other, polarity="present"))


def _has(said: Claim, name: str, value: str) -> bool:
    return getattr(said, name) == value or name == "side" and said.side == "bilateral"


def differ(claim: Claim, other: Claim, *, sure: bool = True) -> tuple[str, ...]:
    """Of side, zone and size those that both name (for certain, if `sure`), and name differently."""
    unsure = claim.unsure | other.unsure if sure else ()
    pairs = {n: (getattr(claim, n), getattr(other, n)) for n in ATTRIBUTES if n not in unsure}
    return tuple(n for n, (a, b) in pairs.items() if None not in (a, b) and a != b and "bilateral" not in (a, b))


def _all_other(claim: Claim, name: str, there: Sequence[Claim], only: bool) -> bool:
    """Every mention that names this attribute names another; where there may be several, another place is no other."""
    naming = [c for c in there if getattr(c, name) and name not in c.unsure]
    if name != "side":
        naming = [c for c in naming if "side" not in differ(claim, c)]
    elsewhere = name in ("side", "zone") and not only
    return bool(naming) and not elsewhere and all(name in differ(claim, c) for c in naming)


@dataclass(frozen=True)
class Stated:
    """A report as a table of facts, as far as it goes: `mentioned` are the findings that it affirms or plainly denies.

    A doubted finding is a fact that is not visible, so it is never scored.
    """

    facts: tuple[Fact, ...]
    mentioned: frozenset[str]


def stated(claims: Iterable[Claim]) -> Stated:
    """What a report states; a bilateral finding is one on each side, a repeated one counts once."""
    claims = [one for claim in claims for one in by_side(claim)]
    facts = dict.fromkeys(Fact(c.finding, c.side, c.zone, c.size) for c in claims if c.polarity == "present")
    facts = tuple(f for f in facts if not any(_says_more(g, f) for g in facts))
    settled = {c.finding for c in claims if c.polarity == "present" or (c.polarity == "absent" and _is_plain(c))}
    doubted = {c.finding for c in claims if c.polarity == "uncertain"} - settled
    return Stated((*facts, *(Fact(name, visible=False) for name in sorted(doubted))), frozenset(settled))


def _is_plain(denial: Claim) -> bool:
    """It denies the finding altogether: "no large effusion" does not."""
    return not (denial.qualifiers or denial.side or denial.zone or denial.size or "claim" in denial.unsure)


def _says_more(a: Fact, b: Fact) -> bool:
    """`a` names all that `b` names, and more."""
    return a.finding == b.finding and a != b and all(getattr(b, n) in (None, getattr(a, n)) for n in ATTRIBUTES)
