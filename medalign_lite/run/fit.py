"""Does a run fit this machine: memory by phase, disk and time, told before any work, and what to turn down if not.

The same advice is given when memory ran out in a run all the same.
"""

import os
import time
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from medalign_lite.cases import readers
from medalign_lite.cases.case import CaseError
from medalign_lite.cases.readers import read_cases
from medalign_lite.dials import PRESETS, Preset
from medalign_lite.losses.recipes import RECIPES
from medalign_lite.model.weights import ModelError, locate
from medalign_lite.run.dial import Resolved, dial, find_model, gpu_memory_gb

CONFIGS = Path(__file__).resolve().parent / "configs"  # config.json of the presets' models
PROCESS_GB = 0.75  # Python with torch, transformers and a notebook kernel, measured
HEAP = 1.6  # what a CPU process takes for each byte that is told: loading, allocator (benchmarks/fit_bench.py)
CONTEXT_GB = 0.6  # what a GPU's driver and libraries take for themselves; assumed
WORKERS = 2  # on a CPU: processes beside the notebook's (`shards.py`)
SPARE = 0.9  # of a memory, the share that may be planned with
MATRIX = 1024  # side of the matrices whose product is timed
EFFICIENCY = 0.2  # of that speed, the share that a run reaches; a guess
OF_LONGEST = 4  # an answer has a fourth of the tokens that it may have; a guess
CONTROLS = 3  # answers to each question of a test image and forward passes for its margins; a guess


@dataclass(frozen=True)
class Fit:
    """GB that a run needs and that are there, by phase; tokens of a picture; the changes that would make it fit."""

    need_gb: dict[str, float]
    there_gb: float
    where: str
    largest: str
    image_tokens: int
    disk_gb: float
    operations: float
    change: str | None

    @property
    def worst(self) -> str:
        """The phase that needs most."""
        return max(self.need_gb, key=self.need_gb.get)

    @property
    def fits(self) -> bool:
        """Whether every phase does."""
        return self.need_gb[self.worst] <= self.there_gb


def examine_fit(resolved: Resolved, *, there_gb: float | None = None, on_gpu: bool | None = None) -> Fit:
    """What the run will need of this machine, or of one with `there_gb`, or of one with a GPU.

    Raises ModelError where neither the model nor its configuration is here.
    """
    from medalign_lite.run import memory  # imports torch

    preset, folder = counted(resolved), config_folder(resolved.model)
    config, (gpu_gb, about) = _config(folder), gpu_memory_gb()
    on_gpu = gpu_gb > 0 if on_gpu is None else on_gpu
    where = about if on_gpu else "this machine's memory"
    there_gb = resolved.preset.min_gpu_gb if on_gpu and not gpu_gb else there_gb
    there = (gpu_gb - CONTEXT_GB if on_gpu else machine_memory_gb()[0]) * SPARE if there_gb is None else there_gb

    @lru_cache
    def estimated(preset: Preset):
        tokens = image_tokens(resolved.model, preset.max_side)
        shapes = memory.shapes_of(config, preset, images=_images(preset), image_tokens=tokens)
        return shapes, memory.estimate(folder, preset, shapes, on_gpu=on_gpu)

    def needs(preset: Preset) -> dict[str, float]:
        found, workers = estimated(preset)[1], 1 if on_gpu else WORKERS
        beside = 0.0 if on_gpu else (1 + WORKERS) * PROCESS_GB
        alone = {"training"} if preset.needs_gpu else set()  # recipes are trained one after another
        each = 1.0 if on_gpu else HEAP
        return {phase: found.peak(phase) / 1e9 * each * (1 if phase in alone else workers) + beside
                for phase in memory.PHASES}

    shapes, found = estimated(preset)
    need = needs(preset)
    change = None
    if max(need.values()) > there:
        change = memory.advice(preset, lambda other: max(needs(other).values()), there)
    worst = max(need, key=need.get)
    states = memory.reference_bytes(config, preset, shapes, memory.number_type(on_gpu)) / 1e9
    disk = 1.0 + 3 * _images(preset) * preset.max_side**2 / 1e9 + states  # pictures, with their corrupted copies
    return Fit(need, there, where, _largest(found.device[worst]), shapes.image_tokens, disk,
               _operations(preset, shapes, found.weights), change)


def counted(resolved: Resolved) -> Preset:
    """The preset with the numbers of its cases, at most its own, where they are read and not made from other files."""
    preset = resolved.preset
    if resolved.cases is None or readers.detect(resolved.cases)[0].MAKES_FILES:
        return preset
    cases = read_cases(resolved.cases, check_files=False).cases
    splits, questions = Counter(case.split for case in cases), sum(len(case.questions) for case in cases)
    numbers = {"n_val": splits["val"], "n_test": splits["test"], "n_shifted": splits["shifted"]}
    pool = len(cases) - sum(numbers.values())  # with what has no split yet
    numbers |= {"n_pool": pool, "questions_per_case": -(-questions // max(1, len(cases)))}
    return replace(preset, **{name: min(many, getattr(preset, name) or many) for name, many in numbers.items()})


def advise(resolved: Resolved) -> str:
    """What to turn down after memory ran out: one sentence."""
    try:
        fit = examine_fit(resolved)
    except (ModelError, CaseError, ValueError, OSError) as error:
        return f"a smaller preset, or PRESET={resolved.preset.name},micro_batch=1 ({error})"
    told = f"by the estimate {fit.worst} needs {fit.need_gb[fit.worst]:.1f} of {fit.there_gb:.1f} GB ({fit.where})"
    if fit.fits:
        return f"{told}: other programs have taken the rest; close them, or turn down {_halves(resolved.preset)}"
    if fit.change is None:
        return f"{told}, and no single number makes it fit: take a smaller preset or model"
    return f"{told}, most of it {fit.largest}: run PRESET={with_changes(resolved.preset, fit.change)}"


def with_changes(preset: Preset, change: str) -> str:
    """PRESET= with each of the alternatives "a=1 or b=2"."""
    return " or PRESET=".join(f"{dial(preset)},{one}" for one in change.split(" or "))


def config_folder(model: str) -> Path:
    """A folder with the model's config.json: its own, or for the presets' models the copy in the package."""
    name = model.partition("@")[0]
    if name in [preset.model for preset in PRESETS.values()] and "/" in name and find_model(model) is None:
        kept = CONFIGS / name.rpartition("/")[2]
        if kept.is_dir():
            return kept
    return locate(model)[0]


def image_tokens(model: str, max_side: int) -> int | None:
    """Tokens of a picture of `max_side`² pixels, asked of the model's processor; None where it is not here."""
    folder = find_model(model)
    if folder is None:
        return None
    from PIL import Image

    from medalign_lite.model.batches import encode_prompts
    from medalign_lite.model.families import limit_side
    from medalign_lite.model.lvlm import load_processor

    processor = load_processor(folder)
    limit_side(processor, max_side)
    ids = encode_prompts(processor, [Image.new("RGB", (max_side, max_side))], ["?"])["input_ids"]
    return int((ids == _config(folder).image_token_id).sum())


def machine_memory_gb() -> tuple[float, float]:
    """GB of memory that this process may use, and that are unused now."""
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = (os.sysconf(name) * page / 1e9 for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    limit = Path("/sys/fs/cgroup/memory.max")  # a container's own limit
    if limit.is_file() and limit.read_text().strip().isdigit():
        total = min(total, int(limit.read_text()) / 1e9)
    return total, min(free, total)


def hours(fit: Fit) -> float:
    """A rough guess at the run's length: its operations by this machine's speed, which is timed for a moment."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    side, dtype = (8 * MATRIX, torch.bfloat16) if device == "cuda" else (MATRIX, torch.float32)
    matrix, best = torch.ones(side, side, dtype=dtype, device=device), float("inf")
    for _ in range(4):
        started = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - started)
    return fit.operations / (2 * side**3 / best * EFFICIENCY) / 3600


def _config(folder: Path):
    from medalign_lite.model.lvlm import config_of

    return config_of(folder)


def _images(preset: Preset) -> int:
    return preset.n_pool + preset.n_val + preset.n_test + preset.n_shifted


def _operations(preset: Preset, shapes, weights: int) -> float:
    """Floating-point operations of all three phases: two a weight and token, three times that with gradients."""
    answer = shapes.answer_tokens / OF_LONGEST
    a_question = shapes.prefix + answer
    asked = preset.questions_per_case * (
        (preset.n_pool + preset.n_val) + CONTROLS * (preset.n_test + preset.n_shifted) * (1 + len(preset.recipes)))
    pairs = preset.train_pairs or preset.n_pool
    rows = sum(len({image for image, _ in RECIPES[name].sides()}) for name in preset.recipes)
    learnt = pairs * preset.epochs * rows * (shapes.prefix + 2 * answer) * (4 if preset.recompute else 3)
    return 2.0 * weights * (asked * a_question + learnt)


def _largest(parts: dict[str, int]) -> str:
    name = max(parts, key=parts.get)
    return f"{name} {parts[name] / 1e9:.1f} GB"


def _halves(preset: Preset) -> str:
    batch = "micro_batch" if preset.micro_batch > 1 else "eval_batch"
    parts = {batch: max(1, getattr(preset, batch) // 2), "max_side": preset.max_side // 2}
    return " or ".join(f"PRESET={dial(preset)},{name}={value}" for name, value in parts.items())
