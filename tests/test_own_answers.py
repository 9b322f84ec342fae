"""Answers to all questions of a run, in two processes: complete, in order, the same after a kill; how sure each was."""

import shutil
from dataclasses import replace

import pytest

from medalign_lite.cases.case import Case, Question
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.dials import PRESETS
from medalign_lite.model.rollout import own_answers
from medalign_lite.show.inside import statements
from medalign_lite.text.facts import Fact

PRESET = replace(PRESETS["ci"], max_new_tokens=6, samples_per_case=2, rollout_batch=4)
QUESTIONS = (Question("report", "Describe this radiograph.", "No nodule.", "report", "report"),
             Question("q0", "Is there a nodule?", "No.", "closed", "presence"),
             Question("q1", "Which side is the nodule on?", "On the left.", "open", "side", visible=False))


@pytest.fixture
def cases(pictures, tmp_path):
    made = []
    for i, picture in enumerate(pictures[:3]):
        picture.save(tmp_path / f"{i}.png")
        made.append(Case(f"c{i}", f"g{i}", "train", tmp_path / f"{i}.png", QUESTIONS, (), folder=tmp_path))
    return made


def test_every_question_that_can_be_seen_is_answered_and_a_killed_run_goes_on(tiny_folder, cases, tmp_path, capfd):
    scratch = tmp_path / "scratch"
    (scratch / "shard0").mkdir(parents=True)
    (scratch / "shard0" / ".7-reports.jsonl").write_text('"question_id":' * 100)  # left by a run that was killed
    found = own_answers(cases, model=str(tiny_folder), preset=PRESET, seed=3, scratch=scratch, every=0.2)
    labels = [(r.id, r.sample) for r in found]
    assert labels == [
        (f"c{i}/{name}", sample) for i in range(3)
        for name, sample in (("report/greedy", 0), ("report/sampled", 0), ("report/sampled", 1), ("q0/greedy", 0))
    ]
    told = [line for line in capfd.readouterr().out.splitlines() if "of 12 answers" in line]
    assert told and max(int(line.split()[0]) for line in told) <= 12
    shutil.rmtree(scratch / "shard1")
    (scratch / "shard0" / "sampled.jsonl").unlink()
    assert own_answers(cases, model=str(tiny_folder), preset=PRESET, seed=3, scratch=scratch) == found


class Characters:
    """A tokenizer of one token a character, 0 the end."""

    added_tokens_decoder = {}
    all_special_ids = [0]

    def decode(self, ids, skip_special_tokens=True):
        return "".join(chr(i) for i in ids if i)

    def convert_ids_to_tokens(self, ids):
        return ["<end>" for _ in ids]


def said(text: str) -> Rollout:
    return Rollout("c0/report/greedy", "c0", "report", 0, text, [*map(ord, text), 0], [-0.5] * (len(text) + 1), {})


def test_claims_of_a_report_have_their_words_truth_and_log_probability(cases):
    case = replace(cases[0], facts=(Fact("effusion", "left", size="small"), Fact("nodule", "left", visible=False)))
    found = statements(said("A small right effusion. No fracture. A nodule."), case, QUESTIONS[0], Characters())
    assert [(s.text, s.about, s.right) for s in found] == [
        ("small right effusion", "effusion", False), ("No fracture", "fracture", True), ("nodule", "nodule", None),
    ]  # fmt: skip
    assert [len(s.logps) for s in found] == [len(s.text) for s in found] and found[0].mean_logp == -0.5
    # without a table of facts the reference report decides, and it says "No nodule."
    found = statements(said("A nodule."), replace(case, facts=None), QUESTIONS[0], Characters())
    assert [(statement.about, statement.right) for statement in found] == [("nodule", False)]


@pytest.mark.parametrize(("text", "right"), [("No.", True), ("Yes.", False), ("Perhaps.", None)])
def test_a_short_answer_is_one_statement(cases, text, right):
    (found,) = statements(said(text), cases[0], QUESTIONS[1], Characters())
    assert (found.text, found.about, found.right) == (text, "presence", right)
