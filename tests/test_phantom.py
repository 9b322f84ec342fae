"""The phantom world: statistics of the facts, exactness of masks and twins, and the sides."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from medalign_lite.cases.images import read_image
from medalign_lite.cases.readers import read_cases
from medalign_lite.files import ROOT
from medalign_lite.text.facts import ATTRIBUTES, FINDINGS, Fact
from medalign_lite.world import dataset, world
from medalign_lite.world.anatomy import ellipsoid, grid
from medalign_lite.world.render import VISIBLE_CNR, build_scene, render
from studies.embedded import people, samples

REACH = 12  # pixels from a mask to where the last faint trace of its finding may lie
ONE_OF_EACH = [
    Fact("nodule", "right", "upper", "moderate"), Fact("consolidation", "left", "mid", "small"),
    Fact("effusion", "left", None, "moderate"), Fact("pneumothorax", "right", None, "large"),
    Fact("cardiomegaly", None, None, "large"), Fact("atelectasis", "left"), Fact("fracture", "right", "mid"),
    Fact("pacemaker", "left"),
]


def tables(of: world.World, count: int = 6000) -> list[dict[str, Fact]]:
    return [{f.finding: f for f in world.draw_facts(of, np.random.default_rng([11, i]))} for i in range(count)]


def share(drawn, finding: str, given: str | None = None, absent: bool = False) -> float:
    among = [t for t in drawn if given is None or (given in t) != absent]
    return float(np.mean([finding in t for t in among]))


@pytest.fixture(scope="module")
def both():
    return tables(world.CONFOUNDED), tables(world.SHIFTED)


@pytest.mark.parametrize("finding, companion", world.COMPANY.items())
def test_company_is_kept_in_the_confounded_world_and_broken_in_the_shifted(both, finding, companion):
    confounded, shifted = both
    for drawn, its_world in ((confounded, world.CONFOUNDED), (shifted, world.SHIFTED)):
        assert share(drawn, finding, companion) == pytest.approx(its_world.together[finding], abs=0.05)
        assert share(drawn, finding, companion, absent=True) == pytest.approx(its_world.alone[finding], abs=0.03)
    assert share(confounded, finding, companion) > 3 * share(confounded, finding, companion, absent=True)
    assert share(shifted, finding, companion) < share(shifted, finding, companion, absent=True)


@pytest.mark.parametrize("finding", ["nodule", "pneumothorax", "pacemaker"])
def test_side_habits_are_reversed_by_the_shift(both, finding):
    right = [np.mean([t[finding].side == "right" for t in drawn if finding in t]) for drawn in both]
    assert right[0] == pytest.approx(world.CONFOUNDED.right[finding], abs=0.05)
    assert right[0] + right[1] == pytest.approx(1, abs=0.07)


def test_each_fact_has_just_its_attributes_and_balanced_findings_are_independent(both):
    for table in both[0][:500]:
        for fact in table.values():
            has = {name for name in ("side", "zone", "size") if getattr(fact, name)}
            assert has == set(ATTRIBUTES[fact.finding])
    drawn = tables(world.BALANCED)
    present = np.array([[f in t for f in FINDINGS] for t in drawn], float)
    assert np.allclose(present.mean(0), 0.28, atol=0.025)
    correlations = np.corrcoef(present.T) - np.eye(len(FINDINGS))
    assert np.abs(correlations).max() < 0.05  # 4 standard errors at n = 6000


def test_the_reporter_adds_company_and_pulls_sides(both):
    written = []
    for i, table in enumerate(both[0]):
        rng = np.random.default_rng([12, i])
        written.append((table, {f.finding: f for f in people.prior_ridden(tuple(table.values()), rng)}))
    lonely = [w for t, w in written if "cardiomegaly" in t and "effusion" not in t]
    assert np.mean(["effusion" in w for w in lonely]) == pytest.approx(people.PRIOR_ADDS["effusion"], abs=0.06)
    none = [w for t, w in written if "cardiomegaly" not in t and "effusion" not in t]
    assert not any("effusion" in w for w in none)
    left = [w["nodule"].side for t, w in written if "nodule" in w and t["nodule"].side == "left"]
    assert np.mean([s == "right" for s in left]) == pytest.approx(people.PRIOR_SIDES["nodule"], abs=0.08)


@pytest.mark.parametrize("fact", ONE_OF_EACH, ids=lambda f: f.finding)
def test_removing_a_finding_changes_nothing_outside_its_dilated_mask(fact):
    others = tuple(f for f in ONE_OF_EACH if f.finding != fact.finding)[:2]
    picture = render(5, (fact, *others))
    without = picture.removed(fact.finding)
    assert np.array_equal(without, render(5, others).image)
    changed = picture.image != without
    assert changed.any() and not (changed & ~binary_dilation(picture.masks[fact.finding], iterations=REACH)).any()


@pytest.mark.parametrize("fact", ONE_OF_EACH, ids=lambda f: f.finding)
def test_clear_findings_are_visible_and_faint_ones_are_not(fact):
    for seed in range(3):
        assert render(seed, (fact,)).facts[0].cnr > VISIBLE_CNR
        faint = render(seed, (fact,), densities={fact.finding: 0.02}).facts[0]
        assert not faint.visible and faint.cnr < VISIBLE_CNR


@pytest.mark.parametrize("fact", [f for f in ONE_OF_EACH if f.side], ids=lambda f: f.finding)
def test_masks_lie_on_their_side_and_in_the_body(fact):
    for side in ("right", "left"):
        picture = render(6, (replace(fact, side=side),))
        mask, scene = picture.masks[fact.finding], picture.scene
        assert (scene.tissue.body[mask] > 1).all()
        x = np.broadcast_to(grid(scene.n)[0], mask.shape)[mask].mean()
        assert (x < scene.anatomy.midline) == (side == "right")  # patient's right = image left
        if fact.finding in ("consolidation", "effusion", "pneumothorax", "atelectasis"):
            assert not (mask & ~scene.tissue.lungs[side]).any()


@pytest.mark.parametrize("zone", ["upper", "mid", "lower"])
def test_zones_are_where_they_say(zone):
    low, high = {"upper": (0, 0.42), "mid": (0.33, 0.7), "lower": (0.58, 1)}[zone]
    for finding in ("nodule", "consolidation", "fracture"):
        size = None if finding == "fracture" else "small"
        picture = render(8, (Fact(finding, "left", zone, size),))
        rows = np.nonzero(picture.masks[finding])[0].mean() / picture.scene.n
        a = picture.scene.anatomy
        assert low < (rows - a.apex) / a.thorax_height < high


def test_a_picture_redrawn_from_another_one_is_the_picture_drawn_from_scratch():
    picture = render(12, tuple(ONE_OF_EACH), densities={"consolidation": 0.05})
    shown = [(changes, made) for changes, (_, made) in picture.scene.shown.items()]
    assert len(shown) == len(ONE_OF_EACH) + 1
    for changes, made in shown[::3]:
        fresh = build_scene(12)
        assert np.array_equal(fresh.expose(changes), made) and len(fresh.shown) == 1


def test_ellipsoids_are_whole_in_their_frames():
    x, y = grid(96)
    for cx, turn, power in ((0.5, 0.0, 2.0), (0.02, 0.7, 2.1), (0.98, 2.0, 3.5), (1.5, 0.3, 2.0)):
        c, s = np.cos(turn), np.sin(turn)
        u, v = ((x - cx) * c + (y - 0.4) * s) / 0.2, ((y - 0.4) * c - (x - cx) * s) / 0.05
        whole = 7 * np.sqrt(np.clip(1 - np.abs(u) ** power - np.abs(v) ** power, 0, None))
        assert np.array_equal(ellipsoid(x, y, cx, 0.4, 0.2, 0.05, 7, power, turn), whole.astype(np.float32))


def test_moving_a_finding_keeps_everything_else_and_streams_are_separate():
    nodule, effusion = ONE_OF_EACH[0], ONE_OF_EACH[2]
    picture = render(9, (nodule, effusion))
    moved = picture.moved("nodule")
    assert moved.facts[0].side == "left" and moved.facts[1] == picture.facts[1]
    assert np.array_equal(moved.removed("nodule"), picture.removed("nodule"))
    with pytest.raises(ValueError, match="no cardiomegaly with a side"):
        picture.moved("cardiomegaly")
    alone, together = render(10, (ONE_OF_EACH[0],)), render(10, tuple(ONE_OF_EACH[:4]))
    assert np.array_equal(alone.masks["nodule"], together.masks["nodule"])
    assert np.array_equal(alone.removed(), together.removed())
    assert not np.array_equal(render(11, ()).image, render(10, ()).image)


def test_a_rendered_world_is_bit_identical_reused_and_split_by_person(tmp_path):
    counts = {"train": 5, "val": 2, "test": 4, "shifted": 3}
    first = dataset.build_cases(tmp_path / "a", counts, seed=3, questions=4, workers=2)
    again = dataset.build_cases(tmp_path / "b", counts, seed=3, questions=4, workers=1)
    assert [len([c for c in first.cases if c.split == s]) for s in counts] == list(counts.values())
    assert not first.skipped and len({c.group for c in first.cases}) == 14
    for one, two in zip(first.cases, again.cases, strict=True):
        assert one.image.read_bytes() == two.image.read_bytes()
        assert one.facts == two.facts and one.questions == two.questions
    stamp = first.cases[0].image.stat().st_mtime_ns
    assert dataset.build_cases(tmp_path / "a", counts, seed=3).cases[0].image.stat().st_mtime_ns == stamp
    assert dataset.case_seed(3, 1, 0) != dataset.case_seed(4, 1, 0), "another seed is another world"
    with pytest.raises(ValueError, match="unknown split"):
        dataset.build_cases(tmp_path, {"practice": 3}, seed=3)


def test_some_held_out_people_are_rendered_without_one_finding_and_with_it_elsewhere(tmp_path):
    made = dataset.build_cases(tmp_path, {"train": 4, "test": 8, "shifted": 4}, seed=5, questions=4, workers=1)
    changed = [(case, fact) for case in made.cases for fact in case.facts if fact.removed]
    assert {case.split for case, _ in changed} == {"test", "shifted"}
    assert len({case.id for case, _ in changed}) == len(changed) and any(fact.moved for _, fact in changed)
    for case, fact in changed:
        number, its_world, _ = dataset.SPLITS[case.split]
        picture = dataset.draw_case(dataset.case_seed(5, number, int(case.id.split("-")[1])), its_world)
        shown = np.asarray(read_image(case.folder / fact.removed).convert("L"))
        assert fact.visible and np.array_equal(shown, picture.removed(fact.finding))
        for other in set(picture.masks) - {fact.finding}:  # the company stays
            alone = picture.masks[other] & ~binary_dilation(picture.masks[fact.finding], iterations=REACH)
            assert np.array_equal(shown[alone], picture.image[alone])
        if fact.moved:
            moved = np.asarray(read_image(case.folder / fact.moved).convert("L"))
            assert fact.side and np.array_equal(moved, picture.moved(fact.finding).image)


def test_the_shipped_cases_are_whole_and_are_what_their_command_makes():
    folder = ROOT / "data_samples" / "cases"
    shipped = read_cases(folder, strict=True)
    assert {split: sum(c.split == split for c in shipped.cases) for split in samples.COUNTS} == samples.COUNTS
    case = next(c for c in shipped.cases if c.split == "train" and c.facts)
    number, its_world, _ = dataset.SPLITS["train"]
    index = int(case.id.split("-")[1])
    again = dataset.draw_case(dataset.case_seed(samples.SEED, number, index), its_world)
    drawn, kept = ([(f.finding, f.side, f.zone, f.size) for f in of.facts] for of in (again, case))
    assert drawn == kept
    shown = np.asarray(read_image(case.image).convert("L"), float)
    assert np.abs(shown - again.image).mean() < 1  # other machines round differently
