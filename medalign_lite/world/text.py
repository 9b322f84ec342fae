"""Radiology reports of phantom cases, from the table of facts, with the characters of every statement; and their words
as data: frames x nouns x places, split into three banks.

A statement is a *frame* ("There is {np}.") holding a *noun* ("pleural effusion") and a *place* ("{size} {noun} on the
{side}"). Each affirmative frame stands beside its minimal negative. Brackets mark the characters that carry the fact.
The banks share every word; what is held out is the combination (see `in_bank`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from medalign_lite.text.facts import DEGREES, FINDINGS, NOUNS, Fact, article, size_word

BANKS = ("base", "pool", "test")
_BANK_CLASSES = {"base": (0, 1, 2), "pool": (3,), "test": (4,)}  # combinations fall into five classes

_ZONED = (
    "{size} {noun} in the {side} {zone} zone", "{size} {side} {zone} zone {noun}",
    "{size} {noun} in the {zone} zone of the {side} lung",
)  # fmt: skip
_SIDED = ("{size} {side} {noun}", "{size} {noun} on the {side}", "{size} {side}-sided {noun}")
_SIDED_ONLY = ("{side} {noun}", "{noun} on the {side}", "{side}-sided {noun}")
PLACES = {
    "nodule": _ZONED, "consolidation": _ZONED, "effusion": _SIDED, "pneumothorax": _SIDED,
    "cardiomegaly": ("{size} {noun}",), "atelectasis": _SIDED_ONLY, "pacemaker": _SIDED_ONLY,
    "fracture": ("{side} {zone} {noun}", "{noun} in the {side} {zone} zone", "{noun} in the {zone} zone on the {side}"),
}  # fmt: skip

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
MAX_WORDS = 66  # with the full stops about 80 tokens of the phantom tokenizer


def in_bank(bank: str, finding: str, *choice: int) -> bool:
    """Whether the combination of template indices `choice` for `finding` belongs to `bank`. Raises ValueError on an
    unknown bank."""
    if bank not in _BANK_CLASSES:
        raise ValueError(f"unknown phrase bank {bank!r}; choose one of {', '.join(BANKS)}")
    mixed = sum((2 * i + 1) * c for i, c in enumerate(choice)) + FINDINGS.index(finding)
    return mixed % 5 in _BANK_CLASSES[bank]


@dataclass(frozen=True)
class Report:
    """A report and what it states: spans are (start, end, finding, "present" | "absent"), in characters."""

    text: str
    spans: tuple[tuple[int, int, str, str], ...]


@dataclass(frozen=True)
class _Style:
    """How a bank writes: share of long frames, of normals said at all, of normals said jointly; the order."""

    long: float
    stated: float
    joint: float
    organ: float
    order: str  # "mixed" | "normals first"


_MIXED = _Style(long=0.15, stated=0.75, joint=0.35, organ=0.15, order="mixed")
_STYLES = {
    "base": _MIXED, "pool": _Style(long=0.85, stated=0.85, joint=0.15, organ=0.05, order="normals first"),
    "test": _MIXED,
}  # fmt: skip


@dataclass(frozen=True)
class _Statement:
    template: str  # brackets around the characters that carry the fact
    findings: tuple[str, ...]  # one a bracket, or all of them for the one bracket
    polarity: str


def report(facts: Sequence[Fact], rng: np.random.Generator, bank: str) -> Report:
    """A report of `facts` in the words of one phrase bank ("base" | "pool" | "test").

    Every visible fact is stated; each normal is stated with the bank's probability; a fact that cannot be seen is
    stated neither way. Raises ValueError on an unknown bank, or two facts of one finding."""
    in_bank(bank, FINDINGS[0])
    names = [fact.finding for fact in facts]
    if len(set(names)) < len(names):
        raise ValueError(f"a report takes at most one fact a finding, got {', '.join(sorted(names))}")
    style = _STYLES[bank]
    present = [_affirm(fact, rng, bank) for fact in facts if fact.visible]
    normal = _deny([f for f in FINDINGS if f not in names and rng.random() < style.stated], rng, bank)
    _shuffle(present, rng)
    _shuffle(normal, rng)
    while normal and sum(len(s.template.split()) for s in present + normal) > MAX_WORDS:
        normal.pop()
    statements = normal + present
    if style.order == "mixed":
        _shuffle(statements, rng)
    if not statements:  # everything left unsaid: say one normal, if there is one to say
        spare = [f for f in FINDINGS if f not in names]
        statements = [_deny_together([spare[rng.integers(len(spare))]], rng, bank)] if spare else []
    return _assemble(statements)


def _shuffle(items: list, rng: np.random.Generator) -> None:
    items[:] = [items[i] for i in rng.permutation(len(items))]


def _pick(options: list[tuple[_Statement, bool]], rng: np.random.Generator, long_share: float) -> _Statement:
    """One of (statement, long) options, a long one with probability `long_share` where both lengths exist."""
    want_long = rng.random() < long_share
    wanted = [s for s, is_long in options if is_long == want_long] or [s for s, _ in options]
    return wanted[rng.integers(len(wanted))]


def _affirm(fact: Fact, rng: np.random.Generator, bank: str) -> _Statement:
    finding, size = fact.finding, size_word(fact.finding, fact.size) if fact.size else ""
    nouns, places, options = NOUNS[finding], PLACES[finding], []
    for f, n, p in product(range(len(FRAMES)), range(len(nouns)), range(len(places))):
        if in_bank(bank, finding, f, n, p):
            frame, _, is_long = FRAMES[f]
            core = places[p].format(size=size, side=fact.side, zone=fact.zone, noun=nouns[n]).strip()
            text = frame.format(np=article(finding, f"[{core}]"))
            options.append((_Statement(text, (finding,), "present"), is_long))
    if finding == "cardiomegaly":
        heart = [(frame.format(degree=DEGREES[fact.size]), is_long) for frame, _, is_long in _heart(bank)]
        heart = [(_Statement(template, (finding,), "present"), is_long) for template, is_long in heart]
        options = heart if rng.random() < 0.5 else options
    return _pick(options, rng, _STYLES[bank].long)


def _heart(bank: str) -> list[tuple[str, str, bool]]:
    return [f for i, f in enumerate(HEART_FRAMES) if in_bank(bank, "cardiomegaly", i)]


def _deny(findings: list[str], rng: np.random.Generator, bank: str) -> list[_Statement]:
    """Statements that deny all `findings`, some several at a time."""
    style, left, statements = _STYLES[bank], list(findings), []
    for template, organs in NORMAL_ORGANS:
        if set(organs) <= set(left) and rng.random() < style.organ:
            statements.append(_Statement(template, organs, "absent"))
            left = [f for f in left if f not in organs]
    _shuffle(left, rng)
    while left:
        count = int(rng.integers(2, 4)) if rng.random() < style.joint else 1
        statements.append(_deny_together(left[:count], rng, bank))
        left = left[count:]
    return statements


def _deny_together(findings: list[str], rng: np.random.Generator, bank: str) -> _Statement:
    """ "No pleural effusion, nodule or pneumothorax is seen.", or of the heart alone "Heart size is normal." """
    if findings == ["cardiomegaly"] and rng.random() < 0.5:
        heart = [(_Statement(negative, tuple(findings), "absent"), is_long) for _, negative, is_long in _heart(bank)]
        return _pick(heart, rng, _STYLES[bank].long)
    nouns = [NOUNS[f] for f in findings]
    chosen = [int(rng.integers(len(n))) for n in nouns]
    listed = [f"[{n[c]}]" for n, c in zip(nouns, chosen, strict=True)]
    phrase = ", ".join(listed[:-1]) + " or " + listed[-1] if len(listed) > 1 else listed[0]
    options = [
        (_Statement(negative.format(noun=phrase), tuple(findings), "absent"), is_long)
        for f, (_, negative, is_long) in enumerate(FRAMES)
        if in_bank(bank, findings[0], f, chosen[0]) and not (len(findings) > 1 and negative.startswith("{"))
    ]
    return _pick(options, rng, _STYLES[bank].long)


def _assemble(statements: Sequence[_Statement]) -> Report:
    """Join the sentences, take the brackets out and note where they stood."""
    text, spans = "", []
    for statement in statements:
        text += " " if text else ""
        first = len(text)
        brackets = []
        for char in statement.template:
            if char == "[":
                brackets.append([len(text), 0])
            elif char == "]":
                brackets[-1][1] = len(text)
            else:
                text += char.upper() if len(text) == first else char
        places = brackets if len(brackets) == len(statement.findings) else brackets * len(statement.findings)
        spans += [(a, b, f, statement.polarity) for (a, b), f in zip(places, statement.findings, strict=True)]
    return Report(text, tuple(spans))
