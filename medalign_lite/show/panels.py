"""Whole figures: each a `Picture`, with a text that says what is to be seen in it, for who cannot see it."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medalign_lite.evaluate.calibration import Reliability
from medalign_lite.evaluate.stats import TEST_SPLITS
from medalign_lite.show import figures

CSS_PX = 88  # of a browser to an inch of a figure


@dataclass(frozen=True)
class Picture:
    """One figure: PNG bytes with a title, a caption, and in `alt` what is to be seen, for who cannot.

    Jupyter shows it with that text (title and caption where there is none); on a narrow page it scrolls sideways.
    """

    title: str
    png: bytes
    caption: str = ""
    alt: str = ""
    inches: float = 0.0

    def __repr__(self) -> str:
        return f"figure: {self.alt or self.title}"

    def _repr_html_(self) -> str:
        said, wide = escape(self.alt or f"{self.title}. {self.caption}"), round(self.inches * CSS_PX)
        size = f"width:{wide}px;max-width:100%;min-width:min({wide}px,36rem);height:auto;background:#fff"
        uri = "data:image/png;base64," + base64.b64encode(self.png).decode()
        return (f'<div role="region" tabindex="0" aria-label="{escape(self.title)}" style="overflow-x:auto">'
                f'<img alt="{said}" src="{uri}" style="{size}"></div>')


def picture(figure: Figure, title: str, caption: str = "", *, alt: str = "", dpi: int = 120) -> Picture:
    """A matplotlib figure as a Picture on white; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return Picture(title, buffer.getvalue(), caption, alt, figure.get_figwidth())


def training(logs: Mapping[str, Sequence[Mapping]]) -> Picture:
    """`training_curves` of loss, margin, grounding selectivity and KL of each recipe's log.jsonl."""
    titles = {"loss": "loss (each recipe has its own terms)", "margin": "margin m(v), β × nats",
              "gs": "grounding selectivity, validation", "kl": "Σ kₜ KL, nats a record (recipes with a KL term)"}
    figure = Figure(figsize=(10, 6.2), layout="constrained")
    axes = figure.subplots(2, 2)
    for ax, (key, title) in zip(axes.flat, titles.items(), strict=True):
        training_curves(ax, logs, key, title=title, smooth=key != "gs")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    told = [f"{name}: " + ", ".join(f"{key} from {seen[0]:.2f} to {seen[-1]:.2f}" for key in titles for seen in [
        [row[key] for row in rows if key in row]] if seen) for name, rows in logs.items()]
    return picture(figure, "Training", "Lines are running means, points validation.", alt="; ".join(told))


def training_curves(
    ax: Axes, logs: Mapping[str, Sequence[Mapping]], key: str, *, title: str = "", width: int = 12, smooth: bool = True
) -> Axes:
    """One recipe a line, from the rows of each log.jsonl: means of `width` steps, and a point for each validation.

    Not `smooth`: the validations alone, from 0 before the first step.
    """
    for i, (name, rows) in enumerate(logs.items()):
        steps = [row for row in rows if "learning_rate" in row and key in row] if smooth else []
        spans = [steps[max(0, n + 1 - width) : n + 1] for n in range(len(steps))]
        style, means = figures.series_style(i), [sum(row[key] for row in span) / len(span) for span in spans]
        ax.plot([row["step"] for row in steps], means, markevery=max(1, len(means) // 8), **style)
        seen = [(row["step"], row[f"eval_{key}"]) for row in rows if f"eval_{key}" in row]
        seen = seen if smooth or not seen else [(0, 0.0), *seen]
        style |= {"marker": "osD^v<>P"[i % 8], "markersize": 5}
        ax.plot([], [], label=name, **style)
        style |= {"linestyle": "none"} if smooth else {}
        ax.plot([x for x, _ in seen], [y for _, y in seen], **style)
    if key != "loss":
        ax.axhline(0, color=figures.FAINT, linewidth=0.8)
    ax.set(title=title, xlabel="optimiser step")
    ax.margins(x=0.02)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def forests(results: Mapping) -> Picture:
    """`forest` and `forest_difference` side by side, a row for each split in which some rate could be measured."""
    base, new = results["base"], results["aligned"]
    known = {split: [name for name in figures.RATES if base[split][name]["value"] is not None] for split in TEST_SPLITS}
    measured = {split: names for split, names in known.items() if names}
    figure = Figure(figsize=(11, 0.6 + 3.9 * max(len(measured), 1)), layout="constrained")
    for (left, right), (split, names) in zip(_panels(figure, len(measured), 2), measured.items(), strict=True):
        figures.forest(left, results, split, names)
        figures.forest_difference(right, results, split, names).set_yticklabels([])
    told = []
    for split, names in measured.items():
        values = {name: (base[split][name]["value"], new[split][name]["value"]) for name in names}
        told.append("; ".join([split, *(f"{figures.spoken(name)} {was:.2f} to {now:.2f}"
                                        for name, (was, now) in values.items() if now is not None)]))
    return picture(figure, "Base and aligned", "Points with 95 % intervals; ↓ lower is better. Right: aligned minus "
                   "base, paired; filled where the interval leaves out 0.", alt="Base to aligned. " + ". ".join(told))


def margin_histograms(arms: Mapping[str, Sequence]) -> Picture:
    """Margins (`metrics.Margins`) with a lesion and a control under v, v' and v°, a panel for each named arm."""
    figure, told = Figure(figsize=(5.5 * len(arms), 3.4), layout="constrained"), []
    for ax, (title, rows) in zip(_panels(figure, 1, len(arms), sharex=True, sharey=True)[0], arms.items(), strict=True):
        both = [(m.clean, m.lesion, m.control) for m in rows if None not in (m.lesion, m.control)]
        ax.set_title(title, fontsize=figures.FONT_PT + 1)
        if not both:
            _nothing(ax, "not measurable: no lesion masks")
            continue
        groups = dict(zip(("v", "v′ lesion gone", "v° another place gone"), zip(*both, strict=True), strict=True))
        ends = np.percentile(both, [1, 99])
        figures.histogram(ax, {name: np.clip(values, *ends) for name, values in groups.items()}, bins=28,
                  xlabel="log π(y⁺) − log π(y⁻), nats (outermost 1 % at the edges)")
        ax.axvline(0, color=figures.FAINT, linewidth=1)
        means = ", ".join(f"{np.mean(values):.1f} nats under {name}" for name, values in groups.items())
        told.append(f"{title}: on average {means}")
    return picture(figure, "Margins with and without the evidence", "True statements about a lesion against their "
                   "minimal false edits; lesion and control replaced by healthy texture. Test and shifted.",
                   alt=f"Histograms. {'; '.join(told) or 'No lesion masks, so nothing could be measured'}.")


def reliability_picture(arms: Mapping[str, Reliability]) -> Picture:
    """`reliability_lines` of the arms that were asked yes/no questions."""
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    ax = figure.subplots()
    if arms:
        figures.reliability_lines(ax, arms)
    else:
        _nothing(ax, "not measurable: no yes/no questions")
    told = [f"{name}: " + ", ".join(f"{share:.2f} are yes at p(yes) {p:.2f}" for p, share, n in zip(
        arm.mean_p, arm.yes_share, arm.n, strict=True) if n >= figures.ENOUGH) for name, arm in arms.items()]
    return picture(figure, "Reliability of p(yes)", "Yes/no questions on test by p(yes), bins with enough of them; "
                   "bars are 95 % intervals. On the dashed line p(yes) means what it says.", alt=". ".join(told))


def company_bars(errors: Mapping[tuple[str, str], Sequence], pairs: Sequence[tuple[str, str]]) -> Picture:
    """`prior_bars` of each {(arm, split): rows}, the base in the left column, for these (finding, cofinding)."""
    figure = Figure(figsize=(11, 7.4 if pairs else 3), layout="constrained")
    arms, splits, told = list(dict.fromkeys(arm for arm, _ in errors)), [split for _, split in errors], []
    axes = _panels(figure, len(errors) // len(arms), len(arms), sharex=True, sharey=True).T.flat
    for n, (ax, ((arm, split), rows)) in enumerate(zip(axes, errors.items(), strict=True)):
        title = f"{split}: {'base' if arm == 'base' else 'aligned'}"
        if not pairs:
            _nothing(ax, f"{title}: too few images")
            continue
        figures.prior_bars(ax, rows, pairs, title=title)
        ax.set_xlabel("share of images without the finding" if split == splits[-1] else "")
        if n:
            ax.get_legend().remove()
        counts = {(r.finding, r.cofinding, r.cofinding_present): f"{r.false} of {r.images}" for r in rows}
        told += [f"{title}: {a} affirmed in {counts.get((a, b, True), 'none')} images with {b}, "
                 f"{counts.get((a, b, False), 'none')} without" for a, b in pairs[:2]]
    return picture(figure, "False findings by company", "How often a finding that is not there is affirmed, with and "
                   "without the co-finding; the pairs where the base is pulled most on test.", alt="; ".join(told))


def _panels(figure: Figure, rows: int, columns: int, **shared) -> np.ndarray:
    """(rows, columns) axes; none where there is no row."""
    return figure.subplots(rows, columns, squeeze=False, **shared) if rows else np.empty((0, columns))


def _nothing(ax: Axes, why: str) -> None:
    ax.text(0.5, 0.5, why, ha="center", transform=ax.transAxes, color=figures.FAINT)
    ax.set_axis_off()
