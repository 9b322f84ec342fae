"""Widgets for the notebooks: each function takes data and returns one ipywidgets object.

All text of a model or a data set is escaped and isolated (`<bdi>`): it is shown, never run.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape

import ipywidgets as ipw
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from medalign_lite.cases.case import Case, CaseError
from medalign_lite.cases.images import ImageError, read_image
from medalign_lite.corruption.corrupt import METHODS, corrupt
from medalign_lite.corruption.masks import dilate, lesion_mask
from medalign_lite.edits.truths import Facts
from medalign_lite.show import figures
from medalign_lite.show.charts import drawing
from medalign_lite.show.figures import SIDE, data_uri, is_dark, outlined, png, split_spans, value_scale
from medalign_lite.text.facts import FINDINGS

ANY = "any"


def isolated(text: str) -> str:
    """HTML that shows `text` and cannot do anything else: escaped, its writing direction kept to itself."""
    return f'<bdi dir="auto" style="white-space:pre-wrap">{escape(text)}</bdi>'


class Picture(ipw.HTML):
    """A picture with a text that says what it shows: ipywidgets' own Image has no place for one."""

    def show(self, png: bytes, alt: str) -> None:
        """Show PNG bytes; `alt` is what a reader hears who does not see them."""
        self.value = f'<img alt="{escape(alt)}" src="{data_uri(png)}" style="max-width:100%">'


def _browse(
    items: Sequence, filters: Mapping[str, tuple], show: Callable, *, name: str, also: Sequence = ()
) -> ipw.HBox:
    """Controls that choose one item, by number among those that pass the filters {description: (options, fits(item,
    option))}; `show` is called with it, or None, and how many pass, and again when one of `also` changes."""
    boxes = [ipw.Dropdown(options=[ANY, *options], description=about) for about, (options, _) in filters.items()]
    number = ipw.BoundedIntText(value=1, min=1, description=name)
    chosen: list = []

    def react(_=None) -> None:
        show(chosen[number.value - 1] if chosen else None, len(chosen))

    def select(_=None) -> None:
        asked = [(fits, box.value) for box, (_, fits) in zip(boxes, filters.values()) if box.value != ANY]
        chosen[:] = [item for item in items if all(fits(item, option) for fits, option in asked)]
        number.max = max(len(chosen), 1)
        number.value = 1
        react()

    for control in (*boxes, number, *also):
        control.observe(select if control in boxes else react, "value")
    select()
    return ipw.HBox([*boxes, number, *also])


def case_browser(cases: Sequence[Case], answers: Mapping[tuple[str, str], Mapping[str, str]] | None = None) -> ipw.VBox:
    """Look through cases by split and finding: the picture with or without masks, its facts, questions and answers.
    `answers` maps (case id, question id) to {arm: text}, shown under the reference answer."""
    masks = ipw.Checkbox(value=True, description="Show lesions", indent=False)
    picture, text = Picture(), ipw.HTML()

    def show(case: Case | None, of: int) -> None:
        image, text.value = _case_view(case, masks.value, answers or {}, of=of)
        lesions = f", with its lesions outlined: {_facts(case)}" if case and masks.value else ""
        picture.show(image, f"The image of case {case.id}{lesions}" if case else "no image: no case fits")

    filters = {
        "Split": (sorted({case.split for case in cases}), lambda case, split: case.split == split),
        "Finding": (FINDINGS, lambda case, finding: finding in {fact.finding for fact in case.facts or ()}),
    }
    controls = _browse(cases, filters, show, name="Case", also=[masks])
    beside = ipw.HBox([picture, text], layout={"align_items": "flex-start"})  # else long text stretches the picture
    return ipw.VBox([controls, beside])


def _case_view(case: Case | None, masks: bool, answers: Mapping, *, of: int) -> tuple[bytes, str]:
    """(PNG bytes, HTML) of one case; an unusable picture is said, not raised: browsing goes on."""
    if case is None:
        return png(Image.new("RGB", (SIDE, SIDE))), "<p>No case fits: choose another split or finding.</p>"
    try:
        image, problem = png(outlined(read_image(case.image), lesion_mask(case) if masks else None)), ""
    except (ImageError, CaseError) as error:
        image, problem = png(Image.new("RGB", (SIDE, SIDE))), f"<p>{isolated(str(error))}</p>"
    rows = [f"<p><b>{isolated(case.id)}</b> · {isolated(case.split)} · one of {of}</p>{problem}"
            f"<p>{isolated(_facts(case))}</p>"]
    for question in case.questions:
        lines = [("reference", question.answer), *answers.get((case.id, question.id), {}).items()]
        told = "<br>".join(f"<b>{escape(who)}</b> {isolated(answer)}" for who, answer in lines)
        rows.append(f"<p><i>{isolated(question.text)}</i><br>{told}</p>")
    return image, f'<div style="max-width:34em;line-height:1.5;padding-left:1em">{"".join(rows)}</div>'


def _facts(case: Case) -> str:
    if case.facts is None:
        return "no structured truth; lesions: " + (", ".join(lesion.label for lesion in case.lesions) or "none marked")
    return f"truth: {Facts(case.facts).words}"


def token_heatmap(answers: Mapping[str, tuple[Sequence[str], Mapping[str, Sequence[float]]]]) -> ipw.VBox:
    """Tokens coloured by a value: `answers` maps a title to (tokens, {name such as "Δ" or "KL": values}). Red is
    negative, white 0, blue positive, full colour at the answer's largest value. Hover or tab for the number."""
    if not answers:
        return ipw.VBox([ipw.HTML("no answer to show")])
    which = ipw.Dropdown(options=list(answers), description="Answer", layout={"width": "40em"})
    series = ipw.ToggleButtons(options=list(answers[which.value][1]))
    text = ipw.HTML()

    def show(_=None) -> None:
        tokens, values = answers[which.value]
        if series.value is not None:
            text.value = heatmap_html(tokens, values[series.value])

    def select(_=None) -> None:
        kept, names = series.value, list(answers[which.value][1])
        series.options = names
        series.value = kept if kept in names else names[0]
        show()

    which.observe(select, "value")
    series.observe(show, "value")
    show()
    return ipw.VBox([which, series, text])


def heatmap_html(tokens: Sequence[str], values: Sequence[float]) -> str:
    """One span a token: its background the value's colour, dots below it where it is negative, its number on focus."""
    scale, spans = value_scale(values), []
    for token, value in zip(tokens, values, strict=True):
        colour = scale.to_rgba(value)
        style = f"background:{to_hex(colour)};color:{'#fff' if is_dark(colour) else '#000'};white-space:pre-wrap"
        style += ";border-bottom:2px dotted" if value < 0 else ""
        told = f'role="img" tabindex="0" aria-label="{escape(str(token))} {value:+.4f}" title="{value:+.4f}"'
        spans.append(f'<span class="token" {told} style="{style}"><bdi>{escape(str(token))}</bdi></span>')
    number = '<style>.token:focus::after { content:" " attr(title); font-weight:bold }</style>'
    return f'{number}<div style="max-width:46em;line-height:1.9;font-family:monospace">{"".join(spans)}</div>'


def edit_diff(records: Sequence) -> ipw.VBox:
    """Preference records (METHOD §1) one by one, y+ above y-, edited spans coloured; filter by source and kind."""
    def kinds(record) -> set[str]:
        return {span[2] for span in (*record.spans_chosen, *record.spans_rejected)}

    def show(record, of: int) -> None:
        text.value = diff_html(record, of=of) if record else "<p>No record fits.</p>"

    text = ipw.HTML()
    filters = {
        "Source": (sorted({record.source for record in records}), lambda record, source: record.source == source),
        "Kind": (sorted(set().union(*map(kinds, records))), lambda record, kind: kind in kinds(record)),
    }
    return ipw.VBox([_browse(records, filters, show, name="Record"), text])


def diff_html(record, *, of: int) -> str:
    """One record: question, y+ with its spans green and underlined, y- with its spans red and struck through."""
    rows = [f"<p><b>{isolated(record.id)}</b> · {isolated(record.source)} · one of {of}<br>"
            f"<i>{isolated(record.question)}</i></p>"]
    for name, body, spans, colour, line in (
        ("y+", record.chosen, record.spans_chosen, figures.CHOSEN, "underline"),
        ("y−", record.rejected, record.spans_rejected, figures.REJECTED, "line-through"),
    ):
        parts = [f'<b style="color:{colour};text-decoration:{line}" title="{escape(kind)}">{escape(part)}</b>'
                 if kind else escape(part) for part, kind in split_spans(body, spans)]
        rows.append(f'<p><b style="color:{colour}">{name}</b> '
                    f'<bdi dir="auto" style="white-space:pre-wrap">{"".join(parts)}</bdi></p>')
    return f'<div style="max-width:46em;line-height:1.6">{"".join(rows)}</div>'


def corruption_explorer(
    image: Image.Image, lesion: np.ndarray, control: np.ndarray | None = None, *, id: str, seed: int,
    ask: Callable[[Image.Image], str] | None = None,
) -> ipw.VBox:  # fmt: skip
    """Corrupt the lesion or its control mask, bool (H, W), by any method and strength, beside the clean picture. `ask`,
    when given, is called on a button press with the corrupted picture and returns the model's answer."""
    places = {"lesion": lesion} | ({"control": control} if control is not None else {})
    method = ipw.Dropdown(options=METHODS, description="Method")
    place = ipw.ToggleButtons(options=list(places), description="Where")
    # not a slider: ipywidgets gives its handle no name that a screen reader could say
    strength = ipw.BoundedFloatText(value=1.0, min=0.0, max=2.0, step=0.1, description="Strength")
    clean, shown, text = Picture(), Picture(), ipw.HTML()
    also = ", its control in blue" if control is not None else ""
    clean.show(png(outlined(image, lesion, control)), f"The image, its lesion outlined in orange{also}")
    state = {}

    def show(_=None) -> None:
        state["image"] = corrupt(image, places[place.value], method=method.value, strength=strength.value, id=id,
                                 seed=seed, avoid=dilate(lesion))
        alt = f"The image with its {place.value} corrupted: {method.value}, strength {strength.value:.1f}"
        shown.show(png(outlined(state["image"])), alt)
        changed = np.any(np.asarray(state["image"].convert("RGB")) != np.asarray(image.convert("RGB")), axis=-1)
        text.value = f"<p>{changed.sum()} of {changed.size} pixels changed, {100 * changed.mean():.1f} %</p>"

    for box in (method, place, strength):
        box.observe(show, "value")
    show()
    rows = [ipw.HBox([method, strength]), place, ipw.HBox([clean, shown]), text]
    if ask is not None:
        button, answer = ipw.Button(description="Ask the model"), ipw.HTML()

        def reply(_) -> None:
            answer.value = isolated(ask(state["image"]))

        button.on_click(reply)
        rows.append(ipw.HBox([button, answer]))
    return ipw.VBox(rows)


def ask_box(ask: Callable[[Case, str], str], cases: Sequence[Case], question: str) -> ipw.VBox:
    """Put questions to a model: the first case is chosen, Enter asks. `ask(case, question)` returns the answer."""
    which = ipw.Dropdown(options=[(case.id, case) for case in cases], description="Case")
    box = ipw.Text(value=question, description="Question", continuous_update=False, layout={"width": "36em"})
    button, reply, picture = ipw.Button(description="Ask"), ipw.HTML(), Picture()

    def show(_=None) -> None:
        picture.show(png(outlined(read_image(which.value.image))), f"The image of case {which.value.id}")
        reply.value = ""

    def answer(_=None) -> None:
        reply.value = f'<p role="status">{isolated(ask(which.value, box.value))}</p>'

    which.observe(show, "value")
    box.observe(answer, "value")
    button.on_click(answer)
    show()
    return ipw.VBox([which, picture, ipw.HBox([box, button]), reply])


def metric_explorer(arms: Mapping[str, Mapping], draw: Callable, *, metrics: Sequence[str]) -> ipw.VBox:
    """Arms in two metrics of one's choice: `draw(ax, arms, x=, y=, split=)` is shown as a picture."""
    across = ipw.Dropdown(options=metrics, value=metrics[-1], description="Across")
    up = ipw.Dropdown(options=metrics, value=metrics[0], description="Up")
    split = ipw.Dropdown(options=("test", "shifted"), description="Split")
    picture = Picture(layout={"max_width": "760px"})

    def show(_=None) -> None:
        figure = Figure(figsize=(8, 5), layout="constrained")
        draw(figure.add_subplot(), arms, x=across.value, y=up.value, split=split.value)
        alt = f"The arms on {split.value}: {up.value} against {across.value}"
        picture.show(drawing(figure, alt).png, alt)

    for control in (across, up, split):
        control.observe(show, "value")
    show()
    return ipw.VBox([ipw.HBox([across, up, split]), picture])
