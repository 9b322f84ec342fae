"""Load a vision-language model in 4 bit, attach LoRA to its language model, use it without adapters as the reference.

One call loads the embedded model, any local folder and any hub model; nothing talks to the network unless
ALLOW_NETWORK=1, only safetensors weights are read, and no model's own code is run.
"""

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils import logging

from medalign_lite.model.families import TOWERS, Towers, find_towers, limit_side, without_video
from medalign_lite.model.weights import ModelError, check_folder, locate, weights_digest

EMBEDDED = Path(__file__).resolve().parents[2] / "data_samples" / "embedded_lvlm"
# Weights below which one CPU thread is as fast as two; where another program wants a core, two wait for each other, and
# the same answers take up to a hundred times as long.
SMALL = 50_000_000
OFFLINE = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True)
class Lvlm:
    """A loaded model and its processor.

    `name` is the folder's name or hub id; `revision` the hub commit, or the sha256 of a local folder's weights;
    `four_bit` the number of 4-bit linear layers per tower.
    """

    model: nn.Module
    processor: object
    name: str
    revision: str
    four_bit: dict[str, int]
    device: torch.device


def load_lvlm(
    model: Path | str, *, device: str = "auto", four_bit: bool = True, seed: int = 0, max_side: int = 0
) -> Lvlm:
    """Load a model folder or hub id: NF4 with double quantisation, both towers 4-bit, head and connector dense.

    Computes in float32 on CPU and bfloat16 on CUDA (float16 where the card has no bfloat16). `seed` fixes torch's
    generators, so that what follows is a function of it; `max_side` is what `families.limit_side` takes (0: the
    model's own limit). A small model on a CPU sets torch to one thread. Raises ModelError with the next step to take:
    no such model, a folder that is incomplete, an architecture that is unknown, weights that do not fill the model, or
    a tower that came out partly quantised.
    """
    torch.manual_seed(seed)
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    folder, name, revision = locate(str(model))
    check_folder(folder)
    config, skeleton = skeleton_of(folder)
    towers = find_towers(skeleton)
    network = _load_weights(folder, config, towers.linears(skeleton), place=place, four_bit=four_bit)
    expected = towers.linears(skeleton) if four_bit else {}
    counts = _checked_four_bit(network, towers, expected=expected)
    if place.type == "cpu":
        forbid_cpu_repacking(network)
        if sum(parameter.numel() for parameter in network.parameters()) < SMALL:
            torch.set_num_threads(1)
    processor = _processor(folder, config)
    if max_side:
        limit_side(processor, max_side)
    return Lvlm(network.eval(), processor, name, revision or weights_digest(folder), counts, place)


def load_processor(model: Path | str):
    """The processor alone, without the weights. Raises ModelError as `load_lvlm` does."""
    folder = locate(str(model))[0]
    check_folder(folder)
    return _processor(folder, config_of(folder))


def decoder(model: Path | str) -> Callable[[Sequence[int]], str]:
    """Token ids as text, without special tokens, as rule D1 of records compares them. Raises as `load_processor`."""
    tokenizer = load_processor(model).tokenizer
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=True)


def compute_dtype(device: torch.device) -> torch.dtype:
    """float32 on CPU; bfloat16 on CUDA, or float16 where the card lacks it."""
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def forbid_cpu_repacking(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights in place when a layer first runs in eval mode on CPU.

    On AVX512-BF16 processors the repacked layer has no autograd: after one `generate`, later training
    silently gets wrong or missing gradients, and eval and train outputs differ.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def base_of(model: nn.Module) -> nn.Module:
    """The transformers model, with or without a PEFT wrapper around it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def attach_lora(lvlm: Lvlm, *, rank: int, alpha: float, rslora: bool = True, seed: int = 0) -> Lvlm:
    """Add fresh LoRA adapters to every linear layer of the language model, and to nothing else.

    y = W x + s B A x with s = alpha / sqrt(rank) for rsLoRA (arXiv 2312.03732), alpha / rank without; B starts at 0,
    so the policy starts equal to the reference. Raises ValueError on a rank or alpha that is not positive, and
    ModelError where adapters exist already or would touch another tower. PEFT works in place: use what is returned.
    """
    if rank < 1 or alpha <= 0:
        raise ValueError(f"rank={rank} and alpha={alpha} must both be positive")
    if isinstance(lvlm.model, PeftModel):
        raise ModelError(f"{lvlm.name} already carries adapters; load it again before attaching new ones.")
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        use_rslora=rslora,
        lora_dropout=0.0,
        bias="none",
        target_modules=lora_targets(lvlm.model),
    )
    with torch.random.fork_rng(devices=[lvlm.device] if lvlm.device.type == "cuda" else []):
        torch.manual_seed(seed)
        with _peft_quiet():
            policy = get_peft_model(lvlm.model, config)
    return _language_only(replace(lvlm, model=policy.eval()))


def load_adapter(lvlm: Lvlm, folder: Path | str, *, trainable: bool = False) -> Lvlm:
    """Put saved adapters (PEFT's format) on a freshly loaded model. Raises ModelError where the folder has none."""
    if not (Path(folder) / "adapter_config.json").is_file():
        raise ModelError(f"{folder} holds no adapter (adapter_config.json); name the folder that training wrote.")
    with _peft_quiet():
        policy = PeftModel.from_pretrained(lvlm.model, str(folder), is_trainable=trainable, local_files_only=True)
    policy = replace(lvlm, model=policy.eval())
    return _language_only(policy) if trainable else policy


def save_adapter(lvlm: Lvlm, folder: Path | str) -> None:
    """Write the adapters alone, as plain `PeftModel.from_pretrained` reads them."""
    lvlm.model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)


def adapters_digest(model: nn.Module) -> str | None:
    """sha256 of the adapters' weights as they are now; None for a model without adapters, or with adapters off."""
    if not isinstance(model, PeftModel) or not model.get_model_status().enabled:
        return None
    digest = hashlib.sha256()
    for name, value in sorted(get_peft_model_state_dict(model, save_embedding_layers=False).items()):
        digest.update(name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def lora_targets(model: nn.Module) -> str:
    """A regular expression that matches the language tower's linear layers by full name (bare names like `q_proj`
    would adapt the vision tower too)."""
    towers = find_towers(model)
    layers = towers.linears(model)["language"] + towers.linears(model, Linear4bit)["language"]
    leaves = sorted({name.rsplit(".", 1)[-1] for name in layers})
    return rf"{re.escape(towers.language)}\.(?:.+\.)?(?:{'|'.join(map(re.escape, leaves))})"


def trainable_by_tower(model: nn.Module) -> dict[str, int]:
    """Number of trainable parameters per tower: vision, connector, language, head."""
    towers = find_towers(base_of(model))
    counts = dict.fromkeys(TOWERS, 0)
    for name, parameter in model.named_parameters():
        counts[towers.of(name)] += parameter.numel() if parameter.requires_grad else 0
    return counts


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Within it the model is the reference: adapters are off. A model without adapters is its own reference."""
    if not isinstance(model, PeftModel):
        yield
        return
    with model.disable_adapter():
        yield


def recompute_layers(model: nn.Module, wanted: bool) -> None:
    """Whether the language model's layers keep their input alone for the backward pass and are run again in it.

    Less memory for about a third more time, and the same gradients. Raises ModelError where the family cannot.
    """
    decoder = base_of(model).get_decoder()
    if not wanted:
        decoder.activation_checkpointing_disable()
    elif not decoder.supports_gradient_checkpointing:
        raise ModelError(f"{type(decoder).__name__} cannot run its layers again; train with recompute=False.")
    else:
        decoder.activation_checkpointing_enable({"use_reentrant": False})


@contextmanager
def layers_recomputing(model: nn.Module) -> Iterator[None]:
    """Within it `recompute_layers` takes effect: transformers asks each layer whether it is training, and ours are not,
    so that no dropout is ever on."""
    layers = [m for m in base_of(model).get_decoder().modules()
              if isinstance(m, GradientCheckpointingLayer) and m.gradient_checkpointing]
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


@contextmanager
def _peft_quiet() -> Iterator[None]:
    """PEFT asks transformers by a name that is going to change; that is no news for a user."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        yield


def _language_only(lvlm: Lvlm) -> Lvlm:
    trainable = trainable_by_tower(lvlm.model)
    if not trainable["language"] or sum(trainable.values()) != trainable["language"]:
        raise ModelError(f"{lvlm.name}: LoRA must train the language model alone, but trains {trainable}.")
    return lvlm


def skeleton_of(folder: Path) -> tuple[object, nn.Module]:
    """The configuration and the model without weights, to read names from."""
    config = config_of(folder)
    with _explained(folder), torch.device("meta"):
        return config, AutoModelForImageTextToText.from_config(config, trust_remote_code=False)


def config_of(folder: Path):
    """The model's configuration."""
    with _explained(folder):
        return AutoConfig.from_pretrained(folder, **OFFLINE)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, KeyError) as error:
        raise ModelError(
            f"{folder}/config.json does not describe an image-text-to-text architecture that the installed "
            f"transformers knows without running the model's own code: {_first_line(error)}"
        ) from error


def nf4_settings(linears: dict[str, list[str]], dtype: torch.dtype) -> BitsAndBytesConfig:
    """NF4 with double quantisation for the linear layers of both towers; connector and head stay dense."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=linears["connector"] + linears["head"],
    )


def _load_weights(folder: Path, config, linears: dict[str, list[str]], *, place: torch.device, four_bit: bool):
    if os.environ.get("MEDALIGN_HEADLESS") == "1":  # executed notebooks keep a bar's empty frame
        logging.disable_progress_bar()
    dtype = compute_dtype(place)
    quantisation = nf4_settings(linears, dtype)
    try:
        network, report = AutoModelForImageTextToText.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            device_map={"": place},
            use_safetensors=True,
            output_loading_info=True,
            quantization_config=quantisation if four_bit else None,
            **OFFLINE,
        )
    except Exception as error:  # safetensors and transformers raise many kinds for damaged files
        raise ModelError(
            f"{folder}: the weights cannot be loaded ({type(error).__name__}: {_first_line(error)}); get them again."
        ) from error
    missing = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} tensors are missing or misshapen, the first {missing[0]}; get the weights again."
        )
    return network


def _checked_four_bit(network: nn.Module, towers: Towers, *, expected: dict[str, list[str]]) -> dict[str, int]:
    """Count 4-bit layers per tower; raise unless both towers are wholly 4-bit and the rest wholly dense (or all dense
    where nothing is expected)."""
    found = towers.linears(network, Linear4bit)
    for tower in TOWERS:
        wanted = expected.get(tower, []) if tower in ("vision", "language") else []
        if found[tower] != wanted or (expected and tower in ("vision", "language") and not wanted):
            raise ModelError(
                f"{type(network).__name__}: {len(found[tower])} of {len(wanted)} linear layers of the {tower} tower "
                "are 4-bit; load it with four_bit=False, or use a checkpoint that is not quantised already."
            )
    return {tower: len(found[tower]) for tower in ("vision", "connector", "language")}


def _processor(folder: Path, config):
    try:
        if type(config) not in PROCESSOR_MAPPING:
            return AutoProcessor.from_pretrained(folder, **OFFLINE)
        return without_video(PROCESSOR_MAPPING[type(config)]).from_pretrained(folder, **OFFLINE)
    except Exception as error:  # a missing optional package, a damaged file, an unknown class
        raise ModelError(
            f"{folder}: its processor cannot be loaded ({type(error).__name__}: {_first_line(error)})."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
