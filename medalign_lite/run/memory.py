"""What a run will need of memory, from the model's configuration and the preset alone: no weights, no GPU.

Weights, adapters, optimiser states and caches are counted. What a forward and backward pass holds at its worst is
metered on the meta device (`meter.py`), by running the language model there with its adapters at the run's own shapes.
Everything is an upper end: answers as long as they may be, pictures as large as they may be.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn
from transformers import AttentionInterface

from medalign_lite.dials import Preset
from medalign_lite.losses.recipes import RECIPES
from medalign_lite.model.families import image_tokens_of, patches_of
from medalign_lite.model.lvlm import Lvlm, attach_lora, base_of, layers_recomputing, recompute_layers, skeleton_of
from medalign_lite.model.towers import TOWERS, find_towers
from medalign_lite.run.meter import Meter
from medalign_lite.train.readout import LOGITS_AT_ONCE

PROMPT_TOKENS = 64  # a question with what the chat template writes around it
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # a weight; an 8-bit scale for 64 of them; a 32-bit one for 256 of those
FEATURE_BYTES = 2**30  # image features that training keeps at most (`PairInputs`)
LOGIT_ARRAYS = 6  # fp32 arrays of a chunk of logits that live at once with a divergence (`readout.py`)
WARM_IMAGES = 16  # pictures that the vision tower takes at a time
METERED = "metered"  # the name of `_fused` among transformers' attention functions
PHASES = ("rollout", "training", "evaluation")


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


@dataclass(frozen=True)
class Estimate:
    """Bytes by phase and part, {phase: {part: bytes}}, where the model computes; and the number of its weights."""

    device: dict[str, dict[str, int]]
    weights: int

    def peak(self, phase: str | None = None) -> int:
        """The most that a phase needs of the device; of all phases without one."""
        return max(sum(self.device[name].values()) for name in ([phase] if phase else self.device))


def shapes_of(config, preset: Preset, *, images: int, image_tokens: int | None = None) -> Shapes:
    """The run's shapes; `image_tokens` where the processor was asked. Raises ValueError where it must be."""
    tokens = image_tokens or image_tokens_of(config, preset.max_side)
    if tokens is None:
        raise ValueError(f"{config.model_type} does not say in its configuration how many tokens a picture becomes")
    return Shapes(tokens, preset.max_new_tokens, images)


def estimate(folder: Path, preset: Preset, shapes: Shapes, *, on_gpu: bool, four_bit: bool = True) -> Estimate:
    """The need of the run's phases. `folder` holds config.json; bfloat16 on a GPU, float32 on a CPU.

    Raises ModelError for a configuration that transformers does not know.
    """
    policy, weights, largest = _bare(folder, on_gpu, four_bit, preset.lora_rank)
    config, dtype = base_of(policy).config, number_type(on_gpu)
    dense = {f"weights, {tower}": size for tower, size in weights.items()}
    asking = [_asking(policy, shapes, batch, largest) for batch in (preset.rollout_batch, preset.eval_batch)]
    adapter = sum(p.numel() * p.element_size() for p in policy.parameters() if p.requires_grad)
    features = feature_bytes(config, shapes.image_tokens, dtype)
    kept = {"image features": min(FEATURE_BYTES, shapes.images * features)}
    asked = {"image features": shapes.images * features} if not on_gpu else {}  # `KeptFeatures`, on a CPU alone
    training = _training(policy, preset, shapes, adapter=adapter, largest=largest)
    device = {
        "rollout": dense | asked | asking[0],
        "training": dense | {"adapter": adapter, "optimiser": 2 * adapter} | kept | training,
        "evaluation": dense | {"adapter": adapter} | asked | asking[1],
    }
    return Estimate(device, sum(p.numel() for p in policy.parameters()) - adapter // 4)


@lru_cache(maxsize=1)
def _bare(folder: Path, on_gpu: bool, four_bit: bool, rank: int) -> tuple[nn.Module, dict[str, int], int]:
    """The model with adapters on the meta device; bytes of its towers; those of its largest 4-bit layer unpacked."""
    model = skeleton_of(folder)[1].to(number_type(on_gpu))
    weights, names = weight_bytes(model, four_bit=four_bit), find_towers(model).linears(model)["language"]
    largest = max(model.get_submodule(name).weight.nbytes for name in names) if four_bit else 0
    lvlm = Lvlm(model, None, str(folder), "", {}, torch.device("meta"))
    return attach_lora(lvlm, rank=rank, alpha=float(rank)).model, weights, largest


def number_type(on_gpu: bool) -> torch.dtype:
    """What is computed in."""
    return torch.bfloat16 if on_gpu else torch.float32


def weight_bytes(model: nn.Module, *, four_bit: bool = True) -> dict[str, int]:
    """Bytes per tower: linear layers of vision and language in NF4 (where wanted), all else as it is."""
    towers, sizes, seen = find_towers(base_of(model)), dict.fromkeys(TOWERS, 0), set()
    linear = towers.linears(model)
    packed = {f"{name}.weight" for name in linear["vision"] + linear["language"]} if four_bit else set()
    for name, parameter in model.named_parameters():
        if id(parameter) not in seen:  # tied weights are there once
            seen.add(id(parameter))
            each = NF4_BYTES if name in packed else parameter.element_size()
            sizes[towers.of(name)] += round(parameter.numel() * each)
    return sizes


def feature_bytes(config, image_tokens: int, dtype: torch.dtype) -> int:
    """What is kept of one picture: its image tokens, once for each layer that they go to."""
    further = len(getattr(config.vision_config, "deepstack_visual_indexes", None) or ())
    return image_tokens * config.get_text_config().hidden_size * (1 + further) * dtype.itemsize


def reference_bytes(config, preset: Preset, shapes: Shapes, dtype: torch.dtype) -> int:
    """Hidden states of the reference, kept on disk for recipes with a divergence."""
    rows = max(sum(any(read.kl) for read in RECIPES[name].sides().values()) for name in preset.recipes)
    pairs = preset.train_pairs or shapes.images
    return pairs * rows * shapes.answer_tokens * config.get_text_config().hidden_size * dtype.itemsize


def _asking(model: nn.Module, shapes: Shapes, batch: int, largest: int) -> dict[str, int]:
    """Generating for `batch` questions at a time."""
    config, dtype = base_of(model).config, base_of(model).dtype
    text = config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    a_token = 2 * text.num_hidden_layers * text.num_key_value_heads * width * dtype.itemsize
    seeing = vision_bytes(config, min(batch, 32), shapes.image_tokens, dtype)
    reading = held(model, sequences=batch, length=shapes.prefix).peak
    return {
        "KV cache": batch * (shapes.prefix + shapes.answer_tokens) * a_token,
        "working memory": max(seeing, reading) + largest,
        "logits": batch * text.vocab_size * (4 + 4 + dtype.itemsize),
    }


def _training(policy: nn.Module, preset: Preset, shapes: Shapes, *, adapter: int, largest: int) -> dict[str, int]:
    """The dearest recipe's step, or the pass over validation where that needs more."""
    config = base_of(policy).config
    text = config.get_text_config()
    sides = {name: tuple(RECIPES[name].sides()) for name in preset.recipes}
    dearest = max(sides.values(), key=len)
    pictures = {image for image, _ in dearest}
    length = shapes.prefix + shapes.answer_tokens * -(-len(dearest) // len(pictures))
    repeats = 1 if preset.train_batch <= preset.micro_batch else 2  # gradients of batches before are there already
    recompute_layers(policy, preset.recompute)
    step = held(policy, sequences=preset.micro_batch * len(pictures), length=length, learns=True, repeats=repeats)
    watched = min(16, max(1, preset.eval_batch // 4))
    looking = held(policy, sequences=3 * watched, length=shapes.prefix + 2 * shapes.answer_tokens).peak
    seeing = vision_bytes(config, WARM_IMAGES, shapes.image_tokens, base_of(policy).dtype)
    rows = preset.micro_batch * len(dearest) * shapes.answer_tokens  # answer tokens whose log-probabilities are read
    chunk, sent_back = min(rows * text.vocab_size, LOGITS_AT_ONCE) * 4 * LOGIT_ARRAYS, 3 * rows * text.hidden_size * 4
    logits = max(step.kept + chunk - step.peak, 0) + sent_back  # the chunk is gone before the way back begins
    return {
        "gradients": adapter,
        "activations": max(step.peak - adapter, looking, seeing) + largest,
        "logits": logits,
    }


def vision_bytes(config, images: int, image_tokens: int, dtype: torch.dtype) -> int:
    """What the frozen vision tower holds while it looks at `images` pictures: one layer's worth."""
    vision = config.vision_config
    width = vision.hidden_size
    wide = getattr(vision, "intermediate_size", None) or 4 * width
    patch = vision.patch_size[0] if isinstance(vision.patch_size, (list, tuple)) else vision.patch_size
    pixels = 3 * getattr(vision, "temporal_patch_size", 1) * patch**2 * 4
    return images * patches_of(config, image_tokens) * (max(2 * width + 2 * wide, 10 * width) * dtype.itemsize + pixels)


@dataclass(frozen=True)
class Held:
    """Bytes of a pass: the most there were, and what is kept between forward and backward."""

    peak: int
    kept: int


def held(model: nn.Module, *, sequences: int, length: int, learns: bool = False, repeats: int = 1) -> Held:
    """What a pass of the language model on the meta device holds; with `learns` forward and backward, its adapters'
    gradients included, `repeats` times in a row.

    Two and four layers are run, and what two more need is added for each further two.
    """
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
    pairs = zip(vars(found[2]).values(), vars(found[4]).values(), strict=True)
    return Held(*(round(four + (four - two) * more) for two, four in pairs))


def _pass(model: nn.Module, sequences: int, length: int, learns: bool, repeats: int) -> Held:
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
    return Held(meter.peak, kept)


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


KNOBS = ("micro_batch", "rollout_batch", "eval_batch", "max_side", "max_new_tokens")


def advice(preset: Preset, needs, budget: int) -> str | None:
    """The smallest changes to PRESET= that make `needs(preset)` fit into `budget` bytes, one for each knob that alone
    suffices; None where none does. `needs` gives bytes."""
    found = []
    for knob in KNOBS:
        for value in _smaller(getattr(preset, knob), knob):
            if needs(replace(preset, **{knob: value})) <= budget:
                found.append(f"{knob}={value}")
                break
    return " or ".join(found) or None


def _smaller(value: int, knob: str) -> Iterable[int]:
    """Halves of it; for the side of a picture, steps of 64 pixels."""
    if knob == "max_side":
        return range((value - 1) // 64 * 64, 127, -64)
    return [value >> n for n in range(1, value.bit_length()) if value >> n >= (32 if knob == "max_new_tokens" else 1)]
