"""The healthy chest as thickness maps: how many centimetres of each tissue a ray crosses at each pixel.

Coordinates run over the unit square (x to the right, y down; 1.0 = `FIELD_CM`). Radiographs are shown with the
patient's right on the left of the image, so the patient's right lung has x < `midline`. Lung outlines are medians over
98 outlines of real radiographs, as half-widths of the thorax at 25 levels from apex to base.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt, gaussian_filter

FIELD_CM = 36.0
LEVELS = np.linspace(0.01, 0.99, 25)
OUTLINE = {  # side of the patient -> lateral and medial half-widths
    "right": np.array([
        [.175, .234, .282, .319, .347, .370, .388, .403, .415, .424, .435, .442, .449, .455, .460, .465, .469,
         .475, .481, .485, .488, .490, .493, .495, .494],
        [.093, .064, .050, .046, .046, .046, .049, .053, .057, .062, .066, .069, .070, .073, .075, .077, .079,
         .082, .086, .09, .095, .10, .10, .10, .10],
    ]),
    "left": np.array([
        [.183, .255, .298, .328, .356, .379, .395, .406, .417, .427, .435, .441, .447, .455, .459, .461, .465,
         .470, .474, .480, .483, .484, .489, .490, .490],
        [.104, .072, .057, .051, .046, .047, .049, .051, .053, .056, .059, .062, .067, .067, .068, .068, .070,
         .072, .076, .079, .089, .10, .11, .12, .12],
    ]),
}  # fmt: skip
SIGN = {"right": -1, "left": 1}  # direction of the patient's side along x
ZONE_LEVELS = {"upper": (0.12, 0.36), "mid": (0.40, 0.62), "lower": (0.66, 0.88)}  # share of the way from apex to base
OVERSAMPLE = 4  # strokes are drawn on a finer grid and averaged down
SHARES = np.array([1.0, 0.85, 0.7, 0.5, 0.25])  # of a stroke's radius, where its nested lines end


@dataclass(frozen=True)
class Anatomy:
    """One person's build, drawn from the anatomy stream; lengths in units of the field."""

    thorax_width: float
    thorax_height: float
    apex: float
    midline: float
    base: dict[str, float]  # level of the costophrenic angle
    dome: dict[str, float]  # level of the diaphragm's dome
    heart_ratio: float  # cardiothoracic ratio of the healthy heart
    body_depth_cm: float
    vessel_seed: int


@dataclass(frozen=True)
class Tissue:
    """Thickness maps in cm, float32 (n, n), and organ masks, bool (n, n)."""

    soft: np.ndarray
    lung: np.ndarray
    vessels: np.ndarray
    bone: np.ndarray
    air: np.ndarray
    body: np.ndarray
    lungs: dict[str, np.ndarray]
    heart: np.ndarray
    mediastinum: np.ndarray
    ribs: dict[tuple[str, int], np.ndarray]  # (side, number) -> path (24, 2)


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draws one build; every call uses the same number of random values."""
    width = float(np.clip(rng.normal(0.83, 0.03), 0.74, 0.90))
    height = width * float(np.clip(rng.normal(0.90, 0.06), 0.78, 1.04))
    apex = float(np.clip(rng.normal(0.085, 0.02), 0.04, 0.14))
    z = rng.normal(size=6)
    return Anatomy(
        thorax_width=width,
        thorax_height=height,
        apex=apex,
        midline=0.5 + 0.008 * float(z[0]),
        base={"right": apex + height * (0.93 + 0.02 * z[1]), "left": apex + height * (0.965 + 0.02 * z[2])},
        dome={"right": apex + height * (0.80 + 0.02 * z[3]), "left": apex + height * (0.835 + 0.02 * z[4])},
        heart_ratio=float(np.clip(rng.normal(0.44, 0.025), 0.38, 0.48)),
        body_depth_cm=21 + 1.5 * float(z[5]),
        vessel_seed=int(rng.integers(2**31)),
    )


def grid(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres x (1, n) and y (n, 1) of an n x n image."""
    centres = ((np.arange(n) + 0.5) / n).astype(np.float32)
    return centres[None, :], centres[:, None]


def span(centres: np.ndarray, middle: float, half: float) -> slice:
    """The pixels at most `half` from `middle` (field units), with a spare one on each side."""
    at = np.flatnonzero(np.abs(centres - middle) <= half)
    return slice(max(at[0] - 1, 0), at[-1] + 2) if len(at) else slice(0)


def ellipsoid(x, y, cx, cy, rx, ry, depth, power=2.0, turn=0.0) -> np.ndarray:
    """Thickness (n, n) of a super-ellipsoid with half-axes rx, ry and the given central depth in cm."""
    thickness = np.zeros((y.size, x.size), np.float32)
    c, s = np.cos(turn), np.sin(turn)
    columns = span(x[0], cx, abs(rx * c) + abs(ry * s))
    rows = span(y[:, 0], cy, abs(rx * s) + abs(ry * c))
    x, y = x[:, columns] - cx, y[rows] - cy
    u = np.abs((x * c + y * s if turn else x * c) / rx)  # upright ones need their powers in a row and a column only
    v = np.abs((-x * s + y * c if turn else y * c) / ry)
    thickness[rows, columns] = depth * np.sqrt(np.clip(1 - u**power - v**power, 0, None))
    return thickness


def strokes(n: int, paths, radii, *, shell: float = 0.0, dtype=np.float32) -> np.ndarray:
    """Thickness (n, n) in cm of p tubes with `radii` (p,) along polylines `paths` (p, k, 2), both in field units;
    `shell` > 0 makes hollow bones.

    The round profile 2 sqrt(r^2 - d^2) is drawn as nested lines, outermost first: crossing tubes keep the larger.
    """
    m = n * OVERSAMPLE
    radius = np.array(radii)
    thickest = (2 * radius * FIELD_CM).max()
    picture = Image.new("L", (m, m))
    pen = ImageDraw.Draw(picture).draw  # Pillow's own core: the checks of `line` take longer than its lines
    lines = (np.array(paths) * m).reshape(len(radius), -1).tolist()
    widths = np.maximum(1, np.rint(2 * radius * m * SHARES[:, None])).astype(int)
    drawn = np.diff(widths, axis=0, append=0) < 0  # where the next one is as wide, it hides this one
    for share, width, seen in zip(SHARES, widths.tolist(), drawn, strict=True):
        inner = max(0.0, (1 - shell) ** 2 - share**2) if shell else 0.0
        profile = np.sqrt(max(1 - (share - 0.07) ** 2, 0)) - 0.75 * np.sqrt(inner)
        values = (255 * 2 * radius * FIELD_CM * profile / thickest).astype(int).tolist()
        for j in np.flatnonzero(seen).tolist():
            pen.draw_lines(lines[j], pen.draw_ink(values[j]), width[j])
    return np.asarray(picture.reduce(OVERSAMPLE), dtype) * dtype(thickest / 255)


def frame(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    """Rows and columns of the smallest box around a mask (n, n), wider by `margin` pixels; all where it is empty."""
    spans = []
    for along in (1, 0):
        at = np.flatnonzero(mask.any(along))
        spans.append(slice(max(at[0] - margin, 0), at[-1] + margin + 1) if len(at) else slice(None))
    return spans[0], spans[1]


def depth_inside(mask: np.ndarray) -> np.ndarray:
    """Distance (n, n) in pixels of each pixel of a mask to the nearest one outside, which is in its frame or beside."""
    depth, box = np.zeros(mask.shape), frame(mask, 1)
    depth[box] = distance_transform_edt(mask[box])
    return depth


def lung_fields(a: Anatomy, n: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Lung masks by side, and the thickness (n, n) of air-filled lung before the heart takes its place."""
    x, y = grid(n)
    level = (y - a.apex) / a.thorax_height
    masks, thickness = {}, np.zeros((n, n), np.float32)
    for side, (lateral, medial) in OUTLINE.items():
        lat = np.interp(level, LEVELS, lateral) * a.thorax_width
        med = np.interp(level, LEVELS, medial) * a.thorax_width
        out = SIGN[side] * (x - a.midline)  # distance from the midline towards the patient's side
        share = np.clip(out / (0.49 * a.thorax_width), 0, 1)
        drop = np.abs((share - 0.42) / 0.58) ** 2.6 * np.where(share > 0.42, 1, 0.55)
        diaphragm = a.dome[side] + (a.base[side] - a.dome[side]) * drop
        mask = (out > med) & (out < lat) & (level > 0) & (y < diaphragm)
        depth = depth_inside(mask) / n * FIELD_CM
        masks[side] = mask
        thickness += mask * np.minimum(15.5, 4.2 * np.sqrt(depth)) * (0.80 + 0.20 * np.clip(level / 0.35, 0, 1))
    return masks, thickness.astype(np.float32)


def heart_shape(a: Anatomy, n: int, ratio: float) -> np.ndarray:
    """Thickness (n, n) of a heart whose width is `ratio` of the thorax (the cardiothoracic ratio)."""
    x, y = grid(n)
    width = ratio * a.thorax_width * 0.97
    cx, cy = a.midline + 0.14 * width, a.dome["left"] - 0.085 * (0.6 + 0.9 * ratio)
    ventricles = ellipsoid(x, y, cx, cy, width * 0.515, 0.10 + 0.10 * ratio, 11, 2.1, 0.30)
    return np.maximum(ventricles, ellipsoid(x, y, a.midline - 0.02, cy - 0.01, width * 0.36, 0.12, 9))


def vessel_tree(a: Anatomy, n: int, lung: np.ndarray) -> np.ndarray:
    """Thickness (n, n) of the branching pulmonary vessels and hila inside the lungs."""
    rng = np.random.default_rng(a.vessel_seed)
    x, y = grid(n)
    paths, radii, hila = [], [], np.zeros((n, n), np.float32)
    for sign in (-1, 1):
        hilum = np.array(
            [a.midline + sign * 0.085 * a.thorax_width / 0.83, a.apex + 0.45 * a.thorax_height - 0.012 * sign]
        )
        hila = np.maximum(hila, ellipsoid(x, y, *hilum, 0.028, 0.042, 2.6, 2.0, 0.3 * sign))
        angles = np.linspace(-1.35, 1.4, 7)
        starts, angles = np.repeat(hilum[None], 7, 0), angles if sign > 0 else np.pi - angles
        radius, length = np.full(7, 0.0088), np.full(7, 0.058)
        for _ in range(5):
            ends = starts + length[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
            paths.append(np.stack([starts, ends], 1))
            radii.append(radius)
            starts, angles = np.repeat(ends, 2, 0), np.repeat(angles, 2) + rng.normal(0, 0.38, 2 * len(angles))
            radius = np.repeat(radius, 2) * rng.uniform(0.6, 0.78, len(angles))
            length = np.repeat(length, 2) * rng.uniform(0.7, 0.95, len(angles))
    paths, radii = np.concatenate(paths), np.concatenate(radii)
    order = np.argsort(radii, kind="stable")
    tree = np.maximum(strokes(n, paths[order], radii[order], dtype=np.float64), hila)
    box = frame(lung, n // 48)  # and what the filter reaches
    tree[box] = gaussian_filter(tree[box], 0.0011 * n)
    return tree * lung


def skeleton(a: Anatomy, n: int) -> tuple[np.ndarray, dict[tuple[str, int], np.ndarray]]:
    """Thickness (n, n) of ribs, clavicles, scapulae and spine, and the paths of the posterior ribs."""
    x, y = grid(n)
    ribs, anterior, clavicles, scapulae = {}, [], [], []
    u, v, c, s = np.linspace(0, 1, 24), np.linspace(0, 1, 16), np.linspace(0, 1, 14), np.linspace(0, 1, 10)
    i = np.arange(10)[:, None]
    start = a.apex - 0.035 + 0.1009 * a.thorax_height * i
    end = start + 0.055 + 0.012 * i
    for side, (lateral, _) in OUTLINE.items():
        sign = SIGN[side]
        reach = np.interp((end - a.apex) / a.thorax_height, LEVELS, lateral) * a.thorax_width * 1.03
        px = a.midline + sign * (0.035 + (reach - 0.035) * np.sin(u * np.pi / 2))
        py = start - 0.02 * np.sin(u * np.pi) * (1 - 0.05 * i) + (end - start) * u**2.4
        ribs |= {(side, j + 1): path for j, path in enumerate(np.stack([px, py], 2))}
        qx = px[:7, -1:] - sign * (reach[:7] - 0.10) * 0.62 * v**1.1
        anterior += [*np.stack([qx, py[:7, -1:] + 0.10 * v + 0.02 * np.sin(3 * v)], 2)]
        cy = a.apex + 0.060 - 0.075 * c + 0.022 * np.sin(c * 6.2)
        clavicles.append(np.stack([a.midline + sign * (0.035 + 0.30 * c), cy], 1))
        scapulae.append(np.stack([a.midline + sign * (0.40 + 0.03 * np.sin(3 * s)), a.apex + 0.05 + 0.33 * s], 1))
    bone = strokes(n, [*ribs.values()], [0.0128] * len(ribs), shell=0.30)
    for part, radius, weight, shell in (
        (anterior, 0.0115, 0.5, 0.25), (clavicles, 0.0150, 1.1, 0.32), (scapulae, 0.010, 0.45, 0.4)
    ):  # fmt: skip
        bone = np.maximum(bone, weight * strokes(n, part, [radius] * len(part), shell=shell))
    nearest = np.clip(np.rint((y - 0.03) / 0.056), 0, 17).astype(int)  # its vertebra; they do not overlap
    above = y - (0.03 + 0.056 * nearest).astype(np.float32)
    bone = bone + 0.5 * ellipsoid(x, above, a.midline, 0, 0.044, 0.0235, 2.2, 4.0)
    bone = bone + 0.5 * ellipsoid(x, above, a.midline, 0, 0.010, 0.016, 0.6)
    return bone, ribs


def build_tissue(a: Anatomy, n: int) -> Tissue:
    """The healthy chest of one build on an n x n grid."""
    x, y = grid(n)
    lungs, lung = lung_fields(a, n)
    either = lungs["right"] | lungs["left"]
    shoulders = np.where((y < 0.085) & (np.abs(x - a.midline) > 0.13), 6 + 90 * y, 99)
    trunk = ellipsoid(x, y, a.midline, 0.66, 0.50, 0.80, a.body_depth_cm, 3.5) * np.where(y < 0.1, 0.75 + 2.5 * y, 1)
    body = gaussian_filter(np.minimum(trunk, shoulders), 0.012 * n)
    w, h, top = a.thorax_width / 0.83, a.thorax_height, a.apex
    mediastinum = (
        ellipsoid(x, y, a.midline, 0.45, 0.072 * w, 0.52, 9, 4.0)
        + ellipsoid(x, y, a.midline + 0.058, top + 0.36 * h, 0.042, 0.048, 6)
        + ellipsoid(x, y, a.midline - 0.045, top + 0.40 * h, 0.035, 0.15, 3)
        + ellipsoid(x, y, a.midline + 0.055, top + 0.47 * h, 0.035, 0.04, 3)
    )
    trachea = ellipsoid(x, y, a.midline + 0.003, top + 0.10, 0.0195, 0.23, 1.8, 8.0)
    gas = ellipsoid(x, y, a.midline + 0.14, a.dome["left"] + 0.085, 0.055, 0.030, 5, 2.0, -0.2)
    bone, ribs = skeleton(a, n)
    soft = np.clip(body - lung, 2, None)
    air = np.minimum(trachea, soft * 0.3) + np.minimum(gas, soft * 0.4)
    return Tissue(
        soft=soft, lung=lung, vessels=vessel_tree(a, n, either), bone=bone, air=air, body=body, lungs=lungs,
        heart=heart_shape(a, n, a.heart_ratio), mediastinum=mediastinum, ribs=ribs,
    )  # fmt: skip
