"""Reports without a table of facts, in the layouts that bring them: through every notebook, and to a sentence."""

import json

import pytest
from report_folders import BUILDERS, phantoms, report_of

from medalign_lite.cases.readers import read_cases
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.edits.records import build_records
from medalign_lite.evaluate.metrics import Prediction, count, ratios
from medalign_lite.evaluate.priors import error_table
from medalign_lite.run.cohort import settle_splits
from medalign_lite.run.reproduce import parse, reproduce
from medalign_lite.train.data import draw_data, pictures_of

COUNTS = {"train": 8, "val": 3, "test": 5}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return phantoms(tmp_path_factory.mktemp("world"), COUNTS)


@pytest.mark.parametrize("layout", BUILDERS)
def test_reports_are_read_edited_and_scored(people, tmp_path, layout):
    """Each answer is the report of the next person: wrong in much, and judged by the reference alone."""
    BUILDERS[layout](tmp_path / "in", people)
    made = tmp_path / "made" if layout == "dicom" else None
    cases = settle_splits(read_cases(tmp_path / "in", root=made), seed=7).cases
    assert len(cases) == len(people) and all(case.facts is None and case.lesions == () for case in cases)
    said = {case.id: report_of(other) for case, other in zip(cases, [*cases[1:], cases[0]], strict=True)}
    answers = [Rollout(f"{c.id}/greedy", c.id, c.questions[0].id, 0, said[c.id], [1], [0.0], {"finished": True})
               for c in cases if c.split in ("train", "val")]
    records, _ = build_records(answers, cases, seed=7)
    rows = pictures_of(records, cases, tmp_path / "out", method="noise", seed=7)
    assert all(row["lesion"] is None and row["reason"] for row in rows)
    data = draw_data(records, rows, cases, folder=tmp_path / "out", count=0, share=1.0, seed=7)
    assert data.corrected and data.reports == set(data.records)
    tested = [case for case in cases if case.split == "test"]
    predictions = [Prediction(case.id, case.questions[0].id, said[case.id]) for case in tested]
    scores = ratios(count(tested, predictions, arm="base").table.sum(0), ["fact_recall", "hallucination_rate"])
    assert all(0 <= value <= 1 for value in scores.values())
    table = error_table(tested, predictions, arm="base")
    assert any(row.images for row in table) and all(row.false <= row.images for row in table)


def test_no_usable_pair_is_a_sentence(people, tmp_path):
    with pytest.raises(ValueError, match="no answer of the training cases gave a pair to learn from: rejected.json"):
        draw_data([], [], people, folder=tmp_path, count=0, share=1.0, seed=7)


@pytest.mark.slow
def test_a_dicom_folder_with_reports_ends_in_a_report(people, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    BUILDERS["dicom"](tmp_path / "in", people)
    numbers = "train_pairs=8,train_batch=4,micro_batch=4,epochs=1,max_new_tokens=64,bootstrap_draws=50"
    said, places = [], (f"CASES={tmp_path / 'in'}", f"OUT={tmp_path / 'out'}")
    run = reproduce(parse([f"PRESET=ci,{numbers}", "RECIPE=dpo", *places]), say=said.append)
    assert sum("done in" in line for line in said) == 8, said
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert 0 < results["base"]["test"]["fact_recall"]["n"] <= COUNTS["test"]  # a report without a finding has none
    assert "report.html" in {path.name for path in run.iterdir()}
    assert not any("MRN-" in path.read_text(encoding="utf-8") for path in run.rglob("*.json*"))
