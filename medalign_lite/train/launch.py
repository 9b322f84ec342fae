"""One run in several processes (`accelerate launch`): which records each takes, and how gradients are shared out.

Settings say what a step is: `batch_size` x `accumulation` records. Processes divide it between them, so one or four
take the same steps on the same records. Without a launcher all of this is one process that takes everything.
"""

import math
import os
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Sampler


def process_count() -> int:
    """How many processes the launcher started (torchrun's variables, which `accelerate launch` sets too)."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def process_rank() -> int:
    """Number of this process, 0 for the main one."""
    return int(os.environ.get("RANK", "0")) if "LOCAL_RANK" in os.environ else 0


def refuse_sharding() -> None:
    """Raise ValueError where the launcher asks for FSDP, under which body and head cannot be called apart."""
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise ValueError(
            "FSDP is not supported: docs/TRAINING.md says what it needs; launch with DDP (--multi_gpu, no --use_fsdp)"
        )


def divide_step(*, batch_size: int, accumulation: int, processes: int) -> tuple[int, int]:
    """(records a forward, forwards a step) of each process, at most `batch_size` records a forward.

    Raises ValueError where the step's records cannot be divided evenly.
    """
    records = batch_size * accumulation
    if records % processes:
        raise ValueError(
            f"a step of batch_size x accumulation = {records} records cannot be divided between {processes} processes; "
            f"give a multiple of {processes}"
        )
    share = records // processes
    forward = max(size for size in range(1, min(batch_size, share) + 1) if share % size == 0)
    return forward, share // forward


class ShareSampler(Sampler[list[int]]):
    """The batches of one process: batch b of process p holds the records at (b x processes + p) x size of the epoch.

    The epoch's order is a permutation by seed + epoch, the one that Accelerate's own sampler draws. Accelerate would
    fill the last step up with records from the start; here it is short, and a process may get an empty batch.
    """

    def __init__(self, records: int, *, size: int, rank: int, processes: int, seed: int):
        self.records, self.size, self.rank, self.processes = records, size, rank, processes
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.records / (self.size * self.processes))

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(self.records, generator=torch.Generator().manual_seed(self.seed + self.epoch)).tolist()
        for batch in range(len(self)):
            start = (batch * self.processes + self.rank) * self.size
            yield order[start : start + self.size]


def run_inside(wrapped: nn.Module, work: Callable[[], Tensor]) -> Tensor:
    """work(), as the forward pass of `wrapped` where that is DDP.

    DDP averages the gradients of what runs inside its own forward; ours calls the model's body and head apart. So for
    the length of one call the wrapped module's forward is `work`.
    """
    if not isinstance(wrapped, DistributedDataParallel):
        return work()
    module = wrapped.module
    module.forward = work  # an instance attribute, which hides the class's method until it is deleted
    try:
        return wrapped()
    finally:
        del module.forward
