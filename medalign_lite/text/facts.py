"""What can be true of a chest radiograph of the phantom world: findings, their attributes, and one fact."""

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
