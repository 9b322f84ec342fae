"""One optimizer step on a batch of pairs, by the engine, by TRL's DPOTrainer, and by naive code."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from medalign_lite.losses.divergence import kl_terms
from medalign_lite.losses.objective import Side, Terms, objective
from medalign_lite.losses.recipes import RECIPES
from medalign_lite.model.batches import conversation, encode
from medalign_lite.model.lvlm import Lvlm, adapters_off, base_of, lora_targets
from medalign_lite.train.pairs import Pair, PairInputs
from medalign_lite.train.reference import ReferenceCache
from medalign_lite.train.scoring import score

LEARNING_RATE = 1e-4
Step = Callable[[], float]  # does a step and returns its loss


def engine_step(policy: Lvlm, pairs: Sequence[Pair], recipe: str, folder: Path, *, micro: int | None = None
                ) -> tuple[Step, float]:
    """A step of the engine, and the seconds that it took to fill its caches for these pairs. `micro`: how many of them
    each forward pass takes; None = all."""
    recipe = RECIPES[recipe]

    def fill(name: str) -> tuple[PairInputs, ReferenceCache]:
        inputs = PairInputs(policy)
        inputs.warm(pairs, images=[image for image, _ in recipe.sides()])
        reference = ReferenceCache(policy, inputs, folder / name)
        reference.fill(pairs, recipe.sides(), name="perf")
        return inputs, reference

    if policy.device.type == "cuda":
        fill("first")  # CUDA starts and loads its kernels in it
    started = time.perf_counter()
    inputs, reference = fill("timed")
    seconds = time.perf_counter() - started

    def loss_of(some: Sequence[Pair]) -> torch.Tensor:
        terms = score(policy.model, inputs, some, recipe.sides(), reference=reference)
        return objective(terms, recipe).loss.sum() / len(pairs)

    size = micro or len(pairs)
    chunks = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    return _updating(policy.model, *(lambda some=some: loss_of(some) for some in chunks)), seconds


def trl_step(lvlm: Lvlm, policy: Lvlm, pairs: Sequence[Pair], folder: Path, *, checkpointing: bool) -> Step:
    """A step of TRL's trainer on its own model. Its batch is collated beforehand and its evaluation metrics are its
    own; data loading costs it nothing here."""
    trainer, batch = trl_trainer(lvlm, policy, pairs, folder, checkpointing=checkpointing)
    return _updating(trainer.model, lambda: trainer.compute_loss(trainer.model, batch))


def trl_trainer(lvlm: Lvlm, policy: Lvlm, pairs: Sequence[Pair], folder: Path, *, checkpointing: bool = False):
    """TRL's DPOTrainer on `lvlm`, with adapters that start as the policy's, and the pairs as its batch."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import DPOConfig, DPOTrainer

    end, ours = lvlm.processor.tokenizer.eos_token, policy.model.peft_config["default"]
    data = Dataset.from_list([
        {"images": [pair.clean], "prompt": conversation(lvlm.processor, pair.question),
         "chosen": pair.chosen + end, "rejected": pair.rejected + end} for pair in pairs
    ])
    settings = DPOConfig(
        output_dir=str(folder), use_cpu=lvlm.device.type == "cpu", bf16=False, max_length=None, report_to="none",
        beta=RECIPES["dpo"].beta, loss_type="sigmoid", per_device_train_batch_size=len(pairs),
        gradient_checkpointing=checkpointing, disable_tqdm=True,
    )
    lora = LoraConfig(r=ours.r, lora_alpha=ours.lora_alpha, use_rslora=ours.use_rslora, lora_dropout=0.0, bias="none",
                      target_modules=lora_targets(lvlm.model))
    trainer = DPOTrainer(model=lvlm.model, args=settings, train_dataset=data, processing_class=lvlm.processor,
                         peft_config=lora)
    trained = {name: value for name, value in policy.model.state_dict().items() if "lora_" in name}
    if unexpected := trainer.model.load_state_dict(trained, strict=False).unexpected_keys:
        raise ValueError(f"TRL's model has no {unexpected[0]}: the two sides would train different adapters")
    return trainer, trainer._prepare_inputs(trainer.data_collator([data[n] for n in range(len(pairs))]))


def naive_step(policy: Lvlm, pairs: Sequence[Pair], recipe: str) -> Step:
    """Every answer under every image by itself: a policy and a reference forward each, full logits, nothing kept."""
    recipe = RECIPES[recipe]

    def loss_of(pair: Pair) -> torch.Tensor:
        sides = {key: _plain_side(policy, pair, *key, kl=any(read.kl)) for key, read in recipe.sides().items()}
        flags = (torch.tensor([flag], device=policy.device) for flag in (pair.lesion is not None, False, pair.positive))
        return objective(Terms(sides, *flags), recipe).loss.mean()

    return _updating(policy.model, *(lambda pair=pair: loss_of(pair) / len(pairs) for pair in pairs))


def _plain_side(policy: Lvlm, pair: Pair, image: str, answer: str, *, kl: bool) -> Side:
    text, spans, _ = pair.text(answer)
    made = encode(policy.processor, [pair.picture(image)], [pair.question], [text], [spans], device=policy.device)
    after, targets = made.completion[:, 1:], made.inputs["input_ids"][:, 1:, None]

    def run():
        logits = base_of(policy.model)(**made.inputs, use_cache=False).logits[:, :-1]  # (1, T, V)
        return logits[after][None], logits.log_softmax(-1).gather(-1, targets)[..., 0][after][None]

    logits, logp = run()
    with torch.no_grad(), adapters_off(policy.model):
        ref_logits, ref_logp = run()
    forward, reverse = kl_terms(logits, ref_logits) if kl else (None, None)
    kinds = made.kinds[made.completion][None]
    return Side(logp, kinds, torch.ones_like(kinds, dtype=torch.bool), ref_logp, forward, reverse)


def timed(step: Step) -> tuple[float, float]:
    """Seconds of a step, and what it returned."""
    started = time.perf_counter()
    value = step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, value


def _updating(model, *losses: Callable[[], torch.Tensor]) -> Step:
    """A step of AdamW on the gradient of the sum of the losses, which are made and sent back one after another."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for loss in losses:
            value = loss()
            value.backward()
            total += value.item()
        optimizer.step()
        return total

    return step
