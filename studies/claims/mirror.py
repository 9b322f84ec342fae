"""Mirror pairs: a statement about a lesion and its denial, chosen one way where the lesion is seen and the other way
where it was taken out of the same picture. Text and person are the same in both, so that the picture alone tells.

The statements are true sentences of the reference report and answers to yes/no questions; the phantom draws the same
person without the finding. Controls: the denial about another person, who lacks the finding (`unmirrored`), and repairs
of the model's own answers for half of the pairs (`half-mirror`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from medalign_lite.cases.case import Case, Question, prompt_of
from medalign_lite.cases.pictures import save_png
from medalign_lite.edits.truths import Facts
from medalign_lite.evaluate.grounding import changed_case
from medalign_lite.text.facts import Fact
from medalign_lite.text.form import find_report_sentences
from medalign_lite.text.reports import extract_claims
from medalign_lite.text.says import yes_no
from medalign_lite.text.spans import Span
from medalign_lite.train.pairs import Pair
from medalign_lite.world.dataset import SPLITS, case_seed, draw_case

MIRRORED = {"mirror": 1.0, "unmirrored": 1.0, "half-mirror": 0.5}  # kinds of pairs, and the share that is mirrored
Side = tuple[str, tuple[Span, ...]]


def mirror_pairs(cases: Sequence[Case], kind: str, *, count: int, seed: int, folder: Path) -> list[Pair]:
    """At most `count` pairs, two by two, about seeded people of the training split drawn with `seed`; pictures are
    rendered into `folder`."""
    told = [(case, fact, *one) for n, case in enumerate(cases) for fact in _chosen(case, seed=[seed, n])
            for one in (*_answers(case, fact), *_sentence(case, fact))]
    drawn = sorted(np.random.default_rng(seed).permutation(len(told))[: count // 2])
    found = []
    for case, fact, question, true, false in (told[n] for n in drawn):
        without = _other(cases, case, fact) if kind == "unmirrored" else _without(case, fact, seed, folder)
        name = f"mirror/{case.id}/{question.id}"
        found += [Pair(f"{name}/with", prompt_of(question), true[0], false[0], true[1], false[1], case.image),
                  Pair(f"{name}/without", prompt_of(question), false[0], true[0], false[1], true[1], without)]
    return found


def _chosen(case: Case, *, seed: Sequence[int]) -> list[Fact]:
    """A seeded finding that can be seen, where there is one."""
    seen = [fact for fact in case.facts if fact.visible]
    return [seen[int(np.random.default_rng(seed).integers(len(seen)))]] if seen else []


def hanging_on(case: Case, evidence: Sequence[str]) -> Question | None:
    """The first yes/no question of the case whose right answer changes when one of these findings goes."""
    answers = {q.id: yes_no(q.answer) for q in case.questions if q.kind == "closed" and q.visible}
    changed = [q for finding in evidence for q in changed_case(case, finding, "hidden").questions]
    ids = [q.id for q in changed if {yes_no(q.answer), answers.get(q.id)} == {True, False}]
    return next((q for q in case.questions if q.id in ids), None)


def both_answers(question: Question) -> tuple[Side, Side]:
    """The right answer to a yes/no question, and the wrong one, each with its span."""
    texts = ("Yes.", "No.") if yes_no(question.answer) else ("No.", "Yes.")
    right, wrong = ((text, ((0, len(text), "other"),)) for text in texts)
    return right, wrong


def _answers(case: Case, fact: Fact) -> Iterator[tuple[Question, Side, Side]]:
    """The first yes/no question that hangs on the finding, its answer and the other."""
    if question := hanging_on(case, [fact.finding]):
        yield question, *both_answers(question)


def _sentence(case: Case, fact: Fact) -> Iterator[tuple[Question, Side, Side]]:
    """The first sentence of the report that speaks of the finding alone, and its denial."""
    without = Facts(tuple(other for other in case.facts if other.finding != fact.finding))
    for question in (q for q in case.questions if q.kind == "report"):
        for start, end in find_report_sentences(question.answer):
            text = question.answer[start:end].strip() + "."
            if {(c.finding, c.polarity) for c in extract_claims(text)} == {(fact.finding, "present")}:
                edit = without.correct(text)
                yield question, (edit.rejected, edit.spans_rejected), (edit.chosen, edit.spans_chosen)
                return


def _without(case: Case, fact: Fact, seed: int, folder: Path) -> Path:
    path = folder / f"{case.id}-{fact.finding}.png"
    if not path.exists():
        number, its_world, _ = SPLITS[case.split]
        person = draw_case(case_seed(seed, number, int(case.id.rpartition("-")[2])), its_world)
        save_png(person.removed(fact.finding), path)
    return path


def _other(cases: Sequence[Case], case: Case, fact: Fact) -> Path:
    """The picture of the next person who lacks the finding."""
    start = cases.index(case) + 1
    return next(other.image for other in (*cases[start:], *cases[:start])
                if fact.finding not in {f.finding for f in other.facts})
