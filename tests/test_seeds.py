"""Seeds and images as two sources of chance: by hand, and on simulated data whose mean is known."""

import numpy as np
import pytest

from studies.claims.seeds import summarise_seeds

TRUTH, SIMULATIONS, IMAGES = 0.3, 3000, 60


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def table(values: np.ndarray) -> np.ndarray:
    """(S, G) values -> (S, G, 2) counts whose mean is that of the values."""
    return np.stack([values, np.ones_like(values)], axis=-1)


def test_seed_spread_and_sampling_error_are_told_apart():
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


def test_one_seed_has_no_spread():
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
    assert 0.93 <= both / SIMULATIONS <= 0.97, both
