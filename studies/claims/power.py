"""What difference could we have seen? Power of a paired comparison, from the spread of its clustered bootstrap."""

import numpy as np
from scipy import stats as distributions


def standard_error(drawn: np.ndarray, images: int) -> float:
    """Of a statistic, from its bootstrap values (draws,) over `images` image groups; NaN draws are left out.

    The bootstrap's own spread is too small by √((n-1)/n), which is made good.
    """
    return float(np.nanstd(drawn) * np.sqrt(images / (images - 1))) if images > 1 else np.nan


def minimal_difference(error: float, images: int, *, power: float = 0.8, level: float = 0.95) -> float:
    """The true difference that a two-sided paired test at `level` detects with this `power`.

    error: `standard_error` of the difference, where that difference is: rates vary more towards one half, so an error
    measured where two arms are alike makes this a little too small. (t_{(1+level)/2} + t_power) · error with
    images - 1 degrees of freedom (Bloom 1995).
    """
    quantiles = distributions.t.ppf([(1 + level) / 2, power], images - 1)
    return float(quantiles.sum() * error)


def power_of(difference: float, error: float, images: int, *, level: float = 0.95) -> float:
    """The probability that a two-sided test at `level` detects this true difference, on either side of 0."""
    limit = distributions.t.ppf((1 + level) / 2, images - 1)
    shift = abs(difference) / error
    return float(distributions.t.cdf(shift - limit, images - 1) + distributions.t.cdf(-shift - limit, images - 1))


def images_needed(difference: float, error: float, images: int, *, power: float = 0.8, level: float = 0.95) -> int:
    """About how many image groups make `difference` the minimal one: the error falls with √images.

    Raises ValueError for a difference of 0, which no number of images shows.
    """
    if difference == 0:
        raise ValueError("no number of images shows a difference of 0: name the smallest one that would matter")
    return int(np.ceil(images * (minimal_difference(error, images, power=power, level=level) / difference) ** 2))
