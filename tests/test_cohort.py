"""The run's cases: kept once, read again by later stages, split by group, with what was left out."""

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import layouts
import pytest
from PIL import Image

from medalign_lite.cases.case import Case, CaseError, CaseSet, Question, find_leaks
from medalign_lite.cases.images import read_image
from medalign_lite.cases.readers import read_cases
from medalign_lite.dials import EMBEDDED
from medalign_lite.files import ROOT
from medalign_lite.model import batches
from medalign_lite.model.batches import special_tokens
from medalign_lite.model.lvlm import load_processor
from medalign_lite.run.cohort import capped, choose_cohort, input_files, kept_by_model, read_cohort, settle_splits
from medalign_lite.run.dial import PRESETS
from medalign_lite.run.stages import open_stage

QUESTION = Question("q1", "Is there an effusion?", "Yes.", "closed", "presence")


def made(*places: tuple[str, str]) -> CaseSet:
    """Cases of (group, split)."""
    cases = [Case(f"c{i}", group, split, Path("a.png"), (QUESTION,)) for i, (group, split) in enumerate(places)]
    return CaseSet(tuple(cases), layout="a list", reason="it is one")


@pytest.fixture
def listed(tmp_path):
    """A cases.jsonl of six cases, one of them with an empty image file."""
    lines = [layouts.record(f"p{i}", split=("train", "val", "test")[i % 3]) for i in range(6)]
    for i in range(6):
        layouts.put(tmp_path, f"mine/images/p{i}.png", layouts.png(i) if i < 5 else b"")
    layouts.put(tmp_path, "mine/cases.jsonl", "\n".join(map(json.dumps, lines)))
    return tmp_path / "mine/cases.jsonl"


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
    assert again == chosen and again.cases[0].image.read_bytes() == pixels
    again.cases[1].image.unlink()
    assert choose_cohort(opened("00_start")).cases[1].image.is_file()


def test_a_users_list_keeps_its_splits_and_says_what_was_skipped(opened, listed):
    assert input_files("") == [] and input_files(str(listed.parent)) == [listed.parent]
    assert input_files(str(listed)) == sorted([listed, *(listed.parent / "images").iterdir()])
    stage = opened("00_start", str(listed), files=input_files(str(listed)))
    chosen = choose_cohort(stage)
    stage.finish()
    assert [case.id for case in chosen.cases] == ["p0", "p1", "p2", "p3", "p4"]
    assert [entry["id"] for entry in chosen.skipped] == ["p5"] and "empty" in chosen.skipped[0]["reason"]
    assert chosen.reason.endswith("its own splits")
    assert read_cohort(opened("91_later", str(listed), needs=["00_start"])) == chosen
    with pytest.raises(CaseError, match=r"case p5: .*STRICT=1"):
        choose_cohort(opened("00_start", str(listed), files=input_files(str(listed))), strict=True)


def test_whole_splits_stay_a_training_case_of_a_held_out_group_goes_and_validation_comes_from_training():
    whole = made(("a", "train"), ("b", "val"), ("c", "test"))
    assert settle_splits(whole, seed=1).cases == whole.cases
    settled = settle_splits(made(("a", "train"), ("b", "train"), ("b", "test"), ("d", "val")), seed=1)
    assert [(c.group, c.split) for c in settled.cases] == [("a", "train"), ("b", "test"), ("d", "val")]
    assert [entry["id"] for entry in settled.skipped] == ["c1"] and "D6" in settled.skipped[0]["reason"]
    settled = settle_splits(made(*((f"g{i}", "train") for i in range(10)), ("t", "test")), seed=1)
    counts = Counter(case.split for case in settled.cases)
    assert counts["test"] == 1 and counts["val"] >= 1 and counts.total() == 11
    assert "validation taken from training" in settled.reason


@pytest.mark.parametrize("only", ["train", "test"])
def test_without_train_or_test_all_groups_are_divided(only):
    settled = settle_splits(made(*((f"g{i // 2}", only) for i in range(40))), seed=1)
    assert {case.split for case in settled.cases} == {"train", "val", "test"}
    assert not find_leaks(settled.cases) and len(settled.cases) == 40 and "divided anew by group" in settled.reason
    assert settled == settle_splits(made(*((f"g{i // 2}", only) for i in range(40))), seed=1)


def test_no_part_of_a_small_set_is_empty():
    for groups in (3, 4, 5, 6, 7, 9, 12):
        settled = settle_splits(made(*((f"g{i}", "test") for i in range(groups))), seed=2)
        assert {case.split for case in settled.cases} == {"train", "val", "test"}, groups
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


@pytest.fixture(scope="module")
def processor():
    return load_processor(ROOT / EMBEDDED)


def test_what_the_model_cannot_take_is_left_out_by_name_and_the_others_go_on(processor, tmp_path, monkeypatch):
    """A special token of the model, a question that is too long, a picture that its processor refuses."""
    Image.new("L", (64, 48), 90).save(tmp_path / "good.png")
    Image.new("L", (190, 1), 90).save(tmp_path / "strip.png")
    end = next(iter(special_tokens(processor.tokenizer)))
    texts = {"plain": ("Is it?", "yes"), "token": (f"Is it {end}?", "yes"), "answer": ("What is it?", f"A {end}"),
             "long": ("Is it so? " * 400, "yes")}  # fmt: skip
    questions = tuple(Question(name, *text, "open", "presence") for name, text in texts.items())
    cases = tuple(Case(name, name, "test", tmp_path / f"{name}.png", questions) for name in ("good", "strip"))
    real = batches.encode_prompts

    def refuses(processor, images, questions):
        if read_image(images[0]).width > 180:
            raise ValueError("absolute aspect ratio must be smaller than 200, got 190\x1b")
        return real(processor, images, questions)

    monkeypatch.setattr(batches, "encode_prompts", refuses)
    kept = kept_by_model(CaseSet(cases), processor, answer_tokens=64)
    assert [(case.id, [question.id for question in case.questions]) for case in kept.cases] == [("good", ["plain"])]
    assert kept.skipped[0]["id"] == "strip" and kept.skipped[0]["reason"].endswith("got 190\\x1b")
    assert "1 images and 3 questions" in kept.reason
    faults = [entry["reason"] for entry in kept.dropped if entry["id"] == "good"]
    assert len(faults) == 3 and all("question" in fault for fault in faults)
    assert [sum(words in fault for fault in faults) for words in ("special token", "tokens, the picture")] == [2, 1]
    with pytest.raises(CaseError, match="the model takes none of the cases"):
        kept_by_model(CaseSet((replace(cases[0], questions=questions[1:]),)), processor, answer_tokens=64)


def test_the_presets_numbers_hold_for_a_users_cases_and_can_be_lifted():
    found = made(*[(f"g{i}", ("train", "test")[i % 2]) for i in range(12)])
    many = tuple(replace(QUESTION, id=f"q{n}") for n in range(5))
    found = replace(found, cases=tuple(replace(case, questions=many) for case in found.cases))
    preset = replace(PRESETS["ci"], n_pool=4, n_test=2, questions_per_case=3)
    part = capped(found, preset, seed=7)
    assert [case.split for case in part.cases].count("train") == 4 and len(part.cases) == 6
    assert all(len(case.questions) == 3 for case in part.cases) and part == capped(found, preset, seed=7)
    assert "4 of 6 train images (n_pool=0 takes all)" in part.reason and "questions_per_case=0" in part.reason
    assert part.cases != capped(found, preset, seed=8).cases
    everything = replace(preset, n_pool=0, n_test=0, questions_per_case=0)
    assert capped(found, everything, seed=7).cases == found.cases


SLAKE = Path(os.environ.get("SLAKE_FULL", Path(__file__).parents[2] / "shared" / "real" / "slake_full"))


@pytest.mark.skipif(not (SLAKE / "imgs").is_dir(), reason=f"no SLAKE folder at {SLAKE}; set SLAKE_FULL=folder")
def test_all_of_slake_is_read_and_divided_as_published():
    settled = settle_splits(read_cases(SLAKE), seed=7)
    count = Counter(case.split for case in settled.cases for _ in case.questions)
    assert count == {"train": 4917, "val": 1053, "test": 1061} and len(settled.cases) == 642 and not settled.skipped
    part = capped(settled, PRESETS["ci"], seed=7)
    assert Counter(case.split for case in part.cases) == {"train": 400, "val": 60, "test": 96}


def test_no_name_of_a_patients_file_is_in_what_stage_00_writes(opened, tmp_path):
    layouts.dicom_table(tmp_path / "set")
    table = (tmp_path / "set/questions.csv").read_text()
    for n, word in enumerate(layouts.WORDS):
        (tmp_path / "set" / word).rename(tmp_path / "set" / f"SUE-{n}")
        layouts.put(tmp_path, f"set/SUE-{n}/IM0.dcm", layouts.dicom(n, frames=1 + 2 * (n == 2), patient=f"MRN-{n}"))
        table = table.replace(f"{word}/IM0", f"SUE-{n}/IM0")
    layouts.put(tmp_path, "set/questions.csv", table + "SUE-9/IM0.dcm,,Is it?,yes,\n")
    stage = opened("00_start", cases=str(tmp_path / "set"), files=input_files(str(tmp_path / "set")))
    assert len(choose_cohort(stage).skipped) == 1
    stage.finish()
    written = [path for path in stage.folder.rglob("*") if path.is_file()]
    assert {"manifest.json", "cases.jsonl", "skipped.json"} <= {path.name for path in written}
    assert not [path.name for path in written if b"SUE" in path.read_bytes() or b"MRN" in path.read_bytes()]
