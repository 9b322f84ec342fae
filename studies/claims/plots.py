"""Figures of the claims, each drawn from what claims.json holds and on an axis that is handed in."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medalign_lite.show import figures
from medalign_lite.show.figures import ALIGNED, BASE, CHOSEN, CONTROL, REJECTED, series_style
from studies.claims.lineup import CONTROLS, FACTORS, MIRRORS, OWN
from studies.claims.screening import Trial, expected_best
from studies.claims.verdicts import Estimate

LOOKS = {  # colour, shape and what is inside it
    "supported": (CHOSEN, "^", CHOSEN), "refuted": (REJECTED, "v", REJECTED), "inconclusive": (BASE, "o", BASE),
    "under way": (BASE, "o", "white"),
}  # else: no effect
FAMILIES = {  # colour and shape by what an arm is
    "base": (BASE, "X", "the model itself"), "fire-mpo": (REJECTED, "^", "the paper's method and its controls"),
    "factor": (ALIGNED, "D", "the best of a factor's level"), "other": (CONTROL, "o", "other published methods"),
    "ours": (CHOSEN, "s", "the kit's own"),
}  # fmt: skip
PAGE = {"dpi": 110, "bbox_inches": "tight", "metadata": {"Software": None}}


def by_metric(claims: Sequence[Mapping]) -> dict[str, list[Mapping]]:
    """{metric: the claims about it that have an estimate}."""
    shown = [claim for claim in claims if claim["estimate"] is not None]
    return {name: [claim for claim in shown if claim["metric"] == name]
            for name in dict.fromkeys(claim["metric"] for claim in shown)}


def forests(axes: Sequence[Axes], claims: Sequence[Mapping]) -> None:
    """`forest` of each metric, side by side."""
    for ax, (name, some) in zip(np.ravel(axes), by_metric(claims).items(), strict=True):
        forest(ax, some, title=f"difference in {spoken(name)}")


def forest_sheet(claims: Sequence[Mapping]) -> dict:
    """How large a figure of `forests` has to be, as `saved` takes it."""
    groups = by_metric(claims)
    return {"columns": len(groups), "size": (5.0 * len(groups), 1.2 + 0.36 * max(map(len, groups.values())))}


def sheet_of(claims: Sequence[Mapping]) -> Figure:
    """The same as a figure of its own."""
    figure = Figure(figsize=(5 * len(by_metric(claims)), 4), layout="constrained")
    forests(figure.subplots(1, len(by_metric(claims))), claims)
    return figure


def rows_of(claims: Sequence[Mapping]) -> dict[str, dict]:
    """{claim: its verdict, difference and statement}, for `tables.table`."""
    return {claim["id"]: {"verdict": claim["verdict"], "difference": {
        "value": claim["estimate"], "low": claim["low"], "high": claim["high"]}, "claim": claim["statement"]}
        for claim in claims}


def chances(ax: Axes, values: Sequence[float], estimate: Estimate) -> Axes:
    """One estimate: each seed's value, the interval that drawing images alone gives, and that of seeds and images."""
    ax.plot(values, np.zeros_like(values), "o", color=ALIGNED)
    for y, ends in enumerate([estimate.sampling, (estimate.low, estimate.high)], start=1):
        ax.plot(ends, [y, y], lw=3, color=BASE)
    ax.axvline(0, color="black", lw=0.8)
    ax.set_yticks([0, 1, 2], ["each seed", "images alone", "seeds and images"])
    ax.set(ylim=(-0.5, 2.5), xlabel=f"{estimate.contrast.says} in {spoken(estimate.contrast.metric)}")
    return _plain(ax)


def forest(ax: Axes, claims: Sequence[Mapping], *, title: str = "") -> Axes:
    """The claims of one metric: estimate and 95 % interval, shape and colour by verdict; right of 0 it holds, and
    inside the band an effect does not matter."""
    shown = [claim for claim in claims if claim["estimate"] is not None]
    for y, claim in enumerate(shown):
        colour, shape, inside = LOOKS.get(claim["verdict"], (CONTROL, "s", CONTROL))
        ax.plot([claim["low"], claim["high"]], [y, y], color=colour, lw=2, solid_capstyle="butt")
        ax.plot(claim["estimate"], y, shape, color=colour, ms=7, mfc=inside)
    ax.axvline(0, color="black", lw=0.8)
    for claim in shown[:1]:
        ax.axvspan(-claim["matters"], claim["matters"], color=CONTROL, alpha=0.12, lw=0)
    ax.set_yticks(range(len(shown)), [f"{claim['id']}  {claim['verdict']}" for claim in shown])
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.locator_params(axis="x", nbins=5)
    ax.set_title(title, fontsize=10, loc="left")
    return _plain(ax)


def trade_off(
    ax: Axes, arms: Mapping[str, Mapping], *, x: str = "kl_to_reference", y: str = "fact_f1", split: str = "test"
) -> Axes:
    """Every arm in two metrics, both with their intervals: what is gained against how far the model has moved."""
    drawn, points = set(), []
    for name, arm in arms.items():
        across, up = arm[split][x], arm[split][y]
        if across["value"] is None or up["value"] is None:
            continue
        family = ("base" if name == "base" else "fire-mpo" if name in CONTROLS or name.startswith("fire-mpo") else
                  "factor" if "=" in name or name == "best" else "ours" if name in (*OWN, *MIRRORS) else "other")
        colour, shape, label = FAMILIES[family]
        bars = [[[point["value"] - point["low"]], [point["high"] - point["value"]]] if point["low"] is not None
                and len(arm["seeds"]) > 1 else None for point in (across, up)]
        ax.errorbar(across["value"], up["value"], xerr=bars[0], yerr=bars[1], fmt=shape, color=colour, ms=5, lw=0.8,
                    alpha=0.85, label=None if family in drawn else label)
        points.append((up["value"], across["value"], name))
        drawn.add(family)
    _name_beside(ax, points)
    ax.set(xlabel=spoken(x), ylabel=f"{spoken(y)} ({split})")
    if drawn:
        ax.legend(frameon=False, fontsize=8, ncols=2, loc="upper left", bbox_to_anchor=(0, -0.1))
    return _plain(ax)


def factor(ax: Axes, trials: Sequence[Trial], name: str) -> Axes:
    """Every setting's fact F1 by its level of a factor; a bar where the best of as many at each level is expected."""
    alive = [(dict(t.levels).get(name), t.figures["fact_f1"]) for t in trials if t.figures["fact_f1"] is not None]
    by_level = {level: [value for at, value in alive if at == level] for level in FACTORS[name]}
    fewest = min(map(len, by_level.values()))
    for n, values in enumerate(by_level.values()):
        spread = np.linspace(-0.22, 0.22, len(values)) if values else []
        ax.plot(n + np.asarray(spread), values, "o", ms=3.5, alpha=0.6, color=CONTROL, mew=0, zorder=3)
        if fewest:
            ax.plot([n - 0.32, n + 0.32], [expected_best(values, fewest)] * 2, color=ALIGNED, lw=1.5)
    ax.set_xticks(range(len(by_level)), list(by_level))
    ax.set_title(f"{name}: best of {fewest}", fontsize=10, loc="left")
    return _plain(ax)


def over_number(ax: Axes, trials: Mapping[str, Sequence[Trial]], number: str, *, metric: str = "fact_f1") -> Axes:
    """{method: its trials}: a metric over one of the numbers, on a logarithmic axis."""
    for n, (name, own) in enumerate(trials.items()):
        points = sorted((t.setting.numbers[number], t.figures[metric]) for t in own if t.figures[metric] is not None)
        ax.plot(*zip(*points, strict=True), "o^sv"[n], label=name, color=series_style(n)["color"], ms=5)
    ax.set(xscale="log", xlabel=number.replace("_", " "), ylabel=spoken(metric))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")  # powers are written as formulae, which are not drawn
    ax.legend(frameon=False, fontsize=8)
    return _plain(ax)


def spoken(metric: str) -> str:
    """A metric's name in words, with its unit where it has one."""
    return {
        "kl_to_reference": "KL to the base, nats a token", "right_answer_fall": "fall of p(right answer)",
        "grounding_selectivity": "selectivity, nats (decides nothing)",
    }.get(metric) or figures.spoken(metric)  # fmt: skip


@contextmanager
def saved(path: Path, *, size: tuple[float, float], columns: int = 1, rows: int = 1) -> Iterator[list[Axes]]:
    """Fresh axes, row by row, that are a PNG when the block ends."""
    figure = Figure(figsize=size, layout="constrained")
    yield figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, **PAGE)


def _name_beside(ax: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Names of points (y, x, name) in a column right of the axes, in their order and apart, a thin line to each."""
    low, high = ax.get_ylim()
    spots, gap = sorted((y - low) / (high - low) for y, *_ in points), min(0.036, 1 / max(len(points), 1))
    for n in range(1, len(spots)):
        spots[n] = max(spots[n], spots[n - 1] + gap)
    spots = [min(spot, 1 - (len(spots) - 1 - n) * gap) for n, spot in enumerate(spots)]
    for (y, x, name), spot in zip(sorted(points), spots, strict=True):
        line = {"arrowstyle": "-", "lw": 0.4, "color": "#9AA3AB", "shrinkA": 1, "shrinkB": 3}
        ax.annotate(name, (x, y), xytext=(1.03, spot), textcoords="axes fraction", va="center", fontsize=6.5,
                    arrowprops=line)


def _plain(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, lw=0.5)
    return ax
