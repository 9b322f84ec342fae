"""The data of a run: it is opened as it was made, and as many pairs are drawn as asked for, repairs first."""

import pytest

from medalign_lite.cases.case import Case, Question
from medalign_lite.edits.records import Record
from medalign_lite.run.pairs import open_run
from medalign_lite.run.stages import open_stage
from medalign_lite.train.data import draw_data


@pytest.mark.parametrize("cases", ["", "data_samples/cases"])
def test_a_run_is_opened_as_it_was_made(tmp_path, cases):
    made = open_stage("03_corruption", preset="ci", cases=cases, seed=11, out=str(tmp_path))
    made.jsonl("pairs.jsonl", list)
    made.finish()
    found = open_run(tmp_path / "ci", needs=("03_corruption",))
    assert (found.cases, found.model, found.seed, found.preset) == (made.cases, made.model, 11, made.preset)
    assert (found.cases is None) == (cases == "") and found.run_folder == made.run_folder


@pytest.mark.parametrize(("share", "corrected"), [(0.75, 3), (1.0, 4), (0.0, 2)])  # 0: two are left to fill up
def test_pairs_that_repair_an_error_are_drawn_by_their_share(tmp_path, share, corrected):
    asks = tuple(Question(name, "A nodule?", "No.", kind, "finding") for name, kind in
                 (("report", "report"), ("q", "closed")))
    cases = [Case(f"{split}{n}", f"{split}{n}", split, tmp_path / "c.png", asks)
             for split in ("train", "val") for n in range(6)]
    records, rows = [], []
    for n, case in enumerate(cases):
        wrong = n % 6 < 4
        own = ("No.", "Yes.", ((0, 2, "negation"),), ((0, 3, "negation"),))
        records.append(Record(f"{case.id}/q", case.group, case.id, "q" if n % 2 else "report", "c.png", "A nodule?",
                              (5,), own[wrong], {}, *own, "corrected" if wrong else "counterfactual",
                              {"chosen": "true", "rejected": "false"}))
        rows.append({"id": f"{case.id}/q", "lesion": None, "control": None})
    data = draw_data(records, rows, cases, folder=tmp_path, count=4, share=share, seed=1)
    assert len(data.pool) == 4 and sum(pair.id in data.corrected for pair in data.pool) == corrected
    assert {pair.id for pair in data.watched} == {r.id for r in records[6:]}  # fewer than are looked at: all
    assert data.reports == {r.id for r in records if r.question_id == "report"}
