"""Words of which one thing can be one only ("type A", "type B"; "increased", "decreased"), where a report says another
than a text of the same thing.

No list of findings: the thing is what the words beside say. One of the two words speaks of it in each text, what the
text calls it the report does too, most of what is said beside is the same, and neither denies or doubts it.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from medalign_lite.text.answer_values import close_sizes, find_values
from medalign_lite.text.form import find_report_sentences
from medalign_lite.text.lexicon import DEVICES
from medalign_lite.text.qualifiers import PLAIN_WORDS, SEVERAL, kind_of
from medalign_lite.text.reports import find_terms, read_report
from medalign_lite.text.spans import Change

# set -> its values, apart by " / "; the words of a value apart by "|", in the same order where each has its opposite
_SETS = {
    "course": "has increased|have increased|increasing|increased|has worsened|have worsened|worsening|worsened|"
              "has progressed|have progressed|larger|has enlarged|progressive / "
              "has decreased|have decreased|decreasing|decreased|has improved|have improved|improving|improved|"
              "has regressed|have regressed|smaller|has diminished|resolving / "
              "is unchanged|are unchanged|unchanged|unchanged|is stable|are stable|stable|stable|"
              "is unchanged|are unchanged|unchanged|is unchanged|unchanged / "
              "is new|are new|new|new|is new|are new|new|new|is new|are new|new|is new|new",
    "age": "acute / subacute / old healed|old, healed|healed|old|chronic|remote",
    "calcium": "calcified / noncalcified|non-calcified|uncalcified", "margin": "spiculated / smooth / lobulated",
    "shape": "round|rounded / irregular", "break": "displaced / nondisplaced|non-displaced|undisplaced",
    "curve": "dextroscoliosis / levoscoliosis", "meninx": "subdural / epidural|extradural / subarachnoid",
    "type": "type a|type i|type 1 / type b|type ii|type 2", "joint": "hip / knee / shoulder / ankle / elbow / wrist",
    "bone": "clavicle / scapula / humerus / sternum / femur / tibia / fibula / radius / ulna / patella / pelvis",
    "cerebral": "middle cerebral|mca / anterior cerebral|aca / posterior cerebral|pca",
    "coronary": "left anterior descending|lad / right coronary|rca / left circumflex|circumflex|lcx",
    "valve": "aortic / mitral / tricuspid / pulmonic", "route": "subclavian / internal jugular|ij / femoral",
    "ureter": "ureterovesical|uvj / ureteropelvic|upj", "part": "proximal / mid / distal",
    "lobe": "frontal / parietal / temporal / occipital", "end": "medial / lateral", "face": "anterior / posterior",
    "density": "hyperdense|hyperattenuating / hypodense|hypoattenuating / isodense",
    "signal": "hyperintense / hypointense / isointense", "echo": "hyperechoic / hypoechoic / anechoic",
    "bowel": "small bowel / large bowel|colon", "nature": "benign / malignant", "vein": "arterial / venous",
    "colon": "ascending / transverse / descending / sigmoid", "texture": "homogeneous / heterogeneous",
    "content": "cystic / solid", "lumen": "patent / occluded|thrombosed",
    "bore": "dilated|distended / collapsed|decompressed",
    "state": "normal(?! in| size| cal| pos| lim| var)|unremarkable / dilated|distended|enlarged|thickened|atrophic|"
             "edematous|irregular|inflamed",
    "axis": "intra-axial|intraaxial / extra-axial|extraaxial", "tree": "intrahepatic / extrahepatic",
    "nucleus": "thalamus|thalamic / putamen|putaminal / caudate / pons|pontine / cerebellum|cerebellar / basal ganglia",
    "leads": "single-lead|single lead|single-chamber / dual-lead|dual lead|dual-chamber / biventricular|triple-lead",
    "hip": "femoral neck / intertrochanteric / subtrochanteric", "stand": "supine / upright|erect / prone",
    "gut": "duodenal|duodenum / jejunal|jejunum / ileal|ileum / gastric|stomach", "pole": "superior / inferior",
    "extent": "complete / partial|incomplete", "knee": "varus / valgus", "wire": "intact / fractured|broken",
    "fold": "unilateral / bilateral", "gas": "hyperinflated|hyperexpanded / hypoinflated|underinflated",
    "uptake": "enhancing / nonenhancing|non-enhancing", "way": "to the left|leftward / to the right|rightward",
    "toward": "toward|towards|ipsilateral / away from|away from|contralateral", "level": "apical / basilar|basal",
    "ring": "peripheral|subpleural / central|perihilar", "zone": "upper / middle / lower", "side": "left / right",
    "degree": "mild|mildly|small / moderate|moderately|moderate / severe|severely|large", "having": "without / with",
    "being": "is not|are not|does not / is|are|does", "proof": "no evidence of / evidence of",
    "presence": "is absent|are absent|no / is present|are present|is present",
}  # fmt: skip
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
_OWN = {  # sets whose values are what is written
    "tip": r"(?:\d+(?:\.\d+)? ?(?:mm|cm) above|(?:in|at|within|near|into|to)) the (?:(?:right|left|low|lower|mid|upper|"
           r"high|proximal|distal|main|mainstem|superior|inferior) )*(?:carina|svc|ivc|vena cava|atrium|ventricle|"
           r"cavoatrial junction|bronchus|stomach|esophagus|duodenum|jejunum|(?:brachiocephalic|jugular) vein)",
    "vertebra": r"[ctl]\d{1,2}", "rib": rf"(?:{'|'.join(_ORDINALS)}|\d{{1,2}}(?:st|nd|rd|th))",
    "grade": r"(?:aspects|(?:li|bi|pi|ti)-?rads|grade|stage|chiari|segment) (?:score )?(?:of )?(?:[ivx]+|\d)[a-c]?",
}  # fmt: skip
_FORMS = {name: [value.split("|") for value in values.split(" / ")] for name, values in _SETS.items()}
_WORDS = {n: "|".join(f"(?P<v{i}>{'|'.join(v)})" for i, v in enumerate(values)) for n, values in _FORMS.items()} | _OWN
_WORDS = {name: re.compile(rf"(?<![\w-])(?<!there )(?:{words})(?![\w-])", re.I) for name, words in _WORDS.items()}
_END = re.compile(
    r"[,;:.()]|\b(?:and|with|without|which|that|but|while|consistent|compatible|suggesting|due|is|are|was|were|has|have|"
    r"shows?|from|since|compared|after|caus\w+|measur\w+|abut\w*|projects?|terminat\w+|extend\w*|lies?|remains?|appears?|"
    r"persists?|represents?|obscur\w+)\b", re.I)  # fmt: skip
_BEGIN = re.compile(r"[,;:()]|\band (?:the|there|an?)\b|\b(?:with|without|which|that|but|while)\b", re.I)
_DARK = re.compile(
    r"\b(?:no|not|without|neither|nor|never|none|possibl[ey]|probabl[ey]|may|might|likely|if|cannot|suspected|"
    r"questionable|versus|or)\b|n't\b|\?", re.I)  # fmt: skip
_LAST = re.compile(r"\s*(?:[.,;)]|$|(?:since|from|compared|in|at|on|over|and)\b)")
_BEFORE = re.compile(
    r"(\d+(?:\.\d+)?) ?(?:mm|cm)?,? \(?(?:previously|formerly|was|prior|compared (?:to|with)) "
    r"(\d+(?:\.\d+)?) ?[mc]m\b")
_WORD, _PART = re.compile(r"[a-z][a-z-]{2,}", re.I), re.compile(r"[,;:]")
_PLACES = re.compile(r"\b(?:left|right|upper|middle|mid|lower|apical|basal|basilar)\b", re.I)
_WHOLE, _SEVERAL = ("being", "having", "proof", "presence"), SEVERAL - {*DEVICES}
_PARALLEL = ("course", "toward", "way", "degree", "being", "presence", "proof")  # in the form of the word there
_PLACED = ("side", "zone", "measure", "degree", "level", "ring", "part", "rib", "vertebra", "bone")


def _stem(word: str) -> str:
    return re.sub(r"(?:ing|ed|es|s|al|um|ly)$", "", word.lower())[:6]


_IDLE = {_stem(w) for w in PLAIN_WORDS} | {_stem(w) for w in (
    "tip end terminate lie project measure approximately compared comparison study examination prior thick diffuse "
    "with which that then than left right upper lower middle mid lobe extent has position area there under left-sided "
    "right-sided consistent and but show apical basal basilar apex apices base bases for keeping are its".split())}


class Slot(NamedTuple):
    """A word of a set: its value, its characters, what it is said of, and all that its sentence or part speaks of."""

    kind: str
    value: str
    start: int
    end: int
    thing: frozenset[str]
    sentence: frozenset[str]
    part: frozenset[str]
    line: int = 0


def opposed(report: str, text: str) -> list[Change]:
    """Each word of a text in whose place the report has another of its set, of the same thing, with that one."""
    said, stated, found = slots(text), slots(report), []
    for slot in said:
        same = [k for k in stated if k.kind == slot.kind and _of_one(slot, k)]
        own = {s.value for s in said if s.kind == slot.kind and s.thing & slot.thing}
        values = {k.value for k in same}
        beside = {k.value for k in stated if k.kind == slot.kind and k.line in {s.line for s in same}}
        there = report[same[0].start : same[0].end] if same else ""
        last = bool(_LAST.match(text, slot.end))
        new = _in_form(text[slot.start : slot.end], slot, same[0], there, last) if same else ""
        if len(values) == len(own) == 1 and not own & beside and new:
            found.append(Change(slot.start, slot.end, new))
    return found


def alike(report: str) -> str:
    """The words that say the same as those of the report do."""
    return " ".join(w for k in slots(report) if k.kind in _FORMS for w in _FORMS[k.kind][int(k.value)])


def apart(one: str, other: str) -> bool:
    """Whether two answers name one of a set each, and not the same: "subdural", "epidural"."""
    named = [{(kind, m.lastgroup) for kind in _FORMS for m in _WORDS[kind].finditer(text)} for text in (one, other)]
    return any(a[0] == b[0] and a not in named[1] and b not in named[0] for a in named[0] for b in named[1])


def _of_one(said: Slot, known: Slot) -> bool:
    """Whether both speak of one thing: what it is called by the one, the other does, and most of the rest is shared."""
    if said.kind == "measure" and close_sizes(said.value, known.value) or not said.thing <= known.thing:
        return False
    if said.kind in ("tip", "grade"):
        return said.thing == known.thing
    if said.kind in _PLACED and said.part & _SEVERAL:  # another one may well be elsewhere
        return any(len(own) > 2 and own <= known.sentence for own in (said.sentence, said.part))
    shared = max(len(own & known.sentence) / max(len(own), 1) for own in (said.sentence, said.part))
    if said.kind in _WHOLE:
        return shared >= 0.5 and said.thing == known.thing and len(said.part & known.sentence) > 1
    enough = said.kind not in _PLACED or len(said.part & known.sentence) > 1 or said.thing == known.thing == said.part
    return shared >= 0.5 and enough


def _in_form(like: str, said: Slot, known: Slot, there: str, followed: bool) -> str:
    """The other word; `followed`: by no noun, so "increased", not "increasing"."""
    new = there if there[1:2].isupper() else there[0].lower() + there[1:]
    if said.kind in _PARALLEL:
        own, other = (_FORMS[said.kind][int(slot.value)] for slot in (said, known))
        if said.kind == "presence" and like.lower() == "no":
            return ""
        if len(own) == len(other) and like.lower() in own:
            forms = [form for one, form in zip(own, other, strict=True) if one == like.lower()]
            at = min(followed and said.kind == "course", len(forms) - 1)
            new = forms[at] if new not in forms or said.kind == "presence" else new
    return new[0].upper() + new[1:] if like[0].isupper() else new


@lru_cache(maxsize=64)
def slots(text: str) -> tuple[Slot, ...]:
    """The words of sets in a text, where they are neither denied nor doubted."""
    claims = [c for c in read_report(text) if c.finding not in SEVERAL]
    owned = {c.parts[name][0] for c in claims for name in ("side", "zone") if name in c.parts
             and not _PART.search(text, *sorted((c.parts[name][0], c.parts["finding"][0])))}  # fmt: skip
    sentences = [(a, text[a:b]) for a, b in find_report_sentences(text) if len(text[a:b].lower()) == b - a]
    found = (s._replace(start=s.start + a, end=s.end + a, line=a) for a, t in sentences for s in _Sentence(t).slots())
    return tuple(s for s in found if s.start not in owned)


class _Sentence:
    def __init__(self, text: str) -> None:
        self.text, self.terms, self.values = text, find_terms(text), find_values(text)
        self.devices = frozenset(kind_of(n, text[a:b].lower()) for a, b, n in self.terms if n in DEVICES)

    def content(self, start: int, end: int, own: tuple[int, int] | None = None) -> frozenset[str]:
        """What a stretch speaks of: findings by their names, else stems of words; with `own` also the words in names,
        places and measures, but for those at that place."""
        found = {name for _, b, name in self.terms if start < b <= end}
        for m in _WORD.finditer(self.text, start, end):
            within = next(((a, b) for a, b, _ in self.terms if a <= m.start() < b), None)
            if not within or own and m.end() < within[1]:
                found |= {_stem(m.group())} - _IDLE if not own or not own[0] <= m.start() < own[1] else set()
        if own:
            found |= {f"@{m.group().lower()}" for m in _PLACES.finditer(self.text, start, end)
                      if not own[0] <= m.start() < own[1]}  # fmt: skip
            found |= {f"@{v.value}" for v in self.values if v.name == "measure" and start <= v.start < end
                      and not own[0] <= v.start < own[1]}  # fmt: skip
        return frozenset(found)

    def slots(self) -> Iterator[Slot]:
        tips = [m.span() for m in _WORDS["tip"].finditer(self.text)]
        for kind, pattern in _WORDS.items():
            for m in pattern.finditer(self.text):
                value = _value(kind, m.group().lower()) if kind in _OWN else m.lastgroup[1:]
                yield from self.slot(kind, value, *m.span())
        for m in _BEFORE.finditer(self.text):  # "5.8 cm, previously 5.2 cm"
            now, then = float(m[1]), float(m[2])
            more = "2" if abs(now - then) < 0.03 * then else str(int(now < then))
            yield from self.slot("course", more, *m.span())
        for v in self.values:
            if v.name == "measure" and not any(a <= v.start < b for a, b in tips):
                yield from self.slot("measure", v.value, v.start, v.end)

    def slot(self, kind: str, value: str, start: int, end: int) -> Iterator[Slot]:
        stop, begins = _END.search(self.text, end), [m.end() for m in _BEGIN.finditer(self.text, 0, max(start - 2, 0))]
        first, last = (begins[-1] if begins else 0), stop.start() if stop else len(self.text)
        behind, before = self.content(end, last), self.content(first, start)
        thing = behind or before
        if kind in _WHOLE:
            thing = before if (kind, value) == ("presence", "1") else behind
            thing |= before if kind == "being" and behind else frozenset()
        elif kind == "tip":
            thing = self.devices if len(self.devices) == 1 else frozenset()
        elif kind == "grade":
            thing = frozenset(self.text[start:end].lower().split()[:1])
        elif kind in ("zone", "rib"):
            thing = behind | before
        elif kind in ("way", "toward"):
            thing = (behind | before) & {name for *_, name in self.terms}
        dark = _DARK.search(self.text, first, start) or _DARK.search(self.text, end, last)
        if thing and value and not dark:
            part = [m.end() for m in _PART.finditer(self.text, 0, start)][-1:] or [0]
            until = _PART.search(self.text, end)
            own = self.content(part[0], until.start() if until else len(self.text), (start, end))
            yield Slot(kind, value, start, end, thing, self.content(0, len(self.text), (start, end)), own)


def _value(kind: str, words: str) -> str:
    if kind == "rib":
        return str(_ORDINALS.index(words) + 1) if words in _ORDINALS else words.rstrip("stndrh")
    if kind != "tip":
        return words
    if "cavoatrial" in words:  # neither atrium nor vena cava for certain
        return ""
    length, side = re.search(r"\d+(?:\.\d+)?", words), re.search(r"right|left", words)
    part = side.group() if side and "bronchus" in words else length.group() if length else ""
    return f"{part} {words.split()[-1].replace('cava', 'ivc' if 'inferior' in words else 'svc')}".strip()
