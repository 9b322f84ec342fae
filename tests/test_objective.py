"""Every identity of the objective, in fp64 (1e-10) and fp32 (1e-5), against versions written from the equations."""

import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from naive import naive_loss

from medalign_lite.losses import objective as parts
from medalign_lite.losses.divergence import kl_terms
from medalign_lite.losses.objective import Side, Terms, gate, margin, normaliser, objective, preference, token_weights
from medalign_lite.losses.recipes import CHOICES, RECIPES, recipe_named

B, C, V = 4, 7, 11
LENGTHS = {"chosen": (7, 5, 6, 3), "rejected": (6, 7, 4, 3), "gold": (4, 7, 5, 6)}
SPANS = {
    "chosen": ((2, 4), (0, 1), (3, 6), (1, 2)), "rejected": ((2, 3), (0, 3), (1, 2), (1, 3)), "gold": ((0, 1),) * 4,
}
IMAGES, ANSWERS = ("clean", "lesion", "control"), ("chosen", "rejected", "gold")
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
HAS_LESION, HAS_CONTROL = torch.tensor([True, True, False, True]), torch.tensor([True, False, False, True])


def world(dtype=torch.float64, *, equal=False, seed=0):
    """Logits of policy (leaves with gradients) and reference, (B, C, V) by side, and the answers' token ids."""
    random = torch.Generator().manual_seed(seed)
    ids = {answer: torch.randint(0, V, (B, C), generator=random) for answer in ANSWERS}
    reference = {(i, a): 2 * torch.randn(B, C, V, generator=random, dtype=dtype) for i in IMAGES for a in ANSWERS}
    policy = {key: ref + (0 if equal else 1) * torch.randn(B, C, V, generator=random, dtype=dtype)
              for key, ref in reference.items()}
    return {key: value.requires_grad_() for key, value in policy.items()}, reference, ids


def kinds_valid(answer):
    """Span kinds and completion mask of one answer."""
    kinds, valid = torch.zeros(B, C, dtype=torch.long), torch.zeros(B, C, dtype=torch.bool)
    for row, ((start, end), length) in enumerate(zip(SPANS[answer], LENGTHS[answer], strict=True)):
        kinds[row, start:end] = 1 + row
        valid[row, :length] = True
    return kinds, valid


def side_of(policy, reference, ids, answer):
    kinds, valid = kinds_valid(answer)
    pick = ids.unsqueeze(-1)
    forward, reverse = kl_terms(policy, reference)
    return Side(policy.log_softmax(-1).gather(-1, pick)[..., 0], kinds, valid,
                reference.log_softmax(-1).gather(-1, pick)[..., 0], forward, reverse)


def terms_of(policy, reference, ids, **changes):
    sides = {key: side_of(policy[key], reference[key], ids[key[1]], key[1]) for key in policy}
    return replace(Terms(sides, HAS_LESION, HAS_CONTROL, torch.tensor([True, False, True, True])), **changes)


def close(a, b, tolerance):
    torch.testing.assert_close(torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64),
                               rtol=tolerance, atol=tolerance)


def naive(name, policy, reference, ids, row):
    """The published loss of one record, from full logits with explicit loops."""
    def tokens(image, answer):
        kinds, valid = kinds_valid(answer)
        lp, lr = policy[image, answer][row].log_softmax(-1), reference[image, answer][row].log_softmax(-1)
        return [(lp[t, ids[answer][row, t]], lr[t, ids[answer][row, t]], lp[t], lr[t], bool(kinds[row, t]))
                for t in range(C) if valid[row, t]]

    return naive_loss(name, tokens, lesion=bool(HAS_LESION[row]), control=bool(HAS_CONTROL[row]))


@pytest.mark.parametrize("name", RECIPES)
@DTYPES
def test_recipe_equals_its_naive_version_value_and_gradient(name, dtype, tolerance):
    policy, reference, ids = world(dtype)
    losses = objective(terms_of(policy, reference, ids), RECIPES[name]).loss
    gradients = torch.autograd.grad(losses.mean(), list(policy.values()), allow_unused=True, materialize_grads=True)
    again = torch.stack([naive(name, policy, reference, ids, row) for row in range(B)])
    expected = torch.autograd.grad(again.mean(), list(policy.values()), allow_unused=True, materialize_grads=True)
    close(losses, again, tolerance)
    for ours, theirs in zip(gradients, expected, strict=True):
        close(ours, theirs, tolerance)


@pytest.mark.parametrize("name", RECIPES)
def test_only_the_listed_sides_are_read(name):
    policy, reference, ids = world()
    full = terms_of(policy, reference, ids)
    needed = RECIPES[name].sides()
    sides = {key: side if any(needed[key].kl) else replace(side, forward_kl=None, reverse_kl=None)
             for key, side in full.sides.items() if key in needed}
    assert torch.equal(objective(replace(full, sides=sides), RECIPES[name]).loss, objective(full, RECIPES[name]).loss)
    for key in needed:
        with pytest.raises(ValueError, match="was not scored"):
            objective(replace(full, sides={k: s for k, s in sides.items() if k != key}), RECIPES[name])


@DTYPES
def test_at_the_reference_the_loss_is_known(dtype, tolerance):
    policy, reference, ids = world(dtype, equal=True)
    terms = terms_of(policy, reference, ids)
    losses = objective(terms, RECIPES["fire-mpo"])
    close(losses.loss[HAS_LESION], [0.76246190] * 3, max(tolerance, 5e-9))
    close(losses.loss[~HAS_LESION], [0.69314718], max(tolerance, 5e-9))
    assert all((value[~value.isnan()] == 0).all() for key, value in losses.parts.items() if key.startswith("margin"))
    assert (losses.parts["kl"] == 0).all()
    every = recipe_named("fire-mpo", kappa=0.2, eta=0.3)
    a_lesion, a_control = HAS_LESION.to(dtype), HAS_CONTROL.to(dtype)
    close(objective(terms, every).loss, (1 + 0.1 * a_lesion + 0.2 * a_control + 0.3) * math.log(2), tolerance)
    kl_only = recipe_named("fire-mpo", preference=0.0, gamma=0.0, alpha=1.0, kl_tokens="all")
    objective(terms, kl_only).loss.sum().backward()
    assert (policy["clean", "chosen"].grad == 0).all()


@pytest.mark.parametrize("ground", ["flip", "neutral", "conditional", "joint"])
@pytest.mark.parametrize("control", ["keep", "match"])
def test_rows_without_the_image_are_bitwise_those_without_the_term(ground, control):
    policy, reference, ids = world(torch.float32)
    terms = terms_of(policy, reference, ids)
    absent = {"lesion": ~HAS_LESION, "control": ~HAS_CONTROL}
    sides = dict(terms.sides)
    for (image, answer), side in terms.sides.items():
        if image in absent:
            hole = absent[image].unsqueeze(-1)
            sides[image, answer] = replace(side, logp=side.logp.masked_fill(hole, torch.nan),
                                           ref_logp=side.ref_logp.masked_fill(hole, torch.nan))
    recipe = recipe_named("fire-mpo", ground=ground, control=control, kappa=0.2)
    with_terms = objective(replace(terms, sides=sides), recipe).loss
    gradient = torch.autograd.grad(with_terms.sum(), policy["clean", "chosen"], retain_graph=True)[0]
    without = objective(terms, replace(recipe, gamma=0.0, kappa=0.0)).loss
    expected = torch.autograd.grad(without.sum(), policy["clean", "chosen"])[0]
    neither = ~HAS_LESION & ~HAS_CONTROL
    assert torch.equal(with_terms[neither], without[neither]) and torch.isfinite(with_terms).all()
    assert torch.equal(gradient[neither], expected[neither]) and torch.isfinite(gradient).all()


@DTYPES
def test_an_invisible_corruption_is_conservative_dpo(dtype, tolerance):
    policy, reference, ids = world(dtype)
    terms = terms_of(policy, reference, ids, has_lesion=torch.ones(B, dtype=torch.bool))
    sides = {(i, a): terms.sides["clean" if i == "lesion" else i, a] for i, a in terms.sides}
    flip = objective(replace(terms, sides=sides), recipe_named("fire-mpo", alpha=0.0)).loss
    close(flip, 1.1 * objective(terms, RECIPES["cdpo"]).loss, tolerance)


def test_conservative_dpo_stands_still_at_log_one_over_gamma():
    m = torch.tensor(math.log(1 / 0.1), dtype=torch.float64, requires_grad=True)
    (preference(m) + 0.1 * parts.ground_flip(m)).backward()
    assert abs(m.grad) < 1e-12 and abs(m.item() - 2.302585) < 1e-6
    assert RECIPES["cdpo"].smoothing == pytest.approx(1 / 11, abs=1e-15)


@DTYPES
def test_permutation_and_padding_change_nothing(dtype, tolerance):
    policy, reference, ids = world(dtype)
    terms = terms_of(policy, reference, ids)
    order = torch.tensor([2, 0, 3, 1])

    def moved(side):
        def pad(x):
            filler = torch.full((B, 3), torch.nan if x.is_floating_point() else 0, dtype=x.dtype)
            return torch.cat([x, filler], -1)[order]
        return Side(*(pad(x) for x in (side.logp, side.kinds, side.valid, side.ref_logp, side.forward_kl,
                                       side.reverse_kl)))

    shuffled = Terms({key: moved(side) for key, side in terms.sides.items()}, HAS_LESION[order], HAS_CONTROL[order],
                     terms.positive[order])
    for recipe in RECIPES.values():
        close(objective(shuffled, recipe).loss, objective(terms, recipe).loss[order], tolerance)


def test_token_weights_and_normalisers():
    kinds, valid = kinds_valid("chosen")
    mask = (kinds > 0) & valid
    weights = token_weights(kinds, valid, background=0.25, kind=3.0)
    assert torch.equal(weights, valid * (0.25 + (3.0 - 0.25) * mask.float()))
    per_kind = token_weights(kinds, valid, background=0.0, kind=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0))
    assert torch.equal(per_kind, kinds.float() * valid)
    assert normaliser(weights, valid, choice="none").tolist() == [1, 1, 1, 1]
    assert torch.equal(normaliser(weights, valid, choice="span"), weights.sum(-1))
    assert normaliser(weights, valid, choice="length").tolist() == list(LENGTHS["chosen"])
    assert normaliser(weights * 0, valid & False, choice="span").tolist() == [1, 1, 1, 1]
    assert parts.weighted_sum(torch.tensor([[torch.nan, 2.0]]), torch.tensor([[0.0, 3.0]])).tolist() == [6.0]


@DTYPES
def test_divergences_and_their_gradients(dtype, tolerance):
    policy, reference, _ = world(dtype)
    z, ref = policy["clean", "chosen"], reference["clean", "chosen"]
    forward, reverse = kl_terms(z, ref)
    log_pi, log_ref = z.log_softmax(-1), ref.log_softmax(-1)
    close(forward, (log_ref.exp() * (log_ref - log_pi)).sum(-1), tolerance)
    close(reverse, (log_pi.exp() * (log_pi - log_ref)).sum(-1), tolerance)
    assert (forward >= 0).all() and (reverse >= 0).all()
    close(kl_terms(z + 5.0, ref - 3.0)[0], forward, tolerance * 10)
    forward_gradient = torch.autograd.grad(forward.sum(), z, retain_graph=True)[0]
    reverse_gradient = torch.autograd.grad(reverse.sum(), z)[0]
    close(forward_gradient, log_pi.exp() - log_ref.exp(), tolerance)
    close(reverse_gradient, log_pi.exp() * (log_pi - log_ref - reverse.unsqueeze(-1)), tolerance)
    for gradient in (forward_gradient, reverse_gradient):
        close(gradient.sum(-1), torch.zeros(B, C), tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_divergences_stay_finite_at_extreme_and_masked_logits(dtype):
    random = torch.Generator().manual_seed(3)
    z = (torch.rand(20, V, generator=random) * 2e4 - 1e4).to(dtype)
    ref = (torch.rand(20, V, generator=random) * 2e4 - 1e4).to(dtype)
    z[:, 3:5] = ref[:, 3:5] = -torch.inf
    z[0], ref[0] = torch.tensor([1e4] + [-1e4] * (V - 1)), torch.tensor([-1e4] * (V - 1) + [1e4])
    z.requires_grad_()
    forward, reverse = kl_terms(z, ref)
    (forward.sum() + reverse.sum()).backward()
    assert torch.isfinite(forward).all() and torch.isfinite(reverse).all() and torch.isfinite(z.grad).all()
    assert (forward >= 0).all() and (reverse >= 0).all() and (z.grad[1:, 3:5] == 0).all()
    forward, reverse = kl_terms(z, z)
    assert (forward == 0).all() and (reverse == 0).all()


def test_token_kl_is_affine_in_lambda_and_its_token_choices_partition_the_completion():
    policy, reference, ids = world()
    side = side_of(policy["clean", "chosen"], reference["clean", "chosen"], ids["chosen"], "chosen")
    weights = side.valid.double()
    at = {lam: parts.token_kl(side, weights=weights, lam=lam) for lam in (0.0, 0.3, 0.5, 1.0)}
    close(at[0.3], 0.3 * at[1.0] + 0.7 * at[0.0], 1e-12)
    close(at[0.5], 0.5 * (weights * (side.forward_kl + side.reverse_kl)).sum(-1), 1e-12)  # half Jeffreys
    weights = token_weights(side.kinds, side.valid, background=0.5, kind=2.0, dtype=torch.float64)
    k = {choice: parts.kl_weights(side, choice=choice, weights=weights) for choice in CHOICES["kl_tokens"]}
    assert torch.equal(k["phrase"] + k["outside"], k["all"]) and torch.equal(k["all"], side.valid.double())
    assert torch.equal(k["weighted"], weights)


def test_terms_have_the_gradients_of_their_equations():
    m = torch.linspace(-60, 60, 25, dtype=torch.float64, requires_grad=True)
    other = torch.linspace(3, -3, 25, dtype=torch.float64)
    for term in (preference, parts.ground_flip, parts.ground_neutral, parts.control_keep,
                 lambda x: preference(x, smoothing=0.1), lambda x: preference(x, target=0.7),
                 lambda x: parts.ground_conditional(x, other, beta=0.3),
                 lambda x: parts.ground_joint(other, x, beta=0.3), lambda x: margin(x, other, beta=0.3)):
        assert torch.autograd.gradcheck(term, m)
    assert torch.autograd.grad(parts.control_match(m, 2 * m).sum(), m)[0].allclose(-m)  # m(v) carries no gradient
    assert (parts.ground_neutral(m.new_zeros(3)) == 0).all() and torch.isfinite(preference(1e4 * m)).all()


@pytest.mark.parametrize("name", RECIPES)
def test_the_reference_gets_no_gradient(name):
    policy, reference, ids = world()
    terms = terms_of(policy, {key: value.requires_grad_() for key, value in reference.items()}, ids)
    recipe = recipe_named(name, kappa=1.0, eta=1.0) if RECIPES[name].reference else RECIPES[name]
    objective(terms, recipe).loss.sum().backward()
    assert all(value.grad is None for value in reference.values())


def test_gates():
    policy, reference, ids = world()
    terms = terms_of(policy, reference, ids)
    for choice, expected in (("always", [1, 1, 1, 1]), ("positive", [1, 0, 1, 1])):
        assert gate(terms, choice=choice, reaction=None, threshold=0.0).tolist() == expected
    reaction = parts.reference_reaction(terms, RECIPES["fire-mpo"])
    score = {key: (side.ref_logp * (side.kinds > 0)).sum(-1) for key, side in terms.sides.items()}
    close(reaction, score["clean", "chosen"] - score["clean", "rejected"] - score["lesion", "chosen"]
          + score["lesion", "rejected"], 1e-10)
    threshold = reaction.abs().median().item()
    gated = recipe_named("fire-mpo", gate="reactive", gate_nats=threshold)
    assert torch.equal(objective(terms, gated).parts["a_lesion"].bool(), HAS_LESION & (reaction.abs() > threshold))


def test_margins_name_the_images_and_are_nan_without_one():
    policy, reference, ids = world()
    found = parts.margins(terms_of(policy, reference, ids), RECIPES["fire-mpo"])
    assert set(found) == {"margin", "margin_lesion", "margin_control"}
    assert torch.equal(found["margin_lesion"].isnan(), ~HAS_LESION)
    assert torch.equal(found["margin_control"].isnan(), ~HAS_CONTROL)


@pytest.mark.parametrize(("name", "overrides", "message"), [
    ("dppo", {}, "allowed: dpo"), ("dpo", {"gama": 0.1}, "no setting gama; allowed: beta"),
    ("dpo", {"ground": "reverse"}, "allowed: flip"), ("dpo", {"kl_answers": ("both",)}, "kl_answers"),
    ("dpo", {"beta": 0.0}, "beta"), ("dpo", {"beta": float("nan")}, "not finite"), ("dpo", {"alpha": -1.0}, "alpha"),
    ("dpo", {"smoothing": 0.5}, "smoothing"), ("dpo", {"lam": 1.5}, "lam"), ("dpo", {"preference": 0.0}, "nothing"),
    ("simpo", {"alpha": 0.1}, "reference=False"), ("sft-edits", {"smoothing": 0.1}, "whose weight is 0"),
    ("simpo", {"smoothing": 0.1}, "combined"), ("dpo", {"stop_chosen_kl": True}, "sequence_kl"),
    ("dpo", {"gate": "positive"}, "gamma or kappa"), ("dpo", {"w_bg": 0.0, "w_kind": 0.0}, "every token weight"),
    ("dpo", {"w_kind": (1.0, -1.0)}, "negative"),
])
def test_contradictions_raise(name, overrides, message):
    with pytest.raises(ValueError, match=message):
        recipe_named(name, **overrides)


@pytest.mark.parametrize("overrides", [{"beta": "0.1"}, {"reference": 1}, {"gamma": True}, {"beta": (0.1, 0.2)}])
def test_ill_typed_settings_raise(overrides):
    with pytest.raises(TypeError, match="is not"):
        recipe_named("dpo", **overrides)


def test_the_mathematics_loads_torch_and_nothing_else_of_the_large_libraries():
    code = ("import sys; import medalign_lite.losses.objective, medalign_lite.losses.divergence\n"
            "print(sorted(sys.modules.keys() & {'PIL', 'skimage', 'scipy', 'transformers', 'peft', 'torch'}))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['torch']\n"
