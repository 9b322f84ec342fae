"""Failures: each kind is told from the two answers, what cannot be judged is left out."""

from dataclasses import replace

import pytest
from PIL import Image

from medalign_lite.cases.case import Case, Question
from medalign_lite.evaluate.metrics import Prediction
from medalign_lite.show.failures import SHOWN, failure_kind, false_spans, find_failures
from medalign_lite.text.facts import Fact

TRUE, FALSE = "There is a left effusion.", "There is a right nodule."


@pytest.fixture
def case(tmp_path):
    Image.new("RGB", (40, 40), (90, 90, 90)).save(tmp_path / "a.png")
    facts = (Fact("effusion", "left", size="small"), Fact("fracture", "right", "upper", visible=False))
    questions = (Question("report", "Describe the film.", TRUE, "report", "report"),
                 Question("q0", "Is there an effusion?", "Yes.", "closed", "presence"),
                 Question("q1", "Where is it?", "Left.", "open", "side"))
    return Case("c", "g", "test", tmp_path / "a.png", questions, facts, folder=tmp_path)


@pytest.mark.parametrize(("question", "base", "aligned", "kind"), [
    (0, TRUE, f"{TRUE} {FALSE}", "new false finding"),
    (0, FALSE, f"{TRUE} {FALSE}", "false finding kept"),
    (0, TRUE, "No effusion.", "true finding lost"),
    (0, TRUE, TRUE, None),
    (0, f"{TRUE} {FALSE}", TRUE, "false finding gone"),
    (0, FALSE, "There is a right rib fracture. " + TRUE, "false finding gone"),  # the faint one is not counted
    (1, "Yes.", "No.", "wrong answer, the base was right"),
    (1, "No.", "No.", "wrong answer of both"),
    (1, "No.", "Yes.", "wrong answer put right"),
    (1, "Yes.", "Yes.", None),
    (2, "Left.", "Right.", None),
])  # fmt: skip
def test_kinds(case, question, base, aligned, kind):
    assert failure_kind(case, case.questions[question], base, aligned) == kind


def test_the_gallery_shows_a_few_of_each_with_picture_truth_and_false_words(case):
    cases = [replace(case, id=f"c{n}") for n in range(4)] + [replace(case, id="s", split="shifted")]
    texts = {"base": (TRUE, "No."), "aligned": (FALSE, "No.")}
    said = [Prediction(c.id, q, text, arm) for arm, pair in texts.items() for c in cases
            for q, text in zip(("report", "q0"), pair, strict=True)]
    found = find_failures(cases, said, aligned="aligned", each=2)
    kinds = ["new false finding"] * 2 + ["wrong answer of both"] * 2
    assert [(f.case_id, f.note) for f in found] == list(zip(["c0", "c1"] * 2, kinds, strict=True))
    assert found[0].truth == "small left effusion; fracture (too faint to see)" and found[2].truth == "Yes."
    assert found[0].png.startswith(b"\x89PNG")
    assert find_failures([replace(case, facts=None)], said, aligned="aligned") == []
    said = [Prediction("c", "q0", "No.", "base"), Prediction("c", "q0", "Yes.", "aligned")]
    (found,) = find_failures([case], said, aligned="aligned", kinds=SHOWN)
    assert (found.note, found.base_false, found.aligned_false) == ("wrong answer put right", ((0, 3, "false"),), ())
    assert found.alt == "The image of case c with no lesion outlined"


@pytest.mark.parametrize(("base", "aligned", "kind"), [
    ("A left effusion.", "A right effusion.", "new false finding"),
    ("A left effusion.", "No fracture.", "true finding lost"),
    ("A left effusion.", "A left effusion and a fracture.", None),  # the report says nothing of a fracture
])  # fmt: skip
def test_a_reference_report_stands_in_for_facts(case, base, aligned, kind):
    assert failure_kind(replace(case, facts=None), case.questions[0], base, aligned) == kind


@pytest.mark.parametrize(("question", "text", "false"), [
    (0, f"{TRUE} {FALSE}", ["right nodule"]),
    (0, "There is a right effusion. No effusion.", ["right", "No effusion"]),
    (0, "A large left effusion.", ["large"]),
    (0, "There is a right upper rib fracture.", []),  # too faint to see: neither right nor wrong
    (1, "No.", ["No."]),
    (1, "Yes.", []),
    (2, "Right.", []),
])  # fmt: skip
def test_the_false_words_of_an_answer(case, question, text, false):
    assert [text[a:b] for a, b, _ in false_spans(text, case, case.questions[question])] == false
