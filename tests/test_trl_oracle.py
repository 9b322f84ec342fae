"""An oracle from TRL, which is no part of the package: `dpo` against its DPOTrainer.

Same tiny LVLM, pictures, adapters and batch on both sides; each encodes, pads, runs and reduces in its own way.
"""

import torch
import trl
from conftest import stirred

from benchmarks.steps import trl_trainer
from medalign_lite.losses.objective import objective
from medalign_lite.losses.recipes import RECIPES
from medalign_lite.model.lvlm import attach_lora, load_lvlm
from medalign_lite.train.pairs import Pair, PairInputs
from medalign_lite.train.scoring import LiveReference, score

TEXTS = (  # (question, chosen, rejected), of different lengths
    ("Describe this radiograph.", "There is a small nodule in the right upper zone.",
     "There is a small nodule in the left upper zone."),
    ("Is there a pleural effusion?", "No pleural effusion is seen.", "Moderate pleural effusion is seen. The heart is "
     "not enlarged."),
    ("Which side is the nodule on?", "Left.", "Right."),
)


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_dpo_is_trls(tiny_folder, pictures, tmp_path):
    """Dense fp64, with adapters that do something: at fresh ones the loss is ln 2 whatever the code."""
    assert trl.__version__ == "1.16.0", "the version that this was written against"
    pairs = [Pair(f"r{n}", *texts, (), (), clean=pictures[n]) for n, texts in enumerate(TEXTS)]
    policy, other = (load_lvlm(tiny_folder, device="cpu", four_bit=False) for _ in range(2))
    policy = stirred(attach_lora(policy, rank=4, alpha=8))
    trainer, batch = trl_trainer(other, policy, pairs, tmp_path)
    for model in (policy.model, trainer.model):  # TRL's output head computes in fp32 all the same
        model.double()
    expected = trainer.compute_loss(trainer.model, batch)
    expected.backward()
    recipe, theirs = RECIPES["dpo"], gradients(trainer.model)
    terms = score(policy.model, PairInputs(policy), pairs, recipe.sides(), reference=LiveReference(policy.model))
    losses = objective(terms, recipe)
    losses.loss.mean().backward()
    ours = gradients(policy.model)
    tokens = [side.valid.sum().item() for side in terms.sides.values()]
    assert sum(tokens) == batch["completion_mask"].sum() and losses.parts["margin"].abs().min() > 1e-3
    torch.testing.assert_close(losses.loss.detach().mean(), expected.detach().double(), rtol=1e-6, atol=0)
    assert ours.keys() == theirs.keys() and len(ours) == 28
    ours, theirs = (torch.cat([found[name].flatten() for name in sorted(found)]) for found in (ours, theirs))
    assert (ours - theirs).norm() <= 1e-6 * theirs.norm()
