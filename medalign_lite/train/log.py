"""What a training run tells: log.jsonl, its figures, TensorBoard's events, and a progress bar with the time left."""

import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from medalign_lite.files import PLAIN_BAR
from medalign_lite.losses.objective import Losses


class Book:
    """log.jsonl: one line per optimizer step or validation. Seconds are of this process since it was opened.

    `writes` False makes a reader of it: of several processes, one writes.
    """

    def __init__(self, path: Path, *, writes: bool = True):
        self.path, self.writes, self.opened = path, writes, time.monotonic()

    def write(self, row: dict) -> None:
        """Append one line at once."""
        if not self.writes:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row | {"seconds": round(time.monotonic() - self.opened, 3)}) + "\n")

    def rows(self) -> list[dict]:
        """All whole lines."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`: the resumed run logs it again."""
        if not self.writes:
            return
        kept = [row for row in self.rows() if row["step"] <= step]
        self.path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")


def summary(batches: Sequence[Losses]) -> dict[str, float]:
    """Means over records of loss, parts and margins; `accuracy` P[m(v) > 0] and `gs` m(v°) - m(v') where both exist.

    A figure that no record has is left out.
    """
    columns = {name: torch.cat([batch.parts[name] for batch in batches]) for name in batches[0].parts}
    columns["loss"] = torch.cat([batch.loss.detach() for batch in batches])
    if "margin" in columns:
        columns["accuracy"] = (columns["margin"] > 0).float()
    if "margin_lesion" in columns and "margin_control" in columns:
        columns["gs"] = columns["margin_control"] - columns["margin_lesion"]
    means = {name: column.double().nanmean().item() for name, column in columns.items()}
    return {name: value for name, value in means.items() if not math.isnan(value)}


def event_writer(folder: Path, *, step: int) -> SummaryWriter:
    """TensorBoard's event files for the Trainer's callback: a run that goes on after `step` hides what came later, one
    that starts at 0 replaces the files of the run before."""
    for old in Path(folder).glob("events.out.tfevents.*") if not step else ():
        old.unlink()
    return SummaryWriter(str(folder), purge_step=step + 1)


def progress_bar(name: str, total: int, shown: bool) -> tqdm:
    """A progress bar with the time left, as plain lines where MEDALIGN_HEADLESS=1."""
    if os.environ.get("MEDALIGN_HEADLESS") == "1":
        return tqdm(total=total, desc=name, disable=not shown, bar_format=PLAIN_BAR, mininterval=10, ascii=True)
    return tqdm(total=total, desc=name, disable=not shown)
