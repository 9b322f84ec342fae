"""The results on real images, written whole from the rows and about.json of one folder."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from os.path import relpath
from pathlib import Path

from medalign_lite.files import read_json, read_jsonl, visible, write_json
from studies.claims import plots
from studies.claims.hypotheses import CLOSED, HANGS, LOOKS, MATTERS, OPEN, Contrast
from studies.claims.lineup import BASE, Setting
from studies.claims.page import cell, interval, number, p_of, table
from studies.claims.verdicts import LEVEL, Judged, Results, judge, measure, told
from studies.real import arms

FOREST = "The claims: estimates with 95 % intervals; right of 0 the claim holds, inside the band it does not matter"
ANSWERS = {
    CLOSED: "closed, strict", "closed_accuracy_llavamed": "closed, LLaVA-Med", OPEN: "open recall, strict",
    "open_recall": "open recall, LLaVA-Med", "open_accuracy_lmms": "open, exact", "yes_ratio": "yes-ratio",
    "choice_accuracy": "multiple choice", "match_ratio": "report's findings matched",
}  # fmt: skip
EVIDENCE = {
    LOOKS: "grounding probability", HANGS: "answers that hang on their evidence", "change_lesion": "changed without it",
    "change_control": "changed without another place", "grounding_selectivity": "selectivity, nats",
}  # fmt: skip
PAPER = {  # SLAKE closed, open: from the thesis sources of the first author (docs/METHOD.md)
    "Qwen3-VL-4B-Instruct": (76.64, 56.24), "+ DPO": (82.41, 50.78), "+ mDPO": (77.19, 56.24), "+ RRPO": (77.19, 60.11),
    "+ MASK-DPO": (80.49, 59.54), "+ FiRe-MPO": (81.32, 60.25),
}  # fmt: skip


def write_page(path: Path, folder: Path) -> None:
    """The page of what lies in `folder`, its figure and claims.json beside that."""
    judged = _judged(folder)
    claims = told(judged)
    write_json(folder / "claims.json", claims)
    figure = _forest(folder / "forest.png", claims)
    path.parent.mkdir(parents=True, exist_ok=True)
    place = Path(relpath(figure, path.parent)).as_posix() if figure else ""
    path.write_text(_text(folder, judged, place), encoding="utf-8")


def text_of(folder: Path, figure: str = "") -> str:
    """The page; `figure` is where it finds the figure, if there is one."""
    return _text(folder, _judged(folder), figure)


def _text(folder: Path, judged: Sequence[Judged], figure: str) -> str:
    about, results = read_json(folder / "about.json"), results_of(folder)
    shown = f"![{FOREST}]({figure})\n\n*{FOREST}.*" if figure else ""
    parts = [_head(about, results), _claims(about, judged), shown, _answers(results),
             _evidence(results), _by(about, results, "source", "modality"),
             _by(about, results, "topic", "kind of question"), _settings(about), _paper(about), _conditions(folder)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _judged(folder: Path) -> list[Judged]:
    return judge(results_of(folder), seeds=read_json(folder / "about.json")["seeds"], claims=arms.CLAIMS)


def _forest(path: Path, claims: Sequence[Mapping]) -> Path | None:
    """The claims with their intervals; None where no one was asked."""
    if not plots.by_metric(claims):
        return None
    with plots.saved(path, **plots.forest_sheet(claims)) as axes:
        plots.forests(axes, claims)
    return path


def results_of(folder: Path) -> Results:
    """{arm: {seed: row}} of the rows that asked the test; the base has number 0, and so have its baselines."""
    found: dict[str, dict[int, dict]] = {arm: {} for arm in (BASE, *arms.ARMS)}
    for path in sorted(folder.glob("*.jsonl")):
        for row in (row for row in read_jsonl(path) if "counts" in row and row["kind"] == "final"):
            found[row["arm"]][row["number"]] = row
    return {arm: runs for arm, runs in found.items() if runs}


def _head(about: Mapping, results: Results) -> str:
    pairs, test = about["pairs"], about["test"]
    sizes = {part: f"{images} images with {n} questions" for part, (images, n) in about["parts"].items()}
    runs = sum(len(some) for arm, some in results.items() if arm != BASE)
    base = (f"The base is the embedded model, tuned on one half of the training images ({sizes['base']})" if
            about["tuned"] else f"The base is `{about['model']}`")
    tried = (f"Settings are tried on validation ({sizes['val']}), and the" if about["tried"].get(arms.SEARCHED[0]) else
             "Every method has the numbers of the preset, and the")
    return f"""# The method's claims on real images: {plain(about["layout"])}

Written by `make claims CASES=...`; do not edit. {base}; its weights are `{about["revision"]}`, the preset is
{about["preset"]}. {runs} runs of {len(results) - (BASE in results)} arms on the test.

The base answers the questions of training images that it has not learnt from here ({sizes["pool"]}); {pairs["all"]} of
its wrong answers could be repaired by the gold answers so that the repair is minimal and surely right,
{pairs["evidence"]} of them about a lesion or organ that is marked. Every arm learns from pairs drawn of these by its
seed (`sft-gold` from the right answers to the same questions). {tried} test ({sizes["test"]}) is asked once, with
{about["seeds"]} seeds. Arms, settings and claims (`studies/real/arms.py`) and the smallest effects that matter
(`studies/claims/hypotheses.py`) were written down before any question of the test was asked; how the base is tuned was
chosen with sight of training and validation questions.

Parts are made by patient where the data set names patients, else by image. {about["near_copies"]} of the
{test["images"]} test images have a near-copy (thumbnails that correlate above .95) among the training images: slices of
one scan, say. They raise what every arm, and every constant answer, is worth, and intervals, which take
{test["groups"]} groups for independent, are too short by as much as slices of one scan go together.

Of the test's questions {test["about"]} are about something that is marked, and for {test["damaged"]} of them there was
a place elsewhere in the body for as much damage. *Grounding probability* is how often the loss of the evidence lowers
the margin of the right answer over a wrong one more than the loss of another place does (.5: not at all); *answers that
hang on their evidence* change when it goes and not when another place does. Both are free of the margins' scale
([METHOD](METHOD.md), 4). What a question is about is read from its words and its answer's; in a comparison ("which is
bigger, liver or spleen?") the mark of the other organ may be taken where the right one has none. Intervals are 95 %,
clustered by group, of the mean over seeds with seeds and images both drawn; the base has one run."""


def _claims(about: Mapping, judged: Sequence[Judged]) -> str:
    rows = [[one.claim.id, one.claim.statement,
             hard.contrast.says + f" (hardest of {len(one.estimates)})" * (len(one.estimates) > 1), len(hard.seeds),
             number(hard.value, signed=True), interval(hard.low, hard.high), number(hard.seen), p_of(one.p_holm),
             p_of(one.p_same), f"**{one.verdict}**"]
            for one in judged for hard in one.estimates[:1]]
    heads = ("", "claim", "arms", "seeds", "estimate", "95 % interval", "could have seen", "p of a difference (Holm)",
             "p of none that matters (Holm)", "verdict")
    return f"""## The claims

The smallest effect that matters is {MATTERS[CLOSED]:g} in every measure. Two things are tested of each claim, that
there is a difference and that there is none that matters; Holm over both tests of all {len(judged)}; p < {LEVEL:g}.
*Could have seen* is the true difference that would have been told from 0 with a probability of .8 before correction.

{table(heads, rows)}

A claim compares the arms as they were chosen. {_gentle(about)}"""


def _gentle(about: Mapping) -> str:
    """How many methods took the lowest learning rate that they tried: then near-copies of the base are compared."""
    found = []
    for arm in (arm for arm in arms.SEARCHED if len(about["tried"].get(arm, ())) > 1 and arm in about["settings"]):
        rates = [float(says.split()[1].rstrip(",")) for says, _ in about["tried"][arm]]
        found.append(about["settings"][arm]["learning_rate"] == min(rates))
    if not found:
        return ""
    return f"""{sum(found)} of {len(found)} methods chose the lowest learning rate that they tried: what is compared are
gentle versions, near to the base and to one another, because validation preferred them. That parts of a method differ
by less than what matters is shown of these versions, not of ones that move the model further. `{arms.PHANTOM}` has the
learning rate that was best on the phantom; what it costs may be that rate's doing."""


def _answers(results: Results) -> str:
    rows = [[f"`{arm}`", len(runs), *_cells(results, arm, ANSWERS)] for arm, runs in results.items()]
    for name, one in sorted(_base(results).get("baselines", {}).items()):
        rows.append([name, "", *_cells({name: {0: one}}, name, ANSWERS)])
    legend = "\n".join(f"- `{arm}`: {arms.SAYS[arm]}" for arm in results)
    return f"""## Answers

Closed answers are read as yes, no, neither, or by whole words (*strict*), or as LLaVA-Med's published script reads
them, which is what the literature prints; open ones by the share of the gold answer's words, or exact match. Constant
answers are those of the training images; *question only* and *blank image* are the base's own without the picture.

{_full(("arm", "seeds", *ANSWERS.values()), rows)}

{legend}"""


def _evidence(results: Results) -> str:
    rows = [[f"`{arm}`", len(runs), *_cells(results, arm, EVIDENCE)] for arm, runs in results.items()]
    return f"""## Where the evidence is marked

{_full(("arm", "seeds", *EVIDENCE.values()), rows)}"""


def _by(about: Mapping, results: Results, name: str, spoken: str) -> str:
    counts = about["test"][name]
    rows = [[f"`{arm}`", *(number(sum(run[name].get(key, 0.0) for run in runs.values()) / len(runs) / count)
                           for key, count in counts.items())] for arm, runs in results.items()]
    rows += [[said, *(number(one[name].get(key, 0.0) / count) for key, count in counts.items())]
             for said, one in sorted(_base(results).get("baselines", {}).items())]
    heads = ("arm", *(f"{plain(key) or 'unnamed'} ({count})" for key, count in counts.items()))
    return f"""## By {spoken}

The share of right answers: closed by the strict scorer, open by exact match; means over seeds, no intervals.

{table(heads, rows)}"""


def _settings(about: Mapping) -> str:
    chosen = {arm: Setting(**one | {"overrides": tuple(map(tuple, one["overrides"]))})
              for arm, one in about["settings"].items()}
    rows = [[f"`{arm}`", says, *((number(val.get(name)) for name in (CLOSED, OPEN)) if val else ("diverged", "")),
             "chosen" if arm in chosen and chosen[arm].says == says else ""]
            for arm, tried in about["tried"].items() for says, val in tried]
    rows += [[f"`{arm}`", setting.says, "", "", "taken over"] for arm, setting in chosen.items()
             if arm not in about["tried"]]
    means = {arm: [arms.score(val) for _, val in tried if val] for arm, tried in about["tried"].items()}
    own, others = means.pop(BASE, []), [mean for some in means.values() for mean in some]
    how = "Nothing was tried: these are the preset's numbers."
    if own:
        better = sum(mean > own[0] for mean in others)
        how = f"""Chosen by {arms.CRITERION}, {arms.TRIES} settings a method from the ranges that it
has on the phantom, which were not widened. The first line is the model itself. Of {len(others)} settings {better} are
above it."""
    return f"""## The settings

{how}

{table(("arm", "setting", "closed", "open", ""), rows)}"""


def _paper(about: Mapping) -> str:
    if not (about["layout"] == "SLAKE" and about["whole"]):
        return ""
    rows = [[name, f"{closed:.2f}", f"{open_:.2f}"] for name, (closed, open_) in PAPER.items()]
    return f"""## The paper's table beside it

{table(("", "SLAKE closed, %", "SLAKE open, %"), rows)}

One seed, a model of 4 B parameters that was not trained on SLAKE, by LLaVA-Med's scorer; from the thesis sources of the
first author. What may be compared is the direction and size of differences between arms, not the levels: the base here
is small and has learnt from SLAKE's own training images. Between the two arms that are best in closed answers lie four
or five questions, if theirs are these."""


def _conditions(folder: Path) -> str:
    rows = [row for path in sorted(folder.glob("*.jsonl")) for row in read_jsonl(path)]
    if not rows:
        return ""
    hours = sum(sum(row.get("seconds", ())) for row in rows) / 3600
    made = sorted({row["made"]["day"] for row in rows})
    lost = [f"`{row['arm']}` with seed {row['number']}" for row in rows if row["kind"] == "final" and "diverged" in row]
    stopped = f" Stopped without a result: {', '.join(lost)}; claims about these stay under way." if lost else ""
    machines = ", ".join(sorted({row["made"]["machine"] for row in rows}))
    codes = ", ".join(sorted({row["made"]["code"] for row in rows}))
    return f"""## Machine and time

{len(rows)} runs, {hours:.1f} hours of one core each at a time beside the tuning of the base and its answers,
{" to ".join(dict.fromkeys((made[0], made[-1])))};
{machines}. States of the package's code: {codes}.{stopped}"""


def _base(results: Results) -> Mapping:
    return next(iter(results.get(BASE, {}).values()), {})


def _cells(results: Results, arm: str, metrics: Mapping[str, str]) -> list[str]:
    found = (measure(Contrast(metric, ((arm, 1.0),), ("test",)), results) for metric in metrics)
    return [cell(asdict(one)) for one in found]


def _full(heads: Sequence, rows: Sequence[Sequence]) -> str:
    """The table without the columns in which nothing was asked."""
    used = [n for n in range(len(heads)) if n < 2 or any(row[n] != "–" for row in rows)]
    return table([heads[n] for n in used], [[row[n] for n in used] for row in rows])


def plain(text: str) -> str:
    """What a data set calls something, as a cell of a table may show it."""
    return escape(visible(text)).replace("|", "&#124;")
