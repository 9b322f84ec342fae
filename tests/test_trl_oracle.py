"""An oracle from TRL, which is no part of the package: `dpo` against its DPOTrainer.

Same tiny LVLM, pictures, adapters and batch on both sides; each encodes, pads, runs and reduces in its own way.
"""

import pytest
import torch
import trl
from conftest import stirred
from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

from medalign_lite.losses.objective import objective
from medalign_lite.losses.recipes import RECIPES
from medalign_lite.model.batches import conversation
from medalign_lite.model.lvlm import attach_lora, load_lvlm, lora_targets
from medalign_lite.train.pairs import Pair, PairInputs
from medalign_lite.train.scoring import LiveReference, score

TEXTS = (  # (question, chosen, rejected), of different lengths
    ("Describe this radiograph.", "There is a small nodule in the right upper zone.",
     "There is a small nodule in the left upper zone."),
    ("Is there a pleural effusion?", "No pleural effusion is seen.", "Moderate pleural effusion is seen. The heart is "
     "not enlarged."),
    ("Which side is the nodule on?", "Left.", "Right."),
)
LORA = {"r": 4, "lora_alpha": 8, "use_rslora": True, "lora_dropout": 0.0, "bias": "none"}


@pytest.fixture(scope="module", autouse=True)
def the_version_that_this_was_written_against():
    assert trl.__version__ == "1.16.0"


@pytest.fixture(scope="module")
def pairs(pictures):
    return [Pair(f"r{n}", question, chosen, rejected, (), (), clean=pictures[n])
            for n, (question, chosen, rejected) in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def policy(tiny_folder):
    """Dense fp64, with adapters that do something: at fresh ones the loss is ln 2 whatever the code."""
    lvlm = attach_lora(load_lvlm(tiny_folder, device="cpu", four_bit=False), rank=LORA["r"], alpha=LORA["lora_alpha"])
    stirred(lvlm).model.double()
    return lvlm


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def trl_step(tiny_folder, policy, pairs, work):
    """Loss and adapter gradients of one batch, by TRL's trainer, data collator and reference."""
    lvlm = load_lvlm(tiny_folder, device="cpu", four_bit=False)
    end = lvlm.processor.tokenizer.eos_token
    data = Dataset.from_list([{"images": [pair.clean], "prompt": conversation(lvlm.processor, pair.question),
                               "chosen": pair.chosen + end, "rejected": pair.rejected + end} for pair in pairs])
    settings = DPOConfig(
        output_dir=str(work), use_cpu=True, bf16=False, max_length=None, report_to="none", beta=RECIPES["dpo"].beta,
        loss_type="sigmoid", per_device_train_batch_size=len(pairs), gradient_checkpointing=False,
    )
    trainer = DPOTrainer(model=lvlm.model, args=settings, train_dataset=data, processing_class=lvlm.processor,
                         peft_config=LoraConfig(**LORA, target_modules=lora_targets(lvlm.model)))
    trainer.model.double()  # its output head computes in fp32 all the same
    trained = {name: value for name, value in policy.model.state_dict().items() if "lora_" in name}
    assert not trainer.model.load_state_dict(trained, strict=False).unexpected_keys
    batch = trainer.data_collator([data[n] for n in range(len(pairs))])
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return loss.detach(), gradients(trainer.model), batch


def test_dpo_is_trls(tiny_folder, policy, pairs, tmp_path):
    expected, theirs, batch = trl_step(tiny_folder, policy, pairs, tmp_path)
    recipe, inputs = RECIPES["dpo"], PairInputs(policy)
    terms = score(policy.model, inputs, pairs, recipe.sides(), reference=LiveReference(policy.model))
    losses = objective(terms, recipe)
    losses.loss.mean().backward()
    ours = gradients(policy.model)
    policy.model.zero_grad(set_to_none=True)
    tokens = [side.valid.sum().item() for side in terms.sides.values()]
    assert sum(tokens) == batch["completion_mask"].sum() and losses.parts["margin"].abs().min() > 1e-3
    torch.testing.assert_close(losses.loss.detach().mean(), expected.double(), rtol=1e-6, atol=0)
    assert ours.keys() == theirs.keys() and len(ours) == 28
    ours, theirs = (torch.cat([found[name].flatten() for name in sorted(found)]) for found in (ours, theirs))
    assert (ours - theirs).norm() <= 1e-6 * theirs.norm()
