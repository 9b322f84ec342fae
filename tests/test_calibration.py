"""Calibration against sums by hand, and against a simulation that is calibrated by construction."""

import numpy as np
import pytest

from medalign_lite.evaluate.stats import calibration, calibration_table, p_yes, reliability


def test_by_hand():
    groups, table = calibration_table(["g", "h", "g", "h"], [0.95, 0.85, 0.85, 0.15], [True, True, False, False])
    assert groups == ("g", "h") and table.shape == (2, 10, 4)
    got = calibration(table.sum(axis=0))
    assert got["ece"] == pytest.approx((0.05 + abs(1.7 - 1) + 0.15) / 4)
    assert got["brier"] == pytest.approx((0.05**2 + 0.15**2 + 0.85**2 + 0.15**2) / 4)
    alone = calibration(table[0])
    assert alone["ece"] == pytest.approx((0.05 + 0.85) / 2)  # in a group of its own no error cancels
    _, table = calibration_table(["g"] * 4, [0.95, 0.85, 0.85, 0.15], [True, True, False, False])
    got = reliability(table[0])
    assert got.n.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 2, 1]
    np.testing.assert_allclose(got.mean_p[[1, 8, 9]], [0.15, 0.85, 0.95])
    np.testing.assert_allclose(got.yes_share[[1, 8, 9]], [0, 0.5, 1])
    assert np.isnan(got.mean_p[0]) and np.isnan(got.yes_share[0])
    np.testing.assert_allclose(got.high - got.low, 0.1)


@pytest.mark.parametrize(("p", "place"), [(0.0, 0), (0.1, 1), (0.3, 3), (0.7, 7), (0.999, 9), (1.0, 9)])
def test_an_edge_belongs_to_the_bin_above(p, place):
    assert np.flatnonzero(calibration_table(["g"], [p], [True])[1][0, :, 0]).tolist() == [place]


def test_p_yes_from_gaps_in_nats_nothing_asked_and_wrong_input():
    np.testing.assert_allclose(p_yes([0.0, np.log(3), -np.log(3)]), [0.5, 0.75, 0.25])
    with np.errstate(all="raise", under="ignore"):
        assert p_yes([-2000.0, 2000.0]).tolist() == [0.0, 1.0]
    assert np.isnan(calibration(np.zeros((10, 4)))["ece"])
    with pytest.raises(ValueError, match="2 groups, 1 p"):
        calibration_table(["g", "h"], [0.5], [True, False])
    for p in (1.2, -0.1, np.nan):
        with pytest.raises(ValueError, match="through p_yes"):
            calibration_table(["g"], [p], [True])
