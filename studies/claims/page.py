"""docs/RESULTS.md, written whole from the runs that there are; what can not be computed is history.py's text."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medalign_lite.dials import PRESETS
from studies.claims import choice, history, plots, recall, search, simulate
from studies.claims.hypotheses import CLAIMS, F1, FALSE, LOOKS, LOWER_IS_BETTER, MATTERS, NATS
from studies.claims.lineup import ARMS, BATCH, EPOCHS, RANK
from studies.claims.seeds import MANY
from studies.claims.store import Bench, name_of
from studies.claims.verdicts import LEVEL, LOST_CLOSED, SPLITS, Estimate, Judged, Results, measure, wins

SHOWN = 10  # arms in the table of the recommendation
CURVED = ("dpo", "mask-dpo", "fire-mpo", "neutral-control")
OURS = tuple(arm.name for arm in ARMS.values() if arm.ours)
DERIVED = tuple(arm.name for arm in ARMS.values() if arm.like and not arm.ours)
TABLE = ("fact_f1", "hallucination_rate", "closed_accuracy", "grounding_probability", "change_grounded",
         "right_answer_fall", "grounding_selectivity", "flip_rate", "invariance_rate", "kl_to_reference",
         "style_edit_distance")
FRESH = """ A confirmation: these people were asked about by no arm before, and settings,
claims and rule stood in the code before they were drawn."""
DEFAULT = PRESETS["ci"].recipes[-1]


def write_page(
    path: Path, *, bench: Bench, results: Results, found: Mapping, judged: Sequence[Judged],
    goal: tuple[list[Estimate], list[Estimate]], others: Mapping[str, Sequence[Estimate]], figures: Mapping[str, Path],
    command: str,
) -> None:
    """The page; `found` is what claims.json holds, `goal` and `others` the comparisons of the kit's default recipe and
    of further arms, `figures` {caption: file}."""
    parts = [
        _head(bench, results, command), history.TEXT, _claims(judged), _nats(judged, results), _figures(path, figures),
        _recommended(results), _default(goal, others), _recall(found["arms"]), _arms(found["arms"]), _contrasts(judged),
        _test(), _search(bench), _conditions(bench, results),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def draw_figures(folder: Path, found: Mapping, results: Results) -> dict[str, Path]:
    """{caption: file} of the figures for which there are numbers."""
    groups, figures = plots.by_metric(found["claims"]), {}
    if groups:
        tall = 1.2 + 0.36 * max(map(len, groups.values()))
        figures["The claims: estimates with 95 % intervals; right of 0 the claim holds"] = plots.save(
            folder / "forest.png", lambda axes: plots.forests(axes, found["claims"]), size=(5.0 * len(groups), tall),
            columns=len(groups))
    families = {name: plots.family_of(name, ours=OURS, controls=DERIVED) for name in found["arms"]}
    if len(found["arms"]) > 1:
        def both(axes) -> None:
            for ax, split in zip(axes, SPLITS, strict=True):
                plots.trade_off(ax, found["arms"], split=split, families=families)

        figures["Accuracy against drift from the base"] = plots.save(
            folder / "trade_off.png", both, size=(12.0, 5.2), columns=2)

        def over_recall(axes) -> None:
            for ax, (metric, split) in zip(axes.flat, choice.PLACES, strict=True):
                plots.trade_off(ax, found["arms"], x="fact_recall", y=metric, split=split, families=families)

        figures["Fact F1 and false findings over recall"] = plots.save(
            folder / "recall.png", over_recall, size=(12.0, 10.4), columns=2, rows=2)
    curves = {name: [run["curves"]["margin"] for run in results[name].values() if run.get("curves", {}).get("margin")]
              for name in CURVED}
    curves = {name: seeds for name, seeds in curves.items() if seeds}
    if curves:
        figures["The margin m(v) in training, with the range over seeds"] = plots.save(
            folder / "curves.png", lambda ax: plots.training_curves(ax, curves, what="margin m(v)"), size=(6.5, 3.6))
    return figures


def _head(bench: Bench, results: Results, command: str) -> str:
    sizes, seeds = bench.sizes, Counter(len(found) for name, found in results.items() if name != "base")
    told = ", ".join(f"{arms} with {number} seed{'s' * (number != 1)}" for number, arms in sorted(seeds.items()))
    return f"""# Which of the method's claims hold

Written by `{command}`; do not edit.{FRESH * bench.fresh} Of {len(ARMS) - 1} arms: {told} (of {sizes.seeds} planned).

Every arm starts from the embedded model and learns from {sizes.pairs} pairs in {EPOCHS} epochs of batch {BATCH} with
LoRA of rank {RANK}. A seed is a seed of the training and other people to learn from. All arms are asked about the same
{sizes.test} test people and {sizes.shifted} people of a world whose correlations are broken (shifted). A claim's
estimate is a difference averaged over both. Intervals are 95 %, of the mean over seeds, with seeds and images both
drawn. What matters at least: {MATTERS[F1]:g} of fact F1, {MATTERS[FALSE]:g} of false findings, {MATTERS[LOOKS]:g} of
grounding, which is the probability that the lesion's removal lowers the margin of a true statement more than another
place's removal does ([METHOD](METHOD.md), 4). Of each claim two things are tested: that all of its contrasts are
above 0, or one below; and, by two one-sided tests, that all are nearer to 0 than what matters. p is corrected by Holm
over both tests of all {len(CLAIMS)} claims. *supported*, *refuted* and *no effect larger than ...* mean corrected
p < {LEVEL:g}, the last before the others; all else is *inconclusive*. With one seed there is no test."""


def _claims(judged: Sequence[Judged]) -> str:
    rows = []
    for one in judged:
        hard = one.estimates[0]
        several = f" (hardest of {len(one.estimates)})" if len(one.estimates) > 1 else ""
        rows.append([one.claim.id, one.claim.statement, hard.contrast.says + several, len(hard.seeds),
                     _number(hard.value, signed=True), _interval(hard.low, hard.high), f"{one.claim.matters:g}",
                     _p(one.p_holm), _p(one.p_same),
                     f"{one.verdict}: not measured yet" if hard.value is None else f"**{one.verdict}**"])
    heads = ("", "claim", "arms", "seeds", "estimate", "95 % interval", "matters from", "p of a difference (Holm)",
             "p of none that matters (Holm)", "verdict")
    return "## The claims\n\n" + _table(heads, rows)


def _nats(judged: Sequence[Judged], results: Results) -> str:
    """The claims about grounding, in the measure that decides nothing."""
    rows = []
    for one in judged:
        for contrast in (c for c in one.claim.contrasts if c.metric == LOOKS):
            found = measure(replace(contrast, metric=NATS), results)
            rows.append([one.claim.id, contrast.says, _number(found.value, signed=True),
                         _interval(found.low, found.high)])
    return f"""The claims about grounding in raw nats, which scale buys (METHOD): a description, and no verdict follows.

{_table(("claim", "contrast", "selectivity, nats", "95 % interval"), rows)}"""


def _figures(path: Path, figures: Mapping[str, Path]) -> str:
    lines = []
    for caption, file in figures.items():
        place = file.relative_to(path.parent) if file.is_relative_to(path.parent) else file.name
        lines.append(f"![{caption}]({place.as_posix() if isinstance(place, Path) else place})\n\n*{caption}.*")
    return "\n\n".join(lines)


def _recommended(results: Results) -> str:
    found = choice.behind(results)
    named = choice.near(found)
    if not found:
        return "## The recommended recipe\n\nNot chosen yet: no arm is measured."
    seeds = sorted({seed for arm in found for seed in results[arm]})
    without = [choice.near(choice.behind(results, [s for s in seeds if s != left])) for left in seeds]
    stable = "; ".join(f"without seed {left}: {f'`{names[0]}`' if names else 'none'}"
                       for left, names in zip(seeds, without, strict=True))
    beats = [e for e in choice.beaten_by(results, named[0]) if e.verdict == "refuted"] if named else []
    told = ", ".join(f"`{_rival(e, named[0])}` in {e.contrast.metric} on {e.contrast.splits[0]}" for e in beats)
    close = sorted(found, key=lambda arm: max(found[arm]))[:SHOWN]
    rows = [[f"`{arm}`", choice.terms(arm), *(f"{gap:.4f}" for gap in found[arm]), "named" if [arm] == named[:1] else
             "within" if arm in named else ""] for arm in close]
    heads = ("arm", "terms", *(f"{metric}, {split}: behind the best by" for metric, split in choice.PLACES), "")
    return f"""## The recommended recipe: {f"`{named[0]}`" if named else "none"}

The rule: {choice.RULE}.
**Rule and arms were chosen after test had been seen** (the section on what was decided when has the commits), and the
confirmation on fresh people has not been run: this is a choice for a laboratory's next step, and no finding. Leaving
out a seed in turn gives {stable}. By tests (Holm over every
other arm, both metrics and both splits), what is shown to be better than the one named: {told or "nothing"}. The kit's
default is still `{DEFAULT}`: to change it moves every record and result, and waits for that confirmation. An arm with a
KL outside the spans and without a picture term is not in the line-up; LOG.md's wider search has one that is as good on
validation.

{_table(heads, rows)}"""


def _default(goal: tuple[list[Estimate], list[Estimate]], others: Mapping[str, Sequence[Estimate]]) -> str:
    won, closed = goal
    measured = [estimate for estimate in won if estimate.value is not None]
    if not measured:
        return ""
    good = sum(estimate.verdict == "supported" for estimate in won)
    reached = "It does" if wins(won, closed) else "It does not"
    likelihood = sum(e.verdict == "supported" and _rival(e, DEFAULT).startswith("sft-") for e in won)
    false = [e for e in won if e.contrast.metric == FALSE and not _rival(e, DEFAULT).startswith("sft-")]
    text = f"""## What the default recipe, `{DEFAULT}`, does and does not beat

Asked: to beat each rival in fact F1, false findings and grounding, on test and on shifted, after Holm over these
{len(won)} tests (measured: {len(measured)}), and to lose no closed accuracy (interval above -{LOST_CLOSED:g}).
{reached}: {good} of {len(won)} won. {likelihood} of them are over the two likelihood arms, and of the {len(false)}
comparisons in false findings with the others {sum(e.verdict == "supported" for e in false)} are won. In fact F1 and
false findings alone, with Holm over those tests: {_others_told(others)}.
Differences are so signed that above 0 is better."""
    rows = [[e.contrast.metric, e.contrast.splits[0], _rival(e, DEFAULT), len(e.seeds),
             _number(e.value, signed=True), _interval(e.low, e.high), _p(e.p_holm),
             {"supported": "won", "refuted": "lost"}.get(e.verdict, "open")] for e in won]
    rows += [[e.contrast.metric, e.contrast.splits[0], _rival(e, DEFAULT), len(e.seeds),
              _number(e.value, signed=True), _interval(e.low, e.high), "",
              "open" if e.low is None else "kept" if e.low > -LOST_CLOSED else "not shown"] for e in closed]
    heads = ("metric", "split", "against", "seeds", "difference", "95 % interval", "p (Holm)", "")
    return text + "\n\n" + _table(heads, rows)


def _recall(arms: Mapping[str, Mapping]) -> str:
    if "fire-mpo" not in arms:
        return ""
    least = {split: recall.value(arms, "fire-mpo", split, "fact_recall") for split in SPLITS}
    rows = [[f"`{arm}`", *(text for split in SPLITS for text in (
        _number(recall.value(arms, arm, split, "fact_recall")), _number(recall.value(arms, arm, split, FALSE)),
        _number(recall.thinned_f1(arms, arm, split, least[split]))))] for arm in arms]
    heads = ("arm", *(f"{split}: {name}" for split in SPLITS for name in (
        "recall", "false findings at any recall below", f"F1 at recall {least[split]:.3f}")))
    best = "; ".join(f"{split}: {', '.join(f'`{arm}`' for arm in recall.frontier(arms, split))}" for split in SPLITS)
    return f"""## At equal recall

F1 and false findings follow recall. An arm can always say less: claims left out at random lower recall, and leave
precision and the share of false findings where they are. So arms are compared at the recall of `fire-mpo`; an arm with
less recall than that has no figure there. Where the figures of two arms are alike here and their F1 is not, the one
says more at the same precision. Arms that no other has both more recall and fewer false findings than: {best}.

{_table(heads, rows)}"""


def _test() -> str:
    if not simulate.KEPT.is_file():
        return ""
    rows = [[f"{row['level']:.4f}", row["seeds"], f"{row['share']:g}", *(f"{row[name]:.2f}" for name in simulate.TESTS)]
            for row in json.loads(simulate.KEPT.read_text(encoding="utf-8"))]
    return f"""## The test, and its error rates

How often a test rejects where there is nothing, as a multiple of its level (1 is right), by the share of the variance
of the mean that seeds give; in the contrasts of this page that share is 0 to .92. Simulated by `python -m
studies.claims.simulate`, {simulate.SIMULATIONS:,} times a row. *Satterthwaite* is what this page used until 29
November: three to four times too generous far out in the tail with five seeds. *Cochran* weighs Student's critical
values of both sources of chance by their variance; it is used because it is the least timid one whose rates hold.

{_table(("level", "seeds", "share of seeds", *simulate.TESTS), rows)}"""


def _others_told(others: Mapping[str, Sequence[Estimate]]) -> str:
    return ", ".join(f"`{arm}` {sum(e.verdict == 'supported' for e in every)} of {len(every)}"
                     for arm, every in others.items())


def _rival(estimate: Estimate, recommended: str) -> str:
    return next(arm for arm, _ in estimate.contrast.weights if arm != recommended)


def _arms(arms: Mapping[str, Mapping]) -> str:
    if not arms:
        return "## The arms\n\nNone is measured yet."
    parts = ["## The arms"]
    for split in SPLITS:
        rows = [[f"`{name}`", len(arm["seeds"]), *(_cell(arm[split][metric]) for metric in TABLE)]
                for name, arm in arms.items()]
        heads = ("arm", "seeds", *(f"{plots.spoken(m)}{' (lower is better)' * (m in LOWER_IS_BETTER)}" for m in TABLE))
        parts.append(f"### {split}\n\n" + _table(heads, rows))
    parts.append("What each arm is:\n\n" + "\n".join(f"- `{arm.name}`: {arm.says}" for arm in ARMS.values()))
    return "\n\n".join(parts)


def _contrasts(judged: Sequence[Judged]) -> str:
    rows = [[one.claim.id, e.contrast.says, e.contrast.metric, len(e.seeds), _number(e.value, signed=True),
             _interval(e.low, e.high), _interval(*(e.sampling or (None, None))), _number(e.spread), _p(e.p),
             _p(e.p_same), _number(e.seen), "–" if e.p is None else e.needed or f"> {MANY}"]
            for one in judged for e in one.estimates]
    heads = ("claim", "contrast", "metric", "seeds", "estimate", "95 % interval", "of the images alone",
             "spread over seeds", "p", "p of none that matters", "could have seen", "seeds needed")
    return f"""## Every contrast

*Of the images alone* is the interval of these trained models, seeds held fixed; *spread over seeds* the standard
deviation between seeds; p are before correction. *Could have seen* is the true difference that a comparison with this
error and these seeds detects with a probability of .8 before correction. *Seeds needed* tell a difference that matters
from 0 with a probability of .8 at p = {LEVEL:g}/30, as the strictest step of the correction asks; where even {MANY} do
not, images say more than seeds would.

{_table(heads, rows)}"""


def _search(bench: Bench) -> str:
    rows = []
    base = search.base_line(bench)
    for arm in ARMS.values():
        point = search.chosen(bench, arm)
        for tried, figures in search.tried(bench, arm):
            settings = ", ".join(f"{name} {value:g}" for name, value in tried.items())
            picked = "chosen" if tried == point and settings else ""
            rows.append([f"`{arm.name}`", settings, *(_number(figures.get(name)) for name in search.WATCHED), picked])
    if not rows or base is None:
        return "## The search\n\nNothing was searched here: the settings are those of the committed search, else the "\
               "second of each grid."
    likes = [f"`{arm.name}` takes those of `{arm.like}`" for arm in ARMS.values() if arm.like]
    heads = ("arm", "settings", *(plots.spoken(name) for name in search.WATCHED), "")
    return f"""## The search

On {bench.sizes.val} validation people and a pool that gives no results. The criterion, fixed beforehand:
{search.CRITERION}. First learning rate × beta, then the arm's own weight at the best of them.
{"; ".join(likes)}.

{_table(heads, rows)}"""


def _conditions(bench: Bench, results: Results) -> str:
    # arms of the same settings share their runs
    every = {name_of(run["facts"]): run for found in results.values() for run in found.values()}.values()
    made = [run["made"] for run in every]
    if not made:
        return ""
    seconds = [sum(run["seconds"].values()) for run in every if "seconds" in run]
    days = sorted({one["day"] for one in made})
    codes, machines = Counter(one["code"] for one in made), Counter(one["machine"] for one in made)
    versions = Counter(f"torch {one['versions']['torch']}, transformers {one['versions']['transformers']}, "
                       f"peft {one['versions']['peft']}" for one in made)
    days_told = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"

    def many(counter: Counter) -> str:
        return "; ".join(f"{name} ({number} runs)" for name, number in counter.most_common())

    return f"""## Machine and time

{len(made)} runs, {sum(seconds) / 3600:.1f} hours of one core each at a time, {sum(seconds) / len(seconds) / 60:.1f}
minutes a run on average; {days_told}. Machine: {many(machines)}. {many(versions)}. States of the code that decides
numbers: {many(codes)}."""


def _table(heads: Sequence, rows: Sequence[Sequence]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _cell(entry: Mapping) -> str:
    if entry["value"] is None:
        return "–"
    return f"{_number(entry['value'])} {_interval(entry['low'], entry['high'])}".strip()


def _number(value: float | None, *, signed: bool = False) -> str:
    return "–" if value is None else f"{value:+.3f}" if signed else f"{value:.3f}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def _p(value: float | None) -> str:
    return "–" if value is None else "< .0001" if value < 1e-4 else f"{value:.4f}"
