"""Intervals cover, tests give textbook values, results are exact, paired and reproducible; calibration by hand."""

import re
from pathlib import Path

import numpy as np
import pytest

from medalign_lite.cases.case import Case, Question
from medalign_lite.evaluate import stats
from medalign_lite.evaluate.metrics import COLUMNS, Counts, Margins, Prediction, TokenValues
from medalign_lite.evaluate.stats import RESULT_METRICS, bootstrap, dumps, holm, image_weights, interval, results
from medalign_lite.text.facts import Fact

IMAGES, SIMULATIONS = 150, 1000


def simulate(images: int, simulations: int, rng: np.random.Generator) -> np.ndarray:
    """(images, simulations, 4): claims and false claims of two arms; images differ in difficulty, arms share it."""
    rate = rng.beta(2, 6, (images, simulations))
    claims = 1 + rng.poisson(1.6, (images, simulations))
    later = np.maximum(claims + rng.integers(-1, 2, claims.shape), 0)
    false = rng.binomial(claims, rate), rng.binomial(later, 0.6 * rate)
    return np.stack([claims, false[0], later, false[1]], axis=-1).astype(float)


def rates(sums: np.ndarray) -> np.ndarray:
    """(..., 4) -> (..., 2): the base's rate, and aligned minus base."""
    base = sums[..., 1] / sums[..., 0]
    return np.stack([base, sums[..., 3] / sums[..., 2] - base], axis=-1)


def test_95_percent_intervals_cover():
    rng = np.random.default_rng(7)
    truth = rates(simulate(400_000, 1, rng).sum(axis=(0, 1)))
    tables = simulate(IMAGES, SIMULATIONS, rng)
    sums = image_weights(IMAGES, 1000, seed=1) @ tables.reshape(IMAGES, -1)
    low, high = interval(rates(sums.reshape(1000, SIMULATIONS, 4)), IMAGES)
    coverage = np.mean((low <= truth) & (truth <= high), axis=0)
    assert np.all((coverage >= 0.93) & (coverage <= 0.97)), coverage


def test_pairing_narrows_the_difference_and_one_image_has_no_interval():
    table = simulate(200, 1, np.random.default_rng(0))[:, 0]
    paired = bootstrap(table, rates)[:, 1].std()
    base = bootstrap(table, lambda s: s[..., 1] / s[..., 0], seed=1)
    other = bootstrap(table, lambda s: s[..., 3] / s[..., 2], seed=2)
    assert paired < (other - base).std()
    assert np.isnan(interval(np.zeros(10), 1)).all()


@pytest.mark.parametrize(("only_first", "only_second", "p"), [(0, 0, 1.0), (0, 5, 0.0625), (1, 9, 0.021484375)])
def test_mcnemar_exact(only_first, only_second, p):
    both = [True] * 4
    first = both + [True] * only_first + [False] * only_second
    second = both + [False] * only_first + [True] * only_second
    assert stats.mcnemar(first, second) == pytest.approx(p)


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06]) and holm([]) == []


QUESTIONS = (
    Question("r", "Describe.", "", "report", "report"), Question("c", "Effusion?", "yes", "closed", "presence"),
)
FACTS = (Fact("effusion", "left", None, "small"),)
RIGHT, WRONG = ("Left pleural effusion.", "Yes."), ("Right pleural effusion.", "No.")


def world(facts=FACTS, images=40):
    """Cases on two splits; the base is right on every fourth image, the aligned arm on all others."""
    cases = [Case(f"{split}{i}", f"{split}{i}", split, Path("x"), QUESTIONS, facts) for split in ("test", "shifted")
             for i in range(images)]
    answers = []
    for i, case in enumerate(cases):
        for arm, right in (("base", i % 4 == 0), ("fire-mpo", i % 4 != 0)):
            for question, text in zip(QUESTIONS, RIGHT if right else WRONG, strict=True):
                answers.append(Prediction(case.id, question.id, text, arm))
            answers.append(Prediction(case.id, "r", RIGHT[0], arm, "hidden", "effusion"))
    gaps = (("base", 0.5), ("fire-mpo", -1.0))
    margins = [Margins(c.id, c.id, arm, 1.0, low, 1.0) for c in cases for arm, low in gaps]
    kl = [TokenValues(c.id, "fire-mpo", (0.1, 0.013 * i)) for i, c in enumerate(cases)]
    return cases, answers, {"margins": margins, "kl": kl}


def test_results_have_the_documented_shape_and_values():
    cases, answers, extra = world()
    got = results(cases, answers, aligned="fire-mpo", seed=3, **extra)
    assert set(got) == {"base", "aligned", "difference"}
    for arm in got.values():
        assert set(arm) == {"test", "shifted"}
        for split in arm.values():
            assert set(split) == set(RESULT_METRICS)
            assert all(set(entry) == {"value", "low", "high", "n"} for entry in split.values())
    test = got["difference"]["test"]
    assert test["fact_f1"]["value"] == pytest.approx(
        got["aligned"]["test"]["fact_f1"]["value"] - got["base"]["test"]["fact_f1"]["value"], abs=1e-6
    )
    assert test["fact_f1"]["low"] > 0 and test["hallucination_rate"]["high"] < 0
    assert test["grounding_selectivity"] == {"value": 1.5, "low": 1.5, "high": 1.5, "n": 40}
    assert got["base"]["test"]["kl_to_reference"] == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 40}
    assert got["aligned"]["test"]["overclaim_lesion_hidden"]["value"] == 1


def test_results_are_byte_identical_for_a_seed_and_null_where_there_are_no_facts():
    cases, answers, extra = world()
    first = dumps(results(cases, answers, aligned="fire-mpo", seed=3, **extra))
    again = dumps(results(cases[::-1], answers[::-1], aligned="fire-mpo", seed=3, **extra))
    assert first == again and first != dumps(results(cases, answers, aligned="fire-mpo", seed=4, **extra))
    assert "NaN" not in first and not re.search(r"-0\.0[,\n]", first)
    cases, answers, _ = world(facts=None)
    got = results([c for c in cases if c.split == "test"], answers, aligned="fire-mpo")
    assert got["difference"]["test"]["fact_f1"] == {"value": None, "low": None, "high": None, "n": 0}
    assert got["aligned"]["test"]["closed_accuracy"]["n"] == 40
    assert got["aligned"]["shifted"]["closed_accuracy"]["n"] == 0 and "null" in dumps(got)


def test_arms_must_answer_the_same_questions():
    cases, answers, _ = world()
    with pytest.raises(ValueError, match="did not answer the same questions: 1 "):
        results(cases, answers[1:], aligned="fire-mpo")
    empty = np.zeros((1, len(COLUMNS)))
    with pytest.raises(ValueError, match="same images"):
        stats.compare(Counts(("a",), empty), Counts(("b",), empty))


def test_calibration_by_hand():
    groups, table = stats.calibration_table(["g", "h", "g", "h"], [0.95, 0.85, 0.85, 0.15], [True, True, False, False])
    assert groups == ("g", "h") and table.shape == (2, 10, 4)
    got = stats.calibration(table.sum(axis=0))
    assert got["ece"] == pytest.approx((0.05 + abs(1.7 - 1) + 0.15) / 4)
    assert got["brier"] == pytest.approx((0.05**2 + 0.15**2 + 0.85**2 + 0.15**2) / 4)
    alone = stats.calibration(table[0])
    assert alone["ece"] == pytest.approx((0.05 + 0.85) / 2)  # in a group of its own no error cancels
    _, table = stats.calibration_table(["g"] * 4, [0.95, 0.85, 0.85, 0.15], [True, True, False, False])
    got = stats.reliability(table[0])
    assert got.n.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 2, 1]
    np.testing.assert_allclose(got.mean_p[[1, 8, 9]], [0.15, 0.85, 0.95])
    np.testing.assert_allclose(got.yes_share[[1, 8, 9]], [0, 0.5, 1])
    assert np.isnan(got.mean_p[0]) and np.isnan(got.yes_share[0])


@pytest.mark.parametrize(("p", "place"), [(0.0, 0), (0.1, 1), (0.3, 3), (0.7, 7), (0.999, 9), (1.0, 9)])
def test_an_edge_belongs_to_the_bin_above(p, place):
    assert np.flatnonzero(stats.calibration_table(["g"], [p], [True])[1][0, :, 0]).tolist() == [place]


def test_p_yes_from_gaps_in_nats_nothing_asked_and_wrong_input():
    np.testing.assert_allclose(stats.p_yes([0.0, np.log(3), -np.log(3)]), [0.5, 0.75, 0.25])
    with np.errstate(all="raise", under="ignore"):
        assert stats.p_yes([-2000.0, 2000.0]).tolist() == [0.0, 1.0]
    assert np.isnan(stats.calibration(np.zeros((10, 4)))["ece"])
    with pytest.raises(ValueError, match="2 groups, 1 p"):
        stats.calibration_table(["g", "h"], [0.5], [True, False])
    for p in (1.2, -0.1, np.nan):
        with pytest.raises(ValueError, match="through p_yes"):
            stats.calibration_table(["g"], [p], [True])
