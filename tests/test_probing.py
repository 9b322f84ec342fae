"""Balanced yes/no, twins and wrong premises on answers whose scores are worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from medalign_lite.cases.case import Case, Question
from medalign_lite.evaluate.probing import balanced_cases, probe_counts, rejects_premise, yes_no_scores, yes_no_table
from medalign_lite.text.claims import yes_no
from medalign_lite.text.facts import FINDINGS, Fact

EFFUSION = Fact("effusion", "left", None, "small")


def case(name, facts=(), questions=(), group=None):
    return Case(name, group or name, "test", Path("x.png"), tuple(questions), facts)


def presence(name, answer, finding="effusion", **options):
    return Question(name, "Is there one?", answer, "closed", "presence", finding, **options)


POOL = [
    *(case(f"with-{i}", (EFFUSION,)) for i in range(5)),
    *(case(f"without-{i}") for i in range(3)),
    case("unseen", (Fact("effusion", "left", visible=False),)),
    case("unknown", None),
]


def test_balanced_asks_as_often_where_the_finding_is_as_where_it_is_not():
    made = balanced_cases(POOL, seed=3)
    asked = [(c, q) for c in made for q in c.questions]
    assert {q.finding for _, q in asked} == {"effusion"}  # no other finding is in any picture
    assert len(asked) == 6 and not {c.id for c in made} & {"unseen", "unknown"}
    assert sum(yes_no(q.answer) for _, q in asked) == 3
    assert all(yes_no(q.answer) == bool(c.facts) for c, q in asked)
    assert {q.text for _, q in asked} == {"Is there a pleural effusion?"}
    assert made == balanced_cases(POOL[::-1], seed=3) and made != balanced_cases(POOL, seed=4)
    assert len(balanced_cases(POOL, seed=3, per_finding=2)) == 2


@pytest.mark.parametrize(("answer", "yes_ratio"), [("Yes.", 1.0), ("No.", 0.0)])
def test_a_constant_answer_scores_one_half(answer, yes_ratio):
    made = balanced_cases(POOL, seed=3)
    _, table = yes_no_table(made, {(c.id, q.id): answer for c in made for q in c.questions})
    got = yes_no_scores(table.sum(axis=0)[FINDINGS.index("effusion")])
    assert (got["accuracy"], got["balanced_accuracy"], got["yes_ratio"]) == (0.5, 0.5, yes_ratio)


def test_popes_scores_by_hand():
    questions = [presence("a", "Yes."), presence("b", "Yes."), presence("c", "No."), presence("d", "No."),
                 presence("e", "Yes.", visible=False), presence("f", "Yes.", "nodule")]  # fmt: skip
    said = {"a": "Yes.", "b": "No.", "c": "There is no effusion.", "d": "Hard to say.", "e": "No.", "f": "Yes."}
    cases = [case("x", (), questions[:3], "g"), case("y", (), questions[3:], "g")]
    answers = {(c.id, q.id): said[q.id] for c in cases for q in c.questions}
    groups, table = yes_no_table(cases, answers)
    assert groups == ("g",)
    assert table[0, FINDINGS.index("effusion")].tolist() == [2, 1, 2, 1, 1]  # what says neither is wrong, and no yes
    got = yes_no_scores(table.sum(axis=0))
    effusion = {name: values[FINDINGS.index("effusion")] for name, values in got.items()}
    assert effusion == pytest.approx({"accuracy": 0.5, "balanced_accuracy": 0.5, "precision": 1.0, "recall": 0.5,
                                      "f1": 2 / 3, "yes_ratio": 0.25})  # fmt: skip
    assert np.isnan(got["accuracy"][FINDINGS.index("fracture")])
    assert not yes_no_table(cases, {})[1].any()


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
