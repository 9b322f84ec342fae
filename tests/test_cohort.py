"""The run's cases: kept once, read again by later stages, split by group, with what was left out."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from medalign_lite.cases.case import Case, CaseError, CaseSet, Question, find_leaks
from medalign_lite.run.cohort import choose_cohort, input_files, read_cohort, settle_splits
from medalign_lite.run.stages import open_stage

QUESTION = Question("q1", "Is there an effusion?", "Yes.", "closed", "presence")


def made(*places: tuple[str, str]) -> CaseSet:
    """Cases of (group, split)."""
    cases = [Case(f"c{i}", group, split, Path("a.png"), (QUESTION,)) for i, (group, split) in enumerate(places)]
    return CaseSet(tuple(cases), layout="a list", reason="it is one")


@pytest.fixture
def listed(tmp_path):
    """A cases.jsonl of six cases, one of them with an empty image file."""
    folder = tmp_path / "mine"
    (folder / "images").mkdir(parents=True)
    lines = []
    for i in range(6):
        Image.new("L", (32, 32), 40 * i).save(folder / f"images/{i}.png")
        question = {"id": "q1", "text": "Is it?", "answer": "Yes", "kind": "closed", "topic": "presence"}
        case = {"id": f"p{i}", "group": f"g{i}", "split": ("train", "val", "test")[i % 3], "image": f"images/{i}.png"}
        lines.append(json.dumps(case | {"questions": [question]}))
    (folder / "images/5.png").write_bytes(b"")
    (folder / "cases.jsonl").write_text("\n".join(lines))
    return folder / "cases.jsonl"


@pytest.fixture
def opened(tmp_path):
    """Opens a stage of a small run."""

    def opener(name, cases="", **options):
        stage = open_stage(name, preset="ci", cases=cases, out=str(tmp_path / "out"), uses_model=False, **options)
        stage.preset = replace(stage.preset, n_pool=3, n_val=2, n_test=2, n_shifted=2)
        return stage

    return opener


def test_a_phantom_cohort_is_read_back_and_rendered_again_where_the_cache_is_gone(opened, tmp_path):
    stage = opened("00_start")
    chosen = choose_cohort(stage)
    stage.finish()
    assert [case.split for case in chosen.cases] == ["train"] * 3 + ["val"] * 2 + ["test"] * 2 + ["shifted"] * 2
    assert not find_leaks(chosen.cases) and not chosen.skipped
    pixels = chosen.cases[0].image.read_bytes()
    shutil.rmtree(tmp_path / "out" / "cache")
    again = read_cohort(opened("91_later", needs=["00_start"]))
    assert again == chosen
    assert again.cases[0].image.read_bytes() == pixels
    again.cases[1].image.unlink()
    assert choose_cohort(opened("00_start")).cases[1].image.is_file()


def test_a_users_list_keeps_its_splits_and_says_what_was_skipped(opened, listed):
    stage = opened("00_start", str(listed), files=input_files(str(listed)))
    chosen = choose_cohort(stage)
    stage.finish()
    assert [case.id for case in chosen.cases] == ["p0", "p1", "p2", "p3", "p4"]
    assert [entry["id"] for entry in chosen.skipped] == ["p5"] and "empty" in chosen.skipped[0]["reason"]
    assert chosen.reason.endswith("its own splits")
    assert read_cohort(opened("91_later", str(listed), needs=["00_start"])) == chosen
    with pytest.raises(CaseError, match=r"case p5: .*STRICT=1"):
        choose_cohort(opened("00_start", str(listed), files=input_files(str(listed))), strict=True)


def test_a_mended_image_makes_the_stage_again(opened, listed):
    stage = opened("00_start", str(listed), files=input_files(str(listed)))
    choose_cohort(stage)
    stage.finish()
    Image.new("L", (32, 32), 7).save(listed.parent / "images/5.png")
    again = opened("00_start", str(listed), files=input_files(str(listed)))
    assert not again.complete
    assert len(choose_cohort(again).cases) == 6


def test_input_files_are_a_folder_or_what_a_list_names(listed):
    assert input_files("") == []
    assert input_files(str(listed.parent)) == [listed.parent]
    assert input_files(str(listed)) == sorted([listed, *(listed.parent / "images").iterdir()])


def test_splits_that_are_whole_stay():
    found = made(("a", "train"), ("b", "val"), ("c", "test"))
    assert settle_splits(found, seed=1).cases == found.cases


def test_a_training_case_of_a_held_out_group_is_left_out():
    settled = settle_splits(made(("a", "train"), ("b", "train"), ("b", "test"), ("d", "val")), seed=1)
    assert [(c.group, c.split) for c in settled.cases] == [("a", "train"), ("b", "test"), ("d", "val")]
    assert [entry["id"] for entry in settled.skipped] == ["c1"] and "D6" in settled.skipped[0]["reason"]


@pytest.mark.parametrize("only", ["train", "test"])
def test_without_train_or_test_all_groups_are_divided(only):
    settled = settle_splits(made(*((f"g{i // 2}", only) for i in range(40))), seed=1)
    assert {case.split for case in settled.cases} == {"train", "val", "test"}
    assert not find_leaks(settled.cases) and len(settled.cases) == 40
    assert "divided anew by group" in settled.reason
    assert settled == settle_splits(made(*((f"g{i // 2}", only) for i in range(40))), seed=1)


@pytest.mark.parametrize("groups", [3, 4, 5, 6, 7, 9, 12])
def test_no_part_of_a_small_set_is_empty(groups):
    settled = settle_splits(made(*((f"g{i}", "test") for i in range(groups))), seed=2)
    assert {case.split for case in settled.cases} == {"train", "val", "test"}


def test_a_missing_validation_is_taken_from_training():
    settled = settle_splits(made(*((f"g{i}", "train") for i in range(10)), ("t", "test")), seed=1)
    counts = {split: sum(case.split == split for case in settled.cases) for split in ("train", "val", "test")}
    assert counts["test"] == 1 and counts["val"] >= 1 and sum(counts.values()) == 11
    assert "validation taken from training" in settled.reason


def test_too_few_groups_to_divide():
    with pytest.raises(CaseError, match="2 groups .* cannot be divided"):
        settle_splits(made(("a", "test"), ("b", "test")), seed=1)


def test_a_picture_of_the_cache_that_was_changed_is_told(opened, tmp_path):
    first = opened("00_start")
    cases = choose_cohort(first).cases
    first.finish()
    mask = next(case.folder / fact.mask for case in cases for fact in case.facts)
    mask.write_bytes(mask.read_bytes() + b"\0")
    with pytest.raises(CaseError, match=rf"{mask.name} is not what stage 00_start saw: delete .*phantom-"):
        read_cohort(opened("01_rollout", needs=("00_start",)))
    shutil.rmtree(mask.parents[1])
    assert read_cohort(opened("01_rollout", needs=("00_start",))).cases == cases
