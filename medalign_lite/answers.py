"""Short answers against a gold answer: the words that differ, exchanged; nothing where the two may mean the same."""

import re
from collections.abc import Sequence

import numpy as np

from medalign_lite.cases import SIDES, SIZES, ZONES
from medalign_lite.claims import Attribute, find_attributes, yes_no
from medalign_lite.phantom.phrases import DEGREES
from medalign_lite.rewrite import NoEdit

WHOLE_ANSWER_WORDS = 8  # up to this many words an answer may be exchanged as a whole
_FILLERS = frozenset("a an the is are it its there this in on at of to side sided zone and yes no not".split())
_NUMBERS = dict(zip("zero one two three four five six seven eight nine ten".split(), map(str, range(11)), strict=True))
_BARE_YES_NO = re.compile(r"\W*(yes|no)\W*", re.I)
_VALUES = {"side": SIDES, "zone": ZONES, "size": SIZES}


def normalise(text: str) -> str:
    """What decides whether two answers are the same: lower-case words without articles, hyphens or punctuation."""
    words = re.findall(r"\w+", re.sub(r"(?<=\w)-(?=\w)", "", text.casefold()))
    return " ".join(_NUMBERS.get(w, w) for w in words if w not in ("a", "an", "the"))


def correct_answer(answer: str, gold: str) -> str | None:
    """`answer` with only what differs from `gold` exchanged; None where the two say the same.

    Raises:
        NoEdit: where it cannot be told whether they differ, or the answer is too long to exchange.
    """
    if not normalise(answer) or not normalise(gold):
        raise NoEdit("an empty answer")
    if normalise(answer) == normalise(gold):
        return None
    if _BARE_YES_NO.fullmatch(gold):
        return _correct_yes_no(answer, gold)
    said, right = find_attributes(answer), find_attributes(gold)
    if right and _once(said) and _once(right) and _same_names(said, right) and _content(gold) <= _content(answer):
        changed = [(s, r) for s in said for r in right if s.name == r.name and s.value != r.value]
        return _exchange(answer, gold, changed) if changed else None
    return _whole(answer, gold)


def falsify_answer(answer: str, rng: np.random.Generator) -> str:
    """A right short answer made wrong: yes for no, or another side, zone or size.

    Raises:
        NoEdit: where no false answer is known ("CT").
    """
    if _BARE_YES_NO.fullmatch(answer):
        return _flip(answer)
    said = find_attributes(answer)
    usable = [a for a in said if sum(b.name == a.name for b in said) == 1 and a.value in _VALUES[a.name]]
    if not usable:
        raise NoEdit("no false answer is known")
    a = usable[int(rng.integers(len(usable)))]
    others = [v for v in _VALUES[a.name] if v != a.value]
    value = others[int(rng.integers(len(others)))]
    return answer[: a.start] + like_word(value, answer[a.start : a.end], a.name) + answer[a.end :]


def _correct_yes_no(answer: str, gold: str) -> str | None:
    said = yes_no(answer)
    if said is None:
        raise NoEdit("a yes/no question answered without yes or no")
    if said == yes_no(gold):
        return None
    return _flip(answer) if _BARE_YES_NO.fullmatch(answer) else _whole(answer, gold)


def _flip(answer: str) -> str:
    word = _BARE_YES_NO.fullmatch(answer).span(1)
    new = "no" if answer[slice(*word)].lower() == "yes" else "yes"
    return answer[: word[0]] + case_like(new, answer[slice(*word)]) + answer[word[1] :]


def case_like(new: str, like: str) -> str:
    """`new` in the capitals of `like`."""
    if like.isupper() and len(like) > 1:
        return new.upper()
    return new.capitalize() if like[:1].isupper() else new.lower()


def like_word(value: str, said: str, name: str) -> str:
    """A side, zone or size in the form of the word it replaces: "mildly" makes "large" "markedly"."""
    if name == "size" and said.lower().endswith("ly"):
        value = DEGREES[value]
    elif name == "size" and said.lower() in ("mild", "marked", "severe"):
        value = {"small": "mild", "large": "marked"}.get(value, value)
    return case_like(value, said)


def _once(found: Sequence[Attribute]) -> bool:
    names = [a.name for a in found]
    return len(set(names)) == len(names)


def _same_names(a: Sequence[Attribute], b: Sequence[Attribute]) -> bool:
    return {x.name for x in a} == {x.name for x in b}


def _content(text: str) -> set[str]:
    """The words that carry an answer, without fillers and attribute words."""
    for a in reversed(find_attributes(text)):
        text = text[: a.start] + text[a.end :]
    return set(normalise(text).split()) - _FILLERS


def _exchange(answer: str, gold: str, changed: Sequence[tuple[Attribute, Attribute]]) -> str:
    for said, right in sorted(changed, reverse=True):
        new = case_like(gold[right.start : right.end], answer[said.start : said.end])
        answer = answer[: said.start] + new + answer[said.end :]
    return answer


def _whole(answer: str, gold: str) -> str:
    """The gold answer in the answer's place, with the answer's full stop and first capital."""
    words = [set(normalise(text).split()) for text in (answer, gold)]
    denies = [bool(w & {"no", "not", "none"}) for w in words]
    said, right = (w - _FILLERS for w in words)
    if said and right and (said <= right or right <= said) and denies[0] == denies[1]:
        raise NoEdit("the answer may say the same as the gold answer in other words")
    if max(len(answer.split()), len(gold.split())) > WHOLE_ANSWER_WORDS:
        raise NoEdit("a long answer that differs from the gold answer")
    new = gold.strip().rstrip(".")
    new = new[0].upper() + new[1:] if answer.strip()[0].isupper() else new
    return new + ("." if answer.rstrip().endswith(".") else "")
