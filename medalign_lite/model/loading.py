"""From a model's folder to a network and a processor in memory: what the folder says is checked on the way."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit, Params4bit
from PIL import Image
from safetensors import safe_open
from torch import nn
from torch.nn.functional import linear
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING, processor_class_from_name
from transformers.utils import logging

from medalign_lite.model.batches import conversation, end_of_turn, image_tokens
from medalign_lite.model.families import TOWERS, Towers, find_towers, limit_side, loose_share, without_video
from medalign_lite.model.weights import (
    WEIGHTS,
    ModelError,
    check_numbers,
    check_template,
    nothing_fetched,
    stored_shapes,
)

# Weights below which one CPU thread is as fast as two; where another program wants a core, two wait for each other, and
# the same answers take up to a hundred times as long.
SMALL = 50_000_000
LOOSE = 0.05  # share of a language model's matrices that may lie outside its linear layers
FLOOR = 4  # tokens that `max_side` must leave of a picture, where the family gives it so many
NAMING = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")  # the processor's class
OFFLINE = {"local_files_only": True, "trust_remote_code": False}


def open_folder(
    folder: Path, place: torch.device, *, four_bit: bool, max_side: int
) -> tuple[nn.Module, object, dict[str, int]]:
    """The network, its processor, and its 4-bit layers by tower. Raises ModelError as `load_lvlm` says."""
    config, skeleton = skeleton_of(folder)
    towers = find_towers(skeleton)
    _check_weights(folder, skeleton, four_bit=four_bit)
    processor = open_processor(folder, config, max_side)
    linears = towers.linears(skeleton)
    network = _load_weights(folder, config, linears, place=place, four_bit=four_bit).eval()
    counts = _checked_four_bit(network, towers, expected=linears if four_bit else {})
    if place.type == "cpu":
        forbid_cpu_repacking(network)
        if sum(parameter.numel() for parameter in network.parameters()) < SMALL:
            torch.set_num_threads(1)
            for layer in filter(lambda module: isinstance(module, Linear4bit), network.modules()):
                layer.forward = _Dequantised(layer)
    _check_ends(network, processor)
    _check_head(network, processor)
    return network, processor, counts


def compute_dtype(device: torch.device) -> torch.dtype:
    """float32 on CPU; bfloat16 on CUDA, or float16 where the card lacks it."""
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def forbid_cpu_repacking(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights in place when a layer first runs in eval mode on CPU. On
    AVX512-BF16 processors the repacked layer has no autograd: after one `generate`, later training silently gets wrong
    or missing gradients, and eval and train outputs differ."""
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


class _Dequantised:
    """Stands for a 4-bit layer's `forward` and keeps the weights that its 4 bits stand for, which bitsandbytes makes
    anew at every call on a CPU: the same values, bit for bit, in a fraction of the time, for four bytes a weight.
    Weights that were replaced, as PEFT does to merge, are read again."""

    def __init__(self, layer: Linear4bit):
        self.layer, self.made_of, self.weight = layer, None, None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        packed = self.layer.weight
        if self.made_of is not packed:
            self.made_of, self.weight = packed, dequantize_4bit(packed.data, packed.quant_state)
        return linear(x.to(self.weight.dtype), self.weight, self.layer.bias).to(x.dtype)


def skeleton_of(folder: Path) -> tuple[object, nn.Module]:
    """The configuration and the model without weights, to read names from."""
    config = config_of(folder)
    with _explained(folder), torch.device("meta"):
        return config, AutoModelForImageTextToText.from_config(config, trust_remote_code=False)


def config_of(folder: Path):
    """The model's configuration. Which code computes attention and experts is not the folder's to say."""
    check_numbers(folder)
    with _explained(folder):
        config = AutoConfig.from_pretrained(folder, **OFFLINE)
        config._attn_implementation = config._experts_implementation = None
        return config


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        with nothing_fetched():
            yield
    except Exception as error:  # a configuration can be wrong in every way
        raise ModelError(f"{folder}/config.json does not describe an image-text-to-text architecture that the "
                         "installed transformers knows without running the model's own code: "
                         f"{first_line(error)}") from error


def _check_weights(folder: Path, skeleton: nn.Module, *, four_bit: bool) -> None:
    """Raise ModelError unless the files hold numbers for the weights that config.json describes, all of them finite,
    and 4 bit (where it is wanted) reaches the language model's."""
    files = sorted(folder.glob(WEIGHTS))
    there = sum(math.prod(shape) for path in files for shape in stored_shapes(path).values())
    wanted = sum(parameter.numel() for parameter in skeleton.parameters())
    if wanted > 4 * there:  # two weights lie in a byte at most, and some weights lie there once for two
        raise ModelError(f"{folder}: config.json describes {wanted:.1e} weights, and the files hold {there:.1e}; get "
                         "the folder again.")
    if four_bit and (share := loose_share(skeleton)) > LOOSE:
        raise ModelError(f"{folder}: {share:.0%} of the language model's weights are experts of a mixture, which lie "
                         "outside its linear layers: neither 4 bit nor adapters reach them; take a model without.")
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                tensor = file.get_tensor(name)
                if tensor.is_floating_point() and not tensor.float().isfinite().all():
                    raise ModelError(f"{path}: {name} holds numbers that are not finite; get the weights again.")


def nf4_settings(linears: dict[str, list[str]], dtype: torch.dtype) -> BitsAndBytesConfig:
    """NF4 with double quantisation for the linear layers of both towers; connector and head stay dense."""
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=linears["connector"] + linears["head"],
    )


def _load_weights(folder: Path, config, linears: dict[str, list[str]], *, place: torch.device, four_bit: bool):
    if os.environ.get("MEDALIGN_HEADLESS") == "1":  # executed notebooks keep a bar's empty frame
        logging.disable_progress_bar()
    dtype, packed = compute_dtype(place), getattr(config, "quantization_config", None)
    method = packed and (packed if isinstance(packed, dict) else packed.to_dict()).get("quant_method")
    if packed and str(getattr(method, "value", method)) != "bitsandbytes":
        raise ModelError(f"{folder}: it is quantised already, by {method!r}; take the model as it was published.")
    try:
        with nothing_fetched():
            network, report = AutoModelForImageTextToText.from_pretrained(
                folder, config=config, dtype=dtype, device_map={"": place}, use_safetensors=True,
                quantization_config=nf4_settings(linears, dtype) if four_bit and not packed else None,
                output_loading_info=True, **OFFLINE,
            )
    except Exception as error:  # safetensors and transformers raise many kinds for damaged files
        raise ModelError(f"{folder}: the weights cannot be loaded ({type(error).__name__}: {first_line(error)}); get "
                         "them again.") from error
    missing = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
    if missing:
        raise ModelError(f"{folder}: {len(missing)} tensors are missing or misshapen, the first {missing[0]}; get the "
                         "weights again.")
    return _in_one_type(network, dtype) if packed else network


def _in_one_type(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A checkpoint that was in 4 bit already computes in the type that it was saved with: everything in `dtype`."""
    for module in network.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype = dtype
        for part in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if not isinstance(part, Params4bit) and part.is_floating_point():
                part.data = part.data.to(dtype)
    return network


def _checked_four_bit(network: nn.Module, towers: Towers, *, expected: dict[str, list[str]]) -> dict[str, int]:
    """Count 4-bit layers per tower; raise unless both towers are wholly 4-bit and the rest wholly dense (or all dense
    where nothing is expected)."""
    found = towers.linears(network, Linear4bit)
    for tower in TOWERS:
        wanted = expected.get(tower, []) if tower in ("vision", "language") else []
        if found[tower] != wanted or (expected and tower in ("vision", "language") and not wanted):
            raise ModelError(f"{type(network).__name__}: {len(found[tower])} of {len(wanted)} linear layers of the "
                             f"{tower} tower are 4-bit; load it with four_bit=False, or use a checkpoint that is not "
                             "quantised already.")
    return {tower: len(found[tower]) for tower in ("vision", "connector", "language")}


def open_processor(folder: Path, config, max_side: int = 0):
    """The processor that the folder names, without its video part where that cannot be had and is not asked for."""
    try:
        with nothing_fetched():
            processor = _whole_or_without_video(folder, config)
        template = processor.chat_template
        parts = processor.tokenizer, processor.image_processor
    except Exception as error:  # a missing optional package, a damaged file, an unknown class
        lacking = "" if find_spec("torchvision") else "; torchvision, which some processors need, is absent"
        told = f"{type(error).__name__}: {first_line(error).partition(' If you were trying')[0].rstrip('.')}"
        raise ModelError(f"{folder}: its processor cannot be loaded ({told}){lacking}.") from error
    if not template or None in parts:
        raise ModelError(f"{folder}: its processor has no chat template; take a model that was made for conversations.")
    for text in template.values() if isinstance(template, dict) else [template]:
        check_template(str(text), folder)
    if max_side:
        _limit(processor, max_side, folder)
    return processor


def _whole_or_without_video(folder: Path, config):
    try:
        return AutoProcessor.from_pretrained(folder, **OFFLINE)
    except Exception:
        files = [path for name in NAMING if (path := folder / name).is_file()]
        named = [json.loads(path.read_text(encoding="utf-8")).get("processor_class") for path in files]
        name = next(filter(None, named), None)
        processor_class = processor_class_from_name(name) if name else PROCESSOR_MAPPING.get(type(config), None)
        less = processor_class and without_video(processor_class)
        if less is None or less is processor_class:
            raise
        return less.from_pretrained(folder, **OFFLINE)


def _limit(processor, max_side: int, folder: Path) -> None:
    large = Image.new("RGB", (1024, 1024))
    try:
        free = image_tokens(processor, large)
        left = image_tokens(processor, large) if limit_side(processor, max_side) else free
    except Exception as error:  # each family wants pictures and questions in a form of its own
        raise ModelError(f"{folder}: {type(processor).__name__} does not take a question with one picture as this kit "
                         f"puts it ({type(error).__name__}: {first_line(error)}); it is not supported.") from error
    if left < min(FLOOR, free):
        raise ModelError(f"{folder}: max_side={max_side} leaves {left} of the {free} tokens of a picture, and fewer "
                         f"than {FLOOR} show nothing; turn max_side up.")


def _check_ends(network: nn.Module, processor) -> None:
    """Raise ModelError where an answer cannot end as an edit of it does: the template's end of turn, else the
    tokenizer's end of sequence, which the model must know."""
    end, ends = end_of_turn(processor), network.generation_config.eos_token_id
    ends = set(ends) if isinstance(ends, list) else {ends}
    written = conversation(processor, "?", "Yes.").rpartition("Yes.")[2].strip()
    if end is None or not written and None not in ends and end not in ends:
        raise ModelError(f"{type(network).__name__}: its chat template ends no answer, the tokenizer ends one with "
                         f"token {end} and generation_config.json with {sorted(ends - {None})}; make them agree.")


@torch.no_grad()
def _check_head(network: nn.Module, processor) -> None:
    """Raise ModelError where a family does more between its body and its logits than apply the output head, which is
    all that training reads."""
    ids = processor.tokenizer("Yes.", return_tensors="pt")["input_ids"].to(network.device)
    try:
        hidden = network.base_model(input_ids=ids, use_cache=False).last_hidden_state
        ours, theirs = network.get_output_embeddings()(hidden), network(input_ids=ids, use_cache=False).logits
        same = torch.allclose(ours.float(), theirs.float(), atol=1e-2, rtol=1e-2)
    except Exception as error:
        raise ModelError(f"{type(network).__name__} cannot read text by itself as this kit does "
                         f"({type(error).__name__}: {first_line(error)}); this family is not supported.") from error
    if not same:
        raise ModelError(f"{type(network).__name__} changes its logits after the output head (soft-capping or "
                         "scaling), which scoring does not do; this family is not supported.")


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
