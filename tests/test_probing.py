"""Twins and wrong premises on answers whose scores are worked out by hand."""

from pathlib import Path

import pytest

from medalign_lite.cases.case import Case, Question
from medalign_lite.evaluate.short_answers import probe_counts, rejects_premise
from medalign_lite.text.facts import Fact

EFFUSION = Fact("effusion", "left", None, "small")


def case(name, facts=(), questions=(), group=None):
    return Case(name, group or name, "test", Path("x.png"), tuple(questions), facts)


def twins(name):
    return [Question(f"{name}-{end}", "?", answer, "closed", "twin", "effusion") for end, answer in
            (("a", "Yes."), ("b", "No."))]  # fmt: skip


def test_a_pair_of_twins_is_right_where_both_are():
    asked = case("x", (EFFUSION,), [*twins("1-twin"), *twins("2-twin"), *twins("3-twin")])
    texts = {"1-twin-a": "Yes.", "1-twin-b": "No.", "2-twin-a": "Yes.", "2-twin-b": "Yes.", "3-twin-a": "Yes."}
    got = probe_counts(asked, texts)  # the third has half its answers
    assert (got["twins"], got["twins_right"]) == (2, 1)


@pytest.mark.parametrize(("answer", "rejects"), [
    ("There is no nodule.", True), ("No.", True), ("No nodule is seen.", True),
    ("There is no nodule in the left upper zone.", False),  # it may be elsewhere
    ("In the left upper zone.", False), ("There is no effusion.", False), ("A small nodule.", False), ("", False),
])  # fmt: skip
def test_a_wrong_premise_is_rejected_as_a_whole(answer, rejects):
    assert rejects_premise(answer, "nodule") is rejects
    question = Question("p", "Where is the nodule?", "There is no nodule.", "open", "premise", "nodule")
    got = probe_counts(case("x", (), [question]), {"p": answer})
    assert (got["premises"], got["premises_rejected"]) == (1, rejects)
