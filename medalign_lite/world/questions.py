"""Questions about a phantom case: presence, absence, side, zone, size, device, twins and wrong premises.

Closed answers are "Yes." or "No." in equal shares: whether to ask so that the answer is yes is drawn first, then a
finding and a wording that make it so. Open answers are a few words. What cannot be seen is never asked about.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medalign_lite.cases.case import Question
from medalign_lite.text.facts import FINDINGS, NOUNS, SIDES, ZONES, Fact, article, size_word
from medalign_lite.world.text import in_bank, report

REPORT_PROMPTS = {
    "base": ("Describe this film.", "Write a report of the film.", "Report the findings seen on this view."),
    "pool": ("Describe the findings.", "Write a report of this view."),
    "test": ("Report this film.", "Describe the findings seen on this film."),
}

# {np} carries its article, {noun} does not. Several wordings a kind: the banks hold out wording x noun.
PRESENT = ("Is there {np}?", "Does the film show {np}?", "Can {np} be seen?", "Is {np} present?", "Is {np} seen?")
ABSENT = (
    "Is the film free of {noun}?", "Is {noun} absent?", "Is the film without {noun}?",
    "Is it true that there is no {noun}?", "Is it true that no {noun} is seen?",
)  # fmt: skip
SIDE_FREE = (
    "Is the {side} side free of {noun}?", "Is {noun} absent on the {side}?", "Is the {side} side without {noun}?",
    "Is it true that there is no {noun} on the {side}?", "Is it true that no {noun} is seen on the {side}?",
)  # fmt: skip
ON_SIDE = (
    "Is the {noun} on the {side}?", "Is the {noun} on the {side} side?", "Is the {noun} {side}-sided?",
    "Can the {noun} be seen on the {side}?", "Is the {noun} seen on the {side}?",
)  # fmt: skip
WHICH_SIDE = ("On which side is the {noun}?", "Which side shows the {noun}?", "Is the {noun} on the right or the left?")
WHICH_ZONE = ("In which zone is the {noun}?", "Which zone shows the {noun}?", "In which zone is the {noun} seen?")
WHERE = ("Where is the {noun}?", "Where can the {noun} be seen?", "Where on the film is the {noun}?")
HOW_LARGE = ("How large is the {noun}?", "What is the size of the {noun}?", "What size is the {noun}?")
HOW_SEVERE = ("How severe is the {noun}?", "What is the severity of the {noun}?", "How marked is the {noun}?")
DEVICE = ("Which device is seen?", "Which device can be seen on the film?", "What device is present?")
OF_A_PART = {"cardiomegaly": ("Is the heart enlarged?", "Is the cardiac silhouette enlarged?",
                              "Is heart size increased?")}  # fmt: skip
NORMAL_PART = {"cardiomegaly": ("Is heart size normal?",), "fracture": ("Are the ribs intact?",)}
YES, NO = "Yes.", "No."
SIDED = tuple(f for f in FINDINGS if f != "cardiomegaly")
ZONED = ("nodule", "consolidation", "fracture")
_TRIES = 40  # draws per question before fewer are returned


@dataclass(frozen=True)
class _Asker:
    """What is needed to ask about one case."""

    seen: dict[str, Fact]  # visible facts by finding
    absent: tuple[str, ...]  # findings the case does not have; unseeable ones are in neither
    rng: np.random.Generator
    bank: str

    def choose(self, items: Sequence):
        return items[int(self.rng.integers(len(items)))]

    def absentee(self, among: Sequence[str] = FINDINGS) -> str | None:
        weights = np.array([float(finding in among) for finding in self.absent])
        if not weights.sum():
            return None
        return self.absent[int(self.rng.choice(len(self.absent), p=weights / weights.sum()))]

    def fact(self, attribute: str) -> Fact | None:
        """A visible fact that has the attribute."""
        able = [fact for fact in self.seen.values() if getattr(fact, attribute)]
        return self.choose(able) if able else None

    def word(self, wordings: Sequence[str], finding: str, topic: int) -> tuple[str, str, str]:
        """(wording, finding, noun) whose wording and noun belong to the bank together."""
        nouns = NOUNS[finding]
        pairs = [(w, n) for w in range(len(wordings)) for n in range(len(nouns))]
        allowed = [p for p in pairs if in_bank(self.bank, finding, *p, topic)] or pairs
        wording, noun = self.choose(allowed)
        return wordings[wording], finding, nouns[noun]


def questions(facts: Sequence[Fact], rng: np.random.Generator, bank: str, per_case: int) -> tuple[Question, ...]:
    """The report request with its reference text, then `per_case` visual questions (see `ask`)."""
    prompt = REPORT_PROMPTS[bank][rng.integers(len(REPORT_PROMPTS[bank]))]
    first = Question(id="report", text=prompt, answer=report(facts, rng, bank).text, kind="report", topic="report")
    return (first, *ask(facts, rng, bank, per_case))


def ask(facts: Sequence[Fact], rng: np.random.Generator, bank: str, count: int) -> tuple[Question, ...]:
    """Up to `count` questions with distinct texts; fewer when the case runs out of them. Yes and no are balanced for
    each finding when findings are about equally frequent. Raises ValueError on an unknown bank."""
    in_bank(bank, FINDINGS[0])
    names = {f.finding for f in facts}
    absent = tuple(f for f in FINDINGS if f not in names)
    asker = _Asker({f.finding: f for f in facts if f.visible}, absent, rng, bank)
    topics, shares = list(_TOPICS), np.array([share for share, _ in _TOPICS.values()])
    made, texts = [], set()
    for _ in range(_TRIES * count):
        topic = topics[int(rng.choice(len(topics), p=shares / shares.sum()))]
        drawn = _TOPICS[topic][1](asker)
        if not drawn or len(made) + len(drawn) > count or texts & {text for text, _, _ in drawn}:
            continue
        texts |= {text for text, _, _ in drawn}
        endings = ("-a", "-b") if len(drawn) > 1 else ("",)  # the two of a twin share all else
        made += [
            Question(
                id=f"q{len(made)}-{topic}{ending}", text=text, answer=answer, topic=topic, finding=finding,
                kind="closed" if answer in (YES, NO) else "open",
            )
            for ending, (text, answer, finding) in zip(endings, drawn, strict=True)
        ]  # fmt: skip
        if len(made) == count:
            break
    return tuple(made)


_Draft = tuple[str, str, str]  # text, answer, finding


def _yes(truth: bool) -> str:
    return YES if truth else NO


def _fill(wording: str, finding: str, noun: str, **values: str) -> str:
    text = wording.format(noun=noun, np=article(finding, noun), **values)
    return text[0].upper() + text[1:]


def _present_or_not(a: _Asker, present: bool, among: Sequence[str] = FINDINGS) -> str | None:
    """A finding that the case visibly has, or does not have at all."""
    if not present:
        return a.absentee(among)
    seen = [f for f in a.seen if f in among]
    return a.choose(seen) if seen else None


def _presence(a: _Asker, wordings: Sequence[str], topic: int, *, of_parts: dict, yes: bool) -> list[_Draft]:
    """Whether a finding is there (`yes`), or absent; `of_parts` asks it of the heart or the ribs."""
    truth = bool(a.rng.random() < 0.5)
    finding = _present_or_not(a, truth == yes)
    if finding in of_parts and a.rng.random() < 0.4:
        return [(a.choose(of_parts[finding]), _yes(truth), finding)]
    return [(_fill(*a.word(wordings, finding, topic)), _yes(truth), finding)] if finding else []


def _side_free(a: _Asker) -> list[_Draft]:
    """ "Is the left side free of effusion?": no where it is; yes on the other side of one or where there is none."""
    truth = bool(a.rng.random() < 0.5)
    finding = _present_or_not(a, not truth or a.rng.random() < 0.5, SIDED)
    if not finding:
        return []
    fact = a.seen.get(finding)
    side = _side(a, fact, here=not truth) if fact else a.choose(SIDES)
    return [(_fill(*a.word(SIDE_FREE, finding, 2), side=side), _yes(truth), finding)]


def _on_side(a: _Asker) -> list[_Draft]:
    truth = bool(a.rng.random() < 0.5)
    fact = a.fact("side")
    if not fact:
        return []
    side = _side(a, fact, here=truth)
    return [(_fill(*a.word(ON_SIDE, fact.finding, 3), side=side), _yes(truth), fact.finding)]


def _side(a: _Asker, fact: Fact, *, here: bool) -> str:
    return fact.side if here else SIDES[1 - SIDES.index(fact.side)]


def _twin(a: _Asker) -> list[_Draft]:
    """The same question twice with one fact changed: the other side, another zone, or an absent co-finding."""
    fact = a.fact("side")
    if not fact:
        return []
    noun = a.choose(NOUNS[fact.finding])
    change = a.choose(("side", "zone", "finding") if fact.zone else ("side", "finding"))
    other, other_noun, side, zone = fact.finding, noun, fact.side, fact.zone
    if change == "side":
        side = _side(a, fact, here=False)
    elif change == "zone":
        zone = a.choose([z for z in ZONES if z != fact.zone])
    elif other := a.absentee([f for f in SIDED if (f in ZONED) == bool(fact.zone)]):
        other_noun = a.choose(NOUNS[other])
    else:
        return []
    true, false = _located(fact.finding, noun, fact.side, fact.zone), _located(other, other_noun, side, zone)
    wording = a.choose(PRESENT)
    pair = [(wording.format(np=true), YES, fact.finding), (wording.format(np=false), NO, other)]
    pair = [(text[0].upper() + text[1:], answer, finding) for text, answer, finding in pair]
    return pair if a.rng.random() < 0.5 else pair[::-1]


def _located(finding: str, noun: str, side: str, zone: str | None) -> str:
    place = f"in the {side} {zone} zone" if zone else f"on the {side}"
    return f"{article(finding, noun)} {place}"


def _attribute(
    a: _Asker, name: str, wordings: Sequence[str], topic: int, answer: Callable[[Fact], str]
) -> list[_Draft]:
    """What a visible finding's side, zone or size is."""
    fact = a.fact(name)
    return [(_fill(*a.word(wordings, fact.finding, topic)), answer(fact), fact.finding)] if fact else []


def _place(fact: Fact) -> str:
    return f"In the {fact.side} {fact.zone} zone." if fact.zone else f"On the {fact.side}."


def _size(a: _Asker) -> list[_Draft]:
    fact = a.fact("size")
    if not fact:
        return []
    wordings = HOW_SEVERE if fact.finding == "cardiomegaly" else HOW_LARGE
    word = size_word(fact.finding, fact.size)
    return [(_fill(*a.word(wordings, fact.finding, 7)), f"{word.capitalize()}.", fact.finding)]


def _premise(a: _Asker) -> list[_Draft]:
    """A question that takes for granted what is not there."""
    finding = a.absentee(SIDED)
    if not finding:
        return []
    topic, wordings = a.choose(((4, WHICH_SIDE), (6, WHERE)))
    wording, finding, noun = a.word(wordings, finding, topic)
    return [(_fill(wording, finding, noun), f"There is no {noun}.", finding)]


def _device(a: _Asker) -> list[_Draft]:
    if "pacemaker" not in a.seen and "pacemaker" not in a.absent:
        return []
    fact = a.seen.get("pacemaker")
    answer = f"A {fact.side} pacemaker." if fact else "There is no device."
    return [(a.choose(DEVICE), answer, "pacemaker")]


_TOPICS = {  # topic: (share of the draws, maker)
    "presence": (0.22, lambda a: _presence(a, PRESENT, 0, of_parts=OF_A_PART, yes=True)),
    "absence": (0.14, lambda a: _presence(a, ABSENT, 1, of_parts=NORMAL_PART, yes=False)),
    "side-free": (0.06, _side_free),
    "on-side": (0.10, _on_side),
    "twin": (0.10, _twin),
    "side": (0.09, lambda a: _attribute(a, "side", WHICH_SIDE, 4, lambda fact: f"On the {fact.side}.")),
    "zone": (0.06, lambda a: _attribute(a, "zone", WHICH_ZONE, 5, lambda fact: f"In the {fact.zone} zone.")),
    "where": (0.05, lambda a: _attribute(a, "side", WHERE, 6, _place)),
    "size": (0.08, _size),
    "premise": (0.06, _premise),
    "device": (0.04, _device),
}
