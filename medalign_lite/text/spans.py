"""A span of an answer: where the characters are that carry a clinical meaning, of which kind, and in which tokens."""

from collections.abc import Sequence

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
