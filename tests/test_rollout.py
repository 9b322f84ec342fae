"""Rollouts: what was sampled, its log-probabilities, determinism, and going on after a kill."""

import json
from dataclasses import replace
from functools import wraps

import pytest
import torch
from transformers import DynamicCache

from medalign_lite.cases.readers import read_cases
from medalign_lite.cases.rollouts import Prompt
from medalign_lite.files import ROOT
from medalign_lite.model import rollout as module
from medalign_lite.model.batches import encode, encode_prompts
from medalign_lite.model.features import KeptFeatures
from medalign_lite.model.lvlm import load_lvlm
from medalign_lite.model.rollout import answer, rollout

QUESTIONS = ["Is there a nodule?", "Describe this radiograph.", "Which side is the nodule on?", "Yes or no?"]
DRAW = {"max_new_tokens": 12, "temperature": 1.7, "samples": 2, "batch_size": 4, "seed": 5, "progress": False}


@pytest.fixture(scope="module")
def loaded(tiny_folder):
    return load_lvlm(tiny_folder, device="cpu")


@pytest.fixture(scope="module")
def prompts(pictures):
    return [Prompt(f"p{i}", f"c{i}", f"q{i}", pictures[i], question) for i, question in enumerate(QUESTIONS)]


@pytest.fixture(scope="module")
def drawn(loaded, prompts):
    return rollout(loaded, prompts, **DRAW)


def test_order_and_labels_and_the_seed_decides(drawn, loaded, prompts):
    assert [(r.id, r.case_id, r.question_id, r.sample) for r in drawn] == [
        (f"p{i}", f"c{i}", f"q{i}", sample) for i in range(4) for sample in range(2)
    ]
    assert all(1 <= len(r.ids) == len(r.logps) <= 12 for r in drawn) and len({tuple(r.ids) for r in drawn}) == 8
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert rollout(loaded, prompts, **DRAW) == drawn and torch.equal(torch.get_rng_state(), state)
    assert rollout(loaded, prompts, **DRAW | {"seed": 6}) != drawn


def test_greedy_is_what_generate_gives_alone_with_an_image_and_without(loaded, prompts, pictures):
    blind = [replace(prompt, id=f"b{i}", image=None) for i, prompt in enumerate(prompts)]
    found = rollout(loaded, [*prompts, *blind], max_new_tokens=8, batch_size=3, progress=False)
    for prompt, answered in zip([*prompts, *blind], found, strict=True):
        inputs = encode_prompts(loaded.processor, [prompt.image], [prompt.question])
        ids = loaded.model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert answered.ids == ids.tolist()
        assert answered.text == loaded.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert "pixel_values" not in inputs and loaded.processor.image_token_id not in inputs["input_ids"]
    with pytest.raises(ValueError, match="with and without an image"):
        encode_prompts(loaded.processor, [None, pictures[0]], QUESTIONS[:2])


def test_kept_features_change_no_answer_and_spare_the_vision_tower_where_they_are_kept(loaded, prompts, monkeypatch):
    plain = rollout(loaded, prompts, max_new_tokens=8, progress=False)
    features = KeptFeatures(loaded)
    features.warm([prompts[0].image])  # the others are looked at
    assert rollout(loaded, prompts, max_new_tokens=8, progress=False, features=features) == plain
    features.warm([prompt.image for prompt in prompts])
    monkeypatch.setattr(features.encoder.body, "get_image_features", None)  # nothing may ask for it now
    assert rollout(loaded, prompts, max_new_tokens=8, progress=False, features=features) == plain
    blind = [replace(prompts[0], image=None)]
    assert rollout(loaded, blind, max_new_tokens=2, progress=False, features=features)


def test_answers_that_have_ended_leave_their_batch(monkeypatch):
    """The others go on as they would have: the same ids, and log-probabilities to the last bits."""
    lvlm = load_lvlm(ROOT / "data_samples/embedded_lvlm", device="cpu")
    asked = [(case, question) for case in read_cases(ROOT / "data_samples/cases").cases[:3]
             for question in case.questions[:3]]
    prompts = [Prompt(f"p{n}", case.id, question.id, case.image, question.text)
               for n, (case, question) in enumerate(asked)]
    widths, forward = [], type(lvlm.model).forward

    @wraps(forward)
    def counted(model, *arguments, **inputs):
        widths.append(len(inputs["input_ids"]))
        return forward(model, *arguments, **inputs)

    monkeypatch.setattr(type(lvlm.model), "forward", counted)
    found = {}
    for tokens in (2, 100):
        monkeypatch.setattr(module, "LEAVE", tokens)
        widths.clear()
        found[tokens] = rollout(lvlm, prompts, max_new_tokens=96, progress=False), list(widths)
    (leaving, fewer), (staying, all_rows) = found[2], found[100]
    assert sum(fewer) < 0.8 * sum(all_rows) and len(set(fewer)) > 1
    assert [answer.ids for answer in leaving] == [answer.ids for answer in staying]
    for ours, theirs in zip(leaving, staying, strict=True):
        assert ours.logps == pytest.approx(theirs.logps, abs=1e-4)


def test_logps_are_the_untempered_models(loaded, prompts, drawn):
    for found in drawn[::2]:
        prompt = next(p for p in prompts if p.id == found.id)
        batch = encode(loaded.processor, [prompt.image], [prompt.question], [found.text], answer_ids=[found.ids])
        with torch.no_grad():
            logp = loaded.model(**batch.inputs).logits.log_softmax(-1)  # (1, T, V)
        where = batch.completion[0].nonzero().squeeze(1)
        expected = logp[0, where - 1, torch.tensor(found.ids)]
        assert torch.allclose(torch.tensor(found.logps), expected, atol=1e-5)


@pytest.mark.parametrize("whose", ["the model's", "the template's"])
def test_an_answer_ends_with_its_end_token_and_is_finished_by_the_templates(loaded, prompts, monkeypatch, whose):
    """An edit of an answer ends as the template ends a turn: an answer that ends otherwise is no whole answer."""
    free = rollout(loaded, prompts[:1], max_new_tokens=8, progress=False)[0]
    monkeypatch.setattr(loaded.model.generation_config, "eos_token_id", [free.ids[3], 2])
    if whose == "the template's":
        monkeypatch.setattr(loaded.model.generation_config, "eos_token_id", 1)  # not what the template writes
        monkeypatch.setattr(module, "end_of_turn", lambda processor: free.ids[3])
    ended = rollout(loaded, prompts, max_new_tokens=8, progress=False)[0]
    stop = free.ids.index(free.ids[3])
    assert ended.ids == free.ids[: stop + 1] and not free.decoding["finished"]
    assert ended.decoding["finished"] == (whose == "the template's")
    assert ended.logps == pytest.approx(free.logps[: stop + 1], abs=1e-5)


@pytest.mark.parametrize(("name", "value"), [
    ("min_p", 0.99), ("top_h", 0.1), ("suppress_tokens", [5, 6]), ("min_new_tokens", 12), ("guidance_scale", 2.0),
    ("num_beams", 3), ("num_return_sequences", 2), ("stop_strings", ["a"]), ("return_dict_in_generate", True),
    ("cache_implementation", "static"), ("prompt_lookup_num_tokens", 2), ("max_time", 1e-9),
    ("exponential_decay_length_penalty", (1, 9.0)), ("forced_eos_token_id", 2),
])  # fmt: skip
def test_nothing_that_a_model_recommends_changes_what_is_drawn(loaded, prompts, drawn, monkeypatch, name, value):
    monkeypatch.setattr(loaded.model.generation_config, name, value, raising=False)
    assert rollout(loaded, prompts, **DRAW) == drawn


def test_a_cache_that_cannot_go_back_has_its_inputs_repeated(loaded, prompts, drawn, monkeypatch):
    monkeypatch.setattr(DynamicCache, "is_croppable", False)
    again = rollout(loaded, prompts, **DRAW)
    assert [r.ids for r in again] == [r.ids for r in drawn]
    assert all(r.logps == pytest.approx(d.logps, abs=1e-4) for r, d in zip(again, drawn))


def test_a_killed_run_goes_on_to_the_same_result(loaded, prompts, drawn, tmp_path, monkeypatch):
    journal = tmp_path / "part.jsonl"
    assert rollout(loaded, prompts, resume=journal, **DRAW) == drawn
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    journal.write_bytes(lines[0] + lines[1] + lines[2][:40])  # killed while writing the second batch
    calls = []
    generate = loaded.model.generate
    monkeypatch.setattr(loaded.model, "generate", lambda **inputs: calls.append(1) or generate(**inputs))
    assert rollout(loaded, prompts, resume=journal, **DRAW) == drawn
    assert len(calls) == 2  # one batch: its prompts, then its answers
    assert rollout(loaded, prompts, resume=journal, **DRAW) == drawn and len(calls) == 2
    assert [json.loads(line).get("batch") for line in journal.read_text().splitlines()] == [None, 0, 1]
    with pytest.raises(ValueError, match="belongs to another run"):
        rollout(loaded, prompts, resume=journal, **DRAW | {"seed": 6})
    for left in (b"", b'{"run'):  # killed at its first line
        journal.write_bytes(left)
        assert rollout(loaded, prompts, resume=journal, **DRAW) == drawn


def test_answer_no_prompts_and_training_mode_is_put_back(loaded, prompts):
    greedy = rollout(loaded, prompts[:1], max_new_tokens=6, progress=False)
    assert answer(loaded, prompts[0].image, prompts[0].question, max_new_tokens=6) == greedy[0].text
    assert rollout(loaded, [], max_new_tokens=4, progress=False) == []
    loaded.model.train()
    rollout(loaded, prompts[:1], max_new_tokens=1, progress=False)
    assert loaded.model.training
    loaded.model.eval()


@pytest.mark.parametrize("setting", [{"samples": 2, "temperature": 0.0}, {"max_new_tokens": 0}, {"temperature": -1.0}])
def test_settings_and_prompts_that_make_no_sense(loaded, prompts, setting):
    with pytest.raises(ValueError, match="samples=2 at temperature 0|must be at least"):
        rollout(loaded, prompts, **DRAW | setting)
    with pytest.raises(ValueError, match="share an id"):
        rollout(loaded, [prompts[0], prompts[0]], **DRAW)


def test_progress_is_plain_text_when_headless(loaded, prompts, capsys, monkeypatch):
    monkeypatch.setenv("MEDALIGN_HEADLESS", "1")
    rollout(loaded, prompts, max_new_tokens=1)
    shown = capsys.readouterr().err
    assert "rollout: 4 of 4" in shown and "left" in shown and "|" not in shown and "\x1b" not in shown
