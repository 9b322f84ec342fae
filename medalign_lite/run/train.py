"""``python -m medalign_lite train``: training outside notebooks, alone or under `accelerate launch`.

    python -m medalign_lite train RUN=artifacts/ci RECIPE=fire-mpo OUT=adapters/fire-mpo
    python -m medalign_lite train PAIRS=pairs.jsonl MODEL=path-or-hub-id epochs=2 recipe.gamma=0.2 OUT=adapters/mine
    accelerate launch --num_processes 2 -m medalign_lite train PAIRS=pairs.jsonl MODEL=... OUT=...

`OUT` gets config.json (before any work), the adapter in PEFT's format, log.jsonl and settings.json; `OUT/work`
checkpoints and reference values, from which the same command goes on after a kill. With RUN= the settings that are not
given are those of the run's preset; with PAIRS= they are TrainSettings' own.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from medalign_lite.dials import PresetError
from medalign_lite.files import claim
from medalign_lite.losses.recipes import RECIPES, Recipe
from medalign_lite.model.lvlm import load_lvlm
from medalign_lite.model.weights import ModelError
from medalign_lite.run.commands import ArgumentError, OutOfMemory, command, ran_out, read_arguments, value_of
from medalign_lite.run.pairs import open_run, stage_data
from medalign_lite.run.stages import StageError
from medalign_lite.train.arms import settings_of
from medalign_lite.train.data import read_pairs
from medalign_lite.train.pairs import Pair
from medalign_lite.train.reference import ReferenceMismatch
from medalign_lite.train.settings import SELECT, TrainSettings, divide_step, process_count, process_rank
from medalign_lite.train.train import REPORTERS, NothingLearnt, TrainingDiverged, train

DEVICES = ("auto", "cpu", "cuda")
RECIPE_FIELDS = {field.name: field for field in fields(Recipe) if field.name != "name"}
PLACES = {
    "RUN": "a run of `make reproduce` (OUT/PRESET), with the pairs of notebook 05",
    "PAIRS": "a pairs file instead (its layout is in medalign_lite/train/data.py)",
    "VALIDATION": "a second pairs file that is looked at, never learnt from",
    "MODEL": "a model folder or hub id; with RUN= its own model is the default",
    "MAX_SIDE": "a picture has at most this many pixels squared (default: the run's, or the model's limit)",
    "START": "a folder of adapters to go on from; the reference stays the base", "OUT": "the folder that is written to",
    "DEVICE": f"one of {', '.join(DEVICES)} (default: auto)",
    "REPORT_TO": f"what the figures are told to beside log.jsonl: {', '.join(REPORTERS)}",
    "RECIPE": f"one of {', '.join(RECIPES)}",
}
ABOUT = {
    "learning_rate": "at its highest, after the warm-up", "epochs": "passes over the pairs",
    "max_steps": "optimizer steps; 0 = whole epochs", "batch_size": "records a forward, at most",
    "accumulation": "batches an optimizer step", "rank": "of the LoRA matrices",
    "alpha": "LoRA's scale: alpha / sqrt(rank) with rsLoRA, alpha / rank without", "rslora": "rank-stabilised scale",
    "warmup": "fraction of all steps, then a cosine to 0",
    "max_grad_norm": "gradients are clipped to this norm; the norm before is logged", "weight_decay": "AdamW's",
    "seed": "of fresh adapters and of the order of the pairs", "save_every": "optimizer steps between checkpoints",
    "eval_batch_size": "records a forward in validation and in filling the reference cache",
    "select": f"which checkpoint is kept: {', '.join(SELECT)}; all but last need validation pairs",
    "stop_above": "a record's loss in nats that counts as divergence and stops the run",
    "feature_mb": "budget for kept image features, MB",
    "recompute": "layers are run again in the backward pass: less memory, about a third more time",
}


@dataclass(frozen=True)
class Data:
    """Resolved data and model of a command; `max_side` is what `load_lvlm` takes."""

    model: str
    max_side: int
    pairs: list[Pair]
    validation: list[Pair]
    start: Path | None = None


@command(
    refused=(ValueError, TypeError, ModelError, StageError, PresetError, ReferenceMismatch),
    stopped=(TrainingDiverged, NothingLearnt, OutOfMemory), resume="the same command goes on from the last checkpoint",
)
def main(arguments: Sequence[str]) -> None:
    """Exit status: 0 done, 2 bad arguments or data, 1 a run that stopped, 130 interrupted."""
    given = read_arguments(arguments, allowed())
    settings, data, out = resolve(given)
    config = {
        "model": data.model, "max_side": data.max_side, "pairs": len(data.pairs), "validation": len(data.validation),
        "from": given.get("RUN") or given["PAIRS"], "start": data.start and str(data.start),
        "settings": asdict(settings), "recipe": asdict(settings.resolved_recipe()),
    }  # fmt: skip
    claim(out / "config.json", config)  # before any work
    if process_rank() == 0:
        print((out / "config.json").read_text(encoding="utf-8"), end="", flush=True)
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(out / "tensorboard"))
    device = given.get("DEVICE", "auto")
    if device != "cpu" and torch.cuda.is_available() and process_count() > 1:  # a launcher's process has its own GPU
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    try:
        lvlm = load_lvlm(data.model, device=device, seed=settings.seed, max_side=data.max_side)
        result = train(
            lvlm, data.pairs, settings, folder=out, work=out / "work", validation=data.validation, start=data.start,
            report_to=given.get("REPORT_TO", "none"),
        )  # fmt: skip
    except (MemoryError, RuntimeError) as error:
        if not ran_out(type(error).__name__, str(error)):
            raise
        what = (str(error) or type(error).__name__).splitlines()[0]  # a MemoryError often says nothing
        raise OutOfMemory(f"memory ran out ({what}); recompute=true keeps one input a layer; batch_size=1 with "
                          "accumulation as much larger is the same step; MAX_SIDE= gives fewer tokens a picture; pairs "
                          "with long answers cost most. The same command goes on from there") from error
    if process_rank() == 0:
        losses = [row["loss"] for row in result.log if "learning_rate" in row]
        print(f"{result.steps} steps in {result.seconds:.0f} s, loss {losses[0]:.4f} -> {losses[-1]:.4f}")
        print(f"{out}: adapter, log.jsonl, settings.json; work/ is needed no longer")


def allowed() -> dict[str, str]:
    """{NAME: what it means}: places, then every field of TrainSettings and of a recipe by its own name."""
    defaults = vars(TrainSettings())
    settings = {name: f"{what} (default: {defaults[name]})" for name, what in ABOUT.items()}
    recipe = {f"recipe.{name}": "of the recipe, instead of its own" for name in RECIPE_FIELDS}
    return PLACES | settings | recipe


def resolve(given: Mapping[str, str]) -> tuple[TrainSettings, Data, Path]:
    """Settings, data and OUT of a command's arguments. Raises ValueError and TypeError for what cannot be used."""
    if len({"RUN", "PAIRS"} & given.keys()) != 1 or "OUT" not in given:
        raise ArgumentError("say what is learnt from and where to write: RUN= or PAIRS=, and OUT=")
    if given.get("DEVICE", "auto") not in DEVICES:
        raise ArgumentError(f"DEVICE={given['DEVICE']!r} is not one of {', '.join(DEVICES)}")
    usual = vars(TrainSettings())
    changes = {name: value_of(name, given[name], default) for name, default in usual.items() if name in given}
    changes |= {"recipe": given["RECIPE"]} if "RECIPE" in given else {}
    overrides = {}
    for name, told in ((name, f"recipe.{name}") for name in RECIPE_FIELDS if f"recipe.{name}" in given):
        default, parts = RECIPE_FIELDS[name].default, given[told].split(",")  # of a number also several, with commas
        several = isinstance(default, float) and len(parts) > 1
        overrides[name] = (tuple(value_of(told, part, default) for part in parts) if several else
                           value_of(told, given[told], default))
    settings, data = _read_data(given, changes.get("recipe"))
    settings = replace(settings, **changes, overrides=settings.overrides | overrides)
    divide_step(batch_size=settings.batch_size, accumulation=settings.accumulation, processes=process_count())
    return settings, data, Path(given["OUT"])


def _read_data(given: Mapping[str, str], recipe: str | None) -> tuple[TrainSettings, Data]:
    """The data of a run or of files, and the settings before the changes of this command."""
    side = value_of("MAX_SIDE", given.get("MAX_SIDE"), 0)
    start = Path(given["START"]) if "START" in given else None
    if start and not (start / "adapter_config.json").is_file():
        raise ArgumentError(f"START={start} holds no adapter (adapter_config.json)")
    if "PAIRS" in given:
        if "MODEL" not in given:
            raise ArgumentError("PAIRS= needs MODEL=, a model folder or hub id")
        validation = read_pairs(Path(given["VALIDATION"])) if "VALIDATION" in given else []
        return TrainSettings(), Data(given["MODEL"], side, read_pairs(Path(given["PAIRS"])), validation, start)
    if "VALIDATION" in given:
        raise ArgumentError("VALIDATION= goes with PAIRS=; a run has validation pairs of its own")
    stage = open_run(Path(given["RUN"]))
    drawn, preset = stage_data(stage), stage.preset
    settings = settings_of(preset, recipe or preset.recipes[-1], seed=stage.seed)
    data = Data(given.get("MODEL", stage.model), side or preset.max_side, drawn.pool, drawn.watched, start)
    return settings, data
