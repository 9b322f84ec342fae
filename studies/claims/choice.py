"""Which recipe to recommend: the simplest one that nothing beats.

Of all arms of the confirmation, those whose fact F1 and false findings are, on test and on shifted, within the smallest
effect that matters of the best arm there; of these the one with the fewest terms in its loss, then the most F1.

And arms at equal recall, since an arm that says less is right more often, whatever it has learnt: claims that are left
out at random lower recall and leave precision and the share of false findings as they are. So every arm reaches each
recall below its own at its own precision, and arms can be compared at the recall of the one that says least. What an
arm would do at more recall than it has, no stored answer tells.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from medalign_lite.evaluate.metrics import ratios
from medalign_lite.losses.recipes import WEIGHTS
from studies.claims.hypotheses import F1, FALSE, LOWER_IS_BETTER, MATTERS, against
from studies.claims.lineup import BASE, METHODS, Setting
from studies.claims.pool import Sizes
from studies.claims.store import unpack
from studies.claims.verdicts import SPLITS, Estimate, Results, correct, measure

Arms = Mapping[str, Mapping]  # as in claims.json: {arm: {split: {metric: {"value", ...}}}}
PLACES = tuple((metric, split) for metric in (F1, FALSE) for split in SPLITS)
RULE = (f"the fewest terms in the loss, among the arms that are within {MATTERS[F1]:g} of the best arm in fact F1 and "
        f"within {MATTERS[FALSE]:g} in false findings, on test and on shifted")


def waiting(results: Results, sizes: Sizes) -> list[str]:
    """The arms that must be asked before one is recommended, and were not: every method, or a small run's own."""
    return [arm for arm in sizes.arms or METHODS if not results.get(arm)]


def terms(setting: Setting) -> int:
    """How many terms the loss has."""
    recipe = setting.training(0).resolved_recipe()
    return sum(getattr(recipe, weight) > 0 for weight in WEIGHTS)


def behind(results: Results, seeds: Sequence[int] | None = None) -> dict[str, list[float]]:
    """{arm: how far it is behind the best arm in each of PLACES}, means over these seeds (all where none are named)."""
    def seen(run: Mapping, metric: str, split: str) -> float:
        return float(ratios(unpack(run["counts"][split]).sum(axis=0), [metric])[metric])

    used = {arm: [runs[seed] for seed in (seeds or runs) if seed in runs] for arm, runs in results.items()}
    means = {arm: [np.mean([seen(run, *place) for run in runs]) for place in PLACES]
             for arm, runs in used.items() if arm != BASE and runs}
    signs = np.array([-1.0 if metric in LOWER_IS_BETTER else 1.0 for metric, _ in PLACES])
    best = np.max([signs * row for row in means.values()], axis=0) if means else signs
    return {arm: list(best - signs * row) for arm, row in means.items()}


def near(found: Mapping[str, Sequence[float]], chosen: Mapping[str, Setting]) -> list[str]:
    """The arms within what matters of the best everywhere, the one to recommend first."""
    able = [arm for arm, gaps in found.items() if all(
        gap <= MATTERS[metric] for gap, (metric, _) in zip(gaps, PLACES, strict=True))]
    return sorted(able, key=lambda arm: (terms(chosen[arm]), found[arm][0] + found[arm][1]))


def beaten_by(results: Results, arm: str) -> list[Estimate]:
    """The arm against every other in each of PLACES, with Holm over all; `refuted` are those that beat it."""
    return correct([measure(against(arm, other, metric, (split,)), results) for metric, split in PLACES
                    for other in results if other not in (arm, BASE) and results[other]])


def value(arms: Arms, arm: str, split: str, metric: str) -> float | None:
    """The arm's mean over seeds."""
    return arms[arm][split][metric]["value"]


def thinned_f1(arms: Arms, arm: str, split: str, recall: float) -> float | None:
    """F1 of the arm with claims left out at random until its recall is this; None where it is below."""
    own, precision = (value(arms, arm, split, name) for name in ("fact_recall", "fact_precision"))
    if None in (own, precision) or own < recall or not precision + recall:
        return None
    return 2 * precision * recall / (precision + recall)


def frontier(arms: Arms, split: str) -> list[str]:
    """The arms that no other has both more recall and fewer false findings than, by recall."""
    seen = {arm: tuple(value(arms, arm, split, name) for name in ("fact_recall", FALSE)) for arm in arms}
    seen = {arm: pair for arm, pair in seen.items() if None not in pair}
    kept = [arm for arm, (recall, false) in seen.items() if not any(
        r >= recall and f <= false and (r, f) != (recall, false) for r, f in seen.values())]
    return sorted(kept, key=lambda arm: seen[arm][0])
