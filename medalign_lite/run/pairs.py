"""The pairs that a stage, or the run in a folder, learns from; and those that an editor makes of a finished run."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from medalign_lite.cases.case import Case
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.dials import Preset
from medalign_lite.edits.records import Record, learnable, read_records, write_records
from medalign_lite.files import write_json
from medalign_lite.model.weights import ModelError
from medalign_lite.run.cohort import read_cohort
from medalign_lite.run.dial import dial
from medalign_lite.run.provenance import read_manifest
from medalign_lite.run.stages import Stage, StageError, open_stage, read_jsonl
from medalign_lite.train.data import TrainingData, draw_data, pairs_of, pictures_of, write_pairs

NEEDS = ("00_start", "02_edits", "03_corruption")
REFUSED = (ValueError, OSError, StageError, ModelError)  # by a command on a finished run, with a sentence
SPLITS = {"train": "pairs.jsonl", "val": "validation.jsonl"}


def stage_data(stage: Stage) -> TrainingData:
    """What a stage that needs `NEEDS` trains on."""
    images = stage.input("03_corruption", "pairs.jsonl")
    return draw_data(
        read_records(stage.input("02_edits", "records.jsonl")), read_jsonl(images), read_cohort(stage).cases,
        folder=images.parent, count=stage.preset.train_pairs, share=stage.preset.corrected_share, seed=stage.seed,
    )  # fmt: skip


def open_run(folder: Path | str, *, needs: Sequence[str] = NEEDS) -> Stage:
    """A reader of the run of `make reproduce` in this folder, as it was made. Raises ValueError for no such run, and
    StageError for stages of `needs` that are missing or stale."""
    folder = Path(folder).resolve()
    try:
        made_from = read_manifest(folder / "03_corruption")["made_from"]["parameters"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder} is no run with a finished stage 03_corruption; name OUT/PRESET of `make "
                         "reproduce`, such as artifacts/ci") from error
    known = {field.name: made_from[field.name] for field in fields(Preset) if field.name in made_from}
    preset = dial(Preset(**known | {"recipes": ()}))
    return open_stage(
        "command", preset=preset, cases=made_from["cases"], model=made_from["model"],
        seed=made_from["seed"], out=str(folder.parent), needs=needs,
    )  # fmt: skip


def run_answers(stage: Stage) -> tuple[list[Rollout], tuple[Case, ...]]:
    """The answers of stage 01 that may be learnt from, and all cases."""
    cases = read_cohort(stage).cases
    answers = [Rollout(**row) for row in read_jsonl(stage.input("01_rollout", "rollouts.jsonl"))]
    return learnable(answers, cases), cases


def write_edited(
    stage: Stage, folder: Path, records: Sequence[Record], rejected: Counter, cases: Sequence[Case]
) -> str:
    """Write what an editor made as files for training, records.jsonl, rejected.json, pairs.jsonl and validation.jsonl
    with corrupted pictures as those of stage 03; a summary in words."""
    folder.mkdir(parents=True, exist_ok=True)
    write_records(folder / "records.jsonl", records)
    write_json(folder / "rejected.json", dict(rejected.most_common()))
    images = pictures_of(records, cases, folder, method=stage.preset.corruption, seed=stage.seed)
    pairs = pairs_of(records, images, cases, folder=folder)
    for split, name in SPLITS.items():
        write_pairs(folder / name, pairs.get(split, []))
    counted = ", ".join(f"{len(pairs.get(split, []))} in {name}" for split, name in SPLITS.items())
    reasons = json.dumps(dict(rejected.most_common()), indent=1, ensure_ascii=False)
    return f"{len(records)} records, {rejected.total()} rejected {reasons}\n{counted}"
