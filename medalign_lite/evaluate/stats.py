"""Intervals and tests: a paired bootstrap that draws images, exact McNemar, Holm, and the results file.

All statistics are functions of summed per-image counts, so a bootstrap draw is a weighted sum: one matrix product
for all draws. Both arms get the same draws, which is what makes their difference paired.
"""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from scipy import stats as distributions
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests

from medalign_lite.cases.case import Case
from medalign_lite.evaluate import metrics
from medalign_lite.evaluate.metrics import COLUMNS, Counts, Margins, Prediction, TokenValues, ratios

RESULT_METRICS = (
    "fact_precision", "fact_recall", "fact_f1", "hallucination_rate", "closed_accuracy", "open_recall", "yes_ratio",
    "grounding_selectivity", "invariance_rate", "flip_rate", "overclaim_lesion_hidden", "style_edit_distance",
    "kl_to_reference",
)
EXTRA_METRICS = ("grounding_probability", "size_accuracy", "answer_words", "within_few_words", "perplexity_under_base",
                 "closed_accuracy_llavamed", "closed_accuracy_lmms", "open_recall_strict", "open_accuracy_lmms")
CHANGE_METRICS = ("change_lesion", "change_control", "change_selectivity", "change_grounded")
COUNTERFACTUAL_METRICS = ("closed_accuracy", "premise_rejection", "fact_f1", "hallucination_rate")
CONTROL_METRICS = ("fact_f1", "hallucination_rate", "closed_accuracy", "open_recall", "yes_ratio")
TEST_SPLITS = ("test", "shifted")
ARMS = ("base", "aligned", "difference")  # of results.json
DIGITS = 6


@lru_cache(maxsize=6)  # the same draws for every metric and arm
def image_weights(images: int, draws: int, seed: int) -> np.ndarray:
    """(draws, images) float64: how often each image is drawn, with replacement, in each draw."""
    weights = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws).astype(float)
    weights.flags.writeable = False
    return weights


def interval(values: np.ndarray, n: int, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of bootstrap values over their first axis; NaN draws (nothing to divide by) are left out.

    The expanded percentile interval (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", §5.3): the
    plain percentile interval of n clusters is too short by √((n-1)/n) and by normal against t. On ratios and their
    differences it covered better than the percentile and BCa intervals (tests/test_stats.py)."""
    if n < 2:
        return (np.full(values.shape[1:], np.nan),) * 2
    tail = distributions.norm.cdf(-np.sqrt(n / (n - 1)) * distributions.t.ppf((1 + level) / 2, n - 1))
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
    cases: Sequence[Case], predictions: Sequence[Prediction], *, aligned: str, base: str = "base",
    margins: Sequence[Margins] = (), kl: Sequence[TokenValues] = (), logp: Sequence[TokenValues] = (),
    condition: str = "real", names: Sequence[str] = RESULT_METRICS, seed: int = 0, draws: int = 2000,
) -> dict:
    """{"base" | "aligned" | "difference": {"test" | "shifted": {metric: {"value", "low", "high", "n"}}}}.

    `aligned` and `base` are arm names of the predictions. `difference` is aligned minus base, from the same draws.
    n is the number of image groups that contribute. What cannot be measured is None with n = 0. `difference` of
    `grounding_selectivity` is METHOD's GS / β, because the gaps are raw (metrics.Margins).

    Raises ValueError if the two arms did not answer the same questions."""
    asked = [{(p.case_id, p.question_id, p.condition) for p in predictions
              if p.arm == arm and p.condition in (condition, "hidden")} for arm in (base, aligned)]
    if odd := sorted(asked[0] ^ asked[1]):
        raise ValueError(f"{base} and {aligned} did not answer the same questions: {len(odd)} are answered by one arm "
                         f"only, first {odd[0]}; run the evaluate stage again")
    out: dict = {arm: {} for arm in ARMS}
    for split in TEST_SPLITS:
        chosen = [case for case in cases if case.split == split]
        told = {"reference": base, "condition": condition, "margins": margins, "kl": kl, "logp": logp}
        first, second = (metrics.count(chosen, predictions, arm=arm, **told) for arm in (base, aligned))
        tokens = COLUMNS.index("kl_tokens")
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
        return {arm: {name: _entry(np.nan, np.nan, np.nan, 0) for name in names} for arm in ARMS}
    weights = image_weights(len(base.groups), draws, seed)
    point = [ratios(arm.table.sum(axis=0), names) for arm in (base, aligned)]
    drawn = [ratios(weights @ arm.table, names) for arm in (base, aligned)]
    out: dict = {arm: {} for arm in ARMS}
    for name in names:
        seen = [arm.images(name) for arm in (base, aligned)]
        sizes = (int(seen[0].sum()), int(seen[1].sum()), int((seen[0] | seen[1]).sum()))
        values = (point[0][name], point[1][name], point[1][name] - point[0][name])
        draws_of = (drawn[0][name], drawn[1][name], drawn[1][name] - drawn[0][name])
        for arm, value, many, n in zip(out, values, draws_of, sizes, strict=True):
            out[arm][name] = _entry(value, *((np.nan, np.nan) if np.isnan(value) else interval(many, n)), n)
    return out


def _entry(value: float, low: float, high: float, n: int) -> dict:
    def tidy(number: float) -> float | None:
        return None if np.isnan(number) else round(float(number), DIGITS) + 0.0  # + 0.0: no -0.0 in the file

    return {"value": tidy(value), "low": tidy(low), "high": tidy(high), "n": 0 if np.isnan(value) else n}


def dumps(results: dict) -> str:
    """The text of results.json: sorted keys, no NaN, the same bytes for the same numbers."""
    return json.dumps(results, sort_keys=True, indent=2, allow_nan=False) + "\n"
