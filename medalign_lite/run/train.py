"""``python -m medalign_lite.train.train``: training outside notebooks, alone or under `accelerate launch`.

    python -m medalign_lite.train.train --run artifacts/ci --recipe fire-mpo --out adapters/fire-mpo
    python -m medalign_lite.train.train --pairs pairs.jsonl --model path-or-hub-id --epochs 2 --out adapters/mine
    accelerate launch --num_processes 2 -m medalign_lite.train.train --pairs pairs.jsonl --model ... --out ...

`OUT` gets config.json (before any work), the adapter in PEFT's format, log.jsonl and settings.json; `OUT/tensorboard`
event files; `OUT/work` checkpoints and reference values, from which the same command goes on after a kill. With --run
the settings that are not given are those of the run's preset; with --pairs they are the defaults that --help shows.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from medalign_lite.dials import PresetError
from medalign_lite.losses.recipes import RECIPES, Recipe
from medalign_lite.model.lvlm import load_lvlm
from medalign_lite.model.weights import ModelError
from medalign_lite.run.commands import exit_status, ran_out
from medalign_lite.run.pairs import open_run, stage_data
from medalign_lite.run.stages import StageError
from medalign_lite.train.arms import settings_of
from medalign_lite.train.data import read_pairs
from medalign_lite.train.launch import divide_step, process_count, process_rank
from medalign_lite.train.pairs import Pair
from medalign_lite.train.reference import ReferenceMismatch
from medalign_lite.train.settings import SELECT, TrainSettings
from medalign_lite.train.train import TrainingDiverged, train

ABOUT = {
    "recipe": f"one of {', '.join(RECIPES)}",
    "learning_rate": "at its highest, after the warm-up",
    "epochs": "passes over the pairs",
    "max_steps": "optimizer steps; 0 = whole epochs",
    "batch_size": "records a forward, at most",
    "accumulation": "batches an optimizer step",
    "rank": "of the LoRA matrices",
    "alpha": "LoRA's scale: alpha / sqrt(rank) with rsLoRA, alpha / rank without",
    "rslora": "rank-stabilised scale",
    "warmup": "fraction of all steps, then a cosine to 0",
    "max_grad_norm": "gradients are clipped to this norm; the norm before is logged",
    "weight_decay": "AdamW's",
    "seed": "of fresh adapters and of the order of the pairs",
    "save_every": "optimizer steps between checkpoints",
    "eval_batch_size": "records a forward in validation and in filling the reference cache",
    "select": f"which checkpoint is kept: {', '.join(SELECT)}; all but last need validation pairs",
    "stop_above": "a record's loss in nats that counts as divergence and stops the run",
    "feature_mb": "budget for kept image features, MB",
    "recompute": "layers are run again in the backward pass: less memory, about a third more time",
}


TURN_DOWN = (
    "--recompute keeps one input a layer; --batch-size 1 with --accumulation as much larger is the same step; "
    "--max-side gives fewer tokens a picture; pairs with long answers cost most. The same command goes on from there"
)


@dataclass(frozen=True)
class Data:
    """Resolved data and model of a command; `max_side` is what `load_lvlm` takes."""

    model: str
    max_side: int
    pairs: list[Pair]
    validation: list[Pair]


class Parser(argparse.ArgumentParser):
    """Whose errors list what is allowed."""

    def error(self, message: str):
        """Exit status 2."""
        allowed = ", ".join(option for action in self._actions for option in action.option_strings)
        self.exit(2, f"error: {message}\nallowed: {allowed}\n`python -m medalign_lite.train.train --help` says more\n")


def parser() -> Parser:
    """Data and places, then every field of TrainSettings by its name."""
    made = Parser(prog="python -m medalign_lite.train.train", description=__doc__, allow_abbrev=False,
                  formatter_class=argparse.RawDescriptionHelpFormatter)
    data = made.add_mutually_exclusive_group(required=True)
    data.add_argument("--run", type=Path, help="a run of `make reproduce` (OUT/PRESET), with the pairs of notebook 05")
    data.add_argument("--pairs", type=Path, help="a pairs file (layout: medalign_lite/train/data.py)")
    made.add_argument("--validation", type=Path, help="a second pairs file that is looked at, never learnt from")
    made.add_argument("--model", help="a model folder or hub id; with --run its own model is the default")
    made.add_argument("--max-side", type=int, default=0,
                      help="a picture has at most this many pixels squared (default: the run's, or the model's limit)")
    made.add_argument("--start", type=Path, help="a folder of adapters to go on from; the reference stays the base")
    made.add_argument("--out", type=Path, required=True, help="the folder that is written to")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    settings = made.add_argument_group("settings")
    settings.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="overrides",
                          help=f"a setting of the recipe, repeatable: {', '.join(_recipe_fields())}")
    for field in fields(TrainSettings):
        if field.name == "overrides":
            continue
        action = {"action": argparse.BooleanOptionalAction} if field.type is bool else {"type": field.type}
        settings.add_argument(f"--{field.name.replace('_', '-')}", default=argparse.SUPPRESS, **action,
                              help=f"{ABOUT[field.name]} (default: {field.default})")
    return made


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 done, 2 bad arguments or data, 1 a run that stopped, 130 interrupted."""
    given = parser().parse_args(arguments)

    def work() -> None:
        settings, data = resolve(given)
        save_config(given, settings, data)
        with _memory_explained():
            result = train(
                load_lvlm(data.model, device=_device(given.device), seed=settings.seed, max_side=data.max_side),
                data.pairs, settings, folder=given.out, work=given.out / "work", validation=data.validation,
                start=given.start, tensorboard=given.out / "tensorboard",
            )  # fmt: skip
        if process_rank() == 0:
            losses = [row["loss"] for row in result.log if "learning_rate" in row]
            print(f"{result.steps} steps in {result.seconds:.0f} s, loss {losses[0]:.4f} -> {losses[-1]:.4f}")
            print(f"{given.out}: adapter, log.jsonl, settings.json; work/ is needed no longer")

    return exit_status(
        work, refused=(ValueError, TypeError, ModelError, StageError, PresetError, ReferenceMismatch),
        stopped=(TrainingDiverged, OutOfMemory), resume="the same command goes on from the last checkpoint",
    )  # fmt: skip


class OutOfMemory(RuntimeError):
    """Memory ran out; the message says what to turn down."""


@contextmanager
def _memory_explained() -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out(type(error).__name__, str(error)):
            raise
        what = (str(error) or type(error).__name__).splitlines()[0]  # a MemoryError often says nothing
        raise OutOfMemory(f"memory ran out ({what}); {TURN_DOWN}") from error


def resolve(given: argparse.Namespace) -> tuple[TrainSettings, Data]:
    """Settings and data of a parsed command. Raises ValueError and TypeError for what cannot be used."""
    names = [field.name for field in fields(TrainSettings) if field.name != "overrides"]
    changes = {name: value for name, value in vars(given).items() if name in names}
    overrides = dict(_override(text) for text in given.overrides)
    if given.start and not (given.start / "adapter_config.json").is_file():
        raise ValueError(f"--start {given.start} holds no adapter (adapter_config.json)")
    if given.run:
        if given.validation:
            raise ValueError("--validation goes with --pairs; a run has validation pairs of its own")
        stage = open_run(given.run)
        drawn = stage_data(stage)
        recipe = changes.get("recipe", stage.preset.recipes[-1])
        settings = settings_of(stage.preset, recipe, seed=stage.seed)
        overrides = settings.overrides | overrides
        data = Data(given.model or stage.model, given.max_side or stage.preset.max_side, drawn.pool, drawn.watched)
    else:
        if not given.model:
            raise ValueError("--pairs needs --model, a model folder or hub id")
        validation = read_pairs(given.validation) if given.validation else []
        settings, data = TrainSettings(), Data(given.model, given.max_side, read_pairs(given.pairs), validation)
    settings = replace(settings, **changes, overrides=overrides)
    divide_step(batch_size=settings.batch_size, accumulation=settings.accumulation, processes=process_count())
    return settings, data


def save_config(given: argparse.Namespace, settings: TrainSettings, data: Data) -> None:
    """OUT/config.json, before any work. Raises ValueError where the folder holds another run's."""
    config = {
        "model": data.model, "max_side": data.max_side, "pairs": len(data.pairs), "validation": len(data.validation),
        "from": str(given.run or given.pairs), "start": given.start and str(given.start),
        "settings": asdict(settings), "recipe": asdict(settings.resolved_recipe()),
    }
    text, path = json.dumps(config, indent=2, sort_keys=True) + "\n", given.out / "config.json"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ValueError(f"{path} is of another run; delete {given.out}, or name another folder with --out")
    if process_rank() == 0:
        given.out.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_text(text, encoding="utf-8")
        path.with_suffix(".new").replace(path)
        print(text, end="", flush=True)


def _override(text: str) -> tuple[str, object]:
    """NAME=VALUE as the recipe's field has it: a number, a word, true or false, or several with commas."""
    name, equals, value = text.partition("=")
    if not equals or name not in _recipe_fields():
        raise ValueError(f"--set {text}: give NAME=VALUE, NAME one of {', '.join(_recipe_fields())}")
    default = Recipe.__dataclass_fields__[name].default
    wanted = "true or false" if isinstance(default, bool) else "a number"
    try:
        if isinstance(default, bool):
            return name, {"true": True, "false": False}[value.lower()]
        if isinstance(default, float):
            numbers = tuple(map(float, value.split(",")))
            return name, numbers if len(numbers) > 1 else numbers[0]
    except (KeyError, ValueError):
        raise ValueError(f"--set {text}: {value!r} is not {wanted}") from None
    return name, tuple(value.split(",")) if isinstance(default, tuple) else value


def _recipe_fields() -> list[str]:
    return [field.name for field in fields(Recipe) if field.name != "name"]


def _device(wanted: str) -> str:
    """The device of this process: under a launcher, each has its own GPU."""
    if wanted == "cpu" or not torch.cuda.is_available() or process_count() == 1:
        return wanted
    device = f"cuda:{os.environ['LOCAL_RANK']}"
    torch.cuda.set_device(device)
    return device
