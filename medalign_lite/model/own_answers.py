"""The model's own answers to every question of a run, the raw material of its preference pairs (METHOD §1).

Reports are answered greedily and by sampling, other questions greedily: sampled reports differ, sampled yes or no adds
little. The work is cut in two, so that two cores share it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from medalign_lite.cases.case import Case
from medalign_lite.cases.rollouts import Prompt, Rollout
from medalign_lite.dials import Preset
from medalign_lite.model.features import KeptFeatures
from medalign_lite.model.lvlm import Lvlm, load_adapter, load_lvlm
from medalign_lite.model.processes import SHARDS, run_shards
from medalign_lite.model.rollout import rollout

PASSES = ("reports", "sampled", "questions")


@dataclass(frozen=True)
class _Job:
    """One shard: what it asks, of which model with which adapters, and where it keeps finished batches."""

    model: str
    adapter: Path | None
    cases: tuple[Case, ...]
    preset: Preset
    seed: int
    journals: Path


def own_answers(
    cases: Sequence[Case], *, model: str, preset: Preset, seed: int, scratch: Path, adapter: Path | None = None,
    every: float = 10.0,
) -> list[Rollout]:
    """Answers to all questions of `cases` that can be seen, in their order; ids are case/question/greedy or /sampled.

    With `adapter`, a folder of saved adapters, it is the adapted model that answers. `scratch` keeps finished batches:
    a run that was killed goes on from there to the same answers. A line about the progress is printed every so many
    seconds. Raises as `load_lvlm` and `rollout` do.
    """
    shards = [tuple(cases[n::SHARDS]) for n in range(SHARDS)]
    jobs = [
        _Job(model, adapter, shard, preset, SHARDS * seed + n, scratch / f"shard{n}")
        for n, shard in enumerate(shards)
        if shard
    ]
    times = {"sampled": preset.samples_per_case}
    total = sum(len(_prompts(cases, name, preset)) * times.get(name, 1) for name in PASSES)
    found = run_shards(_answer, jobs, tick=lambda: f"{_finished(scratch)} of {total} answers", every=every)
    order = {case.id: n for n, case in enumerate(cases)}
    return sorted((answer for shard in found for answer in shard), key=lambda answer: order[answer.case_id])


@lru_cache(maxsize=1)
def loaded(model: str, max_side: int = 0) -> Lvlm:
    """The model, loaded once a process."""
    return load_lvlm(model, max_side=max_side)


def _answer(job: _Job) -> list[Rollout]:
    job.journals.mkdir(parents=True, exist_ok=True)
    base = load_lvlm(job.model, max_side=job.preset.max_side) if job.adapter else loaded(job.model, job.preset.max_side)
    lvlm = load_adapter(base, job.adapter) if job.adapter else base
    features = KeptFeatures(lvlm) if lvlm.device.type == "cpu" else None  # a large model's would fill a GPU
    if features:
        features.warm([case.image for case in job.cases])
    answers = []
    for name in PASSES:
        sampled = {"temperature": job.preset.temperature, "samples": job.preset.samples_per_case}
        answers += rollout(
            lvlm,
            _prompts(job.cases, name, job.preset),
            max_new_tokens=job.preset.max_new_tokens,
            batch_size=job.preset.rollout_batch,
            seed=job.seed,
            resume=job.journals / f"{name}.jsonl",
            features=features,
            progress=False,
            **(sampled if name == "sampled" else {}),
        )
    return answers


def _prompts(cases: Sequence[Case], name: str, preset: Preset) -> list[Prompt]:
    """The prompts of one pass."""
    if name == "sampled" and (not preset.samples_per_case or not preset.temperature):
        return []
    ending = "sampled" if name == "sampled" else "greedy"
    return [
        Prompt(f"{case.id}/{question.id}/{ending}", case.id, question.id, case.image, question.text)
        for case in cases
        for question in case.questions
        if question.visible and (question.kind == "report") == (name != "questions")
    ]


def _finished(scratch: Path) -> int:
    """Answers in the journals."""
    return sum(path.read_text(encoding="utf-8").count('"question_id":') for path in scratch.glob("*/*.jsonl"))
