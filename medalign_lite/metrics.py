"""What a model said, counted per image; ratios come last, so that a bootstrap can draw images.

A *countable claim* is an affirmed claim of a report that does not match an invisible fact: what cannot be seen is
neither right nor wrong. Real data without structured facts has no countable claims; its fact metrics have n = 0.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medalign_lite.cases import FINDINGS, SIDES, Case, Fact, Question
from medalign_lite.claims import Claim, extract_claims, wrong_attributes, yes_no
from medalign_lite.vqa import llavamed_open, strict_match

CONDITIONS = ("real", "blank", "shuffled", "hidden", "question-only")


@dataclass(frozen=True)
class Prediction:
    """One answer of one arm. `condition` names the image it saw; `hidden` is the image without its lesions."""

    case_id: str
    question_id: str
    text: str
    arm: str = "base"
    condition: str = "real"


@dataclass(frozen=True)
class Margins:
    """Raw gaps log π(y+) - log π(y-) in nats, summed over span tokens, under v, v' (lesion) and v° (control).

    Raw, so that the base has a value too: METHOD's margin m(u) / β (N = none) is the aligned gap minus the base's.
    """

    record_id: str
    case_id: str
    arm: str
    clean: float
    lesion: float | None = None
    control: float | None = None


@dataclass(frozen=True)
class TokenKL:
    """Forward KL(π_ref ‖ π) in nats at each answer token of one case."""

    case_id: str
    arm: str
    values: tuple[float, ...]


# metric -> (numerator column, denominator column); fact_f1 is made of two of them
RATIOS = {
    "fact_precision": ("claims_right", "claims"),
    "fact_recall": ("facts_found", "facts"),
    "hallucination_rate": ("claims_hallucinated", "claims"),
    "size_accuracy": ("sizes_right", "sizes"),
    "closed_accuracy": ("closed_right", "closed"),
    "open_recall": ("open_recall", "open"),
    "yes_ratio": ("yes", "yes_no"),
    "grounding_selectivity": ("selectivity", "selectivity_n"),
    "flip_rate": ("flipped", "flipped_n"),
    "invariance_rate": ("invariant", "invariant_n"),
    "overclaim_lesion_hidden": ("overclaimed", "hidden_facts"),
    "style_edit_distance": ("edit_distance", "edit_answers"),
    "answer_words": ("words", "word_answers"),
    "kl_to_reference": ("kl", "kl_tokens"),
}
METRICS = ("fact_f1", *RATIOS)
COLUMNS = tuple(dict.fromkeys(column for pair in RATIOS.values() for column in pair))


@dataclass(frozen=True)
class Counts:
    """Sums per image group: `table` is (G, C) float64 with the columns of COLUMNS, rows in the order of `groups`."""

    groups: tuple[str, ...]
    table: np.ndarray

    def images(self, metric: str) -> np.ndarray:
        """bool (G,): the groups that contribute to the metric."""
        denominators = ("claims", "facts") if metric == "fact_f1" else (RATIOS[metric][1],)
        return sum(self.table[:, COLUMNS.index(name)] for name in denominators) > 0


def ratios(sums: np.ndarray, names: Iterable[str] = METRICS) -> dict[str, np.ndarray]:
    """Metrics from summed counts: (..., C) -> {name: (...)}, NaN where there is nothing to divide by."""

    def ratio(name: str) -> np.ndarray:
        top, bottom = (sums[..., COLUMNS.index(column)] for column in RATIOS[name])
        return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)

    def f1() -> np.ndarray:
        precision, recall = ratio("fact_precision"), ratio("fact_recall")
        precision = np.where(np.isnan(precision) & ~np.isnan(recall), 0.0, precision)  # silence: F1 is 0
        total = precision + recall
        return np.divide(2 * precision * recall, total, out=np.where(np.isnan(total), np.nan, 0.0), where=total > 0)

    return {name: f1() if name == "fact_f1" else ratio(name) for name in names}


def count(
    cases: Sequence[Case],
    predictions: Iterable[Prediction],
    *,
    arm: str,
    reference: str = "base",
    condition: str = "real",
    margins: Iterable[Margins] = (),
    kl: Iterable[TokenKL] = (),
) -> Counts:
    """Counts of one arm over `cases`, one row per image group (sorted).

    Answers of cases that are not in `cases` are left out. Style is measured against the answers of `reference` under
    the same condition. Over-claims come from the answers with condition `hidden`.

    Raises ValueError for an unknown condition, a question that its case does not have, or two answers to one question.
    """
    if condition not in CONDITIONS:
        raise ValueError(f"unknown condition {condition!r}: use one of {', '.join(CONDITIONS)}")
    by_id = {case.id: case for case in cases}
    rows: dict[str, Counter] = defaultdict(Counter)
    answers = _answers(by_id, predictions)
    for (case_id, question_id), text in answers[arm, condition].items():
        case = by_id[case_id]
        question = _question(case, question_id)
        rows[case.group].update(_tally(case, question, text))
        rows[case.group].update(_style(question, text, answers[reference, condition].get((case_id, question_id))))
    for (case_id, question_id), text in answers[arm, "hidden"].items():
        if _question(by_id[case_id], question_id).kind == "report":
            rows[by_id[case_id].group].update(_overclaims(text, by_id[case_id].facts))
    for margin in margins:
        if margin.arm == arm and margin.case_id in by_id:
            rows[by_id[margin.case_id].group].update(_grounding(margin))
    for drift in kl:
        if drift.arm == arm and drift.case_id in by_id:
            rows[by_id[drift.case_id].group].update({"kl": sum(drift.values), "kl_tokens": len(drift.values)})
    groups = tuple(sorted({case.group for case in cases}))
    table = [[rows[group][column] for column in COLUMNS] for group in groups]
    return Counts(groups, np.asarray(table, float).reshape(len(groups), len(COLUMNS)))


def _answers(by_id: Mapping[str, Case], predictions: Iterable[Prediction]) -> dict[tuple[str, str], dict]:
    """{(arm, condition): {(case_id, question_id): text}} of the answers to these cases."""
    answers: dict[tuple[str, str], dict] = defaultdict(dict)
    for p in predictions:
        if p.case_id not in by_id:
            continue
        group, key = answers[p.arm, p.condition], (p.case_id, p.question_id)
        if key in group:
            raise ValueError(
                f"two answers of {p.arm} ({p.condition}) to question {p.question_id} of case {p.case_id}: "
                "score one sample at a time"
            )
        group[key] = p.text
    return answers


def _question(case: Case, question_id: str) -> Question:
    for question in case.questions:
        if question.id == question_id:
            return question
    raise ValueError(
        f"case {case.id} has no question {question_id}: the predictions belong to other cases; "
        "run the evaluate stage again"
    )


def _tally(case: Case, question: Question, text: str) -> dict[str, float]:
    if question.kind == "report":
        return _report(text, case.facts)
    if not question.visible:
        return {}
    if question.kind == "open":
        return {"open": 1, "open_recall": llavamed_open(text, question.answer)[2]}
    gold, said = yes_no(question.answer), yes_no(text)
    if gold is None:
        return {"closed": 1, "closed_right": strict_match(text, question.answer)}
    return {"closed": 1, "closed_right": said == gold, "yes_no": 1, "yes": said is True}


def on_side(claim: Claim, fact: Fact) -> bool:
    """The claim's finding is this fact's and the side, where both state one, agrees."""
    return claim.finding == fact.finding and "side" not in wrong_attributes(claim, fact)


def in_place(claim: Claim, fact: Fact) -> bool:
    """Finding, side and zone, where stated, agree. Size is scored apart."""
    return on_side(claim, fact) and "zone" not in wrong_attributes(claim, fact)


def affirmed(text: str) -> list[Claim]:
    """The findings that the text asserts to be there; a bilateral one is asserted once for each side."""
    claims = [claim for claim in extract_claims(text) if claim.polarity == "present"]
    return [
        replace(claim, side=side)
        for claim in claims
        for side in (SIDES if claim.side == "bilateral" else (claim.side,))
    ]


def countable(claims: Iterable[Claim], facts: Iterable[Fact]) -> list[Claim]:
    """The claims that can be right or wrong: not those that match only what cannot be seen."""
    facts = tuple(facts)
    seen = [fact for fact in facts if fact.visible]
    unseen = [fact for fact in facts if not fact.visible]
    return [
        claim for claim in claims if any(on_side(claim, f) for f in seen) or not any(on_side(claim, f) for f in unseen)
    ]


def _report(text: str, facts: Sequence[Fact] | None) -> dict[str, float]:
    if facts is None:
        return {}
    seen = [fact for fact in facts if fact.visible]
    claims = countable(affirmed(text), facts)
    right = [(claim, fact) for claim in claims for fact in seen if in_place(claim, fact)]
    sized = [(claim, fact) for claim, fact in right if claim.size and fact.size]
    return {
        "claims": len(claims),
        "claims_right": sum(any(in_place(claim, f) for f in seen) for claim in claims),
        "claims_hallucinated": sum(not any(on_side(claim, f) for f in seen) for claim in claims),
        "facts": len(seen),
        "facts_found": sum(any(in_place(claim, f) for claim in claims) for f in seen),
        "sizes": len(sized),
        "sizes_right": sum(claim.size == fact.size for claim, fact in sized),
    }


def _overclaims(text: str, facts: Sequence[Fact] | None) -> dict[str, float]:
    """Of the visible findings that were removed from the image, those that the text still affirms."""
    removed = [fact for fact in facts or () if fact.visible]
    said = {claim.finding for claim in affirmed(text)}
    return {"hidden_facts": len(removed), "overclaimed": sum(fact.finding in said for fact in removed)}


def _grounding(margin: Margins) -> dict[str, float]:
    """METHOD §4: GS = m(v°) - m(v'), flip m(v') < 0, invariance sign m(v°) = sign m(v)."""
    row = {}
    if margin.lesion is not None:
        row |= {"flipped_n": 1, "flipped": margin.lesion < 0}
    if margin.control is not None:
        row |= {"invariant_n": 1, "invariant": np.sign(margin.control) == np.sign(margin.clean)}
    if margin.lesion is not None and margin.control is not None:
        row |= {"selectivity_n": 1, "selectivity": margin.control - margin.lesion}
    return row


def _style(question: Question, text: str, reference: str | None) -> dict[str, float]:
    """Words and edit distance; closed answers are left out: there another word is another answer, not a style."""
    if question.kind == "closed":
        return {}
    row = {"word_answers": 1, "words": len(text.split())}
    if reference is not None:
        row |= {"edit_answers": 1, "edit_distance": edit_distance(text, reference)}
    return row


def edit_distance(a: str, b: str) -> float:
    """Word-level Levenshtein distance over the longer text's words: 0 the same, 1 nothing shared."""
    left, right = a.split(), b.split()
    previous = list(range(len(right) + 1))
    for i, word in enumerate(left, 1):
        row = [i]
        for j, other in enumerate(right, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (word != other)))
        previous = row
    return previous[-1] / max(len(left), len(right), 1)


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
    for (case_id, question_id), text in _answers(by_id, predictions)[arm, condition].items():
        if by_id[case_id].facts is not None and _question(by_id[case_id], question_id).kind == "report":
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
