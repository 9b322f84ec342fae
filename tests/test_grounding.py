"""Changed answers and counterfactual truth, by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medalign_lite.cases.case import Case, Question
from medalign_lite.evaluate.grounding import answer_changed, changed_case, counterfactual_case
from medalign_lite.evaluate.metrics import Margins, Prediction, count, ratios
from medalign_lite.text.facts import Fact

NODULE = Fact("nodule", "right", "upper", "small")
EFFUSION = Fact("effusion", "left", None, "large")
QUESTIONS = (
    Question("report", "Describe.", "A small nodule in the right upper zone.", "report", "report"),
    Question("there", "Is there a nodule?", "Yes.", "closed", "presence", "nodule"),
    Question("on-right", "Is there a nodule on the right?", "Yes.", "closed", "on-side", "nodule"),
    Question("on-left", "Is there a nodule on the left?", "No.", "closed", "on-side", "nodule"),
    Question("gone", "Is the picture free of a nodule?", "No.", "closed", "absence", "nodule"),
    Question("side", "Which side is the nodule on?", "Right.", "open", "side", "nodule"),
    Question("zone", "In which zone is the nodule?", "Upper.", "open", "zone", "nodule"),
    Question("where", "Where is the nodule?", "Right upper.", "open", "where", "nodule"),
    Question("size", "How large is the nodule?", "Small.", "open", "size", "nodule"),
    Question("effusion", "Is there an effusion?", "Yes.", "closed", "presence", "effusion"),
    Question("odd", "Is it odd?", "Yes.", "closed", "oddness", "nodule"),
)  # fmt: skip
CASE = Case("a", "a", "test", Path("x.png"), QUESTIONS, (NODULE, EFFUSION))


@pytest.mark.parametrize(("kind", "first", "second", "changed"), [
    ("closed", "Yes.", "Yes, there is.", False), ("closed", "Yes.", "There is no nodule.", True),
    ("closed", "left", "Left.", False), ("closed", "Yes.", "Unsure", True),
    ("open", "Upper zone.", "upper zone", False), ("open", "upper", "lower", True),
    ("report", "A small left effusion.", "There is an effusion on the left, which is small. No nodule.", False),
    ("report", "A small left effusion.", "A large left effusion.", True),
    ("report", "A small left effusion.", "", True),
])  # fmt: skip
def test_an_answer_has_changed_when_it_says_something_else(kind, first, second, changed):
    assert answer_changed(kind, first, second) is answer_changed(kind, second, first) is changed


def test_change_under_the_lesion_minus_under_the_control():
    said = {  # question: real, lesion, control
        "there": ("Yes.", "No.", "Yes."), "on-right": ("Yes.", "No.", "No."), "side": ("Right.", "Left.", "right"),
        "zone": ("Upper.", "Upper.", "Lower."), "size": ("Small.", "small", "Small."), "where": ("Right.", "Left."),
    }  # fmt: skip
    predictions = [
        Prediction("a", name, text, condition=condition) for name, texts in said.items()
        for condition, text in zip(("real", "lesion", "control"), texts, strict=False)
    ]
    got = ratios(count([CASE], predictions, arm="base").table.sum(axis=0))  # "where" lacks its control: left out
    names = ("change_lesion", "change_control", "change_selectivity")
    assert [float(got[name]) for name in names] == pytest.approx([3 / 5, 2 / 5, 1 / 5])
    assert got["change_grounded"] == pytest.approx(2 / 5)  # "there" and "side"


MARGINS = np.array([  # m, m′, m°: won, a tie, lost although far apart, won
    (3.0, 1.0, 2.5), (1.0, 0.5, 0.5), (4.0, 3.0, -2.0), (0.2, -0.1, 0.1),
])  # fmt: skip


def grounding(margins, **more):
    cases = [replace(CASE, id=str(i), group=str(i)) for i in range(len(margins))]
    rows = [Margins(str(i), str(i), "base", *map(float, row)) for i, row in enumerate(margins)]
    return ratios(count(cases, [], arm="base", margins=rows, **more).table.sum(axis=0))


@pytest.mark.parametrize("scale", [0.25, 7.0, np.array([[0.1], [3.0], [0.01], [50.0]])])
def test_scale_buys_selectivity_and_no_grounding(scale):
    plain, scaled = grounding(MARGINS), grounding(MARGINS * scale)
    assert plain["grounding_probability"] == scaled["grounding_probability"] == 2.5 / 4
    nats = ((MARGINS[:, 2] - MARGINS[:, 1]) * np.ravel(scale)).mean()
    assert scaled["grounding_selectivity"] == pytest.approx(nats) and nats != plain["grounding_selectivity"]


def test_a_blind_model_and_a_detector_of_damage_are_at_one_half():
    for margins in ([(1.0, 1.0, 1.0)] * 3, [(1.0, -2.0, -2.0)] * 3):
        assert grounding(margins)["grounding_probability"] == 0.5
    assert np.isnan(grounding([])["grounding_probability"])


def test_the_fall_of_the_right_answer_is_one_of_probabilities():
    right = [Margins("0", "0", "base", 3.0, 0.0, 3.0), Margins("1", "1", "base", 3.0, 3.0, None)]  # ½ against .953
    assert grounding(MARGINS, right=right)["right_answer_fall"] == pytest.approx(1 / (1 + np.exp(-3.0)) - 0.5)


def test_blind_answers_change_nowhere():
    same = [Prediction("a", "there", "Yes.", condition=condition) for condition in ("real", "lesion", "control")]
    got = ratios(count([CASE], same, arm="base").table.sum(axis=0))
    assert (got["change_lesion"], got["change_control"], got["change_selectivity"]) == (0, 0, 0)
    assert np.isnan(ratios(count([CASE], same[:2], arm="base").table.sum(axis=0))["change_selectivity"])


WAS = {q.id: (q.answer, q.topic) for q in QUESTIONS} | {"report": ("", "report")}
PREMISE = ("There is no nodule.", "premise")


@pytest.mark.parametrize(("facts", "changed"), [
    (CASE.facts, {}),  # every known answer stays as it was
    ([EFFUSION], {"there": ("No.", "presence"), "on-right": ("No.", "on-side"), "gone": ("Yes.", "absence"),
                  "odd": None, **dict.fromkeys(("side", "zone", "where", "size"), PREMISE)}),
    ([replace(NODULE, side="left", zone="lower"), EFFUSION],
     {"on-right": ("No.", "on-side"), "on-left": ("Yes.", "on-side"), "side": ("Left.", "side"), "odd": None,
      "zone": ("Lower.", "zone"), "where": ("Left lower.", "where")}),
])  # fmt: skip
def test_truth_after_the_lesion_is_removed_or_moved(facts, changed):
    wanted = {name: told for name, told in (WAS | changed).items() if told}  # what cannot be known is not asked
    assert {q.id: (q.answer, q.topic) for q in counterfactual_case(CASE, facts).questions} == wanted


def test_an_arm_that_looks_is_right_about_the_changed_picture_and_a_blind_one_is_not():
    closed = ("there", "on-right", "gone")
    changed = counterfactual_case(CASE, [EFFUSION])
    truth = {q.id: q.answer for q in changed.questions}
    blind = {q.id: q.answer for q in QUESTIONS}
    for said, accuracy in ((truth, 1), (blind, 0)):
        predictions = [Prediction("a", name, said[name], condition="hidden") for name in closed]
        got = ratios(count([changed], predictions, arm="base", condition="hidden").table.sum(axis=0))
        assert got["closed_accuracy"] == accuracy


def test_a_changed_case_keeps_the_report_and_what_is_about_the_finding():
    hidden, moved = (changed_case(CASE, "nodule", condition) for condition in ("hidden", "moved"))
    assert {q.id for q in CASE.questions} - {q.id for q in moved.questions} == {"effusion", "odd"}
    assert hidden.facts == (EFFUSION,) and moved.facts == (Fact("nodule", "left", "upper", "small"), EFFUSION)
    assert {q.id: q.answer for q in moved.questions}["on-left"] == "Yes."
    for finding, condition in (("fracture", "hidden"), ("nodule", "blank")):
        with pytest.raises(ValueError, match=f"{finding} cannot be {condition}"):
            changed_case(CASE, finding, condition)
    heart = replace(CASE, facts=(Fact("cardiomegaly", size="large"),))
    with pytest.raises(ValueError, match="has no side"):
        changed_case(heart, "cardiomegaly", "moved")
