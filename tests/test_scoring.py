"""The forward passes on a tiny random 4-bit model with LoRA: every cheap way gives the plain way's numbers."""

from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from conftest import adapter_gradient, stirred
from naive import naive_loss
from torch.nn.functional import pad

from medalign_lite.losses.divergence import read_tokens
from medalign_lite.losses.objective import objective
from medalign_lite.losses.recipes import EVERYWHERE, RECIPES, Reads, recipe_named
from medalign_lite.model.batches import Sequences, encode
from medalign_lite.model.lvlm import adapters_off, attach_lora, base_of, load_lvlm
from medalign_lite.text.diff import diff_spans
from medalign_lite.train import scoring
from medalign_lite.train.pairs import Pair, PairInputs, Row
from medalign_lite.train.reference import ReferenceCache, ReferenceMismatch
from medalign_lite.train.scoring import ALL_SIDES, LiveReference, answer_states, check_head, pair_margins, score

TEXTS = (
    ("There is a small nodule in the right upper zone.", "There is a small nodule in the left upper zone."),
    ("No pleural effusion is seen.", "Moderate pleural effusion is seen."),
    ("Moderate consolidation of the left lower zone. No pneumothorax.",
     "Moderate consolidation of the left upper zone. No pneumothorax."),
)


@pytest.fixture(scope="module")
def pairs(pictures):
    """Three pairs; the second has no corrupted images, the third no control."""
    return [Pair(f"r{n}", "Describe this radiograph.", *texts, *diff_spans(*texts), clean=pictures[n],
                 lesion=None if n == 1 else pictures[(n + 1) % 4], control=pictures[(n + 2) % 4] if n == 0 else None,
                 gold=f"Yes. {texts[0]}") for n, texts in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def policy(tiny_folder):
    return stirred(attach_lora(load_lvlm(tiny_folder, device="cpu"), rank=4, alpha=8, seed=3))


def losses_of(policy, pairs, recipe, *, inputs=None):
    sides = ALL_SIDES | recipe.sides()
    return objective(score(policy.model, inputs or PairInputs(policy), pairs, sides,
                           reference=LiveReference(policy.model)), recipe)


def plain_logps(policy, pair, image, answer):
    """Full forward of one row with pixels, full logits: log p at the answer's tokens, and the logits there."""
    text, spans, _ = pair.text(answer)
    made = encode(policy.processor, [pair.picture(image)], [pair.question], [text], [spans])
    logits = base_of(policy.model)(**made.inputs).logits[:, :-1][made.completion[:, 1:]]
    targets = made.inputs["input_ids"][:, 1:][made.completion[:, 1:]]
    return logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0], logits, made.kinds[made.completion]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_equals_naive_full_logit_forwards(policy, pairs, name):
    """Loss and adapter gradients of the engine, against one plain forward per text and image (naive.py)."""
    def tokens(pair):
        @lru_cache
        def of(image, answer):
            logp, logits, kinds = plain_logps(policy, pair, image, answer)
            with torch.no_grad(), adapters_off(policy.model):
                ref_logp, ref_logits, _ = plain_logps(policy, pair, image, answer)
            return list(zip(logp, ref_logp, logits.log_softmax(-1), ref_logits.log_softmax(-1), (kinds > 0).tolist()))
        return of

    plain = torch.stack([naive_loss(name, tokens(pair), lesion=pair.lesion is not None,
                                    control=pair.control is not None) for pair in pairs])
    source = LiveReference(policy.model) if RECIPES[name].reference else None
    terms = score(policy.model, PairInputs(policy), pairs, RECIPES[name].sides(), reference=source)
    losses = objective(terms, RECIPES[name]).loss
    torch.testing.assert_close(losses, plain, atol=1e-5, rtol=1e-5)
    ours, theirs = (adapter_gradient(policy, found.mean()) for found in (losses, plain))
    assert theirs.norm() > 0 and (ours - theirs).norm() <= 1e-5 * theirs.norm()


def test_batch_splitting_order_and_padding_change_nothing(policy, pairs):
    recipe = recipe_named("neutral-control", nll=0.5)
    whole = losses_of(policy, pairs, recipe).loss
    single = torch.cat([losses_of(policy, [pair], recipe).loss for pair in pairs[::-1]]).flip(0)
    for again in (single, losses_of(policy, pairs[::-1], recipe).loss.flip(0)):
        torch.testing.assert_close(whole, again, atol=1e-5, rtol=1e-5)
    rows = [row for _, row in scoring.rows_of(pairs, recipe.sides())]
    made = PairInputs(policy).sequences(rows)
    plain = answer_states(policy.model, made)[0]
    for left, right in ((0, 9), (7, 0)):
        tokens = {name: pad(value, (left, right)) for name, value in made.inputs.items() if torch.is_tensor(value)}
        positions = tokens["attention_mask"].cumsum(-1).sub(1).clamp_min(0)
        padded = Sequences(made.inputs | tokens | {"position_ids": positions}, pad(made.completion, (left, right)),
                           pad(made.kinds, (left, right)))
        torch.testing.assert_close(answer_states(policy.model, padded)[0], plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["fire-mpo", "neutral-control", "mdpo", "tdpo2"])
def test_the_head_runs_only_where_a_term_reads(policy, pairs, name, monkeypatch):
    recipe, seen = RECIPES[name], []

    def counted(head, hidden, *arguments, **options):
        seen.append(len(hidden))
        return read_tokens(head, hidden, *arguments, **options)

    def losses(sides):
        terms = score(policy.model, PairInputs(policy), pairs, sides, reference=LiveReference(policy.model))
        found = objective(terms, recipe).loss
        return terms, found, adapter_gradient(policy, found.sum())

    monkeypatch.setattr("medalign_lite.train.scoring.read_tokens", counted)
    terms, found, gradient = losses(recipe.sides())
    for key, side in terms.sides.items():
        read = torch.tensor(recipe.sides()[key].logp)[side.kinds] & side.valid
        assert torch.equal(side.logp.isfinite() & side.valid, read)
    total = seen[-1]
    _, everywhere, expected = losses(dict.fromkeys(recipe.sides(), Reads(kl=EVERYWHERE)))
    assert total <= seen[-1] and (total < seen[-1] / 4 if name == "fire-mpo" else True)
    torch.testing.assert_close(found, everywhere, atol=1e-5, rtol=1e-5)
    assert (gradient - expected).norm() <= 1e-5 * expected.norm()


def test_length_groups_change_nothing(policy, pairs, monkeypatch):
    """A pass for each length, and one padded pass for all."""
    found = {}
    for pass_tokens, parts in ((0, 3), (10**9, 1)):
        monkeypatch.setattr("medalign_lite.train.pairs.PASS_TOKENS", pass_tokens)
        inputs = PairInputs(policy)
        rows = [row for _, row in scoring.rows_of(pairs, RECIPES["fire-mpo"].sides())]
        assert len(inputs.batch(rows).parts) == parts  # the prefixes have three lengths
        losses = losses_of(policy, pairs, RECIPES["fire-mpo"], inputs=inputs).loss
        found[pass_tokens] = losses.detach(), adapter_gradient(policy, losses.sum())
    (a, ours), (b, theirs) = found.values()
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


def test_kept_features_equal_pixels_whatever_the_budget(policy, pairs):
    recipe = RECIPES["fire-mpo"]
    pixels = PairInputs(policy)
    pixels.encoder.possible = False
    plain = losses_of(policy, pairs, recipe, inputs=pixels).loss
    for budget in (2**30, 3000, 0):
        inputs = PairInputs(policy, feature_bytes=budget)
        for _ in range(2):
            loss = losses_of(policy, pairs, recipe, inputs=inputs).loss
            torch.testing.assert_close(loss, plain, atol=1e-5, rtol=1e-5)
        assert inputs.encoder.possible and 0 <= inputs.free_bytes <= budget


def test_an_image_is_encoded_once(policy, pairs, monkeypatch):
    inputs, seen, encoder = PairInputs(policy), [], PairInputs(policy).body.get_image_features

    def counted(pixel_values, **kwargs):
        seen.append(len(pixel_values))
        return encoder(pixel_values, **kwargs)

    monkeypatch.setattr(inputs.body, "get_image_features", counted)
    inputs.warm(pairs, images=["clean", "lesion", "control"])
    assert sum(seen) == 4  # four distinct pictures behind six images
    losses_of(policy, pairs, RECIPES["neutral-control"], inputs=inputs)
    assert sum(seen) == 4


@pytest.mark.parametrize("change", ["image", "text", "order", "model", "processor"])
def test_a_reference_of_other_things_is_refused(policy, pairs, pictures, tmp_path, change, monkeypatch):
    sides = {("clean", "chosen"): Reads()}
    ReferenceCache(policy, PairInputs(policy), tmp_path).fill(pairs, sides, name="train")
    one, two, three = pairs
    other = {"image": [one, replace(two, clean=pictures[3]), three], "order": [three, two, one],
             "text": [one, replace(two, question="Is there a pleural effusion?"), three]}.get(change, pairs)
    lvlm = replace(policy, revision="another") if change == "model" else policy
    if change == "processor":
        monkeypatch.setattr(policy.processor.image_processor, "image_mean", [0.1, 0.2, 0.3])
    with pytest.raises(ReferenceMismatch, match="delete it to compute it again"):
        ReferenceCache(lvlm, PairInputs(lvlm), tmp_path).fill(other, sides, name="train")


def test_sampled_ids_are_scored_unchanged(policy, pairs):
    tokenizer = policy.processor.tokenizer
    ids = tuple(token for char in pairs[1].rejected for token in tokenizer(char)["input_ids"])
    spelled = replace(pairs[1], rejected_ids=ids)
    made = PairInputs(policy).sequences([Row(spelled, "clean", "rejected")])
    assert made.inputs["input_ids"][0][made.completion[0]].tolist() == list(ids)


def test_kept_inputs_follow_a_changed_text_or_image(policy, pairs):
    inputs, recipe = PairInputs(policy), RECIPES["fire-mpo"]
    losses_of(policy, pairs, recipe, inputs=inputs)
    moved = [replace(pairs[0], chosen=pairs[1].chosen, spans_chosen=pairs[1].spans_chosen, clean=pairs[2].clean)]
    kept, fresh = losses_of(policy, moved, recipe, inputs=inputs).loss, losses_of(policy, moved, recipe).loss
    torch.testing.assert_close(kept, fresh, atol=1e-5, rtol=1e-5)


def test_margins_and_drift_for_evaluation(policy, pairs):
    found = pair_margins(policy, pairs, RECIPES["fire-mpo"], batch_size=2)
    expected = losses_of(policy, pairs, RECIPES["fire-mpo"]).parts
    torch.testing.assert_close(torch.tensor([row["margin"] for row in found]), expected["margin"], atol=1e-5, rtol=1e-4)
    raw = recipe_named("mask-dpo", reference=False, beta=1.0)
    with adapters_off(policy.model):
        base = pair_margins(policy, pairs, raw)
    gaps = pair_margins(policy, pairs, raw)
    for n in range(len(pairs)):
        assert 0.1 * (gaps[n]["margin"] - base[n]["margin"]) == pytest.approx(found[n]["margin"], abs=1e-5)
    drift = scoring.answer_kl(policy, pairs, batch_size=2)
    tokens = PairInputs(policy).sequences([Row(pairs[0], "clean", "chosen")]).completion.sum()
    assert len(drift[0]) == int(tokens) and all(value >= 0 for row in drift for value in row)


def test_a_head_that_is_not_the_whole_story_is_refused(policy, pairs, monkeypatch):
    made = PairInputs(policy).sequences([Row(pairs[0], "clean", "chosen")])
    check_head(policy, made)
    base, forward = base_of(policy.model), base_of(policy.model).forward

    def capped(**kwargs):
        output = forward(**kwargs)
        output.logits = 0.1 * output.logits.tanh()
        return output

    monkeypatch.setattr(base, "forward", capped)
    with pytest.raises(ValueError, match="soft-capping"):
        check_head(policy, made)


def test_errors_name_the_record(policy, pairs):
    with pytest.raises(ValueError, match="record r0 has no gold answer"):
        losses_of(policy, [replace(pairs[0], gold=None)], RECIPES["sft-gold"])
    with pytest.raises(ValueError, match="records r0: .*empty"):
        losses_of(policy, [replace(pairs[0], chosen="")], RECIPES["dpo"])
