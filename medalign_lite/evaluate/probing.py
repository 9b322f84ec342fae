"""Questions that catch a model saying what is usual: twins of questions (Yan et al. 2024), and wrong premises."""

from collections import defaultdict
from collections.abc import Mapping

from medalign_lite.cases.case import Case
from medalign_lite.evaluate.short_answers import strict_closed
from medalign_lite.text.reports import extract_claims
from medalign_lite.text.says import yes_no


def probe_counts(case: Case, texts: Mapping[str, str]) -> dict[str, float]:
    """Columns of `metrics` for one case's answers {question id: text}: twins, and questions with a wrong premise.

    A pair of twins counts where both were asked, and is right where both answers are.
    """
    asked = [question for question in case.questions if question.visible and question.id in texts]
    twins: dict[str, list[bool]] = defaultdict(list)
    for question in asked:
        if question.topic == "twin":
            twins[question.id.rpartition("-")[0]].append(
                strict_closed(texts[question.id], question.answer, question.text, question.options)
            )
    pairs = [both for both in twins.values() if len(both) == 2]
    premises = [rejects_premise(texts[q.id], q.finding, q.text) for q in asked if q.topic == "premise"]
    return {
        "twins": len(pairs), "twins_right": sum(map(all, pairs)),
        "premises": len(premises), "premises_rejected": sum(premises),
    }  # fmt: skip


def rejects_premise(text: str, finding: str | None, question: str = "") -> bool:
    """Whether the answer to a question that takes `finding` for granted says that it is not there.

    To deny it on one side, in one zone or of one size is not enough. An answer that names no finding must say no.
    """
    claims = extract_claims(text)
    about = [claim for claim in claims if claim.finding == finding]
    if about:
        whole = any(not (claim.side or claim.zone or claim.size) for claim in about)
        return whole and all(claim.polarity == "absent" for claim in about)
    return not claims and yes_no(text, question) is False
