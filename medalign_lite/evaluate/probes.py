"""What the evaluation asks: every held-out question, the same without the evidence, and true statements against false.

Conditions: `real`, the image as it is; `blank`, one grey; `shuffled`, another patient's image; `question-only`, none at
all; `hidden`, the image without one finding, whose company stays; `moved`, with that finding on the other side;
`lesion`, a lesion corrupted as in no training pair; `control`, as much of another place.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from medalign_lite.cases.case import Case, Question, prompt_of
from medalign_lite.cases.images import image_size, read_image
from medalign_lite.cases.pictures import save_png
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.corruption.corrupt import UNSEEN, corrupt
from medalign_lite.corruption.masks import dilate, find_masks, lesion_mask, mask_source
from medalign_lite.edits.records import Record, check_record, make_record
from medalign_lite.edits.truths import truth_of
from medalign_lite.evaluate.grounding import changed_case
from medalign_lite.text.claims import judge
from medalign_lite.text.facts import Fact
from medalign_lite.text.form import find_report_sentences
from medalign_lite.text.reports import extract_claims
from medalign_lite.text.spans import NoEdit
from medalign_lite.train.pairs import Pair

HELD_OUT = ("test", "shifted")
CONTROLS = ("blank", "shuffled", "question-only")
DAMAGES = ("lesion", "control")
CONTROL_IMAGES = 160  # test images that the controls are asked about
PAIRS_PER_SPLIT = 120  # true statements against false ones
HIDDEN_PER_SPLIT = 160  # images from which one finding is taken out
MOVED_PER_SPLIT = 60  # images in which it is put on the other side
DAMAGED_PER_SPLIT = 40  # images whose lesion, and then another place, is corrupted
GREY = 127  # of 255


@dataclass(frozen=True)
class Probe:
    """One question under one condition, about the image that is shown (None: none is); `finding` is what was changed
    in it, if one was hidden or moved."""

    case_id: str
    question_id: str
    split: str
    kind: str
    condition: str
    image: Image.Image | Path | None
    question: str
    finding: str | None = None

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
        "blank": {case.id: Image.new("RGB", image_size(case.image), (GREY,) * 3) for case in chosen},
        "shuffled": another_image(chosen, seed=seed), "question-only": {case.id: None for case in chosen},
    }
    return [
        _probe(case, question, condition, shown[condition][case.id]) for condition in CONTROLS for case in chosen
        if case.id in shown[condition] for question in case.questions if question.visible
    ]


def hidden_probes(cases: Sequence[Case], *, folder: Path, seed: int, per_split: int = HIDDEN_PER_SPLIT) -> list[Probe]:
    """The report and the questions about one finding, with that finding gone and its company still there. A seeded few
    held-out cases of each split; those whose picture was rendered without a finding, where there are any. Elsewhere the
    mask of a seeded visible finding is filled with healthy texture, which no training pair shows, and the picture
    written to `folder`. Cases without a table of facts are left out: nobody knows what to look for."""
    found = []
    for split in HELD_OUT:
        able = [(case, fact) for case in cases if case.split == split and (fact := _to_hide(case, seed=seed))]
        rendered = [(case, fact) for case, fact in able if fact.removed]
        for case, fact in choose(rendered or able, per_split, seed=seed):
            image = case.folder / fact.removed if fact.removed else _filled(case, fact.finding, folder, seed=seed)
            found += _changed_probes(case, fact.finding, "hidden", image)
    return found


def moved_probes(cases: Iterable[Case], *, seed: int) -> list[Probe]:
    """The same with the finding on the other side, where there is such a picture."""
    found = []
    for split in HELD_OUT:
        able = {case.id: (case, fact) for case in cases if case.split == split for fact in case.facts or ()
                if fact.moved and fact.visible}
        for case, fact in choose(list(able.values()), MOVED_PER_SPLIT, seed=seed):
            found += _changed_probes(case, fact.finding, "moved", case.folder / fact.moved)
    return found


def damage_probes(
    cases: Iterable[Case], records: Sequence[Record], *, folder: Path, seed: int, per_split: int = DAMAGED_PER_SPLIT
) -> list[Probe]:
    """What the records and the questions about their lesions ask, with the lesion and with another place corrupted. A
    seeded few records of each held-out split. The pictures in `folder` are those of the records' pairs, which
    `save_damage` writes; a question whose picture could not be made is not asked."""
    by_id, found = {case.id: case for case in cases}, []
    for split in HELD_OUT:
        for record in choose([r for r in records if by_id[r.case_id].split == split], per_split, seed=seed):
            case = by_id[record.case_id]
            about = [q for q in case.questions if q.id == record.question_id or q.finding in record.evidence]
            shown = {condition: _damaged(folder, record, condition) for condition in DAMAGES}
            found += [_probe(case, q, name, shown[name]) for name in DAMAGES for q in about if q.visible]
    return found


def save_damage(records: Iterable[Record], pairs: Iterable[Pair], *, folder: Path) -> None:
    """Write the pairs' corrupted pictures where `damage_probes` looks for them; a pair may lack its control."""
    for record, pair in zip(records, pairs, strict=True):
        for condition, image in zip(DAMAGES, (pair.lesion, pair.control), strict=True):
            if image is not None:
                save_png(np.asarray(image), _damaged(folder, record, condition))


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


def truth_records(
    cases: Iterable[Case], *, seed: int, per_split: int = PAIRS_PER_SPLIT, splits: Sequence[str] = HELD_OUT
) -> list[Record]:
    """A true statement about a lesion as y+, its minimal false edit as y-: at most one a case, `per_split` a split.
    With a table of facts the statement is a sentence of the reference report, else the gold answer to a question."""
    found = []
    for split in splits:
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
            edit = truth_of(case, question).falsify(text, rng)
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
        for start, end in find_report_sentences(question.answer):
            claims = extract_claims(question.answer[start:end])
            true = all(judge(claim, case.facts).verdict == "true" for claim in claims)
            if true and any(claim.polarity == "present" for claim in claims):
                stop = end + question.answer.startswith(".", end)
                found.append((question, question.answer[start:stop].strip()))
    return found


def _probe(case: Case, question: Question, condition: str, image: Image.Image | Path | None) -> Probe:
    return Probe(case.id, question.id, case.split, question.kind, condition, image, prompt_of(question))


def _changed_probes(case: Case, finding: str, condition: str, image: Path) -> list[Probe]:
    changed = changed_case(case, finding, condition)
    return [replace(_probe(case, q, condition, image), finding=finding) for q in changed.questions]


def _to_hide(case: Case, *, seed: int) -> Fact | None:
    """The fact that is hidden: one with a picture without it, else a seeded one of those that are seen and outlined."""
    seen = [fact for fact in case.facts or () if fact.visible]
    able = [f for f in seen if f.removed] or [f for f in seen if mask_source(case, [f.finding]) != "none"]
    return able[int(np.random.default_rng([seed, int(_digest(case.id), 16)]).integers(len(able)))] if able else None


def _filled(case: Case, finding: str, folder: Path, *, seed: int) -> Path:
    path = folder / f"hidden-{_digest(case.id)}.png"
    if not path.exists():
        mask, avoid = lesion_mask(case, [finding]), dilate(lesion_mask(case))
        filled = corrupt(read_image(case.image), mask, method=UNSEEN, id=case.id, seed=seed, avoid=avoid)
        save_png(np.asarray(filled), path)
    return path


def _damaged(folder: Path, record: Record, condition: str) -> Path:
    return folder / f"{condition}-{_digest(record.id)}.png"


def _digest(name: str) -> str:
    """16 hexadecimal digits: an id may be no file name."""
    return sha256(name.encode()).hexdigest()[:16]
