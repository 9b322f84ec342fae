"""Pictures of pairs: made once a finding and image, the same in any order, and never an error that stops the rest."""

import re

import numpy as np
import pytest

from medalign_lite.cases.images import read_image, read_mask
from medalign_lite.corruption.corrupt import INSIDE, METHODS, UNSEEN
from medalign_lite.corruption.masks import AREA_TOLERANCE
from medalign_lite.corruption.pictures import NOTHING_THERE, corrupt_all, evidence_id
from medalign_lite.files import ROOT
from medalign_lite.run.dial import CORRUPTIONS
from medalign_lite.world.dataset import build_cases


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """(case, findings) of a few phantom cases that have something to see, one of them twice, and one job without."""
    cases = build_cases(tmp_path_factory.mktemp("cache"), {"train": 12}, seed=3, questions=1, size=128, workers=1).cases
    found = [(case, (case.facts[0].finding,)) for case in cases if case.facts][:4]
    assert len(found) == 4
    return [*found, found[0], (found[1][0], None)]


@pytest.fixture(scope="module")
def made(jobs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    lines = []
    return folder, corrupt_all(jobs, folder, method="noise", seed=7, workers=1, say=lines.append), lines


def test_rows_are_in_order_share_their_pictures_and_say_why_there_is_none(jobs, made):
    folder, rows, lines = made
    assert len(rows) == len(jobs) and rows[0] == rows[4]
    assert [row["lesion"] for row in rows[:4]] == [f"lesion/{evidence_id(*job)}.png" for job in jobs[:4]]
    assert len(list((folder / "lesion").iterdir())) == 4 and lines == ["corrupting: 5 of 5 pictures"]
    nothing = {"lesion": None, "control": None, "source": "none", "reason": NOTHING_THERE}
    assert {name: rows[5][name] for name in nothing} == nothing


def test_pictures_differ_from_the_image_inside_their_masks_only(jobs, made):
    folder, rows, _ = made
    for (case, _), row in zip(jobs[:4], rows[:4], strict=True):
        clean = np.asarray(read_image(case.image))
        for place in ("lesion", "control"):
            if row[place] is None:
                assert place == "control" and row["reason"]
                continue
            mask = read_mask(folder / row[f"{place}_mask"], clean.shape[1::-1])
            changed = np.asarray(read_image(folder / row[place]))
            assert (changed[~mask] == clean[~mask]).all() and mask.sum() == row[f"{place}_pixels"] > 0
            assert row[f"{place}_change"] > 10
        assert row["changed_outside"] == 0
        if row["control"]:
            assert abs(row["control_pixels"] / row["lesion_pixels"] - 1) <= AREA_TOLERANCE


def test_order_and_number_of_workers_change_nothing(jobs, made, tmp_path):
    again = corrupt_all(jobs[::-1], tmp_path, method="noise", seed=7, workers=2)
    assert again[::-1] == made[1]
    for file in (tmp_path / "lesion").iterdir():
        assert file.read_bytes() == (made[0] / "lesion" / file.name).read_bytes()


def test_an_unusable_mask_is_a_reason_and_the_rest_goes_on(jobs, tmp_path):
    case, findings = jobs[0]
    path = case.folder / next(fact.mask for fact in case.facts if fact.finding == findings[0])
    kept = path.read_bytes()
    try:
        path.write_bytes(b"")
        broken, good = corrupt_all(jobs[:2], tmp_path, method="noise", seed=7, workers=1)
    finally:
        path.write_bytes(kept)
    assert broken["lesion"] is None and "empty (0 bytes)" in broken["reason"] and good["lesion"]


def test_names_are_safe_and_stay_apart(jobs):
    case = jobs[0][0]
    names = {evidence_id(case, findings) for findings in (("a/b",), ("a-b",), ("a b",), ("../x",))}
    assert len(names) == 4 and all("/" not in name and "." not in name for name in names)


def test_training_never_sees_the_evaluations_own_corruption_nor_one_that_leaves_the_mask(jobs, tmp_path):
    assert set(CORRUPTIONS) == {*INSIDE} - {UNSEEN} and UNSEEN in METHODS
    for method, why in ((UNSEEN, "training must never see it"), ("whole_noise", "whole_noise.*allowed are noise")):
        with pytest.raises(ValueError, match=why):
            corrupt_all(jobs, tmp_path, method=method, seed=7)
    code = [*ROOT.glob("medalign_lite/**/*.py"), *ROOT.glob("notebooks/*.ipynb")]
    calls = r"(?s)(?:corrupt_all|pictures_of)\(.{0,120}?method=([^,]+),"
    used = [name for path in code for name in re.findall(calls, path.read_text("utf-8"))]
    assert len(used) >= 3
    assert all(name == "method" or name.endswith("corruption") or name.strip('\\"') in CORRUPTIONS for name in used)
