"""SLAKE's layout, made by hand and real: every case is read or counted; lesions are lesions, never organs."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from layouts import encoded, put

from medalign_lite.cases.case import CaseError, count_notes, find_leaks, write_cases
from medalign_lite.cases.images import read_image
from medalign_lite.cases.readers import read_cases, slake
from medalign_lite.corruption.masks import find_masks, lesion_mask

REAL = Path(os.environ.get("SLAKE", Path(__file__).parents[2] / "shared" / "real" / "slake"))
needs_real = pytest.mark.skipif(not (REAL / "imgs").is_dir(), reason=f"no SLAKE folder at {REAL}; set SLAKE=folder")


def question(image, qid, **changes):
    entry = {"img_id": 1, "img_name": f"{image}/source.jpg", "question": "Is the lung healthy?", "answer": "No",
             "q_lang": "en", "location": "Lung", "modality": "CT", "answer_type": "CLOSED", "base_type": "vqa",
             "content_type": "Abnormality", "triple": "", "qid": qid}
    return {**entry, **changes}


@pytest.fixture
def folder(tmp_path):
    """A small SLAKE folder: ct1 (id mask, train), xr1 (box picture, test), ct2 in train and test."""
    (tmp_path / "mask.txt").write_text("70:Liver\n175:Liver Cancer\n245:Lung Cancer")
    labels = np.zeros((60, 80), np.uint8)
    labels[10:40, 10:50] = 70
    labels[20:30, 20:30] = 175
    boxes = {"ct1": [{"Liver": [10.0, 10.0, 40.0, 30.0]}, {"Liver Cancer": [20.0, 20.0, 10.0, 10.0]}],
             "xr1": [{"Nodule": [5, 6, 7, 8]}, {"Gadget": [1, 1, 4, 4]}], "ct2": []}
    for number, (name, detections) in enumerate(boxes.items()):
        drawn = np.random.default_rng(number).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        put(tmp_path, f"imgs/{name}/source.jpg", encoded(drawn, "JPEG"))
        put(tmp_path, f"imgs/{name}/mask.png", encoded(drawn if name == "xr1" else labels))
        write(tmp_path, f"imgs/{name}/detection.json", detections)
    write(tmp_path, "train.json", [question("ct1", 1), question("ct1", 2, answer_type="OPEN"), question("ct2", 3)])
    write(tmp_path, "validate.json", [])
    write(tmp_path, "test.json", [question("xr1", 4, modality="X-Ray"), question("ct2", 5)])
    return tmp_path


def write(folder, name, entries):
    put(folder, name, json.dumps(entries))


def test_layout_splits_and_kinds_and_no_training_question_about_a_held_out_image(folder):
    found = read_cases(folder)
    assert found.layout == "SLAKE" and "train.json" in found.reason
    cases = {case.id: case for case in found.cases}
    assert {name: case.split for name, case in cases.items()} == {"ct1": "train", "xr1": "test", "ct2": "test"}
    assert [q.kind for q in cases["ct1"].questions] == ["closed", "open"]
    assert all(case.facts is None and case.group == case.id for case in found.cases)
    assert not find_leaks(found.cases)
    reasons = {entry["id"]: entry["reason"] for entry in [*found.dropped, *found.notes]}
    assert "train.json entry 3 left out: its image is also asked about in test" in reasons["ct2/source.jpg"]
    assert "'Gadget' dropped: not a label" in reasons["xr1"]


def test_outlines_come_from_ids_and_boxes_from_pictures(folder):
    cases = {case.id: case for case in read_cases(folder).cases}
    (tumour,) = cases["ct1"].lesions
    assert (tumour.label, tumour.label_id, tumour.mask) == ("Liver Cancer", 175, "imgs/ct1/mask.png")
    assert lesion_mask(cases["ct1"]).sum() == 100
    (nodule,) = cases["xr1"].lesions
    assert (nodule.label, nodule.mask) == ("Nodule", None) and lesion_mask(cases["xr1"]).sum() == 56


def test_chinese_questions_leave_english_ones_alone_and_are_read_as_yes_or_no_on_request(folder):
    """As the hub has them: by question, so an English training image has Chinese test questions."""
    said = (("ct1", 9, "不健康"), ("ct1", 10, "不是"), ("xr1", 11, "是的。"))
    chinese = [question(image, qid, q_lang="zh", question="肺健康吗？", answer=answer) for image, qid, answer in said]
    write(folder, "test.json", [question("xr1", 4), question("ct2", 5), *chinese])
    (folder / "validate.json").rename(folder / "validation.json")
    (folder / ".DS_Store").mkdir()
    found = read_cases(folder)
    assert {case.id: (case.split, len(case.questions)) for case in found.cases} == {
        "ct1": ("train", 2), "xr1": ("test", 1), "ct2": ("test", 1),
    }  # fmt: skip
    assert "3 x a question in the language zh" in count_notes(found.notes).replace("left out: ", "")
    both = read_cases(folder, languages=("en", "zh"))
    (asked,) = [q for case in both.cases for q in case.questions if q.id == "11"]
    assert (asked.answer, asked.kind) == ("Yes", "closed") and both.dropped == found.dropped
    assert {case.id: case.split for case in both.cases} == {case.id: case.split for case in found.cases}
    assert "a Chinese answer other than yes and no" in str(both.notes) and "10" not in str(both.cases[0].questions)


def test_an_image_folder_may_be_a_link_and_a_link_out_of_it_may_not(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("disk") / "pictures"
    (folder / "imgs").rename(elsewhere)
    (folder / "imgs").symlink_to(elsewhere)
    found = read_cases(folder)
    assert len(found.cases) == 3 and not found.dropped[1:]
    write_cases(folder / "kept.jsonl", found.cases, root=folder)
    assert read_cases(folder / "kept.jsonl").cases == found.cases
    secret = tmp_path_factory.mktemp("home") / "secret.jpg"
    (elsewhere / "ct1/source.jpg").rename(secret)
    (elsewhere / "ct1/source.jpg").symlink_to(secret)
    (elsewhere / "ct2/source.jpg").unlink()
    (elsewhere / "ct2/source.jpg").symlink_to("source.jpg")
    found = read_cases(folder)
    assert [case.id for case in found.cases] == ["xr1"]
    assert "by a link" in str(found.skipped) and "leads to itself" in str(found.skipped)


def test_bad_parts_are_counted_and_the_rest_is_read(folder):
    write(folder, "train.json", [
        question("ct1", 1), question("ct1", 1), question("ct1", 6, answer=""), question("ct1", 7, answer_type="MAYBE"),
        question("ct1", 8, answer=5), question("gone", 9), question("..", 10), "no object", {"qid": 3},
    ])  # fmt: skip
    (folder / "validate.json").write_text('[{"qid": 1')
    (folder / "imgs" / "xr1" / "detection.json").write_text("{}")
    found = read_cases(folder)
    assert sorted(case.id for case in found.cases) == ["ct1", "ct2", "xr1"]
    assert len(next(case for case in found.cases if case.id == "ct1").questions) == 1
    assert Counter(entry["id"] for entry in found.dropped) == {"ct1": 4, "xr1": 1}
    skipped = {entry["id"]: entry["reason"] for entry in found.skipped}
    assert set(skipped) == {"validate.json", "gone/source.jpg", *(f"train.json entry {n}" for n in (7, 8, 9))}
    assert "no such image file" in skipped["gone/source.jpg"] and "not complete JSON" in skipped["validate.json"]


def test_what_is_no_data_set_is_answered_with_the_known_layouts(tmp_path):
    with pytest.raises(CaseError, match="no known case layout.*cases.jsonl.*SLAKE"):
        read_cases(tmp_path)
    with pytest.raises(CaseError, match="no such file or folder"):
        read_cases(tmp_path / "absent")


@needs_real
def test_every_real_case_is_read_or_counted():
    found = read_cases(REAL)
    names = {path.name for path in (REAL / "imgs").iterdir() if path.is_dir()}
    assert {case.id for case in found.cases} | {entry["id"] for entry in found.skipped} == names
    files = ("train.json", "validate.json", "test.json")
    asked = sum(len(json.loads((REAL / name).read_text(encoding="utf-8"))) for name in files)
    assert sum(len(case.questions) for case in found.cases) + len(found.dropped) + len(found.notes) == asked
    assert {lesion.label for case in found.cases for lesion in case.lesions} <= slake.LESIONS
    assert not find_leaks(found.cases)


@needs_real
def test_real_lesions_get_masks_and_controls():
    cases = [case for case in read_cases(REAL).cases if case.lesions]
    complete = 0
    for case in cases:
        masks = find_masks(case, read_image(case.image), seed=7)
        assert masks.source in ("mask", "box") and masks.lesion is not None
        complete += masks.control is not None
        assert masks.control is not None or masks.reason
    assert complete >= 0.9 * len(cases)
