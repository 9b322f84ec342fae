"""What every layout gives of a tiny data set by hand: splits, groups, questions, lesions, and what is left out."""

import json
import os
from pathlib import Path

import layouts
import numpy as np
import pytest
from layouts import LABELS, WORDS, put
from PIL import Image

from medalign_lite.cases.case import CaseError, count_notes, find_leaks, prompt_of, write_cases
from medalign_lite.cases.readers import detect, read_cases, shared
from medalign_lite.cases.readers.shared import choice_question, describing_part
from medalign_lite.corruption.masks import lesion_mask, mask_source

REAL = Path(os.environ.get("VQA_RAD", Path(__file__).parents[2] / "shared" / "real" / "vqa_rad"))
needs_real = pytest.mark.skipif(not (REAL / "images").is_dir(), reason=f"no VQA-RAD at {REAL}; set VQA_RAD=folder")
DETECTED = {
    "kit": "medalign-lite cases.jsonl", "slake": "SLAKE", "vqa_rad": "VQA-RAD",
    "parquet": "visual questions in parquet", "r2gen": "IU X-ray (R2Gen)", "openi": "IU X-ray (Open-i XML)",
    "mimic_cxr": "MIMIC-CXR-JPG", "nih": "NIH ChestX-ray14", "vindr": "VinDr-CXR", "coco": "COCO",
    "dicom_table": "pictures with a table", "mixed_table": "pictures with a table", "pmc_vqa": "multiple choice",
    "omnimedvqa": "multiple choice", "mmmu": "visual questions in parquet", "vqa_med": "VQA-Med 2019",
    "chexpert": "CheXpert", "ms_cxr": "MS-CXR", "padchest_gr": "PadChest-GR", "rsna": "RSNA Pneumonia Detection",
}  # fmt: skip


@pytest.fixture
def read(tmp_path):
    """Builds a layout in a folder of its name, lets `change` damage it, and reads it."""

    def reader(build, change=lambda folder: None, **options):
        folder = tmp_path / build.__name__
        build(folder)
        change(folder)
        module, _ = detect(folder)
        return read_cases(folder, root=tmp_path / "made" if module.makes_files else None, **options)

    return reader


def by_word(found):
    return {next(word for word in WORDS if word in str(case.questions).lower()): case for case in found.cases}


@pytest.mark.parametrize("build", layouts.BUILDERS, ids=lambda build: build.__name__)
def test_layouts_are_told_apart_and_read_whole(build, read):
    found = read(build)
    assert found.layout == DETECTED[build.__name__] and found.reason
    assert len(found.cases) == 3 and not found.skipped and not found.dropped
    assert not find_leaks(found.cases)


def test_vqa_rad_takes_the_tests_images_out_of_training_or_names_the_leak_on_request(read):
    found = read(layouts.vqa_rad)
    assert {case.id: case.split for case in found.cases} == {"alpine": "train", "borrow": "train", "cactus": "test"}
    (asked,) = found.cases[2].questions
    assert (asked.id, asked.answer, asked.kind, asked.topic) == ("99", "7", "closed", "PRES")
    assert count_notes(found.notes).startswith("2 x its image is also asked about in test")
    assert read(layouts.vqa_rad, strict=True).cases == found.cases  # what a rule leaves out is no bad case
    found = read(layouts.vqa_rad, splits="standard")
    asked = {case.id: len(case.questions) for case in found.cases if case.group == "cactus"}
    assert asked == {"cactus-train": 2, "cactus-test": 1}
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
    assert not find_leaks(found.cases)
    read_ones = {split: sum(len(c.questions) for c in found.cases if c.split == split) for split in ("train", "test")}
    assert read_ones["test"] == len(asked[1])  # scores stay comparable
    assert read_ones["train"] + len(found.notes) == len(asked[0]) and not found.skipped and not found.dropped
    standard = read_cases(REAL, splits="standard")
    assert sum(len(case.questions) for case in standard.cases) == len(asked[0]) + len(asked[1])
    assert set(find_leaks(standard.cases)) == {entry["image_name"][:-4] for entry in asked[1]}


def test_parquet_tells_images_by_their_bytes_and_needs_a_place_for_pictures(read, tmp_path):
    found = read(layouts.parquet)
    assert {word: case.split for word, case in by_word(found).items()} == dict(zip(WORDS, ("train", "train", "test")))
    with Image.open(by_word(found)["alpine"].image) as image:
        assert (np.asarray(image) == layouts.pixels(0)).all()
    assert "1 x its image is also asked about in test" in count_notes(found.notes)
    standard = read(layouts.parquet, splits="standard")
    assert len(standard.cases) == 4 and len(find_leaks(standard.cases)) == 1
    with pytest.raises(CaseError, match="root=folder"):
        read_cases(tmp_path / "parquet")


def test_reports_of_iu_xray_in_both_layouts(read):
    found = read(layouts.r2gen)
    assert [(case.group, case.split) for case in found.cases] == list(zip(WORDS[::-1], ("test", "val", "train")))
    assert found.cases[2].questions[0].answer == "The alpine is clear." and found.cases[2].image.name == "0.png"
    assert count_notes(found.notes) == "3 x a case is one image, the study's first view"
    answers = [case.questions[0].answer for case in read(layouts.openi).cases]
    assert answers == [f"The {word} is clear." for word in WORDS]


def test_an_xml_with_entities_is_refused(read):
    bomb = '<!DOCTYPE e [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><eCitation>&b;</eCitation>'
    found = read(layouts.openi, lambda folder: put(folder, "ecgen-radiology/1.xml", bomb))
    assert len(found.cases) == 2 and "entities" in found.skipped[0]["reason"]


def test_mimic_cxr_has_patients_reports_and_labels_that_stay_where_its_report_says_nothing(read):
    found = read(layouts.mimic_cxr)
    case = by_word(found)["borrow"]
    assert (case.id, case.group, case.split, case.image.stem) == ("s55555555", "p22222222", "val", "borrow")
    answers = {question.id: question.answer for question in case.questions}
    assert answers == {"report": "The borrow is clear.", "presence-edema": "Yes", "presence-pneumonia": "No"}

    def change(folder):
        said = ("The lungs are clear.\n\nNo effusion.", "Findings: All is well.", "INDICATION: cough.\n")
        for report, text in zip(sorted(folder.glob("files/*/*/*.txt")), said):
            report.write_text(text)

    found = read(layouts.mimic_cxr, change)
    said = [case.questions[0].answer for case in found.cases]
    assert said == ["The lungs are clear. No effusion.", "All is well.", "Yes"]
    assert "report dropped" in found.dropped[0]["reason"]


@pytest.mark.parametrize(("report", "part"), [
    ("FINDINGS:  a\n b\nIMPRESSION: c", "a b"), ("IMPRESSION: c\n d", "c d"), ("FINDINGS:\n\nIMPRESSION: c", "c"),
    ("INDICATION: Patient with: cough.\nFINDINGS AND IMPRESSION: Clear.\nRECOMMENDATION(S): none", "Clear."),
    ("no heading at all", "no heading at all"), ("Findings: Clear.\n\nImpression: none", "Clear."),
    ("EXAMINATION: CHEST\n\nINDICATION: cough\n\nThe lungs are clear.\n", "The lungs are clear."), ("", ""),
])
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

    def as_the_sample(folder):
        (folder / "Data_Entry_2017.csv").rename(folder / "sample_labels.csv")
        (folder / "BBox_List_2017.csv").unlink()

    assert len(read(layouts.nih, as_the_sample).cases) == 3


def test_vindr_asks_what_two_radiologists_saw(read):
    found = read(layouts.vindr)
    case = next(case for case in found.cases if case.id == "borrow")
    assert [(x.label, x.box) for x in case.lesions] == [("Hernia", (3, 4, 7, 7)), ("Hernia", (3, 4, 8, 7))]
    assert [(q.text, q.answer) for q in case.questions][0] == ("Does this image show hernia?", "Yes")
    assert not any("cardiomegaly" in question.text for question in case.questions)
    assert "3 x one radiologist only marked it" in count_notes(found.notes)


def test_coco_polygons_become_masks_boxes_stay_boxes_and_another_size_is_refused(read):
    found = read(layouts.coco)
    boxed, drawn, _ = found.cases
    assert boxed.lesions[0].box == (3, 4, 6, 7) and boxed.lesions[0].mask is None
    assert lesion_mask(drawn)[4:11, 3:9].all() and lesion_mask(drawn).sum() == 6 * 7
    assert [mask_source(case) for case in (boxed, drawn)] == ["box", "polygon"]
    assert [question.answer for question in drawn.questions] == ["Yes", "No"]

    def change(folder):
        text = (folder / "instances_train.json").read_text()
        put(folder, "instances_train.json", text.replace('"width": 24', '"width": 240', 1))

    found = read(layouts.coco, change)
    assert len(found.cases) == 2 and "boxes would not fit" in found.skipped[0]["reason"]


def test_options_are_read_with_the_answer_as_a_letter_or_a_text(read, tmp_path):
    for build in (layouts.pmc_vqa, layouts.omnimedvqa, layouts.mmmu):
        found = read(build)
        for case in found.cases:
            (asked,) = case.questions
            assert asked.kind == "choice" and asked.answer in WORDS and asked.answer in asked.options
            assert asked.answer in asked.text and "<image" not in asked.text and "A:" not in str(asked.options)
        write_cases(tmp_path / "kept.jsonl", found.cases, root=tmp_path)
        assert read_cases(tmp_path / "kept.jsonl").cases[0].questions == found.cases[0].questions
    assert prompt_of(asked) == f"Is it {asked.answer}?\nA. ochre\nB. {asked.answer}"


@pytest.mark.parametrize(("options", "answers", "right"), [
    (["left", "right"], ["B"], "right"), (["left", "right"], ["b. Right"], "right"),
    (["A: left", "B: up"], ["(A)"], "left"), (["left", "right"], ["right", "B"], "right"),
    (["left", "right"], ["right", "A"], None), (["left", "right"], ["A. right"], None),
    (["E. coli", "yeast"], ["E. coli."], "E. coli"), (["left", "left."], ["A"], None), (["left"], ["A"], None),
    (["left", "right"], ["C"], None), (["B", "A"], ["A"], None), (["No", "Yes"], ["yes."], "Yes"),
])  # fmt: skip
def test_an_answer_that_names_no_option_or_two_is_refused(options, answers, right):
    if right is None:
        with pytest.raises(CaseError):
            choice_question("q", "Which?", options, answers, "side")
    else:
        assert choice_question("q", "Which?", options, answers, "side").answer == right


def test_vqa_med_takes_the_first_answer_without_what_is_optional(read):
    found = read(layouts.vqa_med)
    told = [(case.split, case.questions[0].answer) for case in found.cases]
    assert told == list(zip(("train", "val", "test"), WORDS))


def test_sentences_with_boxes_are_lesions_and_references(read):
    for build in (layouts.ms_cxr, layouts.padchest_gr):
        cases = read(build).cases
        assert [case.split for case in cases] == ["train", "val", "test"] and len({case.group for case in cases}) == 3
        for case, word, label in zip(cases, WORDS, LABELS):
            assert word in case.questions[0].answer and case.lesions[0].label == label
            assert case.lesions[0].box == ((3, 4, 6, 7) if build is layouts.ms_cxr else (6, 5, 6, 10))


def test_labels_of_chexpert_and_boxes_of_rsna(read):
    found = read(layouts.chexpert)
    assert [[q.answer for q in case.questions].count("Yes") for case in found.cases] == [1, 1, 1]
    assert count_notes(found.notes) == "3 x a lateral view" and found.cases[1].group == "patient22222"
    found = read(layouts.rsna)
    said = [(case.questions[0].answer, len(case.lesions)) for case in found.cases]
    assert said == [("No", 0), ("Yes", 1), ("Yes", 1)]


@pytest.mark.parametrize("name", ["nih", "openi", "vindr", "rsna", "padchest_gr", "pmc_vqa"])
def test_of_two_pictures_of_one_name_none_is_guessed_and_copies_are_one(name, read):
    def change(folder, content=None):
        file = next(file for file in sorted(folder.rglob("*alpine*")) if file.suffix in (".png", ".dcm", ".dicom"))
        put(folder, f"elsewhere/{file.name}", content or file.read_bytes())

    assert len(read(getattr(layouts, name), change).cases) == 3
    found = read(getattr(layouts, name), lambda folder: change(folder, layouts.png(9)))
    assert len(found.cases) == 2 and "which is meant is not guessed" in found.skipped[0]["reason"]
    assert "elsewhere/alpine" in found.skipped[0]["reason"]


def test_coco_takes_no_picture_from_another_splits_folder(read):
    def change(folder):
        for n, word in enumerate(WORDS):
            (folder / f"images/{word}.png").rename(folder / f"{word}.tmp")
            put(folder, f"test/{word}.png", layouts.png(n + 5))
        (folder / "images").rmdir()
        put(folder, f"train/{WORDS[0]}.png", layouts.png(0))
        put(folder, f"images/{WORDS[1]}.png", layouts.png(1))
        put(folder, f"train/{WORDS[1]}.png", layouts.png(6))

    found = read(layouts.coco, change)
    assert [case.questions[0].text for case in found.cases] == ["Does this image show mass?"]
    reasons = [entry["reason"] for entry in found.skipped]
    assert "fits 2 files (images/borrow.png, train/borrow.png)" in reasons[0] and "no such image file" in reasons[1]


def test_coco_looks_through_the_folder_once_a_list_and_not_once_a_picture(read, monkeypatch):
    real, named = shared.split_named, []
    monkeypatch.setattr(shared, "split_named", lambda *words: named.append(words) or real(*words))
    assert len(read(layouts.coco).cases) == 3 and len(named) == 2 + len(("images", "instances_train.json"))


def test_coco_lesions_are_those_the_user_names_or_a_guess_that_is_told(read):
    def change(folder):
        text = (folder / "instances_train.json").read_text()
        text = text.replace('"Hernia"', '"left lung"').replace('"Fibrosis"', '"ET tube"')
        put(folder, "instances_train.json", text.replace('"bbox": [3, 4, 6, 7]', '"bbox": [0, 0, 23, 19]', 1))

    found = read(layouts.coco, change)
    assert [case.lesions[0].label for case in found.cases if case.lesions] == ["Mass"]
    assert "not (ET tube, left lung): guessed from their names" in found.notes[0]["reason"]
    assert "Mass covers 91% of an image" in str(found.notes)
    named = read(layouts.coco, change, lesions=("left lung",))
    assert [case.lesions[0].label for case in named.cases if case.lesions] == ["left lung"]
    for build, why in ((layouts.coco, "LESIONS= names spot"), (layouts.kit, "has no LESIONS=")):
        with pytest.raises(CaseError, match=why):
            read(build, lesions=("spot",))


def test_a_run_length_mask_of_coco_is_its_pixels_as_numbers_and_as_text(read):
    runs = [20 * 3 + 4, 7, 13, 7, 20 * 24 - 20 * 3 - 4 - 27]  # column after column: two columns of seven
    for counts in (runs, packed(runs)):

        def change(folder, counts=counts):
            drawn = json.dumps({"size": [20, 24], "counts": counts})
            text = (folder / "instances_train.json").read_text()
            put(folder, "instances_train.json", text.replace("[[3, 4, 9, 4, 9, 11, 3, 11]]", drawn))

        found = read(layouts.coco, change)
        assert lesion_mask(found.cases[1])[4:11, 3:5].all() and lesion_mask(found.cases[1]).sum() == 14
        assert mask_source(found.cases[1]) == "mask"


def packed(runs):
    """Run lengths as COCO's text: five bits a character, differences to the last but one from the third on."""
    text = ""
    for n, run in enumerate(runs):
        value, more = run - (runs[n - 2] if n > 2 else 0), True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | 32 if more else bits) + 48)
    return text
