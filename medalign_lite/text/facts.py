"""What can be true of a chest radiograph of the phantom world: findings, their attributes and names, and one fact."""

from dataclasses import dataclass

FINDINGS = (
    "nodule", "consolidation", "effusion", "pneumothorax", "cardiomegaly", "atelectasis", "fracture", "pacemaker",
)  # fmt: skip
SIDES = ("right", "left")
ZONES = ("upper", "mid", "lower")
SIZES = ("small", "moderate", "large")


@dataclass(frozen=True)
class Fact:
    """One finding that is truly in the image; attributes that do not apply to the finding are None.

    `visible` is False where the finding cannot be seen (contrast-to-noise `cnr` too low): never scored.
    `mask` is the path of a PNG relative to the case's folder, and so are `removed`, the same picture rendered without
    this finding, and `moved`, with it on the other side; only synthetic pictures have them.
    """

    finding: str
    side: str | None = None
    zone: str | None = None
    size: str | None = None
    visible: bool = True
    cnr: float | None = None
    mask: str | None = None
    removed: str | None = None
    moved: str | None = None
ATTRIBUTES = {  # what is said of each finding
    "nodule": ("side", "zone", "size"),
    "consolidation": ("side", "zone", "size"),
    "effusion": ("side", "size"),
    "pneumothorax": ("side", "size"),
    "cardiomegaly": ("size",),
    "atelectasis": ("side",),
    "fracture": ("side", "zone"),
    "pacemaker": ("side",),
}

NOUNS = {
    "nodule": ("nodule", "lung nodule", "pulmonary nodule"),
    "consolidation": ("consolidation", "airspace opacity"),
    "effusion": ("pleural effusion", "effusion"),
    "pneumothorax": ("pneumothorax",),
    "cardiomegaly": ("cardiomegaly", "cardiac enlargement"),
    "atelectasis": ("atelectasis", "volume loss"),
    "fracture": ("rib fracture", "fractured rib"),
    "pacemaker": ("pacemaker", "cardiac pacemaker"),
}
UNCOUNTABLE = frozenset({"cardiomegaly", "atelectasis"})
SIZE_WORDS = {
    "cardiomegaly": {"small": "mild", "moderate": "moderate", "large": "marked"},
    "nodule": {"small": "small", "moderate": "moderate-sized", "large": "large"},
}
_PLAIN_SIZES = {"small": "small", "moderate": "moderate", "large": "large"}
DEGREES = {"small": "mildly", "moderate": "moderately", "large": "markedly"}


def size_word(finding: str, size: str) -> str:
    """The adjective for a size in front of this finding's noun ("marked" cardiomegaly, "large" effusion)."""
    return SIZE_WORDS.get(finding, _PLAIN_SIZES)[size]


def article(finding: str, phrase: str) -> str:
    """`phrase` behind its indefinite article; uncountable findings take none."""
    if finding in UNCOUNTABLE:
        return phrase
    first = phrase.lstrip("[")[0].lower()
    return f"{'an' if first in 'aeiou' else 'a'} {phrase}"
