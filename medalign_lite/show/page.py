"""One self-contained page of a run: pictures inline, nothing loaded from elsewhere, no script, model text escaped."""

import base64
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from medalign_lite.evaluate.short_answers import CLOSED_SCORER, OPEN_SCORER
from medalign_lite.evaluate.stats import TEST_SPLITS
from medalign_lite.evaluate.style import FEW_WORDS
from medalign_lite.show.figures import spoken

NOT_MEASURABLE = "not measurable: no structured truth"
MEANING = {
    "fact_precision": "affirmed claims of reports whose finding, side and zone are right",
    "fact_recall": "visible facts that a right claim states",
    "fact_f1": "harmonic mean of the two",
    "hallucination_rate": "affirmed claims whose finding is not there, or not on that side",
    "closed_accuracy": f"yes/no and choice questions answered right (scorer: {CLOSED_SCORER})",
    "open_recall": f"words of the reference answer that the answer holds (scorer: {OPEN_SCORER})",
    "yes_ratio": "yes among the answers to yes/no questions",
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
    "closed_accuracy_llavamed": "yes/no and choice questions answered right (scorer: llavamed, never for a choice)",
    "closed_accuracy_lmms": "yes/no and choice questions answered right (scorer: lmms, exact match after normalising)",
    "open_recall_strict": "words of the reference answer that the answer holds, each once (scorer: strict)",
    "open_accuracy_lmms": "open questions answered right (scorer: lmms, exact match after normalising)",
    "premise_rejection": "questions about a finding that is not there whose answer says so",
    "change_lesion": "answers that change when the lesion is corrupted",
    "change_control": "answers that change when as much of another place is",
    "change_selectivity": "the first less the second",
    "change_grounded": "answers to questions that change with the lesion, and not with the other place",
}
BETTER_UP = ("fact_precision", "fact_recall", "fact_f1", "closed_accuracy", "open_recall", "grounding_probability",
             "change_grounded", "invariance_rate", "size_accuracy", "premise_rejection",
             "change_selectivity", "closed_accuracy_llavamed", "closed_accuracy_lmms", "open_recall_strict",
             "open_accuracy_lmms")  # fmt: skip
BETTER_DOWN = ("hallucination_rate", "overclaim_lesion_hidden")
NEEDS_FACTS = ("fact_precision", "fact_recall", "fact_f1", "hallucination_rate", "overclaim_lesion_hidden",
               "size_accuracy")  # fmt: skip
LIMITS = {
    "phantom": (
        "The pictures are a synthetic phantom and the model has a few million parameters: the result is about the "
        "method, not about any clinical use.",
        "One training seed: the intervals are about the choice of test images, not about training again.",
        "Reports are read by rules (claims.py); a sentence the rules misread counts as what they read.",
    ),
    "real": (
        "The embedded model has never seen pictures like these. This run shows that the machinery works on real data; "
        "its scores say nothing about the method.",
        "Real data comes without a full list of what is in each picture, so fact metrics cannot be measured.",
        "One training seed: the intervals are about the choice of test images, not about training again.",
    ),
}


@dataclass(frozen=True)
class Picture:
    """One figure of the report: PNG bytes with a title and a caption."""

    title: str
    png: bytes
    caption: str = ""


@dataclass(frozen=True)
class Failure:
    """One case of the gallery of failures: what was asked, what is true, what the two arms said."""

    case_id: str
    question: str
    truth: str
    base: str
    aligned: str
    note: str = ""
    png: bytes | None = None


def picture(figure: Figure, title: str, caption: str = "", *, dpi: int = 120) -> Picture:
    """A matplotlib figure as a Picture on white; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return Picture(title, buffer.getvalue(), caption)


def verdict(results: Mapping) -> str:
    """Does alignment help? The answer for `test` with its intervals, then the same changes on `shifted`."""
    test = {arm: block.get("test", {}) for arm, block in results.items()}
    f1, false = (test["difference"].get(name) for name in ("fact_f1", "hallucination_rate"))
    if f1 and false and f1["value"] is not None and false["value"] is not None:
        detail = f"{_change(test, 'fact_f1')}, and {_change(test, 'hallucination_rate')}"
        return f"{_judgement(f1, false)} On {f1['n']} test images {detail}.{_on_shifted(results)}"
    if f1 and f1["value"] is not None:
        told = f"{_change(test, 'fact_f1')}, and the hallucination rate cannot be compared"
        return f"One arm affirms no finding at all: on {f1['n']} test images {told}."
    closed = test["difference"].get("closed_accuracy")
    start = "Whether alignment helps is " + NOT_MEASURABLE + "."
    if closed and closed["value"] is not None:
        return f"{start} On {closed['n']} test images {_change(test, 'closed_accuracy')}."
    return f"{start} No test image has a question that could be scored."


def _on_shifted(results: Mapping) -> str:
    shifted = {arm: block.get("shifted", {}) for arm, block in results.items()}
    names = [name for name in ("fact_f1", "hallucination_rate")
             if shifted["difference"].get(name, {"value": None})["value"] is not None]  # fmt: skip
    return f" On the shifted test {', and '.join(_change(shifted, name) for name in names)}." if names else ""


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


def write_report(
    path: Path | str,
    *,
    results: Mapping,
    setup: Mapping[str, object],
    extra: Mapping | None = None,
    controls: Mapping[str, Mapping] | None = None,
    changed: Mapping[str, Mapping] | None = None,
    pictures: Sequence[Picture] = (),
    failures: Sequence[Failure] = (),
    skipped: Sequence[Mapping[str, str]] = (),
    rejected: Mapping[str, int] | None = None,
    reading: Sequence[str] = (),
    recipes: Mapping[str, Mapping] | None = None,
    limits: Sequence[str] = LIMITS["phantom"],
) -> Path:
    """Write the page and return its path; a crash leaves the former page whole.

    results   stats.results, the content of results.json
    setup     what was run, shown in order: preset, model, revision, seed, 4-bit counts, ...
    extra     stats.results with other metric names (size, answer length)
    controls  {condition such as "blank": stats.results under it}
    changed   {what was changed in the picture: stats.results against the truth that it then shows}, on test
    reading   what the numbers say, sentence by sentence (reading.read_results)
    recipes   {arm: stats.compare of the base with it, on test}, the base and the aligned one among them
    skipped   cases left out, {"id", "reason"}; rejected: how many preference records were left out, {reason: count}
    Raises OSError where the folder cannot be written.
    """
    page = _environment().from_string(TEMPLATE).render(
        verdict=verdict(results),
        setup=setup,
        tables=[(split, _rows(results, extra, split)) for split in TEST_SPLITS if split in results["difference"]],
        controls=_control_rows(results, controls or {}),
        control_names=_control_names(controls or {}),
        changed=[(what, _rows(block, None, "test")) for what, block in (changed or {}).items()],
        pictures=pictures, failures=failures, skipped=skipped, rejected=_commonest_first(rejected or {}),
        reading=reading, limits=limits, recipes=_recipe_rows(recipes or {}),
        recipe_names=_ordered(next(iter(recipes.values()))["aligned"]) if recipes else [],
    )  # fmt: skip
    path = Path(path)
    part = path.with_name(path.name + ".part")
    part.write_text(page, encoding="utf-8")
    os.replace(part, path)
    return path


def _rows(results: Mapping, extra: Mapping | None, split: str) -> list[dict]:
    """One row a metric: its name, meaning, the three cells and whether the change is better or worse."""
    rows = []
    for source in filter(None, (results, extra)):
        for name in _ordered(source["difference"][split]):
            gap = source["difference"][split][name]
            entries = [source[arm][split][name] for arm in ("base", "aligned")]
            cells = [_cell(entry) for entry in entries] + [_cell(gap, signed=True)]
            known = any(entry["value"] is not None for entry in entries)
            rows.append({"name": name, "cells": cells, "n": gap["n"], "effect": _effect(name, gap), "known": known})
    return rows


def _ordered(names: Iterable[str]) -> list[str]:
    """In the order of MEANING: a results.json that was read back is in the order of the alphabet."""
    order = list(MEANING)
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def _effect(name: str, gap: Mapping) -> str:
    if gap["low"] is None or gap["low"] <= 0 <= gap["high"] or name not in BETTER_UP + BETTER_DOWN:
        return ""
    return "better" if (gap["low"] > 0) == (name in BETTER_UP) else "worse"


def _cell(entry: Mapping, *, signed: bool = False) -> tuple[str, str]:
    """(value, interval) as text."""
    if entry["value"] is None:
        return "–", ""
    sign = "+" if signed else ""
    bounds = "" if entry["low"] is None else f"{entry['low']:{sign}.3f} to {entry['high']:{sign}.3f}"
    return f"{entry['value']:{sign}.3f}", bounds


def _control_names(controls: Mapping[str, Mapping]) -> list[str]:
    return _ordered({name for block in controls.values() for name in block["base"]["test"]})


def _control_rows(results: Mapping, controls: Mapping[str, Mapping]) -> list[tuple[str, str, list]]:
    """(condition, arm, cells) on `test`, the real image first."""
    rows, names = [], _control_names(controls)
    for condition, block in ({"real": results} | dict(controls)).items():
        for arm in ("base", "aligned"):
            entries = block[arm]["test"]
            rows.append((condition, arm, [_cell(entries[name]) if name in entries else ("–", "") for name in names]))
    return rows if controls else []


def _recipe_rows(recipes: Mapping[str, Mapping]) -> list[tuple[str, list]]:
    """(arm, its values)."""
    return [(arm, [_cell(block["aligned"][name]) for name in _ordered(block["aligned"])])
            for arm, block in recipes.items()]  # fmt: skip


def _commonest_first(rejected: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(rejected.items(), key=lambda item: (-item[1], item[0]))


def clean(value: object) -> str:
    """Text fit for a page: control characters and lone surrogates, which no page may hold, become U+FFFD."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", str(value))


def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                              finalize=lambda value: value if isinstance(value, Markup) else clean(value))  # fmt: skip
    environment.filters |= {
        "spoken": spoken,
        "meaning": lambda name: MEANING.get(name, ""),
        "why_not": lambda name: NOT_MEASURABLE if name in NEEDS_FACTS else "not measurable: nothing to count",
        "uri": lambda png: "data:image/png;base64," + base64.b64encode(png).decode(),
    }
    return environment


TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline';
 base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>medalign-lite report</title>
<style>
:root { --ink:#1d2329; --soft:#5a6570; --line:#d9dee3; --page:#fff; --card:#f5f7f9; --good:#00664b; --bad:#a34700;
 --accent:#0072b2 }
@media (prefers-color-scheme: dark) { :root { --ink:#e6e9ec; --soft:#9aa6b2; --line:#39424b; --page:#14181c;
 --card:#1e242a; --good:#35c79a; --bad:#ff9a57; --accent:#6bbdf0 } }
body { margin:0 auto; padding:2rem 1.25rem 4rem; max-width:64rem; color:var(--ink); background:var(--page);
 font:16px/1.55 system-ui, "Segoe UI", "Liberation Sans", sans-serif }
h1 { font-size:1.5rem; margin:0 0 1rem } h2 { font-size:1.2rem; margin:2.75rem 0 .75rem }
h3 { font-size:1rem; margin:1.5rem 0 .4rem }
.verdict { font-size:1.1rem; padding:1rem 1.25rem; background:var(--card); border-left:4px solid var(--accent) }
.wide { overflow-x:auto } table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums }
th, td { text-align:left; padding:.4rem .75rem .4rem 0; border-bottom:1px solid var(--line); vertical-align:top }
td.number, th.number { text-align:right; white-space:nowrap } td.id { overflow-wrap:anywhere }
small, .soft, figcaption { color:var(--soft) } small { display:block; font-size:.8rem }
.better { color:var(--good); font-weight:600 } .worse { color:var(--bad); font-weight:600 }
figure { margin:1.5rem 0 } figure img { max-width:100%; height:auto; background:#fff; border-radius:4px }
.cards { display:grid; grid-template-columns:repeat(auto-fill, minmax(19rem, 1fr)); gap:1rem }
.card { background:var(--card); border-radius:6px; padding:1rem; overflow-wrap:anywhere }
.card img { width:100%; max-width:15rem; display:block; margin:0 auto .75rem; border-radius:4px }
.card p { margin:.35rem 0 } bdi { white-space:pre-wrap }
dl { display:grid; grid-template-columns:max-content 1fr; gap:.3rem 1.25rem; margin:0 } dt { color:var(--soft) }
dd { margin:0; overflow-wrap:anywhere }
</style>
</head>
<body>
{% macro said(text) %}<bdi dir="auto">{{ text }}</bdi>{% endmacro %}
{% macro number(cell) %}<td class="number">{{ cell[0] }}<small>{{ cell[1] }}</small></td>{% endmacro %}
{% macro compared(rows) %}
{% if not rows|selectattr("known")|list %}
<p class="soft">This run has no cases in this split, or nothing in them could be scored.</p>
{% else %}
<div class="wide"><table>
<tr><th>metric</th><th class="number">base</th><th class="number">aligned</th><th class="number">difference</th>
<th></th><th class="number">n</th></tr>
{% for row in rows %}
<tr><td>{{ row.name|spoken }}<small>{{ row.name|meaning }}</small></td>
{% if row.known %}
{% for cell in row.cells %}{{ number(cell) }}{% endfor %}
<td class="{{ row.effect }}">{{ row.effect }}</td>
{% else %}
<td colspan="4" class="soft">{{ row.name|why_not }}</td>
{% endif %}
<td class="number">{{ row.n }}</td></tr>
{% endfor %}
</table></div>
{% endif %}
{% endmacro %}
<h1>Base against aligned</h1>
<p class="verdict">{{ verdict }}</p>
{% if reading %}
<ul>
{% for sentence in reading %}
<li>{{ sentence }}</li>
{% endfor %}
</ul>
{% endif %}

<h2>Setup</h2>
<dl>
{% for name, value in setup.items() %}
<dt>{{ name }}</dt><dd>{{ said(value) }}</dd>
{% endfor %}
</dl>

<h2>Results</h2>
<p class="soft">Each value with its 95 % interval: paired bootstrap over images. The difference is aligned minus base;
"better" and "worse" stand where its interval leaves out 0. n counts images. – is not measurable.</p>
{% for split, rows in tables %}
<h3>{{ split }}</h3>
{{ compared(rows) }}
{% endfor %}

{% if pictures %}
<h2>Figures</h2>
{% for picture in pictures %}
<figure><h3>{{ picture.title }}</h3><img alt="{{ picture.title }}" src="{{ picture.png|uri }}">
<figcaption>{{ picture.caption }}</figcaption></figure>
{% endfor %}
{% endif %}

<h2>Controls</h2>
<p>The same questions on <code>test</code> without the evidence. A model that looks at the picture gets worse when the
picture is blank, another patient's, or missing; one that only knows what is usual does not.
{% if changed %}Pictures in which one thing was changed come after the table.{% endif %}
</p>
{% if controls %}
<div class="wide"><table>
<tr><th>picture</th><th>arm</th>
{% for name in control_names %}<th class="number">{{ name|spoken }}</th>{% endfor %}</tr>
{% for condition, arm, cells in controls %}
<tr><td>{{ condition }}</td><td>{{ arm }}</td>{% for cell in cells %}{{ number(cell) }}{% endfor %}</tr>
{% endfor %}
</table></div>
{% else %}
<p class="soft">No control was run.</p>
{% endif %}
{% for what, rows in changed %}
<h3>{{ what }}</h3>
{{ compared(rows) }}
{% endfor %}

{% if recipes %}
<h2>Recipes</h2>
<p>The same base and pairs, another loss: values on <code>test</code>. One training seed does not rank them.</p>
<div class="wide"><table>
<tr><th>arm</th>{% for name in recipe_names %}<th class="number">{{ name|spoken }}</th>{% endfor %}</tr>
{% for arm, cells in recipes %}
<tr><td>{{ said(arm) }}</td>{% for cell in cells %}{{ number(cell) }}{% endfor %}</tr>
{% endfor %}
</table></div>
{% endif %}

<h2>Failures</h2>
{% if failures %}
<div class="cards">
{% for f in failures %}
<div class="card">
{% if f.png %}<img alt="case {{ f.case_id }}" src="{{ f.png|uri }}">{% endif %}
<p class="soft">{{ said(f.case_id) }}{% if f.note %} · {{ said(f.note) }}{% endif %}</p>
<p><i>{{ said(f.question) }}</i></p>
<p><b>truth</b> {{ said(f.truth) }}</p>
<p><b>base</b> {{ said(f.base) }}</p>
<p><b>aligned</b> {{ said(f.aligned) }}</p>
</div>
{% endfor %}
</div>
{% else %}
<p class="soft">None to show.</p>
{% endif %}

<h2>Left out</h2>
<h3>Skipped cases: {{ skipped|length }}</h3>
{% if skipped %}
<div class="wide"><table><tr><th>case</th><th>reason</th></tr>
{% for row in skipped %}
<tr><td class="id">{{ said(row.id) }}</td><td>{{ said(row.reason) }}</td></tr>
{% endfor %}
</table></div>
{% endif %}
<h3>Rejected preference records: {{ rejected|sum(attribute=1) }}</h3>
{% if rejected %}
<div class="wide"><table><tr><th>reason</th><th class="number">records</th></tr>
{% for reason, count in rejected %}
<tr><td>{{ said(reason) }}</td><td class="number">{{ count }}</td></tr>
{% endfor %}
</table></div>
{% endif %}

<h2>Limits</h2>
<ul>
{% for limit in limits %}
<li>{{ limit }}</li>
{% endfor %}
</ul>
</body>
</html>
"""
