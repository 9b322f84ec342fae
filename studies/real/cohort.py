"""Whose pictures: any data set that the kit reads, in four parts that share no group; and what questions are about.

The training images are cut in two by group (the patient, or the image where nobody is named): one half for the base to
learn from, the other for alignment. Evidence is what a question or its answer names, of the lesions and (in SLAKE)
organs that the data set marks.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from medalign_lite.cases.case import Case, Lesion, Question
from medalign_lite.cases.images import read_image
from medalign_lite.cases.readers import read_cases
from medalign_lite.cases.readers.slake import LESIONS, SLAKE
from medalign_lite.files import digest, file_sha256
from medalign_lite.model.lvlm import load_processor
from medalign_lite.run.cohort import kept_by_model, made_files, settle_splits
from medalign_lite.text.says import yes_no

PARTS = ("base", "pool", "val", "test")
KNOWLEDGE = ("KG",)  # topics of SLAKE that the picture alone does not answer
_ABNORMAL = re.compile(r"\b(?:abnormal\w*|diseases?|lesions?|tumou?rs?|unhealthy)\b", re.I)
_NORMAL = re.compile(r"\b(?:healthy|normal)\b", re.I)
_SIDE = re.compile(r"(?:left|right) ", re.I)


@dataclass(frozen=True)
class Cohort:
    """The cases of each of PARTS with lesions marked, and {case id: organs marked}."""

    layout: str
    parts: dict[str, tuple[Case, ...]]
    organs: dict[str, tuple[Lesion, ...]]

    @cached_property
    def key(self) -> str:
        """A digest of pictures, questions and marks: of all that results depend on here."""
        told = [[part, case.id, case.group, file_sha256(case.image), [vars(q) for q in case.questions],
                 [vars(mark) for mark in (*case.lesions, *self.organs.get(case.id, ()))]]
                for part in PARTS for case in self.parts[part]]
        return digest(told)[:12]

    def evidence(self, case: Case, question: Question) -> tuple[str, ...]:
        """Labels of the marks that a question is about; none where that cannot be told, or it is about an absence."""
        if question.topic in KNOWLEDGE or question.kind == "report":
            return ()
        asked, denied = question.text, yes_no(question.answer) is False
        lesions = tuple(sorted({mark.label for mark in case.lesions}))
        if _NORMAL.search(asked) and not _ABNORMAL.search(asked):
            return lesions if denied else ()
        if denied:
            return ()
        marks = sorted({*lesions, *(mark.label for mark in self.organs.get(case.id, ()))})
        named = _named(asked, [label for label in marks if label in lesions]) or (
            lesions if _ABNORMAL.search(asked) else ())
        return tuple(named or _named(question.answer, marks) or _named(asked, marks))

    def marked(self, case: Case, labels: Sequence[str]) -> Case:
        """The case with these organs marked beside its lesions: what else is healthy may be damaged as a control."""
        return replace(case, lesions=(*case.lesions, *(m for m in self.organs.get(case.id, ()) if m.label in labels)))

    def near_copies(self, part: str = "test", *, of: Sequence[str] = ("base", "pool"), above: float = 0.95) -> int:
        """Images of a part of which another part has one that is nearly the same (correlation of thumbnails): slices of
        one scan, where a data set names no patients."""
        looks = [np.stack([_thumbnail(case) for one in parts for case in self.parts[one]]) for parts in ((part,), of)]
        return int((looks[0] @ looks[1].T > above).any(axis=1).sum())


def _thumbnail(case: Case) -> np.ndarray:
    """32 x 32 grey levels as a vector of mean 0 and length 1."""
    grey = np.asarray(read_image(case.image).convert("L").resize((32, 32)), float).ravel()
    grey -= grey.mean()
    return grey / (np.linalg.norm(grey) or 1.0)


def _named(text: str, labels: Sequence[str]) -> list[str]:
    """The labels that stand in a text; of left and right ones both, where it names no side."""
    def stands(name: str) -> bool:
        return re.search(rf"\b{re.escape(name)}s?\b", text, re.I) is not None

    whole = [label for label in labels if stands(label)]
    bare = [label for label in labels if _SIDE.match(label) and stands(_SIDE.sub("", label, count=1))]
    told = {_SIDE.sub("", label, count=1) for label in whole}
    return sorted({*whole, *(label for label in bare if _SIDE.sub("", label, count=1) not in told)})


def read_cohort(path: Path, *, out: Path, model: str, seed: int, answer_tokens: int, most: int = 0,
                max_side: int = 0) -> Cohort:
    """The cohort of a data set; at most so many cases a part (0: all), of those that a model's processor takes. Raises
    CaseError as `read_cases`; a part may be left empty."""
    found = read_cases(path, root=made_files(path, out), **_options(path))
    found = kept_by_model(settle_splits(found, seed=seed), load_processor(model, max_side=max_side),
                          answer_tokens=answer_tokens)
    training = sorted({case.group for case in found.cases if case.split == "train"},
                      key=lambda group: digest([seed, "base", group]))
    first = set(training[: len(training) // 2])
    parts: dict[str, list[Case]] = {part: [] for part in PARTS}
    organs: dict[str, tuple[Lesion, ...]] = {}
    for case in sorted(found.cases, key=lambda case: digest([seed, case.id])):
        healthy = tuple(mark for mark in case.lesions if found.layout == SLAKE.layout and mark.label not in LESIONS)
        part = case.split if case.split != "train" else "base" if case.group in first else "pool"
        if part in parts and (not most or len(parts[part]) < most):
            parts[part].append(replace(case, lesions=tuple(mark for mark in case.lesions if mark not in healthy)))
            organs |= {case.id: healthy} if healthy else {}
    return Cohort(found.layout, {part: tuple(cases) for part, cases in parts.items()}, organs)


def _options(path: Path) -> dict:
    return {"organs": True} if SLAKE.lists(path) else {}
