"""Recipes: published methods as settings of one objective (the equation is in `objective.py`), by name.

`recipe_named("fire-mpo", beta=0.5)` gives a setting with overrides; whatever is unknown or contradicts itself raises.
"""

from dataclasses import dataclass, fields, replace

from medalign_lite.text.spans import KINDS

CHOICES = {
    "normaliser": ("none", "span", "length"), "ground": ("flip", "neutral", "conditional", "joint"),
    "control": ("keep", "match"), "gate": ("always", "positive", "reactive"),
    "kl_tokens": ("phrase", "all", "outside", "weighted"), "nll_answer": ("chosen", "gold"),
}
WEIGHTS = ("preference", "gamma", "kappa", "eta", "alpha", "nll", "sequence_kl")

EVERYWHERE, NOWHERE = (True,) * (1 + len(KINDS)), (False,) * (1 + len(KINDS))


@dataclass(frozen=True)
class Reads:
    """At which answer tokens a term reads log p, and F and R: by token kind, 0 outside spans, else 1 + KINDS.index."""

    logp: tuple[bool, ...] = EVERYWHERE
    kl: tuple[bool, ...] = NOWHERE

    def __or__(self, other: "Reads") -> "Reads":
        """What either reads."""
        return Reads(*(tuple(a or b for a, b in zip(ours, theirs, strict=True))
                       for ours, theirs in ((self.logp, other.logp), (self.kl, other.kl))))


@dataclass(frozen=True)
class Recipe:
    """One setting of the objective. A term whose weight is 0 is absent and its forward passes are not run.

    beta: scale of the margin. w_bg, w_kind: token weights outside and inside spans (w_kind: one number, or one per
    span kind). normaliser: N(y). preference: weight of -log σ(m(v)), with label `smoothing` ε in [0, ½) and a
    `target_margin` in nats. reference False: Δ is log π itself. sequence_kl: TDPO's a; stop_chosen_kl: no gradient
    through ΣF(y+). gamma, ground: lesion corrupted. kappa, control: corrupted elsewhere. gate, gate_nats: which records
    feel these two. eta, delta: anchor and its offset in nats. alpha, lam, kl_tokens, kl_answers: token KL, λ, k_t, and
    the answers (clean image) over which it is summed. nll, nll_answer: mean-per-token likelihood.
    Raises ValueError or TypeError on settings that are unknown or contradict each other."""

    name: str
    beta: float = 0.1
    w_bg: float = 1.0
    w_kind: float | tuple[float, ...] = 1.0
    normaliser: str = "none"
    preference: float = 1.0
    smoothing: float = 0.0
    target_margin: float = 0.0
    reference: bool = True
    sequence_kl: float = 0.0
    stop_chosen_kl: bool = False
    gamma: float = 0.0
    ground: str = "flip"
    kappa: float = 0.0
    control: str = "keep"
    gate: str = "always"
    gate_nats: float = 0.1
    eta: float = 0.0
    delta: float = 0.0
    alpha: float = 0.0
    lam: float = 0.5
    kl_tokens: str = "phrase"
    kl_answers: tuple[str, ...] = ("chosen",)
    nll: float = 0.0
    nll_answer: str = "chosen"

    def __post_init__(self):
        for field in fields(self):
            value, default = vars(self)[field.name], field.default
            told = f"recipe {self.name!r}: {field.name}={value!r}"
            if isinstance(default, bool) != isinstance(value, bool):
                wanted = "true or false" if isinstance(default, bool) else "a number or a name"
                raise TypeError(f"{told} is not {wanted}")
            several = field.name == "w_kind" and isinstance(value, tuple)
            if isinstance(default, float) and not (several or isinstance(value, int | float)):
                raise TypeError(f"{told} is not a number")
            if isinstance(value, float) and not abs(value) < float("inf"):
                raise ValueError(f"{told} is not finite")
        for problem in self._problems():
            raise ValueError(f"recipe {self.name!r}: {problem}")

    def _problems(self):
        for name, allowed in CHOICES.items():
            if vars(self)[name] not in allowed:
                yield f"{name}={vars(self)[name]!r}; allowed: {', '.join(allowed)}"
        if not self.kl_answers or set(self.kl_answers) - {"chosen", "rejected"}:
            yield f"kl_answers={self.kl_answers!r}; allowed: chosen, rejected, or both"
        kinds = self.w_kind if isinstance(self.w_kind, tuple) else (self.w_kind,)
        if not all(isinstance(w, int | float) and w >= 0 for w in (self.w_bg, *kinds)):
            yield f"token weights w_bg={self.w_bg}, w_kind={self.w_kind} must be numbers, none negative"
        if negative := [name for name in (*WEIGHTS, "gate_nats", "target_margin") if vars(self)[name] < 0]:
            yield f"{', '.join(negative)} must not be negative"
        if self.beta <= 0 or not 0 <= self.lam <= 1 or not 0 <= self.smoothing < 0.5:
            yield "beta must be above 0, lam in [0, 1], smoothing in [0, 0.5)"
        if not (self.preference or self.gamma or self.alpha or self.nll):
            yield "nothing to learn: preference, gamma, alpha and nll are all 0"
        if not self.reference and (self.alpha or self.eta or self.sequence_kl or self.gamma or self.kappa):
            yield "reference=False has nothing to compare with: gamma, kappa, eta, alpha and sequence_kl must be 0"
        if not self.preference and (self.smoothing or self.target_margin or self.sequence_kl):
            yield "smoothing, target_margin and sequence_kl change the preference term, whose weight is 0"
        if self.smoothing and self.target_margin:
            yield "smoothing and target_margin cannot be combined"
        if self.stop_chosen_kl and not self.sequence_kl:
            yield "stop_chosen_kl=True needs sequence_kl above 0"
        if self.gate != "always" and not (self.gamma or self.kappa):
            yield f"gate={self.gate!r} needs gamma or kappa above 0"
        if not (self.w_bg or any(kinds)) and (self.preference or self.gamma or self.kappa):
            yield "every token weight is 0, so every margin is 0"

    @property
    def compares(self) -> bool:
        """Whether m(v) enters the loss."""
        return bool(self.preference or (self.kappa and self.control == "match"))

    def sides(self) -> dict[tuple[str, str], Reads]:
        """The forward passes that the terms read: (image, answer) -> at which tokens they read log p, and F and R."""
        kinds = self.w_kind if isinstance(self.w_kind, tuple) else (self.w_kind,) * len(KINDS)
        weighted = tuple(bool(weight) for weight in (self.w_bg, *kinds))  # where w_t is not 0
        inside = tuple(code > 0 for code in range(1 + len(KINDS)))
        kl = {"phrase": inside, "outside": tuple(not place for place in inside), "all": EVERYWHERE,
              "weighted": weighted}[self.kl_tokens]  # where k_t is not 0
        found = {}

        def read(image: str, answer: str, *, logp=NOWHERE, kl=NOWHERE) -> None:
            found[image, answer] = found.get((image, answer), Reads(logp=NOWHERE)) | Reads(logp, kl)

        for image, answer in self._compared():
            read(image, answer, logp=weighted)
        if self.eta:
            read("clean", "chosen", logp=EVERYWHERE)
        if self.nll:
            read("clean", self.nll_answer, logp=EVERYWHERE)
        for answer in self.kl_answers if self.alpha else ():
            read("clean", answer, kl=kl)
        for answer in ("chosen", "rejected") if self.sequence_kl else ():
            read("clean", answer, kl=EVERYWHERE)
        return found

    def _compared(self) -> list[tuple[str, str]]:
        """Sides whose A(u, y) enters a margin, in the order in which terms name them."""
        both = [("clean", "chosen"), ("clean", "rejected")]
        lesion = [("lesion", "chosen"), ("lesion", "rejected")]
        found = both + lesion if self.gate == "reactive" else []
        found += both if self.compares else []
        if self.gamma:
            only = {"conditional": [both[0], lesion[0]], "joint": [both[0], lesion[1]]}
            found += only.get(self.ground, lesion)
        return found + ([("control", "chosen"), ("control", "rejected")] if self.kappa else [])


GAMMA = 0.1  # weight of the grounding term in the paper, and what `cdpo` must match
MASK = {"w_bg": 0.0, "w_kind": 1.0}

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        # Rafailov et al. 2023, eq. 7: -log σ(β [log π/π_ref (y+) - log π/π_ref (y-)])
        Recipe("dpo"),
        # The same over edited spans only: w = mask
        Recipe("mask-dpo", **MASK),
        # Dense DPO, RLHF-V (Yu et al. 2024, eq. 4): score = 1/N [Σ_unchanged log π + g Σ_changed log π], N = Σ w
        Recipe("ddpo", w_kind=5.0, normaliser="span", beta=0.5),
        # RRPO (Sarkar and Etemad 2025): phrase margin, and the forward KL over all of y+
        Recipe("rrpo", **MASK, alpha=0.01, lam=1.0, kl_tokens="all"),
        # TDPO (Zeng et al. 2024, eqs. 14-17): -log σ(m - β a [Σ F(y-) - Σ F(y+)])
        Recipe("tdpo1", sequence_kl=1.0),
        Recipe("tdpo2", sequence_kl=0.5, stop_chosen_kl=True),
        # mDPO (Wang et al. 2024): DPO + -log σ(β [A(v, y+) - A(v', y+)]) + -log σ(β Σ Δ(v, y+) - δ)
        Recipe("mdpo", gamma=1.0, ground="conditional", eta=1.0),
        # MMedPO (Zhu et al. 2024): -log σ(β [A(v, y+) - A(v', y-)]); records without a lesion image teach nothing
        Recipe("mmedpo", preference=0.0, gamma=1.0, ground="joint"),
        # SimPO (Meng et al. 2024, eq. 6): -log σ(β/|y+| log π(y+) - β/|y-| log π(y-) - target)
        Recipe("simpo", reference=False, normaliser="length", beta=2.0, target_margin=1.0),
        # FiRe-MPO (arXiv 2606.12590), its defaults: span margin + γ flip + α Σ mask [½F + ½R]
        Recipe("fire-mpo", **MASK, gamma=GAMMA, ground="flip", alpha=0.01, lam=0.5, kl_tokens="phrase"),
        # Conservative DPO (Mitchell 2023) over the spans, ε = γ/(1+γ): what the margin and `flip` terms together are,
        # up to a factor 1+γ, when the corruption cannot be seen
        Recipe("cdpo", **MASK, smoothing=GAMMA / (1 + GAMMA)),
        # Plain likelihood of the reference answer, or of the corrected answer
        Recipe("sft-gold", preference=0.0, reference=False, nll=1.0, nll_answer="gold"),
        Recipe("sft-edits", preference=0.0, reference=False, nll=1.0),
        # Ours: no evidence, no opinion; a corruption elsewhere changes nothing; the rest of the text stays as it was
        Recipe("neutral-control", **MASK, beta=0.5, gamma=0.1, ground="neutral", kappa=0.2, control="keep",
               alpha=0.1, kl_tokens="outside", kl_answers=("chosen", "rejected")),
        # Ours, the default: the corrected answer is likelier with the lesion there than with it removed, and with
        # another place filled the preference holds; likelihood of the correction; the rest of the text stays as it was
        Recipe("grounded", **MASK, beta=0.5, gamma=3.0, ground="conditional", kappa=1.0, control="keep",
               alpha=0.1, kl_tokens="outside", kl_answers=("chosen", "rejected"), nll=0.5),
    )
}


def recipe_named(name: str, **overrides) -> Recipe:
    """The recipe called `name` with some settings replaced. ValueError lists what is allowed when one is unknown."""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; allowed: {', '.join(RECIPES)}")
    allowed = [field.name for field in fields(Recipe) if field.name != "name"]
    if unknown := sorted(set(overrides) - set(allowed)):
        raise ValueError(f"recipe {name!r} has no setting {', '.join(unknown)}; allowed: {', '.join(allowed)}")
    return replace(RECIPES[name], **overrides)
