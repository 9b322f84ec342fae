"""The one dial: names, strict overrides, what auto chooses and how it says so."""

import subprocess
import sys
from dataclasses import fields

import pytest

from medalign_lite.dials import PRESETS, PresetError
from medalign_lite.losses.recipes import RECIPES
from medalign_lite.model.weights import find_model
from medalign_lite.run import dial as presets
from medalign_lite.run.dial import NAMES, resolve


def test_every_preset_has_its_own_name_known_recipes_and_the_settings_it_promises():
    for name, preset in PRESETS.items():
        assert preset.name == name and set(preset.recipes) <= set(RECIPES)
    full, ci = PRESETS["full"], PRESETS["ci"]
    assert (full.lora_rank, full.lora_alpha, full.learning_rate) == (128, 256, 1e-6), "the paper's"
    assert (full.beta, full.train_batch, full.epochs) == (0.1, 8, 1), "the paper's"
    assert ci.n_test >= 400 and not ci.needs_gpu
    with pytest.raises(PresetError, match=", ".join(NAMES)):
        resolve("huge")


@pytest.mark.parametrize(("number", "message"), [
    ("epochs=1.5", "'epochs=1.5' must be int"), ("epochs=two", "must be int"), ("learning_rate=", "must be float"),
    ("recompute=yes", "must be bool"), ("epoch=1", "'epoch=1' is no number of a preset; those are .*epochs"),
    ("name=other", "is no number"), ("epochs", "is no number"), ("corruption=texture", "is not one of noise, blur"),
])
def test_an_unknown_or_ill_typed_number_is_an_error(number, message):
    with pytest.raises(PresetError, match=message):
        resolve(f"ci,{number}")


def test_numbers_are_applied_and_told():
    resolved = resolve("ci, epochs=1,learning_rate=1", recipe="dpo")
    assert (resolved.preset.epochs, resolved.preset.learning_rate, resolved.preset.recipes) == (1, 1, ("dpo",))
    assert "epochs=1" in resolved.reason
    with pytest.raises(PresetError, match="rounds=-1 must be 1 or more"):
        resolve("ci", rounds=-1)
    assert PRESETS["ci"].epochs != 1 or PRESETS["ci"].recipes != ("dpo",)


def test_missing_cases_are_named_and_a_model_not_on_this_machine_is_not_found(tmp_path, monkeypatch):
    with pytest.raises(PresetError, match="nowhere.*does not exist"):
        resolve("ci", cases=str(tmp_path / "nowhere"))
    assert resolve("ci", cases=str(tmp_path)).cases == tmp_path
    assert find_model("no-such-org/no-such-model") is None
    assert find_model(str(tmp_path)) is None  # a folder that lacks everything


@pytest.mark.parametrize("model", ["nowhere", "./nowhere/x", "/nowhere", "a/b/c", "org/na me"])
def test_model_that_is_neither_folder_nor_hub_id(model):
    with pytest.raises(PresetError, match="neither a folder"):
        resolve("ci", model=model)


def test_auto_without_a_visible_or_working_gpu_is_ci_and_says_why(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    resolved = resolve("auto")
    assert resolved.preset.name == "ci" and "hides every GPU" in resolved.reason
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'couldn'\\''t communicate with the driver' >&2; exit 9\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert presets.gpu_memory_gb() == (0.0, "nvidia-smi found no working GPU")


def test_presets_do_not_import_torch_and_have_types_that_overrides_can_check():
    code = "import sys, medalign_lite.run.dial, medalign_lite.run.reproduce; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    checked = {str, int, float, bool, tuple}
    assert {type(getattr(PRESETS["ci"], field.name)) for field in fields(presets.Preset)} <= checked
