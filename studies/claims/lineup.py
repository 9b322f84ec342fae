"""The line-up: every arm that the claims are about, which pairs it learns from, and what is searched for it.

All arms learn from the same number of pairs in the same number of steps. An arm either has a search of its own
(learning rate x beta, then its own weight), or it is a control and takes what was chosen for the arm that it differs
from in one thing, so that nothing but that thing can make the difference.
"""

from dataclasses import dataclass, field

from medalign_lite.losses.recipes import GAMMA
from medalign_lite.train.settings import TrainSettings

PAIRS = 320  # that each arm learns from
EPOCHS, BATCH = 2, 16  # 40 steps
RANK, ALPHA = 16, 32.0
RATES, BETAS = (1e-4, 3e-4), (0.1, 0.5)
BASE = "base"


@dataclass(frozen=True)
class Arm:
    """One arm. `says`: what it is, in a phrase. `fixed`: overrides of its recipe.

    pairs: `edits`, the model's own wrong answer against its correction; `reference`, against the reference text;
    `counterfactual`, its right answer against a false edit. evidence, what a corrupted image shows: `lesion`, noise
    on the lesion; `removed`, the lesion (and as much of another place) filled from its surroundings; `same`, the clean
    image; `whole`, noise everywhere; `control`, noise beside the lesion. rounds: the budget is divided among them.
    rates, betas: its grid; own: its own weight and the values of it, the first of which goes with the grid. like: the
    arm whose settings it takes, in place of a search. tier: 1 is run first.
    """

    name: str
    says: str
    recipe: str = ""
    fixed: dict = field(default_factory=dict)
    pairs: str = "edits"
    evidence: str = "lesion"
    rounds: int = 1
    rates: tuple[float, ...] = RATES
    betas: tuple[float, ...] = BETAS
    own: tuple[str, tuple[float, ...]] | None = None
    like: str | None = None
    ours: bool = False
    tier: int = 1

    def points(self) -> list[dict]:
        """The grid without the further values of the own weight: settings by name."""
        first = {self.own[0]: self.own[1][0]} if self.own else {}
        return [{"learning_rate": rate} | ({"beta": beta} if beta else {}) | first
                for rate in self.rates for beta in self.betas or (None,)]

    def further(self, best: dict) -> list[dict]:
        """The best point of the grid with the other values of the own weight."""
        return [best | {self.own[0]: value} for value in self.own[1][1:]] if self.own else []


def _fire(name: str, says: str, *, tier: int = 2, evidence: str = "lesion", **changes) -> Arm:
    """A control of fire-mpo: all of its settings but `changes`."""
    return Arm(name, says, "fire-mpo", changes, evidence=evidence, like="fire-mpo", tier=tier)


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(BASE, "the model itself", rates=()),
        Arm("dpo", "DPO on the model's own answers, minimally edited", "dpo"),
        Arm("mask-dpo", "the same over the edited spans only", "mask-dpo"),
        Arm("fire-mpo", "the paper's method: spans, flip and both KL", "fire-mpo", own=("alpha", (0.01, 0.1))),
        Arm("dpo-reference", "DPO with the reference text as chosen", "dpo", pairs="reference"),
        Arm("neutral-control", "ours: no evidence, no opinion; a control; KL outside the spans", "neutral-control",
            own=("alpha", (0.1, 0.3)), ours=True),
        Arm("neutral-nll", "ours, with the likelihood of the corrected answer", "neutral-control", {"nll": 0.5},
            own=("alpha", (0.1, 0.3)), ours=True, tier=2),
        Arm("grounded", "ours: neutral-nll that prefers the answer with the lesion there to the same with it removed",
            "grounded", evidence="removed", like="neutral-nll", ours=True, tier=2),
        _fire("cdpo", "fire-mpo without images: label smoothing in place of the flip", tier=1,
              gamma=0.0, smoothing=GAMMA / (1 + GAMMA)),
        _fire("same-image", "fire-mpo with the clean image as the corrupted one", evidence="same", tier=1),
        _fire("whole-noise", "fire-mpo with noise over the whole image", evidence="whole", tier=1),
        Arm("sft-edits", "plain likelihood of the corrected answer", "sft-edits",
            rates=(1e-4, 3e-4, 1e-3), betas=(), tier=2),
        Arm("sft-gold", "plain likelihood of the reference text", "sft-gold",
            rates=(3e-5, 1e-4, 3e-4), betas=(), tier=2),
        Arm("rrpo", "span margin with the forward KL over the whole answer", "rrpo",
            own=("alpha", (0.01, 0.1)), tier=2),
        Arm("mdpo", "DPO, conditional on the image, anchored", "mdpo", own=("gamma", (1.0, 0.3)), tier=2),
        _fire("span", "fire-mpo without flip and without KL", gamma=0.0, alpha=0.0, tier=3),
        _fire("span-forward", "fire-mpo without flip, forward KL alone", gamma=0.0, lam=1.0, tier=3),
        _fire("span-reverse", "fire-mpo without flip, reverse KL alone", gamma=0.0, lam=0.0, tier=3),
        _fire("span-both", "fire-mpo without flip, both KL", gamma=0.0, tier=3),
        _fire("flip", "fire-mpo without KL", alpha=0.0, tier=3),
        _fire("flip-forward", "fire-mpo, forward KL alone", lam=1.0, tier=3),
        _fire("flip-reverse", "fire-mpo, reverse KL alone", lam=0.0, tier=3),
        _fire("removed-lesion", "fire-mpo with the lesion removed, not covered with noise", evidence="removed", tier=3),
        _fire("control-as-lesion", "fire-mpo with the noise beside the lesion", evidence="control", tier=3),
        Arm("flip-outside", "neutral-control with flip in place of neutral and control", "neutral-control",
            {"ground": "flip", "kappa": 0.0}, like="neutral-control", tier=2),
        Arm("two-rounds", "neutral-control in two rounds of half the pairs each", "neutral-control", rounds=2,
            like="neutral-control", ours=True, tier=2),
        Arm("neutral", "neutral-control without the control", "neutral-control", {"kappa": 0.0},
            like="neutral-control", tier=4),
        Arm("dpo-counterfactual", "DPO on right answers against false edits of them", "dpo",
            pairs="counterfactual", tier=4),
        Arm("ddpo", "dense DPO (RLHF-V)", "ddpo", own=("w_kind", (5.0, 2.0)), tier=4),
        Arm("tdpo2", "token-level DPO", "tdpo2", own=("sequence_kl", (0.5, 1.0)), tier=4),
        Arm("mmedpo", "joint image and text preference (MMedPO)", "mmedpo", tier=4),
        Arm("simpo", "reference-free, length-normalised", "simpo", betas=(1.0, 2.0),
            own=("target_margin", (1.0, 0.5)), tier=4),
    )
}

# a confirmation asks about the published methods, the recipe that choice.py names, its neighbours, and the default
CONFIRMED = (BASE, "dpo", "mask-dpo", "fire-mpo", "dpo-reference", "sft-edits", "sft-gold", "rrpo", "mdpo", "ddpo",
             "tdpo2", "mmedpo", "simpo", "flip-outside", "neutral", "grounded")


def train_settings(arm: Arm, point: dict, *, seed: int) -> TrainSettings:
    """The arm's training run at one point of its search; in each of its rounds, where there are several."""
    overrides = {name: value for name, value in point.items() if name != "learning_rate"} | arm.fixed
    return TrainSettings(
        recipe=arm.recipe, overrides=overrides, learning_rate=point["learning_rate"], epochs=EPOCHS, batch_size=BATCH,
        rank=RANK, alpha=ALPHA, seed=seed,
    )  # fmt: skip
