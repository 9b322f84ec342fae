"""The exam on real images: every question of a split; where its evidence is marked, its answer and the margin of the
right answer over a wrong one, with the evidence and with as much of another place corrupted as in no training pair.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from medalign_lite.cases.case import Case, Question, prompt_of
from medalign_lite.cases.images import image_size
from medalign_lite.cases.rollouts import Prompt, Rollout
from medalign_lite.corruption.corrupt import UNSEEN
from medalign_lite.corruption.pictures import corrupt_pictures
from medalign_lite.dials import Preset
from medalign_lite.edits.truths import truth_of
from medalign_lite.evaluate.ask import answers_without_image
from medalign_lite.evaluate.metrics import COLUMNS, Margins, Prediction, count, question_of
from medalign_lite.evaluate.priors import constant_predictions
from medalign_lite.evaluate.probes import DAMAGES, GREY
from medalign_lite.evaluate.short_answers import score_answer
from medalign_lite.files import digest, kept, read_jsonl, write_jsonl
from medalign_lite.model.features import KeptFeatures
from medalign_lite.model.lvlm import Lvlm
from medalign_lite.model.rollout import rollout
from medalign_lite.text.spans import NoEdit
from medalign_lite.train.pairs import Pair, PairInputs
from studies.claims.exam import gaps_of
from studies.real.cohort import Cohort

COMMONEST_TO_SAME = "commonest answer to the same question"
EXACT = {"closed": "strict", "choice": "strict", "open": "lmms"}  # the scorer by which an answer is right


class Exam:
    """The questions of one split; `damages`: with pictures whose evidence is damaged, in `folder`."""

    def __init__(self, cohort: Cohort, split: str, folder: Path, *, seed: int, damages: bool = True):
        self.cases, self.folder, self.seed = cohort.parts[split], folder, seed
        self.by_id = {case.id: case for case in self.cases}
        self.asked = [(case, q) for case in self.cases for q in case.questions if q.visible]
        self.about = [(case, q, labels) for case, q in self.asked if damages and (labels := cohort.evidence(case, q))]
        key = digest([(case.id, q.id, labels) for case, q, labels in self.about])[:8]
        self.cohort, self.damaged = cohort, folder / f"damaged-{key}.jsonl"

    def prepare(self) -> list[dict]:
        """Make the damaged pictures, once; their rows, one for each question of `about`."""
        def damaged(part: Path) -> None:
            jobs = [(self.cohort.marked(case, labels), labels) for case, _, labels in self.about]
            rows = corrupt_pictures(jobs, self.folder, method=UNSEEN, seed=self.seed)
            write_jsonl(part, [{name: row[name] for name in DAMAGES} for row in rows])

        self.folder.mkdir(parents=True, exist_ok=True)
        return read_jsonl(kept(self.damaged, damaged))

    def open(self, lvlm: Lvlm, preset: Preset) -> None:
        """Make the image features where they fit, and the pairs. `prepare` comes first."""
        self.preset, self.pairs, probes = preset, [], []
        for (case, question, _), row in zip(self.about, self.prepare(), strict=True):
            if None in (row["lesion"], row["control"]):
                continue
            shown = {"real": case.image} | {name: self.folder / row[name] for name in DAMAGES}
            probes += [_prompt(case, question, name, image) for name, image in shown.items()]
            self.pairs += self._against_a_wrong_one(case, question, shown)
        asked = [_prompt(case, q, "real", case.image) for case, q in self.asked]
        self.prompts = list({prompt.id: prompt for prompt in [*asked, *probes]}.values())
        self.features = KeptFeatures(lvlm) if lvlm.device.type == "cpu" else None
        self.inputs = PairInputs(lvlm)
        if self.features:
            self.features.warm(list(dict.fromkeys(prompt.image for prompt in self.prompts)))

    def take(self, policy: Lvlm, arm: str) -> dict:
        """What one arm gives: `counts` {column: one number an image group}, and right answers by topic and source."""
        said = [_prediction(row, arm) for row in self._ask(policy, self.prompts)]
        batch = max(1, self.preset.eval_batch // 4)
        return self._counted(said, arm, gaps_of(policy, arm, self.pairs, batch_size=batch, inputs=self.inputs))

    def baselines(self, lvlm: Lvlm, training: Sequence[Case]) -> dict[str, dict]:
        """{name: as of `take`} of answers that never look: constants, the base without a picture and on a grey one."""
        blank = {case.id: Image.new("RGB", image_size(case.image), (GREY,) * 3) for case in self.cases}
        prompts = {"blank image": [_prompt(case, q, "real", blank[case.id]) for case, q in self.asked]}
        if answers_without_image(lvlm):
            prompts["question only"] = [_prompt(case, q, "real", None) for case, q in self.asked]
        found = {name: self._counted([_prediction(row, name) for row in self._ask(lvlm, some)], name)
                 for name, some in prompts.items()}
        taught = [replace(case, split="train") for case in training]
        constant = constant_predictions([*taught, *(replace(case, split="test") for case in self.cases)])
        constant += commonest_to_the_same(training, self.asked)
        return found | {arm: self._counted([p for p in constant if p.arm == arm and p.case_id in self.by_id], arm)
                        for arm in dict.fromkeys(p.arm for p in constant)}

    def _ask(self, lvlm: Lvlm, prompts: Sequence[Prompt]) -> list[Rollout]:
        return rollout(lvlm, prompts, max_new_tokens=self.preset.max_new_tokens, batch_size=self.preset.eval_batch,
                       progress=False, features=self.features)

    def _against_a_wrong_one(self, case: Case, question: Question, shown: dict) -> list[tuple[str, Pair]]:
        """(case id, the right answer against a wrong one), where the right one can be made wrong."""
        rng = np.random.default_rng([self.seed, int(digest([case.id, question.id])[:8], 16)])
        try:
            edit = truth_of(case, question).falsify(question.answer.strip(), rng)
        except NoEdit:
            return []
        images = (shown["real"], *(shown[name] for name in DAMAGES))
        return [(case.id, Pair(f"{case.id}/{question.id}", prompt_of(question), edit.chosen, edit.rejected,
                               edit.spans_chosen, edit.spans_rejected, *images))]

    def _counted(self, said: Sequence[Prediction], arm: str, margins: Sequence[Margins] = ()) -> dict:
        counts = count(self.cases, said, arm=arm, margins=margins)
        seen = counts.table.any(axis=0)
        columns = {name: [_short(value) for value in counts.table[:, n].tolist()]
                   for n, name in enumerate(COLUMNS) if seen[n]}
        right = {"topic": Counter(), "source": Counter()}
        for p in (p for p in said if p.condition == "real"):
            case = self.by_id[p.case_id]
            q = question_of(case, p.question_id)
            if q.kind in EXACT:
                scored = score_answer(p.text, q.answer, q.kind, q.text, q.options)[EXACT[q.kind]]
                right["topic"][q.topic] += scored
                right["source"][case.source] += scored
        return {"counts": columns} | {name: dict(sorted(tally.items())) for name, tally in right.items()}

    @property
    def facts(self) -> dict:
        """What the page says of this split, once it is prepared: how much of what there is."""
        pictures = read_jsonl(self.damaged)
        short = [(case, q) for case, q in self.asked if q.kind in EXACT]
        return {
            "groups": len({case.group for case in self.cases}), "images": len(self.cases),
            "questions": dict(sorted(Counter(q.kind for _, q in self.asked).items())),
            "topic": dict(sorted(Counter(q.topic for _, q in short).items())),
            "source": dict(sorted(Counter(case.source for case, _ in short).items())),
            "about": len(self.about), "damaged": sum(None not in (r["lesion"], r["control"]) for r in pictures),
        }  # fmt: skip


def commonest_to_the_same(training: Sequence[Case], asked: Sequence[tuple[Case, Question]]) -> list[Prediction]:
    """To each question the commonest answer that training has to the same words; where nobody asked that, to any
    question of its kind. The first of equals."""
    usual: dict[str, Counter] = {}
    for question in (q for case in training for q in case.questions):
        for key in (prompt_of(question), question.kind):
            usual.setdefault(key, Counter())[question.answer] += 1
    found = ((case, q, usual.get(prompt_of(q), usual.get(q.kind))) for case, q in asked)
    return [Prediction(case.id, q.id, tally.most_common(1)[0][0], COMMONEST_TO_SAME)
            for case, q, tally in found if tally]


def _prompt(case: Case, question: Question, condition: str, image) -> Prompt:
    return Prompt(f"{condition}/{case.id}/{question.id}", case.id, question.id, image, prompt_of(question))


def _prediction(row: Rollout, arm: str) -> Prediction:
    return Prediction(row.case_id, row.question_id, row.text, arm, row.id.partition("/")[0])


def _short(value: float) -> float:
    """Whole numbers as such, others to two digits: rows are kept with the code."""
    return int(value) if value == int(value) else round(value, 2)
