"""From conversation, image and character spans to tensors: one tokenisation of the clean text, nothing truncated.

Family-independent: the processor's chat template writes the conversation, the processor expands the image
tokens of the prompt, and every further tensor that it makes goes to the model untouched.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from os.path import commonprefix
from pathlib import Path

import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence

from medalign_lite.cases.images import read_image
from medalign_lite.model.families import answer_token_type, processor_text
from medalign_lite.text.spans import Offsets, Span, token_kinds


@dataclass(frozen=True)
class Sequences:
    """A batch of prompt + answer, right padded; T tokens, image tokens included.

    inputs: keyword arguments of the model. completion: bool (B, T), the answer's tokens with its end-of-turn token.
    kinds: long (B, T), 0 outside every span, else 1 + KINDS.index(kind); non-zero only inside `completion`."""

    inputs: dict[str, torch.Tensor]
    completion: torch.Tensor
    kinds: torch.Tensor

    @cached_property
    def read(self) -> torch.Tensor:
        """(M,): which of the model's flattened states predict the answers' tokens; the state at t predicts t + 1."""
        return torch.nn.functional.pad(self.completion[:, 1:], (0, 1)).flatten().nonzero()[:, 0]

    @property
    def targets(self) -> torch.Tensor:
        """(M,): the answers' tokens, row after row."""
        return self.inputs["input_ids"][self.completion]

    @property
    def answer_kinds(self) -> torch.Tensor:
        """(M,): the kinds of these tokens."""
        return self.kinds[self.completion]

    @property
    def counts(self) -> list[int]:
        """Tokens of each row's answer."""
        return self.completion.sum(-1).tolist()


def encode(
    processor, images: Sequence[Image.Image | Path | str], questions: Sequence[str], answers: Sequence[str],
    spans: Sequence[Sequence[Span]] | None = None, *, answer_ids: Sequence[Sequence[int] | None] | None = None,
    device: torch.device | str = "cpu", max_tokens: int | None = None,
) -> Sequences:
    """Tokenise each question and answer as one conversation and mark the tokens that spans touch (METHOD §2).

    `answer_ids` gives, for rows where it is not None, the token ids as they were sampled: they are used unchanged
    (contract D1) and must decode to the answer. `max_tokens` defaults to the tokenizer's own limit.
    Raises ValueError for an empty or padded answer, special tokens in a text, a span outside the answer, a prompt whose
    ids change when the answer follows, ids that do not decode to the answer, and a sequence above `max_tokens`."""
    tokenizer = processor.tokenizer
    rows, rest = _prompt_rows(processor, images, questions)
    prompts, completions, kinds = [len(row["input_ids"]) for row in rows], [], []
    for i, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        sampled = answer_ids[i] if answer_ids else None
        if sampled is None:
            ids, offsets = _tokenise_answer(processor, question, answer)
        else:
            ids, offsets = list(sampled), sampled_offsets(tokenizer, sampled, answer)
        _check_length(prompts[i] + len(ids), max_tokens or tokenizer.model_max_length)
        completions.append(ids)
        kinds.append(token_kinds(offsets, spans[i] if spans else (), length=len(answer)))
    stated = {"attention_mask": 1, "token_type_ids": answer_token_type(processor)}  # of an answer's token
    rows = [{name: torch.cat([value, torch.tensor(ids if name == "input_ids" else [stated.get(name, 0)] * len(ids))])
             for name, value in row.items()} for row, ids in zip(rows, completions, strict=True)]
    inputs = padded(rows, tokenizer=tokenizer, side="right") | rest
    completion, marked = (
        pad_sequence([torch.tensor([0] * n + row) for n, row in zip(prompts, found, strict=True)], batch_first=True)
        for found in ([[1] * len(ids) for ids in completions], kinds))
    return Sequences(_to(inputs, device), completion.bool().to(device), marked.to(device))


def encode_prompts(processor, images, questions, *, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
    """Inputs of `generate`: left-padded prompts that end where the answer begins. Raises ValueError as `encode`. Where
    every image is None the conversations hold text alone."""
    rows, rest = _prompt_rows(processor, images, questions)
    for row in rows:
        _check_length(len(row["input_ids"]), processor.tokenizer.model_max_length)
    return _to(padded(rows, tokenizer=processor.tokenizer, side="left") | rest, device)


def tokens_of(processor, text: str) -> list[tuple[str, int, int]]:
    """(token text, start, end) of each token of a text by itself, in characters, for figures."""
    encoded = processor.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return [(text[a:b], a, b) for a, b in encoded["offset_mapping"]]


def sampled_offsets(tokenizer, ids: Sequence[int], answer: str) -> Offsets:
    """Character offsets in `answer` of ids as sampled, which need not be how a tokenizer would split that text. An end
    token gets an empty range; tokens that share one character (its bytes) share its range. Raises ValueError where the
    ids do not decode to `answer`, or hold a special token before the last."""
    text = tokenizer.decode(ids, skip_special_tokens=True)
    if text.strip() != answer:
        raise ValueError(f"answer_ids decode to {text.strip()!r}, not to the answer {answer!r}")
    lead = len(text) - len(text.lstrip())
    ends = [len(commonprefix([tokenizer.decode(ids[:n], skip_special_tokens=True), text])) for n in range(len(ids) + 1)]
    special = set(special_tokens(tokenizer).values())
    if special & set(ids[:-1]):
        raise ValueError(f"the sampled answer {answer[:60]!r} holds a special token before its end; drop this sample")
    offsets = []
    for n, token in enumerate(ids):
        start = ends[n]
        end = start if token in special else next((stop for stop in ends[n + 1 :] if stop > start), start)
        offsets.append((max(start - lead, 0), max(end - lead, 0)))
    return offsets


@lru_cache(maxsize=8)
def special_tokens(tokenizer) -> dict[str, int]:
    """Ids of the tokens that steer the model and are no text: ends of turns, image tokens and the like."""
    marked = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = sorted(marked | set(tokenizer.all_special_ids))
    return dict(zip(tokenizer.convert_ids_to_tokens(ids), ids))


def conversation(processor, question: str, answer: str | None = None, *, image: bool = True) -> str:
    """The conversation as the chat template writes it; without an answer it ends where the answer begins. `image` False
    leaves the image out. Raises ValueError where the processor has no chat template, or a text holds one of its special
    tokens."""
    for text in (question, answer or ""):
        token = next((token for token in special_tokens(processor.tokenizer) if token in text), None)
        if token:
            raise ValueError(f"{text[:60]!r} contains the special token {token!r}, which would change the conversation")
    if not getattr(processor, "chat_template", None):
        raise ValueError(f"{type(processor).__name__} has no chat template; add chat_template.jinja to its folder")
    content = [{"type": "image"}] * image + [{"type": "text", "text": question}]
    messages = [{"role": "user", "content": content}]
    if answer is not None:
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return processor.apply_chat_template(messages, add_generation_prompt=answer is None, tokenize=False)


def _prompt_rows(processor, images, questions) -> tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Prompts as the processor makes them: each row's inputs that stand one per token, and the rest."""
    seeing = any(image is not None for image in images)
    if seeing and any(image is None for image in images):
        raise ValueError("prompts with and without an image cannot share a batch")
    shown = [[image if isinstance(image, Image.Image) else read_image(Path(image))] for image in images if seeing]
    prompts = [conversation(processor, question, image=seeing) for question in questions]
    made = processor(
        text=[processor_text(processor, prompt) for prompt in prompts], images=shown or None, padding=True,
        return_tensors="pt", add_special_tokens=_adds_special_tokens(processor.tokenizer, prompts[0]),
    )
    made.pop("labels", None)  # what to learn is not the processor's to say
    rows = unpadded(made)
    return rows, {name: value for name, value in made.items() if name not in rows[0]}


def unpadded(inputs: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Each row's inputs that stand one per token, without what fills it up."""
    mask = inputs["attention_mask"].bool()  # (B, T)
    aligned = {name: value for name, value in inputs.items() if value.shape == mask.shape}
    return [{name: value[n][mask[n]] for name, value in aligned.items()} for n in range(len(mask))]


def padded(rows: Sequence[dict[str, torch.Tensor]], *, tokenizer, side: str) -> dict[str, torch.Tensor]:
    """Such rows filled up on the left or right: (B, T) each."""
    fill = {"input_ids": padding(tokenizer)}
    return {name: pad_sequence([row[name] for row in rows], batch_first=True, padding_value=fill.get(name, 0),
                               padding_side=side) for name in rows[0]}  # fmt: skip


def padding(tokenizer) -> int:
    """The token that fills up a row."""
    return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id


def _tokenise_answer(processor, question: str, answer: str) -> tuple[list[int], Offsets]:
    """Ids and offsets of the answer, end-of-turn token included, from one tokenisation of prompt + answer."""
    if not answer or answer != answer.strip():
        raise ValueError(f"the answer {answer[:60]!r} is empty or has space around it; strip it before counting spans")
    tokenizer = processor.tokenizer
    prompt, whole = conversation(processor, question), conversation(processor, question, answer)
    begin = whole.find(answer, len(prompt))
    if not whole.startswith(prompt) or begin < 0 or whole[len(prompt) : begin].strip():
        raise ValueError("the chat template does not write the answer right after its own generation prompt")
    end = begin + len(answer)
    settings = {"add_special_tokens": _adds_special_tokens(tokenizer, prompt), "verbose": False}
    prompt_ids = tokenizer(prompt, **settings)["input_ids"]
    encoded = tokenizer(whole[:end], return_offsets_mapping=True, **settings)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    if ids[: len(prompt_ids)] != prompt_ids or len(ids) == len(prompt_ids):
        raise ValueError(f"the prompt is tokenised otherwise when the answer {answer[:60]!r} follows it")
    answer_offsets = [(max(a - begin, 0), max(b - begin, 0)) for a, b in offsets[len(prompt_ids) :]]
    return ids[len(prompt_ids) :] + [_end_of_turn(tokenizer, whole[end:])], answer_offsets + [(len(answer),) * 2]


def end_of_turn(processor) -> int | None:
    """The special token that the chat template writes after an answer, or the tokenizer's end of sequence."""
    return _end_of_turn(processor.tokenizer, conversation(processor, "?", "Yes.").rpartition("Yes.")[2])


def _end_of_turn(tokenizer, suffix: str) -> int | None:
    ids = tokenizer(suffix, add_special_tokens=False)["input_ids"]
    return ids[0] if ids and ids[0] in special_tokens(tokenizer).values() else tokenizer.eos_token_id


def image_tokens(processor, picture: Image.Image) -> int:
    """Tokens that stand for a picture, whatever it is cut into: the commonest of those that text alone lacks."""
    ids = encode_prompts(processor, [picture], ["?"])["input_ids"][0].tolist()
    text = processor.tokenizer(conversation(processor, "?", image=False))["input_ids"]
    return max((Counter(ids) - Counter(text)).values(), default=0)


def _adds_special_tokens(tokenizer, prompt: str) -> bool:
    """False where the template has already written the beginning-of-sequence token."""
    return not (tokenizer.bos_token and prompt.startswith(tokenizer.bos_token))


def _check_length(tokens: int, limit: int) -> None:
    if tokens > limit:
        raise ValueError(f"a sequence of {tokens} tokens exceeds the limit of {limit}; nothing is ever truncated, so "
                         "use smaller images, shorter answers (max_new_tokens) or a model with a longer context")


def _to(inputs: dict[str, torch.Tensor], device) -> dict[str, torch.Tensor]:
    return {name: value.to(device) if torch.is_tensor(value) else value for name, value in inputs.items()}
