"""Cases survive writing and reading; splits go by group; leaks are found."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import encoded, put

from medalign_lite.cases import case as case_module
from medalign_lite.cases.case import Case, CaseError, Lesion, Question, assign_splits, lesion_pixels, write_cases
from medalign_lite.cases.readers import read_cases
from medalign_lite.text.facts import Fact


@pytest.fixture
def world(tmp_path):
    """A folder with one fully described case."""
    folder = (tmp_path / "world").resolve()
    picture = np.random.default_rng(7).integers(0, 255, (32, 40), dtype=np.uint8)
    spot = np.zeros((32, 40), np.uint8)
    spot[5:9, 6:12] = 255
    for name, pixels in (("images/a.png", picture), ("images/a_hidden.png", picture), ("masks/a.png", spot)):
        put(folder, name, encoded(pixels))
    question = Question("q1", "Is there a nodule?", "yes", "closed", "presence", "nodule", visible=False)
    fact = Fact("nodule", "left", "upper", "small", visible=False, cnr=0.5, mask="masks/a.png",
                removed="images/a_hidden.png", moved="images/a_hidden.png")
    lesions = Lesion("Nodule", (6.0, 5.0, 6.0, 4.0), "masks/a.png", 255), Lesion("Mass", (0.0, 0.0, 4.5, 3.0))
    return folder, Case("a", "anatomy 1", "test", folder / "images/a.png", (question,), (fact,), lesions,
                        hidden=folder / "images/a_hidden.png", source="test", folder=folder)


def test_round_trip_beside_the_files(world):
    folder, case = world
    write_cases(folder / "cases.jsonl", [case])
    for path in (folder, folder / "cases.jsonl"):
        found = read_cases(path, strict=True)
        assert found.cases == (case,) and found.skipped == found.dropped == []
        assert "cases.jsonl" in found.layout and found.reason
    assert sorted(path.name for path in folder.iterdir()) == ["cases.jsonl", "images", "masks"]


def test_round_trip_from_elsewhere_needs_the_root(world, tmp_path):
    folder, case = world
    elsewhere = tmp_path / "stage" / "cases.jsonl"
    write_cases(elsewhere, [case], root=folder)
    assert read_cases(elsewhere, root=folder).cases == (case,)
    with pytest.raises(CaseError, match="no such image file"):
        read_cases(elsewhere)
    with pytest.raises(CaseError, match="is outside"):
        write_cases(elsewhere, [case])


def test_the_documented_example_is_read(tmp_path):
    example = case_module.__doc__.split("    {", 1)[1].rsplit("}", 1)[0]
    record = "{" + " ".join(line.strip() for line in example.splitlines()) + "}"
    (tmp_path / "cases.jsonl").write_text(record + "\n")
    spot = np.zeros((192, 192), np.uint8)
    spot[110:140, 20:60] = 255
    changed = ("images/p7_hidden.png", "images/p7_without_effusion.png", "images/p7_effusion_right.png")
    for name in ("images/p7.png", "masks/p7_effusion.png", *changed):
        put(tmp_path, name, encoded(spot))
    case = read_cases(tmp_path, strict=True).cases[0]
    assert case.facts[0].mask == "masks/p7_effusion.png" and case.lesions[0].box == (20, 110, 40, 30)
    assert case_module.changed_images(case) == [tmp_path / name for name in changed]


@given(names=st.sets(st.text(min_size=1), min_size=10, max_size=60), seed=st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_splits_go_by_group_whatever_the_order(names, seed):
    fractions = {"train": 0.6, "val": 0.1, "test": 0.3}
    splits = assign_splits(sorted(names) * 2, fractions=fractions, seed=seed)
    assert splits == assign_splits(reversed(sorted(names)), fractions=fractions, seed=seed) and set(splits) == names
    for split, fraction in fractions.items():
        assert abs(sum(found == split for found in splits.values()) - fraction * len(names)) <= 1


def test_split_fractions_must_be_known_and_whole():
    with pytest.raises(ValueError, match="sum of 1"):
        assign_splits(["a"], fractions={"train": 0.5}, seed=1)
    with pytest.raises(ValueError, match="use splits among"):
        assign_splits(["a"], fractions={"dev": 1.0}, seed=1)


def test_leaks_are_training_groups_that_are_held_out_too(world):
    _, case = world
    cases = [Case(**{**vars(case), "id": str(i), "group": g, "split": s}) for i, (g, s) in enumerate([
        ("one", "train"), ("one", "test"), ("two", "train"), ("three", "test"), ("three", "shifted"),
    ])]  # fmt: skip
    assert case_module.find_leaks(cases) == {"one": ("train", "test")} and not case_module.find_leaks(cases[1:])


def test_a_lesion_with_box_and_mask_is_the_part_in_the_box(world):
    folder, _ = world
    lesion = Lesion("Nodule", (8.0, 0.0, 10.0, 7.0), "masks/a.png")
    found = lesion_pixels(lesion, folder=folder, size=(40, 32))
    wanted = np.zeros((32, 40), bool)
    wanted[5:7, 8:12] = True
    assert (found == wanted).all()
    with pytest.raises(CaseError, match="nothing of the mask lies inside box"):
        lesion_pixels(Lesion("Nodule", (30.0, 20.0, 5.0, 5.0), "masks/a.png"), folder=folder, size=(40, 32))
