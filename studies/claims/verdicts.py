"""From runs to verdicts: estimates over seeds and images, Holm over all tests of the claims, a word or two for each.

An interval is of the mean over seeds where there are two or more (`seeds.summarise_seeds`: seeds and images both
drawn); with one seed it is the sampling error of that seed alone, and no verdict follows from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from medalign_lite.evaluate.metrics import COLUMNS, F1S, RATIOS, ratios
from medalign_lite.evaluate.stats import holm, tidy
from studies.claims.hypotheses import CLAIMS, MATTERS, Claim, Contrast
from studies.claims.lineup import BASE, Setting
from studies.claims.seeds import summarise_seeds
from studies.claims.store import unpack

SPLITS = ("test", "shifted")
METRICS = (
    "fact_f1", "fact_precision", "fact_recall", "hallucination_rate", "closed_accuracy", "grounding_probability",
    "change_grounded", "right_answer_fall", "grounding_selectivity", "flip_rate", "invariance_rate", "kl_to_reference",
    "style_edit_distance",
)  # fmt: skip
LEVEL = 0.05
Results = Mapping[str, Mapping[int, dict]]  # arm: seed: result file


@dataclass(frozen=True)
class Estimate:
    """One contrast measured. `seeds` of it; p None where no test is possible; p_same: of two one-sided tests that it is
    as far from 0 as MATTERS; `seen`: the difference that a study of this size detects with a power of .8; `needed`: the
    seeds that tell MATTERS from 0 at LEVEL / 30, as the first of about thirty tests after Holm asks."""

    contrast: Contrast
    seeds: tuple[int, ...]
    value: float | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    sampling: tuple[float, float] | None = None
    p: float | None = None
    p_holm: float | None = None
    p_same: float | None = None
    seen: float | None = None
    needed: int | None = None

    @property
    def verdict(self) -> str:
        """supported, refuted or inconclusive, of the contrast alone."""
        if self.p_holm is None or not self.p_holm < LEVEL:
            return "inconclusive"
        return "supported" if self.value > 0 else "refuted"


@dataclass(frozen=True)
class Judged:
    """A claim with its estimates, the hardest on it first; after Holm the p of its difference and of its sameness."""

    claim: Claim
    estimates: tuple[Estimate, ...]
    p_holm: float | None = None
    p_same: float | None = None

    @property
    def differs(self) -> tuple[float | None, bool]:
        """(two-sided p, whether in the claim's favour): that all contrasts are above 0, an intersection of tests whose
        p is the largest, or that one is below, whose p is the smallest times their number."""
        tested = [e for e in self.estimates if e.p is not None]
        if not tested:
            return None, False
        above = max(e.p if e.value > 0 else 1.0 for e in tested) if len(tested) == len(self.estimates) else 1.0
        below = min(1.0, min(e.p if e.value < 0 else 1.0 for e in tested) * len(tested))
        return min(above, below), above < below

    @property
    def same(self) -> float | None:
        """p that one contrast is as far from 0 as what matters: the largest."""
        each = [e.p_same for e in self.estimates]
        return None if None in each else max(each)

    @property
    def verdict(self) -> str:
        """`no effect larger than ...` goes before a difference that is shown and does not matter."""
        if self.estimates[0].value is None:
            return "not asked yet"
        if self.p_same is not None and self.p_same < LEVEL:
            return f"no effect larger than {self.claim.matters:g}"
        if self.p_holm is None or not self.p_holm < LEVEL:
            return "under way" if any(e.p is None for e in self.estimates) else "inconclusive"
        return "supported" if self.differs[1] else "refuted"


def judge(results: Results, *, seeds: int, claims: Sequence[Claim] = CLAIMS) -> list[Judged]:
    """Each claim, with Holm over the two tests, of a difference and of none that matters, of all of them. A contrast
    whose arms lack some of their `seeds` is measured and not tested; its claim counts among the tests all the same."""

    def hardness(one: Estimate) -> tuple:  # an interval below 0, what was not measured, the rest; each by how clear
        if one.value is None:
            return (1, 0.0)
        return (0 if one.high < 0 else 2, one.value / ((one.high - one.low) or 1.0))

    judged = []
    for claim in claims:
        each = [measure(contrast, results) for contrast in claim.contrasts]
        each = [e if len(e.seeds) >= seeds else replace(e, p=None, p_same=None) for e in each]
        judged.append(Judged(claim, tuple(sorted(each, key=hardness))))
    tests = [(n, name, p) for n, one in enumerate(judged) for name, p in (("p_holm", one.differs[0]), (
        "p_same", one.same))]
    for (n, name, p), corrected in zip(tests, holm([1.0 if p is None else p for *_, p in tests]), strict=True):
        judged[n] = replace(judged[n], **{name: corrected}) if p is not None else judged[n]
    return judged


def measure(contrast: Contrast, results: Results) -> Estimate:
    """The contrast over the seeds that all of its arms have; the base, which has one run, counts for every seed."""
    arms = [arm for arm, _ in contrast.weights]
    having = [set(results.get(arm, {})) for arm in arms if arm != BASE] or [set(results.get(BASE, {}))]
    seeds = tuple(sorted(set.intersection(*having)))
    if not seeds or (BASE in arms and not results.get(BASE)):
        return Estimate(contrast, ())
    names = {column for name in F1S.get(contrast.metric, (contrast.metric,)) for column in RATIOS[name]}
    columns = sorted(COLUMNS.index(name) for name in names)
    blocks = np.stack([_table(contrast, results, seed, columns) for seed in seeds])
    weights = np.array([weight for _, weight in contrast.weights])

    def statistic(sums: np.ndarray) -> np.ndarray:  # (..., splits x arms x columns) to (...), the mean over splits
        shape = (*sums.shape[:-1], len(contrast.splits), len(arms))
        full = np.zeros((*shape, len(COLUMNS)))
        full[..., columns] = sums.reshape(*shape, len(columns))
        return (ratios(full, [contrast.metric])[contrast.metric] @ weights).mean(axis=-1)

    if np.isnan(statistic(blocks.sum(axis=1))).any():  # nothing of the kind was asked
        return Estimate(contrast, ())
    summary = summarise_seeds(blocks, statistic)
    error, mean, sampling = summary.error, summary.mean, tuple(map(tidy, summary.sampling))
    low, high = map(tidy, summary.both if error else summary.sampling)
    found = Estimate(contrast, seeds, tidy(mean), low, high, tidy(summary.spread), sampling)
    if not error:
        return found
    found = replace(found, p=tidy(error.p_value(mean)), seen=tidy(error.seen(LEVEL)))
    if (matters := MATTERS.get(contrast.metric)) is None:
        return found
    near = matters - abs(mean)  # the nearer of the two bounds decides
    same = error.p_value(near) / 2
    return replace(found, p_same=tidy(same if near > 0 else 1 - same), needed=error.seeds_for(matters, LEVEL / 30))


def correct(estimates: Sequence[Estimate]) -> list[Estimate]:
    """The same with Holm's p over those that have one."""
    tested = [e for e in estimates if e.p is not None]
    corrected = dict(zip(map(id, tested), holm([e.p for e in tested]), strict=True))
    return [replace(e, p_holm=corrected.get(id(e))) for e in estimates]


def claims_json(chosen: Mapping[str, Setting], results: Results, judged: Sequence[Judged],
                recommended: str | None) -> dict:
    """What claims.json holds; `chosen` are the settings of the arms."""

    def describe(arm: str, split: str, metric: str) -> dict:  # the mean over the arm's seeds
        one = measure(Contrast(metric, ((arm, 1.0),), (split,)), results)
        return {"value": one.value, "low": one.low, "high": one.high}

    arms = {arm: {"settings": asdict(chosen[arm]) if arm in chosen else {}, "seeds": sorted(runs)} | {
        split: {metric: describe(arm, split, metric) for metric in METRICS} for split in SPLITS}
        for arm, runs in results.items() if runs}
    return {"arms": arms, "claims": told(judged), "recommended": recommended}


def told(judged: Sequence[Judged]) -> list[dict]:
    """Each claim as JSON, by the estimate that is hardest on it."""
    return [{
        "id": one.claim.id, "statement": one.claim.statement, "metric": hard.contrast.metric, "estimate": hard.value,
        "low": hard.low, "high": hard.high, "matters": one.claim.matters, "p_holm": one.p_holm, "p_same": one.p_same,
        "verdict": one.verdict,
    } for one in judged for hard in one.estimates[:1]]  # fmt: skip


def _table(contrast: Contrast, results: Results, seed: int, columns: list[int]) -> np.ndarray:
    """(images of all splits, splits x arms x columns): an image has counts in its own split's columns alone."""
    parts = []
    for number, split in enumerate(contrast.splits):
        arms = [counts_of(results[arm][0 if arm == BASE else seed], split)[:, columns] for arm, _ in contrast.weights]
        block = np.zeros((len(arms[0]), len(contrast.splits), len(arms), len(columns)))
        block[:, number] = np.stack(arms, axis=1)
        parts.append(block.reshape(len(block), -1))
    return np.concatenate(parts)


def counts_of(row: Mapping, split: str) -> np.ndarray:
    """(images, COLUMNS) of a run: packed by split, or, on real images, whose test is one, a list for each column."""
    if split in row["counts"]:
        return unpack(row["counts"][split])
    table = np.zeros((len(next(iter(row["counts"].values()))), len(COLUMNS)))
    for name, values in row["counts"].items():
        table[:, COLUMNS.index(name)] = values
    return table
