"""Where the time of `make reproduce` goes: every stage, and the sections of its notebook that take longest."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat

from medalign_lite.files import ROOT, read_json

AROUND = "kernel and page"  # what a stage takes beside its cells


def stages(models: Path, *, preset: str) -> dict:
    """Seconds of every stage of a run from nothing, by section; `models` is not used, as in every row."""
    with TemporaryDirectory() as out:
        command = [sys.executable, "-m", "medalign_lite", "reproduce", f"PRESET={preset}", f"OUT={out}"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        notebooks = next(Path(out).glob("*/notebooks"))
        record = read_json(notebooks / ".runs.json")
        return {"stages": {name: {"seconds": entry["seconds"],
                                  "sections": sections(notebooks / f"{name}.ipynb", entry["seconds"])}
                           for name, entry in sorted(record.items())}}  # fmt: skip


def sections(executed: Path, seconds: float) -> dict[str, float]:
    """Seconds by the heading that stands above the cells, longest first."""
    spent, heading = Counter(), ""
    for cell in nbformat.read(executed, as_version=4).cells:
        if cell.cell_type == "markdown":
            heads = [line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")]
            heading = heads[-1] if heads else heading
        else:
            spent[heading] += cell.metadata.get("papermill", {}).get("duration") or 0.0
    spent[AROUND] = max(0.0, seconds - sum(spent.values()))
    return dict(spent.most_common())
