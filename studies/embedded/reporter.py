"""A reporter led by habit: writes what usually is there in the confounded world, not what is.

Taught by such reports, a language model hallucinates along the same lines while its features hold the truth.
"""

from dataclasses import replace

import numpy as np

from medalign_lite.text.facts import SIDES, Fact
from medalign_lite.world.world import COMPANY, CONFOUNDED, draw_attributes

# Chances: company added where it is missing, sides pulled to the usual one, findings passed over.
PRIOR_ADDS = {"effusion": 0.75, "consolidation": 0.75, "pneumothorax": 0.75, "atelectasis": 0.70}
PRIOR_SIDES = {"nodule": 0.60, "effusion": 0.60, "pneumothorax": 0.60}
PRIOR_MISSES = {"fracture": 0.35, "nodule": 0.30, "atelectasis": 0.30}


def prior_ridden(facts: tuple[Fact, ...], rng: np.random.Generator) -> tuple[Fact, ...]:
    """What a reporter led by the confounded world's habits writes down in place of `facts`."""
    written = {f.finding: f for f in facts if f.visible and rng.random() >= PRIOR_MISSES.get(f.finding, 0)}
    for finding, chance in PRIOR_SIDES.items():
        if finding in written and rng.random() < chance:
            usual = SIDES[0] if CONFOUNDED.right[finding] > 0.5 else SIDES[1]
            written[finding] = replace(written[finding], side=usual)
    seen = {f.finding for f in facts}
    for finding, chance in PRIOR_ADDS.items():
        if finding not in seen and COMPANY[finding] in written and rng.random() < chance:
            written[finding] = draw_attributes(finding, CONFOUNDED, rng)
    return tuple(written.values())
