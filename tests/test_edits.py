"""Minimal edits: the differ, corrections and counterfactuals of reports and answers, and the record contract D1-D6."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_text import random_facts

from medalign_lite.cases.case import Case, Lesion, Question
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.edits import records as contract
from medalign_lite.edits.records import build_records, check_record, read_records, write_records
from medalign_lite.edits.repair import corrected
from medalign_lite.edits.truths import BY_FACTS, BY_GOLD, Facts, Gold, edit_answer
from medalign_lite.text.answer_values import find_values
from medalign_lite.text.claims import judge
from medalign_lite.text.diff import diff_spans, edited_tokens, remove_spans, tokens
from medalign_lite.text.facts import Fact
from medalign_lite.text.reports import extract_claims
from medalign_lite.text.spans import NoEdit
from medalign_lite.world.text import BANKS, report


def correct(answer, truth, question=None):
    return truth_by(truth, question).correct(answer)


def counterfactual(answer, truth, rng, question=None):
    return truth_by(truth, question).falsify(answer, rng)


def truth_by(truth, question=None):
    """Of a gold answer in words, or of a table of facts; with a question both."""
    if isinstance(truth, str):
        return Gold(Question("q", "?", truth, "open", "topic"))
    return Gold(question, tuple(truth)) if question else Facts(tuple(truth))


EFFUSION = Fact("effusion", "right", size="small")
PNEUMOTHORAX = Fact("pneumothorax", "left", size="small")
NODULE = Fact("nodule", "left", "upper", "moderate")
HEART = Fact("cardiomegaly", size="large")
FRACTURE = Fact("fracture", "right", "mid")
ATELECTASIS = Fact("atelectasis", "right")


@pytest.mark.parametrize(("a", "b", "spans_a", "spans_b"), [
    ("does show a", "does not show a", [("show", "negation")], [("not show", "negation")]),
    ("A small right effusion.", "No effusion.", [("A small right", "negation")], [("No", "negation")]),
    ("In the right upper zone.", "In the left lower zone.", [("right", "side"), ("upper", "zone")],
     [("left", "side"), ("lower", "zone")]),
    ("A right-sided pacemaker", "A left-sided pacemaker", [("right", "side")], [("left", "side")]),
    ("mildly enlarged", "markedly enlarged", [("mildly", "severity")], [("markedly", "severity")]),
    ("A pacemaker.", "A nodule.", [("pacemaker", "finding")], [("nodule", "finding")]),
    ("Yes", "No", [("Yes", "negation")], [("No", "negation")]),
    ("CT", "MRI", [("CT", "other")], [("MRI", "other")]),
    ("Seen on the left side", "Seen on the left", [("left side", "side")], [("left", "side")]),
    ("same", "same", [], []),
])  # fmt: skip
def test_differ_examples(a, b, spans_a, spans_b):
    found_a, found_b = diff_spans(a, b)
    assert [(a[s:e], kind) for s, e, kind in found_a] == spans_a
    assert [(b[s:e], kind) for s, e, kind in found_b] == spans_b


WORDS = "a no not is right left upper small nodule effusion , . \n é 漢字 🫁 right-sided don't <b> \u202e ".split(" ")
texts = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join) | st.text(max_size=30)


@given(texts, texts)
def test_deleting_the_spans_leaves_the_same_string(a, b):
    spans_a, spans_b = diff_spans(a, b)
    assert remove_spans(a, spans_a) == remove_spans(b, spans_b) and len(spans_a) == len(spans_b)
    assert bool(spans_a) == (a != b)
    if a and b:
        for text, spans in ((a, spans_a), (b, spans_b)):
            assert all(0 <= s < e <= len(text) for s, e, _ in spans)
            assert all(x[1] <= y[0] for x, y in zip(spans, spans[1:], strict=False))


@given(texts)
def test_tokens_are_the_whole_text(text):
    assert "".join(text[s:e] for s, e in tokens(text)) == text
    assert edited_tokens(text, [(0, len(text), "other")] if text else []) <= len(tokens(text))


@pytest.mark.parametrize(("facts", "said", "corrected"), [
    ([EFFUSION], "A small left effusion.", "A small right effusion."),
    ([EFFUSION], "There is a large left-sided effusion.", "There is a small right-sided effusion."),
    ([NODULE], "A small nodule in the right mid zone.", "A moderate-sized nodule in the left upper zone."),
    ([NODULE], "An upper right nodule.", "An upper left nodule."),
    ([replace(NODULE, zone="lower")], "An upper left nodule.", "A lower left nodule."),
    ([HEART], "The heart is mildly enlarged.", "The heart is markedly enlarged."),
    ([], "A small right pleural effusion is seen.", "No pleural effusion is seen."),
    ([], "The heart is mildly enlarged.", "The heart is not enlarged."),
    ([], "There is mild cardiomegaly.", "There is no cardiomegaly."),
    ([], "Left-sided atelectasis is seen.", "No atelectasis is seen."),
    ([], "Pneumothorax on the left.", "No pneumothorax on the left."),
    ([], "There is evidence of a small left pneumothorax.", "There is no evidence of pneumothorax."),
    ([NODULE], "There is a nodule and a small effusion.", "There is a nodule and no effusion."),
    ([], "The lungs are clear except for a nodule.", "The lungs are clear."),
    ([EFFUSION], "No pleural effusion is seen.", "A small right pleural effusion is seen."),
    ([NODULE], "No nodule in the left upper zone.", "Moderate-sized nodule in the left upper zone."),
    ([FRACTURE], "There is no rib fracture.", "There is a right mid rib fracture."),
    ([ATELECTASIS], "There is no volume loss.", "There is right volume loss."),
    ([HEART], "The heart is not enlarged.", "The heart is markedly enlarged."),
    ([HEART], "Heart size is normal.", "Heart size is markedly increased."),
    ([HEART], "The heart is normal in size.", "The heart is markedly enlarged."),
    ([PNEUMOTHORAX], "Pneumothorax is not seen.", "A small left pneumothorax is seen."),
    ([HEART], "Cardiomegaly is absent.", "Marked cardiomegaly is present."),
    ([EFFUSION], "No effusion or pneumothorax.", "Small right effusion but no pneumothorax."),
    ([PNEUMOTHORAX], "No effusion or pneumothorax.", "No effusion but small left pneumothorax."),
    ([EFFUSION], "No nodule, effusion or pneumothorax.",
     "No nodule but small right effusion and no pneumothorax."),
    ([EFFUSION, PNEUMOTHORAX], "No effusion, pneumothorax or nodule.",
     "Small right effusion and small left pneumothorax but no nodule."),
    ([EFFUSION], "There is no evidence of effusion or nodule.",
     "There is evidence of a small right effusion but no nodule."),
    ([NODULE], "The lungs are clear.", "The lungs are clear except for a moderate-sized left upper zone nodule."),
    ([EFFUSION], "The film is free of effusion.", "The film shows a small right effusion."),
    ([EFFUSION], "No effusion. A small right effusion.", "A small right effusion."),
    ([], "No effusion. A small right effusion.", "No effusion."),
    ([EFFUSION], "No nodule. A left effusion. A right effusion.", "No nodule. A right effusion."),
])  # fmt: skip
def test_report_corrections(facts, said, corrected):
    edit = correct(said, facts)
    assert edit.chosen == corrected and (edit.rejected, edit.source, edit.how) == (said, "corrected", BY_FACTS)
    assert remove_spans(said, edit.spans_rejected) == remove_spans(corrected, edit.spans_chosen)


@pytest.mark.parametrize(("facts", "said", "evidence"), [
    ([EFFUSION], "A small left effusion.", ("effusion",)),
    ([EFFUSION], "No effusion. A nodule.", ("effusion",)),
    ([EFFUSION], "A right effusion and a nodule.", ()),
    ([EFFUSION, PNEUMOTHORAX], "No effusion or pneumothorax.", ("effusion", "pneumothorax")),
])
def test_evidence_is_what_can_be_seen_of_what_was_edited(facts, said, evidence):
    assert correct(said, facts).evidence == evidence


@pytest.mark.parametrize(("facts", "said", "reason"), [
    ([replace(EFFUSION, visible=False)], "No effusion.", "cannot be seen"),
    ([replace(EFFUSION, visible=False)], "A right effusion. A nodule.", "cannot be seen"),
    ([EFFUSION], "Bilateral effusions.", "no minimal repair"),
    ([EFFUSION], "Neither effusion nor nodule.", "no minimal repair"),
    ([EFFUSION], "A nodule and effusion.", "no minimal repair that reads as true"),
])
def test_what_has_no_minimal_correction_is_refused(facts, said, reason):
    with pytest.raises(NoEdit, match=reason):
        correct(said, facts)


@pytest.mark.parametrize("bank", BANKS)
def test_any_phantom_report_is_corrected_to_any_table_of_facts(bank):
    rng = np.random.default_rng(21)
    for _ in range(60):
        facts = random_facts(rng, 0.35, 1.0)
        said = report(random_facts(rng, 0.35, 1.0), rng, bank).text
        edit = correct(said, facts)
        if edit is None:
            continue
        assert all(judge(c, facts).verdict == "true" for c in extract_claims(edit.chosen))
        assert any(judge(c, facts).verdict == "false" for c in extract_claims(said))
        assert remove_spans(edit.chosen, edit.spans_chosen) == remove_spans(said, edit.spans_rejected)
        assert "  " not in edit.chosen and edit.chosen[0].isupper() and edit.chosen.endswith(".")
        assert correct(report(facts, rng, bank).text, facts) is None


SALAD = "no not a A the right left upper zone small nodule effusion heart enlarged is seen and or but , . clear lungs"


@given(st.lists(st.sampled_from(SALAD.split()), max_size=18))
def test_word_salad_is_corrected_truly_or_refused(words):
    text = " ".join(words)
    try:
        assert all(judge(c, [NODULE]).verdict == "true" for c in extract_claims(corrected(text, Facts((NODULE,)))))
    except NoEdit:
        pass


@pytest.mark.parametrize("bank", BANKS)
def test_counterfactual_reports_are_false_in_one_finding(bank):
    rng = np.random.default_rng(22)
    kinds = set()
    for _ in range(60):
        facts = random_facts(rng, 0.35, 1.0)
        said = report(facts, rng, bank).text
        edit = counterfactual(said, facts, rng)
        assert edit.chosen == said and edit.source == "counterfactual"
        false = {c.finding for c in extract_claims(edit.rejected) if judge(c, facts).verdict == "false"}
        assert len(false) == 1
        assert edit.evidence == tuple(false & {f.finding for f in facts})
        kinds |= {kind for *_, kind in edit.spans_rejected}
    assert {"negation", "side"} <= kinds


def test_counterfactual_answers_are_of_right_ones():
    rng = np.random.default_rng(0)
    assert counterfactual("Yes.", "Yes", rng).rejected == "No."
    assert counterfactual("On the left.", "On the left.", rng).rejected == "On the right."
    assert counterfactual("Mild.", "Mild.", rng).rejected in ("Moderate.", "Marked.")
    assert counterfactual("CT", "computed tomography", rng).rejected in ("MRI", "X-ray", "ultrasound")
    with pytest.raises(NoEdit, match="no false answer is known"):
        counterfactual("Pneumonia", "Pneumonia", rng)
    question = Question("q", "Where is the nodule?", "There is no nodule.", "open", "premise", "nodule")
    edit = counterfactual("There is no nodule.", [EFFUSION], rng, question)
    assert edit.rejected.startswith("There is a ") and edit.evidence == ()
    with pytest.raises(NoEdit, match="not verified true"):
        counterfactual("A nodule.", [], np.random.default_rng(0))
    with pytest.raises(NoEdit, match="not right"):
        counterfactual("Yes", "No", np.random.default_rng(0))


@pytest.mark.parametrize(("said", "gold", "corrected"), [
    ("Yes", "No", "No"), ("Yes.", "No", "No."), ("no", "Yes", "yes"), ("Left", "Right", "Right"),
    ("On the left.", "On the right.", "On the right."), ("Small.", "Large.", "Large."),
    ("In the right upper zone.", "In the left lower zone.", "In the left lower zone."),
    ("A left pacemaker.", "A right pacemaker.", "A right pacemaker."), ("On the left.", "There is no nodule.",
                                                                        "There is no nodule."),
    ("There is no device.", "A left pacemaker.", "A left pacemaker."), ("CT", "MRI", "MRI"), ("3", "2", "2"),
    ("Lung, Heart", "Lung, Spinal Cord", "Lung, Spinal Cord"), ("Right lung.", "left kidney", "Left kidney."),
    ("Yes, there is one", "No", "No"), ("There is a nodule.", "No", "No."),
    ("This is a CT scan.", "MRI", "This is an MRI."),
    ("It is an X-ray of the chest.", "CT, chest", "It is a CT of the chest."),
    ("Transverse plane", "Coronal Plane", "Coronal plane"), ("Two.", "three", "Three."),
    ("There are 2 left.", "4 left", "There are 4 left."),
    ("The nodule measures 3 cm.", "12 mm nodule measures", "The nodule measures 12 mm."),
    ("T1", "T2-weighted", "T2-weighted"),
    ("It is the liver.", "Spleen", "It is the spleen."), ("the lungs", "the kidneys", "the kidneys"),
    ("3.2 x 4.1 cm", "15 x 20 mm", "15 x 20 mm"),
])  # fmt: skip
def test_answer_corrections(said, gold, corrected):
    edit = correct(said, gold)
    assert (edit.chosen, edit.rejected, edit.how) == (corrected, said, BY_GOLD)
    assert remove_spans(said, edit.spans_rejected) == remove_spans(corrected, edit.spans_chosen)


@pytest.mark.parametrize(("question", "gold", "said"), [
    ("Does it show a liver?", "Yes", "Yes, a liver is present on the left side."),
    ("Which is smaller?", "Colon", "The largest is the colon."), ("How many nodules?", "2", "Multiple nodules."),
    ("Is there an effusion?", "No", "No effusion. The heart is normal."),
    ("Is the mass on the left?", "No", "The mass is on the right side."),
    ("Where is the abnormality?", "Upper left lobe", "Left lobe of the patient."),
    ("Where is the spleen?", "Right", "In the abdomen."), ("Is the spine straight?", "Yes", "The spine is curved."),
])  # fmt: skip
def test_what_nobody_can_tell_from_the_gold_answer_gives_no_pair(question, gold, said):
    with pytest.raises(NoEdit):
        edit_answer(Gold(Question("q", question, gold, "open", "topic")), said, np.random.default_rng(1))


@pytest.mark.parametrize(
    ("said", "gold"),
    [("2", "two"), ("X-Ray", "xray"), ("The lung.", "Lung"), ("No.", "No"), ("There is no nodule", "No"),
     ("Computed tomography.", "CT"), ("MR", "magnetic resonance imaging"), ("A chest radiograph", "Chest X-ray"),
     ("3 cm", "30 mm"), ("3.2 by 4 cm", "32 x 40 millimeters"), ("Axial", "Transverse Plane"), ("colon", "Large Bowel"),
     ("Liver, heart", "Heart and Liver"), ("The image shows two.", "2 shows")],
)
def test_equal_answers_are_not_corrected(said, gold):
    assert correct(said, gold) is None


@pytest.mark.parametrize(("said", "gold", "reason"), [
    ("Lung", "Lung, Spinal Cord", "other words"), ("Left", "Left lung", "other words"),
    ("In the left upper zone.", "On the left.", "other words"), ("Maybe", "Yes", "does not answer"),
    ("", "Yes", "does not answer"), ("CT", "", "empty"),
    ("a long story about all that may or may not be there", "CT", "long answer"),
    ("3.1 cm", "30 mm", "close to the gold"),
])  # fmt: skip
def test_answers_that_cannot_be_told_apart_are_refused(said, gold, reason):
    with pytest.raises(NoEdit, match=reason):
        correct(said, gold)


def make_case(**changes):
    questions = (Question("report", "Describe this film.", "A small right effusion.", "report", "report"),
                 Question("q1", "Is there an effusion?", "Yes.", "closed", "presence", "effusion"),
                 Question("q2", "Is there a nodule?", "No.", "closed", "presence", "nodule", visible=False))
    values = {"id": "c1", "group": "g1", "split": "train", "image": Path("c1.png"), "questions": questions}
    return Case(**(values | {"facts": (EFFUSION,)} | changes))


def make_rollout(text, question="report", sample=0, **decoding):
    return Rollout(f"c1/{question}", "c1", question, sample, text, [1, 2, 3], [0.0] * 3, decoding)


def sound_record():
    case, rollout = make_case(), make_rollout("A small left effusion. No nodule.")
    return contract.make_record(rollout, case, case.questions[0], correct(rollout.text, case.facts))


def test_a_sound_record_passes_and_survives_the_disk(tmp_path):
    record = sound_record()
    assert check_record(record, decode=lambda ids: " A small left effusion. No nodule.") is None
    assert record.evidence == ("effusion",) and record.verified["how"] == BY_FACTS
    assert contract.edit_share(record) == 1 / 8
    write_records(tmp_path / "records.jsonl", [record, replace(record, id="é🫁\u2028", evidence=None)])
    assert read_records(tmp_path / "records.jsonl") == [record, replace(record, id="é🫁\u2028", evidence=None)]


def test_a_line_that_is_no_record_is_an_error_with_its_number(tmp_path):
    write_records(tmp_path / "records.jsonl", [sound_record()])
    for bad in ('{"id": 1', '{"id": 1}', '{"colour": 1}', "[]"):
        (tmp_path / "bad.jsonl").write_text((tmp_path / "records.jsonl").read_text() + bad)
        with pytest.raises(ValueError, match="line 2 is not a preference record"):
            read_records(tmp_path / "bad.jsonl")


@pytest.mark.parametrize(("changes", "rule"), [
    ({"chosen": " "}, "D1: an empty"),
    ({"chosen": "A small left effusion. No nodule."}, "D1: chosen and rejected are the same"),
    ({"response": "Something else."}, "D1: neither side"),
    ({"source": "counterfactual"}, "D1: neither side"),
    ({"spans_chosen": ((8, 80, "side"),)}, "D3: a span"),
    ({"spans_chosen": ((8, 8, "side"),)}, "D3: a span"),
    ({"spans_chosen": ((8, 13, "colour"),)}, "D3: a span"),
    ({"spans_rejected": ()}, "D3: a side without spans"),
    ({"spans_chosen": ((2, 13, "side"),)}, "D2"),
    ({"verified": {"chosen": "true", "rejected": "unverifiable"}}, "D5"),
])
def test_each_rule_rejects(changes, rule):
    assert check_record(replace(sound_record(), **changes)).startswith(rule)


def test_length_sampled_text_and_held_out_groups_are_checked():
    record = sound_record()
    assert check_record(record, decode=lambda ids: "another text").startswith("D1")
    assert check_record(record, held_out=["g1"]).startswith("D6")
    long = "A small right effusion in a film of a person who stands upright."
    wrong = replace(record, chosen=long, spans_chosen=((0, len(long) - 1, "other"),), spans_rejected=((0, 21, "side"),),
                    rejected="A small left effusion.", response="A small left effusion.")  # fmt: skip
    assert check_record(wrong).startswith("D4") and check_record(wrong, max_edit_ratio=1.0) is None


def test_build_records_counts_what_it_rejects():
    rollouts = [
        make_rollout("A small left effusion."), make_rollout("A small left effusion.", sample=1),
        make_rollout("A small right effusion.", sample=2), make_rollout("No.", "q1"), make_rollout("Yes.", "q2"),
        make_rollout("Perhaps.", "q1", sample=1), make_rollout("A small left eff", sample=3, finished=False),
    ]
    records, rejected = build_records(rollouts, [make_case()])
    assert [(r.source, r.chosen, r.rejected) for r in records[::2]] == [
        ("corrected", "A small right effusion.", "A small left effusion."), ("corrected", "Yes.", "No."),
    ]  # fmt: skip
    assert records[1].source == "counterfactual" and records[1].chosen == "A small right effusion."
    assert [r.evidence for r in records] == [("effusion",)] * 3
    assert sorted(rejected.values()) == [1, 1, 1, 1] and len(rejected) == 4
    assert build_records(rollouts, [make_case()])[0] == records
    assert len(build_records(rollouts, [make_case()], counterfactual_share=0.0)[0]) == 2
    records, rejected = build_records(rollouts, [make_case(split="test")])
    assert not records and any(reason.startswith("D6") for reason in rejected)


def test_real_cases_get_evidence_from_the_lesions_that_the_question_speaks_of():
    questions = (Question("q1", "Is there a nodule in this image?", "Yes", "closed", "presence"),
                 Question("q2", "Where is the abnormality?", "Left Lung", "open", "position"),
                 Question("q3", "Is there an effusion?", "No", "closed", "presence"),
                 Question("q4", "Which modality is this?", "CT", "open", "modality"))
    lesions = (Lesion("Nodule", (1, 1, 2, 2)), Lesion("Mass", (5, 5, 2, 2)))
    case = make_case(facts=None, questions=questions, lesions=lesions)
    said = {"q1": "No", "q2": "Right Lung", "q3": "Yes", "q4": "MRI"}
    records, rejected = build_records([make_rollout(text, q) for q, text in said.items()], [case])
    assert not rejected
    assert [r.evidence for r in records] == [("Nodule",), ("Mass", "Nodule"), None, None]
    assert [r.chosen for r in records] == ["Yes", "Left Lung", "No", "CT"]


def test_validation_gives_records_and_a_group_in_two_splits_does_not():
    said = [make_rollout("A small left effusion.")]
    assert len(build_records(said, [make_case(split="val")])[0]) == 1
    twice = [make_case(), replace(make_case(split="val"), id="another")]
    records, rejected = build_records(said, twice)
    assert not records and list(rejected) == ["D6: the group is held out"]


@pytest.mark.parametrize(("said", "others"), [
    ("3", {"2", "4"}), ("Two nodules.", {"Three nodules."}), ("One", {"Zero", "Two"}), ("4 mm", {"2 mm", "8 mm"}),
    ("1.5 x 3 cm", {"0.75 x 1.5 cm", "3 x 6 cm"}), ("Axial", {"Coronal", "Sagittal"}), ("T2", {"T1", "FLAIR", "DWI"}),
    ("An MRI.", {"A CT.", "An X-ray.", "An ultrasound."}), ("Chest", {"Abdomen", "Head", "Pelvis", "Neck"}),
])  # fmt: skip
def test_right_answers_get_another_value_that_is_verified_false(said, others):
    made = {counterfactual(said, said, np.random.default_rng(seed)).rejected for seed in range(40)}
    assert made == others
    for rejected in made:
        truth_by(said).verify(said, rejected, said)


@given(st.text(max_size=40) | st.lists(st.sampled_from("CT 3 cm x mm 2.5 two liver lung T2 left of - .".split()))
       .map(" ".join))  # fmt: skip
def test_values_of_any_text_lie_in_it_and_do_not_overlap(text):
    found = find_values(text)
    assert all(0 <= v.start < v.end <= len(text) for v in found)
    assert all(a.end <= b.start for a, b in zip(found, found[1:]))
