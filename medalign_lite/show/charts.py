"""What a lesson shows: charts, galleries and marked texts, each with words for who does not see it.

Every function returns a `panels.Picture`. Bars differ by hatching, lines by dashes: none of it needs colour to be read.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from medalign_lite.cases.case import Case, Question
from medalign_lite.cases.images import read_image
from medalign_lite.corruption.masks import Masks, lesion_mask
from medalign_lite.edits.repair import Edit
from medalign_lite.edits.truths import truth_of
from medalign_lite.show import figures
from medalign_lite.show.draw import lesions_of, with_lesions
from medalign_lite.show.failures import false_spans
from medalign_lite.show.panels import Picture, picture
from medalign_lite.text.spans import NoEdit

FILLS = (("#2B6CA3", ""), ("#F2A65A", "///"), ("#5B2A6E", "xxx"), ("#CFD6DC", "..."), ("#8F979E", "---"),
         ("#1B1F23", "\\\\\\"))  # told apart in grey too


def drawing(figure: Figure, alt: str) -> Picture:
    """A finished figure as a `Picture`, under the first words of what is to be seen in it."""
    return picture(figure, alt.partition(".")[0], alt=alt)


def clearest_error(asked: Sequence[tuple[Case, Question]], texts: Sequence[str]) -> tuple[Case, Question, str]:
    """The answer whose error is best seen: a finding is affirmed that is not there, on a side where nothing else is.

    Of several the one with the fewest errors beside it, then the first. Raises ValueError where no answer is wrong and
    can be corrected.
    """
    rated = [(_clarity(case, question, text), case, question, text) for (case, question), text in zip(asked, texts)]
    rated = [entry for entry in rated if entry[0] is not None]
    if not rated:
        raise ValueError(f"none of {len(texts)} answers has an error that can be corrected: ask about more cases")
    return max(rated, key=lambda entry: entry[0])[1:]


def _clarity(case: Case, question: Question, text: str) -> tuple | None:
    truth = truth_of(case, question)
    try:
        if truth.correct(text) is None:
            return None
    except NoEdit:
        return None
    false = [c for c in truth.read(text) if truth.judge(c).verdict == "false"]
    made_up = [c for c in false if c.polarity == "present" and "finding" in truth.judge(c).wrong]
    taken = {fact.side for fact in case.facts or () if fact.side and fact.visible}
    alone = [c for c in made_up if c.side and c.side not in taken]
    return bool(alone), bool(made_up), bool(lesions_of(case)), -len(false)


def wrong_answer(case: Case, question: Question, text: str) -> Picture:
    """The picture with what is there outlined and named, beside the answer with its false words struck through."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.75))
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
    figure = Figure(figsize=(2.3 * columns, (2.4 + 0.18 * lines) * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(pictures) :]:
        ax.set_axis_off()
    for ax, (title, parts) in zip(axes, pictures.items()):
        figures.overlay(ax, *(parts if isinstance(parts, tuple) else (parts,)), title=title, sides=sides)
    alt = f"{len(pictures)} pictures: " + "; ".join(title.replace("\n", ", ") for title in pictures)
    return drawing(figure, f"{alt}. {say}".strip())


def case_sheet(cases: Iterable[Case], *, count: int = 10) -> Picture:
    """Training pictures with their lesions outlined, so chosen that each finding is there if it can be."""
    train = [case for case in cases if case.split == "train"]
    first = {name: case for case in reversed(train) for name in case.findings}.values()
    chosen = list({case.id: case for case in (*first, *train)}.values())[:count]
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
    figure = Figure(figsize=(8, 1.1 + max(len(rows), 2) * (0.3 if stacked else 0.12 + 0.14 * beside)),
                    layout="constrained")
    ax, ends, thick = figure.subplots(), np.zeros(len(rows)), (0.7 if stacked else 0.8) / beside
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
    figure = Figure(figsize=(1.4 + 4.2 * len(matrices), 4.3), layout="constrained")
    axes = figure.subplots(1, len(matrices), squeeze=False)[0]
    for i, (ax, (title, phi)) in enumerate(zip(axes, matrices.items())):
        off = phi - np.diag(np.diag(phi))
        shown = ax.imshow(off, cmap=figures.DIVERGING, vmin=-0.8, vmax=0.8)
        for a, b in np.argwhere(np.abs(off) >= 0.2):
            ax.text(b, a, f"{off[a, b]:+.1f}", ha="center", va="center", fontsize=7)
        ax.set_title(title, fontsize=10)
        ax.set_yticks(range(len(names)), names if i == 0 else [], fontsize=8)
        ax.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    figure.colorbar(shown, ax=list(axes), label="correlation (phi)", shrink=0.8)
    told = [f"{title}: " + (", ".join(f"{names[a]} with {names[b]} {phi[a, b]:+.2f}" for a, b in np.argwhere(
        np.abs(np.triu(phi, 1)) >= 0.2)) or "none of .2 or more") for title, phi in matrices.items()]
    return drawing(figure, f"Correlations between findings. {'. '.join(told)}.")


def histograms(panels: Mapping[str, Mapping[str, Sequence[float]]], *, bins=30, log: bool = False) -> Picture:
    """One panel a quantity, {what is counted: {group: values}}."""
    figure = Figure(figsize=(5 * max(len(panels), 1), 3.1), layout="constrained")
    for ax, (xlabel, groups) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
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
    figure = Figure(figsize=(10, max(1.4, 0.36 * sum(heights))), layout="constrained")
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
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
    figure = Figure(figsize=(10, (0.78 + 0.2 * (longest // 100)) * max(len(found), 1)), layout="constrained")
    for ax, edit in zip(figure.subplots(max(len(found), 1), 1, squeeze=False)[:, 0], found):
        figures.edit_diff(ax, edit.chosen, edit.rejected, edit.spans_chosen, edit.spans_rejected)
        ax.spines["bottom"].set(visible=True, color="#B8C0C8")
    told = "; ".join(" · ".join(f"{edit.rejected[a:b]} becomes {edit.chosen[c:d]}" for (a, b, _), (c, d, _) in zip(
        edit.spans_rejected, edit.spans_chosen)) for edit in found)
    return drawing(figure, f"{len(found)} pairs, y+ underlined, y− struck through: {told}.")


def scatter(x: Sequence[float], y: Sequence[float], *, xlabel: str, ylabel: str, title: str = "",
            diagonal: bool = False, limits: Sequence[float] = ()) -> Picture:
    """Points, with the line of equality or horizontal limits."""
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    ax = figure.subplots()
    ax.plot(x, y, "o", markersize=4, color=figures.ALIGNED, alpha=0.7, markeredgewidth=0)
    for limit in limits:
        ax.axhline(limit, color=figures.FAINT, linestyle="--", linewidth=1)
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
    figure = Figure(figsize=(10.5, 6.2), layout="constrained")
    axes = figure.subplots(2, 2, width_ratios=(1, 2.2))
    figures.overlay(axes[0, 0], image, masks.lesion, title=f"1  the picture v, its {about} outlined")
    figures.edit_diff(axes[0, 1], edit.chosen, edit.rejected, edit.spans_chosen, edit.spans_rejected)
    axes[0, 1].set_title("2  the smallest correction (y+) of the answer (y−)", fontsize=9, loc="left")
    twin = "; dashed: its twin v°" if masks.control is not None else ""
    figures.overlay(axes[1, 0], damaged, None, masks.control, title=f"3  v′: the {about} filled{twin}")
    title = "4  the tokens of y− that carry weight"
    figures.token_heatmap(axes[1, 1], tokens, weights, label="weight", title=title)
    changed = ", ".join(f"{edit.rejected[a:b]} becomes {edit.chosen[c:d]}" for (a, b, _), (c, d, _) in zip(
        edit.spans_rejected, edit.spans_chosen))
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
