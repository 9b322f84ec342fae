"""The words of the phantom reports and questions, as data: frames x nouns x places, split into three banks.

A statement is a *frame* ("There is {np}.") holding a *noun* ("pleural effusion") and a *place* ("{size} {noun} on the
{side}"). Each affirmative frame stands beside its minimal negative. Brackets mark the characters that carry the fact.
The banks share every word; what is held out is the combination (see `in_bank`).
"""

from __future__ import annotations

from medalign_lite.text.facts import FINDINGS

BANKS = ("base", "pool", "test")
_PERIOD = 5  # combinations fall into five classes: three are base, one is pool, one is test
_BANK_CLASSES = {"base": (0, 1, 2), "pool": (3,), "test": (4,)}


_ZONED = (
    "{size} {noun} in the {side} {zone} zone",
    "{size} {side} {zone} zone {noun}",
    "{size} {noun} in the {zone} zone of the {side} lung",
)
_SIDED = ("{size} {side} {noun}", "{size} {noun} on the {side}", "{size} {side}-sided {noun}")
_SIDED_ONLY = ("{side} {noun}", "{noun} on the {side}", "{side}-sided {noun}")
PLACES = {
    "nodule": _ZONED,
    "consolidation": _ZONED,
    "effusion": _SIDED,
    "pneumothorax": _SIDED,
    "cardiomegaly": ("{size} {noun}",),
    "atelectasis": _SIDED_ONLY,
    "fracture": ("{side} {zone} {noun}", "{noun} in the {side} {zone} zone", "{noun} in the {zone} zone on the {side}"),
    "pacemaker": _SIDED_ONLY,
}

# (affirmative, negative, long): {np} carries its own article and brackets, {noun} is the bare noun in brackets.
FRAMES = (
    ("There is {np}.", "There is no {noun}.", False),
    ("{np} is seen.", "No {noun} is seen.", False),
    ("{np}.", "No {noun}.", False),
    ("{np} is present.", "{noun} is not present.", False),
    ("{np} is noted.", "No {noun} is noted.", False),
    ("There is evidence of {np}.", "There is no evidence of {noun}.", True),
    ("The film shows {np}.", "The film shows no {noun}.", True),
    ("On this view there is {np}.", "On this view there is no {noun}.", True),
    ("{np} is noted on this film.", "No {noun} is noted on this film.", True),
    ("{np} can be seen on this view.", "No {noun} can be seen on this view.", True),
)

# Cardiomegaly may also be said of the heart itself: (affirmative, negative, long).
HEART_FRAMES = (
    ("The heart is [{degree} enlarged].", "The heart is not [enlarged].", False),
    ("The cardiac silhouette is [{degree} enlarged].", "The cardiac silhouette is not [enlarged].", False),
    ("Heart size is [{degree} increased].", "[Heart size] is normal.", False),
    ("The heart is [{degree} enlarged] on this film.", "The heart is not [enlarged] on this film.", True),
    ("On this view the heart is [{degree} enlarged].", "On this view the [heart] is normal in size.", True),
)

# One sentence that denies several findings at once.
NORMAL_ORGANS = (
    ("The [lungs] are clear.", ("nodule", "consolidation", "atelectasis")),
    ("The [pleural spaces] are clear.", ("effusion", "pneumothorax")),
    ("The [ribs] are intact.", ("fracture",)),
)


def in_bank(bank: str, finding: str, *choice: int) -> bool:
    """Whether the combination of template indices `choice` for `finding` belongs to `bank`.

    Raises:
        ValueError: on an unknown bank.
    """
    if bank not in _BANK_CLASSES:
        raise ValueError(f"unknown phrase bank {bank!r}; choose one of {', '.join(BANKS)}")
    mixed = sum((2 * i + 1) * c for i, c in enumerate(choice)) + FINDINGS.index(finding)
    return mixed % _PERIOD in _BANK_CLASSES[bank]


