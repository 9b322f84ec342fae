"""What a training run tells: log.jsonl and the figures in it."""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from medalign_lite.files import write_jsonl
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
        """All whole lines; a kill may have cut the last one."""
        lines = self.path.read_text(encoding="utf-8").split("\n") if self.path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`: the resumed run logs it again."""
        if self.writes:
            write_jsonl(self.path, [row for row in self.rows() if row["step"] <= step])


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
