"""Intervals and tests: a paired bootstrap that draws images, exact McNemar, Holm, and the results file; and whether
p(yes) means what it says: expected calibration error, Brier score and the reliability diagram's data.

All statistics are functions of summed per-image counts (of p(yes): sums per bin), so a bootstrap draw is a weighted
sum: one matrix product for all draws. Both arms get the same draws, which is what makes their difference paired.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats as distributions
from scipy.special import expit
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests

from medalign_lite.cases.case import Case
from medalign_lite.evaluate import metrics
from medalign_lite.evaluate.metrics import COLUMNS, Counts, Margins, Prediction, TokenValues, ratios
from medalign_lite.text.says import yes_no

RESULT_METRICS = (
    "fact_precision", "fact_recall", "fact_f1", "hallucination_rate", "closed_accuracy", "choice_accuracy",
    "open_recall", "yes_ratio", "neither_ratio", "grounding_selectivity", "invariance_rate", "flip_rate",
    "overclaim_lesion_hidden", "style_edit_distance", "kl_to_reference",
)
EXTRA_METRICS = ("grounding_probability", "size_accuracy", "answer_words", "within_few_words", "perplexity_under_base",
                 "closed_accuracy_llavamed", "closed_accuracy_lmms", "choice_none", "open_recall_strict",
                 "open_accuracy_lmms", "twin_accuracy")
CHANGE_METRICS = ("change_lesion", "change_control", "change_selectivity", "change_grounded")
COUNTERFACTUAL_METRICS = ("closed_accuracy", "premise_rejection", "fact_f1", "hallucination_rate")
CONTROL_METRICS = ("fact_f1", "hallucination_rate", "closed_accuracy", "choice_accuracy", "open_recall", "yes_ratio")
TEST_SPLITS = ("test", "shifted")
ARMS = ("base", "aligned", "difference")  # of results.json
DIGITS = 6
BINS = 10  # of p(yes)


@lru_cache(maxsize=6)  # the same draws for every metric and arm
def image_weights(images: int, draws: int, seed: int) -> np.ndarray:
    """(draws, images) float64: how often each image is drawn, with replacement, in each draw."""
    weights = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws).astype(float)
    weights.flags.writeable = False
    return weights


def interval(values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval (low, high) of bootstrap values over their first axis; NaN draws (nothing to divide by) are left
    out. The expanded percentile interval (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", §5.3): the
    plain percentile interval of n clusters is too short by √((n-1)/n) and by normal against t. On ratios and their
    differences it covered better than the percentile and BCa intervals (tests/test_stats.py)."""
    if n < 2:
        return (np.full(values.shape[1:], np.nan),) * 2
    tail = distributions.norm.cdf(-np.sqrt(n / (n - 1)) * distributions.t.ppf(0.975, n - 1))
    low, high = np.nanquantile(values, [tail, 1 - tail], axis=0)
    return low, high


def bootstrap(
    table: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], *, draws: int = 2000, seed: int = 0
) -> np.ndarray:
    """Values (draws, ...) of a statistic of summed counts; `table` is (images, C), `statistic` maps (..., C)."""
    return statistic(image_weights(len(table), draws, seed) @ table)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Exact two-sided p that two paired right/wrong vectors have the same rate (McNemar 1947, binomial form)."""
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    table = [[0, np.sum(first & ~second)], [np.sum(second & ~first), 0]]
    return float(contingency_tables.mcnemar(table, exact=True).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-corrected p values of one family of tests, in the order given."""
    return [float(p) for p in multipletests(p_values, method="holm")[1]] if len(p_values) else []


def results(
    cases: Sequence[Case], predictions: Sequence[Prediction], *, aligned: str, margins: Sequence[Margins] = (),
    kl: Sequence[TokenValues] = (), logp: Sequence[TokenValues] = (), condition: str = "real",
    names: Sequence[str] = RESULT_METRICS, seed: int = 0, draws: int = 2000,
) -> dict:
    """{"base" | "aligned" | "difference": {"test" | "shifted": {metric: {"value", "low", "high", "n"}}}}.

    `aligned` is an arm of the predictions, "base" the other; `difference` is aligned minus base, from the same draws.
    n is the number of image groups that contribute. What cannot be measured is None with n = 0. `difference` of
    `grounding_selectivity` is METHOD's GS / β, because the gaps are raw (metrics.Margins).

    Raises ValueError if the two arms did not answer the same questions."""
    asked = [{(p.case_id, p.question_id, p.condition) for p in predictions
              if p.arm == arm and p.condition in (condition, "hidden")} for arm in ("base", aligned)]
    if odd := sorted(asked[0] ^ asked[1]):
        raise ValueError(f"base and {aligned} did not answer the same questions: {len(odd)} are answered by one arm "
                         f"only, first {odd[0]}; run the evaluate stage again")
    out: dict = {arm: {} for arm in ARMS}
    told, tokens = {"condition": condition, "margins": margins, "kl": kl, "logp": logp}, COLUMNS.index("kl_tokens")
    for split in TEST_SPLITS:
        chosen = [case for case in cases if case.split == split]
        first, second = (metrics.count(chosen, predictions, arm=arm, **told) for arm in ("base", aligned))
        if not first.table[:, tokens].any():  # the base is its own reference: KL 0 at the tokens of the other arm's
            first.table[:, tokens] = second.table[:, tokens]
        for arm, block in compare(first, second, names=names, seed=seed, draws=draws).items():
            out[arm][split] = block
    return out


def changed_results(
    cases: Sequence[Case], predictions: Sequence[Prediction], *, condition: str,
    names: Sequence[str] = COUNTERFACTUAL_METRICS, **options,
) -> dict:
    """`results` of the answers to changed pictures, "hidden" or "moved", against the truth that these then show. Raises
    as `results` does."""
    shown = [p for p in predictions if p.condition == condition]
    return results(metrics.changed_cases(cases, shown, condition), shown, condition=condition, names=names, **options)


def compare(
    base: Counts, aligned: Counts, *, names: Sequence[str] = RESULT_METRICS, seed: int = 0, draws: int = 2000
) -> dict:
    """{"base" | "aligned" | "difference": {metric: {"value", "low", "high", "n"}}} of two arms on the same images."""
    if base.groups != aligned.groups:
        raise ValueError("the two arms do not cover the same images: count both over the same cases")
    if not base.groups:
        return {arm: {name: _entry(np.nan, np.zeros(0), 0) for name in names} for arm in ARMS}
    weights = image_weights(len(base.groups), draws, seed)
    point = [ratios(arm.table.sum(axis=0), names) for arm in (base, aligned)]
    drawn = [ratios(weights @ arm.table, names) for arm in (base, aligned)]
    out: dict = {arm: {} for arm in ARMS}
    for name in names:
        seen = [arm.images(name) for arm in (base, aligned)]
        values, many = ((first[name], second[name], second[name] - first[name]) for first, second in (point, drawn))
        for arm, value, draws_of, images in zip(ARMS, values, many, (*seen, seen[0] | seen[1]), strict=True):
            out[arm][name] = _entry(value, draws_of, int(images.sum()))
    return out


def tidy(number: float) -> float | None:
    """The number as files hold it; None for NaN."""
    return None if np.isnan(number) else round(float(number), DIGITS) + 0.0  # + 0.0: no -0.0 in the file


def _entry(value: float, many: np.ndarray, n: int) -> dict:
    low, high = (np.nan, np.nan) if np.isnan(value) else interval(many, n)
    return {"value": tidy(value), "low": tidy(low), "high": tidy(high), "n": 0 if np.isnan(value) else n}


def dumps(results: dict) -> str:
    """The text of results.json: sorted keys, no NaN, the same bytes for the same numbers."""
    return json.dumps(results, sort_keys=True, indent=2, allow_nan=False) + "\n"


@dataclass(frozen=True)
class Gap:
    """log p("Yes") - log p("No") in nats of one arm after one yes/no question."""

    case_id: str
    question_id: str
    arm: str
    gap: float


@dataclass(frozen=True)
class Reliability:
    """One entry a bin of p(yes), each (B,): questions `n`, their mean p and share of yes, NaN in an empty bin."""

    n: np.ndarray
    mean_p: np.ndarray
    yes_share: np.ndarray


def p_yes(gap: np.ndarray | float) -> np.ndarray:
    """p(yes | yes or no) from the gap log p("Yes.") - log p("No.") in nats."""
    return expit(np.asarray(gap, float))


def gap_table(cases: Iterable[Case], gaps: Iterable[Gap], *, arm: str) -> tuple[tuple[str, ...], np.ndarray]:
    """`calibration_table` of one arm over the questions of these cases. Gaps of other cases are left out."""
    gold = {(case.id, q.id): (case.group, yes_no(q.answer)) for case in cases for q in case.questions}
    kept = [gap for gap in gaps if gap.arm == arm and (gap.case_id, gap.question_id) in gold]
    truth = [gold[gap.case_id, gap.question_id] for gap in kept]
    p = p_yes([gap.gap for gap in kept])
    return calibration_table([group for group, _ in truth], p, [yes for _, yes in truth])


def calibration_table(
    groups: Sequence[str], p: Sequence[float], yes: Sequence[bool]
) -> tuple[tuple[str, ...], np.ndarray]:
    """(image groups, (G, B, 4) sums): questions, p, yes and (p - yes)² by group and each of BINS bins of equal width.
    groups: the image group of each question. A p on an edge belongs to the bin above it, p = 1 to the last one. Raises
    ValueError for arrays of different lengths and for a p outside 0..1 (NaN included)."""
    p, yes = np.asarray(p, float), np.asarray(yes, float)
    if not len(groups) == len(p) == len(yes):
        raise ValueError(f"{len(groups)} groups, {len(p)} p and {len(yes)} answers: give one of each a question")
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError("p(yes) must lie in 0..1: pass gaps in nats through p_yes first")
    names = tuple(sorted(set(groups)))
    row = {name: i for i, name in enumerate(names)}
    table = np.zeros((len(names), BINS, 4))
    place = np.searchsorted(np.arange(1, BINS) / BINS, p, side="right")
    np.add.at(table, ([row[g] for g in groups], place), np.stack([np.ones_like(p), p, yes, (p - yes) ** 2], axis=-1))
    return names, table


def calibration(sums: np.ndarray) -> dict[str, np.ndarray]:
    """(..., B, 4) sums -> {"ece", "brier"}: (...), NaN without questions. ECE = Σ_b n_b/n |share of yes - mean p| in
    bin b (Naeini et al. 2015, two classes). It is biased upwards where bins hold few questions, and so is a bootstrap
    of it. Brier = mean (p - yes)²."""
    sums = np.asarray(sums, float)
    n = sums[..., 0].sum(-1)
    tops = {"ece": np.abs(sums[..., 1] - sums[..., 2]).sum(-1), "brier": sums[..., 3].sum(-1)}
    return {name: np.divide(top, n, out=np.full_like(n, np.nan), where=n > 0) for name, top in tops.items()}


def reliability(sums: np.ndarray) -> Reliability:
    """The diagram's data from (B, 4) sums."""
    n, p, yes = np.asarray(sums, float)[:, :3].T
    return Reliability(n, *(np.divide(top, n, out=np.full_like(n, np.nan), where=n > 0) for top in (p, yes)))
