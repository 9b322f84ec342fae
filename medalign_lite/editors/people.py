"""``python -m medalign_lite people``: preference records of a run, from what people said of its answers.

    python -m medalign_lite people RUN=artifacts/ci NOTES=annotations OUT=edits/people

Reads the journals that the widget of notebook 02 writes. OUT gets records.jsonl, rejected.json (reasons with counts),
pairs.jsonl and validation.jsonl for `medalign_lite.train.train`, and agreement.json.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medalign_lite.cases.case import Case, Question
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.editors.agree import agreement
from medalign_lite.editors.notes import Note, item_key, last_judgements, list_items, read_journals
from medalign_lite.editors.suggest import find_spans
from medalign_lite.edits.records import build_records
from medalign_lite.edits.repair import Edit, asked, edit_of
from medalign_lite.edits.truths import Facts, truth_of
from medalign_lite.files import write_json
from medalign_lite.model.lvlm import decoder
from medalign_lite.run.commands import command, needed, read_arguments
from medalign_lite.run.pairs import REFUSED, open_run, run_answers, write_edited
from medalign_lite.text.qualifiers import drops
from medalign_lite.text.spans import NoEdit, make_changes

BY_PEOPLE = "people"
ALLOWED = {
    "RUN": "a run of `make reproduce` (OUT/PRESET)", "NOTES": "the folder of the journals",
    "OUT": "the folder that is written to",
}


@dataclass(frozen=True)
class PeopleEditor:
    """An editor for `records.build_records`: `said` is {annotator: {answer's key: the note that counts}}. A pair is
    made where all who are sure say the same; who is unsure has no say."""

    said: Mapping[str, Mapping[str, Note]]

    def __call__(self, rollout: Rollout, case: Case, question: Question, rng: np.random.Generator) -> Edit:
        """The edit of one answer. Raises NoEdit with the reason where there is none, or the case's truth is against."""
        key = item_key(case, question, rollout.text)
        noted = [notes[key] for notes in self.said.values() if key in notes]
        if not noted:
            raise NoEdit("nobody has judged the answer")
        sure = [note for note in noted if note.judgement.verdict != "unsure"]
        if not sure:
            raise NoEdit("people are unsure about the answer")
        texts = {make_changes(rollout.text, note.judgement.changes) for note in sure}
        if len(texts) > 1:
            raise NoEdit("people disagree about the answer")
        [chosen] = texts
        who = ", ".join(f"{note.annotator} at {note.time}" for note in sure)
        if chosen == rollout.text:
            return self._counterfactual(rollout.text, case, question, rng, who)
        _check(chosen, rollout.text, case, question)
        facts = case.facts or ()
        evidence = Facts(facts).evidence(chosen, rollout.text) or asked(question, facts)
        return edit_of(chosen, rollout.text, "corrected", evidence, f"{BY_PEOPLE}: corrected by {who}")

    def _counterfactual(self, answer: str, case: Case, question: Question, rng: np.random.Generator, who: str) -> Edit:
        """What people call right is its own truth; the rules make one statement of it false."""
        truth = truth_of(case, question) if case.facts and question.kind == "report" else \
            truth_of(replace(case, facts=None), replace(question, answer=answer))
        made = truth.falsify(answer, rng)
        _check(answer, made.rejected, case, question)
        evidence = made.evidence or asked(question, case.facts or ())
        return edit_of(answer, made.rejected, made.source, evidence, f"{BY_PEOPLE}: called right by {who}; {made.how}")


def _check(better: str, worse: str, case: Case, question: Question) -> None:
    """What is known comes before what people say, and before what they take out; where nothing is, they decide."""
    truth = truth_of(case, question)
    if truth.is_against(better, worse):
        raise NoEdit("the case's own truth is against what people say")
    if question.kind == "report":
        true = [claim for claim in truth.read(worse) if truth.judge(claim).verdict == "true"]
        if drops(truth.read(better), true):
            raise NoEdit("people take out what the case's own truth bears out")


@command(refused=REFUSED)
def main(arguments: Sequence[str]) -> None:
    """Exit status: 0 done, 2 bad arguments or data."""
    given = needed(read_arguments(arguments, ALLOWED), *ALLOWED)
    stage, out = open_run(given["RUN"], needs=("00_start", "01_rollout")), Path(given["OUT"])
    journals = read_journals(given["NOTES"])
    if not journals:
        raise ValueError(f"there is no journal in {given['NOTES']}; annotate in notebook 02 first, or name another "
                         "folder")
    rollouts, cases = run_answers(stage)
    editor = PeopleEditor({name: last_judgements(notes) for name, notes in journals.items()})
    records, rejected = build_records(rollouts, cases, decode=decoder(stage.model), seed=stage.seed, editor=editor)
    noted = {note.item for notes in journals.values() for note in notes}
    items = {item.key: item for item in list_items(rollouts, cases) if item.key in noted}
    spans = {key: [(s.start, s.end) for s in find_spans(item.answer, item.case)] for key, item in items.items()}
    rows = agreement(journals, spans).rows()
    told = write_edited(stage, out, records, rejected, cases)
    write_json(out / "agreement.json", rows)
    print(f"{len(rollouts)} answers, {len(items)} of them judged: {told}")
    print("\n".join("  ".join(row) for row in rows))
