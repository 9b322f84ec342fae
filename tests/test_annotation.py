"""Judgements, journals and undo: nothing said is lost, and nothing is taken for another answer's; and how far people
agree, against figures from the literature."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_edits import make_case, make_rollout
from test_llm_edits import run  # noqa: F401

from medalign_lite.cases.case import Question
from medalign_lite.editors import notes as written
from medalign_lite.editors import people as human_edits
from medalign_lite.editors.agree import agreement, cohen_kappa, krippendorff_alpha
from medalign_lite.editors.notes import Change, Journal, Judgement, NoteError, item_key, list_items, mark, replace_words
from medalign_lite.editors.people import PeopleEditor
from medalign_lite.edits.records import build_records, check_record, read_records
from medalign_lite.text.spans import make_changes
from medalign_lite.train.data import read_pairs

SAID = "A small left effusion. No nodule."
LEFT = Change(8, 12, "right")


@pytest.fixture
def case(picture):
    """A case with facts: a small right effusion."""
    return make_case(image=picture, folder=picture.parent)


def items_of(case, *texts):
    return list_items([make_rollout(text) for text in texts], [case])


def test_a_change_takes_the_place_of_those_it_touches():
    said = replace_words(Judgement("unsure"), SAID, [LEFT])
    assert said.verdict == "wrong" and make_changes(SAID, said.changes) == "A small right effusion. No nodule."
    said = replace_words(said, SAID, [Change(26, 32, "mass")])
    assert make_changes(SAID, said.changes) == "A small right effusion. No mass."
    said = replace_words(said, SAID, [Change(2, 12, "large right")])
    assert make_changes(SAID, said.changes) == "A large right effusion. No mass."
    assert make_changes(SAID, written.restore_words(said, 8, 9).changes) == "A small left effusion. No mass."
    assert mark(said, "right") == Judgement("right") and mark(said, "unsure").changes == said.changes
    assert mark(said, "unsure").verdict == "unsure" and Judgement().verdict is None


@pytest.mark.parametrize("changes", [
    [], [Change(8, 12, "left")], [Change(5, 5, "x")], [Change(-1, 3, "x")], [Change(8, 99, "x")],
    [Change(2, 12, "x"), Change(8, 14, "y")], [Change(8, 12, "x" * 2001)],
])  # fmt: skip
def test_a_change_that_makes_no_sense_is_refused(changes):
    with pytest.raises(NoteError):
        replace_words(Judgement(), SAID, changes)


def test_the_key_knows_picture_question_and_words(case, picture):
    question = case.questions[0]
    key = item_key(case, question, SAID)
    other = picture.with_name("y.png")
    Image.new("L", (32, 32)).save(other)
    assert len({key, item_key(case, question, SAID + " "), item_key(make_case(image=other), question, SAID),
                item_key(case, Question("q", "Else?", "", "open", "x"), SAID)}) == 4  # fmt: skip
    again = picture.with_name("z.png")
    again.write_bytes(picture.read_bytes())
    assert item_key(make_case(id="c9", image=again), question, SAID) == key


def test_items_are_whole_answers_once(case):
    cut = make_rollout("A small")
    cut.decoding["finished"] = False
    rollouts = [make_rollout(SAID), make_rollout(SAID, sample=1), cut, make_rollout("No nodule.")]
    assert [item.answer for item in list_items(rollouts, [case])] == [SAID, "No nodule."]


def test_a_journal_goes_on_where_it_stopped_and_undoes_across_that(case, tmp_path):
    one, two = items_of(case, SAID, "No nodule.")
    items = {item.key: item for item in (one, two)}
    journal = Journal(tmp_path / "notes", "AB")
    assert not journal.path.exists() and journal.undo(items) is None
    journal.write(one, "replace", replace_words(Judgement(), SAID, [LEFT]))
    journal.write(two, "mark", mark(Judgement(), "right"), saw_reference=True)
    journal.write(one, "mark", mark(journal.judgement(one.key), "right"))
    journal = Journal(tmp_path / "notes", "AB")
    assert journal.judgement(one.key) == Judgement("right") and journal.notes[1].saw_reference
    assert journal.undo(items) == one.key and journal.judgement(one.key).changes == (LEFT,)
    journal = Journal(tmp_path / "notes", "AB")
    assert journal.undo(items) == two.key and journal.judgement(two.key) == Judgement()
    assert journal.undo({two.key: two}) is None  # the answer of the last action is not among these
    assert journal.undo(items) == one.key and journal.undo(items) is None
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert [line["action"] for line in lines] == ["replace", "mark", "mark", "undo", "undo", "undo"]
    assert written.last_judgements(journal.notes) == {}


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 400))
def test_a_torn_last_line_costs_that_line_only(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("torn")
    Image.new("L", (8, 8)).save(folder / "x.png")
    case = make_case(image=folder / "x.png")
    one, two = items_of(case, SAID, "No nodule é.")
    journal = Journal(folder, "AB")
    for item in (one, two):
        journal.write(item, "mark", Judgement("right"))
    whole = journal.path.read_bytes()
    first = whole.index(b"\n") + 1
    journal.path.write_bytes(whole[: max(first + 1, len(whole) - cut)])
    journal = Journal(folder, "AB")
    kept = len(journal.notes)
    assert kept == (2 if cut == 1 else 1)  # without the line feed alone, the line is whole
    journal.write(one, "mark", Judgement("unsure"))
    assert len(written.read_notes(journal.path)) == kept + 1
    assert Journal(folder, "AB").judgement(one.key).mark == "unsure"


@pytest.mark.parametrize("line", ["no json", "[]", "{}", '{"item": 1}', "[" * 99999])
def test_a_damaged_line_is_named(case, tmp_path, line):
    [one] = items_of(case, SAID)
    journal = Journal(tmp_path, "AB")
    journal.write(one, "mark", Judgement("right"))
    good = journal.path.read_text()
    journal.path.write_text(good + line + "\n" + good)
    with pytest.raises(NoteError, match="AB.jsonl line 2 is no note"):
        Journal(tmp_path, "AB")


@pytest.mark.parametrize("change", [
    {"action": "delete"}, {"annotator": "../x"}, {"time": "now"}, {"item": 7}, {"saw_reference": 1},
    {"judgement": {"mark": "great", "changes": []}},
    {"judgement": {"mark": None, "changes": [{"start": 0, "end": 99, "new": ""}]}},
    {"judgement": {"mark": None, "changes": [{"start": 0, "end": 5, "new": "x"}, {"start": 3, "end": 6, "new": "y"}]}},
    {"judgement": {"mark": None, "changes": [{"start": 0, "end": 5, "new": 7}]}},
])  # fmt: skip
def test_an_import_that_is_no_note_changes_nothing(case, tmp_path, change):
    [one] = items_of(case, SAID)
    Journal(tmp_path / "a", "AB").write(one, "mark", Judgement("right"))
    row = json.loads(written.export_notes(tmp_path / "a")) | change
    with pytest.raises(NoteError):
        written.import_notes(tmp_path / "b", written.export_notes(tmp_path / "a") + json.dumps(row))
    assert not (tmp_path / "b").exists()


def test_names_that_are_no_file_names_are_refused(tmp_path):
    for name in ("", "../AB", "A B", "a@b.org", "é", "x" * 33, "-a"):
        with pytest.raises(NoteError, match="initials"):
            Journal(tmp_path, name)


def test_notes_travel_and_arrive_once(case, tmp_path):
    one, two = items_of(case, SAID, "No nodule.")
    for name in ("AB", "CD"):
        journal = Journal(tmp_path / "here", name)
        journal.write(one, "mark", Judgement("right"))
        journal.write(two, "mark", Judgement("unsure"))
    text = written.export_notes(tmp_path / "here")
    assert written.import_notes(tmp_path / "there", text.split("\n", 1)[1]) == 3
    Journal(tmp_path / "there", "CD").write(one, "replace", Judgement(None, (LEFT,)))
    assert [written.import_notes(tmp_path / "there", text) for _ in range(2)] == [1, 0]
    there = written.read_journals(tmp_path / "there")
    assert [note.item for note in there["AB"]] == [one.key, two.key]
    assert written.last_judgements(there["CD"])[one.key].judgement.changes == (LEFT,)


def build(case, folder, *texts, question="report"):
    said = {name: written.last_judgements(notes) for name, notes in written.read_journals(folder).items()}
    return build_records([make_rollout(text, question) for text in texts], [case], editor=PeopleEditor(said))


def test_a_correction_says_who_and_when_and_a_right_answer_gets_a_counterfactual(case, tmp_path):
    [one] = items_of(case, SAID)
    Journal(tmp_path, "AB").write(one, "replace", Judgement(None, (LEFT,)))
    [record], rejected = build(case, tmp_path, SAID)
    assert not rejected and check_record(record) is None
    assert (record.chosen, record.rejected) == ("A small right effusion. No nodule.", SAID)
    assert record.source == "corrected" and record.evidence == ("effusion",)
    assert record.verified["how"].startswith("people: corrected by AB at 20")
    said = "A small right effusion. No nodule."
    [one] = items_of(case, said)
    Journal(tmp_path, "AB").write(one, "mark", Judgement("right"))
    [record], _ = build(case, tmp_path, said)
    assert record.chosen == said and record.source == "counterfactual" and check_record(record) is None


def test_people_against_the_facts_each_other_or_themselves_give_no_record(case, tmp_path):
    texts = (SAID, "A small right effusion.", "A large effusion.", "An effusion on the left.", "No fracture.")
    wrong, right, disputed, unsure, unseen = items_of(case, *texts)
    for name, change in (("AB", Change(2, 7, "small")), ("CD", Change(2, 7, "moderate"))):
        Journal(tmp_path, name).write(disputed, "replace", Judgement(None, (change,)))
    journal = Journal(tmp_path, "AB")
    journal.write(wrong, "mark", Judgement("right"))
    journal.write(right, "replace", Judgement(None, (Change(8, 13, "left"),)))
    journal.write(unsure, "mark", Judgement("unsure"))
    records, rejected = build(case, tmp_path, *texts)
    assert not records and rejected == {
        "the case's own truth is against what people say": 1, "people disagree about the answer": 1,
        "people are unsure about the answer": 1, "nobody has judged the answer": 1,
        "a claim that is not verified true": 1,
    }  # fmt: skip


REAL = (Question("report", "Describe the image.", "Small left pleural effusion. No pneumothorax.", "report", "report"),
        Question("q1", "Is the heart enlarged?", "Yes", "closed", "presence"),
        Question("q2", "Where is the effusion?", "left lung", "open", "position"),
        Question("q3", "Which modality is this?", "CT", "open", "modality"))


def corrected_by_a_person(picture, folder, question, said, chosen):
    case = make_case(image=picture, questions=REAL, facts=None)
    [item] = list_items([make_rollout(said, question)], [case])
    Journal(folder, "AB").write(item, "replace", Judgement(None, (Change(0, len(said), chosen),)))
    return build(case, folder, said, question=question)


@pytest.mark.parametrize(("question", "said", "chosen", "kept"), [
    ("report", "Left effusion and cardiomegaly.", "Left effusion and normal heart size.", True),
    ("report", "Right effusion.", "Left effusion.", True), ("report", "Left effusion.", "Right effusion.", False),
    ("report", "No pneumothorax.", "Small pneumothorax.", False), ("q1", "No", "Yes", True), ("q1", "Yes", "No", False),
    ("q1", "It may be.", "It is enlarged, yes.", True), ("q2", "right lung", "left lung", True),
    ("q2", "left lung", "right lung", False), ("q3", "X-ray", "Computed tomography", True), ("q3", "CT", "MRI", False),
])  # fmt: skip
def test_without_facts_people_decide_where_the_reference_is_silent(picture, tmp_path, question, said, chosen, kept):
    records, rejected = corrected_by_a_person(picture, tmp_path / "n", question, said, chosen)
    assert [record.chosen for record in records] == ([chosen] if kept else []), rejected
    assert kept or rejected == {"the case's own truth is against what people say": 1}


@pytest.mark.parametrize(("said", "chosen"), [
    ("Left effusion. Cardiomegaly.", "Normal heart size."),  # a true finding goes beside an honest correction
    ("Left effusion. Right pneumothorax.", "Effusion. No pneumothorax."),  # a true side
    ("Small left effusion. A pneumothorax.", "Left effusion. No pneumothorax."),  # a true size
    ("Left effusion. No pneumothorax. Cardiomegaly.", "Left effusion. Normal heart size."),  # a true denial
])  # fmt: skip
def test_what_people_take_out_is_judged_as_what_they_add(picture, tmp_path, said, chosen):
    records, rejected = corrected_by_a_person(picture, tmp_path / "n", "report", said, chosen)
    assert not records and rejected == {"people take out what the case's own truth bears out": 1}


def test_the_command_makes_records_of_a_run(run, tmp_path, capsys):  # noqa: F811
    arguments = [f"RUN={run}", f"NOTES={tmp_path / 'notes'}", f"OUT={tmp_path / 'out'}"]
    assert human_edits.main(arguments) == 2 and "there is no journal" in capsys.readouterr().err
    case = make_case(image=run.parent.parent / "c1.png")
    [item] = items_of(case, "A small left effusion is seen.")
    Journal(tmp_path / "notes", "AB").write(item, "replace", Judgement(None, (LEFT,)))
    assert human_edits.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "3 answers, 1 of them judged: 1 records, 2 rejected" in printed
    assert '"nobody has judged the answer": 2' in printed
    [record] = read_records(tmp_path / "out" / "records.jsonl")
    assert record.case_id == "c1" and record.chosen == "A small right effusion is seen."
    assert (tmp_path / "out" / "agreement.json").exists()
    [pair] = read_pairs(tmp_path / "out" / "pairs.jsonl")
    assert (pair.id, pair.chosen, pair.clean.name) == (record.id, record.chosen, "c1.png") and pair.positive
    (tmp_path / "notes" / "CD.jsonl").write_text("no note\n")
    assert human_edits.main(arguments) == 2 and "CD.jsonl line 1" in capsys.readouterr().err


# Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, section C: four observers, twelve units
FOUR = ("1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 .")
# the same, section A: two observers, ten units, two values
TWO = ("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0")


def raters(rows):
    return [{i: float(v) for i, v in enumerate(row.split()) if v != "."} for row in rows]


def test_alpha_of_krippendorffs_examples_at_its_ends_and_of_chance():
    assert krippendorff_alpha(raters(FOUR)) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(raters(TWO)) == pytest.approx(0.095, abs=5e-4)
    assert krippendorff_alpha([{1: "a", 2: "b"}, {1: "a", 2: "b"}]) == 1.0
    assert krippendorff_alpha([{1: "a", 2: "b"}, {1: "b", 2: "a"}]) < 0
    assert all(map(math.isnan, map(krippendorff_alpha, ([{1: "a"}, {1: "a"}], [{1: "a"}, {2: "b"}], []))))
    values = np.random.default_rng(7).integers(0, 3, (2, 5000))
    assert abs(krippendorff_alpha([dict(enumerate(row.tolist())) for row in values])) < 0.03


def test_kappa_of_the_example_in_fleiss_1981():
    """Statistical Methods for Rates and Proportions, table 13.1: two raters, 100 patients, κ = .68."""
    table = {("p", "p"): 75, ("p", "n"): 1, ("p", "o"): 4, ("n", "p"): 5, ("n", "n"): 4, ("n", "o"): 1, ("o", "o"): 10}
    pairs = [pair for pair, count in table.items() for _ in range(count)]
    found = cohen_kappa(*zip(*pairs, strict=True))
    assert found.kappa == pytest.approx(0.6765, abs=5e-4) and found.units == 100
    assert found.low < found.kappa < found.high <= 1
    assert math.isnan(cohen_kappa(["a", "a"], ["a", "a"]).kappa) and math.isnan(cohen_kappa([], []).kappa)
    with pytest.raises(ValueError, match="2 values against 1"):
        cohen_kappa(["a", "b"], ["a"])


def note(item, said):
    return written.Note(item, "x", "2026-01-01T00:00:00+00:00", "mark", said, "a left effusion")


def test_annotators_are_compared_on_verdicts_words_and_spans():
    fixed = Judgement(None, (Change(2, 6, "right"),))
    other = Judgement(None, (Change(2, 6, "bilateral"),))
    right, unsure = Judgement("right"), Judgement("unsure")
    journals = {"A": [note("1", right), note("1", fixed), note("2", right), note("3", fixed), note("4", unsure),
                      note("9", right)],
                "B": [note("1", fixed), note("2", right), note("3", other), note("4", right)]}
    found = agreement(journals, {key: [(2, 15)] for key in "1234"})
    assert found.pairs["A", "B"].units == 4 and found.same_words["A", "B"] == (1, 2)
    # verdicts: wrong-wrong twice, right-right, unsure-right: p_o = 3/4, p_e = (2*2 + 1*2)/16
    assert found.pairs["A", "B"].kappa == pytest.approx((0.75 - 0.375) / 0.625) and found.spans == 1.0
    assert found.rows()[1][0] == "A and B" and found.rows()[1][-1] == "1 of 2" and len(found.rows()) == 4
