"""Questions that catch a model saying what is usual: balanced yes/no, twins of questions, wrong premises.

Balanced yes/no follows POPE (Li et al. 2023) with findings for objects: as many pictures with as without the finding,
so that an arm that always says yes scores one half. Twins follow ProbMed (Yan et al. 2024).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from medalign_lite.cases.case import Case, Question
from medalign_lite.evaluate.short_answers import strict_closed
from medalign_lite.text.claims import extract_claims, yes_no
from medalign_lite.text.facts import FINDINGS
from medalign_lite.text.words import NOUNS, article

YES_NO_COLUMNS = ("yes_asked", "yes_right", "no_asked", "no_right", "said_yes")


def balanced_cases(cases: Iterable[Case], *, seed: int, per_finding: int | None = None) -> list[Case]:
    """The cases with only POPE's questions: for every finding as many pictures that visibly have it as do not at all.

    `per_finding` bounds the questions of a finding. Cases without a table of facts are left out, and so is a picture
    that holds the finding where it cannot be seen.
    """
    known = sorted((case for case in cases if case.facts is not None), key=lambda case: case.id)
    rng = np.random.default_rng(seed)
    asked: dict[str, list[Question]] = defaultdict(list)
    for finding in FINDINGS:
        visible = [case.id for case in known if any(f.finding == finding and f.visible for f in case.facts)]
        absent = [case.id for case in known if not any(f.finding == finding for f in case.facts)]
        many = min(len(visible), len(absent), *([] if per_finding is None else [per_finding // 2]))
        text = f"Is there {article(finding, NOUNS[finding][0])}?"
        for some, answer in ((visible, "Yes."), (absent, "No.")):
            for i in rng.permutation(len(some))[:many]:
                asked[some[i]].append(Question(f"balanced-{finding}", text, answer, "closed", "presence", finding))
    return [replace(case, questions=tuple(asked[case.id])) for case in known if asked[case.id]]


def yes_no_table(cases: Iterable[Case], answers: Mapping[tuple[str, str], str]) -> tuple[tuple[str, ...], np.ndarray]:
    """(image groups, (G, F, 5) counts of YES_NO_COLUMNS by FINDINGS) of answers to closed questions for presence.

    answers: {(case id, question id): text}. What says neither yes nor no is wrong, and not counted as a yes.
    """
    cases = tuple(cases)
    groups = tuple(sorted({case.group for case in cases}))
    row = {group: i for i, group in enumerate(groups)}
    table = np.zeros((len(groups), len(FINDINGS), len(YES_NO_COLUMNS)))
    for case in cases:
        for question in case.questions:
            text, wanted = answers.get((case.id, question.id)), yes_no(question.answer)
            if text is None or not question.visible or question.finding is None or wanted is None:
                continue
            if (question.kind, question.topic) == ("closed", "presence"):
                said = yes_no(text)
                table[row[case.group], FINDINGS.index(question.finding)] += (
                    wanted, wanted and said is True, not wanted, not wanted and said is False, said is True,
                )  # fmt: skip
    return groups, table


def yes_no_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """POPE's scores from summed counts: (..., F, 5) -> {name: (..., F)}, NaN where there is nothing to divide by.

    `balanced_accuracy` is the mean of recall and specificity: the accuracy, where yes and no are asked equally often.
    """
    yes_asked, yes_right, no_asked, no_right, said_yes = np.moveaxis(np.asarray(sums, float), -1, 0)

    def share(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
        return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)

    recall, specificity = share(yes_right, yes_asked), share(no_right, no_asked)
    return {
        "accuracy": share(yes_right + no_right, yes_asked + no_asked),
        "balanced_accuracy": (recall + specificity) / 2,
        "precision": share(yes_right, said_yes),
        "recall": recall,
        "f1": share(2 * yes_right, said_yes + yes_asked),
        "yes_ratio": share(said_yes, yes_asked + no_asked),
    }


def probe_counts(case: Case, texts: Mapping[str, str]) -> dict[str, float]:
    """Columns of `metrics` for one case's answers {question id: text}: twins, and questions with a wrong premise.

    A pair of twins counts where both were asked, and is right where both answers are.
    """
    asked = [question for question in case.questions if question.visible and question.id in texts]
    twins: dict[str, list[bool]] = defaultdict(list)
    for question in asked:
        if question.topic == "twin":
            twins[question.id.rpartition("-")[0]].append(strict_closed(texts[question.id], question.answer))
    pairs = [both for both in twins.values() if len(both) == 2]
    premises = [rejects_premise(texts[q.id], q.finding) for q in asked if q.topic == "premise"]
    return {
        "twins": len(pairs), "twins_right": sum(map(all, pairs)),
        "premises": len(premises), "premises_rejected": sum(premises),
    }  # fmt: skip


def rejects_premise(text: str, finding: str | None) -> bool:
    """Whether the answer to a question that takes `finding` for granted says that it is not there.

    To deny it on one side, in one zone or of one size is not enough. An answer that names no finding must say no.
    """
    claims = extract_claims(text)
    about = [claim for claim in claims if claim.finding == finding]
    if about:
        whole = any(not (claim.side or claim.zone or claim.size) for claim in about)
        return whole and all(claim.polarity == "absent" for claim in about)
    return not claims and yes_no(text) is False
