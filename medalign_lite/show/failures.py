"""Cases worth looking at, before and after: what alignment put right, and where the aligned model errs.

They are the first of each kind in the order of the cases, never chosen for looks.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from medalign_lite.cases.case import Case, Question
from medalign_lite.edits.truths import truth_of
from medalign_lite.evaluate.agreement import affirmed_by, countable, on_side
from medalign_lite.evaluate.metrics import Prediction
from medalign_lite.evaluate.short_answers import strict_closed
from medalign_lite.show.draw import lesions_of, png, with_lesions
from medalign_lite.text.claims import Claim

KINDS = ("new false finding", "false finding kept", "true finding lost", "wrong answer, the base was right",
         "wrong answer of both")  # fmt: skip
MENDED = ("false finding gone", "wrong answer put right")
SHOWN = (*MENDED, KINDS[0])  # on the report's first screen: what was put right, and what was newly made up
Span = tuple[int, int, str]


@dataclass(frozen=True)
class Failure:
    """One case: what was asked, what is true, what the two arms said, and the spans of it that are false.

    `alt` says in words what `png` shows.
    """

    case_id: str
    question: str
    truth: str
    base: str
    aligned: str
    note: str = ""
    png: bytes | None = None
    alt: str = ""
    base_false: tuple[Span, ...] = ()
    aligned_false: tuple[Span, ...] = ()


def find_failures(
    cases: Iterable[Case], predictions: Iterable[Prediction], *, aligned: str, base: str = "base", each: int = 2,
    kinds: Iterable[str] = KINDS,
) -> list[Failure]:  # fmt: skip
    """Up to `each` cases of each of `kinds` among answers to the real test images, in the order of the cases."""
    said: dict[tuple[str, str], dict[str, str]] = {}
    for p in predictions:
        if p.condition == "real" and p.arm in (base, aligned):
            said.setdefault((p.case_id, p.question_id), {})[p.arm] = p.text
    found: dict[str, list[Failure]] = {kind: [] for kind in kinds}
    for case in cases:
        for question in case.questions if case.split == "test" else ():
            texts = said.get((case.id, question.id), {})
            if len(texts) < 2:
                continue
            kind = failure_kind(case, question, texts[base], texts[aligned])
            if kind in found and len(found[kind]) < each:
                found[kind].append(_failure(case, question, texts[base], texts[aligned], kind))
    return [failure for some in found.values() for failure in some]


def failure_kind(case: Case, question: Question, base: str, aligned: str) -> str | None:
    """Which of KINDS or MENDED the pair of answers is, None where it is neither or cannot be judged."""
    if question.kind == "report":
        false = {arm: _false(text, case, question) for arm, text in (("base", base), ("aligned", aligned))}
        if false["aligned"]:
            return KINDS[0] if false["aligned"] - false["base"] else KINDS[1]
        if _found(base, case, question) - _found(aligned, case, question):
            return KINDS[2]
        return MENDED[0] if false["base"] else None
    if question.kind != "closed" or not question.visible:
        return None
    right = [strict_closed(text, question.answer, question.text, question.options) for text in (base, aligned)]
    return {(True, False): KINDS[3], (False, False): KINDS[4], (False, True): MENDED[1]}.get(tuple(map(bool, right)))


def false_spans(text: str, case: Case, question: Question) -> tuple[Span, ...]:
    """(start, end, "false") of the words that assert something false; none where nobody can judge."""
    if question.kind != "report":
        asked = question.kind == "closed" and question.visible
        wrong = asked and not strict_closed(text, question.answer, question.text, question.options)
        return ((0, len(text), "false"),) if wrong and text else ()
    truth = truth_of(case, question)
    judged = [(claim, truth.judge(claim)) for claim in truth.read(text)]
    spans = [span for claim, found in judged if found.verdict == "false" for span in _words(claim, found.wrong)]
    return tuple(s for i, s in enumerate(sorted(spans)) if not any(s[0] < end for _, end, _ in sorted(spans)[:i]))


def _words(claim: Claim, wrong: Iterable[str]) -> list[Span]:
    """The words of a claim that are wrong: its side, zone or size alone, or all of it with its cue."""
    if "finding" not in wrong:
        return [(*claim.parts[name], "false") for name in wrong if name in claim.parts]
    ends = [(claim.start, claim.end), *claim.parts.values()]
    return [(min(start for start, _ in ends), max(end for _, end in ends), "false")]


def _false(text: str, case: Case, question: Question) -> set[tuple[str, str | None]]:
    truth = truth_of(case, question)
    claims, facts = affirmed_by(text, truth), truth.stated.facts
    seen = [fact for fact in facts if fact.visible]
    return {(c.finding, c.side) for c in countable(claims, facts) if not any(on_side(c, fact) for fact in seen)}


def _found(text: str, case: Case, question: Question) -> set[str]:
    truth = truth_of(case, question)
    claims, facts = affirmed_by(text, truth), truth.stated.facts
    return {fact.finding for fact in facts if fact.visible and any(on_side(claim, fact) for claim in claims)}


def _failure(case: Case, question: Question, base: str, aligned: str, kind: str) -> Failure:
    names = ", ".join(lesions_of(case)) or "no lesion"
    return Failure(
        case.id, question.text, truth_of(case, question).words, base, aligned, note=kind, png=png(with_lesions(case)),
        alt=f"The image of case {case.id} with {names} outlined",
        base_false=false_spans(base, case, question), aligned_false=false_spans(aligned, case, question),
    )
