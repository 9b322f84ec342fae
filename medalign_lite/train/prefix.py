"""Answers to one question about one image in one sequence: image, prompt and their common beginning are run once.

    [image and prompt | what the answers have in common | the rest of y+ | the rest of y-]

An attention mask keeps each branch from seeing the others, and positions go on from the common part in each, so every
token sees what it would see alone: P + S + 2 (C - S) tokens in place of 2 (P + C). One forward pass without a cache,
so that gradients flow through the common part and its activations may be recomputed in the backward pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from medalign_lite.model.batches import Sequences
from medalign_lite.model.families import mutual_blocks, token_positions

PAD = -1  # the branch of padding


@dataclass(frozen=True)
class Text:
    """One unpadded prompt and answer of T tokens: the model's per-token inputs (T,), completion and kinds (T,)."""

    inputs: dict[str, Tensor]
    completion: Tensor
    kinds: Tensor


@dataclass(frozen=True)
class Packed:
    """G sequences that hold N rows; read as `Sequences` is.

    inputs: the model's keyword arguments, one sequence per prefix. read (M,): which of the flattened states predict the
    answers' tokens, row after row; targets and answer_kinds (M,): those tokens and their kinds; counts: tokens per row.
    """

    inputs: dict
    read: Tensor
    targets: Tensor
    answer_kinds: Tensor
    counts: list[int]


@dataclass(frozen=True)
class Batch:
    """Rows in parts of like length, each a forward pass of its own; read as `Sequences` is, in the order of the rows.
    order (M,): where each answer token lies in the parts, one after another."""

    parts: list[Sequences | Packed]
    order: Tensor
    targets: Tensor
    answer_kinds: Tensor
    counts: list[int]


def common_length(texts: Sequence[Text]) -> int:
    """Number of leading tokens that all the texts share."""
    first, *others = (text.inputs["input_ids"] for text in texts)
    length = min(len(text.completion) for text in texts)
    differs = torch.zeros(length, dtype=torch.bool, device=first.device)
    for other in others:
        differs |= first[:length] != other[:length]
    return int(differs.int().argmax()) if differs.any() else length


def packed_length(texts: Sequence[Text]) -> int:
    """Tokens of the sequence that holds these texts."""
    shared = common_length(texts)
    return shared + sum(len(text.completion) - shared for text in texts)


def like_lengths(lengths: Sequence[int], *, pass_tokens: int) -> list[list[int]]:
    """Indices in groups, each to be padded to its longest, so that Σ (members · longest + `pass_tokens`) is least.
    `pass_tokens`: how many tokens cost as much as one more forward pass. Within a group indices keep their order."""
    order = sorted(range(len(lengths)), key=lambda n: (lengths[n], n))
    best = [(0, 0)]  # of the first n: least cost, and where its last group starts
    for stop in range(1, len(order) + 1):
        longest = lengths[order[stop - 1]]
        best.append(min((best[start][0] + (stop - start) * longest + pass_tokens, start) for start in range(stop)))
    groups, stop = [], len(order)
    while stop:
        groups.insert(0, sorted(order[best[stop][1] : stop]))
        stop = best[stop][1]
    return groups


def join(parts: Sequence[tuple[Sequence[int], "Sequences | Packed"]]) -> Batch:
    """Parts as one batch; with each part the numbers of its rows."""
    rows = [n for numbers, _ in parts for n in numbers]
    counts = [count for _, part in parts for count in part.counts]
    places, back = torch.arange(sum(counts)).split(counts), sorted(range(len(rows)), key=rows.__getitem__)
    targets, kinds = (torch.cat([getattr(part, name) for _, part in parts]) for name in ("targets", "answer_kinds"))
    order = torch.cat([places[n] for n in back]).to(targets.device)
    return Batch([part for _, part in parts], order, targets[order], kinds[order], [counts[n] for n in back])


def pack(body: nn.Module, texts: Sequence[Text], groups: Sequence[Sequence[int]], image_inputs: dict,
         about: Sequence[dict[str, Tensor]], *, pad_id: int) -> Packed:
    """One sequence per group of `texts` (indices) that continue the same prompt about the same image. `image_inputs`:
    pixels or features, one image per group, and whatever else the model is told of it; `about`: the same for each group
    alone, as the language model reads it (its grid)."""
    layouts = [_lay_out(body, [texts[n] for n in group], told) for group, told in zip(groups, about, strict=True)]
    ids, branch, blocks = (
        pad_sequence([layout[name] for layout, _ in layouts], batch_first=True, padding_value=fill)
        for name, fill in (("ids", pad_id), ("branch", PAD), ("blocks", -1))
    )
    positions = pad_sequence([layout["positions"].T for layout, _ in layouts], batch_first=True).permute(2, 0, 1)
    seen = visible(branch, blocks)
    if body.config.get_text_config()._attn_implementation != "sdpa":  # the mask is added to the scores
        seen = torch.zeros_like(seen, dtype=body.dtype).masked_fill(~seen, torch.finfo(body.dtype).min)
    inputs = image_inputs | {
        "input_ids": ids, "position_ids": positions if len(positions) == 3 else positions[0],  # (3, G, L) or (G, L)
        "attention_mask": seen[:, None],  # (G, 1, L, L)
    }
    places = {n: g * ids.shape[1] + place for g, (group, (_, own)) in enumerate(zip(groups, layouts, strict=True))
              for n, place in zip(group, own, strict=True)}
    read = torch.cat([places[n][:-1][text.completion[1:]] for n, text in enumerate(texts)])
    targets = torch.cat([text.inputs["input_ids"][text.completion] for text in texts])
    kinds = torch.cat([text.kinds[text.completion] for text in texts])
    return Packed(inputs, read, targets, kinds, [int(text.completion.sum()) for text in texts])


def visible(branch: Tensor, blocks: Tensor) -> Tensor:
    """(G, L, L) bool, from branch and blocks (G, L): whether token i sees token j. It does where j is not later and
    lies in the common part or in i's own branch, or where both are in one block."""
    i, j = branch.unsqueeze(2), branch.unsqueeze(1)
    earlier = torch.ones(branch.shape[1], branch.shape[1], dtype=torch.bool, device=branch.device).tril()
    mutual = (blocks.unsqueeze(2) == blocks.unsqueeze(1)) & (blocks.unsqueeze(2) >= 0)
    return (earlier & ((j == 0) | (i == j))) | mutual


def read_states(body: nn.Module, batch: "Sequences | Packed | Batch") -> Tensor:
    """Hidden states that predict the answers' tokens, row after row: (M, D). No logits are made."""
    if isinstance(batch, Batch):
        return torch.cat([read_states(body, part) for part in batch.parts])[batch.order]
    return body(**batch.inputs, use_cache=False).last_hidden_state.flatten(0, 1)[batch.read]


def _lay_out(body: nn.Module, members: list[Text], about: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
    """One packed sequence of L tokens: ids, `branch` (0 the common part, 1, 2, ... the members' own) and blocks as
    `families.mutual_blocks`, (L,) each, positions (1 or 3, L); and where each member's tokens lie in it, (T,) each."""
    shared = common_length(members)
    longest = max(members, key=lambda text: len(text.completion))
    alone = {name: value[None] for name, value in longest.inputs.items()} | about
    positions, blocks = token_positions(body, alone), mutual_blocks(body, alone)

    def spread(whole: Tensor, parts: list[Tensor]) -> Tensor:  # the common part once, then what each member adds
        return torch.cat([whole[..., :shared], *(part[..., shared:] for part in parts)], dim=-1)

    lengths = [len(text.completion) for text in members]
    ids = spread(longest.inputs["input_ids"], [text.inputs["input_ids"] for text in members])
    own = [torch.full_like(text.inputs["input_ids"], n + 1) for n, text in enumerate(members)]
    branch = spread(torch.zeros_like(longest.inputs["input_ids"]), own)
    start, places = shared, []
    for length in lengths:
        places.append(torch.cat([torch.arange(shared), torch.arange(start, start + length - shared)]).to(ids.device))
        start += length - shared
    return {"ids": ids, "branch": branch, "positions": spread(positions, [positions[:, :n] for n in lengths]),
            "blocks": spread(blocks, [blocks[:n] for n in lengths])}, places
