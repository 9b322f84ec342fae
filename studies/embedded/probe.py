"""A linear probe: does the frozen vision tower encode a finding and its side, whatever the language says?"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import mannwhitneyu

from medalign_lite.text.facts import FINDINGS, Fact

LABELS = tuple((f, side) for f in FINDINGS for side in ((None,) if f == "cardiomegaly" else ("right", "left")))


def probe_labels(tables: Sequence[Sequence[Fact]]) -> np.ndarray:
    """1 / 0 per person and `LABELS` (N, labels); NaN where the finding is there but cannot be seen."""
    labels = np.zeros((len(tables), len(LABELS)))
    for row, facts in zip(labels, tables, strict=True):
        for fact in (fact for fact in facts if (fact.finding, fact.side) in LABELS):
            row[LABELS.index((fact.finding, fact.side))] = 1.0 if fact.visible else np.nan
    return labels


def fit_probe(features: torch.Tensor, labels: np.ndarray) -> torch.nn.Linear:
    """L2-penalised logistic regression of labels (N, labels) on standardised features (N, D), by L-BFGS."""
    probe = torch.nn.Linear(features.shape[1], labels.shape[1])
    torch.nn.init.zeros_(probe.weight)
    torch.nn.init.zeros_(probe.bias)
    known = torch.from_numpy(~np.isnan(labels))
    target = torch.from_numpy(np.nan_to_num(labels)).float()
    optimizer = torch.optim.LBFGS(probe.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        nll = torch.nn.functional.binary_cross_entropy_with_logits(probe(features), target, reduction="none")
        loss = (nll * known).sum() / len(features) + 3e-3 * probe.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return probe


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve = P(score of a positive > score of a negative), ties half; NaN labels left out."""
    above, below = (scores[labels == kind].astype(float) for kind in (1, 0))
    if not len(above) or not len(below):
        return float("nan")
    return float(mannwhitneyu(above, below, method="asymptotic").statistic / (len(above) * len(below)))


def probe_aucs(train, train_tables, test, test_tables) -> dict[str, float]:
    """Held-out AUC per finding and side: features (N, D) and tables of facts for fitting and for testing."""
    mean, spread = train.mean(0), train.std(0) + 1e-6
    probe = fit_probe((train - mean) / spread, probe_labels(train_tables))
    with torch.no_grad():
        scores = probe((test - mean) / spread).numpy()
    return {" ".join(filter(None, label)): auc(*columns)
            for label, *columns in zip(LABELS, scores.T, probe_labels(test_tables).T, strict=True)}
