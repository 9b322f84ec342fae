"""KL between policy and reference over the full vocabulary, in both directions, per token; depends on torch alone.

`read_tokens` gives log p, F and R at answer tokens from hidden states, in one pass over the vocabulary, and no logits
outlive their chunk. The output head W is frozen, so what a value will send back to its hidden state is known while its
logits are there:

    ∂ log p(y)/∂h = W_y - π W        ∂F/∂h = (π - π_ref) W        ∂R/∂h = (π ⊙ (log π - log π_ref - R)) W

These rows, as wide as the hidden state, wait for the backward pass in place of logits as wide as the vocabulary, and
the head is not run again.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

LOGITS_AT_ONCE = 2**23  # logits of one chunk; with a divergence about six arrays of this size are held


def masses(log_pi: Tensor, log_ref: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """π, π_ref and log π - log π_ref, each (..., V), from log-probabilities."""
    pi, ref = log_pi.exp(), log_ref.exp()
    # An id with no mass on either side (masked with -inf, or underflowed) has no part in either sum.
    return pi, ref, torch.where((pi > 0) | (ref > 0), log_pi - log_ref, torch.zeros_like(pi))


def divergences(pi: Tensor, ref: Tensor, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
    """F = KL(π_ref ‖ π) and R = KL(π ‖ π_ref) in nats, (...,), from `masses`."""
    reverse = torch.where(pi > 0, pi * log_ratio, torch.zeros_like(pi)).sum(-1)
    forward = torch.where(ref > 0, -ref * log_ratio, torch.zeros_like(ref)).sum(-1)
    return forward.clamp_min(0), reverse.clamp_min(0)  # round-off alone could leave them below 0


def logit_gradients(pi: Tensor, ref: Tensor, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
    """∂F/∂z = π - π_ref and ∂R/∂z = π ⊙ (log π - log π_ref - R), (..., V), from `masses`."""
    pull = torch.where(pi > 0, pi * log_ratio, torch.zeros_like(pi))
    return pi - ref, pull - pi * pull.sum(-1, keepdim=True)


class _TokenKL(torch.autograd.Function):
    """KL in both directions with its gradient in closed form, so that round-off never meets a difference of logs."""

    @staticmethod
    def forward(ctx, logits: Tensor, ref_logits: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(logits, ref_logits)
        return divergences(*masses(logits.log_softmax(-1), ref_logits.log_softmax(-1)))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_forward: Tensor, grad_reverse: Tensor) -> tuple[Tensor, None]:
        logits, ref_logits = ctx.saved_tensors
        of_forward, of_reverse = logit_gradients(*masses(logits.log_softmax(-1), ref_logits.log_softmax(-1)))
        return grad_forward.unsqueeze(-1) * of_forward + grad_reverse.unsqueeze(-1) * of_reverse, None


def kl_terms(logits: Tensor, ref_logits: Tensor) -> tuple[Tensor, Tensor]:
    """F = KL(π_ref ‖ π) and R = KL(π ‖ π_ref) in nats, each (...,), from logits (..., V) of policy and reference.

    Finite at any finite logits and with ids masked by -inf in both; an id masked in one alone makes the divergence
    truly infinite. The reference gets no gradient. Half-precision logits are read as fp32. This is the plain way, which
    keeps both rows of logits; `read_tokens` gives the same from hidden states and keeps none."""
    wide = torch.promote_types(logits.dtype, torch.float32)
    return _TokenKL.apply(logits.to(wide), ref_logits.detach().to(wide))


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
        raise ValueError("the output head is being trained, and divergence.read_tokens takes it as frozen")
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
