"""What `make doctor` tells of memory against what a process really takes: the embedded model and a mid-size random one.

    python -m benchmarks.fit_bench
"""

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.child import Peak, run_child
from benchmarks.rows import WORLDS
from benchmarks.worlds import QUESTION, load_policy, make_model, make_pairs
from medalign_lite import memory
from medalign_lite.objective import objective
from medalign_lite.pairs import PairInputs
from medalign_lite.presets import PRESETS
from medalign_lite.recipes import RECIPES
from medalign_lite.reference import ReferenceCache
from medalign_lite.rollout import Prompt, rollout
from medalign_lite.scoring import score

RECIPE, RANK, ANSWER, PAIRS, ASKED = "fire-mpo", 16, 96, 4, 8
ROWS = [(world, phase) for world in ("embedded", "mid") for phase in ("training", "rollout")]


def measured(models: Path, *, world: str, phase: str, threads: int = 1) -> dict:
    """MB above what the process held before the model was loaded."""
    torch.set_num_threads(threads)
    peak = Peak()
    policy = load_policy(models, WORLDS[world], four_bit=True, rank=RANK)
    pairs = make_pairs(policy.processor.tokenizer, PAIRS, (ANSWER, ANSWER))
    if phase == "rollout":
        prompts = [Prompt(f"{n}", "", "", pairs[n % PAIRS].clean, QUESTION) for n in range(ASKED)]
        answers = rollout(policy, prompts, max_new_tokens=ANSWER, batch_size=ASKED, progress=False)
        return {"mb": peak.above(), "tokens": max(len(answer.ids) for answer in answers)}
    with TemporaryDirectory() as work:
        recipe, inputs = RECIPES[RECIPE], PairInputs(policy)
        inputs.warm(pairs, images=[image for image, _ in recipe.sides()])
        cache = ReferenceCache(policy, inputs, Path(work))
        cache.fill(pairs, recipe.sides(), name="pairs", batch_size=1)
        optimizer = torch.optim.AdamW([p for p in policy.model.parameters() if p.requires_grad])
        for _ in range(2):
            optimizer.zero_grad(set_to_none=True)
            terms = score(policy.model, inputs, pairs, recipe.sides(), reference=cache)
            objective(terms, recipe).loss.mean().backward()
            optimizer.step()
    return {"mb": peak.above(), "tokens": ANSWER}


def told(models: Path, *, world: str, phase: str, tokens: int) -> float:
    """MB by the estimate, for the same shapes."""
    shape = WORLDS[world]
    picture = 16 if shape is None else shape.image_tokens
    preset = replace(
        PRESETS["ci"], recipes=(RECIPE,), lora_rank=RANK, micro_batch=PAIRS, train_batch=PAIRS, eval_batch=4,
        rollout_batch=ASKED, max_new_tokens=tokens,
    )  # fmt: skip
    shapes = memory.Shapes(picture, tokens, images=2 * PAIRS if phase == "training" else 0, prompt_tokens=24)
    return memory.estimate(make_model(models, shape), preset, shapes, on_gpu=False).peak(phase) / 2**20


def main() -> int:
    """Print the table; exit status 1 where an estimate of the mid-size model is off by more than 15 %."""
    off = 0.0
    with TemporaryDirectory() as place:
        print(f"{'model':10} {'phase':10} {'told MB':>9} {'taken MB':>9} {'told / taken':>13}")
        for world, phase in ROWS:
            taken = run_child(measured, models=Path(place), world=world, phase=phase)
            estimate = told(Path(place), world=world, phase=phase, tokens=taken["tokens"])
            ratio = estimate / taken["mb"]
            print(f"{world:10} {phase:10} {estimate:9.0f} {taken['mb']:9.0f} {ratio:13.2f}", flush=True)
            off = max(off, abs(ratio - 1) if world == "mid" else 0.0)
    return int(off > 0.15)


if __name__ == "__main__":
    sys.exit(main())
