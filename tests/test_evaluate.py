"""Measuring arms: every arm and condition, the same rows after a kill, margins and drift that say what they must."""

import json
from dataclasses import asdict, replace

import pytest
from conftest import stirred
from test_probes import cases  # noqa: F401 - a fixture

from medalign_lite.cases.rollouts import Rollout
from medalign_lite.dials import PRESETS
from medalign_lite.evaluate import ask as evaluate
from medalign_lite.evaluate.ask import Arm, drift_probes, margins_of, measure, predictions_of, tokens_of
from medalign_lite.evaluate.probes import real_probes
from medalign_lite.evaluate.stats import CHANGE_METRICS, RESULT_METRICS, Gap, changed_results, dumps, gap_table, results
from medalign_lite.model.lvlm import attach_lora, load_lvlm, save_adapter
from medalign_lite.train.pairs import PairInputs
from medalign_lite.train.scoring import answer_kl, answer_logp

PRESET = replace(PRESETS["ci"], max_new_tokens=6, eval_batch=8)


@pytest.fixture(scope="module")
def adapter(tiny_folder, tmp_path_factory):
    """Adapters that say something else than the base."""
    folder = tmp_path_factory.mktemp("adapter")
    policy = attach_lora(load_lvlm(tiny_folder, device="cpu"), rank=2, alpha=8, seed=1)
    save_adapter(stirred(policy, scale=0.5), folder)
    return folder


@pytest.fixture(scope="module")
def arms(adapter):
    return Arm("base"), Arm("aligned", adapter), Arm("other", adapter, whole=False)


def one_after_another(work, jobs, tick):
    """Shards in this process: starting processes is tested in test_shards."""
    return [tick(), *map(work, jobs)][1:]


def run(cases, arms, tiny_folder, folder):  # noqa: F811
    folder.mkdir(exist_ok=True)
    return measure(cases, arms, model=str(tiny_folder), preset=PRESET, seed=7, folder=folder)


@pytest.fixture(scope="module")
def measured(cases, arms, tiny_folder, tmp_path_factory):  # noqa: F811
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "run_shards", one_after_another)
        return run(cases, arms, tiny_folder, tmp_path_factory.mktemp("measured"))


def test_every_arm_answers_what_it_is_asked(measured):
    predictions = predictions_of(measured.predictions)
    counts = {}
    for p in predictions:
        counts[p.arm, p.condition] = counts.get((p.arm, p.condition), 0) + 1
    whole = {"real": 24, "blank": 12, "shuffled": 12, "question-only": 12, "hidden": 24, "lesion": 16, "control": 16}
    assert counts == {(arm, c): n for arm in ("base", "aligned") for c, n in whole.items()} | {("other", "real"): 6}
    said = {(p.arm, p.condition, p.case_id, p.question_id): p.text for p in predictions}
    assert len(said) == len(predictions)
    real = [key[2:] for key in said if key[:2] == ("base", "real")]
    assert any(said["base", "real", *key] != said["aligned", "real", *key] for key in real)
    light = [key[2:] for key in said if key[:2] == ("other", "real")]
    assert all(said["other", "real", *key] == said["aligned", "real", *key] for key in light)
    blank = {text for key, text in said.items() if key[:2] == ("base", "blank") and key[3] == "q0"}
    assert len(blank) == 1  # one picture, one question


def test_p_yes_is_asked_of_yes_no_questions_and_wording_is_scored_by_the_base(cases, measured):  # noqa: F811
    gaps = [Gap(**row) for row in measured.yes_no]
    assert len(gaps) == 24 and {gap.question_id for gap in gaps} == {"q0"}
    by_arm = {arm: gap_table(cases, gaps, arm=arm)[1].sum(axis=(0, 1)) for arm in ("base", "aligned")}
    assert [sums[0] for sums in by_arm.values()] == [12, 12] and by_arm["base"][2] == 8  # questions, and true yes
    assert by_arm["base"][1] != pytest.approx(by_arm["aligned"][1], abs=1e-3)
    assert all(max(row.values) < 0 for row in tokens_of(measured.wording))


def test_margins_and_drift_say_what_they_must(measured):
    margins, trained = margins_of(measured.margins), margins_of(measured.margins, "inpaint")
    assert (len(margins), len(trained)) == (16, 8) and {m.arm for m in margins} == {"base", "aligned"}
    clean = {(m.arm, m.record_id): m.clean for m in margins}
    assert all(m.clean == pytest.approx(clean[m.arm, m.record_id], abs=1e-4) for m in trained)
    lesion = {(m.arm, m.record_id): m.lesion for m in margins}
    assert any(m.lesion != pytest.approx(lesion[m.arm, m.record_id], abs=1e-6) for m in trained)
    assert all(m.lesion is not None and m.control is not None for m in margins)


def test_drift_is_the_kl_on_the_bases_finished_answers(cases, arms, tiny_folder, tmp_path, monkeypatch):  # noqa: F811
    jobs = []
    monkeypatch.setattr(evaluate, "run_shards", lambda work, todo, tick: jobs.extend(todo) or [])
    run(cases, arms, tiny_folder, tmp_path)
    lvlm, probe = load_lvlm(tiny_folder, device="cpu"), next(p for p in jobs[0].probes if p.id in jobs[0].drift)
    ids = [*lvlm.processor.tokenizer("No.")["input_ids"], lvlm.processor.tokenizer.eos_token_id]
    said = Rollout(probe.id, probe.case_id, probe.question_id, 0, "No.", ids, [], {"finished": True})
    cut_off = replace(said, decoding={"finished": False})
    pairs = evaluate._answer_pairs(jobs[0], [said, cut_off, replace(said, id="another")])
    assert [pair.chosen_ids for pair in pairs] == [tuple(ids)]
    inputs, logps = PairInputs(lvlm), []
    with evaluate._arm(lvlm, arms[1]) as policy:
        rows = tokens_of(evaluate._token_rows(jobs[0], arms[1], pairs, answer_kl(policy, pairs, inputs=inputs)))
        logps += answer_logp(policy, pairs, inputs=inputs)
    assert [(row.case_id, row.arm, len(row.values)) for row in rows] == [(probe.case_id, "aligned", len(ids))]
    assert min(rows[0].values) >= 0 and sum(rows[0].values) > 1e-3
    logps += answer_logp(lvlm, pairs, inputs=inputs)  # the arm's adapters are off again
    assert len(logps[0]) == len(logps[1]) == len(ids) and max(map(max, logps)) < 0
    assert logps[0] != pytest.approx(logps[1], abs=1e-3)


def test_killed_and_run_again_it_ends_with_the_same_rows(cases, arms, tiny_folder, tmp_path, measured, monkeypatch):  # noqa: F811
    monkeypatch.setattr(evaluate, "run_shards", one_after_another)
    answer, calls = evaluate.rollout, []

    def killed(*arguments, **options):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return answer(*arguments, **options)

    monkeypatch.setattr(evaluate, "rollout", killed)
    with pytest.raises(KeyboardInterrupt):
        run(cases, arms, tiny_folder, tmp_path)
    journal = next(tmp_path.glob("answers-base-1.jsonl"))
    journal.write_bytes(b"\n".join(journal.read_bytes().split(b"\n")[:3]))  # the third batch was cut short
    monkeypatch.setattr(evaluate, "rollout", answer)
    again = run(cases, arms, tiny_folder, tmp_path)
    assert json.dumps(asdict(again)) == json.dumps(asdict(measured))
    monkeypatch.setattr(evaluate, "load_lvlm", None)  # finished: nothing is loaded
    assert run(cases, arms, tiny_folder, tmp_path) == again


def test_results_come_out_of_the_rows(cases, measured):  # noqa: F811
    predictions, margins = predictions_of(measured.predictions), margins_of(measured.margins)
    found = results(cases, predictions, aligned="aligned", margins=margins, kl=tokens_of(measured.drift), draws=50)
    assert set(found["difference"]["test"]) == set(RESULT_METRICS)
    assert found["base"]["test"]["kl_to_reference"]["value"] in (0.0, None)
    assert found["aligned"]["test"]["grounding_selectivity"]["n"] == 4
    assert found["aligned"]["test"]["overclaim_lesion_hidden"]["n"] == 4 and dumps(found)
    gone = changed_results(cases, predictions, condition="hidden", aligned="aligned", draws=50)
    assert gone["base"]["test"]["closed_accuracy"]["n"] == 4
    changes = results(cases, predictions, aligned="aligned", names=CHANGE_METRICS, draws=50)
    assert changes["base"]["test"]["change_selectivity"]["n"] == 4


def test_drift_is_measured_on_reports_where_there_are_any(cases):  # noqa: F811
    probes = real_probes(cases)
    assert {name.rsplit("/", 1)[1] for name in drift_probes(probes, seed=1)} == {"report"}
    assert len(drift_probes(probes, seed=1, per_split=2)) == 4
    closed = [probe for probe in probes if probe.kind == "closed"]
    assert {name.rsplit("/", 1)[1] for name in drift_probes(closed, seed=1)} == {"q0"}
    assert drift_probes([], seed=1) == frozenset()
