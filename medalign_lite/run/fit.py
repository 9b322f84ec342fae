"""Does a run fit this machine: memory by phase and disk, told before any work, and what to turn down if not.

Weights, adapters, optimiser states and caches are counted. What a forward and backward pass holds at its worst is
metered on the meta device, where a tensor has a shape and no memory, by running the language model there with its
adapters at the run's own shapes: nothing about a layer has to be known beforehand. Everything is an upper end.
"""

import contextlib
import math
import weakref
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AttentionInterface

from medalign_lite.cases import readers
from medalign_lite.cases.case import CaseError
from medalign_lite.cases.readers import read_cases
from medalign_lite.dials import PRESETS, Preset
from medalign_lite.files import machine_memory_gb
from medalign_lite.losses.divergence import LOGITS_AT_ONCE
from medalign_lite.losses.recipes import RECIPES
from medalign_lite.model import batches
from medalign_lite.model.families import TOWERS, find_towers, image_tokens_of, patches_of
from medalign_lite.model.loading import config_of, skeleton_of
from medalign_lite.model.lvlm import Lvlm, attach_lora, base_of, layers_recomputing, load_processor, recompute_layers
from medalign_lite.model.weights import ModelError, find_model, locate
from medalign_lite.run.dial import Resolved, dial, gpu_memory_gb

CONFIGS = Path(__file__).resolve().parent / "configs"  # config.json of the presets' models
PROCESS_GB = 0.75  # Python with torch, transformers and a notebook kernel, measured
HEAP = 1.6  # what a CPU process takes for each byte that is told: loading, allocator (benchmarks/fit_bench.py)
CONTEXT_GB = 0.6  # what a GPU's driver and libraries take for themselves; assumed
WORKERS = 2  # on a CPU: processes beside the notebook's (`processes.py`)
LOOKED_AT = 50  # pictures of the cases whose size is looked at
SPARE = 0.9  # of a memory, the share that may be planned with
PROMPT_TOKENS = 64  # a question with what the chat template writes around it
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # a weight; an 8-bit scale for 64 of them; a 32-bit one for 256 of those
FEATURE_BYTES = 2**30  # image features that training keeps at most (`PairInputs`)
LOGIT_ARRAYS = 6  # fp32 arrays of a chunk of logits that live at once with a divergence (`divergence.py`)
WARM_IMAGES = 16  # pictures that the vision tower takes at a time
METERED = "metered"  # the name of `_fused` among transformers' attention functions
NUMBERS = {True: torch.bfloat16, False: torch.float32}  # what is computed in, on a GPU and on a CPU
KNOBS = ("micro_batch", "rollout_batch", "eval_batch", "max_side", "max_new_tokens")


@dataclass(frozen=True)
class Fit:
    """GB that a run needs and that are there, by phase; tokens of a picture; the changes that would make it fit."""

    need_gb: dict[str, float]
    there_gb: float
    where: str
    largest: str
    image_tokens: int
    disk_gb: float
    change: str | None

    @property
    def worst(self) -> str:
        """The phase that needs most."""
        return max(self.need_gb, key=self.need_gb.get)

    @property
    def fits(self) -> bool:
        """Whether every phase does."""
        return self.need_gb[self.worst] <= self.there_gb


def examine_fit(resolved: Resolved, *, on_gpu: bool | None = None) -> Fit:
    """What the run will need of this machine, or of one with a GPU. Raises ModelError where neither the model nor its
    configuration is here."""
    preset, folder = counted(resolved), config_folder(resolved.model)
    images = preset.n_pool + preset.n_val + preset.n_test + preset.n_shifted
    config, (gpu_gb, about) = config_of(folder), gpu_memory_gb()
    on_gpu = gpu_gb > 0 if on_gpu is None else on_gpu
    where = about if on_gpu else "this machine's memory"
    there = (gpu_gb - CONTEXT_GB if on_gpu else machine_memory_gb()[0]) * SPARE
    there = preset.min_gpu_gb if on_gpu and not gpu_gb else there

    @lru_cache
    def estimated(preset: Preset):
        tokens = image_tokens(resolved.model, preset.max_side, real_size(resolved.cases, preset.max_side))
        shapes = Shapes(tokens, preset.max_new_tokens, images)
        return shapes, estimate(folder, preset, shapes, on_gpu=on_gpu)

    def needs(preset: Preset) -> dict[str, float]:
        found = {phase: sum(parts.values()) / 1e9 for phase, parts in estimated(preset)[1].items()}
        if on_gpu:
            return found
        workers = {phase: WORKERS for phase in found}
        workers |= {"training": 1} if preset.needs_gpu else {}  # recipes are trained one after another
        return {phase: gb * HEAP * workers[phase] + (1 + WORKERS) * PROCESS_GB for phase, gb in found.items()}

    (shapes, found), need = estimated(preset), needs(preset)
    worst = max(need, key=need.get)
    advised = need[worst] > there and advice(preset, lambda other: max(needs(other).values()), there)
    # On disk: pictures, with their corrupted copies, and hidden states of the reference for recipes with a divergence.
    sides = max(sum(any(read.kl) for read in RECIPES[name].sides().values()) for name in preset.recipes)
    states = (preset.train_pairs or images) * sides * shapes.answer_tokens * config.get_text_config().hidden_size
    disk = 1.0 + (3 * images * preset.max_side**2 + states * NUMBERS[on_gpu].itemsize) / 1e9
    part, size = max(found[worst].items(), key=lambda item: item[1])
    return Fit(need, there, where, f"{part} {size / 1e9:.1f} GB", shapes.image_tokens, disk, advised or None)


def counted(resolved: Resolved) -> Preset:
    """The preset with the numbers of its cases, at most its own, where they are read and not made from other files."""
    preset = resolved.preset
    if resolved.cases is None or readers.detect(resolved.cases)[0].makes_files:
        return preset
    cases = read_cases(resolved.cases, check_files=False).cases
    splits, questions = Counter(case.split for case in cases), sum(len(case.questions) for case in cases)
    numbers = {"n_val": splits["val"], "n_test": splits["test"], "n_shifted": splits["shifted"]}
    pool = len(cases) - sum(numbers.values())  # with what has no split yet
    numbers |= {"n_pool": pool, "questions_per_case": -(-questions // max(1, len(cases)))}
    return replace(preset, **{name: min(many, getattr(preset, name) or many) for name, many in numbers.items()})


def advise(resolved: Resolved) -> str:
    """What to turn down after memory ran out: one sentence."""
    preset = resolved.preset
    try:
        fit = examine_fit(resolved)
    except (ModelError, CaseError, ValueError, OSError) as error:
        return f"a smaller preset, or PRESET={preset.name},micro_batch=1 ({error})"
    told = f"by the estimate {fit.worst} needs {fit.need_gb[fit.worst]:.1f} of {fit.there_gb:.1f} GB ({fit.where})"
    if fit.fits:
        halves = f"micro_batch={max(1, preset.micro_batch // 2)} or max_side={preset.max_side // 2}"
        return f"{told}: other programs have taken the rest; close them, or PRESET={with_changes(preset, halves)}"
    if fit.change is None:
        return f"{told}, and no single number makes it fit: take a smaller preset or model"
    return f"{told}, most of it {fit.largest}: run PRESET={with_changes(preset, fit.change)}"


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


def real_size(cases: Path | str | None, max_side: int) -> tuple[int, int]:
    """Width and height of the largest of the first pictures of the cases; a square of `max_side` where none is told."""
    found = []
    with contextlib.suppress(CaseError, OSError):
        for case in read_cases(Path(cases), check_files=False).cases[:LOOKED_AT] if cases else ():
            with contextlib.suppress(OSError, ValueError, Image.DecompressionBombError), Image.open(case.image) as one:
                found.append(one.size)
    return max(found, key=math.prod, default=(max_side, max_side))


def image_tokens(model: str, max_side: int, size: tuple[int, int]) -> int:
    """Tokens of a picture of `size`, asked of the model's processor; from its configuration where that alone is here.
    Raises ValueError where it does not say, ModelError where the processor cannot be had."""
    folder = find_model(model)
    if folder is not None:
        return batches.image_tokens(load_processor(folder, max_side=max_side), Image.new("RGB", size))
    config = config_of(config_folder(model))
    if (tokens := image_tokens_of(config, max_side)) is None:
        raise ValueError(f"{config.model_type} does not say in its configuration how many tokens a picture becomes")
    return tokens


@dataclass(frozen=True)
class Shapes:
    """Tokens of one picture, prompt and answer at most, and how many pictures a run looks at."""

    image_tokens: int
    answer_tokens: int
    images: int
    prompt_tokens: int = PROMPT_TOKENS

    @property
    def prefix(self) -> int:
        """Picture and prompt."""
        return self.image_tokens + self.prompt_tokens


def estimate(folder: Path, preset: Preset, shapes: Shapes, *, on_gpu: bool) -> dict[str, dict[str, int]]:
    """Bytes that the run needs of the device, {phase: {part: bytes}}. `folder` holds config.json. Raises ModelError for
    a configuration that transformers does not know."""
    policy, weights, largest = _bare(folder, on_gpu, preset.lora_rank)
    config, dtype = base_of(policy).config, NUMBERS[on_gpu]
    dense = {f"weights, {tower}": size for tower, size in weights.items()}
    asking = [_asking(policy, shapes, batch, largest) for batch in (preset.rollout_batch, preset.eval_batch)]
    adapter = sum(p.numel() * p.element_size() for p in policy.parameters() if p.requires_grad)
    copies = 1 + len(getattr(config.vision_config, "deepstack_visual_indexes", None) or ())  # for each layer they go to
    features = shapes.images * shapes.image_tokens * config.get_text_config().hidden_size * copies * dtype.itemsize
    kept = {"image features": min(FEATURE_BYTES, features)}
    asked = {"image features": features} if not on_gpu else {}  # `KeptFeatures`, on a CPU alone
    training = _training(policy, preset, shapes, adapter=adapter, largest=largest)
    return {
        "rollout": dense | asked | asking[0],
        "training": dense | {"adapter": adapter, "optimiser": 2 * adapter} | kept | training,
        "evaluation": dense | {"adapter": adapter} | asked | asking[1],
    }


@lru_cache(maxsize=1)
def _bare(folder: Path, on_gpu: bool, rank: int) -> tuple[nn.Module, dict[str, int], int]:
    """The model with adapters on the meta device; bytes of its towers; those of its largest 4-bit layer unpacked."""
    model = skeleton_of(folder)[1].to(NUMBERS[on_gpu])
    weights, names = weight_bytes(model), find_towers(model).linears(model)["language"]
    largest = max(model.get_submodule(name).weight.nbytes for name in names)
    lvlm = Lvlm(model, None, str(folder), "", {}, torch.device("meta"))
    return attach_lora(lvlm, rank=rank, alpha=float(rank)).model, weights, largest


def weight_bytes(model: nn.Module) -> dict[str, int]:
    """Bytes per tower: linear layers of vision and language in NF4, all else as it is; tied weights are there once."""
    towers, sizes = find_towers(base_of(model)), dict.fromkeys(TOWERS, 0)
    linear = towers.linears(model)
    packed = {f"{name}.weight" for name in linear["vision"] + linear["language"]}
    for name, parameter in model.named_parameters():
        each = NF4_BYTES if name in packed else parameter.element_size()
        sizes[towers.of(name)] += round(parameter.numel() * each)
    return sizes


def _asking(model: nn.Module, shapes: Shapes, batch: int, largest: int) -> dict[str, int]:
    """Generating for `batch` questions at a time."""
    config, dtype = base_of(model).config, base_of(model).dtype
    text = config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    a_token = 2 * text.num_hidden_layers * text.num_key_value_heads * width * dtype.itemsize
    seeing = vision_bytes(config, min(batch, 32), shapes.image_tokens, dtype)
    reading = held(model, sequences=batch, length=shapes.prefix)[0]
    return {
        "KV cache": batch * (shapes.prefix + shapes.answer_tokens) * a_token,
        "working memory": max(seeing, reading) + largest, "logits": batch * text.vocab_size * (4 + 4 + dtype.itemsize),
    }


def _training(policy: nn.Module, preset: Preset, shapes: Shapes, *, adapter: int, largest: int) -> dict[str, int]:
    """The dearest recipe's step, or the pass over validation where that needs more."""
    config = base_of(policy).config
    text = config.get_text_config()
    sides = {name: tuple(RECIPES[name].sides()) for name in preset.recipes}
    dearest = max(sides.values(), key=len)
    shown = {image for image, _ in dearest}
    length = shapes.prefix + shapes.answer_tokens * -(-len(dearest) // len(shown))
    repeats = 1 if preset.train_batch <= preset.micro_batch else 2  # gradients of batches before are there already
    recompute_layers(policy, preset.recompute)
    peak, between = held(policy, sequences=preset.micro_batch * len(shown), length=length, learns=True, repeats=repeats)
    watched = min(16, max(1, preset.eval_batch // 4))
    looking = held(policy, sequences=3 * watched, length=shapes.prefix + 2 * shapes.answer_tokens)[0]
    seeing = vision_bytes(config, WARM_IMAGES, shapes.image_tokens, base_of(policy).dtype)
    rows = preset.micro_batch * len(dearest) * shapes.answer_tokens  # answer tokens whose log-probabilities are read
    chunk, sent_back = min(rows * text.vocab_size, LOGITS_AT_ONCE) * 4 * LOGIT_ARRAYS, 3 * rows * text.hidden_size * 4
    logits = max(between + chunk - peak, 0) + sent_back  # the chunk is gone before the way back begins
    return {"gradients": adapter, "activations": max(peak - adapter, looking, seeing) + largest, "logits": logits}


def vision_bytes(config, images: int, image_tokens: int, dtype: torch.dtype) -> int:
    """What the frozen vision tower holds while it looks at `images` pictures: one layer's worth."""
    vision = config.vision_config
    width = vision.hidden_size
    wide = getattr(vision, "intermediate_size", None) or 4 * width
    patch = vision.patch_size[0] if isinstance(vision.patch_size, (list, tuple)) else vision.patch_size
    pixels = 3 * getattr(vision, "temporal_patch_size", 1) * patch**2 * 4
    return images * patches_of(config, image_tokens) * (max(2 * width + 2 * wide, 10 * width) * dtype.itemsize + pixels)


def held(model: nn.Module, *, sequences: int, length: int, learns: bool = False, repeats: int = 1) -> tuple[int, int]:
    """Bytes that a pass of the language model on the meta device holds: the most there were, and what is kept between
    forward and backward; with `learns` both ways, its adapters' gradients included, `repeats` times in a row. Two and
    four layers are run, and what two more need is added for each further two."""
    AttentionInterface.register(METERED, _attention)
    base_of(model).set_attn_implementation(METERED)
    decoder = base_of(model).get_decoder()
    layers, found = decoder.layers, {}
    for count in (2, 4) if len(layers) > 4 else (len(layers),):
        decoder.layers = layers[:count]
        found[count] = _pass(model, sequences, length, learns, repeats)
    decoder.layers = layers
    if len(found) == 1:
        return found[len(layers)]
    more = (len(layers) - 4) / 2
    return tuple(round(four + (four - two) * more) for two, four in zip(found[2], found[4], strict=True))


def _pass(model: nn.Module, sequences: int, length: int, learns: bool, repeats: int) -> tuple[int, int]:
    base, place = base_of(model), {"device": "meta"}
    decoder = base.get_decoder()
    states = torch.empty(sequences, length, base.config.get_text_config().hidden_size, dtype=base.dtype, **place)
    mask = torch.empty(sequences, 1, length, length, dtype=torch.bool, **place)
    with Meter() as meter, torch.set_grad_enabled(learns), layers_recomputing(model):
        for _ in range(repeats):
            result = decoder(inputs_embeds=states, attention_mask=mask, use_cache=False).last_hidden_state
            kept = meter.live
            if learns:
                result.sum().backward()
            del result
    for parameter in model.parameters():
        parameter.grad = None
    return meter.peak, kept


def _attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **_):
    """Attention as a fused kernel does it: no table of all tokens by all tokens outlives it."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    return _Fused.apply(query, key, value, attention_mask).transpose(1, 2).contiguous(), None


class _Fused(torch.autograd.Function):
    """Keeps what such a kernel keeps: its inputs, its result, a number a row, and the mask as it adds it."""

    @staticmethod
    def forward(ctx, query, key, value, mask):
        result, rows = torch.empty_like(query), query.new_empty(query.shape[:3], dtype=torch.float32)
        added = query.new_empty(mask.shape)
        ctx.save_for_backward(query, key, value, result, rows, added)
        return result

    @staticmethod
    def backward(ctx, gradient):
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None


def advice(preset: Preset, needs, budget: int) -> str | None:
    """The smallest changes to PRESET= that make `needs(preset)` fit into `budget` bytes, one for each knob that alone
    suffices; None where none does. `needs` gives bytes."""
    found = []
    for knob in KNOBS:
        value, least = getattr(preset, knob), 32 if knob == "max_new_tokens" else 1
        halves = (value >> n for n in range(1, value.bit_length()) if value >> n >= least)
        tried = range((value - 1) // 64 * 64, 127, -64) if knob == "max_side" else halves
        enough = next((one for one in tried if needs(replace(preset, **{knob: one})) <= budget), None)
        found += [f"{knob}={enough}"] if enough is not None else []
    return " or ".join(found) or None


class Meter(TorchDispatchMode):
    """Within it, `live` is the bytes of tensors that were made since and still exist, `peak` the most there were. What
    a kernel needs inside itself is not seen."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}  # by storage; 0 for one that was there before

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self._see((args, kwargs), counted=False)
        result = func(*args, **(kwargs or {}))
        self._see(result, counted=True)
        return result

    def _see(self, values, *, counted: bool) -> None:
        for value in tree_leaves(values):
            if not isinstance(value, torch.Tensor):
                continue
            storage = value.untyped_storage()
            key = storage._cdata
            if key in self._sizes:
                continue
            self._sizes[key] = storage.nbytes() if counted else 0
            weakref.finalize(storage, self._drop, key)
            self.live += self._sizes[key]
            self.peak = max(self.peak, self.live)

    def _drop(self, key: int) -> None:
        self.live -= self._sizes.pop(key)
