"""The one dial: ``ci``, ``workshop``, ``full``, and ``auto``, which chooses between the first two and says why.

    resolved = resolve("ci,epochs=3", cases="path/to/cases")
    resolved.preset.epochs, resolved.model, resolved.cases, resolved.reason

Any number of a preset can be changed so in the dial itself, in any place that takes PRESET.

Nothing here imports torch: a run that has nothing to do must end in seconds.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from medalign_lite.dials import PRESETS, Preset, PresetError
from medalign_lite.files import path_of
from medalign_lite.losses.recipes import RECIPES
from medalign_lite.model.weights import ModelError, find_model, place_of

NAMES = (*PRESETS, "auto")
CORRUPTIONS = ("noise", "blur", "inpaint", "mean", "black")  # that training may show; texture is the evaluation's
PLACES = ("name", "purpose", "model", "cases", "recipes", "rounds")  # fields that are no number of the dial


@dataclass(frozen=True)
class Resolved:
    """A preset with its overrides applied, and one sentence on how it was chosen."""

    preset: Preset
    reason: str
    model: str  # what ``load_lvlm`` takes: an absolute folder or a hub id
    cases: Path | None  # absolute; None = the phantom world


def resolve(preset="auto", *, cases: str = "", model: str = "", recipe: str = "", rounds: int = 0) -> Resolved:
    """Turn a name, which may carry numbers of its own (``full,max_side=448``), and what CASES, MODEL, RECIPE (names
    with commas between them) and ROUNDS say, empty or 0 as the preset has it, into numbers and a reason. Raises
    PresetError for an unknown name, field or recipe, a value of the wrong type, cases that do not exist, or a model
    that is neither a folder nor a hub id."""
    preset, *numbers = [part.strip() for part in preset.split(",")]
    if preset not in NAMES:
        raise PresetError(f"PRESET={preset!r} is not one of {', '.join(NAMES)}")
    recipes = tuple(name.strip() for name in recipe.split(",")) if recipe.strip() else ()
    if set(recipes) - set(RECIPES) or len(set(recipes)) < len(recipes):
        wrong = ", ".join(repr(name) for name in recipes if name not in RECIPES) or "a recipe that is named twice"
        raise PresetError(f"RECIPE={','.join(recipes)}: {wrong}; allowed, each once: {', '.join(RECIPES)}")
    if rounds < 0:
        raise PresetError(f"override rounds={rounds} must be 1 or more")
    told = {"cases": cases, "model": model, "recipes": recipes, "rounds": rounds}
    changes = _numbers(numbers) | {name: value for name, value in told.items() if value}
    if preset == "auto":
        preset, reason = choose(changes.get("model"))
    else:
        reason = f"preset {preset}, asked for by name"
    chosen = replace(PRESETS[preset], **changes)
    if changes:
        told = {key: "+".join(value) if isinstance(value, tuple) else value for key, value in changes.items()}
        reason += "; changed: " + ", ".join(f"{key}={value}" for key, value in told.items())
    path = path_of(chosen.cases)
    if not path.exists():
        raise PresetError(f"CASES={chosen.cases!r}: {path} does not exist; give a cases.jsonl or the folder of a known "
                          "data set, or leave CASES empty for the phantom cases")
    try:
        return Resolved(chosen, reason, place_of(chosen.model), path.resolve() if chosen.cases else None)
    except ModelError as error:
        raise PresetError(str(error)) from error


def dial(preset: Preset) -> str:
    """What PRESET= must be to give these numbers again: the name, and after commas whatever differs from it."""
    usual = vars(PRESETS[preset.name])
    changed = {name: value for name, value in vars(preset).items() if value != usual[name] and name not in PLACES}
    return ",".join([preset.name, *(f"{name}={value}" for name, value in changed.items())])


def choose(model: str | None = None) -> tuple[str, str]:
    """(name, reason) for this machine: ``workshop`` only where its GPU and its weights are already here."""
    wanted = PRESETS["workshop"]
    gpu_gb, about = gpu_memory_gb()
    if gpu_gb < wanted.min_gpu_gb:
        return "ci", f"auto chose ci: {about}, and workshop needs {wanted.min_gpu_gb:g} GB"
    name = model or wanted.model
    if find_model(name) is None:
        get = f"`make models MODEL={name}`"
        return "ci", f"auto chose ci: {about}, but the weights of {name} are not on this machine ({get})"
    return "workshop", f"auto chose workshop: {about}, and {name} is on this machine"


def gpu_memory_gb() -> tuple[float, str]:
    """Memory of the first visible GPU in GB (0 without one) and a phrase that says what was found."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return 0.0, "CUDA_VISIBLE_DEVICES hides every GPU"
    if shutil.which("nvidia-smi") is None:
        return 0.0, "this machine has no NVIDIA GPU"
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
        name, mebibytes = answer.splitlines()[0].rsplit(",", 1)
        memory = float(mebibytes) * 2**20 / 1e9
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return 0.0, "nvidia-smi found no working GPU"
    if "+cpu" in importlib.metadata.version("torch"):
        return 0.0, f"there is a {name.strip()}, but the installed torch is a CPU build"
    return memory, f"{name.strip()} with {memory:.0f} GB"


def _numbers(parts: list[str]) -> dict:
    """Overrides of the dial: ``field=number`` (or word) each, in the type of the field. Raises PresetError."""
    usual, found = vars(PRESETS["ci"]), {}
    for part in parts:
        name, equals, text = part.partition("=")
        if not equals or name not in usual or name in PLACES:
            numbers = ", ".join(field for field in usual if field not in PLACES)
            raise PresetError(f"PRESET: {part!r} is no number of a preset; those are {numbers}")
        kind = type(usual[name])
        try:
            found[name] = {"True": True, "False": False, "1": True, "0": False}[text] if kind is bool else kind(text)
        except (ValueError, KeyError):
            raise PresetError(f"PRESET: {part!r} must be {kind.__name__}") from None
    if found.get("corruption", "noise") not in CORRUPTIONS:
        raise PresetError(f"corruption={found['corruption']!r} is not one of {', '.join(CORRUPTIONS)}")
    return found
