"""Every model family through the whole of the package, on tiny random models with the family's own processor."""

import warnings
from dataclasses import replace

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from conftest import adapter_gradient, stirred
from families import FAMILIES, save_family

from medalign_lite.cases.rollouts import Prompt
from medalign_lite.losses.objective import objective
from medalign_lite.losses.recipes import RECIPES, Reads
from medalign_lite.model.batches import encode
from medalign_lite.model.families import find_towers
from medalign_lite.model.features import KeptFeatures
from medalign_lite.model.lvlm import attach_lora, load_adapter, load_lvlm, recompute_layers, trainable_by_tower
from medalign_lite.model.rollout import rollout
from medalign_lite.run.trial import try_model
from medalign_lite.text.diff import diff_spans
from medalign_lite.text.spans import KINDS
from medalign_lite.train.pairs import Pair, PairInputs
from medalign_lite.train.prefix import Packed
from medalign_lite.train.reference import ReferenceCache
from medalign_lite.train.scoring import ALL_SIDES, LiveReference, check_head, rows_of, score
from medalign_lite.train.train import TrainSettings, train

QUESTIONS = ("Describe this radiograph.", "Which side is the nodule on?")
RECIPE = RECIPES["neutral-control"]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return save_family(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def pairs(pictures):
    """Two pairs whose answers and questions differ in length; the second without control image."""
    found = []
    for n, sides in enumerate((("right", "left"), ("left", "right"))):
        texts = [f"There is a small nodule in the {word} upper zone.{' No pneumothorax.' * n}" for word in sides]
        found.append(Pair(f"r{n}", QUESTIONS[n], *texts, *diff_spans(*texts), clean=pictures[n],
                          lesion=pictures[n + 1], control=None if n else pictures[3]))
    return found


@pytest.fixture(scope="module")
def policy(folder):
    return stirred(attach_lora(load_lvlm(folder, device="cpu"), rank=4, alpha=8, seed=3))


def losses_and_gradients(policy, pairs, inputs, reference=None):
    terms = score(policy.model, inputs, pairs, ALL_SIDES | RECIPE.sides(),
                  reference=reference or LiveReference(policy.model))
    losses = objective(terms, RECIPE).loss
    return losses.detach(), adapter_gradient(policy, losses.mean())


def test_towers_are_four_bit_and_adapters_train_the_language_model(policy):
    base = policy.model.get_base_model()
    towers = find_towers(base)
    for tower in ("vision", "language"):
        assert policy.four_bit[tower] == len(towers.linears(base, Linear4bit)[tower]) > 0
    assert policy.four_bit["connector"] == 0 and not towers.linears(base)["vision"]
    counts = trainable_by_tower(policy.model)
    assert counts.pop("language") > 0 and not any(counts.values())
    assert not any("lora_" in name and towers.of(name) != "language" for name, _ in policy.model.named_parameters())


def test_token_weights(policy, pairs):
    pair = pairs[0]
    made = encode(policy.processor, [pair.clean], [pair.question], [pair.chosen], [pair.spans_chosen])
    ids, decode = made.inputs["input_ids"][0], policy.processor.tokenizer.decode
    answer = decode(ids[made.completion[0]], skip_special_tokens=True)
    assert answer.strip() == pair.chosen and decode(ids[made.kinds[0] == 1 + KINDS.index("side")]).strip() == "right"
    prompt = decode(ids[~made.completion[0]])
    assert prompt.count(pair.question) == 1 and "labels" not in made.inputs


def test_shared_equals_plain(policy, pairs, monkeypatch):
    check_head(policy, PairInputs(policy).sequences([rows_of(pairs, RECIPE.sides())[0][1]]))
    shared = PairInputs(policy)
    rows = [row for _, row in rows_of(pairs, ALL_SIDES)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        batch = shared.batch(rows)
    assert all(isinstance(part, Packed) for part in batch.parts)
    assert shared.unshared is None and shared.encoder.possible
    assert sum(len(part.inputs["input_ids"]) for part in batch.parts) == 5 and len(rows) == 10
    plain = PairInputs(policy)
    plain.encoder.possible = False
    monkeypatch.setattr(plain, "batch", plain.sequences)
    (ours, gradient), (theirs, expected) = (losses_and_gradients(policy, pairs, inputs) for inputs in (shared, plain))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert expected.norm() > 0 and (gradient - expected).norm() <= 1e-4 * expected.norm()


def test_cached_reference_equals_live(policy, pairs, tmp_path):
    live, gradient = losses_and_gradients(policy, pairs, PairInputs(policy))
    for _ in range(2):  # computed, then read back
        inputs = PairInputs(policy)
        cache = ReferenceCache(policy, inputs, tmp_path)
        cache.fill(pairs, ALL_SIDES | RECIPE.sides(), name="train", batch_size=1)
        cached, again = losses_and_gradients(policy, pairs, inputs, cache)
        torch.testing.assert_close(cached, live, atol=1e-5, rtol=1e-5)
        assert (again - gradient).norm() <= 1e-4 * gradient.norm()


def test_an_image_changes_the_answers_log_probability(policy, pairs):
    side = ("clean", "chosen")
    one, other = (score(policy.model, PairInputs(policy), [replace(pairs[0], clean=picture)], {side: Reads()},
                        reference=None).sides[side].logp for picture in (pairs[0].clean, pairs[1].clean))
    assert (one - other).abs().max() > 1e-4


def test_recomputed_layers_give_the_same_gradients(policy, pairs):
    loss, gradient = losses_and_gradients(policy, pairs, PairInputs(policy))
    recompute_layers(policy.model, True)
    again, same = losses_and_gradients(policy, pairs, PairInputs(policy))
    recompute_layers(policy.model, False)
    assert not any(module.training for module in policy.model.modules()), "no dropout is ever on"
    assert torch.equal(loss, again) and torch.equal(gradient, same)


def test_kept_features_give_the_same_answers(policy, pairs):
    prompts = [Prompt(f"p{n}", "c", "q", pair.clean, pair.question) for n, pair in enumerate(pairs)]
    features = KeptFeatures(policy)
    features.warm([pair.clean for pair in pairs])
    kept, greedy = (rollout(policy, prompts, max_new_tokens=5, progress=False, features=some)
                    for some in (features, None))
    assert [r.ids for r in kept] == [r.ids for r in greedy] and len(kept) == 2


def test_a_trial_with_a_picture_of_real_size(folder):
    """Answers, greedy, sampled and blind, and scores in a batch: each as a plain forward pass over it alone has it."""
    found = try_model(str(folder), max_side=448, size=(512, 400), device="cpu")
    assert found.off < 1e-4 and found.tokens == {"llava_onevision": 44, "internvl": 52, "llava": 16}.get(
        folder.name.rstrip("0"), found.tokens)


def test_a_training_step_saved_and_reloaded(folder, pairs, tmp_path):
    settings = TrainSettings(batch_size=2, rank=4, alpha=8, learning_rate=1e-2, max_steps=2, epochs=2, warmup=0.0)
    result = train(load_lvlm(folder, device="cpu"), pairs, settings, folder=tmp_path / "a", work=tmp_path / "w",
                   progress=False)
    assert result.steps == 2 and result.log[1]["loss"] < result.log[0]["loss"]
    assert result.log[0]["loss"] == pytest.approx(0.76246190, abs=1e-5)
    again = load_adapter(load_lvlm(folder, device="cpu"), tmp_path / "a")
    side = ("clean", "chosen")
    trained, loaded = (score(lvlm.model, PairInputs(lvlm), pairs, {side: Reads()}, reference=LiveReference(lvlm.model))
                       .sides[side] for lvlm in (result.lvlm, again))
    assert torch.equal(trained.logp, loaded.logp) and (trained.logp - trained.ref_logp).abs().max() > 1e-4
