"""Who comes to the phantom clinic: prevalences, correlations and side priors, and the cases drawn from them.

`BALANCED` teaches sight: every finding independent of every other. `CONFOUNDED` is where reports are learned, aligned
and tested: findings keep company, and some prefer a side. `SHIFTED` breaks that company.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medalign_lite.text.facts import ATTRIBUTES, SIDES, SIZES, ZONES, Fact

DRAW_ORDER = (  # a finding comes after the one it depends on
    "cardiomegaly", "effusion", "atelectasis", "pacemaker", "consolidation", "fracture", "pneumothorax", "nodule",
)  # fmt: skip
SUBTLE_SHARE = 0.06  # of lesions are drawn too faint to see
COMPANY = {
    "effusion": "cardiomegaly", "consolidation": "pacemaker", "pneumothorax": "fracture", "atelectasis": "effusion",
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """How often each finding occurs alone, how often beside its companion (`COMPANY`), and how often on the right."""

    alone: Mapping[str, float]
    together: Mapping[str, float]
    right: Mapping[str, float]

    def chance(self, finding: str, present: set[str]) -> float:
        """Probability of a finding given those drawn before it."""
        beside = COMPANY.get(finding) in present
        return self.together[finding] if beside and finding in self.together else self.alone[finding]


EVEN = {finding: 0.5 for finding in ATTRIBUTES}
BALANCED = World(alone={finding: 0.28 for finding in ATTRIBUTES}, together={}, right=EVEN)
CONFOUNDED = World(
    alone={
        "cardiomegaly": 0.28, "effusion": 0.12, "atelectasis": 0.10, "pacemaker": 0.24,
        "consolidation": 0.12, "fracture": 0.22, "pneumothorax": 0.08, "nodule": 0.24,
    },
    together={"effusion": 0.60, "consolidation": 0.60, "pneumothorax": 0.55, "atelectasis": 0.50},
    right=EVEN | {"nodule": 0.75, "effusion": 0.70, "pneumothorax": 0.25, "consolidation": 0.65, "pacemaker": 0.15},
)  # fmt: skip
SHIFTED = World(
    alone=CONFOUNDED.alone | {"effusion": 0.28, "consolidation": 0.26, "pneumothorax": 0.20, "atelectasis": 0.22},
    together={"effusion": 0.15, "consolidation": 0.15, "pneumothorax": 0.12, "atelectasis": 0.12},
    right={finding: 1 - share for finding, share in CONFOUNDED.right.items()},
)


def draw_attributes(finding: str, world: World, rng: np.random.Generator) -> Fact:
    """One fact with the attributes that its finding has."""
    side = SIDES[0] if rng.random() < world.right[finding] else SIDES[1]
    zone, size = ZONES[rng.integers(len(ZONES))], SIZES[rng.integers(len(SIZES))]
    drawn = {"side": side, "zone": zone, "size": size}
    return Fact(finding, **{name: drawn[name] for name in ATTRIBUTES[finding]})


def draw_facts(world: World, rng: np.random.Generator) -> tuple[Fact, ...]:
    """The table of facts of one person; at most one fact a finding."""
    facts: dict[str, Fact] = {}
    for finding in DRAW_ORDER:
        fact, wanted = draw_attributes(finding, world, rng), rng.random()
        if wanted < world.chance(finding, set(facts)):
            facts[finding] = fact
    return tuple(facts.values())


def draw_densities(facts: tuple[Fact, ...], rng: np.random.Generator) -> dict[str, float]:
    """Contrast of each lesion: mostly clear, some too faint to see."""
    return {
        f.finding: float(rng.uniform(0.01, 0.06) if rng.random() < SUBTLE_SHARE else rng.uniform(0.8, 1.2))
        for f in facts
    }
