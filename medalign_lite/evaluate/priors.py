"""What is said from habit: false findings of reports by finding, side and company, where a language prior shows; and
answers that never look at the picture, as arms to compare with."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medalign_lite.cases.case import Case, Question
from medalign_lite.edits.truths import Stated, truth_of
from medalign_lite.evaluate.agreement import affirmed, affirmed_by
from medalign_lite.evaluate.metrics import Prediction, answered
from medalign_lite.text.facts import FINDINGS, SIDES

NO, COMMONEST = "always no", "commonest answer"


@dataclass(frozen=True)
class ErrorRow:
    """How often a finding that is not there was affirmed: `false` of `images` images. kind `absent`: all images of
    which it is known that the finding is not there; `wrong side`: the finding is there, on the other side than the
    stated `side`; `cofinding`: images without the finding, by whether `cofinding` is seen in them
    (`cofinding_present`), which is where a language prior shows."""

    kind: str
    finding: str
    false: int
    images: int
    side: str | None = None
    cofinding: str | None = None
    cofinding_present: bool | None = None


def error_table(cases: Sequence[Case], predictions: Iterable[Prediction], *, arm: str) -> list[ErrorRow]:
    """False findings of an arm's reports by finding, side and co-finding. Images are counted once. A case without a
    table of facts is judged by its reference report: a finding is not there if the report denies it, and of what it
    does not mention nobody knows."""
    said: dict[str, set[tuple[str, str | None]]] = defaultdict(set)
    truths: dict[str, Stated] = {}
    for case, question, text in answered(cases, predictions, arm=arm, kind="report"):
        truth = truth_of(case, question)
        truths[case.id] = truth.stated
        said[case.id] |= {(claim.finding, claim.side) for claim in affirmed_by(text, truth)}
    known = {name for truth in truths.values() for name in truth.mentioned}
    findings = [name for name in FINDINGS if name in known] + sorted(known - {*FINDINGS})
    return [row for finding in findings for row in _errors_of(finding, findings, truths, said)]


def _errors_of(finding: str, findings: Sequence[str], truths: Mapping[str, Stated], said: Mapping[str, set]):
    present = {case_id: {f.finding for f in truth.facts} for case_id, truth in truths.items()}
    without = [c for c in said if finding in truths[c].mentioned and finding not in present[c]]
    wrong = {case_id for case_id in without if any(name == finding for name, _ in said[case_id])}
    yield ErrorRow("absent", finding, len(wrong), len(without))
    for side, across in zip(SIDES, reversed(SIDES)):
        other = [c for c in said if {f.side for f in truths[c].facts if f.finding == finding and f.visible} == {across}]
        yield ErrorRow("wrong side", finding, sum((finding, side) in said[c] for c in other), len(other), side)
    for cofinding in (name for name in findings if name != finding):
        for there in (True, False):
            images = [c for c in without if cofinding in truths[c].mentioned and (cofinding in present[c]) == there]
            yield ErrorRow("cofinding", finding, sum(c in wrong for c in images), len(images), None, cofinding, there)


def rate(rows: Iterable[ErrorRow], kind: str, finding: str, **where) -> float:
    """The share of images of one row, NaN where it counts none; `where` names its side, or co-finding and presence."""
    row = next(r for r in rows if (r.kind, r.finding) == (kind, finding) and vars(r) | where == vars(r))
    return row.false / row.images if row.images else math.nan


def most_pulled(rows: Sequence[ErrorRow], *, pairs: int = 5, images: int = 8) -> list[tuple[str, str]]:
    """The (finding, cofinding) whose company raises false reports most; both kinds of image at least `images` times."""
    counts = {(r.finding, r.cofinding, r.cofinding_present): r for r in rows if r.kind == "cofinding"}
    pulls = {}
    for (finding, other, there), row in counts.items():
        alone = counts.get((finding, other, False))
        if there and row.images >= images and alone and alone.images:
            pulls[finding, other] = row.false / row.images - alone.false / alone.images
    return sorted(pulls, key=pulls.get, reverse=True)[:pairs]


def constant_predictions(cases: Sequence[Case]) -> list[Prediction]:
    """Two arms over the questions of the test cases: NO denies everything, COMMONEST says what the training cases
    mostly say to the same kind and topic of question, of a report the one that affirms what most reports affirm, of a
    multiple choice the option in the commonest place; a question of a kind that training lacks is answered "No."."""
    usual = _usual(q for case in cases if case.split == "train" for q in case.questions)
    found = []
    for case_id, q in ((case.id, q) for case in cases if case.split == "test" for q in case.questions):
        said = usual.get((q.kind, q.topic), usual.get((q.kind, ""), "No."))
        if isinstance(said, int):
            said = q.options[min(said, len(q.options) - 1)]
        found += [Prediction(case_id, q.id, "No.", NO), Prediction(case_id, q.id, said, COMMONEST)]
    return found


def _usual(questions: Iterable[Question]) -> dict[tuple[str, str], str | int]:
    """{(kind, topic), and (kind, "") for all topics: the commonest answer, or place among the options}; the first of
    equals."""
    counts, first = defaultdict(Counter), {}
    for q in questions:
        said = told = q.answer
        if q.kind == "report":
            said = tuple(sorted({(claim.finding, claim.side or "") for claim in affirmed(q.answer)}))
        elif q.kind == "choice":
            said = told = q.options.index(q.answer)
        for topic in (q.topic, ""):
            counts[q.kind, topic][said] += 1
            first.setdefault((q.kind, topic, said), told)
    return {key: first[*key, tally.most_common(1)[0][0]] for key, tally in counts.items()}
