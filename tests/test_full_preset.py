"""The preset `full`, from answers to results, on a tiny Qwen3-VL with its own processor: a user adds the weights.

Random weights never end an answer, and a run learns from answers that end; so the model is first taught, for seconds,
to say one short sentence to whatever it is asked.
"""

import json
from pathlib import Path

import pytest
import torch
from families import FAMILIES

from medalign_lite.cases.readers import read_cases
from medalign_lite.corruption.pictures import corrupt_all
from medalign_lite.edits.records import build_records
from medalign_lite.evaluate.ask import Arm, measure
from medalign_lite.files import ROOT
from medalign_lite.model.batches import encode
from medalign_lite.model.lvlm import load_processor
from medalign_lite.model.rollout import own_answers
from medalign_lite.run.dial import resolve
from medalign_lite.train.arms import settings_of, train_arms
from medalign_lite.train.data import draw_data
from studies.real import arms, lab
from studies.real.page import results_of

CASES = ROOT / "data_samples" / "cases"


def taught(question):
    """One sentence, the same to all requests for a report and to all questions of a topic: often false."""
    return "There is a small nodule in the right upper zone." if question.kind == "report" else question.answer


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    """A folder as the hub would give it."""
    model, processor = FAMILIES["qwen3_vl"]()
    asked = {q.text: (case.image, q.text, taught(q)) for case in read_cases(CASES).cases for q in case.questions}
    images, questions, answers = zip(*list(asked.values())[::3])
    batch = encode(processor, images, questions, answers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    targets = batch.inputs["input_ids"][:, 1:][batch.completion[:, 1:]]
    for _ in range(60):
        logits = model(**batch.inputs, use_cache=False).logits[:, :-1][batch.completion[:, 1:]]
        loss = torch.nn.functional.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("qwen3_vl")
    model.to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def resolved(qwen):
    """The preset, but for the length of an answer; its model and cases."""
    return resolve("full,max_new_tokens=48", model=str(qwen), cases=str(CASES))


def test_full_from_the_models_own_answers_to_what_it_learnt(resolved, tmp_path):
    preset, model = resolved.preset, resolved.model
    whole = read_cases(CASES).cases
    split = {name: [case for case in whole if case.split == name] for name in ("train", "val", "test")}
    cases = [*split["train"][:3], *split["val"][:1]]
    answers = own_answers(cases, model=model, preset=preset, seed=7, scratch=tmp_path / "answers")
    asked = {(case.id, q.id) for case in cases for q in case.questions if q.visible}
    assert asked == {(answer.case_id, answer.question_id) for answer in answers}

    processor = load_processor(model)
    assert type(processor).__name__ == "Qwen3VLProcessor"
    records, rejected = build_records(
        answers, cases, decode=lambda ids: processor.tokenizer.decode(ids, skip_special_tokens=True), seed=7)
    assert records and len(records) + rejected.total() == len(answers)

    by_id = {case.id: case for case in cases}
    rows = corrupt_all([(by_id[r.case_id], r.evidence) for r in records], tmp_path, method="noise", seed=7,
                       say=lambda _: None)
    rows = [{"id": record.id, **row} for record, row in zip(records, rows)]
    assert all((row["lesion"] and row["control"]) or row["reason"] for row in rows)
    data = draw_data(records, rows, cases, folder=tmp_path, count=0, share=1.0, seed=7)

    settings = settings_of(preset, preset.recipes[-1], seed=7)
    assert (settings.rank, settings.alpha, settings.learning_rate, settings.recompute) == (128, 256, 1e-6, True)
    adapters = train_arms([settings], data.pool, data.watched, model=model, folder=tmp_path / "adapters",
                          work=tmp_path / "work", shards=1, max_side=preset.max_side)
    log = [json.loads(line) for line in (adapters[settings.recipe] / "log.jsonl").read_text().splitlines()]
    assert log and all(row["loss"] < 10 for row in log if "loss" in row)

    arms = [Arm("base"), Arm(settings.recipe, adapters[settings.recipe])]
    (tmp_path / "measured").mkdir()
    found = measure(split["test"][:2], arms, model=model, preset=preset, seed=7, folder=tmp_path / "measured")
    told = {(p["arm"], p["case_id"], p["question_id"]) for p in found.predictions if p["condition"] == "real"}
    wanted = {(case.id, q.id) for case in split["test"][:2] for q in case.questions if q.visible}
    assert told == {(arm.name, *key) for arm in arms for key in wanted}


def test_the_claims_of_any_model_and_cases(qwen, tmp_path, monkeypatch):
    monkeypatch.setattr(arms, "SEARCHED", ("dpo", "fire-mpo"))
    told, values = [], {"CASES": str(CASES), "MODEL": str(qwen), "PRESET": "full,max_new_tokens=48,train_pairs=8"}
    lab.main(values | {"SMALL": "1", "SEED": "7", "OUT": str(tmp_path), "REPORT": ""}, say=told.append)
    page = Path(told[-1].removeprefix("claims: "))
    found = results_of(page.parent)
    assert {arm: sorted(runs) for arm, runs in found.items()} == {
        "base": [0], **dict.fromkeys(("dpo", "fire-mpo", arms.PHANTOM, arms.SAME), [11, 12])}
    assert any("wrong answers repaired" in line for line in told) and "GB held" in " ".join(told)
    assert f"| R1 | {arms.CLAIMS[0].statement} | fire-mpo − base | 2 |" in page.read_text()
    again = []  # what is finished is found again
    lab.main(values | {"SMALL": "1", "SEED": "7", "OUT": str(tmp_path), "REPORT": ""}, say=again.append)
    assert not any("runs known to be left" in line for line in again)
