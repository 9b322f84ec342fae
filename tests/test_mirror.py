"""Mirror pairs: true with the lesion and without it, one person, one text, another picture."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from medalign_lite.cases.images import read_image
from medalign_lite.edits.truths import Facts
from medalign_lite.text.reports import extract_claims
from medalign_lite.world.dataset import build_cases
from studies.claims.mirror import MIRRORED, mirror_pairs

PEOPLE, SEED = 24, 5


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return build_cases(tmp_path_factory.mktemp("world"), {"train": PEOPLE}, seed=SEED, workers=1).cases


@pytest.fixture(scope="module")
def pairs(people, tmp_path_factory):
    folder = tmp_path_factory.mktemp("without")
    return {kind: mirror_pairs(people, kind, count=2 * PEOPLE, seed=SEED, folder=folder) for kind in MIRRORED}


def judged(text, facts):
    return {Facts(tuple(facts)).judge(claim).verdict for claim in extract_claims(text)}


@pytest.mark.parametrize("kind", ["mirror", "unmirrored"])
def test_what_is_chosen_is_true_of_its_picture_and_what_is_rejected_is_not(people, pairs, kind):
    by_id = {case.id: case for case in people}
    shown = {case.image: case.facts for case in people}
    for seen, gone in zip(pairs[kind][::2], pairs[kind][1::2], strict=True):
        assert (seen.chosen, seen.rejected, seen.question) == (gone.rejected, gone.chosen, gone.question)
        case = by_id[seen.id.split("/")[1]]
        assert seen.clean == case.image != gone.clean
        if seen.chosen in ("Yes.", "No."):
            continue
        finding = next(claim.finding for claim in extract_claims(seen.chosen))
        without = [fact for fact in case.facts if fact.finding != finding]
        without = without if kind == "mirror" else shown[gone.clean]
        assert (judged(seen.chosen, case.facts), judged(seen.rejected, case.facts)) == ({"true"}, {"false"}), seen
        assert (judged(gone.chosen, without), judged(gone.rejected, without)) == ({"true"}, {"false"}), gone


def test_the_two_pictures_of_a_mirror_differ_where_the_lesion_is(people, pairs):
    by_id = {case.id: case for case in people}
    for seen, gone in zip(pairs["mirror"][::2], pairs["mirror"][1::2], strict=True):
        case = by_id[seen.id.split("/")[1]]
        fact = next(fact for fact in case.facts if fact.finding == Path(gone.clean).stem.removeprefix(f"{case.id}-"))
        assert fact.visible
        mask = np.asarray(read_image(case.folder / fact.mask).convert("L")) > 0
        changed = (np.asarray(read_image(seen.clean)) != np.asarray(read_image(gone.clean))).any(axis=-1)
        assert changed[mask].mean() > 10 * changed[~mask].mean(), gone.id


def test_statements_and_answers_are_mirrored_and_the_count_holds(people, pairs, tmp_path):
    kinds = Counter(pair.chosen in ("Yes.", "No.") for pair in pairs["mirror"])
    assert min(kinds.values()) >= 6 and len(kinds) == 2
    assert [pair.id for pair in pairs["mirror"]] == [pair.id for pair in pairs["unmirrored"]]
    few = mirror_pairs(people, "mirror", count=6, seed=SEED, folder=tmp_path)
    assert len(few) == 6 and {pair.id for pair in few} <= {pair.id for pair in pairs["mirror"]}
