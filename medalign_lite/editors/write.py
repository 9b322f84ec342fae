"""What an editor made of a finished run, as files for training: records, reasons, pairs with their pictures."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from medalign_lite.cases.case import Case
from medalign_lite.edits.records import Record, write_records
from medalign_lite.files import write_json
from medalign_lite.train.data import pairs_of, pictures_of, write_pairs

SPLITS = {"train": "pairs.jsonl", "val": "validation.jsonl"}


def write_edited(
    folder: Path, records: Sequence[Record], rejected: Counter, cases: Sequence[Case], *, corruption: str, seed: int,
) -> str:
    """Write records.jsonl, rejected.json, pairs.jsonl and validation.jsonl with corrupted pictures; a summary in words.

    The pictures are those of stage 03: the lesion that a record is about corrupted, and as much beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_records(folder / "records.jsonl", records)
    write_json(folder / "rejected.json", dict(rejected.most_common()))
    images = pictures_of(records, cases, folder, method=corruption, seed=seed)
    pairs = pairs_of(records, images, cases, folder=folder)
    for split, name in SPLITS.items():
        write_pairs(folder / name, pairs.get(split, []))
    counted = ", ".join(f"{len(pairs.get(split, []))} in {name}" for split, name in SPLITS.items())
    reasons = json.dumps(dict(rejected.most_common()), indent=1, ensure_ascii=False)
    return f"{len(records)} records, {rejected.total()} rejected {reasons}\n{counted}"
