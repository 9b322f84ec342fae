"""log p, F and R at answer tokens from hidden states: one pass over the vocabulary, and no logits outlive their chunk.

The output head W is frozen, so what a value will send back to its hidden state is known while its logits are there:

    ∂ log p(y)/∂h = W_y - π W        ∂F/∂h = (π - π_ref) W        ∂R/∂h = (π ⊙ (log π - log π_ref - R)) W

These rows, as wide as the hidden state, wait for the backward pass in place of logits as wide as the vocabulary, and
the head is not run again.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from medalign_lite.losses.divergence import divergences, logit_gradients, masses

LOGITS_AT_ONCE = 2**23  # logits of one chunk; with a divergence about six arrays of this size are held


def read_tokens(
    head: nn.Linear, hidden: Tensor, targets: Tensor, *, ref_hidden: Tensor | None = None,
    wanted: Tensor | None = None, limit: int = LOGITS_AT_ONCE,
) -> tuple[Tensor, Tensor, Tensor]:
    """log p of the targets (N,), and F and R (N,) at the `wanted` positions, 0 elsewhere, in fp32 at least. hidden (N,
    D); ref_hidden (K, D) for the K positions where `wanted` (N,) bool is True. At most `limit` logits are made at a
    time. Raises ValueError for a head that is being trained: it would get no gradient."""
    wanted = torch.zeros_like(targets, dtype=torch.bool) if wanted is None else wanted
    learns = torch.is_grad_enabled() and hidden.requires_grad
    if learns and head.weight.requires_grad:
        raise ValueError("the output head is being trained, and readout.read_tokens takes it as frozen")
    size = max(1, limit // head.weight.shape[0])
    return _Readout.apply(hidden, (head.weight, head.bias), targets, ref_hidden, wanted, size, learns)


class _Readout(torch.autograd.Function):
    """Values forward; backward is a product with the rows that the forward pass kept. Positions with a divergence go
    first and by themselves, so that policy and reference meet in products of one shape: where the two are equal, F and
    R are exactly 0."""

    @staticmethod
    def forward(ctx, hidden: Tensor, head, targets: Tensor, ref_hidden, wanted: Tensor, size: int, learns: bool):
        places, others = wanted.nonzero()[:, 0], (~wanted).nonzero()[:, 0]
        refs = ref_hidden.split(size) if len(places) else ()
        jobs = list(zip(places.split(size), refs, strict=False)) + [(at, None) for at in others.split(size)]
        chunks = [_read_chunk(head, hidden[at], targets[at], ref, learns) for at, ref in jobs]
        values, forward, reverse, *rows = (torch.cat(part) for part in zip(*chunks, strict=True))
        order = torch.cat([places, others])
        ctx.save_for_backward(order, places, *rows)
        ctx.dtype = hidden.dtype
        zeros = torch.zeros_like(values)
        return tuple(zeros.index_put((at,), part) for at, part in (
            (order, values), (places, forward), (places, reverse)))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_logp: Tensor, grad_forward: Tensor, grad_reverse: Tensor):
        order, places, of_logp, of_forward, of_reverse = ctx.saved_tensors  # (N,), (K,), (N, D), (K, D), (K, D)
        rows = grad_logp[order, None] * of_logp
        rows[: len(places)] += grad_forward[places, None] * of_forward + grad_reverse[places, None] * of_reverse
        gradient = torch.empty_like(rows).index_copy_(0, order, rows).to(ctx.dtype)
        return gradient, None, None, None, None, None, None


def _read_chunk(head, hidden: Tensor, targets: Tensor, ref_hidden: Tensor | None, learns: bool) -> tuple[Tensor, ...]:
    """log p (n,), and with a reference F and R (n,), else empty; then, where it `learns`, the rows (n, D) of each."""
    log_pi = _log_probabilities(head, hidden)  # (n, V)
    logp = log_pi.gather(-1, targets[:, None])[:, 0]
    forward = reverse = logp.new_zeros(0)
    of_logp = of_forward = of_reverse = logp.new_zeros(0, hidden.shape[1])
    if ref_hidden is not None:
        parts = masses(log_pi, _log_probabilities(head, ref_hidden))
        forward, reverse = divergences(*parts)
        if learns:
            of_forward, of_reverse = (_to_hidden(rows, head) for rows in logit_gradients(*parts))
    if learns:
        rows = log_pi.exp_().neg_()  # the log-probabilities are not needed any more
        rows[torch.arange(len(targets), device=targets.device), targets] += 1
        of_logp = _to_hidden(rows, head)
    return logp, forward, reverse, of_logp, of_forward, of_reverse


def _log_probabilities(head, hidden: Tensor) -> Tensor:
    weight, bias = head
    logits = linear(hidden.to(weight.dtype), weight, bias)
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def _to_hidden(rows: Tensor, head) -> Tensor:
    """Gradients by logits (n, V) to gradients by hidden states (n, D)."""
    return (rows.to(head[0].dtype) @ head[0]).to(rows.dtype)
