"""`make perf`: measure everything, write OUT/perf/perf.json, docs/PERFORMANCE.md (with a GPU docs/PERFORMANCE_GPU.md)
and its chart.

Every row runs in a process of its own and is kept in OUT/perf/rows as soon as it is there: a run that was stopped goes
on from the next row, as long as code and machine are the same. `--quick` tries every row on a scale that says nothing.
"""

import argparse
import importlib.metadata
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch

from benchmarks import page, real_size, rows
from benchmarks.child import run_child
from medalign_lite.files import ROOT, digest, read_json, tree, write_json
from medalign_lite.run.provenance import versions

EPOCHS = 3  # over which the cost of filling the caches is spread
AXES = {"image tokens": (64, 144, 256, 400), "answer tokens": (16, 48, 96, 160),
        "vocabulary": (8_192, 32_768, 98_304, 151_936), "batch": (1, 2, 4, 8)}


@dataclass(frozen=True)
class Row:
    """One measurement: its name, the function, what it is called with, and about how many seconds it takes."""

    name: str
    work: Callable[..., dict]
    seconds: float
    arguments: dict = field(default_factory=dict)


def plan(*, quick: bool) -> list[Row]:
    """All rows in order; the quick ones run the small world in place of the mid-size one, once. On a GPU the rows that
    are about the CPU are left out, and models at their real size come in."""
    cores, found, on_gpu = rows.CORES, [], torch.cuda.is_available()
    big, batch, few, many = ("small", 2, 1, 2) if quick else ("mid", 4, 3, 8)
    for threads in [1] if on_gpu else sorted({1, cores}):
        options = {"world": "embedded", "batch": 2 if quick else 8, "rounds": many, "threads": threads, "warm": 1}
        found.append(Row(f"embedded against TRL, {threads} threads", rows.against_trl, 40, options))
    found.append(Row("embedded against naive", rows.against_naive, 30, options | {"threads": 1, "rounds": few}))
    scale = {"world": big, "batch": batch, "threads": cores}
    found.append(Row("mid against TRL", rows.against_trl, 280, scale | {"rounds": few, "warm": 0}))
    found.append(Row("mid against naive", rows.against_naive, 260, scale | {"rounds": max(1, few - 1), "warm": 0}))
    for world, where in (("embedded", options | {"threads": 1}), ("mid", scale)):
        where = {name: where[name] for name in ("world", "batch", "threads")}
        for method in ("trl", "trl, recomputing", "dpo", "fire-mpo"):
            seconds = 12 if world == "embedded" else 95 if "trl" in method else 25
            found.append(Row(f"{world} memory of {method}", rows.memory, seconds, where | {"method": method}))
    for axis, numbers in (AXES if not on_gpu else {}).items():
        for number in numbers[:2] if quick else numbers:
            found.append(Row(f"growth by {axis}, {number}", rows.growth, 12,
                             {"axis": axis, "number": number, "steps": few, "threads": cores}))
    found.append(Row("matmul share", rows.matmul_share, 30, scale | {"rounds": few}))
    found.append(Row("nf4 against dense", rows.four_bit, 30, {"batch": options["batch"], "rounds": many}))
    found.append(Row("rollouts", rows.rollouts, 60, {
        "prompts": 4 if quick else 64, "rounds": few, "tokens": 8 if quick else 96, "threads": 1}))
    if not on_gpu:
        found.append(Row("rendering", rows.rendering, 20, {"images": 4 if quick else 64, "rounds": few}))
        found += [] if quick else [Row("stages", rows.stages, 240, {"preset": "ci"})]
    if on_gpu or quick:
        for name in real_size.NAMES[:1] if quick else real_size.NAMES:
            for shape, (micro, passes) in real_size.SHAPES.items():
                numbers = {"name": name, "micro": micro, "passes": passes, "steps": few, "shrunk": quick}
                found.append(Row(f"{name}, {shape}", real_size.real_size, 90, numbers))
    return found


def machine() -> dict:
    """What the figures were measured on."""
    told = "".join(place.read_text() for place in map(Path, ("/proc/cpuinfo", "/proc/meminfo")) if place.exists())
    name = re.search(r"^model name\s*: *(.*)$", told, re.MULTILINE)
    name = name[1].strip() if name else platform.processor() or platform.machine()
    memory = re.search(r"^MemTotal: *(\d+)", told, re.MULTILINE)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": name, "cores": rows.CORES, "memory_gb": memory and round(int(memory[1]) / 2**20), "gpu": gpu}


def measure(folder: Path, wanted: Sequence[Row]) -> dict[str, dict]:
    """Every row's numbers; rows that are kept from a run of the same code on the same machine are not run again."""
    source = {name: tree(ROOT / name) for name in ("medalign_lite", "benchmarks")}
    found, started, total = {}, time.monotonic(), sum(row.seconds for row in wanted)
    done = 0.0
    for n, row in enumerate(wanted, start=1):
        path = folder / "rows" / f"{row.name.replace(' ', '-').replace(',', '')}.json"
        key = digest([row.name, row.arguments, source, machine(), versions()])
        kept = read_json(path) if path.exists() else {}
        if kept.get("key") != key:
            gone = time.monotonic() - started
            left = (total - done) * (gone / done if done and gone > 20 else 1.0)
            print(f"{n} of {len(wanted)}: {row.name} · {gone:.0f} s gone, about {left:.0f} s left", flush=True)
            kept = {"key": key, "found": run_child(row.work, models=folder / "models", **row.arguments)}
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, kept)
            done += row.seconds
        else:
            total -= row.seconds
        found[row.name] = kept["found"]
    return found


def summarise(found: dict[str, dict]) -> dict:
    """perf.json: the ratios, each with its value (the median) and its samples, and every row that they come from."""
    embedded = [numbers for name, numbers in found.items() if name.startswith("embedded against TRL")]
    quickest = {name: min(embedded, key=lambda numbers, name=name: median(numbers[name]))
                for name in ("dpo", "trl", "fire-mpo")}
    nf4, share, spoken = found["nf4 against dense"], found["matmul share"], found["rollouts"]
    mid = dict.fromkeys(quickest, found["mid against TRL"])
    return {
        "embedded": _against(quickest, found, "embedded"),
        "mid": _against(mid, found, "mid"),
        "rollout_speedup": _ratio(spoken["batched"], spoken["one by one"]),
        "nf4_over_dense": _ratio(nf4["nf4"], nf4["dense"]),
        "matmul_share": _ratio(share["step"], [max(share["machine"])] * len(share["step"])),
        "epochs": EPOCHS,
        "machine": machine(),
        "versions": versions() | {"trl": importlib.metadata.version("trl")},
        "rows": found,
    }


def _against(best: dict[str, dict], found: dict[str, dict], world: str) -> dict:
    """The ratios of one world; `best` holds, for each method, the row in which it was quickest."""
    trl = best["trl"]["trl"]
    dpo = [seconds + best["dpo"]["fill"] / EPOCHS for seconds in best["dpo"]["dpo"]]
    fire = [seconds + best["fire-mpo"]["fire_fill"] / EPOCHS for seconds in best["fire-mpo"]["fire-mpo"]]
    naive = found[f"{world} against naive"]
    ours = [seconds + naive["fire_fill"] / EPOCHS for seconds in naive["fire-mpo"]]
    peaks = {method: found[f"{world} memory of {method}"]["mb"] for method in ("dpo", "trl")}
    losses = best["trl"]["losses"]
    differences = [abs(a - b) for a, b in zip(losses["dpo"], losses["trl"], strict=True)]
    return {
        "dpo_speedup_vs_trl": _ratio(trl, dpo),
        "dpo_memory_ratio_vs_trl": {"value": peaks["dpo"] / peaks["trl"], "samples": [peaks["dpo"] / peaks["trl"]]},
        "dpo_loss_difference_vs_trl": {"value": max(differences), "samples": differences},
        "fire_mpo_speedup_vs_naive": _ratio(naive["naive"], ours),
        "fire_mpo_step_over_trl_dpo_step": _ratio(fire, trl),
        "seconds": {"dpo": median(dpo), "trl": median(trl), "fire-mpo": median(fire)},
    }


def _ratio(over: Sequence[float], under: Sequence[float]) -> dict:
    """Ratio of the medians, and round by round."""
    return {"value": median(over) / median(under), "samples": [a / b for a, b in zip(over, under, strict=True)]}


def main(arguments: Sequence[str]) -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perf", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("artifacts"), help="the folder that perf/ is made in")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where the page and its chart go")
    parser.add_argument("--quick", action="store_true", help="every row on a scale that says nothing; no page")
    options = parser.parse_args(arguments)
    os.environ["MEDALIGN_HEADLESS"] = "1"
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    folder = (ROOT / options.out).resolve() / ("perf-quick" if options.quick else "perf")
    found = summarise(measure(folder, plan(quick=options.quick)))
    write_json(folder / "perf.json", found)
    where = folder if options.quick else options.docs
    print(f"{folder / 'perf.json'}\n{page.write(found, where)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
