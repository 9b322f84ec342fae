"""The pairs that a stage, or the run in a folder, learns from."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from medalign_lite.dials import Preset
from medalign_lite.edits.records import read_records
from medalign_lite.run.cohort import read_cohort
from medalign_lite.run.dial import dial
from medalign_lite.run.provenance import read_manifest
from medalign_lite.run.stages import Stage, open_stage, read_jsonl
from medalign_lite.train.data import TrainingData, draw_data

NEEDS = ("00_start", "02_edits", "03_corruption")


def stage_data(stage: Stage) -> TrainingData:
    """What a stage that needs `NEEDS` trains on."""
    images = stage.input("03_corruption", "pairs.jsonl")
    return draw_data(
        read_records(stage.input("02_edits", "records.jsonl")), read_jsonl(images), read_cohort(stage).cases,
        folder=images.parent, count=stage.preset.train_pairs, share=stage.preset.corrected_share, seed=stage.seed,
    )  # fmt: skip


def open_run(folder: Path, *, needs: Sequence[str] = NEEDS) -> Stage:
    """A reader of the run of `make reproduce` in this folder, as it was made. Raises ValueError for no such run, and
    StageError for stages of `needs` that are missing or stale."""
    folder = Path(folder).resolve()
    try:
        made_from = read_manifest(folder / "03_corruption")["made_from"]["parameters"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{folder} is no run with a finished stage 03_corruption; name OUT/PRESET of `make reproduce`, such as "
            "artifacts/ci"
        ) from error
    return open_stage(
        "command", preset=_dial_of(made_from), cases=made_from["cases"], model=made_from["model"],
        seed=made_from["seed"], out=str(folder.parent), needs=needs,
    )  # fmt: skip


def _dial_of(made_from: dict) -> str:
    """PRESET= of the run whose parameters these are."""
    known = {field.name: made_from[field.name] for field in fields(Preset) if field.name in made_from}
    return dial(Preset(**known | {"recipes": ()}))
