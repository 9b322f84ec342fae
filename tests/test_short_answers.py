"""Scorers side by side, twins and wrong premises, by hand; `test_metrics` holds the published LLaVA-Med cases."""

from pathlib import Path

import pytest

from medalign_lite.cases.case import Case, Question
from medalign_lite.evaluate import short_answers
from medalign_lite.evaluate.short_answers import lmms_normalise, probe_counts, score_answer, strict_recall
from medalign_lite.text.facts import Fact


@pytest.mark.parametrize(("text", "normal"), [
    ("Yes.", "yes"), ("  Chest   X-Ray\n", "chest x ray"), ("X-ray", "xray"), ("Left lung (upper lobe)", "left lung"),
    ("True", "yes"), ("yeah!", "yes"), ("Nope.", "no"), ("false", "no"), ("nope, never", "nope never"),
    ("the two lungs", "the two lungs"), ("(all of it)", ""), ("", ""),
])  # fmt: skip
def test_lmms_normalise(text, normal):
    assert lmms_normalise(text) == normal


@pytest.mark.parametrize(("candidate", "gold", "recall"), [
    ("left left left", "left lower", 1 / 2), ("Lower, LEFT zone", "left lower", 1), ("", "left", 0), ("left", "", 0),
    ("two two", "two two two", 2 / 3),
])  # fmt: skip
def test_strict_recall_earns_nothing_by_repeating(candidate, gold, recall):
    assert strict_recall(candidate, gold) == pytest.approx(recall)


@pytest.mark.parametrize(("candidate", "gold", "kind", "llavamed", "strict", "lmms"), [
    ("Yes.", "yes", "closed", 1, 1, 1),
    ("Yes, there is.", "yes", "closed", 1, 1, 0),
    ("There is an effusion.", "yes", "closed", 0, 1, 0),  # an answer without the word
    ("It is abnormal.", "no", "closed", 1, 0, 0),  # "no" as a substring
    ("left", "Left", "closed", 0, 1, 1),  # a choice: the published rule knows yes and no alone
    ("left left lower", "left lower zone", "open", 3 / 4, 2 / 3, 0),  # the published recall rewards repetition
    ("The left lower zone", "left lower zone", "open", 1, 1, 0),
    ("Left lower zone.", "left lower zone", "open", 1, 1, 1),
])  # fmt: skip
def test_scorers_side_by_side(candidate, gold, kind, llavamed, strict, lmms):
    got = score_answer(candidate, gold, kind)
    assert got == pytest.approx({"llavamed": llavamed, "strict": strict, "lmms": lmms})


def test_a_report_is_no_short_answer():
    with pytest.raises(ValueError, match="score reports by their facts"):
        score_answer("x", "y", "report")


def case(*questions):
    return Case("x", "x", "test", Path("x.png"), questions, (Fact("effusion", "left", None, "small"),))


def twins(name):
    answers = (("a", "Yes."), ("b", "No."))
    return [Question(f"{name}-{end}", "?", answer, "closed", "twin", "effusion") for end, answer in answers]


def test_a_pair_of_twins_is_right_where_both_are():
    asked = case(*twins("1-twin"), *twins("2-twin"), *twins("3-twin"))
    texts = {"1-twin-a": "Yes.", "1-twin-b": "No.", "2-twin-a": "Yes.", "2-twin-b": "Yes.", "3-twin-a": "Yes."}
    got = probe_counts(asked, texts)  # the third has half its answers
    assert (got["twins"], got["twins_right"]) == (2, 1)


@pytest.mark.parametrize(("answer", "rejects"), [
    ("There is no nodule.", True), ("No.", True), ("No nodule is seen.", True),
    ("There is no nodule in the left upper zone.", False),  # it may be elsewhere
    ("In the left upper zone.", False), ("There is no effusion.", False), ("A small nodule.", False), ("", False),
])  # fmt: skip
def test_a_wrong_premise_is_rejected_as_a_whole(answer, rejects):
    assert short_answers.rejects_premise(answer, "nodule") is rejects
    question = Question("p", "Where is the nodule?", "There is no nodule.", "open", "premise", "nodule")
    got = probe_counts(case(question), {"p": answer})
    assert (got["premises"], got["premises_rejected"]) == (1, rejects)
