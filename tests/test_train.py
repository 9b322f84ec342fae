"""Training on a tiny random 4-bit model: resuming, accumulation, guards, the log, and what is saved."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from medalign_lite.losses.recipes import RECIPES
from medalign_lite.model.batches import encode
from medalign_lite.model.lvlm import load_lvlm, trainable_by_tower
from medalign_lite.text.diff import diff_spans
from medalign_lite.train.pairs import Pair, PairInputs
from medalign_lite.train.train import TrainingDiverged, TrainSettings, Watch, train

QUICK = TrainSettings(batch_size=2, rank=4, alpha=8, learning_rate=3e-3, save_every=2, warmup=0.0, seed=3)


@pytest.fixture(scope="module")
def pairs(pictures):
    """Eight pairs; every third has no corrupted images."""
    found = []
    for n in range(8):
        side, other = ("right", "left") if n % 2 else ("left", "right")
        tail = " No pleural effusion is seen." * (n % 3)
        texts = [f"There is a small nodule in the {word} upper zone.{tail}" for word in (side, other)]
        found.append(Pair(f"r{n}", "Describe this radiograph.", *texts, *diff_spans(*texts), clean=pictures[n % 4],
                          lesion=pictures[(n + 1) % 4] if n % 3 else None,
                          control=pictures[(n + 2) % 4] if n % 3 else None, gold=texts[0]))
    return found


@pytest.fixture
def run(tiny_folder, pairs, tmp_path):
    """Train on a freshly loaded model in a folder of this name."""
    def go(settings, name="a", records=pairs, **options):
        return train(load_lvlm(tiny_folder, device="cpu"), records, settings, folder=tmp_path / name,
                     work=tmp_path / f"{name}-work", progress=False, **options)
    return go


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "adapter_model.safetensors")


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(run):
    one, two, other = (run(replace(QUICK, seed=seed, max_steps=2), name) for name, seed in
                       (("one", 3), ("two", 3), ("other", 4)))
    assert same(weights(one.folder), weights(two.folder)) and not same(weights(one.folder), weights(other.folder))


@pytest.mark.parametrize("records", [8, 7])  # 7: the last step of the epoch has fewer records
def test_accumulation_equals_the_big_batch(run, pairs, records):
    big = run(replace(QUICK, batch_size=4, accumulation=1), "big", pairs[:records])
    small = run(replace(QUICK, batch_size=1, accumulation=4), "small", pairs[:records])
    assert big.steps == small.steps == 2
    for name, value in weights(big.folder).items():
        torch.testing.assert_close(weights(small.folder)[name], value, atol=2e-5, rtol=1e-3)
    for a, b in zip(big.log, small.log, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains_and_logs(run, pairs, recipe):
    result = run(replace(QUICK, recipe=recipe, max_steps=3, epochs=5, batch_size=8), recipe)
    first, last = result.log[0], result.log[-1]
    assert {"step", "epoch", "loss", "grad_norm", "learning_rate", "seconds", "peak_mb"} <= set(first)
    assert last["loss"] < first["loss"] and first["grad_norm"] > 0
    if RECIPES[recipe].reference and RECIPES[recipe].preference and recipe != "ddpo":
        assert first["margin"] == pytest.approx(0, abs=1e-5) and last["margin"] > 0
    towers = trainable_by_tower(result.lvlm.model)
    assert towers["language"] > 0 and sum(towers.values()) == towers["language"]


def test_the_first_loss_is_the_known_value_and_the_gradient_norm_that_before_clipping(run):
    first = run(replace(QUICK, batch_size=8, max_steps=1), "known").log[0]
    assert first["loss"] == pytest.approx((5 * 0.76246190 + 3 * 0.69314718) / 8, abs=1e-5)
    assert first["a_lesion"] == 5 / 8
    loose, tight = (run(replace(QUICK, max_grad_norm=limit, max_steps=1), f"at-{limit}") for limit in (1e3, 1e-3))
    assert loose.log[0]["grad_norm"] == tight.log[0]["grad_norm"] > 1e-3


def test_validation_and_the_best_checkpoint(run, pairs):
    settings = replace(QUICK, recipe="dpo", epochs=3, select="margin", learning_rate=1e-2)
    result = run(settings, "best", pairs[:4], validation=pairs[4:])
    checks = [row for row in result.log if "eval_loss" in row]
    assert [row["step"] for row in checks] == [2, 4, 6]
    assert {"eval_margin", "eval_margin_lesion", "eval_margin_control", "eval_gs", "eval_accuracy"} <= set(checks[0])
    best = max(checks, key=lambda row: row["eval_margin"])
    assert result.best_step == best["step"]
    trainer_folder = result.folder.with_name("best-work") / "checkpoints" / f"checkpoint-{best['step']}"
    assert same(weights(result.folder), weights(trainer_folder))


def test_adapters_load_plainly_in_another_process(pairs, tiny_folder, tmp_path):
    """There, PEFT and transformers alone: no module of this package."""
    lvlm = load_lvlm(tiny_folder, device="cpu")
    skipped = ["lm_head", "model.connector.modality_projection.proj"]
    result = train(lvlm, pairs, QUICK, folder=tmp_path / "saved", work=tmp_path / "w", progress=False)
    made = encode(lvlm.processor, [pairs[0].clean], [pairs[0].question], [pairs[0].chosen])
    with torch.no_grad():
        ours = result.lvlm.model(**made.inputs).logits
    save_file({**made.inputs, "expected": ours.contiguous()}, tmp_path / "made.safetensors")
    script = f"""
import sys, torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig
inputs = load_file({str(tmp_path / "made.safetensors")!r})
expected = inputs.pop("expected")
nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                         bnb_4bit_compute_dtype=torch.float32, llm_int8_skip_modules={skipped})
base = AutoModelForImageTextToText.from_pretrained({str(tiny_folder)!r}, dtype=torch.float32, local_files_only=True,
                                                   device_map="cpu", quantization_config=nf4)
for module in base.modules():
    if hasattr(module, "support_avx512bf16_for_cpu"):
        module.support_avx512bf16_for_cpu = False
model = PeftModel.from_pretrained(base, {str(result.folder)!r}).eval()
with torch.no_grad():
    torch.testing.assert_close(model(**inputs).logits, expected, atol=1e-5, rtol=1e-5)
    with model.disable_adapter():
        assert (model(**inputs).logits - expected).abs().max() > 1e-4
assert "medalign_lite" not in sys.modules
print("equal")
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert told.stdout.strip().endswith("equal"), told.stderr[-2000:]
    assert {path.name for path in result.folder.iterdir()} >= {"adapter_config.json", "log.jsonl", "settings.json"}


def test_training_goes_on_from_saved_adapters_and_the_base_stays_the_reference(run, pairs):
    first = run(replace(QUICK, recipe="dpo"), "first")
    second = run(replace(QUICK, recipe="dpo", learning_rate=1e-9), "second", start=first.folder)
    assert second.log[0]["margin"] > 0.01 > abs(first.log[0]["margin"])  # m(v) counts from the base, not from `start`
    for name, value in weights(first.folder).items():
        torch.testing.assert_close(weights(second.folder)[name], value, atol=1e-6, rtol=0)
    again = run(replace(QUICK, recipe="dpo", learning_rate=1e-9), "second", start=first.folder)
    assert same(weights(again.folder), weights(second.folder))
    with pytest.raises(ValueError, match="has rank 4, alpha 8, rslora True; the settings ask for 8, 8, True"):
        run(replace(QUICK, rank=8), "third", start=first.folder)
    with pytest.raises(ValueError, match="is of another run"):
        run(replace(QUICK, recipe="dpo"), "first", start=second.folder)


def test_divergence_names_the_records(run, monkeypatch, pairs):
    with pytest.raises(TrainingDiverged, match=r"step 1: the loss is not finite or above 0\.5 for r\d \(0\.\d+\), r\d"):
        run(replace(QUICK, stop_above=0.5), "limit")
    checked = Watch.on_pre_optimizer_step

    def poison(self, args, state, control, model=None, **kwargs):
        next(p for p in model.parameters() if p.grad is not None).grad[0] = math.nan
        return checked(self, args, state, control, model=model, **kwargs)

    monkeypatch.setattr(Watch, "on_pre_optimizer_step", poison)
    with pytest.raises(TrainingDiverged, match=r"step 1: a gradient is not finite; the batch was r\d, r\d"):
        run(QUICK, "gradient")


def test_features_and_references_are_shared_between_recipes(tiny_folder, pairs, tmp_path):
    lvlm = load_lvlm(tiny_folder, device="cpu")
    inputs, adapters = PairInputs(lvlm), {}
    for recipe in ("fire-mpo", "dpo"):
        result = train(lvlm, pairs, replace(QUICK, recipe=recipe), folder=tmp_path / recipe,
                       work=tmp_path / "w" / recipe, inputs=inputs,
                       reference_folder=tmp_path / "reference", progress=False)
        adapters[recipe] = weights(result.folder)
        lvlm = replace(lvlm, model=result.lvlm.model.unload())
    names = sorted(path.name for path in (tmp_path / "reference").iterdir())
    assert names == [f"train-{end}.safetensors" for end in
                     ("clean-chosen-hidden", "clean-rejected", "lesion-chosen", "lesion-rejected")]
    alone = train(load_lvlm(tiny_folder, device="cpu"), pairs, replace(QUICK, recipe="dpo"), folder=tmp_path / "alone",
                  work=tmp_path / "w" / "alone", progress=False)
    assert same(adapters["dpo"], weights(alone.folder))


def test_progress_is_plain_text_when_headless(tiny_folder, pairs, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MEDALIGN_HEADLESS", "1")
    train(load_lvlm(tiny_folder, device="cpu"), pairs[:2], QUICK, folder=tmp_path / "a", work=tmp_path / "b")
    told = capfd.readouterr().err
    assert "train fire-mpo: 1 of 1" in told and "left" in told and "█" not in told.split("train fire-mpo")[1]


@pytest.mark.parametrize(("change", "message"), [
    ({"recipe": "dppo"}, "allowed: dpo"), ({"overrides": {"gama": 1}}, "no setting gama"),
    ({"select": "best"}, "allowed: last, loss, margin"), ({"batch_size": 0}, "batch_size=0"),
    ({"warmup": 1.5}, "warmup"), ({"learning_rate": float("nan")}, "learning_rate"),
])
def test_wrong_settings_raise(change, message):
    with pytest.raises(ValueError, match=message):
        replace(QUICK, **change)


def test_wrong_input_raises(run, pairs):
    with pytest.raises(ValueError, match="record ids appear twice: r0"):
        run(QUICK, "twice", [pairs[0], pairs[0]])
    with pytest.raises(ValueError, match="there are no pairs"):
        run(QUICK, "none", [])
    with pytest.raises(ValueError, match="needs validation pairs"):
        run(replace(QUICK, select="loss"), "unchecked")
    run(replace(QUICK, max_steps=1), "mine")
    with pytest.raises(ValueError, match="is of another run"):
        run(replace(QUICK, max_steps=2), "mine")
    saved = json.loads((run(replace(QUICK, max_steps=1), "mine").folder / "settings.json").read_text())
    assert saved["recipe"]["name"] == "fire-mpo" and saved["settings"]["rank"] == 4
