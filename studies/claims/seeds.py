"""Training seeds and images are two sources of chance: the spread over seeds kept apart from sampling error.

All seeds answer about the same images, so per-seed tables stack to (S, G, C) and a bootstrap draws the images of all
seeds together. Two intervals answer two questions: how well these trained models are measured (seeds held fixed), and
where the mean over any seeds lies (seeds and images both drawn).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats as distributions
from scipy.optimize import brentq

from medalign_lite.evaluate.stats import image_weights, interval

TINY = 1e-12  # a p below this is told as this
MANY = 200  # seeds that nobody will run


@dataclass(frozen=True)
class Error:
    """Variance of the mean over `count` seeds about `images` images: what seeds give, and what images add to it.

    Seeds are few, so their part is known badly: a test weighs Student's critical values, each by its part of the
    variance (Cochran and Cox 1957; Cochran 1964). `simulate.py` says why: Satterthwaite's degrees of freedom, which
    stood here before, reject three to four times too often far out in the tail."""

    seeds: float
    rest: float
    count: int
    images: int

    @property
    def size(self) -> float:
        """The standard error."""
        return float(np.sqrt(self.seeds + self.rest))

    def critical(self, p: float) -> float:
        """How many standard errors a mean has to be away from 0 for a two-sided p as small as this."""
        return float(cochran(p, self.seeds, self.rest, self.count, self.images))

    def p_value(self, gap: float) -> float:
        """Two-sided p of a mean that is `gap` away from what is tested."""
        if not self.size:
            return 1.0 if gap == 0 else 0.0
        wanted = abs(gap) / self.size
        if self.critical(TINY) <= wanted:
            return TINY
        return float(brentq(lambda p: self.critical(p) - wanted, TINY, 1.0, xtol=TINY))

    def seen(self, p: float = 0.05) -> float:
        """The true difference that is told from 0 at this p with a power of .8 (Bloom 1995)."""
        return (self.critical(p) + self.critical(2 * (1 - 0.8))) * self.size

    def seeds_for(self, difference: float, p: float) -> int | None:
        """How many seeds tell `difference` from 0 at this p with a power of .8; None where MANY do not."""
        able = (n for n in range(2, MANY + 1) if replace(self, seeds=self.seeds * self.count / n, count=n).seen(p)
                <= difference)
        return next(able, None)


def cochran(p: float, seeds: np.ndarray, rest: np.ndarray, count: int, images: int) -> np.ndarray:
    """The critical value of `Error`: Student's of count - 1 and images - 1 degrees of freedom, weighed by variance."""
    far = distributions.t.isf(p / 2, [count - 1, images - 1])
    return (far[0] * seeds + far[1] * rest) / np.maximum(seeds + rest, 1e-300)


@dataclass(frozen=True)
class SeedSummary:
    """One metric, or one difference of two arms, over S seeds.

    values        (S,) of each seed on all images
    mean, spread  their mean and standard deviation (n - 1), NaN for one seed
    sampling      (low, high) of the mean with these seeds: images drawn, seeds held fixed
    both          (low, high) of the mean over seeds: seeds and images drawn; NaN for one seed
    error         of the mean over seeds; None for one seed"""

    values: np.ndarray
    mean: float
    spread: float
    sampling: tuple[float, float]
    both: tuple[float, float]
    error: Error | None = None


def summarise_seeds(
    tables: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], *, draws: int = 2000, seed: int = 0
) -> SeedSummary:
    """Mean, spread and 95 % intervals of a statistic of summed counts over seeds.

    tables: (S, G, C) counts of S seeds on the same G image groups; for a paired difference hold both arms' columns in
    C. statistic: maps (..., C) to (...).

    The variance of the mean is that of a crossed random-effects design, seed × image: what seeds give, plus what images
    give, less their interaction, which both hold (Cornfield and Tukey 1956). The first is spread² / S, the others come
    from one bootstrap: NaN draws are left out, and its spread, too small by √((n-1)/n), is made good.

    Raises ValueError unless tables is (S, G, C) with S, G >= 1."""
    tables = np.asarray(tables, float)
    if tables.ndim != 3 or not tables.shape[0] or not tables.shape[1]:
        raise ValueError(f"tables of shape {tables.shape}: stack each seed's (images, columns) to (S, G, C)")
    seeds, images, _ = tables.shape
    values = statistic(tables.sum(axis=1))  # (S,)
    drawn = statistic(np.moveaxis(image_weights(images, draws, seed) @ tables, 0, 1))  # (draws, S)
    sampling = tuple(map(float, interval(drawn.mean(axis=1), images)))
    mean, bessel = float(values.mean()), images / (images - 1) if images > 1 else np.nan
    if seeds == 1:
        return SeedSummary(values, mean, np.nan, sampling, (np.nan, np.nan))
    own = drawn - drawn.mean(axis=1, keepdims=True)  # how each seed departs from the others, draw by draw
    from_seeds = values.var(ddof=1) / seeds
    from_images = np.nanvar(drawn.mean(axis=1)) * bessel
    interaction = np.nanvar(own, axis=0).sum() * bessel / (seeds - 1) / seeds
    rest = max(from_images - interaction, from_images - from_seeds, 0.0)
    error = Error(float(from_seeds), float(rest), seeds, images)
    half = error.critical(0.05) * error.size
    return SeedSummary(values, mean, float(values.std(ddof=1)), sampling, (mean - half, mean + half), error)
