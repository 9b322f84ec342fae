"""Figures: helpers that take an axis and draw one thing on it; and pictures with their lesions outlined and named.

One palette, safe for colour-blind readers (Okabe and Ito 2008): grey base, blue aligned, green chosen, red rejected,
orange lesion, sky-blue control. No colour is the only sign: lines differ in dashes, bars in hatches, points in shape.
Text is drawn in a fixed-width font, never read as mathematics.
"""

import base64
import io
import re
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.patches import Rectangle
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont
from statsmodels.stats.proportion import proportion_confint

from medalign_lite.cases.case import Case
from medalign_lite.cases.images import read_image
from medalign_lite.corruption.masks import lesion_mask
from medalign_lite.evaluate.stats import RESULT_METRICS, Reliability

matplotlib.rcParams["text.parse_math"] = False  # in notebooks too: a label of the data may hold dollars
FAINT = "#6B757F"  # lines at known values and words for what is missing: 4.7 : 1 on white
BASE, ALIGNED = "#5A6570", "#0072B2"
CHOSEN, REJECTED = "#007D5A", "#B84800"  # as dark as small text needs, 4.5 : 1 and more on white
LESION, CONTROL = "#E69F00", "#56B4E9"
SERIES = (ALIGNED, REJECTED, CHOSEN, LESION, "#CC79A7", BASE)
DASHES = ("solid", "dashed", "dotted", "dashdot")
MARKERS = ("", "s", "^", "D", "v", "x")  # of each four lines after the first four
HATCHES = ("", "///", "...", "xx", "--", "\\\\\\")
DIVERGING = LinearSegmentedColormap.from_list("red-white-blue", [REJECTED, "#FFFFFF", ALIGNED])
SEQUENTIAL = LinearSegmentedColormap.from_list("white-blue", ["#FFFFFF", "#8CC4E8", ALIGNED])
RATES = tuple(name for name in RESULT_METRICS if name not in ("grounding_selectivity", "kl_to_reference"))
LOWER_IS_BETTER = ("hallucination_rate", "overclaim_lesion_hidden", "neither_ratio")
FONT_PT = 9
ENOUGH = 10  # questions in a bin of p(yes)
_GLYPH_WIDTH = 0.602  # of the font size, in DejaVu Sans Mono
_LINE_HEIGHT = 1.75  # of the font size
SIDE = 360  # pixels of a shown picture's longer side


def overlay(
    ax: Axes, image, lesion: np.ndarray | None = None, control: np.ndarray | None = None, *, title: str = "",
    sides: bool = True,
) -> Axes:  # fmt: skip
    """An image with its lesion (orange, solid) and control mask (blue, dashed) outlined; masks are bool (H, W). `sides`
    writes R and L beside it: in a frontal radiograph the patient's right is on the image's left."""
    ax.imshow(np.asarray(image), cmap="gray", interpolation="bilinear")
    for mask, colour, style in ((lesion, LESION, "solid"), (control, CONTROL, "dashed")):
        if mask is not None and np.any(mask):
            mask = np.asarray(mask, bool)
            ax.imshow(np.dstack([*(np.full(mask.shape, v) for v in to_rgb(colour)), mask * 0.22]))
            frame = (-1.5, mask.shape[1] + 0.5, -1.5, mask.shape[0] + 0.5)
            look = {"colors": [colour], "linewidths": 1.4, "linestyles": style}
            ax.contour(np.pad(mask.astype(float), 1), levels=[0.5], extent=frame, **look)
    ax.set(xticks=[], yticks=[], xlim=(-0.5, np.shape(image)[1] - 0.5), ylim=(np.shape(image)[0] - 0.5, -0.5))
    ax.set_title(title, fontsize=FONT_PT)
    if sides:
        for letter, x, align in (("R", -0.015, "right"), ("L", 1.015, "left")):
            ax.text(x, 0.5, letter, transform=ax.transAxes, ha=align, va="center", fontsize=FONT_PT, color=BASE)
    ax.spines[:].set_visible(False)
    return ax


def value_scale(values: Sequence[float], limit: float | None = None) -> ScalarMappable:
    """Colours for values: red for negative ones, white for 0, blue for positive; white to blue where none is negative.
    `limit` is the value at full colour (default: the largest there is)."""
    limit = limit or float(np.max(np.abs(values), initial=0)) or 1.0
    signed = bool(np.any(np.less(values, 0)))
    return ScalarMappable(Normalize(-limit if signed else 0, limit), DIVERGING if signed else SEQUENTIAL)


def token_heatmap(
    ax: Axes, tokens: Sequence[str], values: Sequence[float], *, label: str = "nats", title: str = "",
    limit: float | None = None,
) -> Axes:  # fmt: skip
    """The text with each token on a colour of `value_scale` for its value (weight, Δ or KL), underlined below 0."""
    if len(tokens) != len(values):
        raise ValueError(f"{len(tokens)} tokens with {len(values)} values: give one value a token")
    scale = value_scale(values, limit)
    pieces = [(str(token), {"background": scale.to_rgba(value), "line": "below" if value < 0 else ""})
              for token, value in zip(tokens, values, strict=True)]
    bar = ax.figure.colorbar(scale, ax=ax, fraction=0.02, pad=0.01)
    bar.set_label(label, fontsize=FONT_PT)
    bar.ax.tick_params(labelsize=FONT_PT - 1)
    _write(ax, pieces)
    ax.set_title(title, fontsize=FONT_PT, loc="left")
    return ax


def edit_diff(ax: Axes, chosen: str, rejected: str, spans_chosen: Sequence, spans_rejected: Sequence) -> Axes:
    """y+ above y-, their spans [start, end, kind] coloured: green and underlined, red and struck through."""
    pieces: list[tuple[str, dict]] = []
    sides = ("y+  ", chosen, spans_chosen, CHOSEN, "under"), ("y-  ", rejected, spans_rejected, REJECTED, "through")
    for name, text, spans, colour, line in sides:
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
    for start, end, kind in sorted(map(tuple, spans)):
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
            for word in re.findall(r" *[^ ]+| +$", part):  # what may not be broken, with its leading spaces
                if column + len(word.rstrip()) > cells and column:
                    row, column, word = row + 1, 0, word.lstrip()
                _cell(ax, word, row, column, style)
                column += len(word)


def _cell(ax: Axes, text: str, row: int, column: int, style: dict) -> None:
    glyph, line = FONT_PT * _GLYPH_WIDTH, FONT_PT * _LINE_HEIGHT
    x, y, span = column * glyph, (row + 0.7) * line, len(text) * glyph  # y: the baseline
    background = style.get("background", "none")
    if background != "none":
        ax.add_patch(Rectangle((x, y - 0.6 * line), span, 0.82 * line, facecolor=background, edgecolor="none"))
    colour = style.get("color") or ("white" if background != "none" and is_dark(background) else "black")
    look = {"color": colour, "fontweight": style.get("weight", "normal"), "fontsize": FONT_PT}
    for i, letter in enumerate(text):  # one by one: hinting would round the advance, and the cells would not fit
        if not letter.isspace():
            ax.text(x + (i + 0.5) * glyph, y, letter, ha="center", va="baseline", family="DejaVu Sans Mono", **look)
    if style.get("line") and text.strip():
        drop, colour = {"under": (0.12, colour), "through": (-0.17, colour), "below": (0.3, REJECTED)}[style["line"]]
        start = x + (len(text) - len(text.lstrip())) * glyph
        ax.plot([start, x + span], [y + drop * line] * 2, color=colour, linewidth=1.1, solid_capstyle="butt")


def is_dark(colour) -> bool:
    """True where white text on this RGB colour is easier to read than black (relative luminance of WCAG 2)."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722))) < 0.179  # equal contrast with black and with white


def series_style(i: int) -> dict:
    """Keywords of `plot` for line i of a figure: no other line has its dashes and its marker, whatever the colour.
    Raises ValueError where two lines would look the same in grey."""
    if not 0 <= i < len(DASHES) * len(MARKERS):
        raise ValueError(f"line {i}: a figure can tell {len(DASHES) * len(MARKERS)} lines apart, draw fewer in one")
    look = {"color": SERIES[i % len(SERIES)], "linestyle": DASHES[i % len(DASHES)], "linewidth": 1.6}
    return look | {"marker": MARKERS[i // len(DASHES)], "markersize": 4}


def lines(ax: Axes, x: Sequence[float], series: Mapping[str, Sequence[float]], *, xlabel="", ylabel="") -> Axes:
    """One line a series, all over the same x."""
    for i, (name, values) in enumerate(series.items()):
        ax.plot(x, values, label=name, markevery=max(1, len(x) // 8), **series_style(i))
    return _finished(ax, xlabel=xlabel, ylabel=ylabel)


def forest(ax: Axes, results: Mapping, split: str, names: Sequence[str]) -> Axes:
    """Base (grey circle) and aligned (blue diamond) with 95 % intervals, one row a metric; unmeasured rows say so."""
    for row, name in enumerate(names):
        for arm, colour, marker, shift in (("base", BASE, "o", -0.15), ("aligned", ALIGNED, "D", 0.15)):
            _point(ax, results[arm][split][name], row + shift, colour, marker, label=arm if row == 0 else None)
    below = {"ncols": 2, "loc": "lower center", "bbox_to_anchor": (0.5, -0.2)}
    return _rows(ax, names, legend=below, xlim=(-0.02, 1.02), title=split)


def forest_difference(ax: Axes, results: Mapping, split: str, names: Sequence[str]) -> Axes:
    """Aligned minus base with paired 95 % intervals; filled where the interval leaves out 0."""
    for row, name in enumerate(names):
        entry = results["difference"][split][name]
        clear = entry["low"] is not None and (entry["low"] > 0 or entry["high"] < 0)
        _point(ax, entry, row, ALIGNED, "D", face=ALIGNED if clear else "white")
    ax.axvline(0, color=FAINT, linewidth=1)
    return _rows(ax, names, title=f"{split}: aligned − base")


def _point(ax: Axes, entry: Mapping, y: float, colour: str, marker: str, *, label=None, face=None) -> None:
    if entry["value"] is None:
        ax.plot([], [], marker, color=colour, label=label)
        ax.text(0.5, round(y), "not measurable", transform=ax.get_yaxis_transform(), ha="center", va="center",
                fontsize=FONT_PT - 2, color=FAINT, style="italic")
        return
    if entry["low"] is not None:
        ax.plot([entry["low"], entry["high"]], [y, y], color=colour, linewidth=1.6)
    ax.plot([entry["value"]], [y], marker, color=colour, markerfacecolor=face or colour, markersize=5, label=label)


def spoken(metric: str) -> str:
    """A metric's name as words."""
    return metric.replace("_", " ").replace(" f1", " F1").replace("kl ", "KL ")


def _rows(ax: Axes, names: Sequence[str], **look) -> Axes:
    ax.set_yticks(range(len(names)), [spoken(name) + (" ↓" if name in LOWER_IS_BETTER else "") for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="x", color="#E3E6E9", linewidth=0.8)
    return _finished(ax, **look)


def reliability_lines(ax: Axes, arms: Mapping[str, Reliability]) -> Axes:
    """Share of yes among the answers that are right, by bin of p(yes), one line an arm: the base first, in grey. Bins
    of fewer than ENOUGH questions are left out; bars are 95 % Wilson intervals of a bin's share, its questions taken as
    independent. A marker's area goes by the questions; on the dashed line p(yes) means what it says."""
    ax.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1)
    most = max((arm.n.max() for arm in arms.values()), default=1)
    looks = zip((BASE, *SERIES), "oDs^v<>", strict=False)
    for shift, ((name, arm), (colour, marker)) in enumerate(zip(arms.items(), looks, strict=False)):
        held = arm.n >= ENOUGH
        p, share, n = arm.mean_p[held] + 0.008 * shift, arm.yes_share[held], arm.n[held]
        low, high = proportion_confint(np.round(share * n), n, method="wilson")
        ax.plot(p, share, color=colour, linestyle=DASHES[shift % len(DASHES)], marker=marker, linewidth=1.4, label=name)
        ax.vlines(p, low, high, color=colour, linewidth=1.2)
        ax.scatter(p, share, 12 + 90 * n / most, color=colour, marker=marker, alpha=0.75, linewidths=0)
    return _finished(
        ax, legend={"ncols": 2, "loc": "lower left", "bbox_to_anchor": (0, 1)}, xlim=(-0.03, 1.03), ylim=(-0.03, 1.03),
        xlabel=f"p(yes), mean of the bin (bins of at least {ENOUGH} questions)",
        ylabel="share whose right answer is yes",
    )  # fmt: skip


def prior_bars(ax: Axes, rows: Sequence, pairs: Sequence[tuple[str, str]], *, title: str = "") -> Axes:
    """False findings by prior: how often a finding that is not there was affirmed, with and without a co-finding.
    `rows` are priors.ErrorRow of one arm; `pairs` are (finding, cofinding). The counts stand at the bars."""
    table = {(r.finding, r.cofinding, r.cofinding_present): r for r in rows if r.kind == "cofinding" and r.images}
    labels = {True: "co-finding in the image", False: "co-finding not in the image"}  # each told once
    for i, (finding, cofinding) in enumerate(pairs):
        for there, colour, shift in ((True, REJECTED, -0.19), (False, BASE, 0.19)):
            if (row := table.get((finding, cofinding, there))) is None:
                continue
            ax.barh(i + shift, row.false / row.images, height=0.34, color=colour, label=labels.pop(there, None),
                    hatch="///" if there else "", edgecolor="white")
            ax.text(row.false / row.images, i + shift, f" {row.false}/{row.images}", va="center", fontsize=FONT_PT - 2)
    ax.set_yticks(range(len(pairs)), [f"{finding}\n(with {cofinding})" for finding, cofinding in pairs])
    ax.set_ylim(len(pairs) - 0.5, -0.5)
    ax.set_title(title, fontsize=FONT_PT + 1)
    ax.margins(x=0.15)
    return _finished(ax, xlabel="share of images without the finding whose report affirms it")


def token_gradients(ax: Axes, tokens: Sequence[str], gradients: Mapping[str, Sequence[float]]) -> Axes:
    """Bars of ∂L/∂(log-prob) per token for each named loss or side; a bar below 0 means the token is pushed up."""
    width, places = 0.8 / max(len(gradients), 1), np.arange(len(tokens))
    for i, (name, values) in enumerate(gradients.items()):
        shift = (i - (len(gradients) - 1) / 2) * width
        look = {"color": SERIES[i % len(SERIES)], "hatch": HATCHES[i % len(HATCHES)], "edgecolor": "white"}
        ax.bar(places + shift, values, width, label=name, linewidth=0.5, **look)
    ax.axhline(0, color=FAINT, linewidth=1)
    ax.set_xticks(places, [str(token).strip() or "␣" for token in tokens], rotation=45, ha="right")
    return _finished(ax, ylabel="∂L / ∂ log π")


def histogram(ax: Axes, groups: Mapping[str, Sequence[float]], *, bins: int = 30, xlabel: str = "") -> Axes:
    """Outlined histograms on common bins, for margins or pixel values of several groups."""
    pooled = np.concatenate([np.asarray(values, float) for values in groups.values()])
    edges = np.histogram_bin_edges(pooled, bins)
    for i, (name, values) in enumerate(groups.items()):
        look = {key: series_style(i)[key] for key in ("color", "linestyle", "linewidth")}
        ax.hist(values, edges, histtype="stepfilled", alpha=0.18, color=look["color"])
        ax.hist(values, edges, histtype="step", label=name, **look)
    return _finished(ax, xlabel=xlabel, ylabel="count")


def _finished(ax: Axes, *, legend: Mapping = {}, **labels) -> Axes:
    """The axis with its labels, a legend of what has a name, and no frame at the top and right."""
    ax.set(**labels)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=FONT_PT - 1, **legend)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=FONT_PT - 1)
    return ax


def data_uri(png: bytes) -> str:
    """PNG bytes as the address that a page holds them by."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def png(image: Image.Image) -> bytes:
    """The picture as PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def outlined(
    image: Image.Image, lesion: np.ndarray | None = None, control: np.ndarray | None = None, *, side: int = SIDE
) -> Image.Image:
    """The picture scaled to `side`, with the borders of its masks, bool (H, W): lesion orange, control blue."""
    scale = side / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    picture = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    for mask, colour in ((lesion, LESION), (control, CONTROL)):
        if mask is not None:
            area = Image.fromarray(np.asarray(mask, np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
            border = ImageChops.difference(area, area.filter(ImageFilter.MinFilter(5)))
            picture.paste(tuple(round(255 * v) for v in to_rgb(colour)), mask=border)
    return picture


def lesion_names(case: Case) -> dict[str, str]:
    """{what it is called in the case: a name such as "left effusion"} of visible facts and lesions with pixels."""
    named: dict[str, str] = {x.label.lower(): x.label for x in case.lesions if x.outlined}
    named |= {f.finding: " ".join(filter(None, (f.side, f.finding))) for f in case.facts or () if f.mask and f.visible}
    return named


def lesions_of(case: Case) -> dict[str, np.ndarray]:
    """{name such as "left effusion": mask, bool (H, W)} of each of them."""
    return {shown: lesion_mask(case, [name]) for name, shown in lesion_names(case).items()}


def with_lesions(case: Case, *, side: int = SIDE) -> Image.Image:
    """The case's picture with each lesion outlined and called by its name."""
    return named(read_image(case.image), lesions_of(case), side=side)


def named(image: Image.Image, lesions: Mapping[str, np.ndarray], *, side: int = SIDE) -> Image.Image:
    """The picture scaled to `side`, each mask outlined, its name on black above it, or below where that is taken."""
    picture = outlined(image, np.logical_or.reduce(list(lesions.values())) if lesions else None, side=side)
    pen, font, taken = ImageDraw.Draw(picture), ImageFont.load_default(max(11, side // 24)), []
    for name, mask in lesions.items():
        rows, columns = np.nonzero(mask)
        if not len(rows):
            continue
        scale = picture.width / mask.shape[1]
        width, height = pen.textlength(name, font=font) + 6, font.size + 6
        x = min(max(0, columns.mean() * scale - width / 2), picture.width - width)
        tops = [rows.min() * scale - height - 3, rows.max() * scale + 3, rows.mean() * scale]
        boxes = [(x, y, x + width, y + height) for y in (min(max(0, y), picture.height - height) for y in tops)]
        free = (box for box in boxes if not any(
            box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken))
        taken.append(next(free, boxes[0]))
        pen.rectangle(taken[-1], fill="black")
        pen.text((x + 3, taken[-1][1] + 1), name, font=font, fill=LESION)
    return picture
