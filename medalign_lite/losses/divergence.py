"""KL between policy and reference over the full vocabulary, in both directions, per token; depends on torch alone."""

import torch
from torch import Tensor


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
    keeps both rows of logits; `readout.py` gives the same from hidden states and keeps none."""
    wide = torch.promote_types(logits.dtype, torch.float32)
    return _TokenKL.apply(logits.to(wide), ref_logits.detach().to(wide))
