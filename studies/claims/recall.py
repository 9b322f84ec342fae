"""Arms at equal recall: an arm that says less is right more often, whatever it has learnt.

An arm can always be made to say less: claims that are left out at random lower recall and leave precision and the share
of false findings as they are. So every arm reaches each recall below its own at its own precision, and arms can be
compared at the recall of the one that says least. What an arm would do at more recall than it has, no stored answer
tells.
"""

from collections.abc import Mapping

Arms = Mapping[str, Mapping]  # as in claims.json: {arm: {split: {metric: {"value", ...}}}}


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
    names = ("fact_recall", "hallucination_rate")
    seen = {arm: tuple(value(arms, arm, split, name) for name in names) for arm in arms}
    seen = {arm: pair for arm, pair in seen.items() if None not in pair}
    kept = [arm for arm, (recall, false) in seen.items() if not any(
        r >= recall and f <= false and (r, f) != (recall, false) for r, f in seen.values())]
    return sorted(kept, key=lambda arm: seen[arm][0])
