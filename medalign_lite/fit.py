"""Does a run fit this machine: memory by phase, disk and time, told before any work, and what to turn down if not.

The same advice is given when memory ran out in a run all the same.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from medalign_lite.model_folder import SAFE_FILES, ModelError, locate
from medalign_lite.presets import Preset, Resolved, dial, find_model, gpu_memory_gb

CONFIGS = Path(__file__).resolve().parent / "configs"  # config.json of the presets' models
PROCESS_GB = 0.75  # Python with torch, transformers and a notebook kernel, measured
CONTEXT_GB = 0.6  # what a GPU's driver and libraries take for themselves; assumed
PROCESSES = 3  # on a CPU: the notebook, and two that work (`shards.py`)
SPARE = 0.9  # of a memory, the share that may be planned with
QUESTIONS = 4  # of a case, a guess where the cases have not been read


@dataclass(frozen=True)
class Fit:
    """GB that a run needs and that are there, by phase; tokens of a picture; the changes that would make it fit."""

    need_gb: dict[str, float]
    there_gb: float
    where: str
    largest: dict[str, str]
    image_tokens: int
    host_gb: float
    change: str | None

    @property
    def worst(self) -> str:
        """The phase that needs most."""
        return max(self.need_gb, key=self.need_gb.get)

    @property
    def fits(self) -> bool:
        """Whether every phase does."""
        return self.need_gb[self.worst] <= self.there_gb


def examine_fit(resolved: Resolved, *, there_gb: float | None = None) -> Fit:
    """What the run will need of this machine, or of one with `there_gb`.

    Raises ModelError where neither the model nor its configuration is here.
    """
    from medalign_lite import memory  # imports torch

    preset, folder = resolved.preset, config_folder(resolved.model)
    gpu_gb, about = gpu_memory_gb()
    on_gpu = gpu_gb > 0
    where = about if on_gpu else "this machine's memory"
    there = (gpu_gb - CONTEXT_GB if on_gpu else machine_memory_gb()[0]) * SPARE if there_gb is None else there_gb
    copies = 1 if on_gpu else PROCESSES - 1

    @lru_cache
    def estimated(preset: Preset):
        tokens = image_tokens(resolved.model, preset.max_side)
        shapes = memory.shapes_of(_config(folder), preset, images=_images(preset), image_tokens=tokens)
        return shapes, memory.estimate(folder, preset, shapes, on_gpu=on_gpu)

    def needs(preset: Preset) -> dict[str, float]:
        shapes, found = estimated(preset)
        beside = 0.0 if on_gpu else PROCESSES * PROCESS_GB + sum(found.host.values()) / 1e9
        trains = 1 if preset.needs_gpu else copies
        return {phase: found.peak(phase) / 1e9 * (trains if phase == "training" else copies) + beside
                for phase in memory.PHASES}

    shapes, found = estimated(preset)
    need = needs(preset)
    change = None
    if max(need.values()) > there:
        change = memory.advice(preset, lambda other: max(needs(other).values()), there)
    largest = {phase: _largest(parts) for phase, parts in found.device.items()}
    host = PROCESS_GB + sum(found.host.values()) / 1e9 if on_gpu else 0.0
    return Fit(need, there, where, largest, shapes.image_tokens, host, change)


def advise(resolved: Resolved) -> str:
    """What to turn down after memory ran out: one sentence."""
    try:
        fit = examine_fit(resolved)
    except (ModelError, ValueError, OSError) as error:
        return f"a smaller preset, or PRESET={resolved.preset.name},micro_batch=1 ({error})"
    told = f"by the estimate {fit.worst} needs {fit.need_gb[fit.worst]:.1f} of {fit.there_gb:.1f} GB ({fit.where})"
    if fit.fits:
        return f"{told}: other programs have taken the rest; close them, or turn down {_halves(resolved.preset)}"
    if fit.change is None:
        return f"{told}, and no single number makes it fit: take a smaller preset or model"
    return f"{told}, most of it {fit.largest[fit.worst]}: run PRESET={with_changes(resolved.preset, fit.change)}"


def with_changes(preset: Preset, change: str) -> str:
    """PRESET= with each of the alternatives "a=1 or b=2"."""
    return " or PRESET=".join(f"{dial(preset)},{one}" for one in change.split(" or "))


def config_folder(model: str) -> Path:
    """A folder with the model's config.json: its own, or for the presets' models the copy in the package."""
    kept = CONFIGS / model.partition("@")[0].rpartition("/")[2]
    if find_model(model) is None and kept.is_dir():
        return kept
    return locate(model)[0]


def image_tokens(model: str, max_side: int) -> int | None:
    """Tokens of a picture of `max_side`² pixels, asked of the model's processor; None where it is not here."""
    folder = find_model(model)
    if folder is None:
        return None
    from PIL import Image

    from medalign_lite.batches import encode_prompts
    from medalign_lite.families import limit_side
    from medalign_lite.lvlm import load_processor

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


def disk_need_gb(resolved: Resolved, host_gb: float) -> float:
    """GB that a run writes: pictures and their corrupted copies, reference states, three adapters' checkpoints."""
    pictures = 3 * _images(resolved.preset) * resolved.preset.max_side**2 / 1e9
    return 1.0 + pictures + host_gb


def model_size_gb(model: str) -> float:
    """GB of a model that is here."""
    folder = find_model(model)
    files = {path for pattern in SAFE_FILES for path in folder.glob(pattern)} if folder else ()
    return sum(path.stat().st_size for path in files) / 1e9


def _config(folder: Path):
    from medalign_lite.lvlm import config_of

    return config_of(folder)


def _images(preset: Preset) -> int:
    return preset.n_pool + preset.n_val + preset.n_test + preset.n_shifted


def _largest(parts: dict[str, int]) -> str:
    name = max(parts, key=parts.get)
    return f"{name} {parts[name] / 1e9:.1f} GB"


def _halves(preset: Preset) -> str:
    batch = "micro_batch" if preset.micro_batch > 1 else "eval_batch"
    parts = {batch: max(1, getattr(preset, batch) // 2), "max_side": preset.max_side // 2}
    return " or ".join(f"PRESET={dial(preset)},{name}={value}" for name, value in parts.items())
