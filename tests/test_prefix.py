"""How rows are laid out for the forward passes: like lengths together, and in the order of the rows again."""

from itertools import product

import pytest
import torch

from medalign_lite.model.batches import Sequences
from medalign_lite.train.prefix import join, like_lengths


def cost(lengths, groups, pass_tokens):
    return sum(len(group) * max(lengths[n] for n in group) + pass_tokens for group in groups)


def every_division(numbers):
    """All ways to divide these numbers among groups."""
    for labels in product(range(len(numbers)), repeat=len(numbers)):
        yield [[n for n, label in zip(numbers, labels, strict=True) if label == one] for one in sorted(set(labels))]


@pytest.mark.parametrize("lengths", [(7, 90, 8, 80, 7), (5, 5, 5), (100,), (10, 20, 40, 80, 160)])
@pytest.mark.parametrize("pass_tokens", [0, 10, 1000])
def test_like_lengths_cost_least(lengths, pass_tokens):
    found = like_lengths(lengths, pass_tokens=pass_tokens)
    assert sorted(n for group in found for n in group) == list(range(len(lengths)))
    least = min(cost(lengths, groups, pass_tokens) for groups in every_division(range(len(lengths))))
    assert cost(lengths, found, pass_tokens) == least
    assert len(found) == (1 if pass_tokens == 1000 else len(found)) and all(group == sorted(group) for group in found)


def test_parts_are_read_in_the_order_of_the_rows():
    def part(*rows):
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
        return Sequences({"input_ids": ids}, ids > 9, ids * (ids > 9))

    batch = join([((2, 0), part([1, 12, 13], [1, 10])), ((1,), part([2, 11, 14, 15]))])
    assert batch.targets.tolist() == batch.answer_kinds.tolist() == [10, 11, 14, 15, 12, 13]
    assert batch.counts == [1, 3, 2]
