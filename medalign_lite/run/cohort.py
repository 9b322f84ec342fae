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
    prompt_of,
    write_cases,
)
from medalign_lite.cases.readers import read_cases
from medalign_lite.dials import Preset
from medalign_lite.files import digest, file_sha256, path_of, read_json, short, visible
from medalign_lite.world.dataset import build_world

if TYPE_CHECKING:
    from medalign_lite.run.stages import Stage

STAGE = "00_start"
PACKAGE = Path(__file__).resolve().parents[1]
FRACTIONS = {"train": 0.6, "val": 0.15, "test": 0.25}  # of the groups, where a data set brings no splits
VAL_OF_TRAIN = {"train": 0.85, "val": 0.15}  # of the training groups, where it brings no validation
MIN_GROUPS = 3


def input_files(cases: str) -> list[Path]:
    """What stage 00 depends on for the parameter CASES: the folder, or the list and the files that it names, and the
    reader of such data. Raises CaseError where the list holds no usable case."""
    path = path_of(cases)
    if not cases:
        return []
    reader = readers.detect(path)[0]
    plugged = [reader.file, PACKAGE / "cases/pictures.py", PACKAGE / "cases/dicom.py"]
    code = plugged if reader is not readers.kit.KIT else []  # what no import tells
    if not path.is_file() or reader.makes_files:
        return [path, *code]
    return sorted({path.resolve()}.union(*map(_files_of, read_cases(path, check_files=False).cases)))


def _files_of(case: Case) -> set[Path]:
    """Its image and all that lies beside it: masks, and the picture with a finding gone or moved."""
    masks = [case.folder / entry.mask for entry in (*(case.facts or ()), *case.lesions) if entry.mask]
    return {case.image, *masks, *changed_images(case)}


def choose_cohort(stage: Stage, *, strict: bool = False, lesions: str = "") -> CaseSet:
    """Find the run's cases and keep them as outputs of stage 00; a finished stage is read back. Of a user's cases at
    most as many are taken as the preset says, and of these what the run's model can take. A bad case is left out and
    listed; with `strict` it raises CaseError. `lesions` is the parameter LESIONS. Raises CaseError too where no case is
    left or there are too few groups to divide."""
    found = cache(lambda: _find(stage, strict, lesions))
    stage.path("cases.jsonl", lambda part: write_cases(part, found().cases, root=_root(stage)))
    left_out = stage.json("skipped.json", lambda: {n: getattr(found(), n) for n in ("skipped", "dropped", "notes")})
    about = stage.json("source.json", lambda: {
        "layout": found().layout, "reason": found().reason, "root": short(_root(stage))})
    hashes = stage.json("pictures.json", lambda: _hashes(stage, found().cases))
    for problem in [*left_out["skipped"], *left_out["dropped"]] if strict else []:
        raise CaseError(f"case {problem['id']}: {problem['reason']} (without STRICT=1 it would be left out)")
    return _load(stage, stage.output("cases.jsonl"), left_out, about, hashes)


def read_set(cases: Path, out: Path, *, strict: bool = False, lesions: str = "") -> CaseSet:
    """A user's data set, as `read_cases`; `out` is OUT, `lesions` the parameter LESIONS: names with commas between."""
    names = tuple(name.strip() for name in lesions.split(",") if name.strip())
    return read_cases(cases, strict, root=made_files(cases, out), **({"lesions": names} if names else {}))


def made_files(cases: Path, out: Path) -> Path | None:
    """The folder under OUT for pictures that a reader makes of the data set `cases`; None where it makes none."""
    makes = readers.detect(cases)[0].makes_files
    return out / "cache" / f"cases-{digest(str(cases.resolve()))[:12]}" if makes else None


def read_cohort(stage: Stage) -> CaseSet:
    """The cases that stage 00 chose, for a stage that needs `00_start`. Raises CaseError for a picture of OUT/cache
    that is not what it was."""
    kept = (read_json(stage.input(STAGE, name)) for name in ("skipped.json", "source.json", "pictures.json"))
    return _load(stage, stage.input(STAGE, "cases.jsonl"), *kept)


def settle_splits(found: CaseSet, *, seed: int) -> CaseSet:
    """Every case in a split, no group both in training and held out (METHOD D6); `reason` says what was done. Training
    cases of a held-out group are left out. Where train or test is missing all groups are divided anew; where only
    validation is, it is taken from training. Raises CaseError for fewer than MIN_GROUPS groups."""
    leaks = find_leaks(found.cases)
    leaking = [case for case in found.cases if case.split == "train" and case.group in leaks]
    kept = [case for case in found.cases if case not in leaking]
    splits = {case.split for case in kept}
    if missing := " and ".join(name for name in ("train", "test") if name not in splits):
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
        raise CaseError(f"{len(groups)} groups (patients, images) cannot be divided into {', '.join(fractions)}: add "
                        "cases; where one patient stands for several people, say who is who in a column `patient` "
                        "(`group` in cases.jsonl)")
    if len(groups) * min(fractions.values()) < 1:  # small sets: equal parts, so that none is empty
        fractions = dict.fromkeys(fractions, 1 / len(fractions))
    split = assign_splits(groups, fractions=fractions, seed=seed)
    return tuple(replace(case, split=split[case.group]) for case in cases)


def capped(found: CaseSet, preset: Preset, *, seed: int) -> CaseSet:
    """At most the preset's images of each split and questions of each image, drawn by `seed`; 0 takes all. `reason`
    says what was left out, and how to take all."""
    caps = {"train": "n_pool", "val": "n_val", "test": "n_test", "shifted": "n_shifted"}
    most, told, kept = preset.questions_per_case, [], set()
    for split, field in caps.items():
        part = sorted((case for case in found.cases if case.split == split), key=lambda case: digest([seed, case.id]))
        count = getattr(preset, field) or len(part)
        kept |= {case.id for case in part[:count]}
        if len(part) > count:
            told.append(f"{count} of {len(part)} {split} images ({field}=0 takes all)")
    cases = [case for case in found.cases if case.id in kept]
    if most and any(len(case.questions) > most for case in cases):
        told.append(f"{most} questions of each image (questions_per_case=0 takes all)")
        for n, case in enumerate(cases):
            drawn = sorted(case.questions, key=lambda question: digest([seed, f"{case.id}/{question.id}"]))[:most]
            cases[n] = replace(case, questions=tuple(question for question in case.questions if question in drawn))
    how = [f"taken by the preset's numbers: {', '.join(told)}, as in PRESET={preset.name},n_test=0"] if told else []
    return replace(found, cases=tuple(cases), reason="; ".join([found.reason, *how]))


def kept_by_model(found: CaseSet, processor, *, answer_tokens: int) -> CaseSet:
    """The cases that a model's processor takes: pictures that it can show, questions that hold none of its special
    tokens and leave room for an answer. What it refuses is skipped or dropped, with its sentence. Raises CaseError
    where nothing is left."""
    from medalign_lite.model.batches import conversation, encode_prompts  # imports torch

    limit, cases, skipped, dropped = processor.tokenizer.model_max_length, [], [], []
    for case in found.cases:
        try:
            room = limit - answer_tokens - encode_prompts(processor, [case.image], ["?"])["input_ids"].shape[1]
        except Exception as error:  # processors raise what they like
            fault = f"the model's processor refuses its picture: {error}"
            skipped.append({"id": case.id, "reason": visible(fault)[:300]})
            continue
        questions = []
        for question in case.questions:
            try:
                conversation(processor, prompt_of(question), question.answer)
                tokens = len(processor.tokenizer(prompt_of(question))["input_ids"])
                if tokens > room:
                    raise ValueError(f"its {tokens} tokens, the picture and an answer exceed the {limit} that fit")
                questions.append(question)
            except ValueError as error:
                fault = f"question {question.id} dropped, the model cannot take it: {error}"
                dropped.append({"id": case.id, "reason": visible(fault)[:300]})
        if questions:
            cases.append(replace(case, questions=tuple(questions)))
        else:
            skipped.append({"id": case.id, "reason": "the model takes none of its questions"})
    if not cases:
        raise CaseError(f"the model takes none of the cases: {(dropped or skipped)[0]['reason']}")
    left = f"; {len(skipped)} images and {len(dropped)} questions that the model cannot take left out"
    return replace(found, cases=tuple(cases), skipped=[*found.skipped, *skipped], dropped=[*found.dropped, *dropped],
                   reason=found.reason + left * bool(skipped or dropped))  # fmt: skip


def _find(stage: Stage, strict: bool, lesions: str) -> CaseSet:
    if stage.cases is None:
        found = read_cases(_root(stage), check_files=False)
        return replace(found, layout="phantom world", reason="rendered for this run; splits by person and wording")
    found = read_set(stage.cases, stage.run_folder.parent, strict=strict, lesions=lesions)
    found = capped(settle_splits(found, seed=stage.seed), stage.preset, seed=stage.seed)
    from medalign_lite.model.lvlm import load_processor  # imports torch

    processor = load_processor(stage.model, max_side=stage.preset.max_side)
    found = kept_by_model(found, processor, answer_tokens=stage.preset.max_new_tokens)
    return replace(found, reason="; ".join(filter(None, [found.reason, count_notes(found.notes)])))


def _root(stage: Stage) -> Path:
    """The folder that paths in cases.jsonl count from; a phantom world that is not there is rendered."""
    if stage.cases is not None:
        here = stage.cases if stage.cases.is_dir() else stage.cases.parent
        return made_files(stage.cases, stage.run_folder.parent) or here
    preset, place = stage.preset, stage.run_folder.parent / "cache"
    counts = {"train": preset.n_pool, "val": preset.n_val, "test": preset.n_test, "shifted": preset.n_shifted}
    return build_world(place, counts, seed=stage.seed, questions=preset.questions_per_case)


def _hashes(stage: Stage, cases: Iterable[Case]) -> dict[str, str]:
    """{path from the cases' root: sha256} of pictures that the kit made; a user's own are inputs of stage 00."""
    if stage.cases is not None and made_files(stage.cases, stage.run_folder.parent) is None:
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
            raise CaseError(f"{short(root / name)} is not what stage {STAGE} saw: delete {short(root)}, which is made "
                            "again, and run the same command")
    return CaseSet(
        found.cases, left_out["skipped"], about["layout"], about["reason"], left_out["dropped"], left_out["notes"]
    )
