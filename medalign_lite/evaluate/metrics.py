"""What a model said, counted per image; ratios come last, so that a bootstrap can draw images.

Each metric is a ratio of two columns of counts; what is counted is in `agreement`, `short_answers` and `grounding`.
Without structured facts a report is counted against its reference, as far as that goes (`edits/truths`).
``python -m medalign_lite score``: the suite on two files of your own.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medalign_lite.cases.case import Case, Question
from medalign_lite.edits.truths import truth_of
from medalign_lite.evaluate.agreement import affirmed, report_counts
from medalign_lite.evaluate.grounding import change_counts, changed_case, fall_counts, margin_counts
from medalign_lite.evaluate.short_answers import probe_counts, score_answer
from medalign_lite.text.answers import option_of
from medalign_lite.text.says import yes_no

CONDITIONS = ("real", "blank", "shuffled", "hidden", "question-only", "moved", "lesion", "control")


@dataclass(frozen=True)
class Prediction:
    """One answer of one arm. `condition` names the image it saw. `hidden` is the image without one `finding` whose
    company stays, `moved` with it on the other side; `lesion` and `control` are the image with its lesion corrupted,
    and with as much of the rest."""

    case_id: str
    question_id: str
    text: str
    arm: str = "base"
    condition: str = "real"
    finding: str | None = None


@dataclass(frozen=True)
class Margins:
    """Raw gaps log π(y+) - log π(y-) in nats, summed over span tokens, under v, v' (lesion) and v° (control). Raw, so
    that the base has a value too: METHOD's margin m(u) / β (N = none) is the aligned gap minus the base's."""

    record_id: str
    case_id: str
    arm: str
    clean: float
    lesion: float | None = None
    control: float | None = None


@dataclass(frozen=True)
class TokenValues:
    """Nats at each token of one case's answer: forward KL(π_ref ‖ π), or log π_ref of what the arm itself answered,
    which says how likely the base finds the wording."""

    case_id: str
    arm: str
    values: tuple[float, ...]


FEW_WORDS = 2  # an answer this many word edits from the base's is a minimal change
PERPLEXITY = "perplexity_under_base"  # exp of its ratio, nats a token
_LEVELS = ("", "_finding", "_side", "_size")
_ERRORS = ("false_findings", "missing_findings", "location_errors", "severity_errors")
# metric -> (numerator column, denominator column). Facts agree in finding, side and zone, where a name says no more.
RATIOS = {
    **{f"fact_precision{level}": (f"claims_right{level}", "claims") for level in _LEVELS},
    **{f"fact_recall{level}": (f"facts_found{level}", "facts") for level in _LEVELS},
    **{f"{name}_per_report": (name, "reports") for name in _ERRORS},
    **{f"{name}_accuracy": (f"{name}s_right", f"{name}s") for name in ("side", "zone", "size")},
    "hallucination_rate": ("claims_hallucinated", "claims"), "match_ratio": ("match_ratio", "match_reports"),
    "chair_mention": ("mentions_false", "mentions"), "chair_report": ("reports_false", "reports"),
    "attributes_stated": ("attributes_stated", "attributes"), "closed_accuracy": ("closed_right", "closed"),
    "closed_accuracy_llavamed": ("closed_llavamed", "closed"), "closed_accuracy_lmms": ("closed_lmms", "closed"),
    "open_recall": ("open_recall", "open"), "open_recall_strict": ("open_strict", "open"),
    "open_accuracy_lmms": ("open_lmms", "open"), "yes_ratio": ("yes", "yes_no"), "neither_ratio": ("neither", "yes_no"),
    "choice_accuracy": ("choice_right", "choice"), "choice_none": ("choice_none", "choice"),
    "twin_accuracy": ("twins_right", "twins"), "premise_rejection": ("premises_rejected", "premises"),
    "grounding_selectivity": ("selectivity", "selectivity_n"),
    "grounding_probability": ("evidence_lower", "selectivity_n"), "flip_rate": ("flipped", "flipped_n"),
    "invariance_rate": ("invariant", "invariant_n"), "change_lesion": ("changed_lesion", "changes"),
    "change_control": ("changed_control", "changes"), "change_selectivity": ("changed_gap", "changes"),
    "change_grounded": ("changed_only", "asked_about"), "right_answer_fall": ("right_fall", "right_falls"),
    "overclaim_lesion_hidden": ("overclaimed", "hidden_findings"),
    "style_edit_distance": ("edit_distance", "edit_answers"), "within_few_words": ("within_few_words", "edit_answers"),
    "answer_words": ("words", "word_answers"), "kl_to_reference": ("kl", "kl_tokens"),
    PERPLEXITY: ("surprise", "surprise_tokens"),
}
F1S = {f"fact_f1{level}": (f"fact_precision{level}", f"fact_recall{level}") for level in _LEVELS}
METRICS = (*F1S, *RATIOS)
COLUMNS = tuple(dict.fromkeys(column for pair in RATIOS.values() for column in pair))


@dataclass(frozen=True)
class Counts:
    """Sums per image group: `table` is (G, C) float64 with the columns of COLUMNS, rows in the order of `groups`."""

    groups: tuple[str, ...]
    table: np.ndarray

    def images(self, metric: str) -> np.ndarray:
        """bool (G,): the groups that contribute to the metric."""
        denominators = [RATIOS[name][1] for name in F1S.get(metric, (metric,))]
        return sum(self.table[:, COLUMNS.index(name)] for name in denominators) > 0


def ratios(sums: np.ndarray, names: Iterable[str] = METRICS) -> dict[str, np.ndarray]:
    """Metrics from summed counts: (..., C) -> {name: (...)}, NaN where there is nothing to divide by."""

    def ratio(name: str) -> np.ndarray:
        top, bottom = (sums[..., COLUMNS.index(column)] for column in RATIOS[name])
        values = np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)
        return np.exp(values) if name == PERPLEXITY else values

    def f1(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
        precision = np.where(np.isnan(precision) & ~np.isnan(recall), 0.0, precision)  # silence: F1 is 0
        total = precision + recall
        return np.divide(2 * precision * recall, total, out=np.where(np.isnan(total), np.nan, 0.0), where=total > 0)

    return {name: f1(*map(ratio, F1S[name])) if name in F1S else ratio(name) for name in names}


def count(
    cases: Sequence[Case], predictions: Iterable[Prediction], *, arm: str, reference: str = "base",
    condition: str = "real", margins: Iterable[Margins] = (), kl: Iterable[TokenValues] = (),
    logp: Iterable[TokenValues] = (), right: Iterable[Margins] = (),
) -> Counts:
    """Counts of one arm over `cases`, one row per image group (sorted). Answers of cases that are not in `cases` are
    left out. Style is measured against the answers of `reference` under the same condition. Over-claims come from the
    reports with condition `hidden`; how often an answer changes, from those with `real`, `lesion` and `control`.
    `right`: gaps of the right answer over the wrong one to yes/no questions. Raises ValueError for an unknown
    condition, a question that its case does not have, two answers to one question, or a report on a `hidden` picture
    that does not say what was hidden."""
    if condition not in CONDITIONS:
        raise ValueError(f"unknown condition {condition!r}: use one of {', '.join(CONDITIONS)}")
    by_id = {case.id: case for case in cases}
    rows: dict[str, Counter] = defaultdict(Counter)
    predictions = tuple(predictions)
    answers = answers_of(by_id, predictions)
    asked: dict[str, dict[str, str]] = defaultdict(dict)
    for (case_id, question_id), text in answers[arm, condition].items():
        case = by_id[case_id]
        question = question_of(case, question_id)
        asked[case_id][question_id] = text
        rows[case.group].update(_tally(case, question, text))
        if question.kind != "closed":  # there another word is another answer, not a style
            rows[case.group].update(style_counts(text, answers[reference, condition].get((case_id, question_id))))
    for case_id, texts in asked.items():
        rows[by_id[case_id].group].update(probe_counts(by_id[case_id], texts))
    for p in predictions:
        case = by_id.get(p.case_id)
        if case and (p.arm, p.condition) == (arm, "hidden") and question_of(case, p.question_id).kind == "report":
            if p.finding is None:
                raise ValueError(f"the answer of {arm} to the picture of case {p.case_id} without one finding does not "
                                 "say which; run the evaluate stage again")
            still = any(claim.finding == p.finding for claim in affirmed(p.text))  # wherever it puts it
            rows[case.group].update({"hidden_findings": 1, "overclaimed": still})
    for key in answers[arm, "real"].keys() & answers[arm, "lesion"].keys() & answers[arm, "control"].keys():
        case, texts = by_id[key[0]], [answers[arm, name][key] for name in ("real", "lesion", "control")]
        if question_of(case, key[1]).visible:
            rows[case.group].update(change_counts(question_of(case, key[1]), *texts))
    measured = [
        *((margin, margin_counts) for margin in margins), *((gap, fall_counts) for gap in right),
        *((drift, lambda drift: {"kl": sum(drift.values), "kl_tokens": len(drift.values)}) for drift in kl),
        *((said, lambda said: {"surprise": -sum(said.values), "surprise_tokens": len(said.values)}) for said in logp),
    ]
    for one, counts in measured:
        if one.arm == arm and one.case_id in by_id:
            rows[by_id[one.case_id].group].update(counts(one))
    groups = tuple(sorted({case.group for case in cases}))
    table = [[rows[group][column] for column in COLUMNS] for group in groups]
    return Counts(groups, np.asarray(table, float).reshape(len(groups), len(COLUMNS)))


def changed_cases(cases: Iterable[Case], predictions: Iterable[Prediction], condition: str) -> list[Case]:
    """The cases as their changed pictures show them, where some arm was asked: scored like any other. condition:
    "hidden" or "moved" (see `grounding.changed_case`), and that of `count` or `stats.results` too."""
    changed = {p.case_id: p.finding for p in predictions if p.condition == condition and p.finding}
    return [changed_case(case, changed[case.id], condition) for case in cases if case.id in changed]


def answers_of(by_id: Mapping[str, Case], predictions: Iterable[Prediction]) -> dict[tuple[str, str], dict]:
    """{(arm, condition): {(case_id, question_id): text}} of the answers to these cases."""
    answers: dict[tuple[str, str], dict] = defaultdict(dict)
    for p in (p for p in predictions if p.case_id in by_id):
        group, key = answers[p.arm, p.condition], (p.case_id, p.question_id)
        if key in group:
            raise ValueError(f"two answers of {p.arm} ({p.condition}) to question {p.question_id} of case {p.case_id}: "
                             "score one sample at a time")
        group[key] = p.text
    return answers


def answered(
    cases: Iterable[Case], predictions: Iterable[Prediction], *, arm: str, kind: str, condition: str = "real"
) -> list[tuple[Case, Question, str]]:
    """(case, question, answer) of an arm's answers to the questions of one kind of these cases."""
    by_id = {case.id: case for case in cases}
    found = answers_of(by_id, predictions)[arm, condition].items()
    rows = [(by_id[case_id], question_of(by_id[case_id], question_id), text) for (case_id, question_id), text in found]
    return [row for row in rows if row[1].kind == kind]


def question_of(case: Case, question_id: str) -> Question:
    """The case's question of this id; raises ValueError where it has none."""
    for question in case.questions:
        if question.id == question_id:
            return question
    raise ValueError(f"case {case.id} has no question {question_id}: the predictions belong to other cases; run the "
                     "evaluate stage again")


def _tally(case: Case, question: Question, text: str) -> dict[str, float]:
    if question.kind == "report":
        return report_counts(text, truth_of(case, question))
    if not question.visible:
        return {}
    scores = score_answer(text, question.answer, question.kind, question.text, question.options)
    if question.kind == "choice":
        return {"choice": 1, "choice_right": scores["strict"], "choice_none": option_of(text, question.options) is None}
    llavamed, strict, lmms = scores.values()
    if question.kind == "open":
        return {"open": 1, "open_recall": llavamed, "open_strict": strict, "open_lmms": lmms}
    row = {"closed": 1, "closed_right": strict, "closed_llavamed": llavamed, "closed_lmms": lmms}
    if yes_no(question.answer) is not None:
        said = yes_no(text, question.text)
        row |= {"yes_no": 1, "yes": said is True, "neither": said is None}
    return row


def word_edits(a: str, b: str) -> int:
    """Word-level Levenshtein distance: the fewest insertions, deletions and exchanges of words."""
    left, right = a.split(), b.split()
    previous = list(range(len(right) + 1))
    for i, word in enumerate(left, 1):
        row = [i]
        for j, other in enumerate(right, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (word != other)))
        previous = row
    return previous[-1]


def style_counts(text: str, reference: str | None) -> dict[str, float]:
    """Columns of `metrics`: the answer's words, and its distance to the reference answer where there is one."""
    row = {"word_answers": 1, "words": len(text.split())}
    if reference is not None:
        edits, longest = word_edits(text, reference), max(len(text.split()), len(reference.split()), 1)
        row |= {"edit_answers": 1, "edit_distance": edits / longest, "within_few_words": edits <= FEW_WORDS}
    return row
