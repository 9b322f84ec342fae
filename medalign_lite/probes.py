"""What the evaluation asks: every held-out question, the same without the evidence, and true statements against false.

Conditions: `real`, the image as it is; `blank`, one grey; `shuffled`, another patient's image; `question-only`, none at
all; `hidden`, the image without its lesions.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from medalign_lite.cases import Case, Question
from medalign_lite.claims import extract_claims, find_sentences, judge
from medalign_lite.corrupt import corrupt, dilate, find_masks, lesion_mask, mask_source
from medalign_lite.edits import counterfactual
from medalign_lite.images import image_size, read_image
from medalign_lite.pairs import Pair
from medalign_lite.records import Record, check_record, make_record
from medalign_lite.rewrite import NoEdit
from medalign_lite.rollout import Rollout

HELD_OUT = ("test", "shifted")
CONTROLS = ("blank", "shuffled", "question-only")
CONTROL_IMAGES = 160  # test images that the controls are asked about
PAIRS_PER_SPLIT = 120  # true statements against false ones
HIDDEN_PER_SPLIT = 160  # images whose lesions are taken out
GREY = 127  # of 255
UNSEEN, TRAINED = "texture", "noise"  # corruption that no training pair shows, and the one they all do


@dataclass(frozen=True)
class Probe:
    """One question under one condition, about the image that is shown (None: none is)."""

    case_id: str
    question_id: str
    split: str
    kind: str
    condition: str
    image: Image.Image | Path | None
    question: str

    @property
    def id(self) -> str:
        return f"{self.condition}/{self.case_id}/{self.question_id}"


def real_probes(cases: Iterable[Case]) -> list[Probe]:
    """Every question of the held-out cases that can be answered from the image, about the image."""
    held = [case for case in cases if case.split in HELD_OUT]
    return [_probe(case, q, "real", case.image) for case in held for q in case.questions if q.visible]


def control_probes(cases: Iterable[Case], *, seed: int, images: int = CONTROL_IMAGES) -> list[Probe]:
    """The same about a seeded choice of `images` test cases, without what they show: one set for each of CONTROLS."""
    chosen = choose([case for case in cases if case.split == "test"], images, seed=seed)
    shown = {
        "blank": {case.id: _blank(case) for case in chosen},
        "shuffled": another_image(chosen, seed=seed),
        "question-only": {case.id: None for case in chosen},
    }
    return [
        _probe(case, question, condition, shown[condition][case.id])
        for condition in CONTROLS
        for case in chosen
        if case.id in shown[condition]
        for question in case.questions
        if question.visible
    ]


def hidden_probes(
    cases: Sequence[Case], *, folder: Path, seed: int, per_split: int = HIDDEN_PER_SPLIT
) -> list[Probe]:
    """Report requests about held-out cases that show something, with its lesions gone; a seeded few of each split.

    Where the case has no such picture its lesions are filled with healthy texture, which no training pair shows; that
    picture is written to `folder`. Cases without a table of facts are left out: nobody knows what to look for.
    """
    found = []
    for split in HELD_OUT:
        able = [case for case in cases if case.split == split and any(fact.visible for fact in case.facts or ())]
        for case in choose(able, per_split, seed=seed):
            image = case.hidden or _without_lesions(case, folder, seed=seed)
            found += [_probe(case, q, "hidden", image) for q in case.questions if q.kind == "report" and image]
    return found


def choose(items: Sequence, count: int, *, seed: int) -> list:
    """At most `count` of the items, drawn without replacement and left in their order."""
    drawn = np.random.default_rng(seed).permutation(len(items))[:count]
    return [items[i] for i in sorted(drawn)]


def another_image(cases: Sequence[Case], *, seed: int) -> dict[str, Path]:
    """{case id: the image of a case of another group}; every image serves once. Empty where one group holds half."""
    order = [cases[i] for i in np.random.default_rng(seed).permutation(len(cases))]
    size = Counter(case.group for case in order)
    first = {group: i for i, group in enumerate(size)}
    order.sort(key=lambda case: first[case.group])  # a group's cases stand together
    largest = max(size.values(), default=0)
    if len(order) < 2 * max(largest, 1):
        return {}
    offset = int(np.random.default_rng([seed, 1]).integers(largest, len(order) - largest + 1))
    return {case.id: order[(i + offset) % len(order)].image for i, case in enumerate(order)}


def truth_records(cases: Iterable[Case], *, seed: int, per_split: int = PAIRS_PER_SPLIT) -> list[Record]:
    """A true statement about a lesion as y+, its minimal false edit as y-: at most one a case, `per_split` a split.

    With a table of facts the statement is a sentence of the reference report, else the gold answer to a question.
    """
    found = []
    for split in HELD_OUT:
        held = [case for case in cases if case.split == split]
        order = np.random.default_rng(seed).permutation(len(held))
        records = (truth_record(held[i], seed=[seed, int(i)]) for i in order)
        found += [record for record in records if record][:per_split]
    return found


def truth_record(case: Case, *, seed: int | Sequence[int]) -> Record | None:
    """The first sound pair of the case in a seeded order of its statements; None where there is none."""
    rng = np.random.default_rng(seed)
    statements = _statements(case)
    for i in rng.permutation(len(statements)):
        question, text = statements[i]
        try:
            edit = counterfactual(text, case.facts if case.facts is not None else question.answer, rng, question)
        except NoEdit:
            continue
        spoken = Rollout(f"truth/{case.id}/{question.id}", case.id, question.id, 0, text, [], [], {})
        record = make_record(spoken, case, question, edit)
        if record.evidence and mask_source(case, record.evidence) != "none" and check_record(record) is None:
            return record
    return None


def probe_pair(record: Record, case: Case, *, method: str, seed: int) -> Pair:
    """The record with its image as it is, with its lesion corrupted by `method`, and with as much of the rest."""
    image = read_image(case.image)
    masks = find_masks(case, image, select=record.evidence, seed=seed)
    avoid = dilate(lesion_mask(case))

    def corrupted(mask: np.ndarray | None) -> Image.Image | None:
        return None if mask is None else corrupt(image, mask, method=method, id=record.id, seed=seed, avoid=avoid)

    return Pair(
        f"{method}/{record.id}", record.question, record.chosen, record.rejected, record.spans_chosen,
        record.spans_rejected, clean=image, lesion=corrupted(masks.lesion), control=corrupted(masks.control),
    )  # fmt: skip


def _statements(case: Case) -> list[tuple[Question, str]]:
    """(question, true answer) that the case offers: sentences about a visible finding, or gold answers."""
    if case.facts is None:
        return [(q, q.answer.strip()) for q in case.questions if q.kind != "report" and q.visible]
    found = []
    for question in (q for q in case.questions if q.kind == "report"):
        for start, end in find_sentences(question.answer):
            claims = extract_claims(question.answer[start:end])
            true = all(judge(claim, case.facts).verdict == "true" for claim in claims)
            if true and any(claim.polarity == "present" for claim in claims):
                found.append((question, question.answer[start:end].strip()))
    return found


def _probe(case: Case, question: Question, condition: str, image: Image.Image | Path | None) -> Probe:
    return Probe(case.id, question.id, case.split, question.kind, condition, image, question.text)


def _blank(case: Case) -> Image.Image:
    return Image.new("RGB", image_size(case.image), (GREY,) * 3)


def _without_lesions(case: Case, folder: Path, *, seed: int) -> Path | None:
    path = folder / f"{sha256(case.id.encode()).hexdigest()[:16]}.png"  # an id may be no file name
    mask = lesion_mask(case)
    if mask is not None and not path.exists():
        part = path.with_name(f".{path.name}")
        corrupt(read_image(case.image), mask, method=UNSEEN, id=case.id, seed=seed, avoid=dilate(mask)).save(part)
        part.replace(path)
    return None if mask is None else path
