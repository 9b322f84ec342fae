"""A look inside for the lesson: weights by tower, a training log in one row, losses, which words moved, and how sure
the model was of each thing it said. A confident error is what alignment is for: a wrong statement that the model
would hardly have put otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from medalign_lite.cases.case import Case, Question
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.edits.truths import Gold, truth_of
from medalign_lite.losses.objective import Losses, objective
from medalign_lite.losses.recipes import Recipe
from medalign_lite.model.batches import sampled_offsets
from medalign_lite.model.families import TOWERS, find_towers
from medalign_lite.model.lvlm import Lvlm, base_of
from medalign_lite.train.pairs import Pair, PairInputs, Row
from medalign_lite.train.scoring import ALL_SIDES, LiveReference, score


def size_by_tower(model: nn.Module) -> dict[str, dict[str, int]]:
    """{tower: {"weights", "bytes"}} of a loaded model; a 4-bit weight counts as one, and takes what it takes."""
    towers = find_towers(base_of(model))
    sizes = {tower: {"weights": 0, "bytes": 0} for tower in TOWERS}
    for name, parameter in model.named_parameters():
        packed = parameter.dtype == torch.uint8
        sizes[towers.of(name)]["weights"] += parameter.quant_state.shape.numel() if packed else parameter.numel()
        sizes[towers.of(name)]["bytes"] += parameter.numel() * parameter.element_size()
    return sizes


def log_summary(rows: Sequence[Mapping]) -> dict[str, float]:
    """The rows of an arm's log.jsonl in one: steps, seconds a step, first loss, last loss (a mean of 8), MB."""
    steps = [row for row in rows if "learning_rate" in row]
    late = [row["loss"] for row in steps[-8:]]
    pace = (steps[-1]["seconds"] - steps[0]["seconds"]) / max(len(steps) - 1, 1)
    return {"steps": len(steps), "s a step": pace, "first loss": steps[0]["loss"], "last loss": sum(late) / len(late),
            "MB": steps[-1]["peak_mb"]}


@torch.no_grad()
def pair_losses(policy: Lvlm, pairs: Sequence[Pair], recipe: Recipe) -> Losses:
    """The objective of a batch of pairs, and its parts, against the policy's own reference."""
    reference = LiveReference(policy.model)
    return objective(score(policy.model, PairInputs(policy), pairs, recipe.sides(), reference=reference), recipe)


@torch.no_grad()
def word_shift(policy: Lvlm, pairs: Sequence[Pair]) -> list[tuple[list[str], list[float]]]:
    """Of each pair's rejected answer under the clean picture: its tokens, and Δ_t = log π - log π_ref in nats."""
    inputs, side = PairInputs(policy), ("clean", "rejected")
    terms = score(policy.model, inputs, pairs, {side: ALL_SIDES[side]}, reference=LiveReference(policy.model))
    seen, shifts = terms.sides[side], []
    for n, pair in enumerate(pairs):
        made = inputs.sequences([Row(pair, *side)])
        ids = made.inputs["input_ids"][0][made.completion[0]][:, None]  # (C, 1), the end token last
        words = policy.processor.tokenizer.batch_decode(ids, skip_special_tokens=True)
        delta = (seen.logp - seen.ref_logp)[n][seen.valid[n]].tolist()
        shifts.append((words[:-1], delta[:-1]))
    return shifts


@dataclass(frozen=True)
class Statement:
    """A claim of a report, or a short answer as a whole; `right` is None where that cannot be told. `start`, `end`: its
    characters, a negating word in front included. `logps`: log p of its tokens, in nats."""

    rollout: Rollout
    start: int
    end: int
    about: str  # finding, or topic of the question
    right: bool | None
    logps: tuple[float, ...]

    @property
    def mean_logp(self) -> float:
        """Mean over its tokens: a sum would call every long claim unsure."""
        return sum(self.logps) / len(self.logps)

    @property
    def text(self) -> str:
        """Its words."""
        return self.rollout.text[self.start : self.end]


def statements(rollout: Rollout, case: Case, question: Question, tokenizer) -> list[Statement]:
    """What the answer says, in reading order; what cannot be told is neither right nor wrong."""
    offsets, found = sampled_offsets(tokenizer, rollout.ids, rollout.text), []
    text, truth, known = rollout.text, truth_of(case, question), {"true": True, "false": False}
    if isinstance(truth, Gold):
        parts = [(0, len(text), question.topic, truth.right(text))]
    else:
        parts = [(min(claim.start, claim.parts.get("cue", (claim.start, 0))[0]), claim.end, claim.finding,
                  known.get(truth.judge(claim).verdict)) for claim in truth.read(text)]
    for start, end, about, right in parts:
        logps = tuple(p for p, (a, b) in zip(rollout.logps, offsets, strict=True) if max(a, start) < min(b, end))
        if logps:
            found.append(Statement(rollout, start, end, about, right, logps))
    return found
