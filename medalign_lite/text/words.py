"""Words for findings and sizes, and changes of a text by character."""

from collections.abc import Iterable
from dataclasses import dataclass

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


class NoEdit(ValueError):
    """Why an answer has no minimal edit; the message is the reason records are counted under."""


@dataclass(frozen=True, order=True)
class Change:
    """The characters [start, end) of a text are to read `new`; an empty `new` takes them out."""

    start: int
    end: int
    new: str


def make_changes(text: str, changes: Iterable[Change]) -> str:
    """The text with all changes made. Raises NoEdit for two of the same characters."""
    ordered = sorted(set(changes))
    for a, b in zip(ordered, ordered[1:], strict=False):
        if b.start < a.end:
            raise NoEdit("two repairs of the same words")
    for change in reversed(ordered):
        text = text[: change.start] + change.new + text[change.end :]
    return text
