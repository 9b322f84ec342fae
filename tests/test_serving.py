"""What `make export` writes, used as others would: plain transformers, plain PEFT, the rules of vLLM's loader."""

import json
import re
import shutil

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from conftest import stirred
from families import save_family
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from medalign_lite.files import read_json, tree, write_json
from medalign_lite.model.families import find_towers
from medalign_lite.model.loading import forbid_cpu_repacking
from medalign_lite.model.lvlm import attach_lora, load_lvlm, load_processor, save_adapter
from medalign_lite.model.weights import ModelError
from medalign_lite.run.export import export
from medalign_lite.run.provenance import sealed

RECIPE = "grounded"


def write_run(folder, model):
    """What a finished run holds of what an export reads; the adapter is real and does something."""
    policy = stirred(attach_lora(load_lvlm(model, device="cpu"), rank=8, alpha=16), scale=0.3)
    save_adapter(policy, folder / "05_train" / RECIPE)
    entry = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    files = {
        "00_start/manifest.json": {"notes": {"images": 24, "skipped": 1, "dropped": 0}},
        "00_start/source.json": {"layout": "phantom world", "reason": "rendered"},
        "05_train/manifest.json": {"preset": "ci"},
        "05_train/choice.json": {"aligned": RECIPE, "pairs": 46, "why": ""},
        f"05_train/{RECIPE}/settings.json": {"recipe": {"beta": 0.1}, "settings": {
            "rank": 8, "alpha": 16, "rslora": True, "learning_rate": 1e-4, "epochs": 1, "batch_size": 8,
            "accumulation": 1, "seed": 7}},
        "06_evaluate/results.json": {arm: {"test": {"closed_accuracy": entry}} for arm in (
            "base", "aligned", "difference")},
    }
    for name, value in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_json(folder / name, value)
    for stage in folder.iterdir():
        path = stage / "manifest.json"
        old = read_json(path) if path.is_file() else {}
        path.unlink(missing_ok=True)
        write_json(path, sealed(old | {"outputs": tree(stage)}))
    return folder


@pytest.fixture(scope="module", params=["idefics3", "qwen3_vl"])
def exported(request, tmp_path_factory):
    """(the base's folder, the exported folder)"""
    place = tmp_path_factory.mktemp(request.param)
    base = save_family(request.param, place / "base")
    run = write_run(place / "run", base)
    return base, export(run, str(base), RECIPE, run / "export" / RECIPE, say=lambda _: None)


def logits_of(model, processor):
    ids = processor.tokenizer("Is there a pleural effusion?", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model(input_ids=ids).logits.float()


@pytest.mark.parametrize("name", ["00_start/source.json", f"05_train/{RECIPE}/adapter_model.safetensors",
                                  "06_evaluate/results.json"])
def test_a_stage_that_was_changed_is_not_exported(exported, tmp_path, name):
    base, folder = exported
    run = shutil.copytree(folder.parents[1], tmp_path / "run")
    data = bytearray((run / name).read_bytes())
    data[-3] ^= 1
    (run / name).write_bytes(data)
    with pytest.raises(ModelError, match=f"{name.rpartition('/')[2]} was changed after stage"):
        export(run, str(base), RECIPE, run / "again", say=lambda _: None)


def test_merged_and_adapter_say_the_same_in_plain_transformers_and_peft(exported):
    base, folder = exported
    processor = load_processor(folder / "merged")
    merged = AutoModelForImageTextToText.from_pretrained(folder / "merged", dtype="auto")
    plain = AutoModelForImageTextToText.from_pretrained(base, dtype="auto")
    before = logits_of(plain, processor)
    adapted = logits_of(PeftModel.from_pretrained(plain, folder / "adapter"), processor)
    torch.testing.assert_close(logits_of(merged, processor), adapted, atol=1e-3, rtol=1e-3)
    assert (adapted - before).abs().max() > 0.1


def test_the_4_bit_model_loads_as_it_lies_with_both_towers_in_4_bit(exported):
    _, folder = exported
    nf4 = load_lvlm(folder / "merged", device="cpu")
    again = AutoModelForImageTextToText.from_pretrained(folder / "merged-nf4", device_map={"": "cpu"})
    towers = find_towers(again)
    layers = {tower: len(names) for tower, names in towers.linears(again, Linear4bit).items()}
    assert layers["vision"] == nf4.four_bit["vision"] > 0 and layers["language"] == nf4.four_bit["language"] > 0
    assert not layers["connector"] and not layers["head"]
    forbid_cpu_repacking(again)  # else some processors compute in another kernel
    ours, theirs = (logits_of(model, nf4.processor) for model in (nf4.model, again))
    torch.testing.assert_close(theirs, ours, atol=1e-2, rtol=1e-2)


def test_processor_and_tokenizer_are_those_of_the_base(exported):
    base, folder = exported
    for name in ("tokenizer.json", "processor_config.json", "chat_template.jinja"):
        for kind in ("merged", "merged-nf4"):
            assert (folder / kind / name).read_bytes() == (base / name).read_bytes()
    assert not list(folder.rglob("*.bin"))


def test_the_adapter_is_what_vllm_reads(exported):
    """The rules of vLLM's PEFTHelper and LoRAModel.from_local_checkpoint, written down from its source."""
    base, folder = exported
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["modules_to_save"] is None and not config["use_dora"] and config["bias"] == "none"
    assert config["use_rslora"] and config["r"] == 8
    known = {name.rsplit(".", 1)[-1] for name in config["target_modules"]}
    assert isinstance(config["target_modules"], list)
    tensors = load_file(folder / "adapter" / "adapter_model.safetensors")
    for name in tensors:
        parts = name.split(".")
        assert name.startswith("base_model.model.") and parts[-1] == "weight" and parts[-2] in ("lora_A", "lora_B")
        assert parts[-3] in known and ".".join(parts[2:-2]) in config["target_modules"]
    assert len(tensors) == 2 * len(config["target_modules"])
    assert config["base_model_name_or_path"] == base.name  # no place on this machine


def test_cards_carry_data_settings_results_and_limits_and_no_place_of_this_machine(exported):
    base, folder = exported
    for kind in ("adapter", "merged", "merged-nf4"):
        card = (folder / kind / "README.md").read_text()
        row = "| test | closed_accuracy | 0.500 | 0.500 | +0.500 (+0.400 to +0.600) | 9 |"
        for part in ("## Data", "## Settings", "## Results", "## Limits", "46 preference pairs", "rank 8, alpha 16",
                     row, "not for clinical use"):
            assert part in card, part
        assert str(base.parent) not in card
        compile(re.search(r"```python\n(.+?)```", card, re.S)[1], "card", "exec")


def test_what_cannot_be_exported_is_said(exported, tmp_path):
    base, folder = exported
    run = folder.parent.parent
    with pytest.raises(ModelError, match="there already"):
        export(run, str(base), RECIPE, folder)
    with pytest.raises(ModelError, match="holds no adapter 'dpo'; `make reproduce`"):
        export(run, str(base), "dpo", tmp_path / "x")
