"""What a report speaks against without deciding it: a nodule elsewhere, "no acute process", "grossly clear", another
course, another tip of a line, a side of something that nobody read.

No edit and no figure rests on this (that is `qualifiers.contradicts`); but a text that says such a thing is not called
true, so no pair is made of it.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from medalign_lite.text.answer_values import find_values
from medalign_lite.text.claims import Claim
from medalign_lite.text.form import find_report_sentences
from medalign_lite.text.lexicon import DEVICES
from medalign_lite.text.qualifiers import FRESH, PLAIN_WORDS, VAGUE, differ, is_old, supports
from medalign_lite.text.reports import read_report

_IN_LUNGS = ("pneumonia", "edema", "mass", "opacity", "consolidation", "atelectasis", "nodule", "emphysema", "cavity",
             "hemorrhage")
_BONES = ("fracture", "bone deformity")
_READ_AS_CLEAR = {  # what an organ's "clear" or "normal" speaks against, by one of the findings that it is read as
    "consolidation": _IN_LUNGS, "fracture": _BONES, "effusion": ("effusion", "pneumothorax"),
    "enlarged mediastinum": ("pneumomediastinum", "lymphadenopathy"), "aortic disease": ("aortic disease",),
    "vascular congestion": ("edema", "heart failure"), "cardiomegaly": ("heart failure",),
}  # fmt: skip
_ACUTE = frozenset({"pneumonia", "consolidation", "edema", "effusion", "pneumothorax", "vascular congestion", "mass",
                    "heart failure", "opacity", "hemorrhage", "free air", "pneumomediastinum", "aspiration"})
_VAGUE = VAGUE - {"drain", "hardware"}
_FAMILY = dict.fromkeys(_BONES, _BONES)
_FRESH, _ONE = FRESH | {"fresh"}, frozenset({"solitary", "single"})
_OPPOSED = (("dextro", "levo"), ("simple", "complex"), ("displaced", "non-?displaced"), ("calcified", "non-?calcified"))
_SIDE = re.compile(r"(?:\b(to|towards?) the )?\b(right|left)(ward)?(?:-sided)?\b(?: ([a-z]+))?", re.I)
_NO_PART = frozenset(  # behind a side, tells of no part: "the left lung", "on the left with"
    " lung lungs side base apex lobe zone upper lower middle mid hemithorax chest and or with without in on at of is "
    "are was were has have shows appears remains than".split(" ")
)
_COURSES = {
    "more": r"increas(?:e|ed|ing)\b|worse\w*|larger|bigger|progress\w*|\bnew\b|newly|enlarging|gr[eo]wn?\b|develop\w+|"
            r"recur\w+",
    "less": r"decreas\w+|improv\w+|smaller|resol\w+|clear(?:ed|ing)|regress\w+|diminish\w+|reduc\w+|lessened",
    "same": r"stable|unchanged|persist\w*|no (?:\w+ )?(?:interval )?change|similar",
}
_CARINA = "above the carina"
_TIPS = {
    "atrium": r"atri(?:um|al)|cavo-?atrial", "ventricle": r"ventric\w+", "vena cava": r"svc|vena cava|cavo-?atrial",
    "brachiocephalic": r"brachioceph\w+|innominate", "jugular": r"jugular vein", "axilla": r"axill\w+",
    "stomach": r"stomach|gastric (?:body|fundus)|fundus", "oesophagus": r"o?esophag\w+", "bowel": r"duoden\w+|jejun\w+",
    "bronchus": r"bronch(?:us|i)|mainstem",
    _CARINA: r"carina|satisfactory|good position|trachea\b", "spine": r"t\d\d?\b",
}
_PART = re.compile(r"(?:(?!\b(?:but|with)\b)[^.;,])+")
_DENIAL = re.compile(r"\b(?:no|not|without|neither|nor|negative|free|absent|excluded|never|removed)\b|n't\b", re.I)
_DENIAL_BEHIND = re.compile(r"\b(?:(?:is|are|was|were) (?:not|absent|excluded)|removed|resolved)\b", re.I)
_LONG = re.compile(r"\b[a-z]{6,}\b", re.I)
_LENGTH = re.compile(r"\b(\d+(?:\.\d+)?) ?(?:mm|cm)\b")


@lru_cache(maxsize=64)  # one right answer is asked about with each of its false variants
def disputes(report: str, text: str) -> str | None:
    """What of a text a reference report speaks against, for people; None where there is nothing."""
    truth, claims = read_report(report), read_report(text)
    found = next((c for c in claims if _speaks_against(truth, c)), None)
    if found:
        return found.finding
    owned = [c.parts["side"] for c in claims if "side" in c.parts and c.finding not in VAGUE]
    loose, named = _sides(text, owned), _sides(report)
    if not loose <= {*named, *(one.split()[0] for one in named)}:
        return "a side of something that was not read"
    ours, theirs = _measures(text, claims), _measures(report, truth)
    if any(of and theirs.get(value) and not of & theirs[value] for value, of in ours.items()):
        return "a measure of something else"
    said, known = _said_beside(text, claims), _said_beside(report, truth)
    word = _turned_word(_loose_words(report, truth), _loose_words(text, claims))
    if word:
        return word
    other = (name for name in said if known.get(name) and said[name] and not said[name] & known[name])
    return next((f"the {what} of the {finding}" for finding, what in other), None)


def _speaks_against(truth: Sequence[Claim], claim: Claim) -> bool:
    if claim.finding in _VAGUE:
        return claim.said[:2] == ("abnormality", "absent") and not supports(truth, claim) and any(map(_is_acute, truth))
    there = [c for c in truth if c.finding in _FAMILY.get(claim.finding, (claim.finding,)) and c.polarity == "present"]
    if claim.polarity != "absent" and there and all(_other(c, claim) for c in there):
        return True
    if supports(truth, claim):
        return False
    same = [c for c in truth if c.finding == claim.finding and not _apart(c, claim)]
    if claim.polarity == "absent":
        within = _READ_AS_CLEAR.get(claim.finding, ()) if "organ" in claim.parts else ()
        seen = [c for c in truth if c.finding in within and not _apart(c, claim)]
        if "organ" in claim.parts and claim.side and _only_of_the_other(truth, claim):
            return True
        if claim.finding == "effusion" and any("hydro" in c.words.lower() for c in truth if c.polarity == "present"):
            return True
        narrow = bool(claim.qualifiers) and all(is_old(c) or c.size for c in same)
        return any(c.polarity != "absent" for c in [*seen, *([] if narrow else same)])
    if claim.polarity == "present" and any(c.polarity == "uncertain" for c in same):
        return True
    gone = [c for c in same if c.polarity == "absent" and c.kind in (claim.kind, c.finding)]
    own = is_old(claim) or claim.size == "small"
    if any(not c.qualifiers or not own for c in gone) and not any(c.polarity == "present" for c in same):
        return True
    return not own and any(_in_general(c, claim) for c in truth if c.polarity == "absent" and not _apart(c, claim))


def _is_acute(known: Claim) -> bool:
    there = known.polarity == "present" and not is_old(known) and known.temporal != "unchanged"
    return there and known.finding in _ACUTE | {"enlarged mediastinum", "fracture"}


def _other(known: Claim, claim: Claim) -> bool:
    """Whether the one that is known is not the one that is claimed: of another place, size, kind, age or number."""
    kinds = {known.kind, claim.kind}
    fresh = claim.temporal == "new" or bool(claim.qualifiers & _FRESH)
    known_fresh = known.temporal == "new" or bool(known.qualifiers & _FRESH)
    settled = is_old(known) or known.temporal == "unchanged" or known.finding != claim.finding
    aged = fresh and not known_fresh and settled
    return (
        bool(differ(known, claim, sure=False)) or aged
        or len(kinds - {known.finding, claim.finding}) > 1
        or is_old(claim) and bool(known.qualifiers & _FRESH)
        or bool(claim.qualifiers & _ONE) and not known.qualifiers & _ONE and known.side == "bilateral"
    )  # fmt: skip


def _only_of_the_other(truth: Sequence[Claim], claim: Claim) -> bool:
    """The report calls the organ of the other side clear, and not this one's: "left lung clear"."""
    sides = {c.side for c in truth if c.finding == claim.finding and c.polarity == "absent" and "organ" in c.parts}
    return bool(sides) and not sides & {claim.side, None, "bilateral"}


def _apart(a: Claim, b: Claim) -> bool:
    """Of one side, or of one zone, each of another."""
    return bool({"side", "zone"} & {*differ(a, b, sure=False)})


def _in_general(denial: Claim, claim: Claim) -> bool:
    """A denial of all that is wrong, or of all that is wrong in an organ, in which the claim finds something."""
    if denial.finding == "abnormality":
        return claim.finding in _ACUTE or not denial.qualifiers and claim.finding not in DEVICES
    if denial.finding == "bone abnormality":
        return claim.finding in _BONES
    return "organ" in denial.parts and claim.finding in _READ_AS_CLEAR.get(denial.finding, ())


def _sides(text: str, owned: Sequence[tuple[int, int]] = ()) -> set[str]:
    """The sides that a text names, with the part: "right mca" of "right MCA infarct", "to left"; but those owned."""
    found = set()
    for m in _SIDE.finditer(text):
        if not any(a <= m.start(2) < b for a, b in owned):
            toward, side, ward, part = (word.lower() if word else "" for word in m.groups())
            found.add(f"to {side}" if toward or ward else side if part in _NO_PART else f"{side} {part}".strip())
    return found


def _loose_words(text: str, claims: Sequence[Claim]) -> dict[str, set[bool]]:
    """{word: whether it is denied, where it stands} of the longer words that belong to no claim."""
    spans = [span for c in claims for span in [(c.start, c.end), *c.parts.values()]]
    found: dict[str, set[bool]] = {}
    for part in _PART.finditer(text):
        first, last = part.span()
        for word in _LONG.finditer(text, first, last):
            denied = _DENIAL.search(text, first, word.start()) or _DENIAL_BEHIND.search(text, word.end(), last)
            if not any(a <= word.start() < b for a, b in spans):
                found.setdefault(word.group().lower(), set()).add(bool(denied))
    return found


def _turned_word(known: dict[str, set[bool]], said: dict[str, set[bool]]) -> str | None:
    """A word that the one denies and the other does not, and that neither says both ways."""
    both = [word for word in known.keys() & said.keys() if word not in PLAIN_WORDS]
    return next((word for word in sorted(both) if not known[word] & said[word]), None)


def _measures(text: str, claims: Sequence[Claim]) -> dict[str, set[str]]:
    """{measure: the findings beside which it stands}."""
    found: dict[str, set[str]] = {}
    for start, end in find_report_sentences(text):
        inside = {c.parts["finding"][0]: c.finding for c in claims if start <= c.start < end}
        for v in find_values(text[start:end]):
            at = start + v.start
            first, last = text.rfind(", ", start, at), text.find(", ", at, end)
            near = {name for place, name in inside.items() if first < place < (last if last > 0 else end)}
            if v.name == "measure":
                found.setdefault(v.value, set()).update(near or {*inside.values()})
    return found


def _said_beside(text: str, claims: Sequence[Claim]) -> dict[tuple[str, str], set[str]]:
    """{(finding, "course" or "place" ...): what the sentences of an affirmed one say of its course, a device's tip, and
    which of two opposites}."""
    found: dict[tuple[str, str], set[str]] = {}
    for start, end in find_report_sentences(text):
        sentence = text[start:end].lower()
        inside = {c.finding for c in claims if start <= c.start < end and c.polarity == "present"}
        if len(inside) == 1:
            name = _FAMILY.get(next(iter(inside)), (*inside,))[0]
            found.setdefault((name, "course"), set()).update(_kinds(_COURSES, sentence))
            for pair in _OPPOSED:
                what = f"kind ({' or '.join(pair)})".replace("-?", "")
                found.setdefault((name, what), set()).update(_kinds(dict(zip(pair, pair, strict=True)), sentence))
        devices = inside & {*DEVICES} - VAGUE
        if len(devices) == 1:
            tips = _kinds(_TIPS, sentence)
            tips = {*_LENGTH.findall(sentence)} or tips if _CARINA in tips else tips
            found.setdefault((*devices, "place"), set()).update(tips)
    return found


def _kinds(words: Mapping[str, str], sentence: str) -> set[str]:
    return {kind for kind, pattern in words.items() if re.search(rf"\b(?:{pattern})", sentence)}
