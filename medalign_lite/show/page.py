"""Self-contained pages, a run's report and executed notebooks: pictures inline, nothing loaded from elsewhere, no
script, model text escaped."""

import copy
import datetime
import html
import os
import platform
import re
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jinja2 import Environment, PackageLoader, StrictUndefined
from latex2mathml.converter import convert
from latex2mathml.exceptions import NoAvailableTokensError
from markupsafe import Markup
from nbconvert import HTMLExporter

from medalign_lite import __version__
from medalign_lite.cases.case import Case
from medalign_lite.evaluate.metrics import FEW_WORDS
from medalign_lite.evaluate.priors import COMMONEST, NO
from medalign_lite.evaluate.short_answers import CLOSED_SCORER, OPEN_SCORER
from medalign_lite.evaluate.stats import TEST_SPLITS
from medalign_lite.files import write_text
from medalign_lite.show.charts import Picture
from medalign_lite.show.failures import Failure
from medalign_lite.show.figures import LOWER_IS_BETTER, data_uri, split_spans, spoken
from medalign_lite.show.tables import ASKED, known

NOT_MEASURABLE = "not measurable: no structured truth"
ABSENT = {"value": None, "low": None, "high": None, "n": 0}  # a metric that was not counted
MEANING = {
    "fact_precision": "affirmed claims of reports whose finding, side and zone are right",
    "fact_recall": "visible facts that a right claim states",
    "fact_f1": "harmonic mean of the two",
    "hallucination_rate": "affirmed claims whose finding is not there, or not on that side",
    "closed_accuracy": f"closed questions, yes/no or either/or, answered right (scorer: {CLOSED_SCORER})",
    "choice_accuracy": "multiple-choice questions whose right option is named, by its letter or its text",
    "open_recall": f"words of the reference answer that the answer holds (scorer: {OPEN_SCORER})",
    "yes_ratio": "yes among the answers to yes/no questions",
    "neither_ratio": "answers to yes/no questions that say neither: they refuse, echo or ask",
    "grounding_probability": "pairs whose preference falls more with the lesion gone than with another place gone",
    "grounding_selectivity": "nats by which the preference falls with the lesion gone rather than another place",
    "invariance_rate": "pairs whose preference keeps its sign when another place is corrupted",
    "flip_rate": "pairs whose preference turns round when the lesion is corrupted",
    "overclaim_lesion_hidden": "findings still reported when they alone were taken out, and their company stayed",
    "style_edit_distance": "words changed against the base's answer, as a share",
    "kl_to_reference": "nats per token, forward KL from the base",
    "size_accuracy": "right claims that also state the right size",
    "answer_words": "words per answer",
    "within_few_words": f"answers at most {FEW_WORDS} word edits from the base's",
    "perplexity_under_base": "how foreign the base finds the wording of the reports (1 = no other word was possible)",
    "closed_accuracy_llavamed": "closed questions answered right (scorer: llavamed, which reads yes and no alone)",
    "closed_accuracy_lmms": "closed questions answered right (scorer: lmms, exact match after normalising)",
    "choice_none": "multiple-choice answers that name no option, or two",
    "open_recall_strict": "words of the reference answer that the answer holds, each once (scorer: strict)",
    "open_accuracy_lmms": "open questions answered right (scorer: lmms, exact match after normalising)",
    "twin_accuracy": "pairs of like questions with opposite answers of which both are answered right",
    "premise_rejection": "questions about a finding that is not there whose answer says so",
    "change_lesion": "answers that change when the lesion is corrupted",
    "change_control": "answers that change when as much of another place is",
    "change_selectivity": "the first less the second",
    "change_grounded": "answers to questions that change with the lesion, and not with the other place",
}
BETTER_UP = ("fact_precision", "fact_recall", "fact_f1", "closed_accuracy", "choice_accuracy", "open_recall",
             "grounding_probability", "twin_accuracy", "change_grounded", "invariance_rate", "size_accuracy",
             "premise_rejection", "change_selectivity", "closed_accuracy_llavamed", "closed_accuracy_lmms",
             "open_recall_strict", "open_accuracy_lmms")  # fmt: skip
NEEDS_FACTS = ("fact_precision", "fact_recall", "fact_f1", "hallucination_rate", "overclaim_lesion_hidden",
               "size_accuracy")  # fmt: skip
HEADLINE = {  # the columns of the first table
    "fact_f1": "fact F1", "hallucination_rate": "false findings", "closed_accuracy": "closed accuracy",
    "choice_accuracy": "choice accuracy",
    "grounding_probability": "grounding",
}  # fmt: skip
ABOUT = {  # an arm in one line
    "base": "the model as it was, adapters off",
    NO: "a constant: denies everything, looks at nothing",
    COMMONEST: "a constant: what the training cases mostly say",
    "dpo": "Rafailov 2023: prefer the corrected answer, all words alike",
    "mask-dpo": "DPO on the edited words alone",
    "ddpo": "RLHF-V, Yu 2024: DPO with more weight on the edited words",
    "rrpo": "Sarkar 2025: edited words, and the rest of the answer held by a forward KL",
    "tdpo1": "Zeng 2024: DPO less the difference of the answers' token KL",
    "tdpo2": "TDPO with half of that difference, and no gradient through the chosen side",
    "mdpo": "Wang 2024: DPO, a picture-conditional term, and an anchor for the chosen answer",
    "mmedpo": "Zhu 2024: right answer with the lesion against wrong answer without",
    "simpo": "Meng 2024: no reference model, log-probability a word, a target margin",
    "fire-mpo": "the paper's: edited words, both KL, and the preference turned round where the lesion is hidden",
    "cdpo": "Mitchell 2023: DPO on the edited words with smoothed labels",
    "sft-gold": "plain likelihood of the reference answer",
    "sft-edits": "plain likelihood of the corrected answer",
    "neutral-control": "ours: no lesion, no opinion; damage elsewhere changes nothing",
    "grounded": "ours: the correction is likelier with the lesion there than with it removed",
}
LIMITS = {
    "phantom": (
        "The pictures are a synthetic phantom and the model has a few million parameters: the result is about the "
        "method, not about any clinical use.",
        "One training seed: the intervals are about the choice of test images, not about training again.",
        "Reports are read by rules; a sentence that the rules misread counts as what they read (docs/READING.md).",
    ),
    "real": (
        "The embedded model has never seen pictures like these. This run shows that the machinery works on real data; "
        "its scores say nothing about the method.",
        "Real data comes without a full list of what is in each picture, so fact metrics cannot be measured.",
        "One training seed: the intervals are about the choice of test images, not about training again.",
    ),
}
WIDGET = "application/vnd.jupyter.widget-view+json"
CODE_OR_MATH = re.compile(
    r"(?P<code>```.*?```|`[^`\n]*`)|\$\$(?P<block>.+?)\$\$|(?<![\\$])\$(?P<inline>[^$\n]+?)\$", re.S
)
PLACE = f"formula-{secrets.token_hex(8)}-{{}}-"  # no text of a notebook can hold it
LOCAL = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?![a-z]+:|#)([^()\s]+)\)")  # a link to a file
PAGE = re.compile(r"(\d\d_\w+)\.ipynb(#\S*)?")
PROGRESS = re.compile(r"^.*: \d+ of \d+, \S+ gone, \S+ left\n", re.M)  # as `files.PLAIN_BAR` writes it
FETCHED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)\s*=\s*[\"']?(?:https?:)?//[^>]*>", re.I)


def limits_of(cases: Iterable[Case]) -> Sequence[str]:
    """What must not be concluded from a run on these cases."""
    return LIMITS["phantom" if all(case.source == "phantom" for case in cases) else "real"]


@dataclass(frozen=True)
class Report:
    """What the page shows; all but `results` may be missing.

    results   stats.results, the content of results.json, and whatever other metrics were counted the same way
    setup     what was run, shown in order: `run_facts`, preset, model, revision, ...
    arms      {arm: stats.compare of the base with it, on test}: base, recipes, constants; the aligned one is `aligned`
    shown     three cases, before and after, for the first screen; failures: more, at the end
    reading   what the numbers say, sentence by sentence (tables.read_results)
    controls  {condition such as "blank": stats.results under it}
    changed   {what was changed in the picture: stats.results against the truth that it then shows}, on test
    left_out  {title: (what, why) of each thing that was left out}
    """

    results: Mapping
    setup: Mapping[str, object]
    aligned: str = "aligned"
    arms: Mapping[str, Mapping] | None = None
    shown: Sequence[Failure] = ()
    reading: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    controls: Mapping[str, Mapping] | None = None
    changed: Mapping[str, Mapping] | None = None
    failures: Sequence[Failure] = ()
    left_out: Mapping[str, Sequence[tuple[object, object]]] | None = None
    limits: Sequence[str] = LIMITS["phantom"]


def run_facts(command: str, *, seed: int) -> dict[str, str]:
    """Date, version, command, seed and machine, for `Report.setup`."""
    torch = sys.modules.get("torch")
    device = torch.cuda.get_device_name() if torch and torch.cuda.is_available() else "no GPU"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB, {device}"
    return {"date": datetime.date.today().isoformat(), "version": __version__, "command": command, "seed": str(seed),
            "machine": machine}


def setup_of(stage, cohort, choice: Mapping) -> dict[str, str]:
    """`run_facts` of a stage's run, and from which preset, model, cases and pairs it is."""
    return run_facts(stage.command, seed=stage.seed) | {
        "preset": f"{stage.preset.name}: {stage.preset.purpose}", "model": stage.parts["model"]["name"],
        "revision": stage.parts["model"]["revision"], "cases": f"{cohort.layout}: {cohort.reason}",
        "aligned": f"{choice['aligned']}: {choice['why']}", "trained on": f"{choice['pairs']} pairs",
    }  # fmt: skip


def left_out_of(cohort, rejected: Mapping[str, int]) -> dict[str, list[tuple]]:
    """{title: (what, why)} of skipped cases, and of preference records by the reason that refused them."""
    lost = [(row["id"], row["reason"]) for row in (*cohort.skipped, *cohort.dropped)]
    reasons = sorted(rejected.items(), key=lambda item: (-item[1], item[0]))
    return {f"Skipped cases: {len(lost)}": lost, f"Rejected preference records: {sum(rejected.values())}": reasons}


def verdict(results: Mapping) -> str:
    """Does alignment help? The answer for `test` with its intervals, then the same changes on `shifted`."""
    test, shifted = ({arm: block.get(split, {}) for arm, block in results.items()} for split in TEST_SPLITS)
    gaps, both = test["difference"], ("fact_f1", "hallucination_rate")
    if known(gaps, *both):
        detail = ", and ".join(_change(test, name) for name in both)
        later = ", and ".join(_change(shifted, name) for name in both if known(shifted["difference"], name))
        told = f"On {gaps['fact_f1']['n']} test images {detail}."
        return " ".join([_judgement(*map(gaps.get, both)), told, *([f"On the shifted test {later}."] if later else [])])
    if known(gaps, "fact_f1"):
        told = f"{_change(test, 'fact_f1')}, and the hallucination rate cannot be compared"
        return f"One arm affirms no finding at all: on {gaps['fact_f1']['n']} test images {told}."
    for name in ASKED:
        if known(gaps, name):
            return f"{_answered(gaps[name])} On {gaps[name]['n']} test images {_change(test, name)}."
    return f"Whether alignment helps is {NOT_MEASURABLE}. No test image has a question that could be scored."


def _answered(gap: Mapping) -> str:
    """Where nobody wrote down what is in the pictures, answers to questions are all there is to go by."""
    if gap["low"] is None:
        said = "Too few test images for an interval"
    elif gap["low"] > 0:
        said = "Alignment helped with questions"
    elif gap["high"] < 0:
        said = "Alignment did harm with questions"
    else:
        said = "Alignment is not shown to help with questions"
    return f"{said}; whether with findings is {NOT_MEASURABLE}."


def _judgement(f1: Mapping, false: Mapping) -> str:
    if None in (f1["low"], false["low"]):
        return "Too few test images for an interval."
    up, down = (f1["low"] > 0, false["high"] < 0), (f1["high"] < 0, false["low"] > 0)
    if all(up):
        return "Alignment helped."
    if any(up) and not any(down):
        return "Alignment helped in part: one of the two intervals includes no change."
    if any(down) and not any(up):
        return "Alignment did harm."
    return "Alignment is a trade." if any(up) else "Alignment is not shown to help: both intervals include no change."


def _change(test: Mapping, name: str) -> str:
    gap = test["difference"][name]
    span = "" if gap["low"] is None else f", 95 % interval {gap['low']:+.3f} to {gap['high']:+.3f}"
    values = f"{test['base'][name]['value']:.3f} to {test['aligned'][name]['value']:.3f}"
    return f"{spoken(name)} went from {values} ({gap['value']:+.3f}{span})"


def write_report(path: Path | str, report: Report) -> Path:
    """Write the page and return its path; a crash leaves the former page whole. Raises OSError where the folder cannot
    be written."""
    results, controls, changed = report.results, report.controls or {}, report.changed or {}
    names = _ordered({name for block in controls.values() for name in block["base"]["test"]})
    headline, _, detail = verdict(results).partition(". ")
    page = _environment().get_template("page.html.j2").render(
        report=report, headline=headline.removesuffix(".") + ".", detail=detail,
        arms=_arm_rows(report), arm_names=_measured(report.arms or {}), not_asked=_not_asked(report),
        tables=[(split, _rows(results, split)) for split in TEST_SPLITS if split in results["difference"]],
        control_names=names, controls=[  # the real image first
            (condition, arm, [_cell(block[arm]["test"].get(name, ABSENT)) for name in names])
            for condition, block in ({"real": results} | controls if controls else {}).items()
            for arm in ("base", "aligned")],
        changed=[(what, _rows(block, "test")) for what, block in changed.items()],
    )  # fmt: skip
    write_text(path, page)
    return Path(path)


def _measured(arms: Mapping[str, Mapping]) -> list[str]:
    """The metrics of the first table that some arm has."""
    return [name for name in HEADLINE if any(known(block["aligned"], name) for block in arms.values())]


def _arm_rows(report: Report) -> list[dict]:
    """One row an arm, the base first, then the aligned one: its name, its line, and (value, interval, effect) cells."""
    rank, rows = {"base": 0, report.aligned: 1, COMMONEST: 3, NO: 3}, []
    for arm, block in sorted((report.arms or {}).items(), key=lambda item: rank.get(item[0], 2)):
        said, gaps = block["aligned"], block.get("difference", {}) if arm != "base" else {}
        cells = [(*_cell(said.get(name, ABSENT)), _effect(name, gaps.get(name, ABSENT)))
                 for name in _measured(report.arms)]
        rows.append({"name": arm, "about": ABOUT.get(arm, "a setting of your own"), "aligned": arm == report.aligned,
                     "cells": cells})
    return rows


def _not_asked(report: Report) -> str:
    """Why the first table has gaps: which recipes were asked for less than the aligned one."""
    arms = report.arms or {}
    has = {arm: {name for name in HEADLINE if known(block["aligned"], name)} for arm, block in arms.items()}
    others = [arm for arm in has if arm not in ("base", report.aligned, NO, COMMONEST)]
    lacking = {arm: names for arm in others if (names := has.get(report.aligned, set()) - has[arm])}
    if not lacking:
        return ""
    columns = [column for name, column in HEADLINE.items() if any(name in names for names in lacking.values())]
    told = f"so {' and '.join(columns)} {'is' if len(columns) == 1 else 'are'} not measured."
    return f"{', '.join(lacking)}: asked for reports alone, to save time, {told}"


def _rows(results: Mapping, split: str) -> list[dict]:
    """One row a metric: its name, meaning, the three cells and whether the change is better or worse."""
    base, aligned, gaps = (results[arm][split] for arm in ("base", "aligned", "difference"))
    return [{"name": name, "cells": [_cell(base[name]), _cell(aligned[name]), _cell(gaps[name], sign="+")],
             "n": gaps[name]["n"], "effect": _effect(name, gaps[name]),
             "known": known(base, name) or known(aligned, name)} for name in _ordered(gaps)]


def _ordered(names: Iterable[str]) -> list[str]:
    """In the order of MEANING: a results.json that was read back is in the order of the alphabet."""
    order = list(MEANING)
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def _effect(name: str, gap: Mapping) -> str:
    if gap["low"] is None or gap["low"] <= 0 <= gap["high"] or name not in BETTER_UP + LOWER_IS_BETTER:
        return ""
    return "better" if (gap["low"] > 0) == (name in BETTER_UP) else "worse"


def _cell(entry: Mapping, *, sign: str = "") -> tuple[str, str]:
    """(value, interval) as text."""
    if entry["value"] is None:
        return "–", ""
    bounds = "" if entry["low"] is None else f"{entry['low']:{sign}.3f} to {entry['high']:{sign}.3f}"
    return f"{entry['value']:{sign}.3f}", bounds


def _environment() -> Environment:
    def clean(value: object) -> str:  # control characters and lone surrogates, which no page may hold, become U+FFFD
        return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", str(value))

    environment = Environment(
        loader=PackageLoader("medalign_lite.show", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=lambda value: value if isinstance(value, Markup) else clean(value),
    )  # fmt: skip
    environment.filters |= {
        "spoken": spoken,
        "meaning": lambda name: MEANING.get(name, ""),
        "why_not": lambda name: NOT_MEASURABLE if name in NEEDS_FACTS else "not measurable: nothing to count",
        "column": HEADLINE.get,
        "direction": lambda name: "more is better" if name in BETTER_UP else "less is better",
        "parts": split_spans,
        "anchor": lambda title: re.sub(r"[^a-z]+", "-", title.lower()),
        "uri": data_uri,
    }
    return environment


def write_html(
    notebook: nbformat.NotebookNode, path: Path, *, folder: Path = Path("."), exporter: HTMLExporter | None = None
) -> None:
    """Write the page. Formulas become MathML, widgets a note, pictures are inline. `folder` is what the pictures in the
    notebook's text are relative to; `exporter` is nbconvert's for pages of another kind (slides). Raises ValueError if
    an output asks for something from elsewhere."""
    notebook, formulas = without_widgets(notebook), []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = take_formulas(beside(cell.source), formulas)
    exporter = exporter or HTMLExporter(template_name="lab", embed_images=True)
    page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"path": str(folder), "name": path.stem}})
    page = re.sub(r"<script\b.*?</script>", "", page, flags=re.S | re.I)
    page = re.sub(PLACE.format(r"(\d+)"), lambda match: formulas[int(match[1])], page)
    if asked := FETCHED.search(page):
        raise ValueError(f"{path.name} would fetch {asked.group(0)[:120]}: embed it in the notebook instead")
    write_text(path, page)


def beside(markdown: str) -> str:
    """The text with links that hold in a folder of pages: a notebook's becomes its page's, other files' words only."""

    def place(match: re.Match) -> str:
        page = PAGE.fullmatch(match[2])
        return f"[{match[1]}]({page[1]}.html{page[2] or ''})" if page else match[1]

    return LOCAL.sub(place, markdown)


def without_widgets(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of the notebook with a note in place of each widget, and without the lines of progress that is over."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if WIDGET in output.get("data", {}):
                note = "<em>Interactive: open the notebook in JupyterLab to use it.</em>"
                output.data = nbformat.NotebookNode({"text/html": note})
            elif output.output_type == "stream":
                output.text = PROGRESS.sub("", output.text)
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("text", "-").strip()]
    return notebook


def take_formulas(markdown: str, formulas: list[str]) -> str:
    """Put a place-holder for each `$...$` and `$$...$$` outside code, and append its MathML to `formulas`, or its
    source as code where the converter cannot read it. Browsers draw MathML by themselves; nbconvert would take it
    apart, so it goes in after nbconvert."""

    def taken(match: re.Match) -> str:
        if match["code"] is not None:
            return match[0]
        tex, display = (match["block"] or match["inline"]).strip(), "inline" if match["block"] is None else "block"
        try:
            formulas.append(convert(tex.replace("{aligned}", "{align*}"), display=display))
        except (NoAvailableTokensError, IndexError, ValueError, KeyError):
            formulas.append(f"<code>{html.escape(tex)}</code>")
        return PLACE.format(len(formulas) - 1)

    return CODE_OR_MATH.sub(taken, markdown)
