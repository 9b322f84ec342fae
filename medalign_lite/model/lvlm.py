"""Load a vision-language model in 4 bit, attach LoRA to its language model, use it without adapters as the reference.

One call loads the embedded model, any local folder and any hub model; nothing talks to the network unless
ALLOW_NETWORK=1, only safetensors weights are read, and no model's own code is run.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from medalign_lite import dials
from medalign_lite.files import ROOT
from medalign_lite.model.families import TOWERS, find_towers, loose_share
from medalign_lite.model.loading import LOOSE, config_of, first_line, open_folder, open_processor
from medalign_lite.model.weights import ModelError, check_folder, locate, nothing_fetched, weights_digest

EMBEDDED = ROOT / dials.EMBEDDED
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class Lvlm:
    """A loaded model and its processor. `name` is the folder's name or hub id; `revision` the hub commit, or the sha256
    of a local folder's weights; `four_bit` the number of 4-bit linear layers per tower."""

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
    no such model, a folder that is incomplete or damaged, an architecture that is unknown, weights that do not fill the
    model, a tower that came out partly quantised, answers that would not end, logits that are more than the head's."""
    torch.manual_seed(seed)
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    folder, name, revision = locate(str(model))
    check_folder(folder)
    network, processor, counts = open_folder(folder, place, four_bit=four_bit, max_side=max_side)
    return Lvlm(network, processor, name, revision or weights_digest(folder), counts, place)


def load_processor(model: Path | str, *, max_side: int = 0):
    """The processor alone, without the weights. Raises ModelError as `load_lvlm` does."""
    folder = locate(str(model))[0]
    check_folder(folder)
    return open_processor(folder, config_of(folder), max_side)


def decoder(model: Path | str) -> Callable[[Sequence[int]], str]:
    """Token ids as text, without special tokens, as rule D1 of records compares them. Raises as `load_processor`."""
    tokenizer = load_processor(model).tokenizer
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=True)


def base_of(model: nn.Module) -> nn.Module:
    """The transformers model, with or without a PEFT wrapper around it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def attach_lora(lvlm: Lvlm, *, rank: int, alpha: float, rslora: bool = True, seed: int = 0) -> Lvlm:
    """Add fresh LoRA adapters to every linear layer of the language model, and to nothing else.

    y = W x + s B A x with s = alpha / sqrt(rank) for rsLoRA (arXiv 2312.03732), alpha / rank without; B starts at 0,
    so the policy starts equal to the reference. Raises ValueError on a rank or alpha that is not positive, and
    ModelError where adapters exist already or would touch another tower. PEFT works in place: use what is returned."""
    if rank < 1 or alpha <= 0:
        raise ValueError(f"rank={rank} and alpha={alpha} must both be positive")
    if (share := loose_share(lvlm.model)) > LOOSE:
        warnings.warn(f"{lvlm.name}: {share:.0%} of the language model's weights are experts of a mixture, which no "
                      "adapter reaches", stacklevel=2)
    if isinstance(lvlm.model, PeftModel):
        raise ModelError(f"{lvlm.name} already carries adapters; load it again before attaching new ones.")
    config = LoraConfig(
        r=rank, lora_alpha=alpha, use_rslora=rslora, lora_dropout=0.0, bias="none",
        target_modules=lora_targets(lvlm.model),
    )
    with torch.random.fork_rng(devices=[lvlm.device] if lvlm.device.type == "cuda" else []):
        torch.manual_seed(seed)
        with _peft_quiet():
            policy = get_peft_model(lvlm.model, config)
    return _language_only(replace(lvlm, model=policy.eval()))


def load_adapter(lvlm: Lvlm, folder: Path | str, *, trainable: bool = False) -> Lvlm:
    """Put saved adapters (PEFT's format) on a freshly loaded model. Raises ModelError as `adapter_config` does."""
    config = adapter_config(lvlm.model, Path(folder))
    with _peft_quiet(), nothing_fetched():
        policy = PeftModel.from_pretrained(lvlm.model, str(folder), config=config, is_trainable=trainable)
    policy = replace(lvlm, model=policy.eval())
    return _language_only(policy) if trainable else policy


def adapter_config(model: nn.Module, folder: Path) -> LoraConfig:
    """The settings of saved adapters, after both files were looked at. Raises ModelError where one is absent or
    damaged, where it is no plain LoRA, or where the tensors are not, one by one, finite and of the shapes that the
    linear layers which it names want."""
    if absent := [name for name in ADAPTER if not (folder / name).is_file()]:
        raise ModelError(f"{folder} holds no adapter ({' and '.join(absent)}); name the folder that training wrote.")
    try:
        told = json.loads((folder / ADAPTER[0]).read_text(encoding="utf-8"))
        rank, alpha, rslora, targets = (told[key] for key in ("r", "lora_alpha", "use_rslora", "target_modules"))
        plain = {"r": rank, "lora_alpha": alpha, "use_rslora": rslora, "bias": "none", "lora_dropout": 0.0}
        config = LoraConfig(**plain, target_modules=targets)
        usual = config.to_dict()
        free = {*plain, "target_modules", "task_type", "base_model_name_or_path", "revision", "inference_mode",
                "peft_version", "auto_mapping", "init_lora_weights"}
        other = sorted(key for key in {*told, *usual} - free if told.get(key, usual.get(key)) != usual.get(key))
        sane = type(rank) is int and 0 < rank <= 2**16 and told["lora_dropout"] == 0 and told["bias"] == "none"
        if other or not sane:
            raise ValueError(f"it is no plain LoRA: {', '.join(other) or 'its rank, bias or dropout'}")
        tensors = load_file(folder / ADAPTER[1])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SafetensorError, OSError) as error:
        raise ModelError(f"{folder}: the adapter is damaged, or none of this kit's ({type(error).__name__}: "
                         f"{first_line(error)}); train it again, or restore the folder.") from error
    wanted = _adapter_shapes(model, targets, rank)
    wrong = sorted({*wanted} ^ {*tensors} | {name for name in wanted if name in tensors and (
        tuple(tensors[name].shape) != wanted[name] or not tensors[name].isfinite().all())})
    if wrong or not wanted:
        raise ModelError(f"{folder}: {len(wrong)} of {len(wanted)} tensors are missing, not wanted, misshapen or not "
                         f"finite{f', the first {wrong[0]}' if wrong else ''}; train it again, or restore the folder.")
    config.base_model_name_or_path = told.get("base_model_name_or_path")
    return config


def _adapter_shapes(model: nn.Module, targets: str | list[str], rank: int) -> dict[str, tuple[int, int]]:
    """Names and shapes of the tensors that adapters of these layers have; none where `targets` is another pattern than
    the kit writes, or names what is no linear layer of the language model."""
    towers = find_towers(model)
    names = towers.linears(model)["language"] + towers.linears(model, Linear4bit)["language"]
    if isinstance(targets, list):
        chosen = [name for name in names if any(name == one or name.endswith(f".{one}") for one in targets)]
    else:
        chosen = names if targets == lora_targets(model) else []
    layers = {name: model.get_submodule(name) for name in chosen}
    ends = {"lora_A": lambda layer: (rank, layer.in_features), "lora_B": lambda layer: (layer.out_features, rank)}
    return {f"base_model.model.{name}.{end}.weight": shape(layer) for name, layer in layers.items()
            for end, shape in ends.items()}


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


def adapters_off(model: nn.Module):
    """Within it the model is the reference: adapters are off. A model without adapters is its own reference."""
    return model.disable_adapter() if isinstance(model, PeftModel) else nullcontext()


def recompute_layers(model: nn.Module, wanted: bool) -> None:
    """Whether the language model's layers keep their input alone for the backward pass and are run again in it. Less
    memory for about a third more time, and the same gradients. Raises ModelError where the family cannot."""
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
