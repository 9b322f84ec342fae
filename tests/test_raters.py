"""Agreement of annotators against figures from the literature."""

import math

import numpy as np
import pytest

from medalign_lite.editors.agree import agreement, cohen_kappa, krippendorff_alpha
from medalign_lite.editors.notes import Change, Judgement, Note

# Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, section C: four observers, twelve units
FOUR = ("1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 .")
# the same, section A: two observers, ten units, two values
TWO = ("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0")


def raters(rows):
    return [{i: float(v) for i, v in enumerate(row.split()) if v != "."} for row in rows]


def test_alpha_of_krippendorffs_examples_at_its_ends_and_of_chance():
    assert krippendorff_alpha(raters(FOUR)) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(raters(TWO)) == pytest.approx(0.095, abs=5e-4)
    assert krippendorff_alpha([{1: "a", 2: "b"}, {1: "a", 2: "b"}]) == 1.0
    assert krippendorff_alpha([{1: "a", 2: "b"}, {1: "b", 2: "a"}]) < 0
    assert math.isnan(krippendorff_alpha([{1: "a"}, {1: "a"}])) and math.isnan(krippendorff_alpha([{1: "a"}, {2: "b"}]))
    assert math.isnan(krippendorff_alpha([]))
    rng = np.random.default_rng(7)
    values = rng.integers(0, 3, (2, 5000))
    assert abs(krippendorff_alpha([dict(enumerate(row.tolist())) for row in values])) < 0.03


def test_kappa_of_the_example_in_fleiss_1981():
    """Statistical Methods for Rates and Proportions, table 13.1: two raters, 100 patients, κ = .68."""
    table = {("p", "p"): 75, ("p", "n"): 1, ("p", "o"): 4, ("n", "p"): 5, ("n", "n"): 4, ("n", "o"): 1, ("o", "o"): 10}
    pairs = [pair for pair, count in table.items() for _ in range(count)]
    found = cohen_kappa(*zip(*pairs, strict=True))
    assert found.kappa == pytest.approx(0.6765, abs=5e-4) and found.units == 100
    assert found.low < found.kappa < found.high <= 1
    assert math.isnan(cohen_kappa(["a", "a"], ["a", "a"]).kappa) and math.isnan(cohen_kappa([], []).kappa)
    with pytest.raises(ValueError, match="2 values against 1"):
        cohen_kappa(["a", "b"], ["a"])


def note(item, said):
    return Note(item, "x", "2026-01-01T00:00:00+00:00", "mark", said, "a left effusion")


def test_annotators_are_compared_on_verdicts_words_and_spans():
    fixed = Judgement(None, (Change(2, 6, "right"),))
    other = Judgement(None, (Change(2, 6, "bilateral"),))
    right, unsure = Judgement("right"), Judgement("unsure")
    journals = {"A": [note("1", right), note("1", fixed), note("2", right), note("3", fixed), note("4", unsure),
                      note("9", right)],
                "B": [note("1", fixed), note("2", right), note("3", other), note("4", right)]}
    found = agreement(journals, {key: [(2, 15)] for key in "1234"})
    assert found.pairs["A", "B"].units == 4 and found.same_words["A", "B"] == (1, 2)
    # verdicts: wrong-wrong twice, right-right, unsure-right: p_o = 3/4, p_e = (2*2 + 1*2)/16
    assert found.pairs["A", "B"].kappa == pytest.approx((0.75 - 0.375) / 0.625) and found.spans == 1.0
    assert found.rows()[1][0] == "A and B" and found.rows()[1][-1] == "1 of 2" and len(found.rows()) == 4
