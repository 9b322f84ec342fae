"""What a short answer names, as values that can be compared and exchanged: side, zone and size, modality, sequence,
plane, organ, body region, a count, a size with its unit.

The same value in other words is the same ("computed tomography", "CT"; "3 cm", "30 mm"; "two", "2"). Words are data.
"""

import re
from collections.abc import Sequence

import numpy as np

from medalign_lite.text.claims import Attribute, find_attributes
from medalign_lite.text.facts import SIDES, SIZES, ZONES

NUMBERS = "zero one two three four five six seven eight nine ten".split()
WORDS: dict[str, dict[str, str]] = {  # kind -> value, as it is written where it is put in -> expression of its names
    "modality": {
        "CT": r"ct|cat scan|computed tomography", "MRI": r"mri?|(?:nuclear )?magnetic resonance(?: imaging)?",
        "X-ray": r"x-? ?rays?|radiograph(?:s|y)?|plain films?|cxr",
        "ultrasound": r"ultra-?sound|ultrasonography|sonogra(?:m|phy)", "PET": r"pet|positron emission tomography",
        "mammography": r"mammogra(?:m|phy)", "fluoroscopy": r"fluoroscopy", "angiography": r"angiogra(?:m|phy)",
    },
    "sequence": {"T1": r"t1(?:[- ]?weighted)?", "T2": r"t2(?:[- ]?weighted)?", "FLAIR": r"flair", "DWI": r"dwi"},
    "plane": {
        "axial": r"(?:axial|transverse|transaxial)(?:\s+plane)?", "coronal": r"coronal(?:\s+plane)?",
        "sagittal": r"sagittal(?:\s+plane)?",
    },
    "region": {"chest": r"chest|thorax", "abdomen": r"abdomen", "head": r"head|skull", "pelvis": r"pelvi[sc]",
               "neck": r"neck"},
    "organ": {
        "lung": r"lungs?", "heart": r"heart", "liver": r"liver", "spleen": r"spleen", "kidney": r"kidneys?",
        "stomach": r"stomach", "pancreas": r"pancreas", "gallbladder": r"gall ?bladder",
        "bladder": r"(?:urinary )?bladder", "brain": r"brain(?! ?stem)", "brainstem": r"brain ?stem",
        "large bowel": r"large (?:bowel|intestine)|colon", "small bowel": r"small (?:bowel|intestine)",
        "rectum": r"rectum", "esophagus": r"o?esophagus", "trachea": r"trachea", "aorta": r"aorta",
        "spinal cord": r"spinal cord", "thyroid": r"thyroid(?: gland)?", "prostate": r"prostate(?: gland)?",
        "uterus": r"uterus",
    },
}  # fmt: skip
_NUMBER = r"\d+(?:\.\d+)?"
_MEASURE = re.compile(
    rf"(?<![\w.])(?P<sizes>{_NUMBER}(?: ?(?:x|×|by) ?{_NUMBER}){{0,2}}) ?-?(?P<unit>mm|cm|millimet(?:re|er)s?|"
    r"centimet(?:re|er)s?)\b", re.I)
_COUNT = re.compile(rf"(?<![\w.-])(?:\d{{1,3}}|{'|'.join(NUMBERS)})(?![\w-]|\.\d| ?%)", re.I)
_TAIL = {"modality": r"s?(?: scans?| images?)?"}
_PATTERNS = [
    (kind, value, re.compile(rf"\b(?:{names}){_TAIL.get(kind, '')}\b", re.I))
    for kind, values in WORDS.items()
    for value, names in values.items()
]
_USUAL = ("CT", "MRI", "X-ray", "ultrasound")  # what a false answer may say of a modality
CLOSE = 0.2  # two sizes that differ by less, relative to the larger, may be the same measured twice


def find_values(text: str) -> tuple[Attribute, ...]:
    """Every value that the text names, in reading order; where two overlap, the longer. Sizes are in millimetres."""
    found = [Attribute(kind, value, *m.span()) for kind, value, p in _PATTERNS for m in p.finditer(text)]
    found += [Attribute("measure", _millimetres(m), *m.span()) for m in _MEASURE.finditer(text)]
    found += [Attribute("count", _whole(m.group()), *m.span()) for m in _COUNT.finditer(text)]
    found += find_attributes(text)
    kept: list[Attribute] = []
    for one in sorted(found, key=lambda a: (a.start - a.end, a.start)):
        if all(one.end <= k.start or k.end <= one.start for k in kept):
            kept.append(one)
    return tuple(sorted(kept, key=lambda a: a.start))


def close_sizes(a: str, b: str) -> bool:
    """Whether two measures have as many lengths, none of which differ by as much as CLOSE."""
    one, two = (np.array(text.split("x"), float) for text in (a, b))
    return one.shape == two.shape and bool(np.all(np.abs(one - two) < CLOSE * np.maximum(one, two)))


def other_values(one: Attribute, said: str, *, followed: bool) -> list[str]:
    """What could stand in the place of `said`, whose value is `one`, and would be another value.

    `followed`: words come behind it, so a count keeps its grammatical number.
    """
    plain = {"side": SIDES, "zone": ZONES, "size": SIZES}.get(one.name)
    if plain:
        return [value for value in plain if value != one.value] if one.value in plain else []
    if one.name == "measure":
        return [_scaled(said, factor) for factor in (0.5, 2.0)]
    if one.name == "count":
        return _other_counts(int(one.value), said, followed=followed)
    names = _USUAL if one.name == "modality" else WORDS[one.name]
    plural = "s" if one.name == "organ" and said.lower() in ("lungs", "kidneys") else ""
    return [value + (plural if value in ("lung", "kidney") else "") for value in names if value != one.value]


def by_name(values: Sequence[Attribute]) -> dict[str, set[str]]:
    """{kind: its values}."""
    found: dict[str, set[str]] = {}
    for one in values:
        found.setdefault(one.name, set()).add(one.value)
    return found


def _other_counts(count: int, said: str, *, followed: bool) -> list[str]:
    counts = [n for n in (count - 1, count + 1) if n >= 0 and not (followed and (n == 1) != (count == 1))]
    words = said.lower() in NUMBERS
    return [NUMBERS[n] if words else str(n) for n in counts if n < len(NUMBERS) or not words]


def _whole(said: str) -> str:
    return str(NUMBERS.index(said.lower()) if said.lower() in NUMBERS else int(said))


def _millimetres(match: re.Match) -> str:
    factor = 1 if match["unit"].lower().startswith(("mm", "milli")) else 10
    return "x".join(f"{float(n) * factor:g}" for n in re.findall(_NUMBER, match["sizes"]))


def _scaled(said: str, factor: float) -> str:
    return re.sub(_NUMBER, lambda m: f"{float(m.group()) * factor:g}", said)
