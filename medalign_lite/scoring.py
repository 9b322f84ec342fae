"""The forward passes that feed the objective: per-token log-probabilities and divergences at the answer's tokens only.

The body of the model runs over whole sequences; the output head only where an answer's token is predicted. The
reference is the same model with its adapters off: either run live, or handed in as log-probabilities and hidden states.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from medalign_lite.batches import Sequences
from medalign_lite.lvlm import Lvlm, adapters_off, base_of
from medalign_lite.objective import Side, Terms, kl_terms, margins
from medalign_lite.pairs import Pair, PairInputs, Row
from medalign_lite.prefix import Packed, read_states
from medalign_lite.recipes import Recipe

LOGITS_AT_ONCE = 2**25  # logits held at a time; above it the head runs in chunks and again in the backward pass
ALL_SIDES = {(image, answer): False for image in ("clean", "lesion", "control") for answer in ("chosen", "rejected")}


@dataclass(frozen=True)
class Reference:
    """The reference's view of one row's n answer tokens: logp (n,), and hidden states (n, D) where KL is wanted."""

    logp: Tensor
    hidden: Tensor | None = None


class ReferenceSource(Protocol):
    """Whatever hands out reference values by row: `reference.ReferenceCache`, or the live model."""

    def read(self, rows: Sequence[Row], batch: Sequences | Packed, wants_kl: Sequence[bool]) -> list[Reference]: ...


def answer_states(model: nn.Module, batch: Sequences | Packed) -> tuple[Tensor, Tensor, list[int]]:
    """Hidden states that predict the answers' tokens, flat over the batch: (N, D); their targets (N,); tokens per row.

    No logits are made.
    """
    return read_states(base_of(model).base_model, batch), batch.targets, batch.counts


def head_of(model: nn.Module) -> nn.Module:
    """The output head."""
    return base_of(model).get_output_embeddings()


def read_tokens(
    head: nn.Module, hidden: Tensor, targets: Tensor, *, ref_hidden: Tensor | None = None,
    wanted: Tensor | None = None, limit: int = LOGITS_AT_ONCE,
) -> tuple[Tensor, Tensor, Tensor]:
    """log p of the targets (N,), and F and R (N,) at the `wanted` positions, 0 elsewhere; one look at each logit row.

    hidden (N, D); ref_hidden (K, D) for the K positions where `wanted` (N,) bool is True. Logits are fp32 at least.
    At most `limit` logits are held; when that takes chunks, the backward pass makes each chunk's logits again.
    """
    wanted = torch.zeros_like(targets, dtype=torch.bool) if wanted is None else wanted
    size = max(1, limit // head.weight.shape[0])
    before = torch.cat([wanted.new_zeros(1, dtype=torch.long), wanted.long().cumsum(0)]).tolist()
    pieces = []
    for start in range(0, len(targets), size):
        stop = min(start + size, len(targets))
        ref = None if before[stop] == before[start] else ref_hidden[before[start] : before[stop]]
        arguments = (head, hidden[start:stop], targets[start:stop], wanted[start:stop], ref)
        whole = len(targets) <= size or not torch.is_grad_enabled()
        pieces.append(_read_chunk(*arguments) if whole else checkpoint(_read_chunk, *arguments, use_reentrant=False))
    logp, forward, reverse = (torch.cat(part) for part in zip(*pieces, strict=True))
    return logp, forward, reverse


def _read_chunk(head, hidden, targets, wanted, ref_hidden) -> tuple[Tensor, Tensor, Tensor]:
    logits = head(hidden.to(head.weight.dtype))
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # (n, V)
    logp = -cross_entropy(logits, targets, reduction="none")
    forward = reverse = torch.zeros_like(logp)
    if ref_hidden is not None:
        with torch.no_grad():
            ref_logits = head(ref_hidden.to(head.weight.dtype))
        index = wanted.nonzero()[:, 0]
        divergences = kl_terms(logits[index], ref_logits)
        forward, reverse = (torch.zeros_like(logp).index_put((index,), value) for value in divergences)
    return logp, forward, reverse


@dataclass(frozen=True)
class LiveReference:
    """Runs the model with its adapters off for every batch."""

    model: nn.Module

    @torch.no_grad()
    def read(self, rows: Sequence[Row], batch: Sequences | Packed, wants_kl: Sequence[bool]) -> list[Reference]:
        """Reference values of each row; hidden states where `wants_kl`."""
        with adapters_off(self.model):
            hidden, targets, counts = answer_states(self.model, batch)
            logp, _, _ = read_tokens(head_of(self.model), hidden, targets)
        parts = zip(logp.split(counts), hidden.split(counts), wants_kl, strict=True)
        return [Reference(row_logp, row_hidden if wants else None) for row_logp, row_hidden, wants in parts]


def rows_of(pairs: Sequence[Pair], sides: Mapping[tuple[str, str], bool]) -> list[tuple[int, Row]]:
    """(position in the batch, row) for each pair and side whose image exists, side after side."""
    return [
        (n, Row(pair, image, answer)) for image, answer in sides for n, pair in enumerate(pairs)
        if pair.picture(image) is not None
    ]


def score(
    model: nn.Module, inputs: PairInputs, pairs: Sequence[Pair], sides: Mapping[tuple[str, str], bool], *,
    reference: ReferenceSource | None,
) -> Terms:
    """Run every side of a batch of pairs in one forward pass; gradients flow to the adapters where they are enabled.

    `sides` maps (image, answer) to whether F and R are wanted there (`Recipe.sides()`). `reference` None leaves out
    reference values. Rows whose image does not exist are not run. Raises ValueError as `PairInputs.sequences` does.
    """
    placed = rows_of(pairs, sides)
    rows = [row for _, row in placed]
    wants = [sides[row.image, row.answer] for row in rows]
    batch = inputs.batch(rows)
    ref = reference.read(rows, batch, wants) if reference else None
    hidden, targets, counts = answer_states(model, batch)
    wanted = torch.repeat_interleave(torch.tensor(wants), torch.tensor(counts)).to(targets.device)
    ref_hidden = torch.cat([r.hidden for r, w in zip(ref, wants, strict=True) if w]) if any(wants) else None
    flat = read_tokens(head_of(model), hidden, targets, ref_hidden=ref_hidden, wanted=wanted)
    logp, forward, reverse = (values.split(counts) for values in flat)
    kinds = batch.answer_kinds.split(counts)
    true = torch.ones_like(targets, dtype=torch.bool).split(counts)
    found = {}
    for side, wants_kl in sides.items():
        at = {n: i for i, (n, row) in enumerate(placed) if (row.image, row.answer) == side}
        found[side] = Side(
            logp=_gather(logp, at, len(pairs), flat[0]), kinds=_gather(kinds, at, len(pairs), targets),
            valid=_gather(true, at, len(pairs), true[0]),
            ref_logp=_gather([r.logp for r in ref], at, len(pairs), flat[0]) if ref else None,
            forward_kl=_gather(forward, at, len(pairs), flat[0]) if wants_kl else None,
            reverse_kl=_gather(reverse, at, len(pairs), flat[0]) if wants_kl else None,
        )
    return Terms(found, *(torch.tensor(flags, device=targets.device) for flags in (
        [pair.lesion is not None for pair in pairs], [pair.control is not None for pair in pairs],
        [pair.positive for pair in pairs])))


def _gather(rows: Sequence[Tensor], at: Mapping[int, int], size: int, like: Tensor) -> Tensor:
    """Rows placed in a padded (B, C) tensor; a pair without the row gets padding alone."""
    empty = torch.zeros(0, dtype=like.dtype, device=like.device)
    return pad_sequence([rows[at[n]] if n in at else empty for n in range(size)], batch_first=True)


def check_head(lvlm: Lvlm, sequences: Sequences) -> None:
    """Raise ValueError where a family does more between its body and its logits than apply the output head."""
    with torch.no_grad():
        hidden, _, _ = answer_states(lvlm.model, sequences)
        logits = base_of(lvlm.model)(**sequences.inputs, use_cache=False).logits[:, :-1]
        logits = logits[sequences.completion[:, 1:]]
        ours = head_of(lvlm.model)(hidden)
    if not torch.allclose(ours.float(), logits.float(), atol=1e-2, rtol=1e-2):
        raise ValueError(
            f"{type(base_of(lvlm.model)).__name__} changes its logits after the output head (soft-capping or scaling), "
            "which scoring.read_tokens does not do; this family is not supported"
        )


@torch.no_grad()
def pair_margins(
    lvlm: Lvlm, pairs: Sequence[Pair], recipe: Recipe, *, batch_size: int = 32, inputs: PairInputs | None = None,
) -> list[dict[str, float]]:
    """Per pair: `margin`, `margin_lesion`, `margin_control` (NaN without the image), in nats.

    With `recipe.reference` these are m(u) against the model without adapters; with reference=False, beta=1, the mask's
    weights and N none they are raw gaps Σ_span log π(y+) - Σ_span log π(y-).
    """
    inputs = inputs or PairInputs(lvlm)
    reference = LiveReference(lvlm.model) if recipe.reference else None
    found = []
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        values = margins(score(lvlm.model, inputs, batch, ALL_SIDES, reference=reference), recipe)
        found += [{name: column[n].item() for name, column in values.items()} for n in range(len(batch))]
    return found


@torch.no_grad()
def answer_kl(
    lvlm: Lvlm, pairs: Sequence[Pair], *, batch_size: int = 32, inputs: PairInputs | None = None,
) -> list[tuple[float, ...]]:
    """F_t = KL(π_ref ‖ π) in nats at each token of y+ under the clean image, per pair."""
    inputs, found = inputs or PairInputs(lvlm), []
    for start in range(0, len(pairs), batch_size):
        batch, side = pairs[start : start + batch_size], ("clean", "chosen")
        scored = score(lvlm.model, inputs, batch, {side: True}, reference=LiveReference(lvlm.model)).sides[side]
        found += [tuple(row[keep].tolist()) for row, keep in zip(scored.forward_kl, scored.valid, strict=True)]
    return found

