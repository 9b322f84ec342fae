"""docs/RESULTS.md, written whole from the runs that there are; what can not be computed is history.py's text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from medalign_lite.dials import PRESETS
from medalign_lite.files import read_json
from medalign_lite.model.weights import model_revision
from studies.claims import choice, history, plots, screening, simulate
from studies.claims.hypotheses import CLAIMS, F1, FALSE, LOOKS, LOWER_IS_BETTER, MATTERS, NATS
from studies.claims.lineup import BASE, BATCH, EPOCHS, FACTORS, METHODS, RANK, Setting
from studies.claims.screening import Trial
from studies.claims.seeds import MANY
from studies.claims.store import Bench
from studies.claims.verdicts import LEVEL, METRICS, SPLITS, Judged, Results, measure

SHOWN = 10  # arms in the table of the recommendation
TABLE = tuple(name for name in METRICS if name not in ("fact_precision", "fact_recall"))
DEFAULT = PRESETS["ci"].recipes[-1]
LEAST = 40  # settings of the factors before anything is said about them


@dataclass(frozen=True)
class Findings:
    """All that the page is written from: the trials of the screening and the base there, the settings of the
    confirmation's arms ({} while the screening is not complete), its results, the judged claims, and the rows of all
    runs."""

    bench: Bench
    trials: Sequence[Trial]
    base: Mapping | None
    chosen: Mapping[str, Setting]
    results: Results
    judged: Sequence[Judged]
    rows: Sequence[Mapping]

    @property
    def tried(self) -> list[Trial]:
        """The trials that were run, levelled out between pools."""
        return screening.level_out(self.trials)


def write_page(path: Path, found: Findings, told: Mapping, figures: Mapping[str, Path], *, command: str) -> None:
    """The page; `told` is what claims.json holds, `figures` {caption: file}."""
    parts = [_head(found, command), _screening(found), _claims(found.judged), _shared(found),
             _nats(found.judged, found.results), _figures(path, figures), _recommended(found), _recall(told["arms"]),
             _arms(told["arms"]), _contrasts(found.judged), _test(), _chosen(found), history.TEXT, _conditions(found)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def draw_figures(folder: Path, found: Findings, told: Mapping) -> dict[str, Path]:
    """{caption: file} of the figures for which there are numbers."""
    figures, arms, tried = {}, told["arms"], found.tried

    def sheet(name: str, caption: str, **look):
        figures[caption] = folder / f"{name}.png"
        return plots.saved(figures[caption], **look)

    factors = [t for t in tried if t.levels]
    if len(factors) >= LEAST:
        with sheet("factors", "Screening: every setting by the level of each factor; bars: the best of as many "
                   "settings", size=(12.0, 6.4), columns=3, rows=2) as axes:
            for ax, name in zip(axes, FACTORS, strict=True):
                plots.factor(ax, factors, name)
    own = {name: [t for t in tried if t.name == name] for name in ("dpo", "fire-mpo")}
    if all(len(some) > 1 for some in own.values()):
        with sheet("numbers", "Screening: dpo and fire-mpo over learning rate and β", size=(10.0, 6.8), columns=2,
                   rows=2) as axes:
            for ax, (metric, number) in zip(axes, product((F1, FALSE), ("learning_rate", "beta")), strict=True):
                plots.over_number(ax, own, number, metric=metric)
    if plots.by_metric(told["claims"]):
        with sheet("forest", "The claims: estimates with 95 % intervals; right of 0 the claim holds",
                   **plots.forest_sheet(told["claims"])) as axes:
            plots.forests(axes, told["claims"])
    if len(arms) > 1:
        with sheet("trade_off", "Accuracy against drift from the base", size=(12.0, 5.2), columns=2) as axes:
            for ax, split in zip(axes, SPLITS, strict=True):
                plots.trade_off(ax, arms, split=split)
        with sheet("recall", "Fact F1 and false findings over recall", size=(12.0, 10.4), columns=2, rows=2) as axes:
            for ax, (metric, split) in zip(axes, choice.PLACES, strict=True):
                plots.trade_off(ax, arms, x="fact_recall", y=metric, split=split)
    return figures


def _head(found: Findings, command: str) -> str:
    sizes, seeds = found.bench.sizes, [len(runs) for arm, runs in found.results.items() if arm != BASE and runs]
    done = sum(trial.figures is not None for trial in found.trials)
    told = f"{sum(seeds)} runs of {len(seeds)} arms" if seeds else "**not run yet: no claim has a verdict**"
    return f"""# Which of the method's claims hold

Written by `{command}`; do not edit. Of the embedded model `{model_revision(found.bench.model)}`. Screening: {done} of
{len(found.trials)} settings. Confirmation: {told}.

*Screening*, on {sizes.val} validation people and two pools alone: settings drawn quasi-randomly, of every published
method over its own ranges, and over all choices and numbers that methods are made of. It says what each factor is worth
when the others are tuned. *Confirmation*, on fresh people that no setting was tried on: every published method, the
controls of the paper's, and the best setting at each level of each factor, each chosen by one rule, with {sizes.seeds}
seeds. Verdicts come from the confirmation alone.

Every run starts from the embedded model and learns from {sizes.pairs} pairs in {EPOCHS} epochs of batch {BATCH} with
LoRA of rank {RANK}. A seed is a seed of the training and other people to learn from. All arms are asked about the same
{sizes.test} test people and {sizes.shifted} people of a world whose correlations are broken (shifted). A claim's
estimate is a difference averaged over both. Intervals are 95 %, of the mean over seeds, with seeds and images both
drawn. What matters at least: {MATTERS[F1]:g} of fact F1, {MATTERS[FALSE]:g} of false findings, {MATTERS[LOOKS]:g} of
grounding, which is the probability that the lesion's removal lowers the margin of a true statement more than another
place's removal does ([METHOD](METHOD.md), 4). Of each claim two things are tested: that all of its contrasts are
above 0, or one below; and, by two one-sided tests, that all are nearer to 0 than what matters. p is corrected by Holm
over both tests of all {len(CLAIMS)} claims. *supported*, *refuted* and *no effect larger than ...* mean corrected
p < {LEVEL:g}, the last before the others; all else is *inconclusive*. A claim has a verdict when its arms have all
{sizes.seeds} seeds, and is *under way* before."""


def _screening(found: Findings) -> str:
    tried = found.tried
    factors = [t for t in tried if t.levels]
    alive = [t for t in factors if t.figures[F1] is not None]
    if len(alive) < LEAST or found.base is None:
        return f"## The screening\n\n{len(alive)} settings of the factors were run; below {LEAST} nothing is said."
    rows = []
    for factor, levels in FACTORS.items():
        per = [[t for t in alive if dict(t.levels).get(factor) == level] for level in levels]
        count = min(map(len, per)) // 2
        if not count:
            continue
        f1, looks = (screening.worth(alive, factor, count=count, metric=m) for m in (F1, LOOKS))
        rows += [[factor, level, len(some), count, cell(f1.get(level)), cell(looks.get(level))]
                 for level, some in zip(levels, per, strict=True)]
    worths = table(("factor", "level", "settings", "best of", "fact F1 to expect", "grounding to expect"), rows)
    parts = [f"""## The screening: what a factor is worth when the others are tuned

{len(factors)} settings of the factors, {len(factors) - len(alive)} of which diverged. *To expect* is the mean of the
best of so many settings at a level, with the interval that drawing the settings anew gives. The base: fact F1
{number(found.base[F1])}, false findings {number(found.base[FALSE])}, grounding {number(found.base[LOOKS])}.

{worths}"""]
    try:
        by_metric = {metric: screening.shares(factors, metric) for metric in (F1, FALSE, LOOKS)}
    except ValueError:
        return "\n\n".join(parts)
    rows = [[f"`{name}`", *(cell(by_metric[m][name]) for m in by_metric)] for name in by_metric[F1]]
    heads = ("", *(f"share of the variance of {plots.spoken(m)}" for m in by_metric))
    parts.append(f"""How much of the variance between settings each factor or number explains alone (a functional
analysis of variance: a step for each level, a parabola in each number's logarithm):

{table(heads, rows)}

{_looking(found, alive)}""")
    return "\n\n".join(parts)


def _looking(found: Findings, alive: Sequence[Trial]) -> str:
    """Whether any setting looks better at the picture than the base."""
    base, least = found.base[LOOKS], MATTERS[LOOKS]
    better = [t for t in alive if t.figures[LOOKS] >= base + least]
    kept = [t for t in better if t.figures[F1] >= found.base[F1]]
    top = max(alive, key=lambda t: t.figures[LOOKS])
    return f"""Does any setting look better at the picture than the base? Of {len(alive)} settings {len(better)} have a
grounding probability of {least:g} or more above the base's, {len(kept)} of them at no less F1. The highest is
{number(top.figures[LOOKS])} ({top.setting.says}). A maximum of so many is partly luck; the confirmation asks again."""


def _claims(judged: Sequence[Judged]) -> str:
    rows = [[one.claim.id, one.claim.statement,
             hard.contrast.says + f" (hardest of {len(one.estimates)})" * (len(one.estimates) > 1), len(hard.seeds),
             number(hard.value, signed=True), interval(hard.low, hard.high), f"{one.claim.matters:g}",
             p_of(one.p_holm), p_of(one.p_same), f"**{one.verdict}**"]
            for one in judged for hard in one.estimates[:1]]
    heads = ("", "claim", "arms", "seeds", "estimate", "95 % interval", "matters from", "p of a difference (Holm)",
             "p of none that matters (Holm)", "verdict")
    return "## The claims\n\n" + table(heads, rows)


def _shared(found: Findings) -> str:
    """Which claims rest on one comparison, because levels of several factors chose the same settings."""
    groups: dict[tuple, list[str]] = {}
    for one in (one for one in found.judged if one.estimates[0].value is not None):
        contrast = one.estimates[0].contrast
        pair = frozenset(found.chosen.get(arm, arm) for arm, _ in contrast.weights)
        groups.setdefault((contrast.metric, pair), []).append(one.claim.id)
    parts = []
    for (metric, pair), names in groups.items():
        if len(names) > 1:
            told = "* and *".join(sorted(getattr(setting, "says", setting) for setting in pair))
            parts.append(f"""Levels of several factors chose the same settings: of claims {', '.join(names)} the
estimates above are **one comparison**, of {plots.spoken(metric)} between two settings that differ in several factors at
once (*{told}*).
Each verdict is of the claim as it was written down, the best of as many settings with a level as without it. Which of
the differences did it, the comparison does not say; about factors apart, see the analysis of variance above.""")
    return "\n\n".join(parts)


def _nats(judged: Sequence[Judged], results: Results) -> str:
    """The claims about grounding, in the measure that decides nothing."""
    if not any(results.values()):
        return ""
    found = [(one.claim.id, measure(replace(contrast, metric=NATS), results))
             for one in judged for contrast in one.claim.contrasts if contrast.metric == LOOKS]
    rows = [[name, one.contrast.says, number(one.value, signed=True), interval(one.low, one.high)]
            for name, one in found]
    return f"""The claims about grounding in raw nats, which scale buys (METHOD): a description, and no verdict follows.

{table(("claim", "contrast", "selectivity, nats", "95 % interval"), rows)}"""


def _figures(path: Path, figures: Mapping[str, Path]) -> str:
    places = {caption: file.relative_to(path.parent) if file.is_relative_to(path.parent) else Path(file.name)
              for caption, file in figures.items()}
    return "\n\n".join(f"![{caption}]({place.as_posix()})\n\n*{caption}.*" for caption, place in places.items())


def _recommended(found: Findings) -> str:
    missing = choice.waiting(found.results, found.bench.sizes)
    if missing:
        told = f"{len(missing)} arms that it needs have not been confirmed ({', '.join(missing)})"
        return f"## The recommended recipe\n\nNot chosen yet: {told}. The kit's default is `{DEFAULT}`."
    gaps = choice.behind(found.results)
    named, results = choice.near(gaps, found.chosen), found.results
    seeds = sorted({seed for arm in gaps for seed in results[arm]})
    without = [choice.near(choice.behind(results, [s for s in seeds if s != left]), found.chosen) for left in seeds]
    stable = "; ".join(f"without seed {left}: {f'`{names[0]}`' if names else 'none'}"
                       for left, names in zip(seeds, without, strict=True))
    beats = [e for e in choice.beaten_by(results, named[0]) if e.verdict == "refuted"] if named else []
    told = ", ".join(f"`{arm}` in {e.contrast.metric} on {e.contrast.splits[0]}"
                     for e in beats for arm, _ in e.contrast.weights if arm != named[0])
    close = sorted(gaps, key=lambda arm: max(gaps[arm]))[:SHOWN]
    rows = [[f"`{arm}`", choice.terms(found.chosen[arm]), *(f"{gap:.4f}" for gap in gaps[arm]),
             "named" if [arm] == named[:1] else "within" if arm in named else ""] for arm in close]
    heads = ("arm", "terms", *(f"{metric}, {split}: behind the best by" for metric, split in choice.PLACES), "")
    return f"""## The recommended recipe: {f"`{named[0]}`" if named else "none"}

The rule: {choice.RULE}. Leaving out a seed in turn gives {stable}. By tests (Holm over every other arm, both metrics
and both splits), what is shown to be better than the one named: {told or "nothing"}. The kit's default is `{DEFAULT}`.

{table(heads, rows)}"""


def _recall(arms: Mapping[str, Mapping]) -> str:
    if "fire-mpo" not in arms:
        return ""
    least = {split: choice.value(arms, "fire-mpo", split, "fact_recall") for split in SPLITS}
    rows = [[f"`{arm}`", *(text for split in SPLITS for text in (
        number(choice.value(arms, arm, split, "fact_recall")), number(choice.value(arms, arm, split, FALSE)),
        number(choice.thinned_f1(arms, arm, split, least[split]))))] for arm in arms]
    heads = ("arm", *(f"{split}: {name}" for split in SPLITS for name in (
        "recall", "false findings at any recall below", f"F1 at recall {least[split]:.3f}")))
    best = "; ".join(f"{split}: {', '.join(f'`{arm}`' for arm in choice.frontier(arms, split))}" for split in SPLITS)
    return f"""## At equal recall

F1 and false findings follow recall. An arm can always say less: claims left out at random lower recall, and leave
precision and the share of false findings where they are. So arms are compared at the recall of `fire-mpo`; an arm with
less recall than that has no figure there. Where the figures of two arms are alike here and their F1 is not, the one
says more at the same precision. Arms that no other has both more recall and fewer false findings than: {best}.

{table(heads, rows)}"""


def _test() -> str:
    rows = [[f"{row['level']:.4f}", row["seeds"], f"{row['share']:g}", *(f"{row[name]:.2f}" for name in simulate.TESTS)]
            for row in read_json(simulate.KEPT)]
    return f"""## The test, and its error rates

How often a test rejects where there is nothing, as a multiple of its level (1 is right), by the share of the variance
of the mean that seeds give. Simulated by `python -m studies.claims.simulate`, {simulate.SIMULATIONS:,} times a row.
*Cochran* weighs Student's critical values of both sources of chance by their variance; it is used because it is the
least timid one whose rates hold.

{table(("level", "seeds", "share of seeds", *simulate.TESTS), rows)}"""


def _arms(arms: Mapping[str, Mapping]) -> str:
    if not arms:
        return ""
    parts = ["## The arms"]
    for split in SPLITS:
        rows = [[f"`{name}`", len(arm["seeds"]), *(cell(arm[split][metric]) for metric in TABLE)]
                for name, arm in arms.items()]
        heads = ("arm", "seeds", *(f"{plots.spoken(m)}{' (lower is better)' * (m in LOWER_IS_BETTER)}" for m in TABLE))
        parts.append(f"### {split}\n\n" + table(heads, rows))
    parts.append("What each arm is:\n\n" + "\n".join(f"- `{arm}`: {screening.says(arm)}" for arm in arms))
    return "\n\n".join(parts)


def _contrasts(judged: Sequence[Judged]) -> str:
    rows = [[one.claim.id, e.contrast.says, e.contrast.metric, len(e.seeds), number(e.value, signed=True),
             interval(e.low, e.high), interval(*(e.sampling or (None, None))), number(e.spread), p_of(e.p),
             p_of(e.p_same), number(e.seen), "–" if e.p is None else e.needed or f"> {MANY}"]
            for one in judged for e in one.estimates if e.value is not None]
    if not rows:
        return ""
    heads = ("claim", "contrast", "metric", "seeds", "estimate", "95 % interval", "of the images alone",
             "spread over seeds", "p", "p of none that matters", "could have seen", "seeds needed")
    return f"""## Every contrast

*Of the images alone* is the interval of these trained models, seeds held fixed; *spread over seeds* the standard
deviation between seeds; p are before correction. *Could have seen* is the true difference that a comparison with this
error and these seeds detects with a probability of .8 before correction. *Seeds needed* tell a difference that matters
from 0 with a probability of .8 at p = {LEVEL:g}/30, as the strictest step of the correction asks; where even {MANY} do
not, images say more than seeds would.

{table(heads, rows)}"""


def _chosen(found: Findings) -> str:
    tried = found.tried
    rows = [[f"`{name}`", trial.setting.says, trial.pool,
             *(number(trial.figures[metric]) for metric in screening.WATCHED),
             "chosen" if found.chosen.get(name) == trial.setting else ""]
            for name in METHODS for trial in tried if trial.name == name]
    if not rows:
        return ""
    levels = table(("arm", "setting"), [[f"`{arm}`", setting.says] for arm, setting in found.chosen.items()
                                         if arm not in METHODS])
    also = f"\n\nChosen for the controls and the factors' levels:\n\n{levels}" * bool(found.chosen)
    heads = ("method", "setting", "pool", *(plots.spoken(name) for name in screening.WATCHED), "")
    return f"""## The settings of the methods

The criterion, fixed beforehand: {screening.CRITERION}. Figures are of validation, less what a pool adds to all of its
settings. A method whose best setting is the outermost of those tried in some number gets further ones beyond it.

{table(heads, rows)}{also}"""


def _conditions(found: Findings) -> str:
    made = [row["made"] for row in found.rows]
    if not made:
        return ""
    seconds = [sum(row["seconds"]) for row in found.rows if "seconds" in row]
    days = sorted({one["day"] for one in made})
    versions = Counter(", ".join(f"{name} {one['versions'][name]}" for name in ("torch", "transformers", "peft"))
                       for one in made)

    def many(counter: Counter) -> str:
        return "; ".join(f"{name} ({number} runs)" for name, number in counter.most_common())

    return f"""## Machine and time

{len(made)} runs, {sum(seconds) / 3600:.1f} hours of one core each at a time, {sum(seconds) / len(seconds) / 60:.1f}
minutes a run on average; {" to ".join(dict.fromkeys((days[0], days[-1])))}. Machine:
{many(Counter(one["machine"] for one in made))}. {many(versions)}. States of the package's code:
{many(Counter(one["code"] for one in made))}."""


def table(heads: Sequence, rows: Sequence[Sequence]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def cell(entry: Mapping | None) -> str:
    """A value with its interval."""
    if entry is None or entry["value"] is None:
        return "–"
    return f"{number(entry['value'])} {interval(entry['low'], entry['high'])}".strip()


def number(value: float | None, *, signed: bool = False) -> str:
    """Three digits, or a dash."""
    return "–" if value is None else f"{value:+.3f}" if signed else f"{value:.3f}"


def interval(low: float | None, high: float | None) -> str:
    """In brackets, or nothing."""
    return "" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def p_of(value: float | None) -> str:
    """Four digits, or a dash."""
    return "–" if value is None else "< .0001" if value < 1e-4 else f"{value:.4f}"
