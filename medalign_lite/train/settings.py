"""Everything that decides a training run beside its model and pairs, and how transformers' Trainer is told.

Settings say what a step is: `batch_size` x `accumulation` records. Under `accelerate launch` processes divide it
between them, so one or four take the same steps on the same records; without a launcher one process takes everything.
"""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Sampler
from transformers import TrainingArguments

from medalign_lite.losses.recipes import Recipe, recipe_named

DAY = 24 * 3600  # seconds that other processes wait for the one that fills the reference cache
SELECT = {"last": None, "loss": False, "margin": True}  # which checkpoint is kept; whether greater is better


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides a run, beside model and pairs. Unknown names and contradictions raise.

    recipe and overrides: `recipe_named(recipe, **overrides)`. batch_size: records per forward, at most; accumulation:
    batches per optimizer step; their product is a step, whatever the number of processes that divide it. max_steps 0
    means whole epochs. warmup: fraction of all steps, the first at learning rate 0, then a cosine to 0; a warm-up that
    would be that one step alone is left out. save_every: optimizer steps between checkpoints. select: `last`, or the
    checkpoint with the best validation `loss` or `margin` (then checkpoints are written at each epoch's end).
    stop_above: a record's loss in nats that counts as divergence. feature_mb: budget for kept image features.
    recompute: `lvlm.recompute_layers`."""

    recipe: str = "fire-mpo"
    overrides: dict = field(default_factory=dict)
    learning_rate: float = 1e-4
    epochs: float = 1.0
    max_steps: int = 0
    batch_size: int = 8
    accumulation: int = 1
    rank: int = 16
    alpha: float = 32.0
    rslora: bool = True
    warmup: float = 0.05
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    seed: int = 7
    save_every: int = 25
    eval_batch_size: int = 16
    select: str = "last"
    stop_above: float = 1e3
    feature_mb: int = 1024
    recompute: bool = False

    def __post_init__(self):
        self.resolved_recipe()
        if self.select not in SELECT:
            raise ValueError(f"select={self.select!r}; allowed: {', '.join(SELECT)}")
        above_zero = ("learning_rate", "epochs", "batch_size", "accumulation", "rank", "alpha", "max_grad_norm",
                      "save_every", "eval_batch_size", "stop_above")
        values = asdict(self)
        wrong = [name for name in above_zero if not values[name] > 0]
        wrong += [name for name in ("max_steps", "weight_decay", "feature_mb") if not values[name] >= 0]
        wrong += [] if 0 <= self.warmup < 1 else ["warmup"]
        if wrong:
            raise ValueError(f"out of range: {', '.join(f'{name}={values[name]!r}' for name in wrong)}")

    def resolved_recipe(self) -> Recipe:
        """The recipe with its overrides. Raises ValueError or TypeError as `recipe_named`."""
        return recipe_named(self.recipe, **self.overrides)


def step_count(settings: TrainSettings, pairs: int) -> int:
    """Optimizer steps of a run that learns from so many pairs."""
    an_epoch = math.ceil(math.ceil(pairs / settings.batch_size) / settings.accumulation)
    return settings.max_steps or math.ceil(settings.epochs * an_epoch)


def trainer_arguments(
    settings: TrainSettings, folder: Path, *, on_cpu: bool, validated: bool, pairs: int, report_to: str = "none"
) -> TrainingArguments:
    """The same settings in the Trainer's words; checkpoints go to `folder`. Raises ValueError as `divide_step`."""
    records, batches = divide_step(
        batch_size=settings.batch_size, accumulation=settings.accumulation, processes=process_count()
    )
    best = settings.select != "last"
    warmup = math.ceil(settings.warmup * step_count(settings, pairs))
    return TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=records, gradient_accumulation_steps=batches,
        num_train_epochs=settings.epochs, max_steps=settings.max_steps or -1, learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine", warmup_steps=warmup if warmup > 1 else 0, max_grad_norm=settings.max_grad_norm,
        weight_decay=settings.weight_decay, seed=settings.seed, data_seed=settings.seed, logging_steps=1,
        logging_nan_inf_filter=False, save_strategy="epoch" if best else "steps", save_steps=settings.save_every,
        save_total_limit=2, eval_strategy="epoch" if validated else "no", load_best_model_at_end=best,
        metric_for_best_model=settings.select if best else None, greater_is_better=SELECT[settings.select],
        use_cpu=on_cpu, dataloader_pin_memory=False, remove_unused_columns=False, label_names=[], report_to=report_to,
        disable_tqdm=True, optim="adamw_torch", ddp_find_unused_parameters=False, ddp_timeout=DAY,
    )


def process_count() -> int:
    """How many processes the launcher started (torchrun's variables, which `accelerate launch` sets too)."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def process_rank() -> int:
    """Number of this process, 0 for the main one."""
    return int(os.environ.get("RANK", "0")) if "LOCAL_RANK" in os.environ else 0


def refuse_sharding() -> None:
    """Raise ValueError where the launcher asks for FSDP, under which body and head cannot be called apart."""
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise ValueError("FSDP is not supported: docs/TRAINING.md says what it needs; launch with DDP (--multi_gpu, no "
                         "--use_fsdp)")


def divide_step(*, batch_size: int, accumulation: int, processes: int) -> tuple[int, int]:
    """(records a forward, forwards a step) of each process, at most `batch_size` records a forward. Raises ValueError
    where the step's records cannot be divided evenly."""
    records = batch_size * accumulation
    if records % processes:
        raise ValueError(f"a step of batch_size x accumulation = {records} records cannot be divided between "
                         f"{processes} processes; give a multiple of {processes}")
    share = records // processes
    forward = max(size for size in range(1, min(batch_size, share) + 1) if share % size == 0)
    return forward, share // forward


class ShareSampler(Sampler[list[int]]):
    """The batches of one process: batch b of process p holds the records at (b x processes + p) x size of the epoch.
    The epoch's order is a permutation by seed + epoch, the one that Accelerate's own sampler draws. Accelerate would
    fill the last step up with records from the start; here it is short, and a process may get an empty batch."""

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
    """work(), as the forward pass of `wrapped` where that is DDP. DDP averages the gradients of what runs inside its
    own forward; ours calls the model's body and head apart. So for the length of one call the wrapped module's forward
    is `work`."""
    if not isinstance(wrapped, DistributedDataParallel):
        return work()
    with patch.object(wrapped.module, "forward", work):  # hides the class's method until the call is over
        return wrapped()
