"""Train LoRA adapters on the language model with the objective, on transformers' Trainer.

The Trainer keeps what it is good at: sampling, accumulation, clipping, optimizer, schedule, checkpoints, resuming.
Ours is the loss (`compute_loss`), the count that it is divided by, validation, the log, and the guards. The same code
runs in one process and, under `accelerate launch`, in several (`settings.py`).

    python -m medalign_lite train
"""

import json
import math
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_callback import PrinterCallback

from medalign_lite.files import bar, claim, file_sha256, peak_mb, write_jsonl
from medalign_lite.losses.objective import Losses, margins, objective
from medalign_lite.losses.recipes import RECIPES
from medalign_lite.model.lvlm import Lvlm, attach_lora, load_adapter, recompute_layers, save_adapter
from medalign_lite.train.pairs import Pair, PairInputs
from medalign_lite.train.reference import ReferenceCache
from medalign_lite.train.scoring import ALL_SIDES, check_head, rows_of, score
from medalign_lite.train.settings import ShareSampler, TrainSettings, refuse_sharding, run_inside, trainer_arguments

REPORTERS = ("none", "tensorboard", "wandb", "trackio")  # what the Trainer can tell its figures to, if installed


class TrainingDiverged(RuntimeError):
    """A loss or gradient is not finite, or beyond the limit; the message names the batch's records."""


class NothingLearnt(RuntimeError):
    """The adapters are at the end what they were at the start."""


@dataclass(frozen=True)
class TrainResult:
    """`lvlm` carries the trained adapters; `folder` holds them with log.jsonl and settings.json."""

    lvlm: Lvlm
    folder: Path
    log: list[dict]
    steps: int
    seconds: float
    best_step: int | None


def train(
    lvlm: Lvlm, pairs: Sequence[Pair], settings: TrainSettings, *, folder: Path, work: Path,
    validation: Sequence[Pair] = (), inputs: PairInputs | None = None, reference_folder: Path | None = None,
    start: Path | None = None, report_to: str = "none", progress: bool = True,
) -> TrainResult:
    """Train adapters on `pairs`; write adapter (PEFT's format), log.jsonl and settings.json to `folder`.

    `work` keeps checkpoints and the log while the run lasts: called again after a kill, the run goes on from there and
    ends with the same weights bit for bit. `reference_folder` (default inside `work`) keeps reference values and can be
    shared between recipes, as can `inputs`. `start` is a folder of adapters to go on from, in place of fresh ones; the
    reference stays the model without any. `report_to` is one of REPORTERS. `lvlm` carries no adapters; its layers are
    wrapped in place (`lvlm.model.unload()` of the result's model gives the base back).
    Raises ValueError for repeated ids, a `start` of another shape, a `work` folder of another run, FSDP or a reporter
    that is not there, TrainingDiverged naming the records, NothingLearnt, and ReferenceMismatch."""
    refuse_sharding()
    started, work, folder = time.monotonic(), Path(work), Path(folder)
    _check_pairs(pairs, validation, settings)
    _check_reporter(report_to)
    arguments = trainer_arguments(
        settings, work / "checkpoints", on_cpu=lvlm.device.type == "cpu", validated=bool(validation),
        pairs=len(pairs), report_to=report_to,
    )  # fmt: skip
    with arguments.main_process_first(local=False, desc="claiming the folder"):
        claim(work / "settings.json", _made_from(settings, lvlm, pairs, validation, start))
        checkpoint = last_checkpoint(work / "checkpoints")
    policy = _policy(lvlm, settings, start)
    before = _sums(policy)
    recompute_layers(policy.model, settings.recompute)
    inputs = inputs or PairInputs(policy, feature_bytes=settings.feature_mb * 2**20)
    cache = ReferenceCache(policy, inputs, reference_folder or work / "reference")
    progress = progress and arguments.should_save  # the main process alone
    with arguments.main_process_first(local=False, desc="filling the reference cache"):  # the others read its files
        _fill(cache, pairs, validation, settings, progress=progress)
    trainer = PairTrainer(policy, pairs, validation, settings, arguments=arguments, inputs=inputs, reference=cache,
                          work=work, progress=progress)
    trainer.book.rewind(_step_of(checkpoint))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    policy.model.eval()
    if _sums(policy) == before:
        raise NothingLearnt(f"after {trainer.state.global_step} steps the adapters are what they were: the learning "
                            f"rate {settings.learning_rate:g} moved nothing, or every gradient was 0; give more steps, "
                            "or a larger rate")
    if arguments.should_save:
        folder.mkdir(parents=True, exist_ok=True)
        save_adapter(policy, folder)
        for name in ("log.jsonl", "settings.json"):  # the settings last
            shutil.copyfile(work / name, folder / name)
    best = trainer.state.best_global_step if settings.select != "last" else None
    return TrainResult(policy, folder, trainer.book.rows(), trainer.state.global_step, time.monotonic() - started, best)


class PairTrainer(Trainer):
    """transformers' Trainer on preference pairs: its loss, its denominator, its validation and its log are ours."""

    loss_is_scaled_for_ga = True  # compute_loss divides by the records of the whole optimizer step

    def __init__(self, policy: Lvlm, pairs, validation, settings: TrainSettings, *, arguments: TrainingArguments,
                 inputs, reference, work: Path, progress: bool):
        self.settings, self.recipe = settings, settings.resolved_recipe()
        self.inputs, self.reference, self.validation = inputs, reference, validation
        self.book = Book(Path(work) / "log.jsonl", writes=arguments.should_save)
        self.step_losses, self.batch_ids = [], []
        super().__init__(
            model=policy.model, args=arguments, train_dataset=list(pairs), eval_dataset=list(validation) or None,
            data_collator=_collate, callbacks=[Watch(self, progress=progress)],
        )
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self):
        """This process's share of each step."""
        sampler = ShareSampler(
            len(self.train_dataset), size=self.args.per_device_train_batch_size, rank=self.args.process_index,
            processes=self.args.world_size, seed=self.settings.seed,
        )
        loader = DataLoader(self.train_dataset, batch_sampler=sampler, collate_fn=_collate)
        loader.set_epoch = sampler.set_epoch  # the Trainer tells whoever can be told
        return loader

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Σ of the batch's per-record losses, divided by the records of the whole step: accumulation = big batch. DDP
        averages gradients over processes; times their number that is the sum."""
        model.eval()  # no dropout anywhere, whatever the family's configuration says; gradients flow all the same
        total = run_inside(model, lambda: self._batch_loss(inputs["pairs"]))
        return total * self.args.world_size / num_items_in_batch

    def _batch_loss(self, pairs: Sequence[Pair]) -> torch.Tensor:
        if not pairs:  # a process without records adds 0 to a step, of every parameter: DDP waits for each
            return 0.0 * sum(parameter.sum() for parameter in self.model.parameters() if parameter.requires_grad)
        source = self.reference if self.recipe.reference else None
        losses = objective(score(self.model, self.inputs, pairs, self.recipe.sides(), reference=source), self.recipe)
        values, limit = losses.loss.tolist(), self.settings.stop_above
        if wrong := [f"{pair.id} ({value:.4g})" for pair, value in zip(pairs, values, strict=True)
                     if not abs(value) <= limit]:  # NaN compares false
            raise TrainingDiverged(f"step {self.state.global_step + 1}: the loss is not finite or above {limit:g} for "
                                   f"{', '.join(wrong)}; look at these records, or lower learning_rate")
        self.step_losses.append(_kept(losses))
        self.batch_ids += [pair.id for pair in pairs]
        return losses.loss.sum()

    def _get_num_items_in_batch(self, batch_samples, device):
        mine = torch.tensor(sum(len(batch["pairs"]) for batch in batch_samples), device=device)
        return self.accelerator.reduce(mine, reduction="sum")

    def floating_point_ops(self, inputs):
        """Not counted."""
        return 0

    @torch.no_grad()
    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """Mean loss, margins, accuracy and KL on the validation pairs, every image looked at."""
        self.model.eval()
        # the span margin where the recipe compares nothing
        watched = self.recipe if self.recipe.reference else RECIPES["mask-dpo"]
        found, size, sides = [], self.settings.eval_batch_size, ALL_SIDES | self.recipe.sides()
        starts = range(0, len(self.validation), size)
        for start in starts[self.args.process_index :: self.args.world_size]:
            pairs = self.validation[start : start + size]
            terms = score(self.model, self.inputs, pairs, sides, reference=self.reference)
            losses = objective(terms, self.recipe)
            found.append(_kept(Losses(losses.loss, losses.parts | margins(terms, watched))))
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in summary(gather_object(found)).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs, start_time=None):
        """Add the step's own figures, and write one line of log.jsonl."""
        if "loss" in logs and "train_runtime" not in logs:
            logs |= summary(gather_object(self.step_losses))
            self.step_losses, self.batch_ids = [], []
        super().log(logs, start_time)
        if "train_runtime" not in logs:
            self.book.write({"step": self.state.global_step, **logs, "peak_mb": round(peak_mb())})


class Watch(TrainerCallback):
    """Stops before an update with a gradient that is not finite; shows progress with the time left."""

    def __init__(self, trainer: PairTrainer, *, progress: bool):
        self.trainer, self.shown, self.bar = trainer, progress, None

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = bar(f"train {self.trainer.settings.recipe}", state.max_steps, shown=self.shown, unit="step")
        self.bar.update(state.global_step)

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if not all(torch.isfinite(gradient).all() for gradient in gradients):
            named = ", ".join(gather_object(self.trainer.batch_ids))  # gradients are shared: every process is here
            raise TrainingDiverged(f"step {state.global_step + 1}: a gradient is not finite; the batch was {named}")

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(1)

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()


class Book:
    """log.jsonl: one line per optimizer step or validation. Seconds are of this process since it was opened. `writes`
    False makes a reader of it: of several processes, one writes."""

    def __init__(self, path: Path, *, writes: bool = True):
        self.path, self.writes, self.opened = path, writes, time.monotonic()

    def write(self, row: dict) -> None:
        """Append one line at once."""
        if not self.writes:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row | {"seconds": round(time.monotonic() - self.opened, 3)}) + "\n")

    def rows(self) -> list[dict]:
        """All whole lines; a kill may have cut the last one."""
        lines = self.path.read_text(encoding="utf-8").split("\n") if self.path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`: the resumed run logs it again."""
        if self.writes:
            write_jsonl(self.path, [row for row in self.rows() if row["step"] <= step])


def summary(batches: Sequence[Losses]) -> dict[str, float]:
    """Means over records of loss, parts and margins; `accuracy` P[m(v) > 0] and `gs` m(v°) - m(v') where both exist. A
    figure that no record has is left out."""
    columns = {name: torch.cat([batch.parts[name] for batch in batches]) for name in batches[0].parts}
    columns["loss"] = torch.cat([batch.loss.detach() for batch in batches])
    if "margin" in columns:
        columns["accuracy"] = (columns["margin"] > 0).float()
    if "margin_lesion" in columns and "margin_control" in columns:
        columns["gs"] = columns["margin_control"] - columns["margin_lesion"]
    means = {name: column.double().nanmean().item() for name, column in columns.items()}
    return {name: value for name, value in means.items() if not math.isnan(value)}


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end: the Trainer writes trainer_state.json last."""
    for path in sorted(folder.glob("checkpoint-*"), key=_step_of, reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path)
        else:
            return path
    return None


def _step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0


def _collate(pairs: list[Pair]) -> dict:
    return {"pairs": pairs}


def _kept(losses: Losses) -> Losses:
    """The numbers alone, for the log."""
    return Losses(losses.loss.detach().cpu(), {name: part.detach().cpu() for name, part in losses.parts.items()})


def _policy(lvlm: Lvlm, settings: TrainSettings, start: Path | None) -> Lvlm:
    """Fresh adapters, or those of `start`, which must have the shape that the settings ask for."""
    if start is None:
        return attach_lora(lvlm, rank=settings.rank, alpha=settings.alpha, rslora=settings.rslora, seed=settings.seed)
    policy = load_adapter(lvlm, start, trainable=True)
    found = policy.model.peft_config["default"]
    if (found.r, found.lora_alpha, found.use_rslora) != (settings.rank, settings.alpha, settings.rslora):
        raise ValueError(f"{start} has rank {found.r}, alpha {found.lora_alpha}, rslora {found.use_rslora}; the "
                         f"settings ask for {settings.rank}, {settings.alpha}, {settings.rslora}")
    return policy


def _fill(cache: ReferenceCache, pairs, validation, settings: TrainSettings, *, progress: bool) -> None:
    """Features and reference values of every row that the run will read, made in an order of their own."""
    recipe = settings.resolved_recipe()
    jobs = [(pairs, recipe.sides(), "train"), (validation, ALL_SIDES | recipe.sides(), "validation")]
    check_head(cache.lvlm, cache.inputs.sequences([rows_of(pairs[:1], recipe.sides())[0][1]]))
    with bar("reference", sum(len(rows_of(some, sides)) for some, sides, _ in jobs), shown=progress) as done:
        for some, sides, name in jobs:
            cache.inputs.warm(some, images=[image for image, _ in sides])
            if recipe.reference or name == "validation":
                cache.fill(some, sides, name=name, batch_size=settings.eval_batch_size, progress=done.update)


def _check_pairs(pairs: Sequence[Pair], validation: Sequence[Pair], settings: TrainSettings) -> None:
    ids = Counter(pair.id for pair in (*pairs, *validation))
    repeated = sorted(name for name, count in ids.items() if count > 1)
    if not pairs or repeated:
        raise ValueError(f"record ids appear twice: {', '.join(repeated[:5])}" if repeated else "there are no pairs")
    if settings.select != "last" and not validation:
        raise ValueError(f"select={settings.select!r} needs validation pairs")


def _check_reporter(name: str) -> None:
    there = [known for known in REPORTERS if known in ("none", *get_available_reporting_integrations())]
    if name not in there:
        raise ValueError(f"report_to={name!r}: usable here are {', '.join(there)}; others ({', '.join(REPORTERS[1:])}) "
                         f"once they are installed: pip install {name if name in REPORTERS else REPORTERS[1]}")


def _sums(policy: Lvlm) -> list[float]:
    """Two sums of each trained matrix: they differ where the matrix does."""
    return [value for p in policy.model.parameters() if p.requires_grad
            for value in (p.detach().double().sum().item(), p.detach().double().square().sum().item())]


def _made_from(settings: TrainSettings, lvlm: Lvlm, pairs, validation, start: Path | None) -> dict:
    """All that decides the result, beside pictures and words: those are in the reference values' key."""
    return {
        "settings": asdict(settings), "recipe": asdict(settings.resolved_recipe()), "model": lvlm.name,
        "revision": lvlm.revision, "device": lvlm.device.type,
        "start": start and file_sha256(Path(start) / "adapter_model.safetensors"),
        "records": [pair.id for pair in pairs], "validation": [pair.id for pair in validation],
    }
