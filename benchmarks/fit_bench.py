"""What `make doctor` tells of memory against what real work holds: the embedded model and a mid-size random one.

    python -m benchmarks.fit_bench
"""

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from bitsandbytes.nn import Linear4bit

from benchmarks.child import Peak, run_child
from benchmarks.rows import WORLDS
from benchmarks.worlds import QUESTION, load_policy, make_model, make_pairs
from medalign_lite.cases.rollouts import Prompt
from medalign_lite.dials import PRESETS
from medalign_lite.losses.objective import objective
from medalign_lite.losses.recipes import RECIPES
from medalign_lite.model.batches import encode_prompts
from medalign_lite.model.rollout import rollout
from medalign_lite.run import fit
from medalign_lite.run.fit import Meter
from medalign_lite.train.pairs import PairInputs
from medalign_lite.train.reference import ReferenceCache
from medalign_lite.train.scoring import score

RECIPE, RANK, ANSWER, POOL, PAIRS, ASKED = "fire-mpo", 16, 96, 16, 4, 8
ROWS = [(world, phase) for world in ("embedded", "mid") for phase in ("training", "rollout")]


def measured(models: Path, *, world: str, phase: str, threads: int = 1) -> dict:
    """MB of tensors alive at most, weights and optimiser included; and MB of the process above what it held before the
    model was loaded, in which loading, the allocator's leavings and torch's own buffers are too."""
    torch.set_num_threads(threads)
    peak = Peak()
    policy = load_policy(models, WORLDS[world], four_bit=True, rank=RANK)
    # answers that differ from the start share nothing, which is the most that a pair can need
    pairs, tokens = make_pairs(policy.processor.tokenizer, POOL, (ANSWER, ANSWER), edit_at=0.0), ANSWER
    with TemporaryDirectory() as work, Meter() as meter:
        if phase == "rollout":
            prompts = [Prompt(f"{n}", "", "", pairs[n].clean, QUESTION) for n in range(ASKED)]
            answers = rollout(policy, prompts, max_new_tokens=ANSWER, batch_size=ASKED, progress=False)
            tokens = max(len(answer.ids) for answer in answers)
        else:
            recipe, inputs = RECIPES[RECIPE], PairInputs(policy)
            inputs.warm(pairs, images=[image for image, _ in recipe.sides()])
            pairs, cache = pairs[:PAIRS], ReferenceCache(policy, inputs, Path(work))
            cache.fill(pairs, recipe.sides(), name="pairs", batch_size=1)
            optimizer = torch.optim.AdamW([p for p in policy.model.parameters() if p.requires_grad])
            for _ in range(2):  # optimizer steps, with all that is made before the first
                optimizer.zero_grad(set_to_none=True)
                terms = score(policy.model, inputs, pairs, recipe.sides(), reference=cache)
                objective(terms, recipe).loss.mean().backward()
                optimizer.step()
    asked = encode_prompts(policy.processor, [pairs[0].clean], [QUESTION], device=policy.device)["input_ids"]
    return {"mb": (weights_of(policy.model, phase) + meter.peak) / 2**20, "process": peak.above(), "tokens": tokens,
            "prefix": asked.shape[1]}


def weights_of(model: torch.nn.Module, phase: str) -> int:
    """Bytes of the weights, with what bitsandbytes keeps beside them; a rollout of the base has no adapters."""
    found = {id(p): p.nbytes for p in model.parameters() if phase == "training" or not p.requires_grad}
    for module in model.modules():
        if isinstance(module, Linear4bit):
            state = module.weight.quant_state
            found |= {id(t): t.nbytes for t in (state.absmax, state.code, state.state2.absmax, state.state2.code)}
    return sum(found.values())


def told(models: Path, *, world: str, phase: str, tokens: int, prefix: int) -> float:
    """MB by the estimate, for the same shapes."""
    shape = WORLDS[world]
    picture, images = shape.image_tokens if shape else 16, 2 * POOL if phase == "training" else 0
    preset = replace(PRESETS["ci"], recipes=(RECIPE,), lora_rank=RANK, micro_batch=PAIRS, train_batch=PAIRS,
                     eval_batch=4, rollout_batch=ASKED, max_new_tokens=tokens)
    shapes = fit.Shapes(picture, tokens, images=images, prompt_tokens=prefix - picture)
    return sum(fit.estimate(make_model(models, shape), preset, shapes, on_gpu=False)[phase].values()) / 2**20


def main() -> int:
    """Print the table; exit status 1 where an estimate is off by more than 15 %."""
    off = 0.0
    with TemporaryDirectory() as place:
        print(f"{'model':10} {'phase':10} {'told MB':>9} {'alive MB':>9} {'told / alive':>13} {'process MB':>11}")
        for world, phase in ROWS:
            taken = run_child(measured, models=Path(place), world=world, phase=phase)
            estimate = told(Path(place), world=world, phase=phase, tokens=taken["tokens"], prefix=taken["prefix"])
            ratio = estimate / taken["mb"]
            seen = f"{estimate:9.0f} {taken['mb']:9.0f} {ratio:13.2f} {taken['process']:11.0f}"
            print(f"{world:10} {phase:10} {seen}", flush=True)
            off = max(off, abs(ratio - 1))
    return int(off > 0.15)


if __name__ == "__main__":
    sys.exit(main())
