"""Figures: helpers that take an axis and draw one thing on it.

One palette, safe for colour-blind readers (Okabe and Ito 2008): grey base, blue aligned, green chosen, red rejected,
orange lesion, sky-blue control. No colour is the only sign: lines differ in dashes, bars in hatches, points in shape.
Text is drawn in a fixed-width font, never read as mathematics.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from statsmodels.stats.proportion import proportion_confint

from medalign_lite.evaluate.calibration import Reliability
from medalign_lite.evaluate.stats import TEST_SPLITS

FAINT = "#6B757F"  # lines at known values and words for what is missing: 4.7 : 1 on white
BASE, ALIGNED = "#5A6570", "#0072B2"
CHOSEN, REJECTED = "#007D5A", "#B84800"  # as dark as small text needs, 4.5 : 1 and more on white
LESION, CONTROL = "#E69F00", "#56B4E9"
SERIES = (ALIGNED, REJECTED, CHOSEN, LESION, "#CC79A7", BASE)
DASHES = ("solid", "dashed", "dotted", "dashdot")
HATCHES = ("", "///", "...", "xx", "--", "\\\\\\")
DIVERGING = LinearSegmentedColormap.from_list("red-white-blue", [REJECTED, "#FFFFFF", ALIGNED])
SEQUENTIAL = LinearSegmentedColormap.from_list("white-blue", ["#FFFFFF", "#8CC4E8", ALIGNED])
RATES = (
    "fact_precision",
    "fact_recall",
    "fact_f1",
    "hallucination_rate",
    "closed_accuracy",
    "open_recall",
    "yes_ratio",
    "invariance_rate",
    "flip_rate",
    "overclaim_lesion_hidden",
    "style_edit_distance",
)
LOWER_IS_BETTER = ("hallucination_rate", "overclaim_lesion_hidden")
FONT_PT = 9
ENOUGH = 10  # questions in a bin of p(yes)
CSS_PX = 88  # of a browser to an inch of a figure
_GLYPH_WIDTH = 0.602  # of the font size, in DejaVu Sans Mono
_LINE_HEIGHT = 1.75  # of the font size


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


def overlay(
    ax: Axes,
    image,
    lesion: np.ndarray | None = None,
    control: np.ndarray | None = None,
    *,
    title: str = "",
    sides: bool = True,
) -> Axes:
    """An image with its lesion (orange, solid) and control mask (blue, dashed) outlined; masks are bool (H, W).

    `sides` writes R and L beside it: in a frontal radiograph the patient's right is on the image's left.
    """
    ax.imshow(np.asarray(image), cmap="gray", interpolation="bilinear")
    for mask, colour, style in ((lesion, LESION, "solid"), (control, CONTROL, "dashed")):
        if mask is not None and np.any(mask):
            mask = np.asarray(mask, bool)
            ax.imshow(np.dstack([*(np.full(mask.shape, v) for v in to_rgb(colour)), mask * 0.22]))
            ax.contour(
                np.pad(mask.astype(float), 1),
                levels=[0.5],
                colors=[colour],
                linewidths=1.4,
                linestyles=style,
                extent=(-1.5, mask.shape[1] + 0.5, -1.5, mask.shape[0] + 0.5),
            )
    ax.set(xticks=[], yticks=[], xlim=(-0.5, np.shape(image)[1] - 0.5), ylim=(np.shape(image)[0] - 0.5, -0.5))
    ax.set_title(title, fontsize=FONT_PT, parse_math=False)
    if sides:
        for letter, x, align in (("R", -0.015, "right"), ("L", 1.015, "left")):
            ax.text(x, 0.5, letter, transform=ax.transAxes, ha=align, va="center", fontsize=FONT_PT, color=BASE)
    ax.spines[:].set_visible(False)
    return ax


def corruption_gallery(
    axes: Sequence[Axes],
    pictures: Mapping[str, object],
    lesion: np.ndarray | None = None,
    control: np.ndarray | None = None,
    *,
    sides: bool = True,
) -> None:
    """One axis a picture, titled by its key; the masks are outlined on the first, the others are left to be seen.

    `sides` writes R and L beside the first, as `overlay` does.
    """
    axes = np.ravel(axes)
    if len(axes) < len(pictures):
        raise ValueError(f"{len(pictures)} pictures need as many axes, got {len(axes)}")
    for i, (ax, (title, picture)) in enumerate(zip(axes, pictures.items(), strict=False)):
        marked = (lesion, control) if i == 0 else (None, None)
        overlay(ax, picture, *marked, title=title, sides=sides and i == 0)
    for ax in axes[len(pictures) :]:
        ax.set_axis_off()


def gallery(pictures: Mapping[str, object], lesion: np.ndarray | None = None, *, title: str = "", sides=True) -> Figure:
    """`corruption_gallery` in one row of a figure of its own."""
    figure = Figure(figsize=(2.4 * len(pictures), 2.9), layout="constrained")
    corruption_gallery(figure.subplots(1, len(pictures), squeeze=False), pictures, lesion, sides=sides)
    figure.suptitle(title, fontsize=FONT_PT)
    return figure


def contact_sheet(axes: Sequence[Axes], tiles: Sequence[tuple[object, np.ndarray | None, str]]) -> None:
    """A sheet of (image, lesion mask or None, title)."""
    axes = np.ravel(axes)
    for ax, (image, lesion, title) in zip(axes, tiles, strict=False):
        overlay(ax, image, lesion, title=title)
    for ax in axes[len(tiles) :]:
        ax.set_axis_off()


def token_heatmap(
    ax: Axes,
    tokens: Sequence[str],
    values: Sequence[float],
    *,
    label: str = "nats",
    title: str = "",
    limit: float | None = None,
) -> Axes:
    """The text with each token on a colour for its value (weight, Δ or KL).

    Values of both signs get red for negative, which is underlined too, white for 0, blue for positive; others white to
    blue. `limit` is the value at full colour (default: the largest there is).
    """
    values = np.asarray(values, float)
    if len(tokens) != len(values):
        raise ValueError(f"{len(tokens)} tokens with {len(values)} values: give one value a token")
    limit = limit or float(np.max(np.abs(values), initial=0)) or 1.0
    signed = bool(np.any(values < 0))
    scale = ScalarMappable(Normalize(-limit if signed else 0, limit), DIVERGING if signed else SEQUENTIAL)
    pieces = [(str(token), {"background": scale.to_rgba(value), "line": "below" if value < 0 else ""})
              for token, value in zip(tokens, values, strict=True)]
    bar = ax.figure.colorbar(scale, ax=ax, fraction=0.02, pad=0.01)
    bar.set_label(label, fontsize=FONT_PT)
    bar.ax.tick_params(labelsize=FONT_PT - 1)
    _write(ax, pieces)
    ax.set_title(title, fontsize=FONT_PT, loc="left", parse_math=False)
    return ax


def token_heatmaps(texts: Mapping[str, tuple[Sequence[str], Sequence[float]]], *, label: str = "nats") -> Figure:
    """A `token_heatmap` for each {title: (tokens, values)}, one below the other, with one scale of colours."""
    heights = [2 + sum(map(len, tokens)) // 95 for tokens, _ in texts.values()]
    limit = max((abs(value) for _, values in texts.values() for value in values), default=1.0)
    figure = Figure(figsize=(10, 0.34 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(texts), 1, height_ratios=heights, squeeze=False)[:, 0]
    for ax, (title, (tokens, values)) in zip(axes, texts.items(), strict=True):
        token_heatmap(ax, tokens, values, label=label, title=title, limit=limit)
    return figure


def edit_diff(ax: Axes, chosen: str, rejected: str, spans_chosen: Sequence, spans_rejected: Sequence) -> Axes:
    """y+ above y-, their spans [start, end, kind] coloured: green and underlined, red and struck through."""
    pieces: list[tuple[str, dict]] = []
    for name, text, spans, colour, line in (
        ("y+  ", chosen, spans_chosen, CHOSEN, "under"),
        ("y-  ", rejected, spans_rejected, REJECTED, "through"),
    ):
        pieces.append((name, {"color": colour, "weight": "bold"}))
        for part, kind in split_spans(text, spans):
            pieces.append((part, {"color": colour, "weight": "bold", "line": line} if kind else {}))
        pieces.append(("\n\n", {}))
    _write(ax, pieces[:-1])
    return ax


def answer(ax: Axes, text: str, spans: Sequence) -> Axes:
    """An answer with its false words, spans [start, end, kind], bold, red and struck through."""
    look = {"color": REJECTED, "weight": "bold", "line": "through"}
    _write(ax, [(part, look if kind else {}) for part, kind in split_spans(text, spans)])
    return ax


def split_spans(text: str, spans: Sequence) -> list[tuple[str, str | None]]:
    """(part, kind) in reading order for spans [start, end, kind]; kind is None outside them."""
    parts, at = [], 0
    for start, end, kind in sorted(tuple(span) for span in spans):
        parts += [(text[at:start], None), (text[start:end], kind)]
        at = end
    return [(part, kind) for part, kind in [*parts, (text[at:], None)] if part]


def _write(ax: Axes, pieces: Sequence[tuple[str, dict]]) -> None:
    """Fixed-width text, wrapped at the axis; a piece's style may hold background, color, weight, line."""
    ax.set(xticks=[], yticks=[])
    ax.figure.draw_without_rendering()  # settles the layout, so that the axis has its final width
    box = ax.get_window_extent()
    width, height = (side * 72 / ax.figure.dpi for side in (box.width, box.height))  # points
    cells = max(int(width / (FONT_PT * _GLYPH_WIDTH)), 10)
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.spines[:].set_visible(False)
    ax.set_facecolor("none")
    row = column = 0
    for text, style in pieces:
        for line, part in enumerate(text.split("\n")):
            row, column = (row + 1, 0) if line else (row, column)
            for word in _words(part):
                if column + len(word.rstrip()) > cells and column:
                    row, column, word = row + 1, 0, word.lstrip()
                _cell(ax, word, row, column, style)
                column += len(word)


def _words(text: str) -> list[str]:
    """Pieces that may not be broken; each keeps its leading space."""
    out: list[str] = []
    for letter in text:
        if out and not (letter == " " and not out[-1].isspace()):
            out[-1] += letter
        else:
            out.append(letter)
    return out


def _cell(ax: Axes, text: str, row: int, column: int, style: dict) -> None:
    glyph, line = FONT_PT * _GLYPH_WIDTH, FONT_PT * _LINE_HEIGHT
    x, y, span = column * glyph, (row + 0.7) * line, len(text) * glyph  # y: the baseline
    background = style.get("background", "none")
    if background != "none":
        ax.add_patch(Rectangle((x, y - 0.6 * line), span, 0.82 * line, facecolor=background, edgecolor="none"))
    colour = style.get("color") or ("white" if background != "none" and is_dark(background) else "black")
    for i, letter in enumerate(text):  # one by one: hinting would round the advance, and the cells would not fit
        if not letter.isspace():
            ax.text(
                x + (i + 0.5) * glyph,
                y,
                letter,
                ha="center",
                va="baseline",
                family="DejaVu Sans Mono",
                fontsize=FONT_PT,
                color=colour,
                fontweight=style.get("weight", "normal"),
                parse_math=False,
            )
    if style.get("line") and text.strip():
        drop, colour = {"under": (0.12, colour), "through": (-0.17, colour), "below": (0.3, REJECTED)}[style["line"]]
        start = x + (len(text) - len(text.lstrip())) * glyph
        ax.plot([start, x + span], [y + drop * line] * 2, color=colour, linewidth=1.1, solid_capstyle="butt")


def is_dark(colour) -> bool:
    """True where white text on this RGB colour is easier to read than black (relative luminance of WCAG 2)."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722))) < 0.179  # equal contrast with black and with white


def series_style(i: int) -> dict:
    """Keywords of `plot` for line i of a figure: its neighbours differ from it in colour and in dashes.

    Raises ValueError where two lines would look the same.
    """
    if not 0 <= i < len(SERIES) * len(DASHES):
        raise ValueError(f"line {i}: a figure can tell {len(SERIES) * len(DASHES)} lines apart, draw fewer in one")
    dashes = DASHES[(i + i // len(SERIES)) % len(DASHES)]
    return {"color": SERIES[i % len(SERIES)], "linestyle": dashes, "linewidth": 1.6}


def lines(ax: Axes, x: Sequence[float], series: Mapping[str, Sequence[float]], *, xlabel="", ylabel="") -> Axes:
    """One line a series, all over the same x."""
    for i, (name, values) in enumerate(series.items()):
        ax.plot(x, values, label=name, **series_style(i))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(frameon=False, fontsize=FONT_PT - 1)
    return _plain(ax)


def curves(
    ax: Axes,
    rows: Sequence[Mapping],
    keys: Sequence[str],
    *,
    x: str = "step",
    ylabel: str = "",
    reference: float | None = None,
) -> Axes:
    """Lines from the rows of log.jsonl; rows without a key are passed over. `reference` is a dashed known value."""
    for i, key in enumerate(keys):
        points = [(row[x], row[key]) for row in rows if row.get(key) is not None and row.get(x) is not None]
        if points:
            mark = {"marker": "o", "markersize": 3} if len(points) < 40 else {}
            ax.plot(*zip(*points, strict=True), label=key, **series_style(i), **mark)
    if reference is not None:
        ax.axhline(reference, color=FAINT, linestyle="--", linewidth=1)
    ax.set(xlabel=x, ylabel=ylabel)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=FONT_PT - 1)
    return _plain(ax)


def training_curves(
    ax: Axes, logs: Mapping[str, Sequence[Mapping]], key: str, *, title: str = "", width: int = 12, smooth: bool = True
) -> Axes:
    """One recipe a line, from the rows of each log.jsonl: means of `width` steps, and a point for each validation.

    Not `smooth`: the validations alone, from 0 before the first step.
    """
    for i, (name, rows) in enumerate(logs.items()):
        steps = [row for row in rows if "learning_rate" in row and key in row] if smooth else []
        spans = [steps[max(0, n + 1 - width) : n + 1] for n in range(len(steps))]
        style, means = series_style(i), [sum(row[key] for row in span) / len(span) for span in spans]
        ax.plot([row["step"] for row in steps], means, **style)
        seen = [(row["step"], row[f"eval_{key}"]) for row in rows if f"eval_{key}" in row]
        seen = seen if smooth or not seen else [(0, 0.0), *seen]
        style |= {"marker": "osD^v<>P"[i % 8], "markersize": 5}
        ax.plot([], [], label=name, **style)
        style |= {"linestyle": "none"} if smooth else {}
        ax.plot([x for x, _ in seen], [y for _, y in seen], **style)
    if key != "loss":
        ax.axhline(0, color=FAINT, linewidth=0.8)
    ax.set(title=title, xlabel="optimiser step")
    ax.margins(x=0.02)
    return _plain(ax)


def forest(ax: Axes, results: Mapping, split: str = "test", names: Sequence[str] = RATES) -> Axes:
    """Base (grey circle) and aligned (blue diamond) with 95 % intervals, one row a metric; unmeasured rows say so."""
    names = [name for name in names if name in results["base"][split]]
    for row, name in enumerate(names):
        for arm, colour, marker, shift in (("base", BASE, "o", -0.15), ("aligned", ALIGNED, "D", 0.15)):
            _point(ax, results[arm][split][name], row + shift, colour, marker, label=arm if row == 0 else None)
    _rows(ax, names)
    ax.set(xlim=(-0.02, 1.02), title=split)
    ax.legend(frameon=False, fontsize=FONT_PT - 1, ncols=2, loc="lower center", bbox_to_anchor=(0.5, -0.2))
    return ax


def forest_difference(ax: Axes, results: Mapping, split: str = "test", names: Sequence[str] = RATES) -> Axes:
    """Aligned minus base with paired 95 % intervals; filled where the interval leaves out 0."""
    names = [name for name in names if name in results["difference"][split]]
    for row, name in enumerate(names):
        entry = results["difference"][split][name]
        clear = entry["low"] is not None and (entry["low"] > 0 or entry["high"] < 0)
        _point(ax, entry, row, ALIGNED, "D", face=ALIGNED if clear else "white")
    ax.axvline(0, color=FAINT, linewidth=1)
    _rows(ax, names)
    ax.set(title=f"{split}: aligned − base")
    return ax


def forests(results: Mapping) -> Picture:
    """`forest` and `forest_difference` side by side, a row for each split in which some rate could be measured."""
    base, new = results["base"], results["aligned"]
    known = {split: [name for name in RATES if base[split][name]["value"] is not None] for split in TEST_SPLITS}
    measured = {split: names for split, names in known.items() if names}
    figure = Figure(figsize=(11, 0.6 + 3.9 * max(len(measured), 1)), layout="constrained")
    for (left, right), (split, names) in zip(_panels(figure, len(measured), 2), measured.items(), strict=True):
        forest(left, results, split, names)
        forest_difference(right, results, split, names).set_yticklabels([])
    told = ["; ".join([split, *(f"{spoken(name)} {base[split][name]['value']:.2f} to {new[split][name]['value']:.2f}"
                                for name in names if new[split][name]["value"] is not None)])
            for split, names in measured.items()]
    return picture(figure, "Base and aligned", "Points with 95 % intervals; ↓ lower is better. Right: aligned minus "
                   "base, paired; filled where the interval leaves out 0.", alt="Base to aligned. " + ". ".join(told))


def margin_histograms(arms: Mapping[str, Sequence]) -> Picture:
    """Margins (`metrics.Margins`) with a lesion and a control under v, v' and v°, a panel for each named arm."""
    figure, told = Figure(figsize=(5.5 * len(arms), 3.4), layout="constrained"), []
    for ax, (title, rows) in zip(_panels(figure, 1, len(arms), sharex=True, sharey=True)[0], arms.items(), strict=True):
        both = [(m.clean, m.lesion, m.control) for m in rows if None not in (m.lesion, m.control)]
        ax.set_title(title, fontsize=FONT_PT + 1)
        if not both:
            _nothing(ax, "not measurable: no lesion masks")
            continue
        groups = dict(zip(("v", "v′ lesion gone", "v° another place gone"), zip(*both, strict=True), strict=True))
        ends = np.percentile(both, [1, 99])
        histogram(ax, {name: np.clip(values, *ends) for name, values in groups.items()}, bins=28,
                  xlabel="log π(y⁺) − log π(y⁻), nats (outermost 1 % at the edges)")
        ax.axvline(0, color=FAINT, linewidth=1)
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
        reliability_lines(ax, arms)
    else:
        _nothing(ax, "not measurable: no yes/no questions")
    told = [f"{name}: " + ", ".join(f"{share:.2f} are yes at p(yes) {p:.2f}" for p, share, n in zip(
        arm.mean_p, arm.yes_share, arm.n, strict=True) if n >= ENOUGH) for name, arm in arms.items()]
    return picture(figure, "Reliability of p(yes)", "Yes/no questions on test by p(yes), bins with enough of them; "
                   "bars are 95 % intervals. On the dashed line p(yes) means what it says.", alt=". ".join(told))


def company_bars(errors: Mapping[tuple[str, str], Sequence], pairs: Sequence[tuple[str, str]]) -> Picture:
    """`prior_bars` of each {(arm, split): rows}, the base in the left column, for these (finding, cofinding)."""
    figure = Figure(figsize=(11, 7.4 if pairs else 3), layout="constrained")
    arms, told = list(dict.fromkeys(arm for arm, _ in errors)), []
    axes = _panels(figure, len(errors) // len(arms), len(arms), sharex=True, sharey=True).T.flat
    for n, (ax, ((arm, split), rows)) in enumerate(zip(axes, errors.items(), strict=True)):
        title = f"{split}: {'base' if arm == 'base' else 'aligned'}"
        if not pairs:
            _nothing(ax, f"{title}: too few images")
            continue
        prior_bars(ax, rows, pairs, title=title).set_xlabel("share of images without the finding")
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
    ax.text(0.5, 0.5, why, ha="center", transform=ax.transAxes, color=FAINT)
    ax.set_axis_off()


def _point(ax: Axes, entry: Mapping, y: float, colour: str, marker: str, *, label=None, face=None) -> None:
    if entry["value"] is None:
        ax.plot([], [], marker, color=colour, label=label)
        ax.text(
            0.5,
            round(y),
            "not measurable",
            transform=ax.get_yaxis_transform(),
            ha="center",
            va="center",
            fontsize=FONT_PT - 2,
            color=FAINT,
            style="italic",
        )
        return
    if entry["low"] is not None:
        ax.plot([entry["low"], entry["high"]], [y, y], color=colour, linewidth=1.6)
    ax.plot([entry["value"]], [y], marker, color=colour, markerfacecolor=face or colour, markersize=5, label=label)


def spoken(metric: str) -> str:
    """A metric's name as words."""
    return metric.replace("_", " ").replace(" f1", " F1").replace("kl ", "KL ")


def _rows(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), [spoken(name) + (" ↓" if name in LOWER_IS_BETTER else "") for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="x", color="#E3E6E9", linewidth=0.8)
    ax.title.set_fontsize(FONT_PT + 1)
    _plain(ax)


def reliability_lines(ax: Axes, arms: Mapping[str, Reliability]) -> Axes:
    """Share of yes among the answers that are right, by bin of p(yes), one line an arm: the base first, in grey.

    Bins of fewer than ENOUGH questions are left out; bars are 95 % Wilson intervals of a bin's share, its questions
    taken as independent. A marker's area goes by the questions; on the dashed line p(yes) means what it says.
    """
    ax.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1)
    most = max((arm.n.max() for arm in arms.values()), default=1)
    looks = zip((BASE, *SERIES), "oDs^v<>", strict=False)
    for shift, ((name, arm), (colour, marker)) in enumerate(zip(arms.items(), looks, strict=False)):
        held = arm.n >= ENOUGH
        p, share, n = arm.mean_p[held] + 0.008 * shift, arm.yes_share[held], arm.n[held]
        low, high = proportion_confint(np.round(share * n), n, method="wilson")
        ax.plot(p, share, color=colour, linewidth=1.4, label=name)
        ax.vlines(p, low, high, color=colour, linewidth=1.2)
        ax.scatter(p, share, 12 + 90 * n / most, color=colour, marker=marker, alpha=0.75, linewidths=0)
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    ax.set(xlabel=f"p(yes), mean of the bin (bins of at least {ENOUGH} questions)")
    ax.set(ylabel="share whose right answer is yes")
    ax.legend(frameon=False, fontsize=FONT_PT - 1, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return _plain(ax)


def prior_bars(ax: Axes, rows: Sequence, pairs: Sequence[tuple[str, str]], *, title: str = "") -> Axes:
    """False findings by prior: how often a finding that is not there was affirmed, with and without a co-finding.

    `rows` are false_findings.ErrorRow of one arm; `pairs` are (finding, cofinding). The counts stand at the bars.
    """
    table = {(r.finding, r.cofinding, r.cofinding_present): r for r in rows if r.kind == "cofinding"}
    for i, (finding, cofinding) in enumerate(pairs):
        for there, colour, shift in ((True, REJECTED, -0.19), (False, BASE, 0.19)):
            row = table.get((finding, cofinding, there))
            if row is None or not row.images:
                continue
            label = ("co-finding in the image" if there else "co-finding not in the image") if i == 0 else None
            ax.barh(i + shift, row.false / row.images, height=0.34, color=colour, label=label,
                    hatch="///" if there else "", edgecolor="white")
            ax.text(row.false / row.images, i + shift, f" {row.false}/{row.images}", va="center", fontsize=FONT_PT - 2)
    ax.set_yticks(range(len(pairs)), [f"{finding}\n(with {cofinding})" for finding, cofinding in pairs])
    ax.set_ylim(len(pairs) - 0.5, -0.5)
    ax.set(xlabel="share of images without the finding whose report affirms it")
    ax.set_title(title, fontsize=FONT_PT + 1, parse_math=False)
    ax.margins(x=0.15)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=FONT_PT - 1)
    return _plain(ax)


def token_gradients(ax: Axes, tokens: Sequence[str], gradients: Mapping[str, Sequence[float]]) -> Axes:
    """Bars of ∂L/∂(log-prob) per token for each named loss or side; a bar below 0 means the token is pushed up."""
    width = 0.8 / max(len(gradients), 1)
    places = np.arange(len(tokens))
    for i, (name, values) in enumerate(gradients.items()):
        shift = (i - (len(gradients) - 1) / 2) * width
        look = {"color": SERIES[i % len(SERIES)], "hatch": HATCHES[i % len(HATCHES)], "edgecolor": "white"}
        ax.bar(places + shift, values, width, label=name, linewidth=0.5, **look)
    ax.axhline(0, color=FAINT, linewidth=1)
    ax.set_xticks(places, [str(token).strip() or "␣" for token in tokens], rotation=45, ha="right", parse_math=False)
    ax.set_ylabel("∂L / ∂ log π")
    ax.legend(frameon=False, fontsize=FONT_PT - 1)
    return _plain(ax)


def histogram(ax: Axes, groups: Mapping[str, Sequence[float]], *, bins: int = 30, xlabel: str = "") -> Axes:
    """Outlined histograms on common bins, for margins or pixel values of several groups."""
    pooled = np.concatenate([np.asarray(values, float) for values in groups.values()])
    edges = np.histogram_bin_edges(pooled, bins)
    for i, (name, values) in enumerate(groups.items()):
        ax.hist(values, edges, histtype="stepfilled", alpha=0.18, color=SERIES[i % len(SERIES)])
        ax.hist(values, edges, histtype="step", label=name, **series_style(i))
    ax.set(xlabel=xlabel, ylabel="count")
    ax.legend(frameon=False, fontsize=FONT_PT - 1)
    return _plain(ax)


def _plain(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=FONT_PT - 1)
    return ax
