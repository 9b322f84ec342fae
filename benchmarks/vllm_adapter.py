"""What vLLM's own loader makes of an exported adapter: the name of each matrix there, and whether s B A is PEFT's.

    python -m benchmarks.vllm_adapter        # where vLLM can be imported; no GPU, nothing is generated

Its answers are pasted into docs/SERVING.md. Random models of the kit's families, in their real layout.
"""

import ast
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import vllm
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file
from vllm.config.lora import LoRAConfig
from vllm.lora import lora_model
from vllm.lora.peft_helper import PEFTHelper
from vllm.model_executor.models.utils import WeightsMapper

from medalign_lite.model.families import find_towers
from medalign_lite.model.lvlm import attach_lora, load_lvlm, save_adapter
from medalign_lite.run.export import write_adapter
from tests.families import save_family

MODELS = {  # family: vLLM's file and class
    "qwen3_vl": ("qwen3_vl", "Qwen3VLForConditionalGeneration"),
    "qwen2_5_vl": ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"),
    "idefics3": ("idefics3", "Idefics3ForConditionalGeneration"),
    "llava": ("llava", "LlavaForConditionalGeneration"),
    "gemma3": ("gemma3_mm", "Gemma3ForConditionalGeneration"),
    "paligemma": ("paligemma", "PaliGemmaForConditionalGeneration"),
}
KNOWN = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
RANK, ALPHA = 8, 16


def mapper_of(file: str, name: str) -> WeightsMapper | None:
    """How that model renames weights: its class's `hf_to_vllm_mapper`, read from the source, since importing the class
    needs a GPU's libraries. None where nothing is renamed."""
    source = Path(vllm.__file__).parent / "model_executor" / "models" / f"{file}.py"
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name == name:
            for part in node.body:
                if isinstance(part, ast.Assign) and part.targets[0].id == "hf_to_vllm_mapper":
                    rules = {rule.arg: ast.literal_eval(rule.value) for rule in part.value.keywords}
                    return WeightsMapper(**rules).get_rename_mapper()
    return None


def read(family: str, place: Path) -> tuple[int, int, str, float]:
    """Adapted matrices, how many of them vLLM has read, the name of the first, the largest difference of s B A."""
    lvlm = load_lvlm(save_family(family, place / "base"), device="cpu")
    targets = find_towers(lvlm.model).linears(lvlm.model, Linear4bit)["language"]
    policy = attach_lora(lvlm, rank=RANK, alpha=ALPHA)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    save_adapter(policy, place / "trained")
    write_adapter(place / "trained", place / "adapter", base=family, revision=None, targets=targets)

    helper = PEFTHelper.from_local_dir(str(place / "adapter"), None)
    helper.validate_legal(LoRAConfig(max_lora_rank=RANK, lora_dtype=torch.float32))
    mapper = mapper_of(*MODELS[family])
    loaded = lora_model.LoRAModel.from_local_checkpoint(
        str(place / "adapter"), KNOWN, helper, device="cpu", dtype=torch.float32, weights_mapper=mapper
    ).loras
    ours = load_file(place / "adapter" / "adapter_model.safetensors")
    worst, found = 0.0, 0
    for target in targets:
        there = loaded.get(mapper._map_name(f"{target}.").removesuffix(".") if mapper else target)
        if there is not None:
            found += 1
            a, b = (ours[f"base_model.model.{target}.lora_{side}.weight"] for side in "AB")
            change = there.scaling * there.lora_b @ there.lora_a - ALPHA / RANK**0.5 * b @ a
            worst = max(worst, change.abs().max().item())
    return len(targets), found, min(loaded), worst


def main() -> int:
    """Exit status: 0 every family has matrices, and each is read and equal; 1 not."""
    lora_model.PIN_MEMORY = torch.cuda.is_available()
    print(f"vLLM {vllm.__version__}")
    print("| family | matrices | read by vLLM | the first | largest difference of s B A |\n|---|---|---|---|---|")
    good = True
    for family in MODELS:
        with TemporaryDirectory() as place:
            matrices, found, first, worst = read(family, Path(place))
        good &= 0 < matrices == found and worst < 1e-5
        print(f"| {family} | {matrices} | {found} | `{first}` | {worst:.1g} |")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
