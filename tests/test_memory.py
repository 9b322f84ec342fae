"""Memory told from the configuration alone, against what the real engine holds; what is advised where it is short."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from families import FAMILIES, save_family

from benchmarks.fit_bench import weights_of
from medalign_lite.dials import PRESETS
from medalign_lite.losses.objective import objective
from medalign_lite.losses.recipes import RECIPES
from medalign_lite.model.lvlm import EMBEDDED, attach_lora, load_lvlm
from medalign_lite.model.weights import ModelError
from medalign_lite.run import fit
from medalign_lite.run.dial import dial, resolve
from medalign_lite.run.doctor import end_trial
from medalign_lite.run.fit import Meter, Shapes, config_folder, examine_fit, image_tokens, real_size, with_changes
from medalign_lite.text.diff import diff_spans
from medalign_lite.train.pairs import Pair, PairInputs, Row
from medalign_lite.train.reference import ReferenceCache
from medalign_lite.train.scoring import score

CLOSE = 0.15
CI = PRESETS["ci"]


def peak(told, phase=None):
    """Bytes that a phase needs, or the dearest of them."""
    return max(sum(told[name].values()) for name in ([phase] if phase else told))


def test_weights_are_those_of_the_loaded_model():
    told = sum(fit.weight_bytes(fit.skeleton_of(EMBEDDED)[1].to(torch.float32)).values())
    assert told == pytest.approx(weights_of(load_lvlm(EMBEDDED, device="cpu").model, "training"), rel=CLOSE)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_training_step_holds_what_was_told(recompute, pictures, tmp_path):
    recipe = RECIPES["neutral-control"]
    policy = attach_lora(load_lvlm(EMBEDDED, device="cpu"), rank=CI.lora_rank, alpha=CI.lora_alpha)
    fit.recompute_layers(policy.model, recompute)
    text = "side there is a small nodule in the upper zone and no pleural effusion is seen" + " or there" * 8 + "."
    texts = f"Right {text}", f"Left {text}"
    pairs = [Pair(f"p{n}", f"Describe this radiograph{'!' * n}", *texts, *diff_spans(*texts), clean=pictures[n],
                  lesion=pictures[n - 1], control=pictures[n - 2]) for n in range(4)]
    inputs = PairInputs(policy)
    inputs.warm(pairs, images=("clean", "lesion", "control"))
    cache = ReferenceCache(policy, inputs, tmp_path)
    cache.fill(pairs, recipe.sides(), name="pairs")
    score(policy.model, inputs, pairs, recipe.sides(), reference=cache)  # tries once whether prefixes can be shared
    with Meter() as meter:
        objective(score(policy.model, inputs, pairs, recipe.sides(), reference=cache), recipe).loss.sum().backward()
    tokens = len(policy.processor.tokenizer(texts[0])["input_ids"]) + 1
    rows = [Row(pair, "clean", answer) for pair in pairs for answer in ("chosen", "rejected")]
    whole = inputs.sequences(rows).completion.shape[1]
    shapes = Shapes(16, tokens, images=3, prompt_tokens=whole - tokens - 16)
    preset = replace(CI, micro_batch=4, train_batch=4, eval_batch=4, max_new_tokens=tokens, recompute=recompute,
                     recipes=("neutral-control",))
    told = fit.estimate(EMBEDDED, preset, shapes, on_gpu=False)["training"]
    expected = told["gradients"] + told["activations"] + told["logits"]
    assert meter.peak == pytest.approx(expected, rel=CLOSE), (meter.peak, told)


def test_recomputed_layers_and_smaller_shapes_need_less():
    shapes = Shapes(16, 128, images=100)
    needs = [peak(fit.estimate(EMBEDDED, replace(CI, **change), shapes, on_gpu=False), "training")
             for change in ({}, {"recompute": True}, {"micro_batch": 4, "eval_batch": 16})]
    assert needs[1] < needs[0] and needs[2] < needs[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_told(family, tmp_path):
    folder = save_family(family, tmp_path / family)
    shapes = Shapes(9, 32, images=10)
    told = fit.estimate(folder, replace(CI, lora_rank=4), shapes, on_gpu=False)
    assert all(peak(told, phase) > sum(v for k, v in told[phase].items() if k.startswith("weights")) for phase in told)


def test_the_presets_models_are_told_before_they_are_here():
    told = {}
    for name in ("workshop", "full"):
        preset = PRESETS[name]
        shapes = Shapes(image_tokens(preset.model, preset.max_side, (512, 512)), preset.max_new_tokens, images=100)
        assert shapes.image_tokens == (preset.max_side // 32) ** 2
        told[name] = fit.estimate(config_folder(preset.model), preset, shapes, on_gpu=True)
    assert peak(told["workshop"]) < 7.4e9 and 8e9 < peak(told["full"]) < 15e9  # 8 and 16 GB cards
    assert PRESETS["full"].min_gpu_gb * 1e9 > peak(told["full"])
    assert PRESETS["workshop"].min_gpu_gb * 1e9 > peak(told["workshop"])


def test_the_advice_fits_and_nothing_smaller_was_asked_for():
    shapes = Shapes(16, 128, images=100)

    def needs(preset):
        return peak(fit.estimate(EMBEDDED, preset, replace(shapes, answer_tokens=preset.max_new_tokens), on_gpu=False))

    budget = int(0.7 * needs(CI))
    assert dial(resolve("full,max_side=448,recompute=False").preset) == "full,max_side=448,recompute=False"
    found = fit.advice(CI, needs, budget)
    for change in found.split(" or "):
        name, value = change.split("=")
        assert needs(replace(CI, **{name: int(value)})) <= budget < needs(CI)
        assert getattr(resolve(with_changes(CI, change)).preset, name) == int(value)
    assert fit.advice(CI, needs, 1000) is None


def test_a_machine_with_too_little_is_told_what_to_turn_down(monkeypatch):
    found = examine_fit(resolve("ci"))
    assert found.image_tokens == 16 and found.disk_gb > 1
    there = (found.need_gb[found.worst] - 0.3) / fit.SPARE
    monkeypatch.setattr(fit, "gpu_memory_gb", lambda: (0.0, ""))
    monkeypatch.setattr(fit, "machine_memory_gb", lambda: (there, there))
    small = examine_fit(resolve("ci"))
    assert not small.fits and "=" in small.change
    with pytest.raises(ModelError, match="make models MODEL=acme/other"):
        examine_fit(resolve("ci", model="acme/other"))


@pytest.mark.parametrize(("code", "state", "found"), [
    ("print('{\"refused\": \"m: soft-capping; not supported.\"}')", "fail", "m: soft-capping; not supported."),
    ("import os; os.kill(os.getpid(), 9)", "fail", "killed .exit status -9.: most likely memory ran out"),
    ("import time; time.sleep(60)", "fail", "did not end within 3 s"),
    ("print('{\"size\": [512, 400], \"tokens\": 44, \"mb\": 900, \"seconds\": 3.2, \"off\": 1e-6}')", "ok",
     "one picture of 512 x 400 pixels became 44 tokens.*within 1e-06 nats.*3 s, 900 MB"),
])  # fmt: skip
def test_whatever_a_trial_does_the_doctor_says_in_a_sentence(code, state, found):
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    line = end_trial(process, resolve("ci"), seconds=3)
    assert line.state == state and re.search(found, line.found) and bool(line.next_step) == (state == "fail")


def test_a_picture_of_the_cases_own_size(tmp_path):
    assert real_size(None, 512) == (512, 512) and real_size(tmp_path, 448) == (448, 448)
    assert real_size(EMBEDDED.parent / "cases", 448) != (448, 448)
