"""The cases of one run: chosen once by stage 00_start, read by every stage after it.

Stage 00 keeps `cases.jsonl`, `skipped.json` (cases and parts of cases that were left out, with reasons) and
`source.json` (layout, why, how the splits came about). Images stay where they are: a user's in the user's folder, the
phantom world's and those that a reader had to make (DICOM, parquet) in `OUT/cache`, where they are made again if
somebody has cleared it; `pictures.json` holds their hashes, and every stage that reads the cases compares.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from medalign_lite.cases import readers
from medalign_lite.cases.case import (
    Case,
    CaseError,
    CaseSet,
    assign_splits,
    changed_images,
    count_notes,
    find_leaks,
    write_cases,
)
from medalign_lite.cases.readers import read_cases
from medalign_lite.files import ROOT, digest, file_sha256, read_json, short
from medalign_lite.world.dataset import build_world

if TYPE_CHECKING:
    from medalign_lite.run.stages import Stage

STAGE = "00_start"
FRACTIONS = {"train": 0.6, "val": 0.15, "test": 0.25}  # of the groups, where a data set brings no splits
VAL_OF_TRAIN = {"train": 0.85, "val": 0.15}  # of the training groups, where it brings no validation
MIN_GROUPS = 3


def input_files(cases: str) -> list[Path]:
    """What stage 00 depends on for the parameter CASES: the folder, or the list and the files that it names.

    Raises CaseError where the list holds no usable case.
    """
    path = ROOT / Path(cases).expanduser()
    if not cases or not path.is_file() or readers.detect(path)[0].MAKES_FILES:
        return [path] if cases else []
    files = {path.resolve()}
    for case in read_cases(path, check_files=False).cases:
        files |= _files_of(case)
    return sorted(files)


def _files_of(case: Case) -> set[Path]:
    """Its image and all that lies beside it: masks, and the picture with a finding gone or moved."""
    masks = [case.folder / entry.mask for entry in (*(case.facts or ()), *case.lesions) if entry.mask]
    return {case.image, *masks, *changed_images(case)}


def choose_cohort(stage: Stage, *, strict: bool = False) -> CaseSet:
    """Find the run's cases and keep them as outputs of stage 00; a finished stage is read back.

    A bad case is left out and listed; with `strict` it raises CaseError. Raises CaseError too where no case is left or
    there are too few groups to divide.
    """
    found = cache(lambda: _find(stage, strict))
    lists = {
        "skipped": lambda: found().skipped,
        "dropped": lambda: found().dropped,
        "notes": lambda: found().notes,
    }
    source = {"layout": lambda: found().layout, "reason": lambda: found().reason, "root": lambda: short(_root(stage))}
    stage.path("cases.jsonl", lambda part: write_cases(part, found().cases, root=_root(stage)))
    left_out = stage.json("skipped.json", lambda: {name: value() for name, value in lists.items()})
    about = stage.json("source.json", lambda: {name: value() for name, value in source.items()})
    hashes = stage.json("pictures.json", lambda: _hashes(stage, found().cases))
    for problem in [*left_out["skipped"], *left_out["dropped"]] if strict else []:
        raise CaseError(f"case {problem['id']}: {problem['reason']} (without STRICT=1 it would be left out)")
    return _load(stage, stage.output("cases.jsonl"), left_out, about, hashes)


def made_files(cases: Path, out: Path) -> Path:
    """The folder under OUT for pictures that a reader makes of the data set `cases`; OUT is `out`."""
    return out / "cache" / f"cases-{digest(str(cases.resolve()))[:12]}"


def read_cohort(stage: Stage) -> CaseSet:
    """The cases that stage 00 chose, for a stage that needs `00_start`.

    Raises CaseError for a picture of OUT/cache that is not what it was.
    """
    kept = (read_json(stage.input(STAGE, name)) for name in ("skipped.json", "source.json", "pictures.json"))
    return _load(stage, stage.input(STAGE, "cases.jsonl"), *kept)


def settle_splits(found: CaseSet, *, seed: int) -> CaseSet:
    """Every case in a split, no group both in training and held out (METHOD D6); `reason` says what was done.

    Training cases of a held-out group are left out. Where train or test is missing all groups are divided anew; where
    only validation is, it is taken from training. Raises CaseError for fewer than MIN_GROUPS groups.
    """
    leaks = find_leaks(found.cases)
    leaking = [case for case in found.cases if case.split == "train" and case.group in leaks]
    kept = [case for case in found.cases if case not in leaking]
    splits = {case.split for case in kept}
    if not {"train", "test"} <= splits:
        missing = " and ".join(name for name in ("train", "test") if name not in splits)
        cases = _divide(found.cases, FRACTIONS, seed=seed)
        return replace(found, cases=cases, reason=f"{found.reason}; no {missing} split in it: divided anew by group")
    reason = f"{found.reason}; its own splits"
    if "val" not in splits:
        pool = _divide([case for case in kept if case.split == "train"], VAL_OF_TRAIN, seed=seed)
        kept = [*pool, *(case for case in kept if case.split != "train")]
        reason += ", validation taken from training by group"
    why = "left out of training: its patient or image is also held out (D6)"
    skipped = [*found.skipped, *({"id": case.id, "reason": why} for case in leaking)]
    return replace(found, cases=tuple(kept), skipped=skipped, reason=reason)


def _divide(cases: tuple[Case, ...] | list[Case], fractions: dict[str, float], *, seed: int) -> tuple[Case, ...]:
    groups = {case.group for case in cases}
    if len(groups) < MIN_GROUPS:
        raise CaseError(
            f"{len(groups)} groups (patients or images) cannot be divided into {', '.join(fractions)}: add cases, or "
            "write the splits into the list"
        )
    if len(groups) * min(fractions.values()) < 1:  # small sets: equal parts, so that none is empty
        fractions = dict.fromkeys(fractions, 1 / len(fractions))
    split = assign_splits(groups, fractions=fractions, seed=seed)
    return tuple(replace(case, split=split[case.group]) for case in cases)


def _find(stage: Stage, strict: bool) -> CaseSet:
    if stage.cases is None:
        found = read_cases(_root(stage), check_files=False)
        return replace(found, layout="phantom world", reason="rendered for this run; splits by person and wording")
    root = _root(stage) if readers.detect(stage.cases)[0].MAKES_FILES else None
    found = settle_splits(read_cases(stage.cases, strict, root=root), seed=stage.seed)
    return replace(found, reason="; ".join(filter(None, [found.reason, count_notes(found.notes)])))


def _root(stage: Stage) -> Path:
    """The folder that paths in cases.jsonl count from; a phantom world that is not there is rendered."""
    if stage.cases is not None:
        if readers.detect(stage.cases)[0].MAKES_FILES:
            return made_files(stage.cases, stage.run_folder.parent)
        return stage.cases if stage.cases.is_dir() else stage.cases.parent
    preset, place = stage.preset, stage.run_folder.parent / "cache"
    counts = {"train": preset.n_pool, "val": preset.n_val, "test": preset.n_test, "shifted": preset.n_shifted}
    return build_world(place, counts, seed=stage.seed, questions=preset.questions_per_case)


def _hashes(stage: Stage, cases: Iterable[Case]) -> dict[str, str]:
    """{path from the cases' root: sha256} of pictures that the kit made; a user's own are inputs of stage 00."""
    if stage.cases is not None and not readers.detect(stage.cases)[0].MAKES_FILES:
        return {}
    root = _root(stage).resolve()
    files = sorted({file.resolve() for case in cases for file in _files_of(case)})
    return {file.relative_to(root).as_posix(): file_sha256(file) for file in files}


def _load(stage: Stage, path: Path, left_out: dict, about: dict, hashes: dict[str, str]) -> CaseSet:
    root = _root(stage)
    found = read_cases(path, root=root, check_files=False)
    if stage.cases is not None and not all(case.image.is_file() for case in found.cases):
        read_cases(stage.cases, root=root, check_files=False)  # made again under the same names
    for name, then in hashes.items():
        if not (root / name).is_file() or file_sha256(root / name) != then:
            raise CaseError(
                f"{short(root / name)} is not what stage {STAGE} saw: delete {short(root)}, which is made again, and "
                "run the same command"
            )
    return CaseSet(
        found.cases, left_out["skipped"], about["layout"], about["reason"], left_out["dropped"], left_out["notes"]
    )
