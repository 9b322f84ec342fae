"""The objective: pure functions from per-token log-probabilities to one loss per record.

Notation: u is an image (v clean, v' lesion corrupted, v° control corrupted), y an answer, w_t token weights,
Δ_t = log π(y_t) - log π_ref(y_t), A(u, y) = Σ_t w_t Δ_t / N(y), and m(u) = β [A(u, y+) - A(u, y-)] the margin.

    L = p · pref(m(v)) + γ a' ground + κ a° control + η anchor + α Σ_t k_t [λ F_t + (1-λ) R_t] + ν NLL

F_t = KL(π_ref ‖ π) and R_t = KL(π ‖ π_ref) per token over the full vocabulary are in `divergence.py`, recipes (settings
of L by name) in `recipes.py`. Losses stay per record; the mean is taken last, by the caller; everything is in nats.
The method is that of Mohammadizadehsamakosh et al. 2026 (arXiv 2606.12590); `neutral` and the control term are ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from medalign_lite.losses.recipes import Recipe


@dataclass(frozen=True)
class Side:
    """One answer read under one image. B records, C completion positions (padded at the end).

    logp, ref_logp: (B, C) log-probability of the token that stands there; `ref_logp` None where no term reads it.
    kinds: (B, C) long, 0 outside every span, else 1 + index of the span's kind. valid: (B, C) bool, False is padding.
    forward_kl, reverse_kl: (B, C) F_t and R_t, or None where no term reads them."""

    logp: Tensor
    kinds: Tensor
    valid: Tensor
    ref_logp: Tensor | None = None
    forward_kl: Tensor | None = None
    reverse_kl: Tensor | None = None


@dataclass(frozen=True)
class Terms:
    """What a batch offers to the objective: sides by (image, answer) and which corrupted images exist. Images are
    "clean", "lesion", "control"; answers "chosen", "rejected", "gold". has_lesion, has_control and positive (the record
    is about a finding that is there) are (B,) bool. Rows without an image may hold anything, even NaN."""

    sides: Mapping[tuple[str, str], Side]
    has_lesion: Tensor
    has_control: Tensor
    positive: Tensor

    def side(self, image: str, answer: str) -> Side:
        """The side read under `image`; ValueError names the forward pass that is missing."""
        if (image, answer) not in self.sides:
            raise ValueError(f"the objective reads ({image}, {answer}), which was not scored: have {list(self.sides)}")
        return self.sides[image, answer]


@dataclass(frozen=True)
class Losses:
    """loss: (B,), its graph attached. parts: (B,) each, detached: the terms before their weights, margins and gates."""

    loss: Tensor
    parts: dict[str, Tensor]


def token_weights(kinds: Tensor, valid: Tensor, *, background: float, kind: float | Sequence[float],
                  dtype: torch.dtype = torch.float32) -> Tensor:
    """w_t = w_bg + (w_kind - w_bg) · mask_t, and 0 at padding, (B, C). `kind`: one weight, or one per span kind."""
    if isinstance(kind, int | float):
        table, index = [background, kind], (kinds > 0).long()
    else:
        table, index = [background, *kind], kinds
    return torch.tensor(table, dtype=dtype, device=kinds.device)[index] * valid


def normaliser(weights: Tensor, valid: Tensor, *, choice: str) -> Tensor:
    """N(y), (B,): `none` 1, `span` Σ_t w_t, `length` |y|. An empty row divides by 1, so that its A is 0."""
    total = {"none": valid.any(-1), "span": weights.sum(-1), "length": valid.sum(-1)}[choice].to(weights.dtype)
    return torch.where(total == 0, torch.ones_like(total), total)


def weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """Σ_t w_t x_t, (B,). Where w_t = 0 the value is not read (it may be NaN) and its gradient is exactly 0."""
    return (weights * torch.where(weights != 0, values, torch.zeros_like(values))).sum(-1)


def advantage(side: Side, *, weights: Tensor, choice: str, reference: bool = True) -> Tensor:
    """A(u, y) = Σ_t w_t Δ_t / N(y), (B,); without a reference Δ_t is log π itself. Weights carry no gradient."""
    delta = side.logp - side.ref_logp.detach() if reference else side.logp
    return weighted_sum(delta, weights.to(delta.dtype)) / normaliser(weights, side.valid, choice=choice).to(delta.dtype)


def margin(chosen: Tensor, rejected: Tensor, *, beta: float) -> Tensor:
    """m(u) = β [A(u, y+) - A(u, y-)], (B,)."""
    return beta * (chosen - rejected)


def preference(m: Tensor, *, smoothing: float = 0.0, target: float = 0.0) -> Tensor:
    """-log σ(m - target); with smoothing ε: (1-ε) sp(-m) + ε sp(m), conservative DPO (Mitchell 2023). (B,)."""
    return -(1 - smoothing) * logsigmoid(m - target) - smoothing * logsigmoid(target - m)


def ground_flip(m_lesion: Tensor) -> Tensor:
    """-log σ(-m(v')): the preference reverses when its evidence is gone (FiRe-MPO)."""
    return -logsigmoid(-m_lesion)


def ground_neutral(m_lesion: Tensor) -> Tensor:
    """½ m(v')²: no evidence, no opinion (ours)."""
    return 0.5 * m_lesion.square()


def ground_conditional(chosen: Tensor, chosen_lesion: Tensor, *, beta: float) -> Tensor:
    """-log σ(β [A(v, y+) - A(v', y+)]) (mDPO, Wang et al. 2024)."""
    return -logsigmoid(beta * (chosen - chosen_lesion))


def ground_joint(chosen: Tensor, rejected_lesion: Tensor, *, beta: float) -> Tensor:
    """-log σ(β [A(v, y+) - A(v', y-)]) (MMedPO, Zhu et al. 2024)."""
    return -logsigmoid(beta * (chosen - rejected_lesion))


def control_keep(m_control: Tensor) -> Tensor:
    """-log σ(m(v°)): a corruption beside the evidence changes nothing (ours)."""
    return -logsigmoid(m_control)


def control_match(m_control: Tensor, m: Tensor) -> Tensor:
    """½ (m(v°) - sg m(v))² (ours)."""
    return 0.5 * (m_control - m.detach()).square()


def anchor(side: Side, *, beta: float, delta: float) -> Tensor:
    """-log σ(β Σ_t Δ_t(v, y+) - δ) over every completion token: y+ itself must not become less likely (mDPO)."""
    return -logsigmoid(beta * advantage(side, weights=side.valid.to(side.logp.dtype), choice="none") - delta)


def kl_weights(side: Side, *, choice: str, weights: Tensor) -> Tensor:
    """k_t, (B, C): `phrase` the mask, `all` every completion token, `outside` 1 - mask, `weighted` w_t."""
    inside = side.kinds > 0
    chosen = {"phrase": inside, "all": side.valid, "outside": ~inside, "weighted": weights}[choice]
    return chosen * side.valid.to(weights.dtype)


def token_kl(side: Side, *, weights: Tensor, lam: float) -> Tensor:
    """Σ_t k_t [λ F_t + (1-λ) R_t], (B,); λ = ½ is half the Jeffreys divergence."""
    k = weights.to(side.logp.dtype)
    return lam * weighted_sum(side.forward_kl, k) + (1 - lam) * weighted_sum(side.reverse_kl, k)


def negative_log_likelihood(side: Side) -> Tensor:
    """-(1/|y|) Σ_t log π(y_t), (B,): the mean over the completion's tokens."""
    weights = side.valid.to(side.logp.dtype)
    return -weighted_sum(side.logp, weights) / normaliser(weights, side.valid, choice="length")


def gate(terms: Terms, *, choice: str, reaction: Tensor | None, threshold: float) -> Tensor:
    """Which records feel the corruption terms, (B,) bool: `always`; `positive` findings; `reactive`, where the
    reference's own preference moves by more than `threshold` nats when the lesion is corrupted (`reaction`, (B,))."""
    if choice == "reactive":
        return terms.has_lesion & (torch.where(terms.has_lesion, reaction, 0.0).abs() > threshold)
    return terms.positive if choice == "positive" else torch.ones_like(terms.has_lesion)


def reference_reaction(terms: Terms, recipe: Recipe) -> Tensor:
    """[log π_ref(y+) - log π_ref(y-)] under v, minus the same under v', weighted and normalised as A is. (B,)."""
    def score(image: str, answer: str) -> Tensor:
        side = terms.side(image, answer)
        as_policy, weights = replace(side, logp=side.ref_logp.detach()), side_weights(side, recipe)
        return advantage(as_policy, weights=weights, choice=recipe.normaliser, reference=False)

    clean, lesion = (score(image, "chosen") - score(image, "rejected") for image in ("clean", "lesion"))
    return clean - lesion


def side_weights(side: Side, recipe: Recipe) -> Tensor:
    """The recipe's token weights on one side, (B, C)."""
    return token_weights(side.kinds, side.valid, background=recipe.w_bg, kind=recipe.w_kind, dtype=side.logp.dtype)


def _advantage(terms: Terms, recipe: Recipe, image: str, answer: str, present: Tensor | None = None) -> Tensor:
    """A(u, y) under the recipe; rows that are not `present` read 0 and send back a gradient of exactly 0."""
    side = terms.side(image, answer)
    value = advantage(side, weights=side_weights(side, recipe), choice=recipe.normaliser, reference=recipe.reference)
    return value if present is None else torch.where(present, value, torch.zeros_like(value))


def _margin(terms: Terms, recipe: Recipe, image: str, present: Tensor | None = None) -> Tensor:
    """m(u) under the recipe; `present` as in `_advantage`."""
    chosen, rejected = (_advantage(terms, recipe, image, answer, present) for answer in ("chosen", "rejected"))
    return margin(chosen, rejected, beta=recipe.beta)


def margins(terms: Terms, recipe: Recipe) -> dict[str, Tensor]:
    """m(v), m(v'), m(v°) as `margin`, `margin_lesion`, `margin_control`, for each image whose two sides were scored.
    (B,) each; NaN where the record lacks the image."""
    found = {}
    presence = {"clean": torch.ones_like(terms.has_lesion), "lesion": terms.has_lesion, "control": terms.has_control}
    for image, present in presence.items():
        if (image, "chosen") in terms.sides and (image, "rejected") in terms.sides:
            name = "margin" if image == "clean" else f"margin_{image}"
            found[name] = torch.where(present, _margin(terms, recipe, image, present), torch.nan)
    return found


def _ground(terms: Terms, recipe: Recipe, present: Tensor) -> Tensor:
    """L_ground before its weight; rows that are not `present` hold values that the caller must drop."""
    if recipe.ground in ("flip", "neutral"):
        m_lesion = _margin(terms, recipe, "lesion", present)
        return ground_flip(m_lesion) if recipe.ground == "flip" else ground_neutral(m_lesion)
    chosen = _advantage(terms, recipe, "clean", "chosen")
    if recipe.ground == "conditional":
        return ground_conditional(chosen, _advantage(terms, recipe, "lesion", "chosen", present), beta=recipe.beta)
    return ground_joint(chosen, _advantage(terms, recipe, "lesion", "rejected", present), beta=recipe.beta)


def _clean_terms(terms: Terms, recipe: Recipe, m: Tensor | None) -> dict[str, tuple[float, Tensor]]:
    """The terms under the clean image: name -> (weight, (B,) values)."""
    found = {}
    if recipe.preference:
        if recipe.sequence_kl:  # TDPO: m(v) less β a [Σ F(y-) - Σ F(y+)]
            pair = (terms.side("clean", "chosen"), terms.side("clean", "rejected"))
            chosen, rejected = (weighted_sum(side.forward_kl, side.valid.to(side.logp.dtype)) for side in pair)
            m = m - recipe.beta * recipe.sequence_kl * (
                rejected - (chosen.detach() if recipe.stop_chosen_kl else chosen))
        values = preference(m, smoothing=recipe.smoothing, target=recipe.target_margin)
        found["preference"] = (recipe.preference, values)
    if recipe.eta:
        found["anchor"] = (recipe.eta, anchor(terms.side("clean", "chosen"), beta=recipe.beta, delta=recipe.delta))
    if recipe.alpha:
        sides = [terms.side("clean", answer) for answer in recipe.kl_answers]
        weights = [kl_weights(side, choice=recipe.kl_tokens, weights=side_weights(side, recipe)) for side in sides]
        values = sum(token_kl(side, weights=k, lam=recipe.lam) for side, k in zip(sides, weights, strict=True))
        found["kl"] = (recipe.alpha, values)
    if recipe.nll:
        found["nll"] = (recipe.nll, negative_log_likelihood(terms.side("clean", recipe.nll_answer)))
    return found


def _corrupted_terms(terms: Terms, recipe: Recipe, m: Tensor | None) -> dict[str, tuple[float, Tensor]]:
    """The terms under corrupted images, 0 in rows whose a' or a° is 0; and these two, with weight 0."""
    found = {}
    reaction = reference_reaction(terms, recipe) if recipe.gate == "reactive" else None
    open_gate = gate(terms, choice=recipe.gate, reaction=reaction, threshold=recipe.gate_nats)
    if recipe.gamma:
        present = terms.has_lesion & open_gate
        found["ground"] = (recipe.gamma, torch.where(present, _ground(terms, recipe, present), 0.0))
        found["a_lesion"] = (0.0, present.float())
    if recipe.kappa:
        present = terms.has_control & open_gate
        m_control = _margin(terms, recipe, "control", present)
        values = control_keep(m_control) if recipe.control == "keep" else control_match(m_control, m)
        found["control"] = (recipe.kappa, torch.where(present, values, 0.0))
        found["a_control"] = (0.0, present.float())
    return found


def objective(terms: Terms, recipe: Recipe) -> Losses:
    """L of the module's docstring for one batch: `loss` (B,) and `parts`. Only the sides that `recipe.sides()` lists
    are read. Where a' or a° is 0 the row's loss is bit for bit what it is with γ or κ = 0. Raises ValueError when a
    side that a term reads was not scored."""
    m = _margin(terms, recipe, "clean") if recipe.compares else None
    found = _clean_terms(terms, recipe, m) | _corrupted_terms(terms, recipe, m)
    loss = sum(weight * values for weight, values in found.values() if weight)
    parts = {name: values for name, (_, values) in found.items()}
    if recipe.reference or recipe.compares:
        parts |= margins(terms, recipe)
    return Losses(loss, {name: values.detach() for name, values in parts.items()})
