"""What the evaluation asks: controls without evidence, derangements, true statements against false ones."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medalign_lite.cases.case import Case, Lesion, Question
from medalign_lite.cases.images import read_image
from medalign_lite.corruption.corrupt import UNSEEN
from medalign_lite.evaluate import probes as probing
from medalign_lite.evaluate.probes import CONTROLS, DAMAGES, another_image, control_probes, hidden_probes, truth_records
from medalign_lite.text.claims import judge
from medalign_lite.text.diff import remove_spans
from medalign_lite.text.facts import Fact
from medalign_lite.text.reports import extract_claims

SIDE = 96
REPORT = "No pneumothorax is seen. There is a small nodule in the right upper zone. The heart is not enlarged."


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Twelve grey discs with a bright lesion, half of them test; every third shows nothing."""
    folder, found = tmp_path_factory.mktemp("cases"), []
    rows, columns = np.mgrid[:SIDE, :SIDE]
    body = np.hypot(rows - SIDE / 2, columns - SIDE / 2) < 44
    lesion = np.hypot(rows - 30, columns - 30) < 7
    Image.fromarray(np.uint8(lesion) * 255).save(folder / "mask.png")
    for n in range(12):
        rng = np.random.default_rng(n)
        pixels = np.where(body, 90 + rng.normal(0, 4, body.shape), 0) + 70 * lesion * (n % 3 > 0)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{n}.png")
        facts = (Fact("nodule", "right", "upper", "small", mask="mask.png"),) if n % 3 else ()
        report = Question("report", "Describe the film.", REPORT if n % 3 else "No nodule is seen.", "report", "report")
        closed = Question("q0", "Is there a nodule?", "Yes." if n % 3 else "No.", "closed", "presence", "nodule")
        unseen = replace(closed, id="q1", visible=False)
        found.append(Case(f"c/{n}", f"g{n}", "test" if n < 6 else "shifted", folder / f"{n}.png",
                          (report, closed, unseen), facts, folder=folder))
    return found


def test_every_answerable_question_is_asked_of_held_out_cases_only(cases):
    seen = [replace(cases[0], id=split, split=split) for split in ("train", "val")]
    probes = probing.real_probes([*cases, *seen])
    assert len(probes) == 24 and {p.question_id for p in probes} == {"report", "q0"}
    assert len({p.id for p in probes}) == 24


def test_controls_show_grey_anothers_image_or_none(cases):
    probes = control_probes(cases, seed=3, images=4)
    assert {p.split for p in probes} == {"test"} and len({p.case_id for p in probes}) == 4
    by_condition = {name: [p for p in probes if p.condition == name] for name in CONTROLS}
    assert {len(some) for some in by_condition.values()} == {8}
    assert all(set(p.image.getdata()) == {(127,) * 3} and p.image.size == (SIDE, SIDE) for p in by_condition["blank"])
    assert all(p.image is None for p in by_condition["question-only"])
    own = {case.id: case.image for case in cases}
    assert all(p.image != own[p.case_id] and p.image in own.values() for p in by_condition["shuffled"])
    assert [p.id for p in control_probes(cases, seed=3, images=4)] == [p.id for p in probes]
    assert {p.case_id for p in control_probes(cases, seed=4, images=4)} != {p.case_id for p in probes}


@pytest.mark.parametrize("seed", range(5))
def test_another_image_is_never_of_the_same_group_and_serves_once(cases, seed):
    grouped = [replace(case, group=f"g{n // 3}") for n, case in enumerate(cases)]
    others = another_image(grouped, seed=seed)
    groups = {case.image: case.group for case in grouped}
    assert len(set(others.values())) == len(others) == 12
    assert all(groups[others[case.id]] != case.group for case in grouped)
    assert another_image([replace(case, group="one") for case in cases], seed=seed) == {}
    assert another_image(cases[:1], seed=seed) == {} == another_image([], seed=seed)


def company(case):
    """The case with a second lesion, below the first."""
    return replace(case, facts=(*case.facts, Fact("fracture", "right", "lower", mask="other.png")))


def test_hidden_pictures_lose_one_lesion_and_keep_its_company(cases, tmp_path):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    Image.fromarray(np.uint8(np.hypot(rows - 70, columns - 40) < 5) * 255).save(cases[0].folder / "other.png")
    both = [company(case) for case in cases if case.facts]
    probes = hidden_probes(both, folder=tmp_path, seed=3)
    assert {p.case_id for p in probes} == {case.id for case in both}
    assert {p.finding for p in probes} == {"nodule", "fracture"}  # a seeded one of each case
    own = {case.id: np.asarray(read_image(case.image), float) for case in both}
    for probe in probes:
        changed = np.argwhere(own[probe.case_id] != np.asarray(read_image(probe.image), float))
        assert len(changed) and ((changed[:, 0] < 50) == (probe.finding == "nodule")).all()
    asked = {(p.finding, p.question_id) for p in probes}
    assert asked == {("nodule", "report"), ("nodule", "q0"), ("nodule", "q1"), ("fracture", "report")}
    assert [p.id for p in hidden_probes(both, folder=tmp_path, seed=3)] == [p.id for p in probes]
    few = hidden_probes(cases, folder=tmp_path, seed=3, per_split=2)
    assert len({p.case_id for p in few}) == 4
    assert hidden_probes([replace(case, facts=None) for case in cases], folder=tmp_path, seed=3) == []


def test_pictures_rendered_without_or_with_the_finding_elsewhere_go_first(cases, tmp_path):
    rendered = replace(cases[1], facts=(replace(cases[1].facts[0], removed="0.png", moved="3.png"),))
    some = [rendered, *cases[2:]]
    hidden = [p for p in hidden_probes(some, folder=tmp_path, seed=3) if p.split == "test"]
    assert {(p.case_id, p.image) for p in hidden} == {("c/1", cases[0].folder / "0.png")}
    moved = probing.moved_probes(some, seed=3)
    assert {(p.condition, p.case_id, p.image) for p in moved} == {("moved", "c/1", cases[0].folder / "3.png")}
    assert probing.moved_probes(cases, seed=3) == []


def test_damage_is_asked_about_with_the_pairs_own_pictures(cases, tmp_path):
    records = truth_records(cases, seed=5)
    probes = probing.damage_probes(cases, records, folder=tmp_path, seed=5, per_split=2)
    assert len({p.case_id for p in probes}) == 4 and {p.condition for p in probes} == set(DAMAGES)
    assert {p.question_id for p in probes} == {"report", "q0"}  # what cannot be answered is not asked
    pairs = [probing.probe_pair(r, next(c for c in cases if c.id == r.case_id), method=UNSEEN, seed=5) for r in records]
    probing.save_damage(records, pairs, folder=tmp_path)
    one = next(n for n, record in enumerate(records) if record.case_id == probes[0].case_id)
    assert np.array_equal(np.asarray(read_image(probes[0].image)), np.asarray(pairs[one].lesion))


def test_a_true_sentence_about_a_lesion_against_its_minimal_false_edit(cases):
    records = truth_records(cases, seed=5)
    assert len(records) == 8 == len({r.id for r in records}) and all(r.evidence == ("nodule",) for r in records)
    for record in records:
        facts = next(case.facts for case in cases if case.id == record.case_id)
        assert record.chosen == "There is a small nodule in the right upper zone."
        assert any(judge(claim, facts).verdict == "false" for claim in extract_claims(record.rejected))
        assert remove_spans(record.chosen, record.spans_chosen) == remove_spans(record.rejected, record.spans_rejected)
    assert truth_records(cases, seed=5) == records and len(truth_records(cases, seed=5, per_split=2)) == 4


def test_without_a_table_of_facts_the_gold_answer_is_the_statement(cases):
    lesion = Lesion("Nodule", box=(23.0, 23.0, 14.0, 14.0))
    real = replace(cases[1], facts=None, lesions=(lesion,), questions=(replace(cases[1].questions[1], answer="Yes"),))
    record = probing.truth_record(real, seed=1)
    assert (record.chosen, record.rejected, record.evidence) == ("Yes", "No", ("Nodule",))
    assert probing.truth_record(replace(real, lesions=()), seed=1) is None


def test_a_probe_pair_has_the_same_damage_in_two_places(cases):
    record = probing.truth_record(cases[1], seed=1)
    pair = probing.probe_pair(record, cases[1], method="noise", seed=2)
    pictures = (pair.clean, pair.lesion, pair.control)
    clean, lesion, control = (np.asarray(image)[..., 0].astype(int) for image in pictures)
    changed = [clean != lesion, clean != control]
    assert changed[0][30, 30] or changed[0][31, 31]
    assert not (changed[0] & changed[1]).any() and abs(changed[0].sum() - changed[1].sum()) <= 0.1 * changed[0].sum()
