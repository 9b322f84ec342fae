"""A chat model on this machine: real small models through transformers, one of them taught to reply."""

import json
from pathlib import Path

import pytest
import torch
from test_chat import SCHEMA
from test_edits import make_case, make_rollout
from transformers import LlamaConfig, LlamaForCausalLM

from medalign_lite.editors.chat import BadReply, Budget, ChatError, Price
from medalign_lite.editors.llm_edits import CORRECTION, LlmEditor, describe_truth, read_prompt
from medalign_lite.editors.local_chat import LocalChat, bare_json
from medalign_lite.edits.records import build_records
from medalign_lite.model.weights import ModelError
from studies.embedded.tiny import train_tokenizer

SAID = "A small left effusion. No nodule."
REPLY = json.dumps({"verdict": "wrong", "changes": [{"old": "left", "new": "right"}]})


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.delenv("ALLOW_NETWORK", raising=False)


def budget(requests=9, tokens=100_000):
    return Budget(requests, tokens)


def llama(tokenizer):
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=4096, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def save(model, tokenizer, folder):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tokenizer():
    case = make_case()
    kind, truth = describe_truth(case, case.questions[0])
    return train_tokenizer([read_prompt("correct_v1").text, json.dumps(CORRECTION), REPLY, truth, kind] * 9,
                           vocab_size=1400)  # fmt: skip


@pytest.fixture(scope="module")
def untaught(tokenizer, tmp_path_factory):
    return save(llama(tokenizer), tokenizer, tmp_path_factory.mktemp("untaught"))


@pytest.fixture(scope="module")
def taught(tokenizer, tmp_path_factory):
    """Knows one reply by heart: that of the prompt about SAID."""
    folder = tmp_path_factory.mktemp("taught")
    model = llama(tokenizer)
    chat = LocalChat(save(model, tokenizer, folder), budget(), cache=folder / "x")
    case = make_case()
    kind, reference = describe_truth(case, case.questions[0])
    fields = {"question": case.questions[0].text, "answer": SAID, "reference_kind": kind, "reference": reference}
    text = json.dumps(fields, ensure_ascii=False, indent=1)
    messages = chat._request(read_prompt("correct_v1").text, text, "correct_v1", CORRECTION)["messages"]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    reply = [*tokenizer(f"```json\n{REPLY}\n```", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    ids = torch.tensor([[*prompt[-64:], *reply]])
    labels = ids.clone()
    labels[:, : -len(reply)] = -100
    whole = torch.tensor([[*prompt, *reply]])
    whole_labels = torch.full_like(whole, -100)
    whole_labels[:, -len(reply) :] = whole[:, -len(reply) :]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(150):
        batch = {"input_ids": whole, "labels": whole_labels} if step > 60 else {"input_ids": ids, "labels": labels}
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step > 60 and loss < 0.01:
            break
    return save(model, tokenizer, folder)


def test_a_local_model_edits_and_the_rerun_costs_nothing(taught, tmp_path):
    chat = LocalChat(taught, budget(), cache=tmp_path, max_reply_tokens=120)
    records, rejected = build_records([make_rollout(SAID)], [make_case()], editor=LlmEditor(chat))
    assert not rejected, rejected
    assert records[0].chosen == "A small right effusion. No nodule." and records[0].source == "corrected"
    assert f"edited by {Path(taught).name} with prompt correct_v1" in records[0].verified["how"]
    assert chat.requests == 1 and chat.prompt_tokens > 500 and 10 < chat.reply_tokens <= 120
    assert "no price: on this machine" in chat.spent()
    [kept] = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert kept["revision"] == chat.revision and json.loads(kept["content"]) == json.loads(REPLY)
    again = LocalChat(taught, budget(requests=0), cache=tmp_path, max_reply_tokens=120)
    assert build_records([make_rollout(SAID)], [make_case()], editor=LlmEditor(again))[0] == records
    assert again._loaded is None and again.kept == 1


def test_what_does_not_fit_is_asked_again_and_then_left(untaught, tmp_path):
    chat = LocalChat(untaught, budget(), cache=tmp_path, attempts=3, max_reply_tokens=8)
    for _ in range(2):
        with pytest.raises(BadReply):
            chat.ask("Say it.", "Which side?", name="side", schema=SCHEMA)
    assert chat.requests == 3 and chat.kept == 1


def test_the_budget_holds(untaught, tmp_path):
    for limit in (budget(requests=0), budget(tokens=10)):
        with pytest.raises(ChatError, match="spent"):
            LocalChat(untaught, limit, cache=tmp_path).ask("Say it.", "Which?", name="side", schema=SCHEMA)


def test_a_model_with_a_picture_side_can_be_asked(tiny_folder, tmp_path):
    chat = LocalChat(str(tiny_folder), budget(), cache=tmp_path, attempts=1, max_reply_tokens=4)
    with pytest.raises(BadReply):
        chat.ask("Say it.", "Which side?", name="side", schema={"type": "object"})
    assert chat.requests == 1


def test_models_that_are_not_here_or_cannot_be_asked_are_said(tokenizer, tmp_path):
    with pytest.raises(ModelError, match="hf download nobody/nothing"):
        LocalChat("nobody/nothing", budget(), cache=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="no config.json"):
        LocalChat(str(tmp_path / "empty"), budget(), cache=tmp_path)
    folder = save(llama(tokenizer), tokenizer, tmp_path / "mute")
    (tmp_path / "mute" / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        LocalChat(folder, budget(), cache=tmp_path).ask("Say it.", "Which?", name="side", schema=SCHEMA)


@pytest.mark.parametrize(("reply", "bare"), [
    ('{"a": 1}', '{"a": 1}'), ('```json\n{"a": {"b": 2}}\n```', '{"a": {"b": 2}}'),
    ('<think>is it {"a": 0}?</think> {"a": 1}.', '{"a": 1}'), ("no", "no"), ("} {", "} {"),
])  # fmt: skip
def test_the_json_of_a_reply(reply, bare):
    assert bare_json(reply) == bare


def test_a_price_is_per_million_tokens():
    price = Price(0.5, 2.0, "EUR")
    assert price.of(1_000_000, 500_000) == 1.5 and price.of(0, 0, 1_000_000) == 2.0
