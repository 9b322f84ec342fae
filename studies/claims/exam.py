"""The exam: what every arm is asked on held-out people, and only what the claims need.

A report and one closed question an image; on some images the margins of a true statement against a false one with the
lesion as it is, corrupted and spared (by a corruption that no pair shows), and a question whose right answer hangs on
that lesion under all three; on a few the divergence from the base on the base's own answers, and how many words the
report is from the base's. The base's answers and the corrupted pictures are made once, and the image features once a
process.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from medalign_lite.cases.rollouts import Prompt
from medalign_lite.corruption.pictures import corrupt_pictures
from medalign_lite.dials import PRESETS
from medalign_lite.evaluate.ask import RAW_GAPS
from medalign_lite.evaluate.metrics import COLUMNS, Margins, Prediction, TokenValues, count
from medalign_lite.evaluate.probes import DAMAGES, HELD_OUT, UNSEEN, truth_records
from medalign_lite.files import read_jsonl, write_jsonl
from medalign_lite.model.features import KeptFeatures
from medalign_lite.model.lvlm import Lvlm, load_lvlm
from medalign_lite.model.rollout import rollout
from medalign_lite.train.data import pair_of
from medalign_lite.train.pairs import Pair, PairInputs
from medalign_lite.train.scoring import answer_kl, pair_margins
from medalign_lite.world.dataset import build_cases
from studies.claims.mirror import both_answers, hanging_on
from studies.claims.store import SCREENING, Bench

MAX_NEW_TOKENS = 96
ANSWERED_AT_ONCE, SCORED_AT_ONCE = 256, 32
KINDS = ("report", "closed")
HANGING = ("changes", "changed_lesion", "changed_control", "asked_about", "changed_only", "right_falls", "right_fall")


class Exam:
    """The questions, with all that is made once for them."""

    def __init__(self, bench: Bench, kind: str):
        self.bench, self.screens = bench, kind == SCREENING
        self.splits = ("val",) if self.screens else HELD_OUT
        people, sizes = bench.seed if self.screens else bench.fresh, bench.sizes
        wanted, questions = {split: getattr(sizes, split) for split in self.splits}, PRESETS["ci"].questions_per_case
        everyone = build_cases(bench.cache, wanted, seed=people, questions=questions).cases
        self.cases = {split: tuple(case for case in everyone if case.split == split) for split in self.splits}
        self.by_id = {case.id: case for cases in self.cases.values() for case in cases}
        self.margins = sizes.val_margins if self.screens else sizes.margins
        counts = [len(cases) for cases in self.cases.values()]
        self.folder = bench.cache / f"exam-{people}-{'-'.join(map(str, [*counts, self.margins]))}"
        self.corrupted = self.folder / f"corrupted-{'-'.join(self.splits)}.jsonl"
        self.prompts = {
            split: [Prompt(f"{case.id}/{q.id}", case.id, q.id, case.image, q.text) for kind in KINDS for case in cases
                    for q in [q for q in case.questions if q.kind == kind and q.visible][:1]]
            for split, cases in self.cases.items()}  # fmt: skip

    def prepare(self, *, say: Callable = print) -> None:
        """Make what is kept on disk, once: the base's own answers and the corrupted pictures."""
        if self.corrupted.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        lvlm = load_lvlm(self.bench.model)
        features = KeptFeatures(lvlm)
        for split, prompts in self.prompts.items():
            say(f"exam: the base on {len(self.cases[split])} {split} images")
            features.warm([case.image for case in self.cases[split]])
            self._ask(lvlm, prompts, features, resume=self.folder / f"base-{split}.jsonl")
        self._corrupted(say=say)

    def open(self, lvlm: Lvlm) -> None:
        """Make the image features, and read the base's answers. `prepare` comes first."""
        self.features, self.inputs = KeptFeatures(lvlm), PairInputs(lvlm)
        self.features.warm([case.image for case in self.by_id.values()])
        asked = [] if self.screens else [pair for pairs in self._hanging.values() for _, pair in pairs]
        self.features.warm([image for pair in asked for image in (pair.lesion, pair.control)])
        self.base = {
            split: self._ask(lvlm, prompts, self.features, resume=self.folder / f"base-{split}.jsonl")
            for split, prompts in self.prompts.items()
        }

    def take(self, policy: Lvlm, arm: str) -> dict[str, np.ndarray]:
        """Counts (images, COLUMNS) by split; in a screening without divergence and lesion questions. A policy that is
        the base itself has its kept answers read back."""
        found = {}
        for split, cases in self.cases.items():
            answers = self.base[split] if arm == "base" else self._ask(policy, self.prompts[split], self.features)
            said = [Prediction(r.case_id, r.question_id, r.text, arm) for r in answers]
            styled = {case.id for case in cases[: self.margins]}
            reference = [Prediction(r.case_id, r.question_id, r.text, "reference") for r in self.base[split]
                         if r.case_id in styled]
            margins = self._gaps(policy, arm, [(case_id, pair) for case_id, pair, _ in self._truths[split]])
            own = [] if self.screens else self._own[split]
            kl = answer_kl(policy, own, batch_size=SCORED_AT_ONCE, inputs=self.inputs) if own else []
            drift = [TokenValues(pair.id, arm, row) for pair, row in zip(own, kl, strict=True)]
            found[split] = count(cases, said + reference, arm=arm, reference="reference", margins=margins,
                                 kl=drift).table
            if not self.screens:  # counted apart: closed accuracy stays that of the exam's own questions
                columns = [COLUMNS.index(name) for name in HANGING]
                found[split][:, columns] = self._about_lesions(policy, arm, split)[:, columns]
        return found

    def _ask(self, lvlm: Lvlm, prompts: Sequence[Prompt], features: KeptFeatures, resume: Path | None = None):
        return rollout(lvlm, prompts, max_new_tokens=MAX_NEW_TOKENS, batch_size=ANSWERED_AT_ONCE, progress=False,
                       features=features, resume=resume)

    def _gaps(self, policy: Lvlm, arm: str, pairs: Sequence[tuple[str, Pair]]) -> list[Margins]:
        return gaps_of(policy, arm, pairs, batch_size=SCORED_AT_ONCE, inputs=self.inputs)

    def _about_lesions(self, policy: Lvlm, arm: str, split: str) -> np.ndarray:
        """Counts (images, COLUMNS) of the questions whose right answer hangs on a lesion, asked under v, v' and v°."""
        pairs = self._hanging[split]
        prompts = [Prompt(f"{name}/{case_id}", case_id, pair.id, image, pair.question) for case_id, pair in pairs
                   for name, image in zip(("real", *DAMAGES), (pair.clean, pair.lesion, pair.control), strict=True)]
        said = [Prediction(r.case_id, r.question_id, r.text, arm, r.id.partition("/")[0])
                for r in self._ask(policy, prompts, self.features)]
        return count(self.cases[split], said, arm=arm, right=self._gaps(policy, arm, pairs)).table

    @cached_property
    def _own(self) -> dict[str, list[Pair]]:
        """The base's own reports, as sampled."""
        found = {}
        for split, answers in self.base.items():
            own = [r for r in answers if r.question_id == "report" and r.text and r.decoding["finished"]]
            asked = {prompt.id: prompt for prompt in self.prompts[split]}
            found[split] = [Pair(r.case_id, asked[r.id].question, r.text, r.text, (), (), asked[r.id].image,
                                 chosen_ids=tuple(r.ids)) for r in own[: self.bench.sizes.drift]]
        return found

    @cached_property
    def _truths(self) -> dict[str, list[tuple[str, Pair, tuple[str, ...]]]]:
        """(case id, a true statement against a false one with its three images, the findings that it is about)."""
        rows, records = self._corrupted()
        found = {split: [] for split in self.splits}
        for row, record in zip(rows, records, strict=True):
            case = self.by_id[record.case_id]
            shown = {name: self.folder / row[name] if row[name] else None for name in ("lesion", "control")}
            pair = replace(pair_of(record, clean=case.image, **shown), chosen_ids=None, rejected_ids=None)
            found[case.split].append((case.id, pair, record.evidence))
        return found

    @cached_property
    def _hanging(self) -> dict[str, list[tuple[str, Pair]]]:
        """(case id, the right answer against the wrong one) to a question whose right answer is another without the
        lesion, where there is one; the pair's id is the question's."""
        found = {split: [] for split in self.splits}
        for split, truths in self._truths.items():
            for case_id, shown, evidence in truths:
                question = hanging_on(self.by_id[case_id], evidence)
                if question and shown.lesion and shown.control:
                    (right, here), (wrong, there) = both_answers(question)
                    pair = Pair(question.id, question.text, right, wrong, here, there, *(
                        shown.clean, shown.lesion, shown.control))
                    found[split].append((case_id, pair))
        return found

    def _corrupted(self, say: Callable = lambda line: None) -> tuple[list[dict], list]:
        everyone, seed = list(self.by_id.values()), self.bench.seed
        records = truth_records(everyone, seed=seed, per_split=self.margins, splits=self.splits)
        if not self.corrupted.exists():
            say(f"exam: corrupting the lesions of {len(records)} images")
            jobs = [(self.by_id[record.case_id], record.evidence) for record in records]
            write_jsonl(self.corrupted, corrupt_pictures(jobs, self.folder, method=UNSEEN, seed=seed))
        return read_jsonl(self.corrupted), records


def gaps_of(
    policy: Lvlm, arm: str, pairs: Sequence[tuple[str, Pair]], *, batch_size: int, inputs: PairInputs
) -> list[Margins]:
    """Raw margins of (case id, pair) under the three images, None for an image that a pair lacks."""
    gaps = pair_margins(policy, [pair for _, pair in pairs], RAW_GAPS, batch_size=batch_size, inputs=inputs)
    names = ("margin", *(f"margin_{name}" for name in DAMAGES))
    return [Margins(pair.id, case_id, arm, *(None if np.isnan(values[name]) else values[name] for name in names))
            for (case_id, pair), values in zip(pairs, gaps, strict=True)]
