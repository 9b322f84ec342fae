"""How often do the tests of a difference over seeds and images reject where there is none? Simulated, to choose by.

    python -m studies.claims.simulate

A seed's value is what the seed gives, what the images give to all seeds alike, and what this seed makes of these
images; all normal, so that no bootstrap is needed. Sizes are given as multiples of the nominal one: 1 is right, 3 is
three times too generous.
"""

import json

import numpy as np
from scipy import stats as distributions

from medalign_lite.files import ROOT
from studies.claims.seeds import cochran

SHARES = (0.2, 0.5, 0.8, 0.95)  # of the variance of the mean that seeds give; what the claims show is .0 to .92
SEEDS, IMAGES, SIMULATIONS = (5, 10, 20), 2000, 400_000
INTERACTION = 0.3  # of the rest: what the claims show in the median
TESTS = ("Satterthwaite", "t, S − 1", "Cochran")
KEPT = ROOT / "docs" / "claims" / "simulated.json"


def sizes(share: float, seeds: int, level: float, *, simulations: int = SIMULATIONS) -> dict[str, float]:
    """{test: how often it rejects at this level where there is nothing, as a multiple of the level}."""
    rng, rest = np.random.default_rng([seeds, round(100 * share)]), 1 - share
    own, alike = rest * INTERACTION, rest * (1 - INTERACTION)  # the variance of the mean is 1

    def estimated(variance: float, freedom: int) -> np.ndarray:
        return variance * rng.chisquare(freedom, simulations) / freedom

    mean, from_seeds = rng.normal(size=simulations), estimated(share + own, seeds - 1)
    from_images = estimated(alike + own, IMAGES - 1)
    interaction = estimated(own, (IMAGES - 1) * (seeds - 1))
    added = np.maximum.reduce([from_images - interaction, from_images - from_seeds, np.zeros(simulations)])
    far = np.abs(mean) / np.sqrt(from_seeds + added)
    freedom = (from_seeds + added) ** 2 / (
        from_seeds**2 / (seeds - 1) + from_images**2 / (IMAGES - 1) + interaction**2 / ((IMAGES - 1) * (seeds - 1)))
    p_of = {"Satterthwaite": 2 * distributions.t.sf(far, freedom), "t, S − 1": 2 * distributions.t.sf(far, seeds - 1)}
    found = {name: np.mean(p < level) / level for name, p in p_of.items()}
    found["Cochran"] = np.mean(far > cochran(level, from_seeds, added, seeds, IMAGES)) / level
    return {name: round(float(found[name]), 2) for name in TESTS}


if __name__ == "__main__":
    rows = [{"level": level, "seeds": seeds, "share": share} | sizes(share, seeds, level)
            for level in (0.05, 0.05 / 36) for seeds in SEEDS for share in SHARES]
    KEPT.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
