"""Power: by hand, and whether a difference of the minimal size is found in four of five simulated comparisons."""

import numpy as np
import pytest

from medalign_lite.evaluate.stats import bootstrap, image_weights, interval
from studies.claims.power import images_needed, minimal_difference, power_of, standard_error

IMAGES, SIMULATIONS = 80, 1000


def gap(sums: np.ndarray) -> np.ndarray:
    """(..., 4): claims and false claims of two arms -> second rate minus first."""
    return sums[..., 3] / sums[..., 2] - sums[..., 1] / sums[..., 0]


def draw(images: int, simulations: int, effect: float, rng: np.random.Generator) -> np.ndarray:
    rate = rng.beta(2, 3, (images, simulations)) * 0.8
    claims = 1 + rng.poisson(2, (2, images, simulations))
    false = rng.binomial(claims, np.stack([rate, rate + effect]))
    return np.stack([claims[0], false[0], claims[1], false[1]], axis=-1).astype(float)


def test_by_hand():
    assert minimal_difference(0.1, 10**6) == pytest.approx(0.1 * (1.959964 + 0.841621), rel=1e-4)
    assert power_of(minimal_difference(0.1, 50), 0.1, 50) == pytest.approx(0.8, abs=1e-4)
    assert power_of(0.0, 0.1, 50) == pytest.approx(0.05)
    assert power_of(-0.3, 0.1, 50) == power_of(0.3, 0.1, 50)
    assert images_needed(minimal_difference(0.1, 50) / 2, 0.1, 50) == 200
    with pytest.raises(ValueError, match="smallest one that would matter"):
        images_needed(0, 0.1, 50)
    assert standard_error(np.array([0.0, 2.0]), 2) == pytest.approx(2**0.5)
    assert np.isnan(standard_error(np.zeros(3), 1))


def test_the_error_is_the_spread_of_the_statistic():
    tables = draw(IMAGES, 2000, 0.0, np.random.default_rng(1))
    true = gap(tables.sum(axis=0)).std()
    errors = [standard_error(bootstrap(tables[:, k], gap, draws=500), IMAGES) for k in range(200)]
    assert np.mean(errors) == pytest.approx(true, rel=0.05)


def minimal_effect() -> float:
    """The effect that is the minimal difference by the error at that effect: a rate nearer to one half varies more."""
    rng, effect = np.random.default_rng(2), 0.0
    for _ in range(4):
        effect = minimal_difference(gap(draw(IMAGES, 40_000, effect, rng).sum(axis=0)).std(), IMAGES)
    return effect


def test_the_minimal_difference_is_found_in_80_percent():
    effect = minimal_effect()
    tables = draw(IMAGES, SIMULATIONS, effect, np.random.default_rng(3))
    sums = (image_weights(IMAGES, 1000, seed=4) @ tables.reshape(IMAGES, -1)).reshape(1000, SIMULATIONS, 4)
    low, _ = interval(gap(sums), IMAGES)
    assert np.mean(low > 0) == pytest.approx(0.8, abs=0.025)  # binomial error of 1,000
