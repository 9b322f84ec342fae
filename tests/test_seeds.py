"""Seeds and images as two sources of chance: by hand, and on simulated data whose mean is known."""

import numpy as np
import pytest

from studies.claims.seeds import Error, summarise_seeds
from studies.claims.simulate import TESTS, sizes

TRUTH, SIMULATIONS, IMAGES = 0.3, 1000, 60


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def table(values: np.ndarray) -> np.ndarray:
    """(S, G) values -> (S, G, 2) counts whose mean is that of the values."""
    return np.stack([values, np.ones_like(values)], axis=-1)


def test_seed_spread_and_sampling_error_are_told_apart_and_one_seed_has_no_spread():
    rng = np.random.default_rng(0)
    images = rng.normal(0.5, 0.2, 50)
    by_images = summarise_seeds(table(np.tile(images, (4, 1))), mean)
    assert by_images.values == pytest.approx([images.mean()] * 4)
    assert by_images.spread == pytest.approx(0, abs=1e-12)
    assert by_images.both == pytest.approx(by_images.sampling, abs=0.01)
    by_seeds = summarise_seeds(table(np.repeat([[0.2], [0.4], [0.6]], 50, axis=1)), mean)
    assert by_seeds.mean == pytest.approx(0.4) and by_seeds.spread == pytest.approx(0.2)
    assert by_seeds.sampling == pytest.approx((0.4, 0.4))
    assert by_seeds.both == pytest.approx((0.4 - 4.302653 * 0.2 / 3**0.5, 0.4 + 4.302653 * 0.2 / 3**0.5))  # t, 2 d.f.
    got = summarise_seeds(table(np.random.default_rng(1).random((1, 30))), mean)
    assert np.isnan(got.spread) and np.isnan(got.both).all() and np.isfinite(got.sampling).all()
    with pytest.raises(ValueError, match=r"stack each seed's"):
        summarise_seeds(np.ones((3, 2)), mean)


@pytest.mark.parametrize(("seeds", "seed_spread"), [(5, 0.06), (5, 0.0), (5, 0.15), (3, 0.06)])
def test_95_percent_intervals_cover(seeds, seed_spread):
    """Images are hard or easy for all seeds, seeds good or bad on all images, and each pair has its own luck."""
    rng = np.random.default_rng(11)
    sampling = both = 0
    for k in range(SIMULATIONS):
        shift = rng.normal(0, seed_spread, (seeds, 1))
        own = rng.normal(0, 0.3, (seeds, IMAGES))
        got = summarise_seeds(table(TRUTH + shift + rng.normal(0, 0.3, IMAGES) + own), mean, draws=300, seed=k)
        sampling += got.sampling[0] <= TRUTH + shift.mean() <= got.sampling[1]
        both += got.both[0] <= TRUTH <= got.both[1]
    assert 0.93 <= sampling / SIMULATIONS <= 0.97, sampling
    assert 0.935 <= both / SIMULATIONS, both  # more, where images say more than seeds: Cochran's test is timid there


def test_critical_values_are_weighed_by_variance_and_p_goes_back():
    seeds, images = Error(0.04, 0.0, 5, 1000), Error(0.0, 0.04, 5, 1000)
    assert seeds.critical(0.05) == pytest.approx(2.776445)
    assert images.critical(0.05) == pytest.approx(1.962341, rel=1e-4)
    both = Error(0.03, 0.01, 5, 1000)
    assert both.critical(0.05) == pytest.approx(0.75 * 2.776445 + 0.25 * 1.962341, rel=1e-4) and both.size == 0.2
    for p in (0.5, 0.05, 1e-4):
        assert both.p_value(both.critical(p) * both.size) == pytest.approx(p, rel=1e-4)
    assert both.p_value(0.0) == 1 and Error(0, 0, 5, 9).p_value(0.1) == 0 and Error(0, 0, 5, 9).p_value(0) == 1


def test_what_can_be_seen_and_how_many_seeds_it_takes():
    error = Error(0.0004, 0.00001, 5, 1000)
    needed = error.seeds_for(0.03, 0.05)
    assert error.seen() > 0.03 and 5 < needed < 40
    told = [Error(0.0004 * 5 / n, 0.00001, n, 1000).seen() for n in (needed - 1, needed)]
    assert told[0] > 0.03 >= told[1]
    assert Error(0.0, 0.01, 5, 1000).seeds_for(0.02, 0.05) is None, "images say more than seeds"


@pytest.mark.parametrize("share", [0.2, 0.8, 0.95])
def test_the_rates_of_the_test_hold_far_out_and_those_of_the_one_before_did_not(share):
    got = sizes(share, 5, 0.05 / 36, simulations=200_000)
    assert tuple(got) == TESTS and got["Cochran"] < 1.25
    assert got["Satterthwaite"] > 2.5 or share == 0.2
