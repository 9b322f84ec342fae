"""What a run learns from: answers, their records, the pictures of these, and pairs; or pairs of a file of one's own.

    rows = pictures_of(records, cases, folder, method="noise", seed=7)        # stage 03
    data = draw_data(records, rows, cases, folder=folder, count=320, share=1.0, seed=7)

A pairs file is JSONL, one pair a line: `id`, `question`, `chosen`, `rejected` and `clean`, an image file; and where
they exist `lesion` and `control` (corrupted images), `gold`, `positive`, `spans_chosen` and `spans_rejected` (lists of
[start, end, kind] in characters; without them the two texts are compared), `chosen_ids` or `rejected_ids` (token ids of
the side that the model itself said). Paths are relative to the file.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from medalign_lite.cases.case import Case
from medalign_lite.corruption.pictures import corrupt_all
from medalign_lite.edits.records import Record
from medalign_lite.files import rows, write_jsonl
from medalign_lite.text.diff import diff_spans
from medalign_lite.train.pairs import Pair, Picture

WATCHED = 48  # validation pairs that are looked at after each epoch
REQUIRED = ("id", "question", "chosen", "rejected", "clean")
IMAGES = ("clean", "lesion", "control")


@dataclass(frozen=True)
class TrainingData:
    """`pool` is learnt from, `watched` looked at; both drawn from `pairs` ({split: pairs}). Ids of records: `reports`
    answer a report request, `corrected` repair an error of the model."""

    records: dict[str, Record]
    pairs: dict[str, list[Pair]]
    reports: set[str]
    corrected: set[str]
    pool: list[Pair]
    watched: list[Pair]


def pictures_of(
    records: Sequence[Record], cases: Iterable[Case], folder: Path, *, method: str, seed: int,
    say: Callable[[str], object] = lambda line: None,
) -> list[dict]:
    """A row for each record: its id, and what `corrupt_all` says of its pictures, which are written to `folder`."""
    by_id = {case.id: case for case in cases}
    jobs = [(by_id[record.case_id], record.evidence) for record in records]
    made = corrupt_all(jobs, folder, method=method, seed=seed, say=say)
    return [{"id": record.id, **row} for record, row in zip(records, made, strict=True)]


def pair_of(record: Record, *, clean: Picture, lesion: Picture | None = None, control: Picture | None = None,
            gold: str | None = None) -> Pair:
    """A record with its images. The side that the model itself said keeps the ids that were sampled."""
    sampled = {"corrected": "rejected_ids", "counterfactual": "chosen_ids"}[record.source]
    return Pair(
        record.id, record.question, record.chosen, record.rejected, tuple(record.spans_chosen),
        tuple(record.spans_rejected), clean, lesion, control, gold, positive=record.evidence is not None,
        **{sampled: tuple(record.response_ids)},
    )


def pairs_of(
    records: Iterable[Record], images: Iterable[dict], cases: Iterable[Case], *, folder: Path
) -> dict[str, list[Pair]]:
    """Records of stage 02 with the images of stage 03, ready to be scored: {split: pairs in the order of the records}.
    `images` are the rows of `pictures_of`; their `lesion` and `control` are names of files in `folder`, or None. Raises
    KeyError for a record whose case or row is not there."""
    by_case, shown = {case.id: case for case in cases}, {row["id"]: row for row in images}
    found: dict[str, list[Pair]] = {}
    for record in records:
        case, row = by_case[record.case_id], shown[record.id]
        damaged = {name: folder / row[name] if row[name] else None for name in ("lesion", "control")}
        gold = next(question.answer for question in case.questions if question.id == record.question_id)
        found.setdefault(case.split, []).append(pair_of(record, clean=case.image, gold=gold, **damaged))
    return found


def choose_pairs(
    pairs: Sequence[Pair], count: int, *, seed: int, first: Collection[str] = (), share: float = 0.0
) -> list[Pair]:
    """At most `count` of the pairs (0: all), drawn without replacement and left in their order. A `share` of them has
    its id in `first` (the corrected ones, say); where one side runs short the other fills up."""
    if not 0 < count < len(pairs):
        return list(pairs)
    order = np.random.default_rng(seed).permutation(len(pairs))
    sides = {wanted: [i for i in order if (pairs[i].id in first) == wanted] for wanted in (True, False)}
    many = min(max(round(share * count), count - len(sides[False])), len(sides[True]))
    return [pairs[i] for i in sorted([*sides[True][:many], *sides[False][: count - many]])]


def draw_data(
    records: Iterable[Record], images: Iterable[dict], cases: Sequence[Case], *, folder: Path, count: int,
    share: float, seed: int,
) -> TrainingData:
    """Draw `count` pairs (0: all), a `share` of them repairs, from records and the rows of their pictures. Raises
    ValueError where no record of a training case is left to learn from."""
    records = {record.id: record for record in records}
    pairs = pairs_of(records.values(), images, cases, folder=folder)
    kinds = {(case.id, question.id): question.kind for case in cases for question in case.questions}
    reports = {name for name, record in records.items() if kinds[record.case_id, record.question_id] == "report"}
    corrected = {name for name, record in records.items() if record.source == "corrected"}
    if not pairs.get("train"):
        raise ValueError("no answer of the training cases gave a pair to learn from: rejected.json counts why, by "
                         "reason. More cases, PRESET=...,samples_per_case=2, or cases with findings or yes/no answers "
                         "give more")
    drawn = {"seed": seed, "first": corrected, "share": share}
    pool, watched = choose_pairs(pairs["train"], count, **drawn), choose_pairs(pairs.get("val", []), WATCHED, **drawn)
    return TrainingData(records, pairs, reports, corrected, pool, watched)


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file in the layout above. Raises ValueError naming the line and what is wrong in it."""
    path, found = Path(path), []
    if not path.is_file():
        raise ValueError(f"{path} is not a file; give a pairs file (its layout is in medalign_lite/train/data.py)")
    for place, row in rows(path):
        try:
            found.append(_pair(row, path.parent))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{place}: {error}") from error
    return found


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """A file that `read_pairs` reads; pictures are files, named from the file's folder where they lie in it. Raises
    TypeError for a picture that is no file."""
    folder, told = Path(path).resolve().parent, []
    for pair in pairs:
        row = dict(vars(pair))
        for name in IMAGES:
            file = row[name] and Path(row[name]).resolve()
            row[name] = file and (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()
        told.append({name: value for name, value in row.items() if value is not None})
    write_jsonl(path, told)


def _pair(row: dict, folder: Path) -> Pair:
    allowed = [field.name for field in fields(Pair)]
    if set(row) - set(allowed) or not set(REQUIRED) <= set(row):
        raise ValueError(f"a pair has {', '.join(REQUIRED)}, and may have {', '.join(allowed[5:])}; nothing else")
    for name in ("id", "question", "chosen", "rejected", "gold", *IMAGES):
        if not isinstance(row.get(name, ""), str):
            raise ValueError(f"{name} must be text")
    if bool(row.get("spans_chosen")) != bool(row.get("spans_rejected")):
        raise ValueError("spans_chosen and spans_rejected come together")
    spans = (row.get("spans_chosen"), row.get("spans_rejected"))
    if not spans[0]:
        spans = diff_spans(row["chosen"], row["rejected"])
    images = {name: folder / row[name] for name in IMAGES if row.get(name)}
    missing = [str(image) for image in images.values() if not image.is_file()]
    if missing:
        raise ValueError(f"there is no image {missing[0]}")
    sides = (tuple((int(a), int(b), str(kind)) for a, b, kind in side) for side in spans)
    ids = {name: tuple(map(int, row[name])) for name in ("chosen_ids", "rejected_ids") if row.get(name)}
    return Pair(
        row["id"], row["question"], row["chosen"], row["rejected"], *sides, gold=row.get("gold"),
        positive=bool(row.get("positive", True)), **images, **ids,
    )  # fmt: skip
