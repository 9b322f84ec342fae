"""Arms: pairs from records and pictures, which are drawn, how recipes share two processes, and that all are trained."""

from dataclasses import replace

import pytest
from test_train import pairs  # noqa: F401 - a fixture

from medalign_lite.cases.case import Case, Question
from medalign_lite.dials import PRESETS
from medalign_lite.edits.records import Record
from medalign_lite.train import arms
from medalign_lite.train.arms import settings_of, share_out, train_arms
from medalign_lite.train.data import choose_pairs, pairs_of
from medalign_lite.train.settings import TrainSettings

RECIPES = PRESETS["ci"].recipes


@pytest.fixture
def record(tmp_path):
    return Record(
        "c/q/greedy/0", "g", "c", "q", "c.png", "Is there a nodule?", (5, 6), "Yes.", {}, "No.", "Yes.",
        ((0, 2, "negation"),), ((0, 3, "negation"),), "corrected", {"chosen": "true", "rejected": "false"}, ("nodule",),
    )  # fmt: skip


def test_a_pair_knows_whose_words_were_sampled_and_which_pictures_exist(record, tmp_path):
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


def test_a_share_of_the_drawn_pairs_are_reports(pairs):  # noqa: F811
    reports = {"r0", "r2", "r5"}
    drawn = choose_pairs(pairs, 4, seed=1, first=reports, share=0.5)
    assert len(drawn) == 4 and len(reports & {pair.id for pair in drawn}) == 2
    assert [pair.id for pair in drawn] == sorted(pair.id for pair in drawn)
    assert len(reports & {pair.id for pair in choose_pairs(pairs, 6, seed=1, first=reports, share=1.0)}) == 3
    assert len(reports & {pair.id for pair in choose_pairs(pairs, 7, seed=1, first=reports, share=0.0)}) == 2
    assert choose_pairs(pairs, 4, seed=1, first=reports, share=0.5) == drawn
    assert choose_pairs(pairs, 0, seed=1) == pairs == choose_pairs(pairs, 99, seed=1)


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
