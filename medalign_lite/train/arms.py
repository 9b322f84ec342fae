"""Arms: one adapter a recipe, trained on the same pairs from the same base, side by side in two processes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medalign_lite.dials import Preset
from medalign_lite.model.lvlm import load_lvlm
from medalign_lite.model.processes import SHARDS, run_shards
from medalign_lite.train.pairs import Pair, PairInputs
from medalign_lite.train.settings import TrainSettings, step_count
from medalign_lite.train.train import train

DONE = "settings.json"  # the last file that training writes


@dataclass(frozen=True)
class TrainJob:
    """What one process trains, one recipe after another; adapters go to `folder`/<recipe>, the rest to `work`."""

    model: str
    settings: tuple[TrainSettings, ...]
    pairs: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    folder: Path
    work: Path
    reference: Path
    max_side: int


def settings_of(preset: Preset, recipe: str, *, seed: int) -> TrainSettings:
    """The preset's numbers for one recipe; beta is the same for all, so that they differ in their terms alone."""
    return TrainSettings(
        recipe=recipe, overrides={"beta": preset.beta}, learning_rate=preset.learning_rate, epochs=preset.epochs,
        batch_size=preset.micro_batch, accumulation=max(1, preset.train_batch // preset.micro_batch),
        rank=preset.lora_rank, alpha=preset.lora_alpha, seed=seed, recompute=preset.recompute,
        eval_batch_size=min(16, max(1, preset.eval_batch // 4)),  # six rows a pair, against one a question
    )  # fmt: skip


def train_arms(
    settings: Sequence[TrainSettings], pairs: Sequence[Pair], validation: Sequence[Pair], *, model: str, folder: Path,
    work: Path, shards: int = SHARDS, max_side: int = 0,
) -> dict[str, Path]:
    """Train every recipe from the same base; {recipe: folder with its adapter, log.jsonl and settings.json}. Resumable:
    what is finished is kept, what was killed goes on from its last checkpoint. Raises as `train.train`."""
    paths = {one.recipe: folder / one.recipe for one in settings}
    jobs = []
    for number, share in enumerate(share_out(settings, shards)):
        left = tuple(one for one in share if not (paths[one.recipe] / DONE).exists())
        reference = work / f"reference-{number}"
        jobs.append(TrainJob(model, left, tuple(pairs), tuple(validation), folder, work, reference, max_side))
    run_shards(_train, [job for job in jobs if job.settings], tick=lambda: _progress(settings, len(pairs), work))
    return paths


def share_out(settings: Sequence[TrainSettings], shards: int) -> list[list[TrainSettings]]:
    """Recipes for each process so that all take about as long: a step's cost goes by the sides that it scores."""
    shares: list[list[TrainSettings]] = [[] for _ in range(shards)]
    for one in sorted(settings, key=_cost, reverse=True):
        min(shares, key=lambda share: sum(map(_cost, share))).append(one)
    return shares


def _cost(settings: TrainSettings) -> int:
    return len(settings.resolved_recipe().sides())


def _train(job: TrainJob) -> None:
    """Train the job's recipes; the base is loaded once, its image features and reference values are shared."""
    lvlm = load_lvlm(job.model, max_side=job.max_side)
    inputs = PairInputs(lvlm)
    for settings in job.settings:
        result = train(
            lvlm, job.pairs, settings, folder=job.folder / settings.recipe, work=job.work / settings.recipe,
            validation=job.validation, inputs=inputs, reference_folder=job.reference, progress=False,
        )  # fmt: skip
        lvlm = replace(lvlm, model=result.lvlm.model.unload())


def _progress(settings: Sequence[TrainSettings], pairs: int, work: Path) -> str:
    parts = []
    for one in settings:
        log = work / one.recipe / "log.jsonl"
        done = log.read_text(encoding="utf-8").count('"learning_rate"') if log.exists() else 0
        parts.append(f"{one.recipe} {done} of {step_count(one, pairs)} steps")
    return "train: " + ", ".join(parts)
