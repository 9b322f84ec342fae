"""Whether p(yes) means what it says: expected calibration error, Brier score and the reliability diagram's data.

All come from sums per bin of p(yes), so that a bootstrap can draw images (`stats.bootstrap` with `calibration`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from medalign_lite.cases.case import Case
from medalign_lite.text.says import yes_no

BINS = 10


@dataclass(frozen=True)
class Gap:
    """log p("Yes") - log p("No") in nats of one arm after one yes/no question."""

    case_id: str
    question_id: str
    arm: str
    gap: float


@dataclass(frozen=True)
class Reliability:
    """One entry a bin of p(yes), each (B,): its `low` and `high` edge, questions `n`, their mean p and share of yes.
    mean_p and yes_share are NaN in an empty bin."""

    low: np.ndarray
    high: np.ndarray
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

    groups: the image group of each question. A p on an edge belongs to the bin above it, p = 1 to the last one.
    Raises ValueError for arrays of different lengths and for a p outside 0..1 (NaN included)."""
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
    edges = np.arange(len(sums) + 1) / len(sums)
    n, p, yes = np.asarray(sums, float)[:, :3].T
    mean = [np.divide(top, n, out=np.full_like(n, np.nan), where=n > 0) for top in (p, yes)]
    return Reliability(edges[:-1], edges[1:], n, *mean)
