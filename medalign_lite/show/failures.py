"""Cases worth looking at, before and after: what alignment put right, and where the aligned model errs.

They are the first of each kind in the order of the cases, never chosen for looks.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from medalign_lite.cases.case import Case, Question
from medalign_lite.edits.truths import Facts, Report, truth_of
from medalign_lite.evaluate.agreement import affirmed_by, countable, on_side
from medalign_lite.evaluate.metrics import Prediction
from medalign_lite.evaluate.short_answers import strict_closed
from medalign_lite.show.figures import lesions_of, png, with_lesions

KINDS = ("new false finding", "false finding kept", "true finding lost", "wrong answer, the base was right",
         "wrong answer of both")  # fmt: skip
MENDED = ("false finding gone", "wrong answer put right")
SHOWN = (*MENDED, KINDS[0])  # on the report's first screen: what was put right, and what was newly made up
Span = tuple[int, int, str]


@dataclass(frozen=True)
class Failure:
    """One case: what was asked, what is true, what the two arms said, and the spans of it that are false. `alt` says in
    words what `png` shows."""

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
    cases: Iterable[Case], predictions: Iterable[Prediction], *, aligned: str, each: int = 2,
    kinds: Iterable[str] = KINDS,
) -> list[Failure]:  # fmt: skip
    """Up to `each` cases of each of `kinds` among answers to the real test images, in the order of the cases."""
    said = {(p.arm, p.case_id, p.question_id): p.text for p in predictions if p.condition == "real"}
    found: dict[str, list[Failure]] = {kind: [] for kind in kinds}
    for case, question in ((one, q) for one in cases if one.split == "test" for q in one.questions):
        base, new = (said.get((arm, case.id, question.id)) for arm in ("base", aligned))
        kind = None if None in (base, new) else failure_kind(case, question, base, new)
        if kind in found and len(found[kind]) < each:
            names = ", ".join(lesions_of(case)) or "no lesion"
            found[kind].append(Failure(
                case.id, question.text, truth_of(case, question).words, base, new, note=kind,
                png=png(with_lesions(case)), alt=f"The image of case {case.id} with {names} outlined",
                base_false=false_spans(base, case, question), aligned_false=false_spans(new, case, question),
            ))
    return [failure for some in found.values() for failure in some]


def failure_kind(case: Case, question: Question, base: str, aligned: str) -> str | None:
    """Which of KINDS or MENDED the pair of answers is, None where it is neither or cannot be judged."""
    if question.kind == "report":
        (false, found), (new_false, new_found) = (_told(text, truth_of(case, question)) for text in (base, aligned))
        if new_false:
            return KINDS[0] if new_false - false else KINDS[1]
        if found - new_found:
            return KINDS[2]
        return MENDED[0] if false else None
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
    truth, spans = truth_of(case, question), []
    for claim in truth.read(text):
        verdict, wrong = truth.judge(claim)
        if verdict != "false":
            continue
        if "finding" not in wrong:  # its side, zone or size alone
            spans += [(*claim.parts[name], "false") for name in wrong if name in claim.parts]
        else:  # all of it, with its cue
            ends = [(claim.start, claim.end), *claim.parts.values()]
            spans.append((min(start for start, _ in ends), max(end for _, end in ends), "false"))
    spans.sort()
    return tuple(s for i, s in enumerate(spans) if not any(s[0] < end for _, end, _ in spans[:i]))


def _told(text: str, truth: Facts | Report) -> tuple[set[tuple[str, str | None]], set[str]]:
    """What a report affirms that is not there, and which of the visible findings it names."""
    claims, facts = affirmed_by(text, truth), truth.stated.facts
    seen = [fact for fact in facts if fact.visible]
    false = {(c.finding, c.side) for c in countable(claims, facts) if not any(on_side(c, fact) for fact in seen)}
    return false, {fact.finding for fact in seen if any(on_side(claim, fact) for claim in claims)}
