"""docs/RESULTS.md, written whole from the runs that there are: nothing in it is written by hand."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from studies.claims import history, plots, search
from studies.claims.hypotheses import FALSE, LOWER_IS_BETTER
from studies.claims.lineup import ARMS, BATCH, EPOCHS, RANK
from studies.claims.store import Bench, name_of
from studies.claims.verdicts import LEVEL, LOST_CLOSED, SPLITS, Estimate, Judged, Results, wins

CURVED = ("dpo", "mask-dpo", "fire-mpo", "neutral-control")
OURS = tuple(arm.name for arm in ARMS.values() if arm.ours)
DERIVED = tuple(arm.name for arm in ARMS.values() if arm.like and not arm.ours)
TABLE = ("fact_f1", "hallucination_rate", "closed_accuracy", "grounding_selectivity", "flip_rate", "invariance_rate",
         "kl_to_reference", "style_edit_distance")


def write_page(
    path: Path, *, bench: Bench, results: Results, found: Mapping, judged: Sequence[Judged],
    goal: tuple[list[Estimate], list[Estimate]] | None, others: Mapping[str, Sequence[Estimate]],
    figures: Mapping[str, Path], command: str,
) -> None:
    """The page; `found` is what claims.json holds, `figures` {caption: file}."""
    parts = [
        _head(bench, results, command), history.TEXT, _claims(judged), _figures(path, figures),
        _goal(found["recommended"], goal, others),
        _arms(found["arms"]), _contrasts(judged), _search(bench), _conditions(bench, results),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def draw_figures(folder: Path, found: Mapping, judged: Sequence[Judged], results: Results) -> dict[str, Path]:
    """{caption: file} of the figures for which there are numbers."""
    metric = {one.claim.id: one.claim.contrasts[0].metric for one in judged}
    groups = {name: [c for c in found["claims"] if metric[c["id"]] == name and c["estimate"] is not None]
              for name in dict.fromkeys(metric.values())}
    groups = {name: claims for name, claims in groups.items() if claims}
    figures = {}
    if groups:
        def forests(axes) -> None:
            for ax, (name, claims) in zip(axes if len(groups) > 1 else [axes], groups.items(), strict=True):
                plots.forest(ax, claims, title=f"difference in {plots.spoken(name)}")

        tall = 1.2 + 0.36 * max(map(len, groups.values()))
        figures["The claims: estimates with 95 % intervals; right of 0 the claim holds"] = plots.save(
            folder / "forest.png", forests, size=(5.0 * len(groups), tall), columns=len(groups))
    families = {name: plots.family_of(name, ours=OURS, controls=DERIVED) for name in found["arms"]}
    if len(found["arms"]) > 1:
        def both(axes) -> None:
            for ax, split in zip(axes, SPLITS, strict=True):
                plots.trade_off(ax, found["arms"], split=split, families=families)

        figures["Accuracy against drift from the base"] = plots.save(
            folder / "trade_off.png", both, size=(12.0, 5.2), columns=2)
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

Written by `{command}`; do not edit. Of {len(ARMS) - 1} arms: {told} (of {sizes.seeds} planned).

Every arm starts from the embedded model and learns from {sizes.pairs} pairs in {EPOCHS} epochs of batch {BATCH} with
LoRA of rank {RANK}. A seed is a seed of the training and other people to learn from. All arms are asked about the same
{sizes.test} test people and {sizes.shifted} people of a world whose correlations are broken (shifted). A claim's
estimate is a difference averaged over both. Intervals are 95 %, of the mean over seeds, with seeds and images both
drawn; p is corrected by Holm over all contrasts of all claims that could be tested. *supported* and *refuted* mean
corrected p < {LEVEL:g}; all else is *inconclusive*. With one seed there is no test."""


def _claims(judged: Sequence[Judged]) -> str:
    rows = []
    for one in judged:
        hard = one.estimates[0]
        several = f" (hardest of {len(one.estimates)})" if len(one.estimates) > 1 else ""
        rows.append([one.claim.id, one.claim.statement, hard.contrast.says + several, len(hard.seeds),
                     _number(hard.value, signed=True), _interval(hard.low, hard.high), _p(hard.p_holm),
                     f"{one.verdict}: not measured yet" if hard.value is None else f"**{one.verdict}**"])
    heads = ("", "claim", "arms", "seeds", "estimate", "95 % interval", "p (Holm)", "verdict")
    return "## The claims\n\n" + _table(heads, rows)


def _figures(path: Path, figures: Mapping[str, Path]) -> str:
    lines = []
    for caption, file in figures.items():
        place = file.relative_to(path.parent) if file.is_relative_to(path.parent) else file.name
        lines.append(f"![{caption}]({place.as_posix() if isinstance(place, Path) else place})\n\n*{caption}.*")
    return "\n\n".join(lines)


def _goal(
    recommended: str | None, goal: tuple[list[Estimate], list[Estimate]] | None,
    others: Mapping[str, Sequence[Estimate]],
) -> str:
    if recommended is None or goal is None:
        return "## The recommended recipe\n\nNot chosen yet: the search of our own arms is unfinished."
    won, closed = goal
    measured = [estimate for estimate in won if estimate.value is not None]
    good = sum(estimate.verdict == "supported" for estimate in won)
    reached = "The goal is reached" if wins(won, closed) else "The goal is not reached"
    likelihood = sum(e.verdict == "supported" and _rival(e, recommended).startswith("sft-") for e in won)
    false = [e for e in won if e.contrast.metric == FALSE and not _rival(e, recommended).startswith("sft-")]
    text = f"""## The default recipe: `{recommended}`

Chosen on validation, by a rule that was made after the results of another rule's arm had been seen (above):
{search.RECOMMENDED}. It was to beat each rival in fact F1, hallucination rate and grounding selectivity, on test and
on shifted, after Holm over these {len(won)} tests (measured: {len(measured)}), and to lose no closed accuracy
(interval above -{LOST_CLOSED:g}). {reached}: {good} of {len(won)} won. {likelihood} of them are over the two
likelihood arms, and of the {len(false)} comparisons in false findings with the others
{sum(e.verdict == "supported" for e in false)} are won. Selectivity is in nats, which scale buys. In fact F1 and false
findings alone, with Holm over those tests: {_others_told(others)}. Differences are so signed that above 0 is better."""
    rows = [[e.contrast.metric, e.contrast.splits[0], _rival(e, recommended), len(e.seeds),
             _number(e.value, signed=True), _interval(e.low, e.high), _p(e.p_holm),
             {"supported": "won", "refuted": "lost"}.get(e.verdict, "open")] for e in won]
    rows += [[e.contrast.metric, e.contrast.splits[0], _rival(e, recommended), len(e.seeds),
              _number(e.value, signed=True), _interval(e.low, e.high), "",
              "open" if e.low is None else "kept" if e.low > -LOST_CLOSED else "not shown"] for e in closed]
    heads = ("metric", "split", "against", "seeds", "difference", "95 % interval", "p (Holm)", "")
    return text + "\n\n" + _table(heads, rows)


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
             _p(e.p_holm), _number(e.seen)] for one in judged for e in one.estimates]
    heads = ("claim", "contrast", "metric", "seeds", "estimate", "95 % interval", "of the images alone",
             "spread over seeds", "p", "p (Holm)", "could have seen")
    return f"""## Every contrast

*Of the images alone* is the interval of these trained models, seeds held fixed; *spread over seeds* the standard
deviation between seeds. *Could have seen* is the true difference that a comparison with this error and these seeds
detects with a probability of .8 before correction: a claim that is inconclusive may still be true by less than that.

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
    ours = [[f"`{name}`", *(_number(figures[metric]) for metric in search.WHOLE)]
            for name, figures in search.looks(bench).items()]
    likes = [f"`{arm.name}` takes those of `{arm.like}`" for arm in ARMS.values() if arm.like]
    heads = ("arm", "settings", *(plots.spoken(name) for name in search.WATCHED), "")
    return f"""## The search

On {bench.sizes.val} validation people and a pool that gives no results. The criterion, fixed beforehand:
{search.CRITERION}. First learning rate × beta, then the arm's own weight at the best of them.
{"; ".join(likes)}.

{_table(heads, rows)}

Our arms at their settings, for the recommendation:

{_table(("arm", *(plots.spoken(name) for name in search.WHOLE)), ours)}"""


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
