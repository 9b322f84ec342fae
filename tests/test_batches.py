"""Encoding: the answer in its context, token masks from character offsets, padding, refusals."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoProcessor

from medalign_lite.model.batches import conversation, encode, encode_prompts, sampled_offsets, tokens_of
from medalign_lite.text.spans import KINDS, token_kinds

QUESTIONS = ["Is there a nodule?", "Describe this radiograph, please."]
ANSWERS = ["There is a small nodule in the right upper zone.", "No."]


@pytest.fixture(scope="module")
def processor(tiny_folder):
    return AutoProcessor.from_pretrained(tiny_folder, local_files_only=True)


def span_of(text, part, kind):
    start = text.index(part)
    return (start, start + len(part), kind)


@st.composite
def offsets_and_spans(draw):
    """Offsets that tile a text, with repeated and empty ones as real tokenizers give, and valid spans in it."""
    cuts = sorted(draw(st.lists(st.integers(0, 30), min_size=2, max_size=12)))
    length = max(cuts[-1], 1)
    edges = st.tuples(st.integers(0, length - 1), st.integers(1, length)).filter(lambda e: e[0] < e[1])
    spans = draw(st.lists(st.tuples(edges, st.sampled_from(KINDS)), max_size=4))
    return list(zip(cuts, cuts[1:])), [(s, e, kind) for (s, e), kind in spans], length


@given(offsets_and_spans())
def test_a_token_is_marked_iff_it_shares_a_character_with_a_span(case):
    offsets, spans, length = case
    for (a, b), found in zip(offsets, token_kinds(offsets, spans, length=length), strict=True):
        touching = [kind for s, e, kind in spans if set(range(a, b)) & set(range(s, e))]
        assert found == (1 + KINDS.index(touching[0]) if touching else 0)


@pytest.mark.parametrize("span", [(3, 3, "side"), (4, 2, "side"), (-1, 2, "side"), (0, 11, "side"), (0, 2, "colour")])
def test_bad_spans_are_refused(span):
    with pytest.raises(ValueError, match="span"):
        token_kinds([(0, 10)], [span], length=10)


def test_the_batch_is_the_conversation_padded_on_the_right(processor, pictures):
    batch = encode(processor, pictures[:2], QUESTIONS, ANSWERS)
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    assert set(batch.inputs) == {"input_ids", "attention_mask", "pixel_values", "pixel_attention_mask"}
    for row, (question, answer) in enumerate(zip(QUESTIONS, ANSWERS)):
        text = conversation(processor, question, answer)
        alone = processor(text=[text], images=[[pictures[row]]], return_tensors="pt")
        length = alone["input_ids"].shape[1]
        assert torch.equal(ids[row, :length], alone["input_ids"][0])
        assert mask[row].tolist() == [1] * length + [0] * (ids.shape[1] - length)
        assert torch.equal(batch.inputs["pixel_values"][row], alone["pixel_values"][0])
        assert processor.tokenizer.decode(ids[row][batch.completion[row]]) == answer + "<end_of_utterance>"
    assert not batch.kinds.any() and batch.kinds.dtype == torch.long and batch.completion.dtype == torch.bool


def test_spans_mark_their_tokens_and_no_others(processor, pictures):
    spans = [[span_of(ANSWERS[0], "right", "side"), span_of(ANSWERS[0], "small", "size")], []]
    batch = encode(processor, pictures[:2], QUESTIONS, ANSWERS, spans)
    marked = {kind: batch.inputs["input_ids"][0][batch.kinds[0] == 1 + KINDS.index(kind)] for kind in ("side", "size")}
    assert processor.tokenizer.decode(marked["side"]).strip() == "right"
    assert processor.tokenizer.decode(marked["size"]).strip() == "small"
    assert set(batch.kinds[0].unique().tolist()) == {0, 1 + KINDS.index("side"), 1 + KINDS.index("size")}
    assert not batch.kinds[1].any() and batch.completion[batch.kinds > 0].all()


@pytest.mark.parametrize("answer", ["Nodule 😀 on the left.", "<b>left</b> & right", "עקדת left", "one\nleft line"])
def test_unusual_text_keeps_its_offsets(processor, pictures, answer):
    batch = encode(processor, pictures[:1], QUESTIONS[:1], [answer], [[span_of(answer, "left", "side")]])
    assert "left" in processor.tokenizer.decode(batch.inputs["input_ids"][0][batch.kinds[0] > 0])
    assert processor.tokenizer.decode(batch.inputs["input_ids"][0][batch.completion[0]][:-1]) == answer


def test_sampled_ids_stay_as_sampled(processor, pictures):
    """A split that the tokenizer itself would not choose: one token per byte."""
    text = "No nodule in the right zone."
    pieces = [token for char in text for token in processor.tokenizer(char)["input_ids"]]
    pieces.append(processor.tokenizer.eos_token_id)
    spans = [[span_of(text, "right", "side")], []]
    batch = encode(processor, pictures[:2], QUESTIONS, [text, "No."], spans, answer_ids=[pieces, None])
    assert batch.inputs["input_ids"][0][batch.completion[0]].tolist() == pieces
    assert len(pieces) > len(processor.tokenizer(text)["input_ids"]) + 1
    assert batch.inputs["input_ids"][0][batch.kinds[0] > 0].tolist() == pieces[17:22]
    with pytest.raises(ValueError, match="special token before its end"):
        encode(processor, pictures[:1], QUESTIONS[:1], [text], answer_ids=[[processor.image_token_id, *pieces]])
    with pytest.raises(ValueError, match="not to the answer"):
        encode(processor, pictures[:1], QUESTIONS[:1], ["No mass."], answer_ids=[pieces])


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20))
def test_offsets_of_canonical_ids_are_the_tokenizers_own(processor, text):
    text = text.strip()
    encoded = processor.tokenizer(text, return_offsets_mapping=True)
    assert sampled_offsets(processor.tokenizer, encoded["input_ids"], text) == encoded["offset_mapping"]


def test_prompts_are_padded_on_the_left_and_end_where_the_answer_begins(processor, pictures):
    prompts = encode_prompts(processor, pictures[:2], QUESTIONS)
    batch = encode(processor, pictures[:2], QUESTIONS, ANSWERS)
    for row in range(2):
        prompt = prompts["input_ids"][row][prompts["attention_mask"][row].bool()]
        first = batch.completion[row].int().argmax()
        assert torch.equal(prompt, batch.inputs["input_ids"][row, :first])
    assert prompts["attention_mask"][:, -1].all() and not prompts["attention_mask"].all()
    assert torch.equal(prompts["pixel_values"], batch.inputs["pixel_values"])


def test_nothing_is_truncated_and_special_tokens_in_a_text_are_refused(processor, pictures):
    with pytest.raises(ValueError, match="exceeds the limit of 256; nothing is ever truncated"):
        encode(processor, pictures[:1], QUESTIONS[:1], ["nodule " * 300 + "end"])
    with pytest.raises(ValueError, match="exceeds the limit of 20"):
        encode(processor, pictures[:1], QUESTIONS[:1], ANSWERS[:1], max_tokens=20)
    with pytest.raises(ValueError, match="exceeds the limit"):
        encode_prompts(processor, pictures[:1], ["nodule " * 300])
    with pytest.raises(ValueError, match="special token '<image>'"):
        encode_prompts(processor, pictures[:1], ["What is <image>?"])
    with pytest.raises(ValueError, match="special token '<end_of_utterance>'"):
        encode(processor, pictures[:1], QUESTIONS[:1], ["No.<end_of_utterance>"])


@pytest.mark.parametrize("answer", ["", " No.", "No.\n"])
def test_answers_are_neither_empty_nor_padded(processor, pictures, answer):
    with pytest.raises(ValueError, match="is empty or has space around it"):
        encode(processor, pictures[:1], QUESTIONS[:1], [answer])


def test_a_template_that_rewrites_the_prompt_is_refused(tiny_folder, pictures):
    processor = AutoProcessor.from_pretrained(tiny_folder, local_files_only=True)
    processor.chat_template = processor.chat_template.replace("Assistant:{% endif %}", "Assistant: Well,{% endif %}")
    with pytest.raises(ValueError, match="right after its own generation prompt"):
        encode(processor, pictures[:1], QUESTIONS[:1], ANSWERS[:1])


def test_a_template_with_a_space_before_the_answer(tiny_folder, pictures):
    """SmolVLM's own: the generation prompt is `Assistant:`, the answer follows a space, a newline follows its end."""
    processor = AutoProcessor.from_pretrained(tiny_folder, local_files_only=True)
    processor.chat_template = (
        "{% for m in messages %}{{ m['role'] | capitalize }}:{% for p in m['content'] %}"
        "{{ '<image>' if p['type'] == 'image' else ' ' + p['text'] }}{% endfor %}<end_of_utterance>\n{% endfor %}"
        "{{ 'Assistant:' if add_generation_prompt }}"
    )
    spans = [[(0, 2, "negation")]]
    batch = encode(processor, pictures[:1], QUESTIONS[:1], ["No nodule."], spans)
    ids = batch.inputs["input_ids"][0]
    assert processor.tokenizer.decode(ids[batch.completion[0]]) == " No nodule.<end_of_utterance>"
    assert processor.tokenizer.decode(ids[batch.kinds[0] > 0]) == " No"
    sampled = ids[batch.completion[0]].tolist()
    same = encode(processor, pictures[:1], QUESTIONS[:1], ["No nodule."], spans, answer_ids=[sampled])
    assert torch.equal(same.kinds, batch.kinds) and torch.equal(same.inputs["input_ids"], batch.inputs["input_ids"])


def test_tokens_of_a_text_tile_it(processor):
    tokens = tokens_of(processor, ANSWERS[0])
    assert "".join(text for text, _, _ in tokens) == ANSWERS[0]
    assert [start for _, start, _ in tokens[1:]] == [end for _, _, end in tokens[:-1]]
