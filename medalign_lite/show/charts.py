"""Figures of the report and the lesson: charts, galleries and marked texts, each with words for who does not see it.

Every function returns a `Picture`. Bars differ by hatching, lines by dashes: none of it needs colour to be read.
"""

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from medalign_lite.cases.case import Case, Question
from medalign_lite.cases.images import read_image
from medalign_lite.corruption.masks import Masks, lesion_mask
from medalign_lite.edits.repair import Edit
from medalign_lite.edits.truths import truth_of
from medalign_lite.evaluate.stats import TEST_SPLITS, Reliability
from medalign_lite.show import figures
from medalign_lite.show.failures import false_spans
from medalign_lite.show.figures import lesions_of, with_lesions
from medalign_lite.text.spans import NoEdit

FILLS = (("#2B6CA3", ""), ("#F2A65A", "///"), ("#5B2A6E", "xxx"), ("#CFD6DC", "..."), ("#8F979E", "---"),
         ("#1B1F23", "\\\\\\"))  # told apart in grey too
CSS_PX = 88  # of a browser to an inch of a figure


@dataclass(frozen=True)
class Picture:
    """One figure: PNG bytes with a title, a caption, and in `alt` what is to be seen, for who cannot. Jupyter shows it
    with that text (title and caption where there is none); on a narrow page it scrolls sideways."""

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
        return (f'<div role="region" tabindex="0" aria-label="{escape(self.title)}" style="overflow-x:auto">'
                f'<img alt="{said}" src="{figures.data_uri(self.png)}" style="{size}"></div>')


def picture(figure: Figure, title: str, caption: str = "", *, alt: str = "") -> Picture:
    """A matplotlib figure as a Picture on white; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, facecolor="white", metadata={"Software": None})
    return Picture(title, buffer.getvalue(), caption, alt, figure.get_figwidth())


def drawing(figure: Figure, alt: str) -> Picture:
    """A finished figure as a `Picture`, under the first words of what is to be seen in it."""
    return picture(figure, alt.partition(".")[0], alt=alt)


def training(logs: Mapping[str, Sequence[Mapping]]) -> Picture:
    """`training_curves` of loss, margin, grounding selectivity and KL of each recipe's log.jsonl."""
    titles = {"loss": "loss (each recipe has its own terms)", "margin": "margin m(v), β × nats",
              "gs": "grounding selectivity, validation", "kl": "Σ kₜ KL, nats a record (recipes with a KL term)"}
    figure, *axes = _sheet(10, 6.2, 2, 2)
    for ax, (key, title) in zip(axes, titles.items(), strict=True):
        training_curves(ax, logs, key).set_title(title)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    told = [f"{name}: " + ", ".join(f"{key} from {seen[0]:.2f} to {seen[-1]:.2f}" for key in titles for seen in [
        [row[key] for row in rows if key in row]] if seen) for name, rows in logs.items()]
    return picture(figure, "Training", "Lines are running means, points validation.", alt="; ".join(told))


def training_curves(ax: Axes, logs: Mapping[str, Sequence[Mapping]], key: str) -> Axes:
    """One recipe a line, from the rows of each log.jsonl: means of twelve steps, and a point for each validation. Of
    grounding selectivity ("gs") the validations alone, from 0 before the first step."""
    smooth = key != "gs"
    for i, (name, rows) in enumerate(logs.items()):
        steps = [row for row in rows if "learning_rate" in row and key in row] if smooth else []
        spans = [steps[max(0, n - 11) : n + 1] for n in range(len(steps))]
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
    ax.set_xlabel("optimiser step")
    ax.margins(x=0.02)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def forests(results: Mapping) -> Picture:
    """`forest` and `forest_difference` side by side, a row for each split in which some rate could be measured."""
    base, new = results["base"], results["aligned"]
    known = {split: [name for name in figures.RATES if base[split][name]["value"] is not None] for split in TEST_SPLITS}
    measured = {split: names for split, names in known.items() if names}
    figure, *axes = _sheet(11, 0.6 + 3.9 * max(len(measured), 1), len(measured), 2)
    for left, right, (split, names) in zip(axes[::2], axes[1::2], measured.items(), strict=True):
        figures.forest(left, results, split, names)
        figures.forest_difference(right, results, split, names).set_yticklabels([])
    told = []
    for split, names in measured.items():
        values = [(figures.spoken(name), base[split][name]["value"], new[split][name]["value"]) for name in names]
        told.append("; ".join([split, *(f"{n} {was:.2f} to {now:.2f}" for n, was, now in values if now is not None)]))
    return picture(figure, "Base and aligned", "Points with 95 % intervals; ↓ lower is better. Right: aligned minus "
                   "base, paired; filled where the interval leaves out 0.", alt="Base to aligned. " + ". ".join(told))


def margin_histograms(arms: Mapping[str, Sequence]) -> Picture:
    """Margins (`metrics.Margins`) with a lesion and a control under v, v' and v°, a panel for each named arm."""
    (figure, *axes), told = _sheet(5.5 * len(arms), 3.4, 1, len(arms), sharex=True, sharey=True), []
    for ax, (title, rows) in zip(axes, arms.items(), strict=True):
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
    figure, ax = _sheet(4.6, 4.2)
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
    columns, splits, told = len({arm for arm, _ in errors}), [split for _, split in errors], []
    figure, *axes = _sheet(11, 7.4 if pairs else 3, len(errors) // columns, columns, sharex=True, sharey=True)
    downwards, legend = [ax for column in range(columns) for ax in axes[column::columns]], None
    for ax, ((arm, split), rows) in zip(downwards, errors.items(), strict=True):
        title = f"{split}: {'base' if arm == 'base' else 'aligned'}"
        if not pairs:
            _nothing(ax, f"{title}: too few images")
            continue
        figures.prior_bars(ax, rows, pairs, title=title)
        ax.set_xlabel("share of images without the finding" if split == splits[-1] else "")
        if legend and ax.get_legend():  # one is enough, and a panel without an image has none
            ax.get_legend().remove()
        legend = legend or ax.get_legend()
        counts = {(r.finding, r.cofinding, r.cofinding_present): f"{r.false} of {r.images}" for r in rows}
        told += [f"{title}: {a} affirmed in {counts.get((a, b, True), 'none')} images with {b}, "
                 f"{counts.get((a, b, False), 'none')} without" for a, b in pairs[:2]]
    return picture(figure, "False findings by company", "How often a finding that is not there is affirmed, with and "
                   "without the co-finding; the pairs where the base is pulled most on test.", alt="; ".join(told))


def _sheet(width: float, height: float, rows: int = 1, columns: int = 1, **look) -> tuple:
    """A figure of this size in inches, and its axes row by row; none where there is no row or no column."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, *(figure.subplots(rows, columns, squeeze=False, **look).flat if rows * columns else ())


def _nothing(ax: Axes, why: str) -> None:
    ax.text(0.5, 0.5, why, ha="center", transform=ax.transAxes, color=figures.FAINT)
    ax.set_axis_off()


def clearest_error(asked: Sequence[tuple[Case, Question]], texts: Sequence[str]) -> tuple[Case, Question, str]:
    """The answer whose error is best seen: a finding is affirmed that is not there, on a side where nothing else is.
    Of several the one with the fewest errors beside it, then the first. Raises ValueError where no answer is wrong and
    can be corrected."""
    rated = []
    for (case, question), text in zip(asked, texts):
        truth = truth_of(case, question)
        with contextlib.suppress(NoEdit):
            if truth.correct(text) is not None:
                false = [c for c in truth.read(text) if truth.judge(c).verdict == "false"]
                made_up = [c for c in false if c.polarity == "present" and "finding" in truth.judge(c).wrong]
                taken = {fact.side for fact in case.facts or () if fact.side and fact.visible}
                alone = any(c.side and c.side not in taken for c in made_up)
                clear = alone, bool(made_up), bool(lesions_of(case)), -len(false)
                rated.append((clear, case, question, text))
    if not rated:
        raise ValueError(f"none of {len(texts)} answers has an error that can be corrected: ask about more cases")
    return max(rated, key=lambda entry: entry[0])[1:]


def wrong_answer(case: Case, question: Question, text: str) -> Picture:
    """The picture with what is there outlined and named, beside the answer with its false words struck through."""
    figure, left, right = _sheet(10, 3.6, 1, 2, width_ratios=(1, 1.75))
    figures.overlay(left, with_lesions(case, side=420), title="what is there", sides=case.frontal)
    figures.answer(right, f"asked  {question.text}\n\n{text}\n\ntrue   {truth_of(case, question).words}", [
        (start + len(question.text) + 9, end + len(question.text) + 9, kind)
        for start, end, kind in false_spans(text, case, question)])
    false = "; ".join(text[start:end] for start, end, _ in false_spans(text, case, question))
    return drawing(figure, f"A picture with {', '.join(lesions_of(case)) or 'no lesion'} outlined. The model says: "
                           f"{text} False in it, struck through: {false}.")


def gallery(pictures: Mapping[str, tuple | Image.Image], *, columns: int = 5, sides: bool = False,
            say: str = "") -> Picture:
    """Pictures in rows, by title; each an image or (image, lesion mask or None, control mask or None)."""
    columns = max(1, min(columns, len(pictures)))
    rows = max(1, -(-len(pictures) // columns))
    lines = max((title.count("\n") + 1 for title in pictures), default=1)
    figure, *axes = _sheet(2.3 * columns, (2.4 + 0.18 * lines) * rows, rows, columns)
    for ax in axes[len(pictures) :]:
        ax.set_axis_off()
    for ax, (title, parts) in zip(axes, pictures.items()):
        figures.overlay(ax, *(parts if isinstance(parts, tuple) else (parts,)), title=title, sides=sides)
    alt = f"{len(pictures)} pictures: " + "; ".join(title.replace("\n", ", ") for title in pictures)
    return drawing(figure, f"{alt}. {say}".strip())


def case_sheet(cases: Iterable[Case]) -> Picture:
    """Training pictures with their lesions outlined, so chosen that each finding is there if it can be."""
    train = [case for case in cases if case.split == "train"]
    first = {name: case for case in reversed(train) for name in case.findings}.values()
    chosen = list({case.id: case for case in (*first, *train)}.values())[:10]
    shown = {"\n".join([case.id, *(case.findings or ("no finding",))[:3]]): (read_image(case.image), lesion_mask(case))
             for case in chosen}
    return gallery(shown, sides=all(case.frontal for case in chosen), say="Lesions are outlined.")


def bars(rows: Mapping[str, Mapping[str, float]], *, xlabel: str, title: str = "", stacked: bool = False,
         share: bool = False) -> Picture:
    """Horizontal bars: a line a row, a bar or a part of it for each series; `share` makes a row's parts sum to 1, and
    writes what they were behind it."""
    sums = {name: sum(row.values()) for name, row in rows.items()}
    if share:
        rows = {name: {part: n / (sums[name] or 1) for part, n in row.items()} for name, row in rows.items()}
    series = list(dict.fromkeys(name for row in rows.values() for name in row))
    beside = 1 if stacked else max(map(len, rows.values()), default=1)  # bars of a row
    figure, ax = _sheet(8, 1.1 + max(len(rows), 2) * (0.3 if stacked else 0.12 + 0.14 * beside))
    ends, thick = np.zeros(len(rows)), (0.7 if stacked else 0.8) / beside
    for i, name in enumerate(series):
        values = np.nan_to_num([float(row.get(name) or 0) for row in rows.values()])
        at = [0 if stacked or name not in row else list(row).index(name) - (len(row) - 1) / 2 for row in rows.values()]
        places = np.arange(len(rows)) + thick * np.array(at)
        colour, hatch = FILLS[i % len(FILLS)]
        ax.barh(places, values, 0.9 * thick, left=ends if stacked else 0, color=colour, hatch=hatch,
                edgecolor="white", linewidth=0.4, label=name)
        ends = ends + values if stacked else np.maximum(ends, values)
    for y, (name, end) in enumerate(zip(rows, ends) if share else ()):
        ax.text(end, y, f"  {sums[name]:g}", va="center", fontsize=8)
    ax.set_yticks(range(len(rows)), rows, fontsize=8, parse_math=False)
    ax.set(xlabel=xlabel, ylim=(len(rows) - 0.4, -0.6))
    ax.margins(x=0.12)
    ax.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        ax.legend(frameon=False, fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    figure.suptitle(title, fontsize=10)
    told = "; ".join(f"{name}: {', '.join(f'{s} {v:.3g}' for s, v in row.items())}" for name, row in rows.items())
    return drawing(figure, f"Bars. {title}. {xlabel}. {told}.")


def company(names: Sequence[str], matrices: Mapping[str, np.ndarray]) -> Picture:
    """Which findings go together: correlations side by side, each number of at least .2 written into its cell."""
    figure, *axes = _sheet(1.4 + 4.2 * len(matrices), 4.3, 1, len(matrices))
    for i, (ax, (title, phi)) in enumerate(zip(axes, matrices.items())):
        off = phi - np.diag(np.diag(phi))
        shown = ax.imshow(off, cmap=figures.DIVERGING, vmin=-0.8, vmax=0.8)
        for a, b in np.argwhere(np.abs(off) >= 0.2):
            ax.text(b, a, f"{off[a, b]:+.1f}", ha="center", va="center", fontsize=7)
        ax.set_title(title, fontsize=10)
        ax.set_yticks(range(len(names)), names if i == 0 else [], fontsize=8)
        ax.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    figure.colorbar(shown, ax=axes, label="correlation (phi)", shrink=0.8)
    told = [f"{title}: " + (", ".join(f"{names[a]} with {names[b]} {phi[a, b]:+.2f}" for a, b in np.argwhere(
        np.abs(np.triu(phi, 1)) >= 0.2)) or "none of .2 or more") for title, phi in matrices.items()]
    return drawing(figure, f"Correlations between findings. {'. '.join(told)}.")


def histograms(panels: Mapping[str, Mapping[str, Sequence[float]]], *, bins=30, log: bool = False) -> Picture:
    """One panel a quantity, {what is counted: {group: values}}."""
    figure, *axes = _sheet(5 * max(len(panels), 1), 3.1, 1, len(panels))
    for ax, (xlabel, groups) in zip(axes, panels.items()):
        figures.histogram(ax, {n: v for n, v in groups.items() if len(v)} or {"none": [0.0]}, bins=bins, xlabel=xlabel)
        if log:
            ax.set_yscale("symlog")
            ax.yaxis.set_major_formatter("{x:g}")  # the usual one writes its powers as mathematics
    told = [f"{xlabel}: " + ", ".join(f"{name} median {np.median(values):.3g} of {len(values)}" for name, values in
                                      groups.items() if len(values)) for xlabel, groups in panels.items()]
    return drawing(figure, f"Histograms. {'. '.join(told)}.")


def marked_texts(texts: Mapping[str, tuple[Sequence[str], Sequence[float]]], *, label: str,
                 limit: float | None = None, say: str = "") -> Picture:
    """Texts piece by piece, coloured by a value on one scale, one below the other: {title: (pieces, values)}."""
    heights = [2 + sum(map(len, parts)) // 95 for parts, _ in texts.values()] or [2]
    limit = limit or max((abs(value) for _, values in texts.values() for value in values), default=1.0)
    figure, *axes = _sheet(10, max(1.4, 0.36 * sum(heights)), len(heights), height_ratios=heights)
    for ax, (title, (parts, values)) in zip(axes, texts.items()):
        figures.token_heatmap(ax, parts, values, label=label, title=title, limit=limit)
    most = [f"{title}: the strongest are " + ", ".join(
        f"{parts[i].strip() or 'a space'} ({values[i]:.2f})" for i in np.argsort(-np.abs(values))[:3])
        for title, (parts, values) in texts.items()]
    return drawing(figure, f"Text coloured by {label}. {'. '.join(most)}. {say}".strip())


def edits(found: Iterable) -> Picture:
    """Edits (anything with chosen, rejected and their spans), y+ above y−."""
    found = list(found)
    longest = max((len(edit.chosen) + len(edit.rejected) for edit in found), default=0)
    figure, *axes = _sheet(10, (0.78 + 0.2 * (longest // 100)) * max(len(found), 1), max(len(found), 1))
    for ax, edit in zip(axes, found):
        figures.edit_diff(ax, edit.chosen, edit.rejected, edit.spans_chosen, edit.spans_rejected)
        ax.spines["bottom"].set(visible=True, color="#B8C0C8")
    told = "; ".join(" · ".join(_exchanged(edit)) for edit in found)
    return drawing(figure, f"{len(found)} pairs, y+ underlined, y− struck through: {told}.")


def _exchanged(edit) -> list[str]:
    spans = zip(edit.spans_rejected, edit.spans_chosen)
    return [f"{edit.rejected[a:b]} becomes {edit.chosen[c:d]}" for (a, b, _), (c, d, _) in spans]


def scatter(x: Sequence[float], y: Sequence[float], *, xlabel: str, ylabel: str, title: str = "",
            diagonal: bool = False) -> Picture:
    """Points, with the line of equality where wanted."""
    figure, ax = _sheet(5.6, 3.8)
    ax.plot(x, y, "o", markersize=4, color=figures.ALIGNED, alpha=0.7, markeredgewidth=0)
    if diagonal:
        reach = 1.05 * max((*np.abs(x), *np.abs(y)), default=1.0)
        ax.plot([-reach, reach], [-reach, reach], color=figures.FAINT, linewidth=1)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title, fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    below = np.mean(np.less(y, x)) if len(x) else 0
    return drawing(figure, f"{len(x)} points. {title}. Across: {xlabel}; up: {ylabel}." + (
        f" {below:.0%} lie below the line of equality." if diagonal else ""))


def four_pictures(image: Image.Image, masks: Masks, damaged: Image.Image, edit: Edit, tokens: Sequence[str],
                  weights: Sequence[float], *, about: str) -> Picture:
    """The method: the picture with the lesion `about`, the edit, the picture without that lesion, the weights."""
    figure, *axes = _sheet(10.5, 6.2, 2, 2, width_ratios=(1, 2.2))
    figures.overlay(axes[0], image, masks.lesion, title=f"1  the picture v, its {about} outlined")
    figures.edit_diff(axes[1], edit.chosen, edit.rejected, edit.spans_chosen, edit.spans_rejected)
    axes[1].set_title("2  the smallest correction (y+) of the answer (y−)", fontsize=9, loc="left")
    twin = "; dashed: its twin v°" if masks.control is not None else ""
    figures.overlay(axes[2], damaged, None, masks.control, title=f"3  v′: the {about} filled{twin}")
    title = "4  the tokens of y− that carry weight"
    figures.token_heatmap(axes[3], tokens, weights, label="weight", title=title)
    changed = ", ".join(_exchanged(edit))
    return drawing(figure, f"Four pictures. 1: the image with its {about} outlined. 2: the answer and its correction: "
                           f"{changed}. 3: the image with the {about} filled{twin}. 4: the answer with weight on "
                           f"{sum(w > 0 for w in weights)} of {len(tokens)} tokens, those of the correction.")


def pieces(text: str, spans: Iterable[tuple[int, int, float]]) -> tuple[list[str], list[float]]:
    """A text cut at its spans (start, end, value), with the value of each piece: 0 outside, the last span counts."""
    value = np.zeros(len(text))
    for start, end, told in spans:
        value[start:end] = told
    cuts = [0, *(np.flatnonzero(np.diff(value)) + 1), len(text)]
    return [text[a:b] for a, b in zip(cuts, cuts[1:])], [float(value[a]) for a in cuts[:-1] if a < len(text)]
