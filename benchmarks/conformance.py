"""Which model types can be used, and what is said of the others: docs/MODELS.md, written from a trial of each.

    python -m benchmarks.conformance [TYPE ...]

Every image-text-to-text type of the pinned transformers that can be built tiny and offline is built with random
weights, saved as a hub model would lie, and put through `run/trial.py` in a process of its own.
"""

import inspect
import json
import multiprocessing
import os
import re
import resource
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText, GenerationConfig, PreTrainedTokenizerFast
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as TYPES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from medalign_lite.files import ROOT
from medalign_lite.model.families import without_video
from medalign_lite.model.weights import ModelError
from medalign_lite.run.trial import try_model
from studies.embedded.tiny import train_tokenizer

sys.path.insert(0, str(ROOT / "tests"))
from families import CHATML, FAMILIES, TEXTS, save_family, turns

PAGE = ROOT / "docs" / "MODELS.md"
SECONDS, BYTES, WEIGHTS = 240, 12 * 2**30, 30_000_000  # of a trial; of the model that is tried
SIZE, MAX_SIDE = (512, 400), 448
SMALL = {
    32: "hidden_size embed_dim out_hidden_size projection_dim image_size d_model vision_output_dim text_hidden_size "
        "hidden_dim projector_hidden_size mm_hidden_size downsample_hidden_size encoder_hidden_size dim",
    2: "num_hidden_layers num_attention_heads num_key_value_heads depth num_heads encoder_layers decoder_layers "
       "encoder_attention_heads decoder_attention_heads num_layers num_decoder_layers num_experts_per_tok moe_topk "
       "linear_num_value_heads linear_num_key_heads num_index_heads",
    16: "head_dim d_kv moe_intermediate_size shared_expert_intermediate_size v_head_dim global_head_dim",
    48: "intermediate_size encoder_ffn_dim decoder_ffn_dim d_ff mlp_dim ffn_hidden_size intermediate_dim",
    4: "num_experts num_local_experts n_routed_experts moe_num_experts",
    8: "kv_lora_rank q_lora_rank qk_rope_head_dim qk_nope_head_dim linear_key_head_dim linear_value_head_dim "
       "hidden_size_per_layer_input",
    1: "first_k_dense_replace n_group topk_group num_global_layers n_shared_experts",
    4096: "max_position_embeddings",
    400: "vocab_size vocab_size_per_layer_input",
}
SMALL = {name: value for value, names in SMALL.items() for name in names.split()}
HALF_ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.5}
ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}
PINPOINTS = [[32, 32], [32, 64], [64, 32]]
USUAL = ("eos_token", "bos_token", "pad_token", "unk_token")
# What a type needs beside: numbers of its configuration, of its processor, the class of its processor
NEEDS: dict[str, dict] = {
    **dict.fromkeys(("glm4v", "glm46v"), {"config": {"text_config.rope_parameters": HALF_ROPE}}),
    **dict.fromkeys(("glm_ocr", "glmga"), {"config": {"text_config.rope_parameters": HALF_ROPE},
                                           "class": "Glm46VProcessor"}),
    **dict.fromkeys(("qwen2_vl", "paddleocr_vl"), {"config": {"text_config.rope_parameters": ROPE}}),
    **dict.fromkeys(("llava_next", "llava_next_video"), {"config": {"image_grid_pinpoints": PINPOINTS}}),
    **dict.fromkeys(("deepseek_vl", "janus"), {"processor": {"num_image_tokens": 4}}),
    "cosmos3_omni": {"class": "Qwen3VLProcessor"},
    "aya_vision": {"processor": {"img_size": 32, "patch_size": 16, "downsample_factor": 2},
                   "ids": {"image_token_index": "<|IMG_PATCH|>"}},
    "mllama": {"config": {"vision_config.intermediate_layers_indices": [0, 1], "vision_config.vision_output_dim": 96,
                          "text_config.cross_attention_layers": [1]}},
    "vipllava": {"config": {"vision_feature_layers": [-1, -2]}},
    "ovis2": {"ids": {"image_token_id": "<IMG_ATOM>"}, "processor": {"image_seq_length": 4}},
    "qianfan_ocr": {"image_token": "<image>"},
}


def parts_of(config):
    """The configuration and those inside it."""
    yield config
    for part in list(vars(config).values()):
        if hasattr(part, "model_type") and hasattr(part, "to_dict"):
            yield from parts_of(part)


def small_config(kind: str):
    """The type's default configuration with small numbers."""
    config = CONFIG_MAPPING[kind]()
    for part in parts_of(config):
        for name, value in list(vars(part).items()):
            if name in SMALL and type(value) is int:
                setattr(part, name, SMALL[name])
            elif name == "layer_types" and value:
                part.layer_types = (list(dict.fromkeys(value)) * 2)[:2]
            elif "index" in name and isinstance(value, list) and value and type(value[0]) is int:
                setattr(part, name, [0, 1][: len(value)])
        rope = getattr(part, "rope_parameters", None)
        if isinstance(rope, dict) and rope.get("mrope_section"):
            width = getattr(part, "head_dim", None) or part.hidden_size // part.num_attention_heads
            half = int(width * rope.get("partial_rotary_factor", 1)) // 2
            rope["mrope_section"] = [half - 2 * (half // 4), half // 4, half // 4]
    return put(config, NEEDS.get(kind, {}).get("config", {}))


def put(config, values: dict):
    """The configuration with values at their dotted names."""
    for path, value in values.items():
        *above, name = path.split(".")
        part = config
        for one in above:
            part = getattr(part, one)
        setattr(part, name, value)
    return config


def make_tokenizer(source: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE with every special token that the processor's source speaks of."""
    marks = re.findall(r"[\"'](<[^\"'\s{}]{1,40}>|\[[A-Z_]+\])[\"']", source)
    names = set(re.findall(r"tokenizer\.((?:\w+_)?token)\b", source)) - set(USUAL)
    named = {name: f"<{name}>" for name in sorted(names)}
    for name in named:
        usual = re.search(rf"tokenizer(?:, [\"']|\.){name}\b[^\n]*?[\"'](<[^\"']+>)[\"']", source)
        named[name] = usual[1] if usual else named[name]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(TEXTS * 20, vocab_size=400)._tokenizer, eos_token="<|im_end|>",
        pad_token="<pad>", bos_token="<s>", unk_token="<unk>", padding_side="left", clean_up_tokenization_spaces=False,
        extra_special_tokens=named, model_max_length=SMALL["max_position_embeddings"],
    )  # fmt: skip
    tokenizer.add_special_tokens({"additional_special_tokens": list(dict.fromkeys(
        [*named.values(), *sorted(set(marks)), "<|im_start|>", "<|im_end|>"]))})
    return tokenizer


def make_image_processor(kind: str, vision):
    """The type's image processor, its numbers those of the small vision tower; None where it needs torchvision."""
    name = (IMAGE_PROCESSOR_MAPPING_NAMES.get(kind) or {}).get("pil")
    if name is None:
        return None
    made, pixels = getattr(transformers, name), _side(getattr(vision, "image_size", 32))
    size = {key: value for key, value in dict(getattr(made, "size", None) or {}).items() if value}
    given = {"size": dict.fromkeys(size, pixels)} if "height" in size or set(size) == {"shortest_edge"} else {}
    wanted = {"crop_size": {"height": pixels, "width": pixels}, "patch_size": _side(getattr(vision, "patch_size", 0)),
              "image_grid_pinpoints": PINPOINTS,
              "merge_size": getattr(vision, "spatial_merge_size", None)}
    given |= {key: value for key, value in wanted.items() if value and getattr(made, key, None)}
    return made(**given | NEEDS.get(kind, {}).get("image", {}))


def _side(value) -> int:
    return value[0] if isinstance(value, (list, tuple)) else value


def make_processor(kind: str, config, tokenizer, processor_class: type):
    """The type's own processor with a chat template."""
    vision, needs = getattr(config, "vision_config", config), NEEDS.get(kind, {})
    options = needs.get("processor", {})
    if "patch_size" in inspect.signature(processor_class.__init__).parameters:
        options = {"patch_size": _side(vision.patch_size)} | options
    made = without_video(processor_class)(
        image_processor=make_image_processor(kind, vision), tokenizer=tokenizer, **options)
    known = (getattr(part, "image_token", None) for part in (made, tokenizer))
    image = needs.get("image_token") or next((token for token in known if isinstance(token, str)), "<image>")
    made.chat_template = turns(image, **CHATML)
    return made


def put_tokens(config, tokenizer, processor) -> None:
    """Numbers of special tokens, as the tokenizer gives them."""
    for part in parts_of(config):
        for name, value in list(vars(part).items()):
            own, ending = re.sub(r"_(id|index)$", "", name), re.search(r"_token_(id|index)$", name)
            known = (getattr(one, own, None) for one in (processor, tokenizer))
            token = next((token for token in known if isinstance(token, str)), None)
            if name in ("vocab_size", "vocab_size_per_layer_input") and value == SMALL[name]:
                setattr(part, name, len(tokenizer) + 8)
            elif ending and (token or isinstance(value, int) and value >= SMALL["vocab_size"]):
                setattr(part, name, tokenizer.convert_tokens_to_ids(token) if token else tokenizer.unk_token_id)


def build(kind: str, folder: Path) -> None:
    """A tiny model of the type in the layout of a hub model; its processor too, where that can be made here."""
    if kind in FAMILIES:
        save_family(kind, folder)
        return
    config, needs = small_config(kind), NEEDS.get(kind, {})
    own = PROCESSOR_MAPPING.get(type(config), None)
    processor_class = getattr(transformers, needs["class"]) if "class" in needs else own
    tokenizer = make_tokenizer(inspect.getsource(inspect.getmodule(processor_class)) if processor_class else "")
    try:
        processor = make_processor(kind, config, tokenizer, processor_class)
    except Exception:  # what it wants beside cannot be had here: the model is still tried, to hear what is said of it
        processor = None
    put_tokens(config, tokenizer, processor)
    put(config, {path: tokenizer.convert_tokens_to_ids(token) for path, token in needs.get("ids", {}).items()})
    with torch.device("meta"):
        weights = sum(p.numel() for p in AutoModelForImageTextToText.from_config(config).parameters())
    if weights > WEIGHTS:
        raise ValueError(f"{weights:.1e} weights remain")
    torch.manual_seed(11)
    model = AutoModelForImageTextToText.from_config(config)
    for name, parameter in model.named_parameters():
        if (parameter.ndim > 1 or "gate" in name) and not parameter.any():  # a connector of zeros is blind
            parameter.data = 0.2 * torch.randn_like(parameter)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    (processor or tokenizer).save_pretrained(folder)
    if processor is None:
        name = processor_class.__name__ if processor_class else "ProcessorMixin"
        (folder / "processor_config.json").write_text(json.dumps({"processor_class": name}), encoding="utf-8")


def try_kind(kind: str) -> tuple[str, str]:
    """(exact, refused, not built or FAULT; what is to be said of it)."""
    with TemporaryDirectory() as place:
        folder = Path(place) / kind
        try:
            build(kind, folder)
        except Exception as error:
            return "not built", _short(f"{type(error).__name__}: {error}", place)
        try:
            found = try_model(str(folder), max_side=MAX_SIDE, size=SIZE, device="cpu")
            return "exact", f"{found.tokens} tokens, within {found.off:.0e} nats"
        except ModelError as error:
            return "refused", _short(str(error), place)
        except Exception as error:
            return "FAULT", _short(f"{type(error).__name__}: {error}", place)


def _short(text: str, place: str) -> str:
    text = " ".join(text.replace(f"{place}/", "").split()).replace("|", "\\|").replace("<", "&lt;")
    return text if len(text) < 400 else text[:397] + "..."


def in_a_process(kind: str) -> tuple[str, str]:
    """`try_kind` with limits on time and memory."""
    context = multiprocessing.get_context("fork")  # everything is imported already
    queue = context.Queue()

    def work() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
        queue.put(try_kind(kind))

    process = context.Process(target=work)
    process.start()
    try:
        return queue.get(timeout=SECONDS)
    except Exception:
        return "FAULT", f"no end within {SECONDS} s"
    finally:
        process.kill()
        process.join()


HERE_ONLY = re.compile(" ends in | does not describe |ProcessorMixin|missing or misshapen|does not take a question")


def page(rows: dict[str, tuple[str, str]]) -> str:
    """docs/MODELS.md."""
    counts = Counter(state for state, _ in rows.values())
    tried = sum(counts.values()) - counts["not built"]
    lines = [
        "# Models", "",
        "`MODEL=` takes a folder or a hub id. `make doctor` and notebook 00 try it with one picture before any work:",
        "load, encode, answer, sample, score against a plain forward pass, one gradient. It is used exactly, or",
        "refused in a sentence.", "",
        f"`make conformance` wrote this table, with transformers {transformers.__version__} and "
        f"{'' if find_spec('torchvision') else 'without '}torchvision, on a CPU: each",
        "image-text-to-text type, tiny, with random weights and its own processor. A published model brings its own",
        "numbers, chat template and special tokens: ask the doctor.", "",
        f"{tried} of {len(rows)} types could be built: {counts['exact']} exact, {counts['refused']} refused, and "
        f"{counts['FAULT']} neither.",
        "",
        "| type | | what was measured, or the sentence that refuses it |", "|---|---|---|",
        *(f"| {kind} | {state}{' †' * bool(state == 'refused' and HERE_ONLY.search(text))} | {text} |"
          for kind, (state, text) in rows.items() if state != "not built"), "",
        "† An error inside the family's own code, or no sense to it in the tiny model's numbers: a published model may",
        "do better, and the doctor will tell. The other sentences hold for every model of the type.", "",
        "Not built, so not tried: what a tiny model of the type wants is not known to `benchmarks/conformance.py`, or",
        "a package is missing.", "",
        "| type | why |", "|---|---|",
        *(f"| {kind} | {text} |" for kind, (state, text) in rows.items() if state == "not built"), "",
    ]  # fmt: skip
    return "\n".join(lines)


def main(kinds: list[str]) -> int:
    """Print each type's line; write the page where all were tried. Exit status 1 where one was neither."""
    torch.set_num_threads(1)
    rows = {}
    for kind in kinds or list(TYPES):
        rows[kind] = in_a_process(kind)
        print(f"{kind:22} {rows[kind][0]:10} {rows[kind][1]}", flush=True)
    if not kinds:
        PAGE.write_text(page(rows), encoding="utf-8")
    return any(state == "FAULT" for state, _ in rows.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
