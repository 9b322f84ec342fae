"""Minimal edits of a model's own answer: correct what is wrong, or make one thing wrong, and touch nothing else.

The paper asks a language model for its edits; so does `llm_edits`. Here they come from rules: `rewrite` makes a report
agree with a table of facts, `answers` exchanges the differing words of a short answer, and the reader of `claims`
checks the result.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medalign_lite.text.answers import correct_answer, falsify_answer, same_answer
from medalign_lite.cases.case import Question
from medalign_lite.text.facts import SIDES, SIZES, ZONES, Fact
from medalign_lite.text.claims import Claim, extract_claims, judge
from medalign_lite.text.diff import diff_spans
from medalign_lite.text.spans import Span
from medalign_lite.edits.repair import rewrite
from medalign_lite.text.words import NoEdit

BY_FACTS = "claims against the table of facts"
BY_GOLD = "gold answer"
_DOMAINS = {"side": SIDES, "zone": ZONES, "size": SIZES}
_HAS = {  # attributes of a finding made up for a false statement
    "nodule": ("side", "zone", "size"), "consolidation": ("side", "zone", "size"), "effusion": ("side", "size"),
    "pneumothorax": ("side", "size"), "cardiomegaly": ("size",), "atelectasis": ("side",),
    "fracture": ("side", "zone"), "pacemaker": ("side",),
}  # fmt: skip


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


def correct(
    answer: str, truth: Sequence[Fact] | str, question: Question | None = None, *, add_omitted: bool = False
) -> Edit | None:
    """The answer with its wrong spans corrected as y+, itself as y-; None where nothing in it is wrong.

    `truth` is the table of facts for a report, or the gold answer for a question. With facts and a `question` that is
    not a report request, the question's own answer is the gold answer and the facts give the evidence.

    Raises:
        NoEdit: where it cannot be verified or has no minimal correction; the message is the reason.
    """
    facts, gold = _truths(truth, question)
    if gold is not None:
        chosen = correct_answer(answer, gold)
        return None if chosen is None else edit_of(chosen, answer, "corrected", asked(question, facts), BY_GOLD)
    chosen = rewrite(answer, facts, add_omitted=add_omitted)
    if chosen == answer:
        return None
    return edit_of(chosen, answer, "corrected", concerned(chosen, answer, facts), BY_FACTS)


def counterfactual(
    answer: str, truth: Sequence[Fact] | str, rng: np.random.Generator, question: Question | None = None
) -> Edit:
    """A right answer as y+ and, as y-, the answer with one statement made false.

    A report is made to agree with a table of facts in which one stated fact has another side, zone or size, is gone, or
    one denied finding is there. Short answers: the other of yes and no, or another of their values.

    Raises:
        NoEdit: where the answer is not right, or no false variant of it can be verified.
    """
    facts, gold = _truths(truth, question)
    if gold is None:
        return _false_report(answer, facts, rng)
    if correct_answer(answer, gold) is not None:
        raise NoEdit("the answer is not right")
    try:
        rejected = falsify_answer(answer, rng)
    except NoEdit:
        if not facts or not extract_claims(answer):
            raise
        return _false_report(answer, facts, rng)
    if same_answer(rejected, gold):
        raise NoEdit("the false answer is the gold answer")
    return edit_of(answer, rejected, "counterfactual", asked(question, facts), BY_GOLD)


def _truths(truth: Sequence[Fact] | str, question: Question | None) -> tuple[Sequence[Fact], str | None]:
    if isinstance(truth, str):
        return (), truth
    return truth, question.answer if question and question.kind != "report" else None


def _false_report(answer: str, facts: Sequence[Fact], rng: np.random.Generator) -> Edit:
    claims = extract_claims(answer)
    if any(judge(c, facts).verdict != "true" for c in claims):
        raise NoEdit("a claim that is not verified true")
    worlds = [world for c in claims for world in _false_worlds(c, facts, rng)]
    for i in rng.permutation(len(worlds)):
        try:
            rejected = rewrite(answer, worlds[i])
        except NoEdit:
            continue
        if any(judge(c, facts).verdict == "false" for c in extract_claims(rejected)):
            return edit_of(answer, rejected, "counterfactual", concerned(answer, rejected, facts), BY_FACTS)
    raise NoEdit("no false variant can be verified")


def _false_worlds(claim: Claim, facts: Sequence[Fact], rng: np.random.Generator) -> list[tuple[Fact, ...]]:
    """Tables of facts that contradict one true claim and nothing else: each stated attribute, or the finding itself."""
    rest = tuple(f for f in facts if f.finding != claim.finding)
    if claim.polarity == "absent":
        return [] if len(rest) < len(facts) else [(*rest, _invent(claim.finding, rng))]
    fact = next(f for f in facts if f.finding == claim.finding)
    worlds = [rest]
    for name in (n for n in _DOMAINS if n in claim.parts):
        others = [v for v in _DOMAINS[name] if v != getattr(fact, name)]
        worlds.append((*rest, replace(fact, **{name: others[int(rng.integers(len(others)))]})))
    return worlds


def _invent(finding: str, rng: np.random.Generator) -> Fact:
    chosen = {name: _DOMAINS[name][int(rng.integers(len(_DOMAINS[name])))] for name in _HAS[finding]}
    return Fact(finding, **chosen)


def concerned(true: str, false: str, facts: Sequence[Fact]) -> tuple[str, ...]:
    """Visible findings of which the two texts say different things."""
    said = [{(c.finding, c.polarity, c.side, c.zone, c.size) for c in extract_claims(t)} for t in (true, false)]
    differ = {claim[0] for claim in said[0] ^ said[1]}
    return tuple(sorted({f.finding for f in facts if f.visible} & differ))


def asked(question: Question | None, facts: Sequence[Fact]) -> tuple[str, ...]:
    """The question's finding, if it is there to be seen."""
    return tuple(f.finding for f in facts if question and f.visible and f.finding == question.finding)[:1]


def edit_of(chosen: str, rejected: str, source: str, evidence: tuple[str, ...], how: str) -> Edit:
    """The edit of two texts, whoever wrote them, with the spans in which they differ."""
    spans_chosen, spans_rejected = diff_spans(chosen, rejected)
    return Edit(chosen, rejected, spans_chosen, spans_rejected, source, evidence, how)
