"""Whether answers hang on the evidence: changed by a corrupted lesion, right about the changed picture, image or none.

What decides is free of scale (docs/METHOD.md, Grounding): which of two margins is the lower, which answers change.
The counting is that of `metrics`: a case whose truth was changed is a case again, scored like any other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import expit

from medalign_lite.cases.case import Case, Question
from medalign_lite.evaluate.agreement import affirmed
from medalign_lite.evaluate.short_answers import lmms_normalise
from medalign_lite.text.answers import option_of
from medalign_lite.text.claims import find_attributes
from medalign_lite.text.facts import SIDES, Fact
from medalign_lite.text.says import yes_no

CHANGES = ("hidden", "moved")  # conditions in which the picture shows another truth
ASKS_ABSENCE = ("absence", "side-free")  # topics whose yes means that the finding is not there
ASKS_PRESENCE = ("presence", "on-side", "twin")
PLACES = {"side": ("side",), "zone": ("zone",), "where": ("side", "zone")}  # topic: the attributes of its answer


def answer_changed(kind: str, first: str, second: str, question: str = "", options: Sequence[str] = ()) -> bool:
    """Whether two answers to one question say something else. Closed answers are compared by what `yes_no` reads, and
    options by `option_of`, where both can be read, reports by the findings, sides, zones and sizes that they affirm,
    everything else by `lmms_normalise`."""
    if kind == "report":
        said = [{(c.finding, c.side, c.zone, c.size) for c in affirmed(text)} for text in (first, second)]
        return said[0] != said[1]
    read = [option_of(text, options) if options else yes_no(text, question) for text in (first, second)]
    if (options or kind == "closed") and None not in read:
        return read[0] != read[1]
    return lmms_normalise(first) != lmms_normalise(second)


def change_counts(question: Question, clean: str, lesion: str, control: str) -> dict[str, float]:
    """Columns of `metrics`: is the answer another one with the lesion corrupted, and with as much of the rest. A report
    may change in what it says of something else, so only answers to questions count as grounded ones: changed by the
    lesion and not by the rest."""
    kind, asked = question.kind, (question.text, question.options)
    changed = [answer_changed(kind, clean, other, *asked) for other in (lesion, control)]
    row = {
        "changes": 1, "changed_lesion": changed[0], "changed_control": changed[1],
        "changed_gap": int(changed[0]) - int(changed[1]),
    }  # fmt: skip
    return row if kind == "report" else row | {"asked_about": 1, "changed_only": changed[0] and not changed[1]}


def margin_counts(margins) -> dict[str, float]:
    """Columns of `metrics` from one `metrics.Margins` (METHOD §4): flip m(v') < 0, invariance sign m(v°) = sign m(v),
    and where both are known GS = m(v°) - m(v') in nats, and whether the evidence's loss lowers the margin more than
    that of as much elsewhere: m(v') < m(v°), a tie is half a win. That one is free of the margins' scale."""
    clean, lesion, control, row = margins.clean, margins.lesion, margins.control, {}
    if lesion is not None:
        row |= {"flipped_n": 1, "flipped": lesion < 0}
    if control is not None:
        row |= {"invariant_n": 1, "invariant": np.sign(control) == np.sign(clean)}
    if None not in (lesion, control):
        lower = (1 + np.sign(control - lesion)) / 2
        row |= {"selectivity_n": 1, "selectivity": control - lesion, "evidence_lower": lower}
    return row


def margin_means(margins: Iterable) -> dict[str, float | None]:
    """Of `metrics.Margins` with a lesion and a control: how many, mean nats under v, v' and v°, GS, share of v' < 0."""
    rows = [(m.clean, m.lesion, m.control) for m in margins if None not in (m.lesion, m.control)]
    clean, lesion, control = np.mean(rows, axis=0).tolist() if rows else (None,) * 3
    return {"pairs": len(rows), "v": clean, "v′": lesion, "v°": control, "GS": control - lesion if rows else None,
            "flip": float(np.mean([lesion < 0 for _, lesion, _ in rows])) if rows else None}


def fall_counts(margins) -> dict[str, float]:
    """Columns of `metrics` from log p(right) - log p(wrong) of a yes/no question: how much further p(right) falls
    without the evidence than without as much of the rest, where both are known."""
    known = None not in (margins.lesion, margins.control)
    return {"right_falls": 1, "right_fall": expit(margins.control) - expit(margins.lesion)} if known else {}


def changed_case(case: Case, finding: str, condition: str) -> Case:
    """The case that a changed picture shows, with its report requests and the questions about the finding alone.
    condition: "hidden", the finding is gone and everything else as it was; "moved", it lies on the other side. Raises
    ValueError for another condition, and for a finding that is not there or, moved, has no side."""
    about = [fact for fact in case.facts or () if fact.finding == finding]
    if condition not in CHANGES or not about:
        raise ValueError(f"case {case.id}: {finding} cannot be {condition}; hide or move a finding that it has")
    facts = [fact for fact in case.facts if fact.finding != finding]
    if condition == "moved":
        if about[0].side not in SIDES:
            raise ValueError(f"case {case.id}: its {finding} has no side; move one that has")
        elsewhere = replace(about[0], side=SIDES[1 - SIDES.index(about[0].side)])
        facts = [elsewhere if fact == about[0] else fact for fact in case.facts]
    changed = counterfactual_case(case, facts)
    asked = tuple(q for q in changed.questions if q.kind == "report" or q.finding == finding)
    return replace(changed, questions=asked)


def counterfactual_case(case: Case, facts: Sequence[Fact]) -> Case:
    """The case as it would be were `facts` the truth: each question with the answer that would then be right. Scored
    with `metrics.count` under the condition in which the changed picture was shown ("hidden", "moved"). Where the
    finding of an open question is gone the question has a wrong premise, and that is its topic. Questions whose answer
    under the new facts is not known are dropped: of unknown topics, and where the finding cannot be seen."""
    facts, before = tuple(facts), tuple(case.facts or ())
    asked = (_answer_again(question, facts, before) for question in case.questions)
    return replace(case, facts=facts, questions=tuple(question for question in asked if question is not None))


def _answer_again(question: Question, facts: Sequence[Fact], before: Sequence[Fact]) -> Question | None:
    if question.kind == "report":
        return replace(question, answer="")  # its text is of the old picture; facts are what it is scored by
    about, was = ([fact for fact in some if fact.finding == question.finding] for some in (facts, before))
    if about == was or (about and question.topic == "size"):
        return question  # its answer is still right: what moves keeps its size
    if question.finding is None or any(not fact.visible for fact in about):
        return None
    if question.topic in ASKS_PRESENCE + ASKS_ABSENCE:
        asked = [a for a in find_attributes(question.text) if a.name in ("side", "zone")]
        there = any(all(getattr(fact, a.name) in (a.value, None) for a in asked) for fact in about)
        return replace(question, answer="Yes." if there == (question.topic in ASKS_PRESENCE) else "No.", visible=True)
    if question.kind == "open" and not about:
        return replace(question, answer=f"There is no {question.finding}.", topic="premise", visible=True)
    if question.topic in PLACES and len(about) == 1:
        place = [getattr(about[0], name) for name in PLACES[question.topic]]
        words = " ".join(value for value in place if value)
        return replace(question, answer=f"{words.capitalize()}.", visible=True) if words else None
    return None
