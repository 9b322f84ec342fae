"""docs/PERFORMANCE.md, or PERFORMANCE_GPU.md, and its chart, from what was measured and nothing else."""

import statistics
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.real_size import NAMES, SHAPES

ENGINE, OTHERS = "#4477aa", "#bbbbbb"
BARS = {  # what was asked for: (world or None, name) -> (at least or at most, number)
    ("mid", "dpo_speedup_vs_trl"): ("≥", 8.0), ("mid", "dpo_memory_ratio_vs_trl"): ("≤", 0.35),
    ("mid", "fire_mpo_step_over_trl_dpo_step"): ("≤", 0.5), ("embedded", "dpo_speedup_vs_trl"): ("≥", 2.0),
    (None, "rollout_speedup"): ("≥", 5.0),
}
RATIOS = {
    "dpo_speedup_vs_trl": "`dpo`, times as fast as TRL",
    "dpo_memory_ratio_vs_trl": "`dpo`, peak memory over TRL's",
    "dpo_loss_difference_vs_trl": "`dpo`, largest difference of losses from TRL's (nats)",
    "fire_mpo_speedup_vs_naive": "`fire-mpo`, times as fast as naive code",
    "fire_mpo_step_over_trl_dpo_step": "`fire-mpo` step over TRL's plain `dpo` step",
    "rollout_speedup": "rollouts, times as fast as `generate` case by case",
    "nf4_over_dense": "`fire-mpo` step in NF4 over dense (embedded)",
    "matmul_share": "share of the machine's product rate that a `dpo` step reaches (mid)",
}
TEXT = """# Performance{on_gpu}

Made by `make perf` on {machine}. {gpu} Do not edit: the next run writes it anew.

Two models: *embedded*, the kit's own, and *mid*, random weights with the vocabulary of Qwen3-VL (151,936), 600 tokens
of image and prompt. Both dense in {precision}, answers of 15 to 100 tokens, {embedded_pairs} and {mid_pairs} pairs a
step, LoRA of rank 16 on the language model. A step is forward, backward and AdamW. The engine's time has the cost of
filling its caches in it, spread over {epochs} epochs. TRL {trl} runs as it is fastest here: no recomputation in the
backward pass, dropout off, the better of one thread and all on the embedded model, batches collated beforehand and not
timed; it cannot keep reference values for images. The wider the vocabulary beside the body of a model, the more the
engine gains: *mid* has more weights in its head than in its layers, a model of some billions has not.

## Ratios

| | model | measured | asked for | rounds |
|---|---|---|---|---|
{ratios}

## Steps

| model | method | seconds a step | pairs a second | peak MB above the loaded model |
|---|---|---|---|---|
{steps}

Peaks are of a process of its own each; the process's peak on CPU, the allocator's on GPU. *recomputing* is TRL with
gradient checkpointing, its default.
{growth}
![Steps against TRL](figures/{chart})

{stages}## The rest

| what | measured |
|---|---|
{rest}
"""
GROWTH = """
## Growth

A `dpo` step of the engine on a small model (width 256, 4 layers, vocabulary 32,768, 144 image tokens, 4 pairs of
32-token answers), one number varied at a time; slopes are least-squares lines through the points.

| varied | points | seconds a step | more seconds for each | peak MB | more MB for each |
|---|---|---|---|---|---|
{rows}
"""
STAGES = """## Stages

Seconds of `make reproduce PRESET=ci` from nothing, {total} in all, and the sections in which they go.
While a notebook is at work the next one's kernel starts: a kernel's time is what was left of it to wait for.

| stage | seconds | the longest parts |
|---|---|---|
{rows}

"""


def write(perf: dict, folder: Path) -> Path:
    """The page in `folder`, which is returned, and its chart in figures beside it."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    path = folder / f"PERFORMANCE{'_GPU' if perf['machine']['gpu'] else ''}.md"
    path.write_text(text(perf), encoding="utf-8")
    figure = chart(perf)
    figure.savefig(folder / "figures" / _chart_name(perf), dpi=110, metadata={"Software": None})
    plt.close(figure)
    return path


def text(perf: dict) -> str:
    """The page."""
    rows, gpu, growth = perf["rows"], perf["machine"]["gpu"], _growth_rows(perf["rows"])
    cpu = "{cpu}, {cores} cores, {memory_gb} GB".format(**perf["machine"])
    return TEXT.format(
        on_gpu=" on a GPU" if gpu else "", machine=f"one {gpu} beside {cpu}" if gpu else cpu,
        gpu="PERFORMANCE.md is of a CPU." if gpu else "Where there is a GPU it writes PERFORMANCE_GPU.md.",
        precision="bf16" if gpu else "fp32", chart=_chart_name(perf),
        embedded_pairs=rows["embedded against naive"]["pairs"], mid_pairs=rows["mid against TRL"]["pairs"],
        epochs=perf["epochs"], trl=perf["versions"]["trl"], ratios=_lines(_ratio_rows(perf)),
        steps=_lines(_step_rows(perf)), growth=GROWTH.format(rows=_lines(growth)) if growth else "",
        rest=_lines(_rest_rows(perf)), stages=_stages(rows["stages"]["stages"]) if "stages" in rows else "",
    )  # fmt: skip


def _chart_name(perf: dict) -> str:
    return f"performance{'_gpu' if perf['machine']['gpu'] else ''}.png"


def chart(perf: dict) -> plt.Figure:
    """Seconds and MB of a step on the left, how they grow on the right."""
    growth = _growth(perf["rows"])
    columns = 1 + len(growth)
    figure, axes = plt.subplots(2, columns, figsize=(3 + 2.4 * columns, 5.2), layout="constrained", squeeze=False)
    lines = [line for line in _step_rows(perf) if line[0] == "mid"]
    for ax, column, unit in ((axes[0, 0], 2, "seconds a step (mid)"), (axes[1, 0], 4, "peak MB above the model (mid)")):
        shown = [line for line in lines if line[column] != "–"]
        names = [line[1].replace("`", "") for line in shown]
        values = [float(line[column].replace(",", "")) for line in shown]
        ax.barh(names, values, color=[ENGINE if "engine" in name else OTHERS for name in names])
        ax.set_xlabel(unit)
        ax.invert_yaxis()
    for (seconds_ax, memory_ax), (axis, points) in zip(axes[:, 1:].T, growth.items(), strict=True):
        numbers, *columns = zip(*points, strict=True)
        for ax, column, unit in zip((seconds_ax, memory_ax), columns, ("seconds a step", "peak MB"), strict=True):
            ax.plot(numbers, column, "o-", color=ENGINE)
            ax.set(xlabel=axis, ylabel=unit, ylim=(0, None), xlim=(0, None))
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def _ratio_rows(perf: dict) -> list[tuple[str, ...]]:
    found = []
    for name, label in RATIOS.items():
        worlds = [(world, perf[world][name]) for world in ("mid", "embedded") if name in perf[world]]
        for world, measured in worlds or [(None, perf[name])]:
            value = measured["value"]
            bar = None if perf["machine"]["gpu"] else BARS.get((world, name))  # asked for of two cores
            met = bar and (value >= bar[1] if bar[0] == "≥" else value <= bar[1])
            asked = f"{bar[0]} {bar[1]:g}, {'met' if met else '**missed**'}" if bar else ""
            rounds = ", ".join(_short(sample) for sample in measured["samples"][:8])
            found.append((label, world or "", f"**{_short(value)}**", asked, rounds))
    return found


def _step_rows(perf: dict) -> list[tuple[str, ...]]:
    found, rows = [], perf["rows"]
    for world in ("mid", "embedded"):
        seconds, naive = perf[world]["seconds"], rows[f"{world} against naive"]
        for label, method, time in (
            ("`dpo`, engine", "dpo", seconds["dpo"]), ("`dpo`, TRL", "trl", seconds["trl"]),
            ("`dpo`, TRL recomputing", "trl, recomputing", None),
            ("`fire-mpo`, engine", "fire-mpo", seconds["fire-mpo"]),
            ("`fire-mpo`, naive", None, statistics.median(naive["naive"])),
        ):
            peak = rows[f"{world} memory of {method}"] if method else {}
            time, shown = time or peak["seconds"], f"{peak['mb']:,.0f}" if method else "–"
            found.append((world, label, f"{time:.2f}", f"{naive['pairs'] / time:.2f}", shown))
    return found


def _growth(rows: dict) -> dict[str, list[tuple[float, float, float]]]:
    """Axis -> (number, seconds, MB) of its points."""
    found: dict[str, list] = {}
    for name, row in rows.items():
        if name.startswith("growth by "):
            axis, number = name.removeprefix("growth by ").split(", ")
            found.setdefault(axis, []).append((int(number), statistics.median(row["seconds"]), row["mb"]))
    return found


def _growth_rows(rows: dict) -> list[tuple[str, ...]]:
    found = []
    for axis, points in _growth(rows).items():
        numbers, seconds, megabytes = (np.array(column, dtype=float) for column in zip(*points, strict=True))
        slopes = [np.polyfit(numbers, column, 1)[0] for column in (seconds, megabytes)]
        found.append((
            axis, ", ".join(f"{n:,.0f}" for n in numbers), ", ".join(_short(s) for s in seconds), _short(slopes[0]),
            ", ".join(f"{m:,.0f}" for m in megabytes), _short(slopes[1]),
        ))
    return found


def _rest_rows(perf: dict) -> list[tuple[str, str]]:
    rows, median = perf["rows"], statistics.median
    spoken, share, weights = rows["rollouts"], rows["matmul share"], rows["nf4 against dense"]
    side, unit = share["side"], "bf16" if perf["machine"]["gpu"] else "fp32"
    found = [
        ("rollout on the embedded model, batched", f"{median(spoken['batched']):,.0f} tokens/s"),
        ("plain `generate`, case by case", f"{median(spoken['one by one']):,.0f} tokens/s"),
        ("products of a `dpo` step (mid)", f"{median(share['step']):,.0f} GFLOP/s"),
        (f"one product of {side} × {side} {unit} matrices, best", f"{max(share['machine']):,.0f} GFLOP/s"),
        ("the embedded model's weights, NF4 and dense", f"{weights['nf4_mb']:.1f} and {weights['dense_mb']:.1f} MB"),
    ]
    if "rendering" in rows:
        rate = median(rows["rendering"]["images_per_second"])
        found.append(("rendering, masks and lesion-free twins too", f"{rate:.1f} images/s"))
    for name in NAMES:  # models at their real size, on a GPU
        for shape in SHAPES:
            if row := rows.get(f"{name}, {shape}"):
                found.append((f"{name} at its real size, random weights, NF4: a `fire-mpo` step of {shape} pairs",
                              f"{median(row['seconds']):.2f} s, {row['gb']:.1f} GB in all; `make doctor` tells "
                              f"{row['told_gb']:.1f} GB"))
    return found


def _stages(found: dict[str, dict]) -> str:
    """Every stage with its three longest sections."""
    rows = [(f"`{name}`", f"{stage['seconds']:.0f}",
             ", ".join(f"{section} {seconds:.0f}" for section, seconds in list(stage["sections"].items())[:3]))
            for name, stage in found.items()]
    minutes, seconds = divmod(int(sum(stage["seconds"] for stage in found.values())), 60)
    return STAGES.format(total=f"{minutes}:{seconds:02d}", rows=_lines(rows))


def _lines(rows: list[tuple[str, ...]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _short(value: float) -> str:
    """Three figures."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
