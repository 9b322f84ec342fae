"""A span of an answer: where the characters are that carry a clinical meaning, of which kind, in which tokens; and
changes of a text by character."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Span = tuple[int, int, str]  # start, end (characters), kind
Offsets = Sequence[tuple[int, int]]  # start and end of each token in the text, in characters
KINDS = ("finding", "negation", "side", "zone", "size", "severity", "device", "other")


def token_kinds(offsets: Offsets, spans: Sequence[Span], *, length: int) -> list[int]:
    """0 or 1 + KINDS.index(kind) per token: token [a, b) belongs to span [s, e) iff max(a, s) < min(b, e) (METHOD §2).

    Where spans overlap the first one given wins. Raises ValueError for an unknown kind or a span that is empty,
    reversed or outside a text of `length` characters.
    """
    for start, end, kind in spans:
        if kind not in KINDS:
            raise ValueError(f"span kind {kind!r} is not one of {', '.join(KINDS)}")
        if not 0 <= start < end <= length:
            raise ValueError(f"span [{start}, {end}) is empty, reversed or outside the answer's {length} characters")
    return [next((1 + KINDS.index(kind) for s, e, kind in spans if max(a, s) < min(b, e)), 0) for a, b in offsets]


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
