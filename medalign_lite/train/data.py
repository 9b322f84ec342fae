"""What a run learns from: pairs drawn from the records of stages 02 and 03, or read from a file of one's own.

A pairs file is JSONL, one pair a line: `id`, `question`, `chosen`, `rejected` and `clean`, an image file; and where
they exist `lesion` and `control` (corrupted images), `gold`, `positive`, `spans_chosen` and `spans_rejected` (lists of
[start, end, kind] in characters; without them the two texts are compared), `chosen_ids` or `rejected_ids` (token ids of
the side that the model itself said). Paths are relative to the file.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from medalign_lite.cases.case import Case
from medalign_lite.dials import Preset
from medalign_lite.edits.records import Record
from medalign_lite.text.diff import diff_spans
from medalign_lite.train.arms import choose_pairs, pairs_of
from medalign_lite.train.pairs import Pair

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


def draw_data(
    records: Iterable[Record], images: Iterable[dict], cases: Sequence[Case], *, folder: Path, preset: Preset, seed: int
) -> TrainingData:
    """Draw what the preset asks for from records and the rows of their pictures (see `arms.pairs_of`)."""
    records = {record.id: record for record in records}
    pairs = pairs_of(records.values(), images, cases, folder=folder)
    kinds = {(case.id, question.id): question.kind for case in cases for question in case.questions}
    reports = {name for name, record in records.items() if kinds[record.case_id, record.question_id] == "report"}
    corrected = {name for name, record in records.items() if record.source == "corrected"}
    drawn = {"seed": seed, "first": corrected, "share": preset.corrected_share}
    pool = choose_pairs(pairs.get("train", []), preset.train_pairs, **drawn)
    watched = choose_pairs(pairs.get("val", []), WATCHED, **drawn)
    return TrainingData(records, pairs, reports, corrected, pool, watched)


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file in the layout above. Raises ValueError naming the line and what is wrong in it."""
    path, found = Path(path), []
    if not path.is_file():
        raise ValueError(f"{path} is not a file; give a pairs file (its layout is in medalign_lite/train/data.py)")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            found += [_pair(json.loads(line), path.parent)] if line.strip() else []
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} line {number}: {error}") from error
    return found


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """A file that `read_pairs` reads; pictures are files, named from the file's folder where they lie in it.

    Raises TypeError for a picture that is no file.
    """
    folder = Path(path).resolve().parent
    lines = []
    for pair in pairs:
        row = {field.name: getattr(pair, field.name) for field in fields(Pair)}
        for name in IMAGES:
            row[name] = row[name] and _named(Path(row[name]).resolve(), folder)
        lines.append(json.dumps({name: value for name, value in row.items() if value is not None}, ensure_ascii=False))
    Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _named(file: Path, folder: Path) -> str:
    return (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()


def _pair(row: dict, folder: Path) -> Pair:
    allowed = [field.name for field in fields(Pair)]
    if not isinstance(row, dict) or set(row) - set(allowed) or not set(REQUIRED) <= set(row):
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
