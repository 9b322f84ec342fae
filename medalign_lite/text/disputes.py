"""What a report speaks against without deciding it: a nodule elsewhere, "no acute process", "grossly clear", another
course, another tip of a line, a side of something that nobody read.

No edit and no figure rests on this (that is `qualifiers.contradicts`); but a text that says such a thing is not called
true, so no pair is made of it.
"""

import re
from collections.abc import Sequence

from medalign_lite.text.claims import Claim
from medalign_lite.text.form import find_report_sentences
from medalign_lite.text.lexicon import DEVICES
from medalign_lite.text.qualifiers import VAGUE, is_old, supports

_IN_LUNGS = ("pneumonia", "edema", "mass", "opacity", "consolidation", "atelectasis", "nodule", "emphysema", "cavity")
_READ_AS_CLEAR = {  # what an organ's "clear" or "normal" speaks against, by one of the findings that it is read as
    "consolidation": _IN_LUNGS, "fracture": ("fracture", "bone deformity"), "effusion": ("effusion", "pneumothorax"),
    "enlarged mediastinum": ("pneumomediastinum", "lymphadenopathy"), "aortic disease": ("aortic disease",),
    "vascular congestion": ("edema", "heart failure"), "cardiomegaly": ("heart failure",),
}  # fmt: skip
_ACUTE = frozenset({"pneumonia", "consolidation", "edema", "effusion", "pneumothorax", "vascular congestion", "mass",
                    "heart failure", "opacity", "hemorrhage", "free air", "pneumomediastinum", "aspiration"})
_SIDE = re.compile(r"(?:\w+ (?:to|on) the )?\b(right|left)(?:[\w-]*(?: \w+)?)?", re.I)
_COURSES = {
    "more": r"increas(?:e|ed|ing)\b|worse\w*|larger|bigger|progress\w*|\bnew\b|newly|enlarging|develop\w+|recur\w+",
    "less": r"decreas\w+|improv\w+|smaller|resol\w+|clear(?:ed|ing)|regress\w+|diminish\w+|reduc\w+|lessened",
    "same": r"stable|unchanged|persist\w*|no (?:\w+ )?(?:interval )?change|similar",
}
_TIPS = {
    "atrium": r"atri(?:um|al)|cavo-?atrial", "ventricle": r"ventric\w+", "vena cava": r"svc|vena cava|cavo-?atrial",
    "brachiocephalic": r"brachioceph\w+|innominate", "jugular": r"jugular vein", "axilla": r"axill\w+",
    "stomach": r"stomach|gastric (?:body|fundus)|fundus", "oesophagus": r"o?esophag\w+", "bowel": r"duoden\w+|jejun\w+",
    "bronchus": r"bronch(?:us|i)|mainstem", "above the carina": r"carina|satisfactory|good position|trachea\b",
}
_LENGTH = re.compile(r"\b(\d+(?:\.\d+)?) ?(?:mm|cm)\b")


def disputes(report: str, truth: Sequence[Claim], text: str, claims: Sequence[Claim]) -> str | None:
    """What of a text a reference report speaks against, for people; None where there is nothing. Both read before."""
    found = next((c for c in claims if _speaks_against(truth, c)), None)
    if found:
        return found.finding
    if _loose_sides(text, claims) - _loose_sides(report, truth):
        return "a side of something that was not read"
    said, known = _said_beside(text, claims), _said_beside(report, truth)
    other = (name for name in said if known.get(name) and said[name] and not said[name] & known[name])
    return next((f"the {what} of the {finding}" for finding, what in other), None)


def _speaks_against(truth: Sequence[Claim], claim: Claim) -> bool:
    if claim.finding in VAGUE or supports(truth, claim):
        return False
    same = [c for c in truth if c.finding == claim.finding and not _apart(c, claim)]
    if claim.polarity == "absent":
        within = _READ_AS_CLEAR.get(claim.finding, ()) if "organ" in claim.parts else ()
        seen = [c for c in truth if c.finding in within and not _apart(c, claim)]
        narrow = bool(claim.qualifiers) and all(is_old(c) or c.size for c in same)
        return any(c.polarity != "absent" for c in [*seen, *([] if narrow else same)])
    there = [c for c in truth if c.finding == claim.finding and c.polarity == "present" and c.kind == claim.kind]
    if there and all(_apart(c, claim) or None not in (c.size, claim.size) and c.size != claim.size for c in there):
        return True
    gone = [c for c in same if c.polarity == "absent" and c.kind in (claim.kind, c.finding)]
    own = is_old(claim) or claim.size == "small"
    if any(not c.qualifiers or not own for c in gone) and not any(c.polarity == "present" for c in same):
        return True
    return not own and any(_in_general(c, claim) for c in truth if c.polarity == "absent" and not _apart(c, claim))


def _apart(a: Claim, b: Claim) -> bool:
    """Of one side, or of one zone, each of another."""
    pairs = ((getattr(a, name), getattr(b, name)) for name in ("side", "zone"))
    return any(None not in pair and pair[0] != pair[1] and "bilateral" not in pair for pair in pairs)


def _in_general(denial: Claim, claim: Claim) -> bool:
    """A denial of all that is wrong, or of all that is wrong in an organ, in which the claim finds something."""
    if denial.finding == "abnormality":
        return claim.finding in _ACUTE or not denial.qualifiers and claim.finding not in DEVICES
    if denial.finding == "bone abnormality":
        return claim.finding in ("fracture", "bone deformity")
    return "organ" in denial.parts and claim.finding in _READ_AS_CLEAR.get(denial.finding, ())


def _loose_sides(text: str, claims: Sequence[Claim]) -> set[str]:
    """The sides that a text names, but not of its claims, with the word beside: "right mca" of "right MCA infarct"."""
    owned = [c.parts["side"] for c in claims if "side" in c.parts]
    found = [m for m in _SIDE.finditer(text) if not any(a <= m.start(1) < b for a, b in owned)]
    return {" ".join(m.group().lower().split()) for m in found}


def _said_beside(text: str, claims: Sequence[Claim]) -> dict[tuple[str, str], set[str]]:
    """{(finding, "course" or "place"): what the sentences of an affirmed one say of its course, or a device's tip}."""
    found: dict[tuple[str, str], set[str]] = {}
    for start, end in find_report_sentences(text):
        sentence = text[start:end].lower()
        inside = {c.finding for c in claims if start <= c.start < end and c.polarity == "present"}
        for name in inside:
            courses = {kind for kind, words in _COURSES.items() if re.search(rf"\b(?:{words})", sentence)}
            found.setdefault((name, "course"), set()).update(courses if len(inside) == 1 else ())
        devices = inside & {*DEVICES}
        if len(devices) == 1:
            tips = {place for place, words in _TIPS.items() if re.search(rf"\b(?:{words})", sentence)}
            tips = {*_LENGTH.findall(sentence)} or tips if "above the carina" in tips else tips
            found.setdefault((*devices, "place"), set()).update(tips)
    return found
