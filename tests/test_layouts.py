"""What every layout gives of a tiny data set by hand: splits, groups, questions, lesions, and what is left out."""

import json
import os
from pathlib import Path

import layouts
import numpy as np
import pytest
from layouts import LABELS, WORDS, put
from PIL import Image

from medalign_lite.cases.case import CaseError, count_notes, find_leaks, require_no_leaks
from medalign_lite.cases.readers import detect, read_cases
from medalign_lite.cases.readers.shared import describing_part
from medalign_lite.corruption.corrupt import lesion_mask, mask_source

REAL = Path(os.environ.get("VQA_RAD", Path(__file__).parents[2] / "shared" / "real" / "vqa_rad"))
needs_real = pytest.mark.skipif(not (REAL / "images").is_dir(), reason=f"no VQA-RAD at {REAL}; set VQA_RAD=folder")
DETECTED = {
    "kit": "medalign-lite cases.jsonl", "slake": "SLAKE", "vqa_rad": "VQA-RAD",
    "parquet": "visual questions in parquet", "r2gen": "IU X-ray (R2Gen)",
    "openi": "IU X-ray (Open-i XML)", "mimic_cxr": "MIMIC-CXR-JPG",
    "nih": "NIH ChestX-ray14", "vindr": "VinDr-CXR", "coco": "COCO", "dicom_table": "pictures with a table",
    "mixed_table": "pictures with a table",
}  # fmt: skip


@pytest.fixture
def read(tmp_path):
    """Builds a layout, lets `change` damage it, and reads it."""

    def reader(build, change=lambda folder: None, **options):
        folder = tmp_path / "set"
        build(folder)
        change(folder)
        module, _ = detect(folder)
        return read_cases(folder, root=tmp_path / "made" if module.MAKES_FILES else None, **options)

    return reader


def by_word(found):
    return {next(word for word in WORDS if word in str(case.questions).lower()): case for case in found.cases}


@pytest.mark.parametrize("build", layouts.BUILDERS, ids=lambda build: build.__name__)
def test_layouts_are_told_apart_and_read_whole(build, read):
    found = read(build)
    assert found.layout == DETECTED[build.__name__] and found.reason
    assert len(found.cases) == 3 and not found.skipped and not found.dropped
    require_no_leaks(found.cases)


def test_vqa_rad_keeps_the_test_and_takes_its_images_out_of_training(read):
    found = read(layouts.vqa_rad)
    assert {case.id: case.split for case in found.cases} == {"alpine": "train", "borrow": "train", "cactus": "test"}
    (asked,) = found.cases[2].questions
    assert (asked.id, asked.answer, asked.kind, asked.topic) == ("99", "7", "closed", "PRES")
    assert count_notes(found.notes).startswith("2 x its image is also asked about in test")
    assert read(layouts.vqa_rad, strict=True).cases == found.cases  # what a rule leaves out is no bad case


def test_vqa_rad_as_published_on_request_with_its_leak_named(read):
    found = read(layouts.vqa_rad, splits="standard")
    assert [(case.id, len(case.questions)) for case in found.cases if case.group == "cactus"] == [
        ("cactus-train", 2), ("cactus-test", 1),
    ]  # fmt: skip
    assert find_leaks(found.cases) == {"cactus": ("train", "test")}
    assert "a leak as published" in count_notes(found.notes)
    with pytest.raises(ValueError, match="known are clean, standard"):
        read(layouts.vqa_rad, splits="mine")


def test_vqa_rad_in_its_public_list(read):
    def change(folder):
        entries = json.loads((folder / "trainset.json").read_text())
        entries[4]["phrase_type"] = "test_freeform"
        for name in ("trainset.json", "testset.json"):
            (folder / name).unlink()
        put(folder, "VQA_RAD Dataset Public.json", json.dumps(entries))
        (folder / "images").rename(folder / "VQA_RAD Image Folder")

    assert [(case.id, case.split) for case in read(layouts.vqa_rad, change).cases][2] == ("cactus", "test")


@needs_real
def test_every_question_of_the_real_vqa_rad_is_read_or_counted():
    asked = [json.loads((REAL / name).read_text()) for name in ("trainset.json", "testset.json")]
    found = read_cases(REAL)
    require_no_leaks(found.cases)
    read_ones = {split: sum(len(c.questions) for c in found.cases if c.split == split) for split in ("train", "test")}
    assert read_ones["test"] == len(asked[1])  # scores stay comparable
    assert read_ones["train"] + len(found.notes) == len(asked[0]) and not found.skipped and not found.dropped
    standard = read_cases(REAL, splits="standard")
    assert sum(len(case.questions) for case in standard.cases) == len(asked[0]) + len(asked[1])
    assert set(find_leaks(standard.cases)) == {entry["image_name"][:-4] for entry in asked[1]}


def test_parquet_tells_images_by_their_bytes(read):
    found = read(layouts.parquet)
    assert {word: case.split for word, case in by_word(found).items()} == dict(zip(WORDS, ("train", "train", "test")))
    with Image.open(by_word(found)["alpine"].image) as image:
        assert (np.asarray(image) == layouts.pixels(0)).all()
    assert "1 x its image is also asked about in test" in count_notes(found.notes)
    standard = read(layouts.parquet, splits="standard")
    assert len(standard.cases) == 4 and len(find_leaks(standard.cases)) == 1


def test_made_pictures_need_a_place(tmp_path):
    layouts.parquet(tmp_path)
    with pytest.raises(CaseError, match="root=folder"):
        read_cases(tmp_path)


def test_reports_of_iu_xray_in_both_layouts(read, tmp_path):
    found = read(layouts.r2gen)
    assert [(case.group, case.split) for case in found.cases] == [
        (w, s) for w, s in zip(WORDS[::-1], ("test", "val", "train"))
    ]
    assert found.cases[2].questions[0].answer == "The alpine is clear." and found.cases[2].image.name == "0.png"
    assert count_notes(found.notes) == "3 x a case is one image, the study's first view"
    layouts.openi(tmp_path / "openi")
    found = read_cases(tmp_path / "openi")
    assert [case.questions[0].answer for case in found.cases] == [f"The {word} is clear." for word in WORDS]


def test_an_xml_with_entities_is_refused(read):
    bomb = '<!DOCTYPE e [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><eCitation>&b;</eCitation>'
    found = read(layouts.openi, lambda folder: put(folder, "ecgen-radiology/1.xml", bomb))
    assert len(found.cases) == 2 and "entities" in found.skipped[0]["reason"]


def test_mimic_cxr_has_patients_reports_and_labels(read):
    found = read(layouts.mimic_cxr)
    case = by_word(found)["borrow"]
    assert (case.id, case.group, case.split, case.image.stem) == ("s55555555", "p22222222", "val", "borrow")
    answers = {question.id: question.answer for question in case.questions}
    assert answers == {"report": "The borrow is clear.", "presence-edema": "Yes", "presence-pneumonia": "No"}


@pytest.mark.parametrize(
    ("report", "part"),
    [
        ("FINDINGS:  a\n b\nIMPRESSION: c", "a b"),
        ("IMPRESSION: c\n d", "c d"),
        ("FINDINGS:\n\nIMPRESSION: c", "c"),
        ("INDICATION: Patient with: cough.\nFINDINGS AND IMPRESSION: Clear.\nRECOMMENDATION(S): none", "Clear."),
        ("no heading at all", "no heading at all"),
        ("Findings: Clear.\n\nImpression: none", "Clear."),
        ("EXAMINATION: CHEST\n\nINDICATION: cough\n\nThe lungs are clear.\n", "The lungs are clear."),
        ("", ""),
    ],
)
def test_the_describing_part_of_a_report(report, part):
    assert describing_part(report) == part


def test_boxes_of_nih_are_lesions_and_labels_are_questions(read):
    found = read(layouts.nih)
    for word, label, number in zip(WORDS, LABELS, "012", strict=True):
        case = next(case for case in found.cases if case.id == f"{word}_000")
        assert (case.group, case.lesions[0].label, case.lesions[0].box) == (number, label, (3.5, 4, 6, 7))
        assert [question.answer for question in case.questions] == ["Yes", "No"]
        assert label.lower() in case.questions[0].text
    assert [case.split for case in found.cases] == ["train", "train", "test"]


def test_vindr_asks_what_two_radiologists_saw(read):
    found = read(layouts.vindr)
    case = by_word_of_id(found, "borrow")
    assert [(x.label, x.box) for x in case.lesions] == [("Hernia", (3, 4, 7, 7)), ("Hernia", (3, 4, 8, 7))]
    assert [(q.text, q.answer) for q in case.questions][0] == ("Does this image show hernia?", "Yes")
    assert not any("cardiomegaly" in question.text for question in case.questions)
    assert "3 x one radiologist only marked it" in count_notes(found.notes)


def by_word_of_id(found, name):
    return next(case for case in found.cases if case.id == name)


def test_coco_polygons_become_masks_and_boxes_stay_boxes(read):
    found = read(layouts.coco)
    boxed, drawn, _ = found.cases
    assert boxed.lesions[0].box == (3, 4, 6, 7) and boxed.lesions[0].mask is None
    assert lesion_mask(drawn)[4:11, 3:9].all() and lesion_mask(drawn).sum() == 6 * 7
    assert [mask_source(case) for case in (boxed, drawn)] == ["box", "polygon"]
    assert [question.answer for question in drawn.questions] == ["Yes", "No"]


def test_coco_refuses_a_picture_of_another_size(read):
    def change(folder):
        text = (folder / "instances_train.json").read_text()
        put(folder, "instances_train.json", text.replace('"width": 24', '"width": 240', 1))

    found = read(layouts.coco, change)
    assert len(found.cases) == 2 and "boxes would not fit" in found.skipped[0]["reason"]
