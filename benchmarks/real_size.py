"""A hub model at its real size with random weights: what a `fire-mpo` step of the `full` preset takes of one GPU.

Speed and memory do not depend on the values of the weights. The configuration is the hub's, kept in
`medalign_lite/run/configs`; tokenizer and chat template are home-made, because only lengths count.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from benchmarks.child import Peak
from benchmarks.steps import engine_step, timed
from benchmarks.worlds import make_pairs
from medalign_lite.dials import PRESETS
from medalign_lite.files import read_json
from medalign_lite.model.lvlm import attach_lora, load_lvlm, recompute_layers
from medalign_lite.run import fit
from tests.families import qwen3_vl

NAMES = ("Qwen3-VL-2B-Instruct", "Qwen3-VL-4B-Instruct")
SHAPES = {"1 × 8": (1, 8), "8 × 1": (8, 1)}  # records a forward pass × passes a step
SIDE, IMAGE_TOKENS = 512, 256  # pixels of a picture, and the tokens that it becomes
LENGTHS = (5, 60)  # answer tokens of a SLAKE question and of a short report
SHRUNK = {"text_config": {"num_hidden_layers": 1, "vocab_size": 4096, "hidden_size": 64, "intermediate_size": 128,
                          "num_attention_heads": 2, "num_key_value_heads": 1},
          "vision_config": {"depth": 2, "deepstack_visual_indexes": [0, 1], "hidden_size": 64, "num_heads": 2,
                            "intermediate_size": 128, "out_hidden_size": 64}}  # fmt: skip


def real_size(models: Path, *, name: str, micro: int, passes: int, steps: int, shrunk: bool = False) -> dict:
    """Seconds of each step after the first, and the GPU's peak in GB (10^9 bytes), weights and caches included, beside
    what `make doctor` tells of the same work. `shrunk`: the same model with layers and widths cut, to try the row where
    there is no GPU."""
    preset, folder = PRESETS["full"], make_folder(models, name, SHRUNK if shrunk else {})
    peak = Peak()
    with TemporaryDirectory() as work:
        lvlm = load_lvlm(folder)
        policy = attach_lora(lvlm, rank=preset.lora_rank, alpha=preset.lora_alpha)
        recompute_layers(policy.model, preset.recompute)
        pairs = make_pairs(policy.processor.tokenizer, micro * passes, LENGTHS)
        pairs = [replace(pair, control=None) for pair in pairs]
        step, fill = engine_step(policy, pairs, "fire-mpo", Path(work), micro=micro)
        seconds = [timed(step)[0] for _ in range(steps + 1)][1:]
    held = peak.held + peak.above()
    preset = replace(preset, recipes=("fire-mpo",), train_batch=len(pairs), micro_batch=micro, eval_batch=micro)
    shapes = fit.Shapes(IMAGE_TOKENS, LENGTHS[1], images=2 * len(pairs))
    told = sum(fit.estimate(folder, preset, shapes, on_gpu=True)["training"].values())
    return {"seconds": seconds, "fill": fill, "gb": held * 2**20 / 1e9, "told_gb": told / 1e9,
            "four_bit": lvlm.four_bit, "pairs": len(pairs)}


def make_folder(models: Path, name: str, changes: Mapping[str, Mapping]) -> Path:
    """The model's folder, with random bf16 weights; made once."""
    place = Path(models) / (f"{name}-shrunk" if changes else name)
    if (place / "generation_config.json").exists():
        return place
    tiny, processor = qwen3_vl()
    tokenizer = processor.tokenizer
    tokenizer.model_max_length = 32_768
    processor.image_processor = Qwen2VLImageProcessorPil(
        patch_size=16, merge_size=2, min_pixels=SIDE**2, max_pixels=SIDE**2, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    told = read_json(fit.CONFIGS / name / "config.json")
    told |= {part: told[part] | dict(change) for part, change in changes.items()}
    told |= {key: getattr(tiny.config, key) for key in told if key.endswith("_token_id")}
    config = AutoConfig.for_model(told.pop("model_type"), **told)
    torch.manual_seed(7)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config = GenerationConfig(**ends)
    processor.save_pretrained(place)
    model.save_pretrained(place)
    return place
