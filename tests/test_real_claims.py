"""Claims on real images: what a question is about, constant answers, and a page that follows from its rows."""

import json
import shutil
from dataclasses import replace

import layouts
import numpy as np
import pytest

from medalign_lite.cases.case import Case, Lesion, Question
from medalign_lite.cases.readers import read_cases
from medalign_lite.evaluate.metrics import ratios
from medalign_lite.files import ROOT
from medalign_lite.model.lvlm import load_lvlm
from medalign_lite.model.rollout import answer
from studies.claims.hypotheses import CLOSED
from studies.claims.verdicts import counts_of
from studies.real import arms, lab, page
from studies.real.base import TuneSettings, tuned_base
from studies.real.cohort import PARTS, Cohort, read_cohort
from studies.real.exam import COMMONEST_TO_SAME, commonest_to_the_same

SLAKE = ROOT / "docs/claims/slake"
BOX = (1.0, 1.0, 3.0, 3.0)


def cohort_of(lesions, organs):
    case = Case("c", "c", "test", ROOT / "none.png", (), lesions=tuple(Lesion(label, BOX) for label in lesions))
    return case, Cohort("SLAKE", {}, {"c": tuple(Lesion(label, BOX) for label in organs)})


@pytest.mark.parametrize(("asked", "answer", "topic", "labels"), [
    ("Is the lung healthy?", "No", "Abnormality", ("Lung Cancer",)),
    ("Is the lung healthy?", "Yes", "Abnormality", ()),  # then nothing that is marked makes it so
    ("Does the picture contain liver?", "No", "Organ", ()),
    ("Does the picture contain liver?", "Yes", "Organ", ("Liver",)),
    ("Where is the abnormality?", "Left Lung", "Position", ("Lung Cancer",)),
    ("What color is the left lung?", "Black", "Color", ("Left Lung",)),
    ("What is the largest organ?", "Lung", "Size", ("Left Lung", "Right Lung")),
    ("How many lungs are there?", "2", "Quantity", ("Left Lung", "Right Lung")),
    ("What does the liver do?", "It makes bile", "KG", ()),  # knowledge: no picture says it
    ("What modality is this?", "CT", "Modality", ()),
    ("What diseases are included in the picture?", "Lung Cancer", "Abnormality", ("Lung Cancer",)),
])
def test_a_question_is_about_what_it_or_its_answer_names(asked, answer, topic, labels):
    case, cohort = cohort_of(["Lung Cancer"], ["Left Lung", "Right Lung", "Liver"])
    assert cohort.evidence(case, Question("q", asked, answer, "open", topic)) == labels
    assert {m.label for m in cohort.marked(case, labels).lesions} == {"Lung Cancer", *labels}


def test_parts_share_no_patient_and_slakes_organs_are_marked_apart(tmp_path, tiny_folder):
    layouts.slake(tmp_path)
    extra = json.loads((tmp_path / "train.json").read_text())
    for n in range(3):  # more training images, so that both halves have one
        place = tmp_path / f"imgs/more{n}"
        place.mkdir()
        layouts.put(tmp_path, f"imgs/more{n}/source.jpg", layouts.encoded(layouts.pixels(9 + n), "JPEG"))
        (place / "mask.png").write_bytes((tmp_path / "imgs" / layouts.WORDS[0] / "mask.png").read_bytes())
        (place / "detection.json").write_text(json.dumps([{"Liver Cancer": BOX}, {"Liver": [5, 4, 5, 5]}]))
        extra.append(extra[0] | {"img_name": f"more{n}/source.jpg", "qid": 50 + n})
    (tmp_path / "train.json").write_text(json.dumps(extra))
    found = read_cohort(tmp_path, out=tmp_path / "out", model=str(tiny_folder), seed=7, answer_tokens=8)
    groups = [{case.group for case in found.parts[part]} for part in PARTS]
    assert all(groups) and sum(map(len, groups)) == len(set().union(*groups)) == 6
    assert {mark.label for marks in found.organs.values() for mark in marks} == {"Liver"}
    assert all(mark.label == "Liver Cancer" for part in PARTS for case in found.parts[part] for mark in case.lesions)
    assert found.key != replace(found, organs={}).key


def test_the_commonest_answer_to_the_same_words():
    def case(name, answer, text="How?", kind="open"):
        return Case(name, name, "train", ROOT / "none.png", (Question("q", text, answer, kind, "t"),))

    training = [case("a", "x"), case("b", "y"), case("c", "y"), case("d", "Yes", "Is it?", "closed")]
    held = (case("e", "z"), case("f", "z", "Where?"), case("g", "No", "So?", "choice"))
    asked = [(one, one.questions[0]) for one in held]
    assert [(p.case_id, p.text, p.arm) for p in commonest_to_the_same(training, asked)] == [
        ("e", "y", COMMONEST_TO_SAME), ("f", "y", COMMONEST_TO_SAME)]


def test_a_base_learns_what_it_is_taught_and_goes_on_after_a_kill(tmp_path):
    cases = read_cases(ROOT / "data_samples/real").cases[:2]
    settings = TuneSettings(passes=80, images=2, questions=8, checkpoint_every=40)
    with pytest.raises(ValueError, match="2 images are too few to make a base from: give MODEL=, or 3"):
        tuned_base(cases, tmp_path / "none", replace(settings, images=3))
    folder = tuned_base(cases, tmp_path / "base", settings)
    lvlm = load_lvlm(str(folder))
    said = [(answer(lvlm, case.image, q.text).strip(".").lower(), q.answer.strip(".").lower())
            for case in cases for q in case.questions]
    assert sum(a == b for a, b in said) > len(said) * 0.6, said
    (folder / "model.safetensors").rename(tmp_path / "first.safetensors")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()  # killed before it was written: the checkpoint of the last step is there
    again = tuned_base(cases, tmp_path / "base", settings)
    assert (again / "model.safetensors").read_bytes() == (tmp_path / "first.safetensors").read_bytes()


def test_every_arm_is_said_and_every_claim_is_about_arms():
    assert set(arms.SAYS) == {arms.BASE, *arms.ARMS}
    named = {arm for claim in arms.CLAIMS for contrast in claim.contrasts for arm, _ in contrast.weights}
    assert named <= set(arms.SAYS) and all(claim.matters == 0.02 for claim in arms.CLAIMS)


def test_settings_are_compared_by_what_was_asked():
    asked = {"closed_right": [1, 0], "closed": [1, 1]}
    assert lab.figures_of(asked) == {CLOSED: 0.5}, "no NaN where nothing open was asked"


def test_the_settings_of_a_set_without_open_questions_are_shown():
    val = {"closed_accuracy": 0.5}
    tried = {"base": [["", val]], "dpo": [["rate 1", {"closed_accuracy": 0.75}], ["x", None]]}
    told = page._settings({"settings": {}, "tried": tried})
    assert "Of 1 settings 1 are\nabove it." in told and "| `dpo` | rate 1 | 0.750 | – |" in told
    assert "Nothing was tried" in page._settings({"settings": {}, "tried": {}})


def test_a_page_is_written_again_without_running_anything(tmp_path):
    folder = tmp_path / "claims/real-x/report"
    shutil.copytree(SLAKE, folder)
    told = []
    lab.main({"CASES": "nowhere", "OUT": str(tmp_path), "REPORT": "1"}, say=told.append)
    assert told == [f"claims: {folder / 'RESULTS.md'}"]
    assert (folder / "RESULTS.md").read_text() == page.text_of(SLAKE, "forest.png")


def test_what_a_data_set_calls_things_breaks_no_table():
    assert page.plain("a|b <i>\x1b") == "a&#124;b &lt;i&gt;\\x1b"


def test_the_committed_page_follows_from_its_rows():
    assert page.text_of(SLAKE, "claims/slake/forest.png") == (ROOT / "docs/RESULTS_SLAKE.md").read_text()
    found = page.results_of(SLAKE)
    rows = [json.loads(line) for path in SLAKE.glob("*.jsonl") for line in path.open()]
    assert len({row["state"] for row in rows}) == 1, "one state of data, base and sizes"

    def closed(arm):  # counted anew from the raw rows
        return [float(ratios(counts_of(run, "test").sum(axis=0), [CLOSED])[CLOSED]) for run in found[arm].values()]

    text = (ROOT / "docs/RESULTS_SLAKE.md").read_text()
    for claim, other in (("R1", arms.BASE), ("R2", "dpo")):
        estimate = np.mean(closed("fire-mpo")) - np.mean(closed(other))
        line = next(line for line in text.splitlines() if line.startswith(f"| {claim} |"))
        assert f"{estimate:+.3f}" in line
