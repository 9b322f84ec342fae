"""What the evaluation asks: controls without evidence, derangements, true statements against false ones."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medalign_lite.cases import Case, Fact, Lesion, Question
from medalign_lite.claims import extract_claims, judge
from medalign_lite.differ import remove_spans
from medalign_lite.images import read_image
from medalign_lite.probes import (
    CONTROLS,
    another_image,
    control_probes,
    hidden_probes,
    probe_pair,
    real_probes,
    truth_record,
    truth_records,
)

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
    probes = real_probes([*cases, *seen])
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


def test_hidden_pictures_lose_the_lesion_and_nothing_else(cases, tmp_path):
    probes = hidden_probes(cases, folder=tmp_path, seed=3)
    assert {p.case_id for p in probes} == {c.id for c in cases if c.facts} and {p.kind for p in probes} == {"report"}
    before, after = (np.asarray(read_image(path), float) for path in (cases[1].image, probes[0].image))
    assert before[30, 30, 0] - after[30, 30, 0] > 40
    assert (before[50:] == after[50:]).all()
    rendered = [replace(case, hidden=cases[0].image) for case in cases]
    assert {p.image for p in hidden_probes(rendered, folder=tmp_path, seed=3)} == {cases[0].image}
    assert len(hidden_probes(cases, folder=tmp_path, seed=3, per_split=2)) == 4
    unknown = [replace(case, facts=None) for case in cases]
    assert hidden_probes(unknown, folder=tmp_path, seed=3) == []


def test_a_true_sentence_about_a_lesion_against_its_minimal_false_edit(cases):
    records = truth_records(cases, seed=5)
    assert len(records) == 8 == len({r.id for r in records}) and all(r.evidence == ("nodule",) for r in records)
    for record in records:
        facts = next(case.facts for case in cases if case.id == record.case_id)
        assert record.chosen == "There is a small nodule in the right upper zone."
        assert any(judge(claim, facts).verdict == "false" for claim in extract_claims(record.rejected))
        assert remove_spans(record.chosen, record.spans_chosen) == remove_spans(record.rejected, record.spans_rejected)
    assert truth_records(cases, seed=5) == records
    assert len(truth_records(cases, seed=5, per_split=2)) == 4


def test_without_a_table_of_facts_the_gold_answer_is_the_statement(cases):
    lesion = Lesion("Nodule", box=(23.0, 23.0, 14.0, 14.0))
    real = replace(cases[1], facts=None, lesions=(lesion,), questions=(replace(cases[1].questions[1], answer="Yes"),))
    record = truth_record(real, seed=1)
    assert (record.chosen, record.rejected, record.evidence) == ("Yes", "No", ("Nodule",))
    assert truth_record(replace(real, lesions=()), seed=1) is None


def test_a_probe_pair_has_the_same_damage_in_two_places(cases):
    record = truth_record(cases[1], seed=1)
    pair = probe_pair(record, cases[1], method="noise", seed=2)
    pictures = (pair.clean, pair.lesion, pair.control)
    clean, lesion, control = (np.asarray(image)[..., 0].astype(int) for image in pictures)
    changed = [clean != lesion, clean != control]
    assert changed[0][30, 30] or changed[0][31, 31]
    assert not (changed[0] & changed[1]).any()
    assert abs(changed[0].sum() - changed[1].sum()) <= 0.1 * changed[0].sum()
