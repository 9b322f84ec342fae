"""The forward passes that feed the objective: per-token log-probabilities and divergences at the answer's tokens only.

The body of the model runs over whole sequences; the output head only where an answer's token is predicted. The
reference is the same model with its adapters off: either run live, or handed in as log-probabilities and hidden states.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from medalign_lite.losses.divergence import read_tokens
from medalign_lite.losses.objective import Side, Terms, margins
from medalign_lite.losses.recipes import EVERYWHERE, Reads, Recipe
from medalign_lite.model.batches import Sequences
from medalign_lite.model.lvlm import Lvlm, adapters_off, base_of, layers_recomputing
from medalign_lite.train.pairs import Pair, PairInputs, Row
from medalign_lite.train.prefix import Batch, read_states

ALL_SIDES = {(image, answer): Reads() for image in ("clean", "lesion", "control") for answer in ("chosen", "rejected")}


@dataclass(frozen=True)
class Reference:
    """The reference's view of one row's n answer tokens: logp (n,), and hidden states (n, D) where KL is wanted."""

    logp: Tensor
    hidden: Tensor | None = None


class ReferenceSource(Protocol):
    """Whatever hands out reference values by row: `reference.ReferenceCache`, or the live model."""

    def read(self, rows: Sequence[Row], batch: Batch, reads: Sequence[Reads]) -> list[Reference]: ...


def answer_states(model: nn.Module, batch: Batch | Sequences) -> tuple[Tensor, Tensor, list[int]]:
    """Hidden states that predict the answers' tokens, flat over the batch: (N, D); their targets (N,); tokens per row.
    No logits are made."""
    with layers_recomputing(model):
        return read_states(base_of(model).base_model, batch), batch.targets, batch.counts


@dataclass(frozen=True)
class LiveReference:
    """Runs the model with its adapters off for every batch."""

    model: nn.Module

    @torch.no_grad()
    def read(self, rows: Sequence[Row], batch: Batch, reads: Sequence[Reads]) -> list[Reference]:
        """Log p of each row where it is read, NaN elsewhere; hidden states where F and R are. Positions go through the
        head in the groups in which the policy's do: where the two models are equal, so are the values, bit for bit."""
        with adapters_off(self.model):
            hidden, targets, counts = answer_states(self.model, batch)
            at, kl_at = _places(reads, batch)
            head = base_of(self.model).get_output_embeddings()
            logp = torch.full(targets.shape, torch.nan, dtype=torch.promote_types(hidden.dtype, torch.float32),
                              device=hidden.device)
            for where in (kl_at, at & ~kl_at):
                if where.any():
                    logp[where] = read_tokens(head, hidden[where], targets[where])[0]
        parts = zip(logp.split(counts), hidden.split(counts), reads, strict=True)
        return [Reference(row_logp, states if any(read.kl) else None) for row_logp, states, read in parts]


def rows_of(pairs: Sequence[Pair], sides: Mapping[tuple[str, str], Reads]) -> list[tuple[int, Row]]:
    """(position in the batch, row) for each pair and side whose image exists, side after side."""
    return [
        (n, Row(pair, image, answer)) for image, answer in sides for n, pair in enumerate(pairs)
        if pair.picture(image) is not None
    ]


def score(
    model: nn.Module, inputs: PairInputs, pairs: Sequence[Pair], sides: Mapping[tuple[str, str], Reads], *,
    reference: ReferenceSource | None,
) -> Terms:
    """Run every side of a batch of pairs; gradients flow to the adapters where they are enabled.

    `sides` maps (image, answer) to where log p, and F and R, are read there (`Recipe.sides()`); elsewhere they are NaN,
    and the output head is not run. `reference` None leaves out reference values. Rows whose image does not exist are
    not run. Raises ValueError as `PairInputs.sequences` does."""
    placed = rows_of(pairs, sides)
    rows = [row for _, row in placed]
    reads = [sides[row.image, row.answer] for row in rows]
    batch = inputs.batch(rows)
    ref = reference.read(rows, batch, reads) if reference else None
    hidden, targets, counts = answer_states(model, batch)
    head = base_of(model).get_output_embeddings()
    values = _read_where(head, hidden, targets, *_places(reads, batch), ref=ref, reads=reads)
    logp, forward, reverse = (flat.split(counts) for flat in values)
    kinds = batch.answer_kinds.split(counts)
    true = torch.ones_like(targets, dtype=torch.bool).split(counts)
    found = {}
    for side, read in sides.items():
        at = {n: i for i, (n, row) in enumerate(placed) if (row.image, row.answer) == side}
        ref_logp = _gather([row.logp for row in ref], at, len(pairs)) if ref else None
        kl = (_gather(part, at, len(pairs)) for part in (forward, reverse)) if any(read.kl) else ()
        found[side] = Side(*(_gather(part, at, len(pairs)) for part in (logp, kinds, true)), ref_logp, *kl)
    return Terms(found, *(torch.tensor(flags, device=targets.device) for flags in (
        [pair.lesion is not None for pair in pairs], [pair.control is not None for pair in pairs],
        [pair.positive for pair in pairs])))


def _places(reads: Sequence[Reads], batch) -> tuple[Tensor, Tensor]:
    """(N,) bool each: answer tokens at which log p, and F and R, are read."""
    rows = list(zip(reads, batch.answer_kinds.split(batch.counts), strict=True))
    return tuple(torch.cat([torch.tensor(places(read), device=kinds.device)[kinds] for read, kinds in rows])
                 for places in (lambda read: read.logp, lambda read: read.kl))


def _read_where(head: nn.Module, hidden: Tensor, targets: Tensor, at: Tensor, kl_at: Tensor, *, ref, reads):
    """log p, F and R (N,) where they are read, NaN elsewhere; the head runs at those of the N positions alone."""
    either = at | kl_at
    ref_hidden = None
    if kl_at.any():
        counted = kl_at.split([len(row.logp) for row in ref])
        ref_hidden = torch.cat([row.hidden[where] for row, where, read in zip(ref, counted, reads, strict=True)
                                if any(read.kl)])
    found = read_tokens(head, hidden[either], targets[either], ref_hidden=ref_hidden, wanted=kl_at[either])
    unread = found[0].new_full((len(targets),), torch.nan)
    index = either.nonzero()[:, 0]
    spread = [unread.index_put((index,), values) for values in found]
    return [torch.where(where, values, unread) for where, values in zip((at, kl_at, kl_at), spread, strict=True)]


def _gather(rows: Sequence[Tensor], at: Mapping[int, int], size: int) -> Tensor:
    """Rows placed in a padded (B, C) tensor; a pair without the row gets padding alone."""
    return pad_sequence([rows[at[n]] if n in at else rows[0].new_zeros(0) for n in range(size)], batch_first=True)


def check_head(lvlm: Lvlm, sequences: Sequences) -> None:
    """Raise ValueError where a family does more between its body and its logits than apply the output head."""
    with torch.no_grad():
        hidden, _, _ = answer_states(lvlm.model, sequences)
        logits = base_of(lvlm.model)(**sequences.inputs, use_cache=False).logits[:, :-1]
        logits = logits[sequences.completion[:, 1:]]
        ours, _, _ = read_tokens(base_of(lvlm.model).get_output_embeddings(), hidden, sequences.targets)
    theirs = logits.float().log_softmax(-1).gather(-1, sequences.targets[:, None])[:, 0]
    if not torch.allclose(ours.float(), theirs, atol=1e-2, rtol=1e-2):
        raise ValueError(f"{type(base_of(lvlm.model)).__name__} changes its logits after the output head (soft-capping "
                         "or scaling), which divergence.read_tokens does not do; this family is not supported")


@torch.no_grad()
def pair_margins(
    lvlm: Lvlm, pairs: Sequence[Pair], recipe: Recipe, *, batch_size: int = 32, inputs: PairInputs | None = None,
) -> list[dict[str, float]]:
    """Per pair: `margin`, `margin_lesion`, `margin_control` (NaN without the image), in nats. With `recipe.reference`
    these are m(u) against the model without adapters; with reference=False, beta=1, the mask's weights and N none they
    are raw gaps Σ_span log π(y+) - Σ_span log π(y-)."""
    inputs = inputs or PairInputs(lvlm)
    reference = LiveReference(lvlm.model) if recipe.reference else None
    found = []
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        values = margins(score(lvlm.model, inputs, batch, ALL_SIDES, reference=reference), recipe)
        found += [{name: column[n].item() for name, column in values.items()} for n in range(len(batch))]
    return found


def answer_logp(lvlm: Lvlm, pairs: Sequence[Pair], **sizes) -> list[tuple[float, ...]]:
    """log π in nats of each token of y+ under the clean image, per pair; `sizes` as `pair_margins` takes them."""
    return _of_answers(lvlm, pairs, "logp", Reads(logp=EVERYWHERE), None, **sizes)


def answer_kl(lvlm: Lvlm, pairs: Sequence[Pair], **sizes) -> list[tuple[float, ...]]:
    """F_t = KL(π_ref ‖ π) in nats at each token of y+ under the clean image, per pair."""
    return _of_answers(lvlm, pairs, "forward_kl", Reads(kl=EVERYWHERE), LiveReference(lvlm.model), **sizes)


@torch.no_grad()
def _of_answers(
    lvlm: Lvlm, pairs: Sequence[Pair], name: str, reads: Reads, reference: ReferenceSource | None, *,
    batch_size: int = 32, inputs: PairInputs | None = None,
) -> list[tuple[float, ...]]:
    inputs, found, side = inputs or PairInputs(lvlm), [], ("clean", "chosen")
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        scored = score(lvlm.model, inputs, batch, {side: reads}, reference=reference).sides[side]
        rows = zip(getattr(scored, name), scored.valid, strict=True)
        found += [tuple(row[keep].tolist()) for row, keep in rows]
    return found
