"""What costs nothing to say: answers that never look at the picture, as arms to compare with."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from medalign_lite.cases.case import Case, Question
from medalign_lite.evaluate.agreement import affirmed
from medalign_lite.evaluate.metrics import Prediction

NO, COMMONEST = "always no", "commonest answer"


def constant_predictions(cases: Iterable[Case], *, splits: Iterable[str] = ("test",)) -> list[Prediction]:
    """Two arms over the questions of `splits`: NO denies everything, COMMONEST says what the training cases mostly say.
    The commonest answer is that of the same kind and topic in training, of a report the one that affirms what most
    reports affirm; a question of a kind that training lacks is answered "No."."""
    cases, splits = tuple(cases), set(splits)
    usual = _usual(q for case in cases if case.split == "train" for q in case.questions)
    asked = [(case, q) for case in cases if case.split in splits for q in case.questions]
    return [
        Prediction(case.id, q.id, text, arm) for case, q in asked
        for arm, text in ((NO, "No."), (COMMONEST, usual.get((q.kind, q.topic), usual.get((q.kind, ""), "No."))))
    ]


def _usual(questions: Iterable[Question]) -> dict[tuple[str, str], str]:
    """{(kind, topic), and (kind, "") for all topics: the commonest answer}; the first of equals."""
    counts, first = defaultdict(Counter), {}
    for q in questions:
        said = q.answer
        if q.kind == "report":
            said = tuple(sorted({(claim.finding, claim.side or "") for claim in affirmed(q.answer)}))
        for topic in (q.topic, ""):
            counts[q.kind, topic][said] += 1
            first.setdefault((q.kind, topic, said), q.answer)
    return {key: first[*key, tally.most_common(1)[0][0]] for key, tally in counts.items()}
