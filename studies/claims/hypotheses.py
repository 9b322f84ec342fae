"""The claims, each as contrasts between arms, written down before any of them was measured. 5c and 7c came later: after
other arms' results on test had been seen, and before test or shifted was asked about their own (history.py).

A contrast is a weighted sum of arms in one metric, averaged over test and shifted, and positive if the claim holds. A
claim with several contrasts asks for all of them: it is reported by the one that is hardest on it. MATTERS was set
after the results of these arms were known, and so was the measure of grounding, which was nats before (history.py).
"""

from dataclasses import dataclass

F1, LOOKS, FALSE, CLOSED = "fact_f1", "grounding_probability", "hallucination_rate", "closed_accuracy"
NATS = "grounding_selectivity"  # describes, and decides nothing
MATTERS = {F1: 0.01, FALSE: 0.01, LOOKS: 0.02}  # the smallest effect that does
LOWER_IS_BETTER = (FALSE,)


@dataclass(frozen=True)
class Contrast:
    """Σ weight · metric(arm) on the splits. `says`: which arms, for the page."""

    metric: str
    weights: tuple[tuple[str, float], ...]
    splits: tuple[str, ...] = ("test", "shifted")

    @property
    def says(self) -> str:
        """The arms with their signs."""
        ahead = [arm for arm, weight in self.weights if weight > 0]
        behind = [arm for arm, weight in self.weights if weight < 0]
        return f"{', '.join(ahead)} − {', '.join(behind)}"


@dataclass(frozen=True)
class Claim:
    """One claim. It is supported where every contrast is above 0, refuted where one is below, and of no effect that
    matters where all are nearer to 0 than `matters`."""

    id: str
    statement: str
    contrasts: tuple[Contrast, ...]

    @property
    def matters(self) -> float:
        """The smallest effect that matters in the claim's metric."""
        return MATTERS[self.contrasts[0].metric]


def against(arm: str, other: str, metric: str = F1, splits: tuple[str, ...] = ("test", "shifted")) -> Contrast:
    """The arm less another one; turned round where lower is better."""
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    return Contrast(metric, ((arm, sign), (other, -sign)), splits)


def across(pairs: tuple[tuple[str, str], ...], metric: str = F1) -> Contrast:
    """The mean of several differences (arm, other): one factor at every level of another."""
    share = 1 / len(pairs)
    return Contrast(metric, tuple(one for a, b in pairs for one in ((a, share), (b, -share))))


FULL_METHOD = "fire-mpo"
PUBLISHED = ("dpo", "dpo-reference", "mask-dpo", "ddpo", "rrpo", "tdpo2", "mdpo", "mmedpo", "simpo", "sft-edits",
             "sft-gold")
RIVALS = ("fire-mpo", "dpo", "mdpo", "rrpo", "sft-gold", "sft-edits")

CLAIMS = (
    Claim("1", "On-policy minimal edits beat reference texts as chosen (fact F1)", (against("dpo", "dpo-reference"),)),
    Claim("1b", "Corrections of the model's own errors beat false edits of its right answers (fact F1)",
          (against("dpo", "dpo-counterfactual"),)),
    Claim("2", "Weighting the edited spans beats weighting the whole answer (fact F1)", (against("mask-dpo", "dpo"),)),
    Claim("3a", "The forward KL helps, at α .01 (fact F1)",
          (across((("span-forward", "span"), ("flip-forward", "flip"))),)),
    Claim("3b", "The reverse KL helps, at α .01 (fact F1)",
          (across((("span-reverse", "span"), ("flip-reverse", "flip"))),)),
    Claim("3c", "Both KL beat either alone, at α .01 (fact F1)",
          (across((("span-both", "span-forward"), ("fire-mpo", "flip-forward"))),
           across((("span-both", "span-reverse"), ("fire-mpo", "flip-reverse"))))),
    Claim("4", "The grounding term raises grounding beyond its controls, label smoothing and v' := v",
          (against("fire-mpo", "cdpo", LOOKS), against("fire-mpo", "same-image", LOOKS))),
    Claim("5", "Corrupting the lesion beats noise over the whole image (grounding)",
          (against("fire-mpo", "whole-noise", LOOKS),)),
    Claim("5b", "Corrupting the lesion beats as much noise beside it (grounding)",
          (against("fire-mpo", "control-as-lesion", LOOKS),)),
    Claim("5c", "Removing the lesion beats covering it with noise (grounding)",
          (against("removed-lesion", "fire-mpo", LOOKS),)),
    Claim("6", "The full method beats every published arm (fact F1)",
          tuple(against(FULL_METHOD, other) for other in PUBLISHED)),
    Claim("7", "Ours: neutral grounding with a control beats the flip (grounding)",
          (against("neutral-control", "flip-outside", LOOKS),)),
    Claim("7b", "Ours: neutral grounding with a control beats the flip (fact F1)",
          (against("neutral-control", "flip-outside"),)),
    Claim("7c", "Ours: an image-conditional margin with the lesion removed beats neutral grounding with noise on it "
          "(grounding)", (against("grounded", "neutral-nll", LOOKS),)),
    Claim("8", "Two rounds beat one of the same budget (fact F1)", (against("two-rounds", "neutral-control"),)),
)


def goal(arm: str) -> tuple[Contrast, ...]:
    """What an arm has to win: each rival, in each of three metrics, on each split."""
    return tuple(against(arm, rival, metric, (split,)) for metric in (F1, FALSE, LOOKS) for split in ("test", "shifted")
                 for rival in RIVALS if rival != arm)


def arms_of(claim: Claim) -> list[str]:
    """The arms that the claim compares, each once."""
    return list(dict.fromkeys(arm for contrast in claim.contrasts for arm, _ in contrast.weights))
