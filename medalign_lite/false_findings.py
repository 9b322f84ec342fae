"""False findings of reports by finding, side and company: where a language prior shows."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medalign_lite.agreement import affirmed
from medalign_lite.cases import FINDINGS, SIDES, Case, Fact
from medalign_lite.metrics import Prediction, answers_of, question_of


@dataclass(frozen=True)
class ErrorRow:
    """How often a finding that is not there was affirmed: `false` of `images` images.

    kind `absent`: all images without the finding; `side`: of those, affirmed on `side`; `wrong side`: the finding is
    there, on the other side than the stated `side`; `cofinding`: images without the finding, by whether `cofinding`
    is seen in them (`cofinding_present`), which is where a language prior shows.
    """

    kind: str
    finding: str
    false: int
    images: int
    side: str | None = None
    cofinding: str | None = None
    cofinding_present: bool | None = None


def error_table(
    cases: Sequence[Case], predictions: Iterable[Prediction], *, arm: str, condition: str = "real"
) -> list[ErrorRow]:
    """False findings of an arm's reports by finding, side and co-finding. Images are counted once."""
    by_id = {case.id: case for case in cases}
    said: dict[str, set[tuple[str, str | None]]] = defaultdict(set)
    for (case_id, question_id), text in answers_of(by_id, predictions)[arm, condition].items():
        if by_id[case_id].facts is not None and question_of(by_id[case_id], question_id).kind == "report":
            said[case_id] |= {(claim.finding, claim.side) for claim in affirmed(text)}
    facts = {case_id: by_id[case_id].facts for case_id in said}
    return [row for finding in FINDINGS for row in _errors_of(finding, facts, said)]


def _errors_of(finding: str, facts: Mapping[str, Sequence[Fact]], said: Mapping[str, set]) -> Iterable[ErrorRow]:
    present = {case_id: {f.finding for f in fs} for case_id, fs in facts.items()}
    without = [case_id for case_id in said if finding not in present[case_id]]
    wrong = {case_id for case_id in without if any(name == finding for name, _ in said[case_id])}
    yield ErrorRow("absent", finding, len(wrong), len(without))
    for side in SIDES:
        yield ErrorRow("side", finding, sum((finding, side) in said[c] for c in without), len(without), side)
        other = [c for c in said if {f.side for f in facts[c] if f.finding == finding and f.visible} == {_other(side)}]
        yield ErrorRow("wrong side", finding, sum((finding, side) in said[c] for c in other), len(other), side)
    for cofinding in FINDINGS:
        if cofinding == finding:
            continue
        for there in (True, False):
            images = [c for c in without if (cofinding in present[c]) == there]
            yield ErrorRow("cofinding", finding, sum(c in wrong for c in images), len(images), None, cofinding, there)


def _other(side: str) -> str:
    return SIDES[1 - SIDES.index(side)]
