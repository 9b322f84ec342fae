"""How far people agree: Cohen's κ for two of them, Krippendorff's α for any number, some of whom may have said nothing.

Krippendorff (2011), Computing Krippendorff's Alpha-Reliability: α = 1 - D_o / D_e, the disagreement observed within the
units over the one expected if all values were dealt out at random. 1 is full agreement, 0 chance, below 0 worse.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from statsmodels.stats.inter_rater import cohens_kappa

from medalign_lite.editors.notes import Note, last_judgements
from medalign_lite.text.spans import make_changes

Value = Hashable


class Kappa(NamedTuple):
    """Cohen's κ with its 95 % interval over `units` that both judged; nan where κ is not defined (one value only)."""

    kappa: float
    low: float
    high: float
    units: int


def cohen_kappa(a: Sequence[Value], b: Sequence[Value]) -> Kappa:
    """κ of two raters' values of the same units, nominal; the interval is the asymptotic one (Fleiss et al. 1969)."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values against {len(b)}: give the units that both judged, in one order")
    values, counts = sorted({*a, *b}, key=repr), Counter(zip(a, b))
    if len(values) < 2:
        return Kappa(np.nan, np.nan, np.nan, len(a))
    table = np.array([[counts[x, y] for y in values] for x in values], float)
    found = cohens_kappa(table)
    return Kappa(float(found.kappa), float(found.kappa_low), min(float(found.kappa_upp), 1.0), len(a))


def krippendorff_alpha(raters: Sequence[Mapping[Hashable, Value]]) -> float:
    """α of raters given as {unit: value}; who said nothing of a unit leaves it out. nan where no unit has two values,
    or all values are the same."""
    units = {unit: [rater[unit] for rater in raters if unit in rater] for rater in raters for unit in rater}
    paired = [values for values in units.values() if len(values) > 1]
    counts = Counter(value for values in paired for value in values)
    total = counts.total()  # n, the number of pairable values
    expected = 2 * sum(counts[a] * counts[b] for a, b in combinations(counts, 2))
    if not expected:
        return np.nan
    observed = sum(2 * sum(a != b for a, b in combinations(v, 2)) / (len(v) - 1) for v in paired)
    return 1 - (total - 1) * observed / expected


class Agreement(NamedTuple):
    """How far annotators agree: κ of the verdicts of each two of them, α over all of verdicts and of spans."""

    pairs: Mapping[tuple[str, str], Kappa]
    same_words: Mapping[tuple[str, str], tuple[int, int]]  # (corrected alike, called wrong by both)
    verdicts: float
    spans: float

    def rows(self) -> list[list[str]]:
        """A table for people."""
        rows = [["", "answers of both", "Cohen's κ, 95 %", "same correction"]]
        for pair, found in self.pairs.items():
            alike, both = self.same_words[pair]
            kappa = f"{found.kappa:.2f}  [{found.low:.2f}, {found.high:.2f}]"
            rows.append([" and ".join(pair), str(found.units), "–" if np.isnan(found.kappa) else kappa,
                         f"{alike} of {both}"])  # fmt: skip
        for name, value in (("verdicts", self.verdicts), ("spans kept or changed", self.spans)):
            rows.append([f"Krippendorff's α, {name}", "", "–" if np.isnan(value) else f"{value:.2f}", ""])
        return rows


def agreement(journals: Mapping[str, Iterable[Note]], spans: Mapping[str, Sequence[tuple[int, int]]]) -> Agreement:
    """Of {annotator: notes}, on the answers that `spans` names with the characters of their claims. A verdict is right,
    wrong or unsure. A span is kept or changed by who is not unsure about the answer."""
    said = {
        name: {key: note for key, note in last_judgements(notes).items() if key in spans}
        for name, notes in journals.items()
    }
    verdicts = {name: {key: note.judgement.verdict for key, note in notes.items()} for name, notes in said.items()}
    pairs, same_words = {}, {}
    for a, b in combinations(said, 2):
        both = [key for key in said[a] if key in said[b]]
        pairs[a, b] = cohen_kappa([verdicts[a][key] for key in both], [verdicts[b][key] for key in both])
        wrong = [key for key in both if verdicts[a][key] == verdicts[b][key] == "wrong"]
        texts = [[make_changes(note.answer, note.judgement.changes) for note in map(said[name].get, wrong)]
                 for name in (a, b)]  # fmt: skip
        same_words[a, b] = (sum(x == y for x, y in zip(*texts)), len(wrong))
    changed = [
        {(key, (start, end)): any(max(change.start, start) < min(change.end, end) for change in note.judgement.changes)
         for key, note in notes.items() if note.judgement.verdict != "unsure" for start, end in spans[key]}
        for notes in said.values()
    ]  # fmt: skip
    return Agreement(pairs, same_words, krippendorff_alpha(list(verdicts.values())), krippendorff_alpha(changed))
