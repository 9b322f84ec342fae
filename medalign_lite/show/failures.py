"""Failures worth looking at: where the aligned model errs, and whether the base erred there too."""

from collections.abc import Iterable

from medalign_lite.cases.case import Case, Question
from medalign_lite.cases.images import read_image
from medalign_lite.corruption.masks import lesion_mask
from medalign_lite.edits.report_truth import judge_claims
from medalign_lite.edits.verify import truth_of
from medalign_lite.evaluate.agreement import affirmed, countable, on_side
from medalign_lite.evaluate.metrics import Prediction
from medalign_lite.evaluate.short_answers import strict_closed
from medalign_lite.show.page import Failure
from medalign_lite.show.widgets import outlined, png
from medalign_lite.text.claims import Claim

KINDS = ("new false finding", "false finding kept", "true finding lost", "wrong answer, the base was right",
         "wrong answer of both")  # fmt: skip


def find_failures(
    cases: Iterable[Case], predictions: Iterable[Prediction], *, aligned: str, base: str = "base", each: int = 2
) -> list[Failure]:
    """Up to `each` failures of each of KINDS among answers to the real test images, in the order of the cases."""
    said: dict[tuple[str, str], dict[str, str]] = {}
    for p in predictions:
        if p.condition == "real" and p.arm in (base, aligned):
            said.setdefault((p.case_id, p.question_id), {})[p.arm] = p.text
    found: dict[str, list[Failure]] = {kind: [] for kind in KINDS}
    for case in cases:
        for question in case.questions if case.split == "test" else ():
            texts = said.get((case.id, question.id), {})
            if len(texts) < 2:
                continue
            kind = failure_kind(case, question, texts[base], texts[aligned])
            if kind and len(found[kind]) < each:
                found[kind].append(_failure(case, question, texts[base], texts[aligned], kind))
    return [failure for some in found.values() for failure in some]


def failure_kind(case: Case, question: Question, base: str, aligned: str) -> str | None:
    """Which of KINDS the aligned answer is, None where it is no failure or cannot be judged."""
    if question.kind == "report":
        false = {arm: _false(text, case, question) for arm, text in (("base", base), ("aligned", aligned))}
        if false["aligned"] - false["base"]:
            return KINDS[0]
        if false["aligned"]:
            return KINDS[1]
        return KINDS[2] if _found(base, case, question) - _found(aligned, case, question) else None
    if question.kind != "closed" or strict_closed(aligned, question.answer):
        return None
    return KINDS[3] if strict_closed(base, question.answer) else KINDS[4]


def _false(text: str, case: Case, question: Question) -> set[tuple[str, str | None]]:
    if case.facts is None:
        return {(c.finding, c.side) for c in _affirmed(text, case, question, "false")}
    seen = [fact for fact in case.facts if fact.visible]
    claims = countable(affirmed(text), case.facts)
    return {(claim.finding, claim.side) for claim in claims if not any(on_side(claim, fact) for fact in seen)}


def _found(text: str, case: Case, question: Question) -> set[str]:
    if case.facts is None:
        return {c.finding for c in _affirmed(text, case, question, "true")}
    claims = affirmed(text)
    return {fact.finding for fact in case.facts if fact.visible and any(on_side(claim, fact) for claim in claims)}


def _affirmed(text: str, case: Case, question: Question, verdict: str) -> list[Claim]:
    """Affirmed claims of which the reference report says so."""
    judged = judge_claims(text, case, question)
    return [claim for claim, found in judged if (claim.polarity, found.verdict) == ("present", verdict)]


def _failure(case: Case, question: Question, base: str, aligned: str, kind: str) -> Failure:
    picture = png(outlined(read_image(case.image), lesion_mask(case)))
    return Failure(case.id, question.text, truth_of(case, question), base, aligned, note=kind, png=picture)


