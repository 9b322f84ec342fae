"""Where two texts differ, as character spans on both sides that leave the same string when deleted (METHOD §1, D2-D3).

Words and punctuation are compared through a longest common subsequence, so pure insertions and deletions are seen:
"does show" against "does not show" gives "show" against "not show", the empty side taking the neighbouring token.
"""

import re
from collections.abc import Sequence

from medalign_lite.text.claims import SEVERITY_WORDS, find_attributes
from medalign_lite.text.lexicon import DEVICES
from medalign_lite.text.reports import find_negations, find_terms
from medalign_lite.text.spans import Span

_TOKEN = re.compile(r"\s*(?:\w+(?:['’]\w+)*|[^\w\s])|\s+")  # the space in front belongs to the token
_POLAR = re.compile(r"\b(?:yes|no|not|none|without|absent|normal|clear|intact|except|but|or|nor)\b", re.I)
_Block = tuple[int, int, int, int]  # tokens a[i:j] against b[k:l]


def tokens(text: str) -> list[tuple[int, int]]:
    """Characters of each word or punctuation mark with the space in front of it; together they are the whole text."""
    return [m.span() for m in _TOKEN.finditer(text)]


def diff_spans(a: str, b: str) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Spans of `a` and of `b`, one for one, that hold all that differs; their kind is read from the words in them.

    Equal texts give no spans. Both spans of a pair are non-empty unless a text is.
    """
    a_tokens, b_tokens = tokens(a), tokens(b)
    a_words, b_words = ([text[s:e] for s, e in parts] for text, parts in ((a, a_tokens), (b, b_tokens)))
    blocks = _merge(_fill_empty(_changes(a_words, b_words), len(a_words)))
    pairs = [pair for block in blocks for pair in _spans(a, b, a_tokens, b_tokens, block)]
    return tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)


def remove_spans(text: str, spans: Sequence[Span]) -> str:
    """`text` without the characters of the spans."""
    kept, at = [], 0
    for start, end, _ in sorted(spans):
        kept.append(text[at:start])
        at = max(at, end)
    return "".join(kept) + text[at:]


def edited_tokens(text: str, spans: Sequence[Span]) -> int:
    """How many words and punctuation marks of `text` the spans touch."""
    bare = [(e - len(text[s:e].lstrip()), e) for s, e in tokens(text)]
    return sum(any(max(s, start) < min(e, end) for start, end, _ in spans) for s, e in bare)


def _changes(a: Sequence[str], b: Sequence[str]) -> list[_Block]:
    """The blocks between the tokens of a longest common subsequence."""
    length = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]  # of the common subsequence of a[i:], b[k:]
    for i in reversed(range(len(a))):
        for k in reversed(range(len(b))):
            same = a[i] == b[k]
            length[i][k] = length[i + 1][k + 1] + 1 if same else max(length[i + 1][k], length[i][k + 1])
    blocks, i, k, from_i, from_k = [], 0, 0, 0, 0
    while i < len(a) and k < len(b):
        if a[i] == b[k]:
            if (i, k) != (from_i, from_k):
                blocks.append((from_i, i, from_k, k))
            i, k = i + 1, k + 1
            from_i, from_k = i, k
        elif length[i + 1][k] >= length[i][k + 1]:
            i += 1
        else:
            k += 1
    if (from_i, from_k) != (len(a), len(b)):
        blocks.append((from_i, len(a), from_k, len(b)))
    return blocks


def _fill_empty(blocks: list[_Block], count: int) -> list[_Block]:
    """Give a block that is empty on one side the common token behind it, at the end of the text the one before."""
    filled = []
    for i, j, k, m in blocks:
        if (i == j or k == m) and j < count:
            j, m = j + 1, m + 1
        elif (i == j or k == m) and min(i, k) > 0:
            i, k = i - 1, k - 1
        filled.append((i, j, k, m))
    return filled


def _merge(blocks: list[_Block]) -> list[_Block]:
    merged: list[_Block] = []
    for block in blocks:
        if merged and block[0] <= merged[-1][1]:
            merged[-1] = (merged[-1][0], block[1], merged[-1][2], block[3])
        else:
            merged.append(block)
    return merged


def _spans(a: str, b: str, a_tokens, b_tokens, block: _Block) -> list[tuple[Span, Span]]:
    """One pair for the block; one a word where words of the same kind stand against each other in order."""
    i, j, k, m = block
    whole = [(_range(a_tokens, i, j), _range(b_tokens, k, m))]
    single = list(zip(a_tokens[i:j], b_tokens[k:m], strict=False))
    kinds = [(_kind(a, x), _kind(b, y)) for x, y in single]
    apart = len(single) == j - i == m - k and all(x == y != "other" for x, y in kinds)
    pairs = []
    for x, y in single if apart else whole:
        x, y = _trim(a, b, x, y)
        said = _kind(a, x), _kind(b, y)
        kind = min(said, key=_PRECEDENCE.index)
        if not (a[: x[0]] + b[: y[0]] + a[x[1] :] + b[y[1] :]).strip(" .") and not _alike(*said, a + b):
            kind = "other"  # one whole answer in another's place
        pairs.append(((*x, kind), (*y, kind)))
    return pairs


def _range(parts: Sequence[tuple[int, int]], i: int, j: int) -> tuple[int, int]:
    if i < j:
        return parts[i][0], parts[j - 1][1]
    return (0, 0)  # only where the whole text is empty


def _trim(a: str, b: str, x: tuple[int, int], y: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Leave out the space in front that both spans share."""
    (s, e), (t, f) = x, y
    while s < e - 1 and t < f - 1 and a[s] == b[t] and a[s].isspace():
        s, t = s + 1, t + 1
    return (s, e), (t, f)


def _alike(one: str, other: str, text: str) -> bool:
    """Whether two whole answers differ in one kind of thing: both name a size, or one denies."""
    same = one == other or {one, other} == {"size", "severity"}
    return same or ("negation" in (one, other) and bool(find_negations(text)))


_PRECEDENCE = ("negation", "finding", "device", "side", "zone", "severity", "size", "other")


def _kind(text: str, span: tuple[int, int]) -> str:
    """What the words of a span are about, the most decisive first."""
    start, end = span
    inside = [(s, e) for s, e in find_negations(text) if max(s, start) < min(e, end)]
    if inside or _POLAR.search(text, start, end):
        return "negation"
    findings = {f for s, e, f in find_terms(text) if max(s, start) < min(e, end)}
    if findings:
        return "device" if findings <= {*DEVICES} else "finding"
    names = {a.name for a in find_attributes(text, start, end)}
    severe = any(text[a.start : a.end].lower() in SEVERITY_WORDS for a in find_attributes(text, start, end))
    names = (names - {"size"}) | {"severity"} if severe else names
    return min(names | {"other"}, key=_PRECEDENCE.index)
