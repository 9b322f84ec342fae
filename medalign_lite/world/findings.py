"""What disease adds to the healthy chest: thickness changes and an exact pixel mask for each finding.

Each finding draws its place from a random stream of its own, so removing one from a case moves nothing else.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from medalign_lite.text.facts import FINDINGS, Fact
from medalign_lite.world.anatomy import (
    SIGN,
    ZONE_LEVELS,
    Anatomy,
    Tissue,
    depth_inside,
    ellipsoid,
    grid,
    heart_shape,
    strokes,
)

NODULE_MM = {"small": (19, 23), "moderate": (24, 29), "large": (33, 40)}
SMALL_NODULE_DEPTH = 1.4  # a small nodule that shows on a film is a dense one
PATCH_RADIUS = {"small": (0.058, 0.070), "moderate": (0.085, 0.098), "large": (0.118, 0.135)}
EFFUSION_HEIGHT = {"small": (0.085, 0.105), "moderate": (0.15, 0.18), "large": (0.26, 0.32)}
PLEURAL_GAP = {"small": (0.045, 0.055), "moderate": (0.075, 0.090), "large": (0.120, 0.150)}
HEART_RATIO = {"small": (0.545, 0.565), "moderate": (0.605, 0.625), "large": (0.675, 0.71)}
RIB_IN_ZONE = {"upper": (3, 4), "mid": (5, 6), "lower": (8, 9)}


@dataclass(frozen=True, eq=False)
class Change:
    """What one finding does to the tissue, all (n, n); `mask` is where it can be seen. Equal to itself only."""

    mask: np.ndarray
    soft: np.ndarray | None = None  # cm of water-like tissue added (negative: air)
    metal: np.ndarray | None = None  # cm
    bone: np.ndarray | None = None  # the new bone map
    heart: np.ndarray | None = None  # the new heart
    clears_vessels: bool = False


def texture(rng: np.random.Generator, n: int, correlation: float) -> np.ndarray:
    """Smooth unit-variance noise (n, n) with a correlation length in units of the field."""
    coarse = max(4, min(n, round(1.5 / correlation)))
    field = gaussian_filter(rng.standard_normal((coarse, coarse)), correlation * coarse, mode="reflect")
    picture = Image.fromarray(((field - field.mean()) / field.std()).astype(np.float32))
    return np.asarray(picture.resize((n, n), Image.Resampling.BICUBIC))


def place_in_zone(rng, a: Anatomy, t: Tissue, fact: Fact, n: int, margin: float) -> tuple[float, float]:
    """A point of the lung in the fact's side and zone, `margin` (field units) from its border where that fits."""
    _, y = grid(n)
    low, high = ZONE_LEVELS[fact.zone]
    level = (y - a.apex) / a.thorax_height
    free = t.lungs[fact.side] & (t.heart < 0.5) & (t.mediastinum < 0.5)
    depth = depth_inside(free) / n * ((level > low) & (level < high))
    rows, columns = np.nonzero(depth >= min(margin, 0.8 * depth.max()))
    k = rng.integers(len(rows))
    return (columns[k] + 0.5) / n, (rows[k] + 0.5) / n


def add_nodule(rng, a, t, fact, n, density) -> Change:
    x, y = grid(n)
    radius = rng.uniform(*NODULE_MM[fact.size]) / 20 / 36.0
    cx, cy = place_in_zone(rng, a, t, fact, n, radius)
    depth = 2.7 * radius * 36.0 * (SMALL_NODULE_DEPTH if fact.size == "small" else 1.0)
    shape = ellipsoid(x, y, cx, cy, radius * rng.uniform(0.92, 1.1), radius, depth, 2.0, rng.uniform(0, 3))
    shape = shape * (1 + 0.10 * texture(rng, n, 0.012))
    return Change(mask=shape > 0.1, soft=np.clip(1.25 * density * shape, 0, None))


def soft_step(distance: np.ndarray, width: float) -> np.ndarray:
    """Logistic edge: 1 far on the negative side, 0 on the positive, and exactly 0 where less than a tenth is left."""
    share = 1 / (1 + np.exp(np.clip(distance / width, -30, 30)))
    return np.where(share < 0.1, 0, share)


def add_consolidation(rng, a, t, fact, n, density) -> Change:
    x, y = grid(n)
    radius = rng.uniform(*PATCH_RADIUS[fact.size])
    cx, cy = place_in_zone(rng, a, t, fact, n, 0.6 * radius)
    edge = np.hypot((x - cx) / radius, (y - cy) / (1.1 * radius)) + 0.20 * texture(rng, n, 0.035)
    fill = t.lungs[fact.side] * soft_step(edge - 1, 0.08)
    soft = np.minimum(fill * 4.6 * density * (1 + 0.16 * texture(rng, n, 0.012)), t.lung * 0.6)
    return Change(mask=fill > 0.2, soft=np.clip(soft, 0, None))


def add_effusion(rng, a, t, fact, n, density) -> Change:
    x, y = grid(n)
    share = np.clip(SIGN[fact.side] * (x - a.midline) / (0.49 * a.thorax_width), 0, 1)
    surface = a.base[fact.side] - rng.uniform(*EFFUSION_HEIGHT[fact.size]) * (0.55 + 0.75 * share**2.2)
    fill = t.lungs[fact.side] * soft_step(surface - y, 0.007)
    depth = np.minimum(8, t.lung * 0.75 + 1) / (1 + 0.5 * t.heart)  # little of it lies before or behind the heart
    return Change(mask=fill > 0, soft=density * fill * depth)


def add_pneumothorax(rng, a, t, fact, n, density) -> Change:
    x, y = grid(n)
    lung, out = t.lungs[fact.side], SIGN[fact.side] * (x - a.midline)
    wall = np.where(lung, out, -9).max(1, keepdims=True)
    depth = np.minimum(wall - out, (y - a.apex) * 1.3)  # distance to the chest wall or the apex
    level = (y - a.apex) / a.thorax_height
    gap = rng.uniform(*PLEURAL_GAP[fact.size]) * np.clip(1.35 - 1.5 * level, 0, 1.3)
    gap = gap * (1 + 0.10 * texture(rng, n, 0.06))
    space = lung & (depth < gap)
    pleura = np.exp(-(((depth - gap) / 0.004) ** 2)) * lung * (gap > 0.004)
    soft = density * (1.3 * pleura - np.where(space, 0.26 * t.lung, 0))
    return Change(mask=space | (pleura > 0.3), soft=soft, clears_vessels=density > 0.5)


def add_cardiomegaly(rng, a, t, fact, n, density) -> Change:
    ratio = rng.uniform(*HEART_RATIO[fact.size])
    if density < 0.5:  # the invisible form: as good as the healthy heart
        ratio = a.heart_ratio + 0.001
    heart = np.maximum(heart_shape(a, n, ratio), t.heart)
    return Change(mask=heart > 1.0, heart=heart)


def add_atelectasis(rng, a, t, fact, n, density) -> Change:
    centre, bands = a.midline + SIGN[fact.side] * 0.27 * a.thorax_width, []
    for j in range(3):
        level = a.dome[fact.side] - 0.035 - 0.042 * j
        tilt = rng.normal(0, 0.008, 2)
        bands.append([[centre - 0.095, level + tilt[0]], [centre + 0.095, level + tilt[1]]])
    soft = density * 2.4 * strokes(n, bands, [0.0120] * 3) * t.lungs[fact.side]
    return Change(mask=(soft > 0.25 * max(float(soft.max()), 1e-6)) & t.lungs[fact.side], soft=soft)


def add_fracture(rng, a, t, fact, n, density) -> Change:
    """A displaced rib: a gap, a step between the fragments, and callus around both ends."""
    x, y = grid(n)
    path = t.ribs[(fact.side, int(rng.choice(RIB_IN_ZONE[fact.zone])))]
    low, high = ZONE_LEVELS[fact.zone]
    level = (path[:, 1] - a.apex) / a.thorax_height
    inside = np.nonzero((level > low) & (level < high))[0]
    clear = inside[(inside > 6) & (inside < 18)]  # behind neither the spine nor the chest wall
    inside = clear if len(clear) else np.array([15])
    cx, cy = path[int(rng.choice(inside))]
    away = np.hypot(x - cx, y - cy)
    near = away < 0.042
    shifted = np.roll(t.bone, round(0.028 * n), axis=0)
    bone = np.where(near & (SIGN[fact.side] * (x - cx) > 0), shifted, t.bone)
    gap = np.abs((x - cx) + 0.3 * (y - cy))
    bone = np.where(near, bone * (1 - np.exp(-((gap / 0.007) ** 2))), bone)
    callus = ellipsoid(x, y, cx, cy, 0.039, 0.034, 2.2) * np.clip(gap / 0.009, 0, 1)
    return Change(mask=near, bone=t.bone + density * (bone + callus - t.bone))


def add_pacemaker(rng, a, t, fact, n, density) -> Change:
    x, y = grid(n)
    sign, w = SIGN[fact.side], a.thorax_width / 0.83
    gx, gy = a.midline + sign * 0.29 * w + rng.normal(0, 0.01), a.apex + 0.13 + rng.normal(0, 0.01)
    can = ellipsoid(x, y, gx, gy, 0.046, 0.038, 0.5, 3.0)
    c = np.linspace(0, 1, 20)
    end = a.dome["left"] - 0.06
    lead_x = gx + (a.midline - 0.04 - gx) * np.minimum(c / 0.4, 1) + np.where(c > 0.4, (c - 0.4) * 0.14, 0)
    lead_y = gy - 0.03 * np.sin(np.minimum(c / 0.4, 1) * 3.1) + np.where(c > 0.4, (c - 0.4) / 0.6 * (end - gy), 0)
    lead = strokes(n, [np.c_[lead_x, lead_y]], [0.0030])
    metal = np.where(can > 0, 0.35 + 0.3 * can, 0) + 0.45 * lead
    return Change(mask=(can > 0) | (lead > 0.02), metal=density * metal)


ADD = {
    "nodule": add_nodule, "consolidation": add_consolidation, "effusion": add_effusion,
    "pneumothorax": add_pneumothorax, "cardiomegaly": add_cardiomegaly, "atelectasis": add_atelectasis,
    "fracture": add_fracture, "pacemaker": add_pacemaker,
}  # fmt: skip


def add_finding(seed: int, a: Anatomy, t: Tissue, fact: Fact, n: int, *, density: float = 1.0) -> Change:
    """The change that one fact makes, a function of (seed, finding, attributes) only; `density` scales its contrast (1
    is clearly visible). Raises KeyError for a finding that the phantom does not know."""
    rng = np.random.default_rng([seed, 1, FINDINGS.index(fact.finding)])
    change = ADD[fact.finding](rng, a, t, fact, n, density)
    return replace(change, mask=change.mask & (t.body > 1.0))
