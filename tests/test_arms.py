"""The data of a run and its arms: pairs of records and pictures, which are drawn, repairs first; how recipes share two
processes, and that all are trained."""

from dataclasses import replace

import pytest
from test_train import pairs  # noqa: F401 - a fixture

from medalign_lite.cases.case import Case, Question
from medalign_lite.dials import PRESETS
from medalign_lite.edits.records import Record
from medalign_lite.run.pairs import open_run
from medalign_lite.run.stages import open_stage
from medalign_lite.train import arms
from medalign_lite.train.arms import settings_of, share_out, train_arms
from medalign_lite.train.data import draw_data, pairs_of
from medalign_lite.train.settings import TrainSettings

RECIPES = PRESETS["ci"].recipes


@pytest.mark.parametrize("cases", ["", "data_samples/cases"])
def test_a_run_is_opened_as_it_was_made(tmp_path, cases):
    made = open_stage("03_corruption", preset="ci", cases=cases, seed=11, out=str(tmp_path))
    made.jsonl("pairs.jsonl", list)
    made.finish()
    found = open_run(tmp_path / "ci", needs=("03_corruption",))
    assert (found.cases, found.model, found.seed, found.preset) == (made.cases, made.model, 11, made.preset)
    assert (found.cases is None) == (cases == "") and found.run_folder == made.run_folder


OWN = ("No.", "Yes.", ((0, 2, "negation"),), ((0, 3, "negation"),))
CHECKED = {"chosen": "true", "rejected": "false"}


def test_a_pair_knows_whose_words_were_sampled_and_which_pictures_exist(tmp_path):
    record = Record("c/q/greedy/0", "g", "c", "q", "c.png", "Is there a nodule?", (5, 6), "Yes.", {}, *OWN, "corrected",
                    CHECKED, ("nodule",))
    question = Question("q", "Is there a nodule?", "No.", "closed", "presence")
    case = Case("c", "g", "val", tmp_path / "c.png", (question,))
    row = {"id": record.id, "lesion": "lesion/a.png", "control": None}
    (pair,) = pairs_of([record], [row], [case], folder=tmp_path)["val"]
    assert (pair.rejected_ids, pair.chosen_ids, pair.gold, pair.positive) == ((5, 6), None, "No.", True)
    assert (pair.clean, pair.lesion, pair.control) == (tmp_path / "c.png", tmp_path / "lesion/a.png", None)
    right = replace(record, source="counterfactual", evidence=None)
    (pair,) = pairs_of([right], [row], [case], folder=tmp_path)["val"]
    assert (pair.rejected_ids, pair.chosen_ids, pair.positive) == (None, (5, 6), False)
    with pytest.raises(KeyError):
        pairs_of([record], [], [case], folder=tmp_path)


@pytest.mark.parametrize(("count", "share", "corrected"), [
    (4, 0.75, 3), (4, 1.0, 4), (4, 0.0, 2), (5, 1.0, 4), (0, 1.0, 4), (99, 0.0, 4)])  # 2 repair nothing
def test_pairs_that_repair_an_error_are_drawn_by_their_share(tmp_path, count, share, corrected):
    asks = tuple(Question(name, "A nodule?", "No.", kind, "finding") for name, kind in
                 (("report", "report"), ("q", "closed")))
    cases = [Case(f"{split}{n}", f"{split}{n}", split, tmp_path / "c.png", asks)
             for split in ("train", "val") for n in range(6)]
    records = [Record(f"{case.id}/q", case.group, case.id, "q" if n % 2 else "report", "c.png", "A nodule?", (5,),
                      OWN[n % 6 < 4], {}, *OWN, "corrected" if n % 6 < 4 else "counterfactual", CHECKED)
               for n, case in enumerate(cases)]
    rows = [{"id": record.id, "lesion": None, "control": None} for record in records]
    data, again = (draw_data(records, rows, cases, folder=tmp_path, count=count, share=share, seed=1) for _ in range(2))
    assert [pair.id for pair in data.pool] == sorted(pair.id for pair in data.pool) and again.pool == data.pool
    assert len(data.pool) == min(count or 6, 6) and sum(pair.id in data.corrected for pair in data.pool) == corrected
    assert {pair.id for pair in data.watched} == {r.id for r in records[6:]}  # fewer than are looked at: all
    assert data.reports == {r.id for r in records if r.question_id == "report"}


def test_recipes_are_shared_out_by_what_a_step_costs():
    settings = [settings_of(PRESETS["ci"], name, seed=3) for name in RECIPES]
    shares = [[one.recipe for one in share] for share in share_out(settings, 2)]
    assert shares == [["grounded"], ["fire-mpo", "dpo"]]
    assert {one.resolved_recipe().beta for one in settings} == {PRESETS["ci"].beta}
    assert settings_of(replace(PRESETS["ci"], micro_batch=4), "dpo", seed=3).accumulation == 4


def test_every_recipe_gets_its_adapter_and_a_finished_one_is_kept(pairs, tiny_folder, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(arms, "run_shards", lambda work, jobs, tick: [work(job) for job in jobs] and tick())
    settings = [TrainSettings(recipe=name, batch_size=4, rank=2, alpha=4, max_steps=2) for name in RECIPES]
    options = {"model": str(tiny_folder), "folder": tmp_path / "arms", "work": tmp_path / "work"}
    folders = train_arms(settings, pairs[:6], pairs[6:], **options)
    assert list(folders) == list(RECIPES)
    stamps = {name: (folder / "adapter_model.safetensors").stat().st_mtime_ns for name, folder in folders.items()}
    (folders["dpo"] / "settings.json").unlink()  # as if killed before the end
    trained = []
    monkeypatch.setattr(arms, "_train", lambda job: trained.extend(one.recipe for one in job.settings))
    train_arms(settings, pairs[:6], pairs[6:], **options)
    assert trained == ["dpo"] and len(set(stamps.values())) == 3
