"""log p, F and R in one pass: the values and gradients of full logits, without the memory of full logits."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from medalign_lite.losses.divergence import kl_terms, read_tokens

N, D, V, LIMIT = 37, 16, 1000, 5 * 1000


class Largest(TorchDispatchMode):
    """The most numbers in any tensor that an operation makes."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            self.numbers = max(self.numbers, one.numel() if torch.is_tensor(one) else 0)
        return made


def world(dtype, bias=False, wanted=3):
    random = torch.Generator().manual_seed(2)
    head = torch.nn.Linear(D, V, bias=bias).to(dtype).requires_grad_(False)
    head.weight.copy_(torch.randn(V, D, generator=random))
    hidden = torch.randn(N, D, generator=random).to(dtype).requires_grad_()
    targets = torch.randint(V, (N,), generator=random)
    where = torch.arange(N) % wanted == 0 if wanted else torch.zeros(N, dtype=torch.bool)
    return head, hidden, targets, where, hidden.detach()[where] + 0.1


def plain(head, hidden, targets, wanted, ref_hidden):
    logits = head(hidden)
    logp = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    found = torch.zeros(2, N, dtype=logits.dtype)
    values = kl_terms(logits[wanted], head(ref_hidden))
    return logp, *(torch.zeros_like(row).index_put((wanted.nonzero()[:, 0],), value)
                   for row, value in zip(found, values, strict=True))


def ours(head, hidden, targets, wanted, ref_hidden, limit=LIMIT):
    return read_tokens(head, hidden, targets, ref_hidden=ref_hidden, wanted=wanted, limit=limit)


def gradient(values, hidden):
    weights = torch.rand(3, N, generator=torch.Generator().manual_seed(3)).to(hidden.dtype)
    return torch.autograd.grad(sum((w * v).sum() for w, v in zip(weights, values, strict=True)), hidden)[0]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("limit", [1, LIMIT, 10**9])
@pytest.mark.parametrize("wanted", [0, 1, 3])
def test_values_and_gradients_are_those_of_full_logits(dtype, tolerance, limit, wanted):
    given = world(dtype, bias=wanted == 1, wanted=wanted)
    found, expected = ours(*given, limit=limit), plain(*given)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)
    assert expected[0].abs().min() > 0 and (found[1] > 0).sum() == given[3].sum()
    a, b = gradient(found, given[1]), gradient(expected, given[1])
    assert b.norm() > 1 and (a - b).norm() <= tolerance * b.norm()


def test_equal_models_diverge_by_exactly_nothing():
    head, hidden, targets, wanted, _ = world(torch.float32)
    _, forward, reverse = ours(head, hidden, targets, wanted, hidden.detach()[wanted])
    assert not forward.any() and not reverse.any()
    assert not torch.autograd.grad(forward.sum() + reverse.sum(), hidden)[0].any()


def test_no_tensor_is_as_wide_as_the_vocabulary_and_as_long_as_the_answers():
    """Largest tensor of forward and backward, and what the graph keeps between them; the plain way fails both."""
    given = world(torch.float32)
    for way, limit, kept_limit in ((ours, LIMIT, N * D), (plain, None, None)):
        kept = []
        with Largest() as largest, torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, kept=kept: kept.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            gradient(way(*given), given[1])
        if way is plain:
            assert largest.numbers >= N * V and max(kept) >= N * V
        else:
            assert largest.numbers <= max(limit, V * D) and max(kept) <= kept_limit


def test_a_head_that_is_being_trained_is_refused():
    head, hidden, targets, *rest = world(torch.float32)
    head.requires_grad_(True)
    with pytest.raises(ValueError, match="being trained"):
        ours(head, hidden, targets, *rest)
    with torch.no_grad():
        assert ours(head, hidden, targets, *rest)[0].isfinite().all()
