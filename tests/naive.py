"""Every recipe written from its paper's equation: one record at a time, Python sums over full rows of logits.

The tests' own independent version of `objective.py`, fed by hand-made logits or by plain forward passes of a model.
"""

from torch.nn.functional import softplus as sp


def naive_loss(name, tokens, *, lesion, control):
    """The published loss of one record. `tokens(image, answer)` lists its tokens as (log π of the token, log π_ref of
    it, all of log π (V,), all of log π_ref (V,), inside a span); `lesion`, `control`: whether that image exists."""

    def ratio(image, answer, inside=1.0, outside=1.0):
        return sum((inside if mask else outside) * (p - r) for p, r, *_, mask in tokens(image, answer))

    def forward(answer):
        return sum((lr.exp() * (lr - lp)).sum() for *_, lp, lr, _ in tokens("clean", answer))

    def jeffreys(answer, inside):
        return sum(0.5 * ((lr.exp() - lp.exp()) * (lr - lp)).sum()
                   for *_, lp, lr, mask in tokens("clean", answer) if mask == inside)

    def dpo(image="clean", beta=0.1, **weights):
        return beta * (ratio(image, "chosen", **weights) - ratio(image, "rejected", **weights))

    def nll(answer):
        parts = [p for p, *_ in tokens("clean", answer)]
        return -sum(parts) / len(parts)

    span = {"outside": 0.0}
    if name == "dpo":
        return sp(-dpo())
    if name == "mask-dpo":
        return sp(-dpo(**span))
    if name == "ddpo":
        def dense(answer):
            total = sum(5.0 if mask else 1.0 for *_, mask in tokens("clean", answer))
            return ratio("clean", answer, inside=5.0) / total
        return sp(-0.5 * (dense("chosen") - dense("rejected")))
    if name == "rrpo":
        return sp(-dpo(**span)) + 0.01 * forward("chosen")
    if name in ("tdpo1", "tdpo2"):
        scale, kept = (1.0, forward("chosen")) if name == "tdpo1" else (0.5, forward("chosen").detach())
        return sp(-(dpo() - 0.1 * scale * (forward("rejected") - kept)))
    if name == "mdpo":
        loss = sp(-dpo()) + sp(-0.1 * ratio("clean", "chosen"))
        return loss + (sp(-0.1 * (ratio("clean", "chosen") - ratio("lesion", "chosen"))) if lesion else 0)
    if name == "mmedpo":
        gap = ratio("clean", "chosen") - (ratio("lesion", "rejected") if lesion else 0)
        return sp(-0.1 * gap) if lesion else 0 * gap
    if name == "simpo":
        return sp(-(2.0 * (nll("rejected") - nll("chosen")) - 1.0))
    if name == "fire-mpo":
        loss = sp(-dpo(**span)) + 0.01 * jeffreys("chosen", True)
        return loss + (0.1 * sp(dpo("lesion", **span)) if lesion else 0)
    if name == "cdpo":
        return (10 / 11) * sp(-dpo(**span)) + (1 / 11) * sp(dpo(**span))
    if name == "neutral-control":
        loss = sp(-dpo(beta=0.5, **span)) + 0.1 * (jeffreys("chosen", False) + jeffreys("rejected", False))
        loss = loss + (0.1 * 0.5 * dpo("lesion", beta=0.5, **span) ** 2 if lesion else 0)
        return loss + (0.2 * sp(-dpo("control", beta=0.5, **span)) if control else 0)
    if name == "grounded":
        loss = sp(-dpo(beta=0.5, **span)) + 0.1 * (jeffreys("chosen", False) + jeffreys("rejected", False))
        owed = 0.5 * (ratio("clean", "chosen", **span) - ratio("lesion", "chosen", **span)) if lesion else 0
        loss = loss + 0.5 * nll("chosen") + (3.0 * sp(-owed) if lesion else 0)
        return loss + (sp(-dpo("control", beta=0.5, **span)) if control else 0)
    return nll({"sft-gold": "gold", "sft-edits": "chosen"}[name])
