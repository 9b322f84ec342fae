"""The laboratory: a sound line-up, results that are found again and never mixed up, verdicts known beforehand."""

import json
from dataclasses import replace

import numpy as np
import pytest

from medalign_lite.dials import EMBEDDED
from medalign_lite.evaluate.metrics import COLUMNS, RATIOS, ratios
from medalign_lite.files import ROOT
from medalign_lite.train.pairs import Pair
from studies.claims import __main__ as command
from studies.claims import choice, hypotheses, page, recall, runs, search, store, verdicts
from studies.claims.hypotheses import F1, Contrast, against
from studies.claims.lineup import ARMS, BASE, BATCH, CONFIRMED, EPOCHS, PAIRS, Arm, train_settings
from studies.claims.pool import FULL, POOL_SEEDS, SMALL, Pool

IMAGES = 300
SPLITS = ("test", "shifted")


@pytest.fixture
def bench(tmp_path):
    return store.Bench(str(ROOT / EMBEDDED), FULL, 7, tmp_path / "out", tmp_path / "kept")


def test_the_committed_runs_are_found_by_what_the_world_makes(tmp_path):
    bench = command.bench_of(command.parse([f"OUT={tmp_path}"]))
    found = sum(len(runs) for runs in verdicts.collect(bench).values())
    listed = sum(len(runs) for runs in store.read_index(bench.keep).values())
    assert found == listed > 0
    table = store.unpack(verdicts.collect(bench)[BASE][0]["counts"]["test"])  # packed before there were LATER ones
    later = table[:, [COLUMNS.index(name) for name in store.LATER]]
    assert table[:, COLUMNS.index("evidence_lower")].sum() > 0 == later.sum()


@pytest.mark.parametrize("name", ["1b", "3a", "5c"])
def test_the_committed_page_says_what_the_raw_files_do(name):
    results = store.read_index(ROOT / "docs/claims")
    told = next(c for c in json.loads((ROOT / "docs/claims/claims.json").read_text())["claims"] if c["id"] == name)
    [contrast] = next(claim.contrasts for claim in hypotheses.CLAIMS if claim.id == name)
    raw = [weight * ratios(store.unpack(run["counts"][split]).sum(axis=0), [contrast.metric])[contrast.metric]
           for arm, weight in contrast.weights for run in results[arm].values() for split in SPLITS]
    assert sum(raw) / len(SPLITS) / 5 == pytest.approx(told["estimate"], abs=1e-6)


def counts(rng, *, f1=0.8, selectivity=1.0, closed=0.9):
    """(images, COLUMNS) of an arm that is about so good."""
    table = np.zeros((IMAGES, len(COLUMNS)))

    def put(name, values):
        table[:, COLUMNS.index(name)] = values

    facts = rng.integers(1, 4, IMAGES)
    right = rng.binomial(facts, f1)
    for name in ("claims", "facts"):
        put(name, facts)
    for name in ("claims_right", "facts_found"):
        put(name, right)
    put("claims_hallucinated", facts - right)
    put("closed", 1)
    put("closed_right", rng.random(IMAGES) < closed)
    put("selectivity_n", 1)
    put("selectivity", rng.normal(selectivity, 1.0, IMAGES).round(2))
    put("evidence_lower", (1 + np.sign(table[:, COLUMNS.index("selectivity")])) / 2)
    for name in ("asked_about", "right_falls"):
        put(name, rng.integers(0, 2, IMAGES))
    put("right_fall", 0.25 * table[:, COLUMNS.index("right_falls")])
    return table


def results_of(arms, *, seeds=5, **common):
    """{arm: {seed: result}} for arms of known quality; the base once."""
    made = {"day": "2026-01-01", "machine": "a machine", "code": "0", "versions": {
        "torch": "1", "transformers": "1", "peft": "1"}}
    found = {name: {} for name in ARMS}
    for n, (arm, quality) in enumerate(arms.items()):
        for seed in [0] if arm == BASE else range(1, seeds + 1):
            tables = {split: counts(np.random.default_rng([n, seed, k]), **common | quality)
                      for k, split in enumerate(SPLITS)}
            found[arm][seed] = {"facts": {"arm": arm, "seed": seed}, "made": made,
                                "counts": {s: store.pack(t) for s, t in tables.items()},
                                "seconds": {"train": 60, "exam": 60}, "curves": {"margin": [0.0, 0.5, 1.0]}}
    return found


def test_every_arm_is_a_valid_setting_at_every_point_of_its_search():
    assert {arm for claim in hypotheses.CLAIMS for arm in hypotheses.arms_of(claim)} <= set(ARMS)
    for arm in ARMS.values():
        assert arm.like is None or (ARMS[arm.like].like is None and ARMS[arm.like].tier <= arm.tier)
        if arm.name == BASE:
            continue
        source = ARMS[arm.like or arm.name]
        points = [*source.points(), *source.further(source.points()[0])]
        assert len({json.dumps(point) for point in points}) == len(points)
        for point in points:
            settings = train_settings(arm, point, seed=1)
            assert (settings.epochs, settings.batch_size) == (EPOCHS, BATCH), "every arm takes the same steps"
            assert settings.resolved_recipe()


def test_controls_differ_from_the_full_method_in_one_thing():
    full = train_settings(ARMS["fire-mpo"], ARMS["fire-mpo"].points()[0], seed=1)
    point = ARMS["fire-mpo"].points()[0]
    for name in ("same-image", "whole-noise", "control-as-lesion"):
        assert train_settings(ARMS[name], point, seed=1) == full
        assert ARMS[name].evidence != ARMS["fire-mpo"].evidence
    cdpo = train_settings(ARMS["cdpo"], point, seed=1).resolved_recipe()
    assert cdpo == replace(full.resolved_recipe(), gamma=0.0, smoothing=1 / 11)
    cells = {name: train_settings(ARMS[name], point, seed=1).resolved_recipe() for name in (
        "span", "span-forward", "span-reverse", "span-both", "flip", "flip-forward", "flip-reverse", "fire-mpo")}
    seen = {(r.gamma, r.alpha, r.lam if r.alpha else None) for r in cells.values()}
    assert len(seen) == 8, "two weights of the flip by four kinds of KL"


def pair(name, **changes):
    return Pair(name, "q", "No effusion.", "Effusion.", ((0, 11, "negation"),), ((0, 8, "negation"),), "clean.png",
                lesion="lesion.png", control="control.png", gold="The pleural spaces are clear.", **changes)


def test_a_pool_gives_every_arm_as_many_pairs_and_its_own_images():
    pairs = tuple(pair(str(n), rejected_ids=(n,)) for n in range(12))
    pool = Pool((), pairs, frozenset(str(n) for n in range(8)), seed=1, count=4)
    drawn = {arm: pool.draw(ARMS[arm]) for arm in (
        "dpo", "dpo-reference", "dpo-counterfactual", "same-image", "control-as-lesion")}
    assert {len(some) for some in drawn.values()} == {4}
    assert [p.id for p in drawn["dpo"]] == [p.id for p in drawn["dpo-reference"]] == [p.id for p in drawn["same-image"]]
    assert {p.id for p in drawn["dpo"]} <= pool.corrected
    assert not {p.id for p in drawn["dpo-counterfactual"]} & pool.corrected
    assert {p.chosen for p in drawn["dpo-reference"]} == {"The pleural spaces are clear."}
    assert {p.rejected for p in drawn["dpo-reference"]} == {"Effusion."}
    assert {(p.lesion, p.control) for p in drawn["same-image"]} == {("clean.png", "control.png")}
    assert {(p.lesion, p.control) for p in drawn["control-as-lesion"]} == {("control.png", None)}
    none = Pool((), (replace(pairs[0], lesion=None, control=None),), pool.corrected, seed=1, count=1)
    assert none.draw(ARMS["whole-noise"])[0].lesion is None, "a missing image never becomes a whole-image haze"


def test_counts_survive_packing():
    table = counts(np.random.default_rng(0))
    assert store.unpack(store.pack(table)) == pytest.approx(table, abs=0.5 / store.UNIT)
    assert len(store.pack(counts(np.random.default_rng(0)))) < 3000


def test_a_result_is_found_by_all_that_it_depends_on(bench):
    arm, point = ARMS["dpo"], ARMS["dpo"].points()[0]
    facts = store.run_facts(bench, arm, point, 1)
    store.write(bench, "runs", facts, {"arm": "dpo"})
    assert store.read(bench, "runs", facts)["arm"] == "dpo"
    others = [store.run_facts(bench, arm, point, 2), store.run_facts(bench, arm, arm.points()[1], 1),
              store.run_facts(bench, ARMS["mask-dpo"], point, 1),
              store.run_facts(replace(bench, seed=8), arm, point, 1),
              store.run_facts(bench, ARMS["dpo-reference"], point, 1),
              store.run_facts(replace(bench, sizes=replace(FULL, test=10)), arm, point, 1)]
    assert [store.read(bench, "runs", other) for other in others] == [None] * len(others)
    elsewhere = replace(bench, out=bench.out / "new")
    assert store.read(elsewhere, "runs", facts)["arm"] == "dpo", "what is committed is found again"
    path = store.path_of(elsewhere, "runs", facts)
    path.write_text(path.read_text().replace('"number": 1', '"number": 2'))
    with pytest.raises(ValueError, match="delete it"):
        store.read(elsewhere, "runs", facts)


def test_a_confirmation_asks_other_people_by_other_seeds_and_finds_no_old_run(bench):
    fresh = command.bench_of(command.parse(["CONFIRM=1"]))
    assert fresh.committed and not set(fresh.numbers) & set(bench.numbers) and len(fresh.numbers) == 10
    pools = {bench.seed * POOL_SEEDS + number for number in [0, *bench.numbers, *fresh.numbers]}
    assert fresh.people not in pools | {bench.people}
    facts = [store.run_facts(one, ARMS[BASE], {}, 0) for one in (bench, fresh)]
    assert facts[1] == {**facts[0], "asked": facts[0]["asked"] | {"people": fresh.people}}
    left = [job for block in runs.plan(replace(fresh, out=bench.out)) for job in block]
    assert {job.kind for job in left} == {"runs"}, "settings are those of the committed search"
    assert {job.arm for job in left} == set(CONFIRMED) and len(left) == 1 + 10 * (len(CONFIRMED) - 1)


def test_the_same_settings_under_two_names_are_one_run(bench):
    plain = {"learning_rate": 1e-4, "beta": 0.5}
    assert store.run_facts(bench, ARMS["mask-dpo"], plain, 1) == store.run_facts(
        bench, Arm("copy", "", "mask-dpo"), plain, 1)


def test_the_criterion_is_f1_among_what_is_allowed():
    base = {"fact_f1": 0.7, "hallucination_rate": 0.2, "closed_accuracy": 0.9}
    good, false, deaf = ({"fact_f1": f, "hallucination_rate": h, "closed_accuracy": c}
                         for f, h, c in ((0.75, 0.1, 0.9), (0.9, 0.3, 0.9), (0.8, 0.1, 0.8)))
    assert search.rank([false, deaf, good], base) == 2
    assert search.rank([false, deaf], base) == 0, "where nothing is allowed, the highest F1"
    assert search.rank([{"fact_f1": None}, good], base) == 1
    with pytest.raises(ValueError, match="diverged"):
        search.rank([{"fact_f1": None}], base)


def fill_search(bench, figures):
    base = {name: 0.7 for name in search.WATCHED}
    store.write(bench, "search", store.search_facts(bench, ARMS[BASE], {}, 0), {"val": base})
    for arm in ARMS.values():
        while points := search.missing_points(bench, arm):
            for point in points:
                facts = store.search_facts(bench, arm, point, 0)
                store.write(bench, "search", facts, {"val": base | {"fact_f1": figures(point)}})


def test_the_search_tries_the_grid_then_the_own_weight_at_its_best(bench):
    arm = ARMS["fire-mpo"]
    assert search.missing_points(bench, arm) == arm.points()
    assert search.chosen(bench, arm) is None and runs.result(bench, ARMS["cdpo"], 1) is None
    fill_search(bench, lambda point: 0.7 + point["learning_rate"] * 100 + point.get("alpha", 0) + 0.1 * (
        point.get("beta") == 0.1))
    assert search.chosen(bench, arm) == {"learning_rate": 3e-4, "beta": 0.1, "alpha": 0.1}
    assert search.chosen(bench, ARMS["whole-noise"]) == search.chosen(bench, arm)
    assert len(search.tried(bench, arm)) == 5
    small = replace(bench, sizes=SMALL)
    assert search.chosen(small, arm) == search.chosen(bench, arm), "the small run takes what the full search chose"


def test_recommended_is_the_simplest_of_those_within_what_matters_of_the_best(monkeypatch):
    gaps = {"tdpo2": [0, 0, 0.005, 0.017], "neutral-nll": [0.009] * 4, "flip-outside": [0.002, 0, 0.009, 0],
            "neutral": [0.008, 0, 0, 0], "dpo": [0.05, 0, 0, 0]}
    assert [choice.terms(name) for name in gaps] == [2, 5, 3, 3, 1] and choice.terms("two-rounds") == 5
    assert choice.near(gaps) == ["flip-outside", "neutral", "neutral-nll"]
    good, bad = {"f1": 0.9}, {"f1": 0.6}
    found = results_of({BASE: {"f1": 0.99}, "dpo": bad, "tdpo2": good, "grounded": bad})
    behind = choice.behind(found)
    assert behind["tdpo2"] == [0] * 4 and min(behind["dpo"]) > 0.2 and BASE not in behind
    assert choice.behind(found, [1])["dpo"] != behind["dpo"]
    assert {e.verdict for e in choice.beaten_by(found, "tdpo2")} == {"supported"}
    assert choice.near(choice.behind({BASE: {}})) == []


def test_at_equal_recall_an_arm_keeps_its_precision():
    def told(recall, precision, false):
        names = {"fact_recall": recall, "fact_precision": precision, "hallucination_rate": false}
        return {"test": {name: {"value": value} for name, value in names.items()}}

    arms = {"says much": told(0.8, 0.5, 0.3), "says little": told(0.5, 0.5, 0.2), "worse": told(0.5, 0.4, 0.25)}
    assert recall.thinned_f1(arms, "says much", "test", 0.5) == pytest.approx(0.5)
    assert recall.thinned_f1(arms, "says little", "test", 0.8) is None
    assert recall.frontier(arms, "test") == ["says little", "says much"]


def test_the_plan_leaves_the_most_that_can_be_said(bench):
    blocks = runs.plan(bench)
    assert {job.kind for job in blocks[0]} == {"search"} and blocks[0][0].arm == BASE
    assert len(blocks[0]) == 1 + sum(len(ARMS[name].points()) for name in {job.arm for job in blocks[0]} - {BASE})
    assert [job.number for job in blocks[1]] == sorted(job.number for job in blocks[1]), "seed by seed"
    assert {job.number for job in blocks[1]} == {0, 1, 2, 3} and blocks[2][0].kind == "search"
    core = {job.arm for job in blocks[1]}
    wanted = {arm for claim in hypotheses.CLAIMS if claim.id in ("1", "2", "4", "5")
              for arm in hypotheses.arms_of(claim)}
    assert wanted <= core
    jobs = [(job.kind, job.arm, job.number, str(job.point)) for block in blocks for job in block]
    assert len(set(jobs)) == len(jobs)
    assert sum(job[0] == "runs" for job in jobs) == 1 + 5 * (len(ARMS) - 1)
    fill_search(bench, lambda point: 0.7)
    facts = store.run_facts(bench, ARMS["dpo"], search.chosen(bench, ARMS["dpo"]), 1)
    store.write(bench, "runs", facts, {"arm": "dpo", "counts": {}})
    left = [(job.kind, job.arm, job.number) for block in runs.plan(bench) for job in block]
    assert ("runs", "dpo", 1) not in left and sum(job[0] == "runs" for job in left) == 5 * (len(ARMS) - 1)


def measured(one):
    """Whether every contrast of the claim was measured."""
    return all(estimate.value is not None for estimate in one.estimates)


def test_verdicts_are_those_of_the_truth():
    found = results_of({BASE: {}, "dpo": {"f1": 0.85}, "dpo-reference": {"f1": 0.7}, "mask-dpo": {"f1": 0.75},
                        "fire-mpo": {"f1": 0.6, "selectivity": 2.0}, "whole-noise": {"selectivity": 1.0}})
    judged = {one.claim.id: one for one in verdicts.judge(found)}
    assert judged["1"].verdict == "supported" and judged["1"].estimates[0].value == pytest.approx(0.15, abs=0.03)
    assert judged["2"].verdict == "refuted"
    assert judged["5"].verdict == "supported" and judged["5"].estimates[0].value == pytest.approx(0.136, abs=0.04)
    assert judged["8"].verdict == "inconclusive" and not measured(judged["8"])
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
    ([{"value": -0.1, "p": 0.001, "p_same": 1.0}, {}], "refuted"), ([{"value": 0.1, "p": 0.001}, {}], "inconclusive"),
])  # fmt: skip
def test_a_claim_of_several_contrasts_is_an_intersection_of_tests(estimates, verdict):
    several = tuple(estimate(**values) for values in estimates)
    one = verdicts.Judged(hypotheses.Claim("x", "", tuple(e.contrast for e in several)), several)
    assert replace(one, p_holm=one.differs[0], p_same=one.same).verdict == verdict


def test_one_image_and_seed_alike_is_no_effect_and_a_small_one_is_told_from_none():
    same = {BASE: {}, "span": {}, "flip": {}, "span-forward": {}, "flip-forward": {}}
    found = results_of(same)
    for name in ("span-forward", "flip-forward"):
        found[name] = found[name.split("-")[0]]
    judged = {one.claim.id: one for one in verdicts.judge(found)}
    assert judged["3a"].verdict == "no effect larger than 0.01" and judged["3b"].verdict == "inconclusive"


def test_no_difference_is_no_verdict_and_one_seed_is_no_test():
    same = {BASE: {}, "dpo": {}, "dpo-reference": {}}
    judged = {one.claim.id: one for one in verdicts.judge(results_of(same))}
    assert judged["1"].verdict == "inconclusive" and measured(judged["1"])
    better = {"dpo": {"f1": 0.95}, "dpo-reference": {"f1": 0.5}}
    alone = {one.claim.id: one for one in verdicts.judge(results_of(better, seeds=1))}["1"]
    assert alone.verdict == "inconclusive" and alone.estimates[0].p is None and alone.estimates[0].value > 0.3


def test_a_contrast_takes_the_seeds_that_all_its_arms_have():
    found = results_of({BASE: {}, "dpo": {}, "dpo-reference": {}})
    del found["dpo"][4]
    assert verdicts.measure(against("dpo", "dpo-reference"), found).seeds == (1, 2, 3, 5)
    assert verdicts.measure(against("dpo", BASE), found).seeds == (1, 2, 3, 5)
    assert verdicts.measure(against("dpo", "rrpo"), found).value is None


def test_a_contrast_is_the_mean_of_its_splits_by_hand():
    found = results_of({"dpo": {}, "mask-dpo": {}}, seeds=2)
    by_hand = []
    for seed in (1, 2):
        for split in SPLITS:
            rates = [store.unpack(found[arm][seed]["counts"][split]).sum(0)[[COLUMNS.index(c) for c in
                     RATIOS["closed_accuracy"]]] for arm in ("dpo", "mask-dpo")]
            by_hand.append(rates[0][0] / rates[0][1] - rates[1][0] / rates[1][1])
    got = verdicts.measure(Contrast("closed_accuracy", (("dpo", 1.0), ("mask-dpo", -1.0))), found)
    assert got.value == pytest.approx(np.mean(by_hand), abs=1e-6)


def test_the_goal_is_reached_only_by_a_winner_on_both_splits():
    rivals = {rival: {"f1": 0.6, "selectivity": 0.0} for rival in hypotheses.RIVALS}
    ours = {"two-rounds": {"f1": 0.9, "closed": 0.97}}
    won, closed = verdicts.judge_goal(results_of({BASE: {}, **rivals, **ours}), "two-rounds")
    assert len(won) == 36 and verdicts.wins(won, closed)
    rivals["sft-edits"] = {"f1": 0.95, "selectivity": 0.0}
    won, closed = verdicts.judge_goal(results_of({BASE: {}, **rivals, **ours}), "two-rounds")
    assert not verdicts.wins(won, closed)
    deaf = results_of({BASE: {}, **dict.fromkeys(hypotheses.RIVALS, {"f1": 0.6, "selectivity": 0.0}),
                       "two-rounds": {"f1": 0.9, "closed": 0.6, "selectivity": 1.0}})
    assert not verdicts.wins(*verdicts.judge_goal(deaf, "two-rounds"))


@pytest.mark.parametrize("arms", [{}, {BASE: {}}, {BASE: {}, "dpo": {"f1": 0.9}, "dpo-reference": {}}])
def test_the_page_is_true_of_any_subset(bench, arms):
    found = results_of(arms, seeds=2)
    judged = verdicts.judge(found)
    if arms:
        fill_search(bench, lambda point: 0.7)
    told, goal = verdicts.claims_json(bench, found, judged, None), verdicts.judge_goal(found, page.DEFAULT)
    json.dumps(told, allow_nan=False)
    assert set(told) == {"arms", "claims", "recommended"} and list(told["arms"]) == list(arms)
    assert all(set(claim) == {"id", "statement", "estimate", "low", "high", "matters", "p_holm", "p_same",
                                 "verdict"}
               for claim in told["claims"])
    figures = page.draw_figures(bench.keep, told, found)
    path = bench.keep.parent / "RESULTS.md"
    page.write_page(path, bench=bench, results=found, found=told, judged=judged, goal=goal, others={}, figures=figures,
                    command="make claims")
    text = path.read_text()
    assert text.count("not measured yet") == sum(not measured(one) for one in judged) > 0
    assert all((path.parent / place).is_file() for place in ("kept/forest.png",) if "forest" in text)
    assert ("2 seeds" in text) == ("dpo" in arms)
    assert str(bench.keep) not in text


def test_arguments_are_checked():
    assert command.bench_of(command.parse(["SMALL=1", "SEED=3"])).sizes == SMALL
    assert command.bench_of(command.parse([])).committed
    assert not any(command.bench_of(command.parse([one])).committed for one in ("SEED=3", "SMALL=1"))
    for wrong in ("SMAL=1", "SMALL=2", "SEED=x", "PRESET=ci"):
        with pytest.raises(ValueError, match="SMALL|SEED"):
            command.parse([wrong])
    assert command.main(["PRESET=ci"]) == 2  # told on stderr, without a traceback


def test_the_budget_is_there_for_every_size():
    assert FULL.pairs == PAIRS and min(FULL.test, FULL.shifted) >= 1000 and FULL.seeds == 5


def test_a_very_small_laboratory_runs_to_its_end_and_is_resumed(tmp_path, monkeypatch):
    sizes = replace(SMALL, pool=14, val=3, test=5, shifted=4, margins=3, drift=2, seeds=1, pairs=8)
    bench = store.Bench(str(ROOT / EMBEDDED), sizes, 7, tmp_path / "out", tmp_path / "kept", fresh=True)
    monkeypatch.setattr(runs, "ARMS", {name: ARMS[name] for name in (BASE, "whole-noise")})
    monkeypatch.setattr(runs, "CONFIRMED", (BASE, "whole-noise"))
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    said = []
    runs.do_all(bench, report=lambda: said.append("report"), say=said.append)
    assert said[-1] == "claims: nothing left to run" and said.count("report") == 1
    base, trained = runs.result(bench, ARMS[BASE], 0), runs.result(bench, ARMS["whole-noise"], 11)
    for split, images in (("test", 5), ("shifted", 4)):
        first, second = (store.unpack(run["counts"][split]) for run in (base, trained))
        assert first.shape == second.shape == (images, len(COLUMNS))
        same = ["facts", "closed", "selectivity_n", "kl_tokens", "edit_answers", "asked_about", "right_falls"]
        assert (first[:, [COLUMNS.index(c) for c in same]] == second[:, [COLUMNS.index(c) for c in same]]).all()
        assert first[:, COLUMNS.index("facts")].sum() and not first[:, COLUMNS.index("kl")].any()
    assert len(trained["curves"]["margin"]) == 2 and trained["curves"]["margin"][0] == 0
    assert not (bench.cache / "work" / "whole-noise-1").exists()
    written = store.path_of(bench, "runs", trained["facts"])
    counts_before = trained["counts"]
    written.unlink()
    assert [job.arm for block in runs.plan(bench) for job in block] == ["whole-noise"]
    runs.do_all(bench, report=lambda: None, say=said.append)
    again = runs.result(bench, ARMS["whole-noise"], 11)
    assert again["counts"] == counts_before, "the same again, to the last bit kept"
    runs._desk.cache_clear()
