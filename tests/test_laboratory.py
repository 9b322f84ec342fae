"""The laboratory: sound settings, results that are found again and never mixed up, verdicts known beforehand."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from medalign_lite.dials import EMBEDDED
from medalign_lite.evaluate.metrics import COLUMNS, RATIOS, ratios
from medalign_lite.files import ROOT
from medalign_lite.train.pairs import Pair
from studies.claims import __main__ as command
from studies.claims import choice, hypotheses, lineup, page, runs, screening, store, verdicts
from studies.claims.hypotheses import F1, Contrast, against
from studies.claims.lineup import BASE, BATCH, CONTROLS, CORE, EPOCHS, FACTORS, METHODS, MIRRORS, PAIRS, Setting
from studies.claims.pool import FULL, POOL_SEEDS, SMALL, Pool
from studies.claims.screening import Trial, rank
from studies.claims.store import CONFIRMATION, SCREENING

IMAGES = 300
SPLITS = ("test", "shifted")
DPO, FLAT = Setting("dpo"), {name: 0.7 for name in screening.WATCHED}


@pytest.fixture
def bench(tmp_path):
    return store.Bench(str(ROOT / EMBEDDED), FULL, 7, tmp_path / "out", tmp_path / "kept")


def test_the_committed_runs_are_of_the_shipped_model_and_this_world(tmp_path):
    kept = store.Store(command.bench_of(command.parse([f"OUT={tmp_path}"])))
    lines = [json.loads(line) for path in (ROOT / "docs/claims").glob("*/*.jsonl") if path.parent.name in (
        SCREENING, CONFIRMATION) for line in path.open()]
    assert {line["state"] for line in lines} == {kept.state} and len(lines) == len(kept.rows) > 0
    figures = [t.figures for t in runs.trials(kept) if t.figures]
    assert len(figures) + (runs.tried(kept) is not None) == sum(line["kind"] == SCREENING for line in lines)
    card = (ROOT / EMBEDDED / "README.md").read_text()
    assert "the world as it is now" in card, "the model was trained on the world that it is measured on"
    page = (ROOT / "docs/RESULTS.md").read_text()
    assert f"`{store.model_revision(kept.bench.model)}`" in page and f"Screening: {len(figures)} of" in page


@pytest.mark.parametrize(("name", "arms"), [("1", ("dpo", "dpo-reference")), ("5", ("fire-mpo", "whole-noise"))])
def test_two_claims_counted_again_from_the_committed_runs(name, arms):
    told = json.loads((ROOT / "docs/claims/claims.json").read_text())["claims"]
    results, claim = store.committed_runs(), next(claim for claim in told if claim["id"] == name)
    raw = [sign * ratios(store.unpack(run["counts"][split]).sum(axis=0), [claim["metric"]])[claim["metric"]]
           for sign, arm in zip((1, -1), arms) for run in results[arm].values() for split in SPLITS]
    assert [sorted(results[arm]) for arm in arms] == [[*FULL.numbers]] * 2
    assert sum(raw) / len(SPLITS) / FULL.seeds == pytest.approx(claim["estimate"], abs=1e-6)
    assert f"{claim['estimate']:+.3f}" in (ROOT / "docs/RESULTS.md").read_text()


def counts(rng, *, f1=0.8, selectivity=1.0, closed=0.9):
    """(images, COLUMNS) of an arm that is about so good."""
    facts = rng.integers(1, 4, IMAGES)
    right = rng.binomial(facts, f1)
    said_right, gap = rng.random(IMAGES) < closed, rng.normal(selectivity, 1.0, IMAGES).round(2)
    asked, falls = rng.integers(0, 2, (2, IMAGES))
    values = {
        "claims": facts, "facts": facts, "claims_right": right, "facts_found": right,
        "claims_hallucinated": facts - right, "closed": 1, "closed_right": said_right, "selectivity_n": 1,
        "selectivity": gap, "evidence_lower": (1 + np.sign(gap)) / 2, "asked_about": asked, "right_falls": falls,
        "right_fall": 0.25 * falls,
    }  # fmt: skip
    table = np.zeros((IMAGES, len(COLUMNS)))
    for name, column in values.items():
        table[:, COLUMNS.index(name)] = column
    return table


def results_of(arms, *, seeds=5, **common):
    """{arm: {seed: result}} for arms of known quality; the base once."""
    found = {}
    for n, (arm, quality) in enumerate(arms.items()):
        found[arm] = {}
        for seed in [0] if arm == BASE else range(1, seeds + 1):
            tables = {split: counts(np.random.default_rng([n, seed, k]), **common | quality)
                      for k, split in enumerate(SPLITS)}
            found[arm][seed] = {"counts": {s: store.pack(t) for s, t in tables.items()}}
    return found


def test_every_setting_is_valid_and_takes_the_same_steps():
    settings = [setting for _, setting, _ in lineup.screened()]
    for name in METHODS:
        spots = lineup.method_spots(name)
        edges = range(len(METHODS[name].ranges))
        settings += [lineup.method_setting(name, spot) for spot in spots]
        settings += [lineup.method_setting(name, lineup.moved_out(spots[0], dict.fromkeys(edges, side)))
                     for side in (-1, 1)]
    assert len({setting for setting in settings}) == len(settings)
    for setting in settings:
        training = setting.training(1)
        assert (training.epochs, training.batch_size) == (EPOCHS, BATCH) and training.resolved_recipe()
    arms = {arm for claim in hypotheses.CLAIMS for contrast in claim.contrasts for arm, _ in contrast.weights}
    levels = {f"{factor}={level}" for factor, names in FACTORS.items() for level in names}
    assert arms <= {BASE, *METHODS, *CONTROLS, *MIRRORS, "best"} | levels
    assert FULL.pairs == PAIRS and min(FULL.test, FULL.shifted) >= 1000 and FULL.seeds == 10


def test_settings_of_the_factors_are_balanced_and_spread_over_their_ranges():
    levels, settings, pools = zip(*lineup.screened(), strict=True)
    assert set(Counter(pools).values()) == {lineup.SCREENED // len(lineup.POOLS)}
    for factor, names in FACTORS.items():
        count = Counter(told[factor] for told in levels if factor in told)
        assert set(count) == set(names) and max(count.values()) - min(count.values()) <= 0.2 * max(count.values())
    rates = np.log([setting.learning_rate for setting in settings])
    low, high = np.log(lineup.RATES)
    assert set(np.histogram(rates, np.linspace(low, high, 9))[0]) == {lineup.SCREENED // 8}
    assert all(("alpha" in dict(s.overrides)) == (told["kl"] != "none") for told, s in zip(levels, settings))
    assert all((s.evidence == "removed") == (told["picture"] == "conditional") for told, s in zip(levels, settings))


def test_controls_differ_from_the_full_method_in_one_thing(bench):
    full = lineup.method_setting("fire-mpo", (0.5, 0.5, 0.5))
    trials = [Trial(full, 1, name="fire-mpo", figures=FLAT)]
    arms = screening.candidates([*trials, Trial(DPO, 1, levels=(("kl", "none"),))], FLAT)
    assert arms["fire-mpo"] == full and set(CONTROLS) <= set(arms) and "best" not in arms
    for name in ("same-image", "whole-noise"):
        assert arms[name] == replace(full, evidence=arms[name].evidence) != full
    cdpo = arms["cdpo"].training(1).resolved_recipe()
    assert cdpo == replace(full.training(1).resolved_recipe(), gamma=0.0, smoothing=1 / 11)


def test_a_pool_gives_every_setting_as_many_pairs_and_its_own_images():
    pairs = tuple(Pair(str(n), "q", "No effusion.", "Effusion.", ((0, 11, "negation"),), ((0, 8, "negation"),),
                       "clean.png", lesion="lesion.png", control="control.png", gold="The pleural spaces are clear.",
                       rejected_ids=(n,)) for n in range(12))
    pool = Pool((), pairs, frozenset(str(n) for n in range(8)), seed=1, count=4, folder=ROOT)
    drawn = {name: pool.draw(replace(DPO, **changes)) for name, changes in {
        "dpo": {}, "reference": {"pairs": "reference"}, "counterfactual": {"pairs": "counterfactual"},
        "same": {"evidence": "same"}}.items()}
    assert {len(some) for some in drawn.values()} == {4}
    assert [p.id for p in drawn["dpo"]] == [p.id for p in drawn["reference"]] == [p.id for p in drawn["same"]]
    assert {p.id for p in drawn["dpo"]} <= pool.corrected
    assert not {p.id for p in drawn["counterfactual"]} & pool.corrected
    assert {p.chosen for p in drawn["reference"]} == {"The pleural spaces are clear."}
    assert {p.rejected for p in drawn["reference"]} == {"Effusion."}
    assert {(p.lesion, p.control) for p in drawn["same"]} == {("clean.png", "control.png")}
    none = Pool((), (replace(pairs[0], lesion=None, control=None),), pool.corrected, seed=1, count=1, folder=ROOT)
    assert none.draw(replace(DPO, evidence="whole"))[0].lesion is None, "a missing image never becomes a haze"


def test_a_result_is_found_by_all_that_it_depends_on(bench):
    facts = store.facts_of(bench, DPO, 11, CONFIRMATION)
    store.write(bench, facts, {"kind": CONFIRMATION, "arm": "dpo", "number": 11})
    kept = store.Store(bench)
    assert kept.get(facts)["arm"] == "dpo"
    others = [store.facts_of(*wanted) for wanted in (
        (bench, DPO, 12, CONFIRMATION), (bench, DPO, 11, SCREENING),
        (bench, replace(DPO, recipe="rrpo"), 11, CONFIRMATION), (replace(bench, seed=8), DPO, 11, CONFIRMATION),
        (bench, replace(DPO, pairs="reference"), 11, CONFIRMATION),
        (replace(bench, sizes=replace(FULL, test=10)), DPO, 11, CONFIRMATION), (bench, None, 0, CONFIRMATION))]
    assert [kept.get(other) for other in others] == [None] * len(others)
    kept.gather()
    elsewhere = replace(bench, out=bench.out / "new")
    assert store.Store(elsewhere).get(facts)["arm"] == "dpo", "what is committed is found again"
    assert store.Store(replace(elsewhere, seed=8)).rows == {}, "and not for another state"
    table = counts(np.random.default_rng(0))
    assert store.unpack(store.pack(table)) == pytest.approx(table, abs=0.5 / store.UNIT)
    assert len(store.pack(counts(np.random.default_rng(0)))) < 3000


def test_the_people_of_the_confirmation_are_nobody_who_was_asked_before(bench):
    pools = {bench.seed * POOL_SEEDS + number for number in [*lineup.POOLS, *FULL.numbers]}
    assert bench.fresh not in pools | {bench.seed} and not set(lineup.POOLS) & set(FULL.numbers)
    assert "people" not in store.facts_of(bench, DPO, 1, SCREENING)["asked"]


def test_a_method_whose_best_setting_is_the_outermost_is_tried_beyond_it():
    best = lineup.method_setting("dpo", max(lineup.method_spots("dpo")[: lineup.TRIED]))

    def look(setting, pool):
        return FLAT | {"fact_f1": 0.9 if setting == best else 0.7}

    own = [trial for trial in screening.wanted_trials(look) if trial.name == "dpo"]
    assert len(own) == lineup.TRIED + lineup.MORE
    assert all(t.setting.learning_rate > lineup.RATES[1] for t in own[lineup.TRIED :])
    unasked = [t for t in screening.wanted_trials(lambda setting, pool: None) if t.name == "dpo"]
    assert len(unasked) == lineup.TRIED


def trials_of(worth, *, noise=0.01, pool=0.03):
    """Trials of all factor settings: F1 is .7, what `worth` gives for the levels, what the pool adds, and noise."""
    rng = np.random.default_rng(0)
    return [Trial(setting, number, levels=tuple(levels.items()), figures=FLAT | {
        "fact_f1": 0.7 + worth(levels) + pool * (number == 2) + noise * rng.normal()})
        for levels, setting, number in lineup.screened()]


def test_the_worth_of_a_factor_is_found_and_nothing_where_there_is_nothing():
    trials = screening.level_out(trials_of(lambda levels: 0.05 * (levels["kl"] == "outside")))
    f1 = {pool: np.mean([t.figures["fact_f1"] for t in trials if t.pool == pool]) for pool in lineup.POOLS}
    assert f1[1] == pytest.approx(f1[2]), "what a pool adds is taken off"
    worth = screening.worth(trials, "kl", count=20)
    assert worth["outside"]["low"] > max(worth[level]["high"] for level in ("none", "edited", "whole"))
    weights = screening.worth(trials, "weights", count=20)
    assert weights["all"]["low"] < weights["span"]["value"] < weights["all"]["high"]
    shares = screening.shares(trials, "fact_f1")
    assert shares["kl"]["low"] > 0.6 and max(shares[name]["value"] for name in shares if name != "kl") < 0.05
    assert screening.candidates(trials, FLAT)["best"] == screening.candidates(trials, FLAT)["kl=outside"]
    trials = trials_of(lambda levels: 0.0)
    for factor, levels in FACTORS.items():
        assert len({len(screening.at_level(trials, factor, level)) for level in levels}) == 1


def test_the_criterion_is_f1_among_what_is_allowed_and_the_best_of_some_its_mean_over_draws():
    assert screening.expected_best([1, 2, 3], 3) == 3 and screening.expected_best([1, 2, 3], 1) == pytest.approx(2)
    assert screening.expected_best([1, 2, 3], 2) == pytest.approx((2 + 3 + 3) / 3)
    base = {"fact_f1": 0.7, "hallucination_rate": 0.2, "closed_accuracy": 0.9}
    good, false, deaf = ({"fact_f1": f, "hallucination_rate": h, "closed_accuracy": c}
                         for f, h, c in ((0.75, 0.1, 0.9), (0.9, 0.3, 0.9), (0.8, 0.1, 0.8)))
    assert rank([false, deaf, good], base) == 2
    assert rank([false, deaf], base) == 0, "where nothing is allowed, the highest F1"
    assert rank([{"fact_f1": None}, good], base) == 1
    with pytest.raises(ValueError, match="diverged"):
        rank([{"fact_f1": None}], base)


def test_recommended_is_the_simplest_of_those_within_what_matters_of_the_best():
    gaps = {"tdpo2": [0, 0, 0.005, 0.017], "best": [0.009] * 4, "rrpo": [0.002, 0, 0.009, 0],
            "mask-dpo": [0.008, 0, 0, 0], "dpo": [0.05, 0, 0, 0]}
    chosen = {"best": Setting("grounded"), **{name: Setting(name) for name in ("tdpo2", "rrpo", "mask-dpo", "dpo")}}
    assert [choice.terms(chosen[name]) for name in gaps] == [2, 5, 2, 1, 1]
    assert choice.near(gaps, chosen) == ["mask-dpo", "rrpo", "best"]
    good, bad = {"f1": 0.9}, {"f1": 0.6}
    found = results_of({BASE: {"f1": 0.99}, "dpo": bad, "tdpo2": good, "grounded": bad})
    behind = choice.behind(found)
    assert behind["tdpo2"] == [0] * 4 and min(behind["dpo"]) > 0.2 and BASE not in behind
    assert choice.behind(found, [1])["dpo"] != behind["dpo"]
    assert {e.verdict for e in choice.beaten_by(found, "tdpo2")} == {"supported"}
    assert choice.near(choice.behind({BASE: {}}), {}) == []


def test_at_equal_recall_an_arm_keeps_its_precision():
    def told(recall, precision, false):
        names = {"fact_recall": recall, "fact_precision": precision, "hallucination_rate": false}
        return {"test": {name: {"value": value} for name, value in names.items()}}

    arms = {"says much": told(0.8, 0.5, 0.3), "says little": told(0.5, 0.5, 0.2), "worse": told(0.5, 0.4, 0.25)}
    assert choice.thinned_f1(arms, "says much", "test", 0.5) == pytest.approx(0.5)
    assert choice.thinned_f1(arms, "says little", "test", 0.8) is None
    assert choice.frontier(arms, "test") == ["says little", "says much"]


def fill(bench, jobs, figures=lambda setting: FLAT):
    for job in jobs:
        facts = store.facts_of(bench, job.setting, job.number, job.kind)
        told = {"val": figures(job.setting)} if job.kind == SCREENING else {"counts": {}}
        store.write(bench, facts, {"kind": job.kind, "arm": job.arm, "number": job.number, **told})


def test_the_plan_leaves_the_most_that_can_be_said(bench):
    def left():
        return runs.plan(store.Store(bench))

    first = left()
    assert first[0].arm == BASE and {job.kind for job in first} == {SCREENING} and len(set(first)) == len(first)
    assert {job.arm for job in first[:60]} >= {"factors", "rrpo", "simpo", "mirror"}, "side by side"
    fill(bench, first)
    while (jobs := left()) and jobs[0].kind == SCREENING:  # those beyond an edge
        fill(bench, jobs)
    assert {job.kind for job in jobs} == {CONFIRMATION} and {job.number for job in jobs} == {0, *FULL.numbers}
    assert len({(job.setting, job.number) for job in jobs}) == len(jobs), "the same setting runs once"
    order = list(dict.fromkeys(job.arm for job in jobs))
    core = {*CORE, *CONTROLS}
    assert order[0] == BASE and set(order[1 : 1 + len(core)]) == core, "what one claim needs stands together"
    assert set(order[1 + len(core) :][:3]) == {"mirror", "mask-dpo", "unmirrored"}
    seeds = [job.number for job in jobs if job.arm in core]
    assert seeds == sorted(seeds) and "mmedpo" in order and order[-1] == "half-mirror"
    small = runs.plan(store.Store(replace(bench, sizes=SMALL, seed=8)))
    assert {job.arm for job in small} == {BASE, *SMALL.arms} and {job.kind for job in small} == {CONFIRMATION}
    assert {job.setting for job in small if job.arm == "dpo"} == {lineup.method_setting("dpo", (0.5, 0.5))}


def measured(one):
    """Whether every contrast of the claim was measured."""
    return all(estimate.value is not None for estimate in one.estimates)


def test_verdicts_are_those_of_the_truth():
    found = results_of({BASE: {}, "dpo": {"f1": 0.85}, "dpo-reference": {"f1": 0.7}, "weights=span": {"f1": 0.75},
                        "weights=all": {"f1": 0.85}, "fire-mpo": {"f1": 0.6, "selectivity": 2.0},
                        "whole-noise": {"selectivity": 1.0}})
    judged = {one.claim.id: one for one in verdicts.judge(found, seeds=5)}
    assert judged["1"].verdict == "supported" and judged["1"].estimates[0].value == pytest.approx(0.15, abs=0.03)
    assert judged["2"].verdict == "refuted"
    assert judged["5"].verdict == "supported" and judged["5"].estimates[0].value == pytest.approx(0.136, abs=0.04)
    assert judged["8"].verdict == "not asked yet" and not measured(judged["8"])
    assert judged["6"].verdict == "refuted", "it does not beat dpo, whatever the others do"
    hard = judged["1"].estimates[0]
    assert hard.low < hard.value < hard.high and hard.p <= judged["1"].p_holm < 0.05 and 0 < hard.seen < 0.15


def estimate(metric=F1, **values):
    return verdicts.Estimate(Contrast(metric, (("dpo", 1.0), ("rrpo", -1.0))), (1, 2), low=0, high=0, **values)


@pytest.mark.parametrize(("estimates", "verdict"), [
    ([{"value": 0.1, "p": 0.001, "p_same": 1.0}, {"value": 0.1, "p": 0.04, "p_same": 1.0}], "supported"),
    ([{"value": 0.1, "p": 0.001, "p_same": 1.0}, {"value": 0.1, "p": 0.06, "p_same": 1.0}], "inconclusive"),
    ([{"value": 0.1, "p": 0.001, "p_same": 1.0}, {"value": -0.1, "p": 0.02, "p_same": 1.0}], "refuted"),
    ([{"value": 0.1, "p": 0.001, "p_same": 1.0}, {"value": -0.1, "p": 0.04, "p_same": 1.0}], "inconclusive"),  # x 2
    ([{"value": 0.003, "p": 0.9, "p_same": 0.01}, {"value": 0, "p": 1, "p_same": 0.04}], "no effect larger than 0.01"),
    ([{"value": 0.003, "p": 0.9, "p_same": 0.01}, {"value": 0.0, "p": 0.9, "p_same": 0.06}], "inconclusive"),
    ([{"value": 0.003, "p": 0.001, "p_same": 0.01}], "no effect larger than 0.01"),  # shown, and too small to matter
    ([{"value": -0.1, "p": 0.001, "p_same": 1.0}, {}], "refuted"), ([{"value": 0.1, "p": 0.001}, {}], "under way"),
])  # fmt: skip
def test_a_claim_of_several_contrasts_is_an_intersection_of_tests(estimates, verdict):
    several = tuple(estimate(**values) for values in estimates)
    one = verdicts.Judged(hypotheses.Claim("x", "", tuple(e.contrast for e in several)), several)
    assert replace(one, p_holm=one.differs[0], p_same=one.same).verdict == verdict


def test_no_difference_is_no_verdict_and_too_few_seeds_are_no_test():
    same = {BASE: {}, "dpo": {}, "dpo-reference": {}}
    judged = {one.claim.id: one for one in verdicts.judge(results_of(same), seeds=5)}
    assert judged["1"].verdict == "inconclusive" and measured(judged["1"])
    better = {"dpo": {"f1": 0.95}, "dpo-reference": {"f1": 0.5}}
    for has in (1, 4):
        few = {one.claim.id: one for one in verdicts.judge(results_of(better, seeds=has), seeds=5)}["1"]
        assert few.verdict == "under way" and few.estimates[0].p is None and few.estimates[0].value > 0.3
    found = results_of({BASE: {}, "kl=none": {}, "kl=outside": {}})
    found["kl=edited"] = found["kl=none"]
    judged = {one.claim.id: one for one in verdicts.judge(found, seeds=5)}
    assert judged["3a"].verdict == "no effect larger than 0.01" and judged["3b"].verdict == "inconclusive"


def test_a_contrast_takes_the_seeds_of_all_its_arms_and_is_the_mean_of_its_splits():
    found = results_of({BASE: {}, "dpo": {}, "dpo-reference": {}})
    del found["dpo"][4]
    assert verdicts.measure(against("dpo", "dpo-reference"), found).seeds == (1, 2, 3, 5)
    assert verdicts.measure(against("dpo", BASE), found).seeds == (1, 2, 3, 5)
    assert verdicts.measure(against("dpo", "rrpo"), found).value is None
    found = results_of({"dpo": {}, "mask-dpo": {}}, seeds=2)
    by_hand = []
    for seed in (1, 2):
        for split in SPLITS:
            rates = [store.unpack(found[arm][seed]["counts"][split]).sum(0)[[COLUMNS.index(c) for c in
                     RATIOS["closed_accuracy"]]] for arm in ("dpo", "mask-dpo")]
            by_hand.append(rates[0][0] / rates[0][1] - rates[1][0] / rates[1][1])
    got = verdicts.measure(Contrast("closed_accuracy", (("dpo", 1.0), ("mask-dpo", -1.0))), found)
    assert got.value == pytest.approx(np.mean(by_hand), abs=1e-6)


@pytest.mark.parametrize("arms", [{}, {BASE: {}}, {BASE: {}, "dpo": {"f1": 0.9}, "dpo-reference": {}}])
def test_the_page_is_true_of_any_subset(bench, arms):
    results = results_of(arms, seeds=2)
    judged, trials = verdicts.judge(results, seeds=2), trials_of(lambda levels: 0.0) if arms else []
    chosen = {arm: Setting("dpo", pairs="reference" if "-" in arm else "edits") for arm in arms if arm != BASE}
    trials += [Trial(setting, 1, name=arm, figures=FLAT) for arm, setting in chosen.items()]
    told = verdicts.claims_json(chosen, results, judged, None)
    json.dumps(told, allow_nan=False)
    assert set(told) == {"arms", "claims", "recommended"} and list(told["arms"]) == list(arms)
    assert all(set(claim) == {"id", "statement", "metric", "estimate", "low", "high", "matters", "p_holm", "p_same",
                              "verdict"} for claim in told["claims"])
    made = {"day": "2026-01-01", "machine": "a machine", "code": "0", "versions": dict.fromkeys(
        ("torch", "transformers", "peft"), "1")}
    found = page.Findings(bench, trials, FLAT if arms else None, chosen, results, judged,
                          [{"made": made, "seconds": [60, 60]}] * len(arms))
    figures = page.draw_figures(bench.keep, found, told)
    path = bench.keep.parent / "RESULTS.md"
    page.write_page(path, found, told, figures, command="make claims")
    text = path.read_text()
    assert text.count("not asked yet") == sum(not measured(one) for one in judged) > 0
    assert all((path.parent / place).is_file() for place in ("kept/forest.png",) if "forest" in text)
    assert ("4 runs of 2 arms" in text) == ("dpo" in arms) and ("explains alone" in text) == bool(arms)
    assert str(bench.keep) not in text


def test_arguments_are_checked():
    assert command.bench_of(command.parse(["SMALL=1", "SEED=3"])).sizes == SMALL
    assert command.bench_of(command.parse([])).committed
    assert not any(command.bench_of(command.parse([one])).committed for one in ("SEED=3", "SMALL=1"))
    for wrong in ("SMAL=1", "SMALL=2", "SEED=x", "PRESET=ci"):
        with pytest.raises(ValueError, match="SMALL|SEED|PRESET= go with CASES="):
            command.parse([wrong])
    assert command.main(["PRESET=ci"]) == 2  # told on stderr, without a traceback


def test_a_very_small_laboratory_runs_to_its_end_and_is_resumed(tmp_path, monkeypatch):
    sizes = replace(SMALL, pool=14, val=3, val_margins=2, test=5, shifted=4, margins=3, drift=2, seeds=1, pairs=8,
                    arms=("dpo", "whole-noise"))
    bench = store.Bench(str(ROOT / EMBEDDED), sizes, 7, tmp_path / "out", tmp_path / "kept")
    whole = replace(Setting("fire-mpo"), evidence="whole")
    monkeypatch.setattr(runs, "arms", lambda kept: {"dpo": DPO, "whole-noise": whole})
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    said = []
    runs.do_all(bench, report=lambda kept: said.append("report"), say=said.append)
    assert said[-1] == "claims: nothing left to run" and said.count("report") == 1
    kept = store.Store(bench)
    base, trained = runs.confirmed(kept, None, 0), runs.confirmed(kept, whole, 11)
    for split, images in (("test", 5), ("shifted", 4)):
        first, second = (store.unpack(run["counts"][split]) for run in (base, trained))
        assert first.shape == second.shape == (images, len(COLUMNS))
        same = ["facts", "closed", "selectivity_n", "kl_tokens", "edit_answers", "asked_about", "right_falls"]
        assert (first[:, [COLUMNS.index(c) for c in same]] == second[:, [COLUMNS.index(c) for c in same]]).all()
        assert first[:, COLUMNS.index("facts")].sum() and not first[:, COLUMNS.index("kl")].any()
    assert not any((bench.cache / "work").iterdir())
    (bench.out / "runs" / f"{trained['name']}.json").unlink()
    assert [job.arm for job in runs.plan(store.Store(bench))] == ["whole-noise"]
    runs.do_all(bench, report=lambda kept: None, say=said.append)
    again = runs.confirmed(store.Store(bench), whole, 11)
    assert again["counts"] == trained["counts"], "the same again, to the last bit kept"
    runs.Exam(bench, SCREENING).prepare(say=said.append)
    runs.do(runs.Job(bench, SCREENING, "dpo", DPO, 11))
    row = store.Store(bench).get(store.facts_of(bench, DPO, 11, SCREENING))
    assert set(row["val"]) == set(screening.WATCHED) and row["val"]["fact_f1"] > 0
    runs.desk_of.cache_clear()
