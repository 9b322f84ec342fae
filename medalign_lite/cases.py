"""What a case is: one image, its questions, and what is known to be true of it; reading, writing and splitting.

The kit's own layout is a file `cases.jsonl`: one JSON object a line, paths relative to the file's folder
(wrapped here for reading; `facts`, `lesions`, `hidden` and `source` may be left out):

    {"id": "p7", "group": "patient7", "split": "test", "image": "images/p7.png",
     "questions": [{"id": "q1", "text": "Is there an effusion?", "answer": "yes", "kind": "closed",
                    "topic": "presence", "finding": "effusion", "visible": true}],
     "facts": [{"finding": "effusion", "side": "left", "size": "small", "mask": "masks/p7_effusion.png"}],
     "lesions": [{"label": "Effusion", "box": [20, 110, 40, 30]}],
     "hidden": "images/p7_hidden.png", "source": "my hospital"}

`facts` is null where nobody wrote down the whole truth of the picture (real data); `lesions` then says where
lesions are, by box `[x, y, width, height]` in pixels from the top left, by mask PNG, or both.
Other layouts are read by `medalign_lite/readers/`.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from medalign_lite.images import ImageError, image_size, read_image, read_mask

FINDINGS = (
    "nodule", "consolidation", "effusion", "pneumothorax", "cardiomegaly", "atelectasis", "fracture", "pacemaker",
)  # fmt: skip
SIDES = ("right", "left")
ZONES = ("upper", "mid", "lower")
SIZES = ("small", "moderate", "large")
SPLITS = ("train", "val", "test", "shifted")  # train is the pool that alignment learns from
KINDS = ("report", "closed", "open")


class CaseError(ValueError):
    """A case list or case that cannot be used; the message says what, where and what to do."""


@dataclass(frozen=True)
class Fact:
    """One finding that is truly in the image; attributes that do not apply to the finding are None.

    `visible` is False where the finding cannot be seen (contrast-to-noise `cnr` too low): never scored.
    `mask` is the path of a PNG relative to the case's folder.
    """

    finding: str
    side: str | None = None
    zone: str | None = None
    size: str | None = None
    visible: bool = True
    cnr: float | None = None
    mask: str | None = None


@dataclass(frozen=True)
class Lesion:
    """Where a lesion is: `box` (x, y, width, height) in pixels from the top left, `mask` a PNG path or both.

    `label_id` is the number that marks this lesion in a mask PNG that holds several labels; None: a plain mask.
    With both box and mask the lesion is the mask's part inside the box.
    """

    label: str
    box: tuple[float, float, float, float] | None = None
    mask: str | None = None
    label_id: int | None = None


@dataclass(frozen=True)
class Question:
    """A prompt with its reference answer; `visible` is False where it asks about what cannot be seen: never scored."""

    id: str
    text: str
    answer: str
    kind: str
    topic: str
    finding: str | None = None
    visible: bool = True


@dataclass(frozen=True)
class Case:
    """One image; `group` is the patient or anatomy that splits and bootstraps go by (METHOD.md D6).

    `facts` is None for real data. `hidden` is the same picture rendered without its lesions, where there is one.
    Mask paths of facts and lesions are relative to `folder`.
    """

    id: str
    group: str
    split: str
    image: Path
    questions: tuple[Question, ...]
    facts: tuple[Fact, ...] | None = None
    lesions: tuple[Lesion, ...] = ()
    hidden: Path | None = None
    source: str = ""
    folder: Path = Path(".")


@dataclass(frozen=True)
class CaseSet:
    """What was read: `skipped` lists whole cases, `dropped` single questions and lesions of kept cases.

    Both hold {"id": ..., "reason": ...}. `layout` names the layout and `reason` says why it was taken for that.
    """

    cases: tuple[Case, ...]
    skipped: list[dict] = field(default_factory=list)
    layout: str = ""
    reason: str = ""
    dropped: list[dict] = field(default_factory=list)
