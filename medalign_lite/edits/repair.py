"""Minimal edits: what a truth contradicts is repaired, or one thing that a text says is made false.

For each wrong claim there are ways to say it right, the smallest first: another word for side, zone or size; the noun
phrase denied or affirmed; the clause; the sentence. Every way is read again by the reader, which must find exactly what
was meant and all else as it was, and looked at by `grammar`, which knows nothing of findings. What passes neither is
refused. A text changes one claim at a time, so two wrong ones in a sentence do not get into each other's way.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from medalign_lite.cases.case import Question
from medalign_lite.text.answers import case_like, like_word
from medalign_lite.text.claims import Claim
from medalign_lite.text.diff import diff_spans
from medalign_lite.text.facts import ATTRIBUTES as HAS
from medalign_lite.text.facts import SIDES, SIZES, ZONES, Fact, size_word
from medalign_lite.text.grammar import broken
from medalign_lite.text.lexicon import SIZE_WORDS
from medalign_lite.text.phrases import ATTRIBUTES, Ways, affirm, deny, drop
from medalign_lite.text.qualifiers import VAGUE, contradicts
from medalign_lite.text.reports import read_report
from medalign_lite.text.spans import Change, NoEdit, Span, make_changes


@dataclass(frozen=True)
class Edit:
    """A pair that differs in its spans only.

    `evidence`: findings to be seen in the image that the edited true statement is about; empty where it is about
    something absent. `how`: what decided which of the two is true.
    """

    chosen: str
    rejected: str
    spans_chosen: tuple[Span, ...]
    spans_rejected: tuple[Span, ...]
    source: str  # "corrected" | "counterfactual"
    evidence: tuple[str, ...]
    how: str


def asked(question: Question | None, facts: Sequence[Fact]) -> tuple[str, ...]:
    """The question's finding, if it is there to be seen."""
    return tuple(f.finding for f in facts if question and f.visible and f.finding == question.finding)[:1]


def edit_of(chosen: str, rejected: str, source: str, evidence: tuple[str, ...], how: str) -> Edit:
    """The edit of two texts, whoever wrote them, with the spans in which they differ."""
    spans_chosen, spans_rejected = diff_spans(chosen, rejected)
    return Edit(chosen, rejected, spans_chosen, spans_rejected, source, evidence, how)


MOST_REPAIRS = 8
_ALSO = re.compile(r"\b(?:also|too|another|as well|additional\w*)\b", re.I)
_VALUES = {"side": SIDES, "zone": ZONES, "size": SIZES}
_SIDED = {
    "right": "left",
    "left": "right",
    "rul": "lul",
    "lul": "rul",
    "rll": "lll",
    "lll": "rll",
    "rt": "lt",
    "lt": "rt",
}
_ZONED = {
    ("upper", "apex"): "apex",
    ("lower", "base"): "base",
    ("upper", "apical"): "apical",
    ("lower", "basal"): "basal",
    ("lower", "basilar"): "basilar",
}


class Truth(Protocol):
    """What repairs go by: a table of facts or a report (see `truths`)."""

    claims: Sequence[Claim]
    complete: bool
    words: str

    def read(self, text: str) -> tuple[Claim, ...]:
        """The claims of a text."""

    def wrong(self, text: str) -> list[Claim]:
        """Those that the truth contradicts."""

    def says(self, claim: Claim) -> bool:
        """Whether it bears a claim out."""


def corrected(answer: str, truth: Truth) -> str:
    """`answer` with every claim that the truth contradicts repaired by what it says; itself where there is none.

    Raises:
        NoEdit: where one has no repair that reads as meant and is whole English.
    """
    for _ in range(MOST_REPAIRS):
        found = truth.wrong(answer)
        if not found:
            return answer
        claims = truth.read(answer)
        tried = (
            make_changes(answer, changes)
            for claim in found
            for changes in _repairs(answer, claim, claims, truth)
            if _sound(answer, changes, claim, claims, truth.says, truth.read)
        )
        better = next(tried, None)
        if better is None:
            raise NoEdit(f"no minimal repair that reads as true ({found[0].finding})")
        answer = better
    raise NoEdit("more repairs than an edit may have")


def turns(
    answer: str, claim: Claim, claims: Sequence[Claim], read: Callable = read_report
) -> Iterator[tuple[str, tuple[Change, ...]]]:
    """(in words, changes) of all that a claim may say instead: another side, zone or size, or the other polarity.

    Each is made when it is asked for, and is sound: it reads as meant, changes nothing else and breaks no sentence.
    """
    for label, ways in _turns(answer, claim, claims):
        for changes in ways:
            if _sound(answer, changes, claim, claims, lambda new: new.said != claim.said, read, alone=True):
                yield label, tuple(changes)
                break


def _turns(answer: str, claim: Claim, claims: Sequence[Claim]) -> Iterator[tuple[str, Ways]]:
    if claim.unsure:
        return
    for name in ATTRIBUTES:
        said = getattr(claim, name)
        for value in (
            _VALUES[name] if said in _VALUES[name] and name in claim.parts and name not in claim.unsure else ()
        ):
            if value != said and claim.polarity == "present":
                yield value, iter([_other_value(answer, claim, name, value)])
    if claim.polarity == "present":
        yield "not there", deny(answer, claim, claims)
    elif claim.polarity == "absent":
        yield "there", affirm(answer, claim, claims, None)


def _sound(
    answer: str, changes: Sequence[Change], claim: Claim, claims: Sequence[Claim], right: Callable, read: Callable,
    alone: bool = False,
) -> bool:
    """Whether the changed text says of the finding what is right, of all others what it said, in whole English.

    With `alone` nothing else that it says may contradict what it says now.
    """
    try:
        new = make_changes(answer, changes)
    except NoEdit:
        return False
    if new == answer or broken(new, answer):
        return False
    now = [c for c in read(new) if c.finding not in VAGUE]
    mine = (claim.finding, claim.parts["finding"])
    kept = Counter(
        (c.said, c.unsure) for c in claims if (c.finding, c.parts["finding"]) != mine and c.finding not in VAGUE
    )
    after = Counter((c.said, c.unsure) for c in now)
    added, lost = after - kept, kept - after
    places = {span for n in ATTRIBUTES if (span := claim.parts.get(n))}  # "a right effusion with atelectasis"
    others = [c for c in claims if c.finding != claim.finding]
    shared = {c.said[:2] for c in others if places & {c.parts.get(n) for n in ATTRIBUTES}}
    if any(said[:2] not in shared & {c.said[:2] for c in now} for said, _ in lost):
        return False
    if not added:  # a sentence taken out, of a finding of which another one speaks
        return any(c[0] == claim.finding for c, _ in kept) and not any(change.new for change in changes)
    about = [c for c in now if (c.said, c.unsure) in added]
    mine = [c for c in about if c.finding == claim.finding]
    belongs = [c.finding == claim.finding or c.said[:2] in shared or "organ" in c.parts and c.parts == mine[0].parts
               for c in about if mine]  # fmt: skip
    others = [c for c in now if c not in about]
    there = {said[0] for said, _ in kept if said[1] == "present"}
    again = [c for c in about if c.polarity == "present" and c.finding in there]
    if again and (claim.polarity == "absent" or any(_ALSO.search(new[new.rfind(".", 0, c.start) + 1 :].split(".")[0])
                                                    for c in again)):  # said twice
        return False
    denied = {c.finding for c in about if c.polarity == "absent"}
    if any(c.polarity == "uncertain" and c.finding in denied for c in others):  # "No effusion. There may be one."
        return False
    if alone and any(contradicts(others, c) or contradicts([c], other) for c in about for other in others):
        return False
    return bool(mine) and all(belongs) and all(not c.unsure and right(c) for c in about)


def _repairs(answer: str, claim: Claim, claims: Sequence[Claim], truth: Truth) -> Ways:
    same = (c for c in claims if c.finding == claim.finding and c.qualifiers <= claim.qualifiers)
    if any(contradicts([c], claim) and truth.says(c) for c in same):
        yield from drop(answer, claim, claims)
    there = [c for c in truth.claims if c.finding == claim.finding and c.polarity == "present"]
    if claim.polarity == "absent":
        for right in sorted(there, key=lambda c: len(_wrong(claim, c))):
            yield from affirm(answer, claim, claims, right)
        return
    for right in sorted(there, key=lambda c: len(_wrong(claim, c))):
        names = _wrong(claim, right)
        for own in (True, False) if names else ():
            swaps = [
                _other_value(answer, claim, name, getattr(right, name), right.words if own else "") for name in names
            ]
            if all(swaps):
                yield [change for some in swaps for change in some]
    if not there or any(c.polarity == "absent" and c.finding == claim.finding for c in truth.claims):
        yield from deny(answer, claim, claims, _denied_as(truth, claim.finding))


def _denied_as(truth: Truth, finding: str) -> list[str]:
    """The words by which a report denies a finding: "focal consolidation"."""
    if truth.complete:
        return []
    spans = [(c.parts["cue"][1], c.parts["finding"][1]) for c in truth.claims
             if c.finding == finding and c.polarity == "absent" and "cue" in c.parts and "organ" not in c.parts]
    said = [truth.words[a:b].strip() for a, b in spans if a < b]
    return [noun for noun in said if re.fullmatch(r"(?:(?!(?:n?or|and)\b)[\w-]+ ?){1,4}", noun)]


def _wrong(claim: Claim, right: Claim) -> list[str]:
    pairs = {name: (getattr(claim, name), getattr(right, name)) for name in ATTRIBUTES}
    return [name for name, (said, true) in pairs.items() if None not in (said, true) and said != true]


def _other_value(answer: str, claim: Claim, name: str, value: str, like: str = "") -> list[Change]:
    """Another side, zone or size in the place of the word there; nothing where that word holds more than it."""
    start, end = claim.parts[name]
    said = answer[start:end]
    low = said.lower().removesuffix("-sided")
    if name == "side":
        word = _SIDED.get(low) if value in ("right", "left") else None
    elif name == "zone":
        word = "middle" if value == "mid" and answer[end:].lstrip().startswith("lobe") else value
        word = (
            _ZONED.get(
                (value, low),
                {"apex": "base", "base": "apex", "apical": "basal", "basal": "apical", "basilar": "apical"}.get(low)
                if value in ("upper", "lower")
                else None,
            )
            if low in ("apex", "base", "apical", "basal", "basilar")
            else word
            if low in (*ZONES, "middle")
            else None
        )
    else:
        known = re.search(rf"\b(?:{SIZE_WORDS[value]})\b(?!-)", like, re.I) if like and value in SIZE_WORDS else None
        word = like_word(value, said, name)
        if low not in ("mild", "marked", "severe") and not low.endswith("ly"):
            word = size_word(claim.finding, value)
        if like:
            fits = known and not low.endswith("ly") and not known.group().lower().endswith("ly")
            word = known.group().lower() if fits else None
    if not word or value not in _VALUES[name]:
        return []
    word = word.upper() if said.isupper() and len(said) > 1 else case_like(word, said)
    return [Change(start, start + len(low), word), *article_fit(answer, start, word)]


def article_fit(answer: str, at: int, word: str) -> list[Change]:
    """The article in front of a place, as it fits the word that will stand there."""
    found = re.search(r"\b(an?)\s+$", answer[max(at - 6, 0) : at], re.I)
    fits = "an" if word[0].lower() in "aeiou" else "a"
    if not found or found[1].lower() == fits:
        return []
    shift = max(at - 6, 0)
    return [Change(shift + found.start(1), shift + found.end(1), case_like(fits, found[1]))]


def false_worlds(claim: Claim, facts: Sequence[Fact], rng: np.random.Generator) -> list[tuple[Fact, ...]]:
    """Tables of facts that contradict one true claim and nothing else: each stated attribute, or the finding itself."""
    rest = tuple(f for f in facts if f.finding != claim.finding)
    if claim.polarity == "absent":
        return [] if len(rest) < len(facts) else [(*rest, _invent(claim.finding, rng))]
    fact = next(f for f in facts if f.finding == claim.finding)
    worlds = [rest]
    for name in (n for n in _VALUES if n in claim.parts):
        others = [v for v in _VALUES[name] if v != getattr(fact, name)]
        worlds.append((*rest, replace(fact, **{name: others[int(rng.integers(len(others)))]})))
    return worlds


def _invent(finding: str, rng: np.random.Generator) -> Fact:
    chosen = {name: _VALUES[name][int(rng.integers(len(_VALUES[name])))] for name in HAS[finding]}
    return Fact(finding, **chosen)
