"""From thickness to picture: Beer-Lambert transmission, scatter, quantum noise, tone, and the side marker.

Scatter, window and tone come from the healthy chest of the same person, so two renderings of one case differ only
where their findings differ, and only there is the second one developed. Noise comes from the acquisition stream and is
shared by all renderings of a case.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation, gaussian_filter

from medalign_lite.text.facts import Fact
from medalign_lite.world.anatomy import Anatomy, Tissue, build_tissue, draw_anatomy, frame
from medalign_lite.world.findings import Change, add_finding, texture

ATTENUATION = {"soft": 0.19, "lung": 0.05, "bone": 0.46, "metal": 3.0}  # 1/cm at about 70 keV, effective
SIZE = 192  # pixels, height and width
PHOTONS = 2.5e4  # per pixel of the unattenuated beam, at 512 pixels across
VISIBLE_CNR = 1.0  # a finding below this contrast-to-noise ratio cannot be held against a reader
VISIBLE_PIXELS = 12
load_font = lru_cache(maxsize=1)(ImageFont.load_default)  # reading it takes longer than writing with it
NEAR = 15  # pixels around a mask that its local noise depends on: a ring of 3 and the reach of a filter, 12


@dataclass(frozen=True)
class Scene:
    """One person under one exposure: everything that renderings of a case share."""

    seed: int
    n: int
    anatomy: Anatomy
    tissue: Tissue
    shown: dict[tuple[Change, ...], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # beam, picture

    @cached_property
    def acquisition(self) -> dict:
        rng = np.random.default_rng([self.seed, 2])
        return {
            "photons": PHOTONS * float(rng.uniform(0.5, 1.5)),
            "gamma": float(rng.uniform(0.9, 1.2)),
            "marker": str(rng.choice(["L", "R"])),
            "marker_height": float(rng.uniform(0.03, 0.09)),
            "noise": rng.standard_normal((self.n, self.n)).astype(np.float32),
            "parenchyma": texture(rng, self.n, 0.010),
        }

    @cached_property
    def marker(self) -> np.ndarray:
        """Cover, uint8 (n, n), of the technician's L or R beside the shoulder on that side (patient's left = right)."""
        n, letter = self.n, self.acquisition["marker"]
        picture = Image.new("L", (n, n))
        at = (n * (0.93 if letter == "L" else 0.07), n * self.acquisition["marker_height"])
        ImageDraw.Draw(picture).text(at, letter, fill=255, anchor="mm", font=load_font(round(n * 0.07)))
        return np.asarray(picture)

    @cached_property
    def healthy(self) -> np.ndarray:
        return self.transmit([])

    @cached_property
    def scatter(self) -> np.ndarray:
        return 0.35 * blur(self.healthy, 0.05)

    @cached_property
    def window(self) -> tuple[float, float, np.ndarray]:
        """Log-exposure shown as black and as white, and the low frequencies (n, n) that tone mapping removes."""
        log = -np.log((self.healthy + self.scatter) / 1.35)
        low = 0.40 * blur(log, 0.10)
        flat = log - low
        lungs = self.tissue.lungs["right"] | self.tissue.lungs["left"]
        return float(np.quantile(flat[lungs], 0.01)), float(np.quantile(flat[self.tissue.body > 4], 0.985)), low

    @cached_property
    def air_share(self) -> np.ndarray:
        """How much of the lung's thickness (n, n) is aerated, about 1."""
        return 1 + 0.06 * self.acquisition["parenchyma"] * (self.tissue.lung > 0)

    def transmit(self, changes: list[Change]) -> np.ndarray:
        """Primary beam (n, n) behind the chest, I = exp(-sum mu d), relative to its brightest tissue."""
        t = self.tissue
        heart, bone, soft, metal, vessels = t.heart, t.bone, t.soft, np.float32(0), t.vessels
        for change in changes:
            heart = heart if change.heart is None else change.heart
            bone = bone if change.bone is None else bone + (change.bone - t.bone)
            vessels = vessels * ~change.mask if change.clears_vessels else vessels
            soft = soft if change.soft is None else soft + change.soft
            metal = metal if change.metal is None else metal + change.metal
        displaced = np.minimum(np.maximum(heart, t.mediastinum), t.lung * 0.92)
        mu = ATTENUATION
        attenuation = (
            mu["soft"] * (soft + displaced + 0.95 * vessels - t.air)
            + mu["lung"] * ((t.lung - displaced) * self.air_share)
            + (mu["bone"] - mu["soft"]) * bone
            + mu["metal"] * metal
        )
        beam = np.exp(-np.clip(attenuation, 0, None)) / self.brightest
        return np.minimum(beam, 2.5).astype(np.float32)

    @cached_property
    def brightest(self) -> float:
        t = self.tissue
        plain = ATTENUATION["soft"] * (t.soft - t.air) + ATTENUATION["lung"] * t.lung
        return float(np.quantile(np.exp(-plain)[t.body > 4], 0.98))

    def expose(self, changes: Iterable[Change]) -> np.ndarray:
        """The radiograph, uint8 (n, n), with these findings; every picture of a person is made once."""
        changes = tuple(changes)
        if changes not in self.shown:
            beam = (self.transmit(changes) if changes else self.healthy) + self.scatter
            beam = gaussian_filter(beam / 1.35, 0.5 * self.n / 512, truncate=3)
            self.shown[changes] = beam, self.redraw(beam)
        return self.shown[changes][1]

    def redraw(self, beam: np.ndarray) -> np.ndarray:
        """The picture, uint8 (n, n), of a beam (n, n): the closest one drawn before, anew where the beam is another."""
        boxes = [(frame(beam != other), picture) for other, picture in self.shown.values()]
        whole = (slice(0, self.n), slice(0, self.n)), np.zeros(beam.shape, np.uint8)
        (rows, columns), picture = min([*boxes, whole], key=lambda box: beam[box[0]].size)
        picture = picture.copy()
        picture[rows, columns] = self.develop(beam, (rows, columns))
        picture.setflags(write=False)  # it is handed out more than once
        return picture

    def develop(self, beam: np.ndarray, box: tuple[slice, slice]) -> np.ndarray:
        """Grey values, uint8, of one box of the film, with noise, tone and marker."""
        a, (black, white, low), beam = self.acquisition, self.window, beam[box]
        photons = a["photons"] * (512 / self.n) ** 2
        noisy = np.clip(beam + a["noise"][box] * np.sqrt(np.clip(beam, 1e-5, None) / photons), 2e-4, None)
        tone = np.clip((-np.log(noisy) - low[box] - black) / (white - black), 0, 1) ** a["gamma"]
        grey = (0.05 + 0.90 * tone) * 255 * np.clip(self.tissue.body[box], 0, 1)
        picture = Image.fromarray(grey.astype(np.uint8))
        picture.paste(235, mask=Image.fromarray(self.marker[box]))
        return np.asarray(picture)


@dataclass(frozen=True)
class Rendering:
    """A case's facts with measured visibility, and its pictures: all share person, exposure and noise."""

    scene: Scene
    facts: tuple[Fact, ...]
    changes: dict[str, Change]
    densities: dict[str, float]

    @property
    def image(self) -> np.ndarray:
        """The radiograph, uint8 (n, n)."""
        return self.scene.expose(self.changes.values())

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """Where each finding is, bool (n, n)."""
        return {finding: change.mask for finding, change in self.changes.items()}

    def removed(self, *findings: str) -> np.ndarray:
        """The same picture without some findings (all of them if none is named), uint8 (n, n)."""
        gone = findings or tuple(self.changes)
        return self.scene.expose(change for name, change in self.changes.items() if name not in gone)

    def moved(self, finding: str) -> "Rendering":
        """The same picture with one finding on the other side; ValueError where the finding has no side."""
        sides = {f.finding: f.side for f in self.facts}
        if not sides.get(finding):
            raise ValueError(f"this case has no {finding} with a side to move; it has {sides}")
        other = "left" if sides[finding] == "right" else "right"
        facts = tuple(replace(f, side=other) if f.finding == finding else f for f in self.facts)
        kept = {name: change for name, change in self.changes.items() if name != finding}
        return draw_changes(self.scene, facts, self.densities, kept)


def blur(image: np.ndarray, width: float) -> np.ndarray:
    """Wide Gaussian blur (field units) at a quarter of the resolution."""
    n = len(image)
    small = Image.fromarray(image.astype(np.float32)).reduce(4)
    soft = gaussian_filter(np.asarray(small), width * n / 4, mode="nearest", truncate=3)
    return np.asarray(Image.fromarray(soft).resize((n, n), Image.Resampling.BICUBIC))


def build_scene(seed: int, *, n: int = SIZE) -> Scene:
    """The person and exposure of one seed."""
    anatomy = draw_anatomy(np.random.default_rng([seed, 0]))
    return Scene(seed=seed, n=n, anatomy=anatomy, tissue=build_tissue(anatomy, n))


def contrast_to_noise(with_it: np.ndarray, without: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute grey difference inside the mask over the local noise of the picture without the finding."""
    box = frame(mask, NEAR)
    with_it, without, mask = with_it[box], without[box], mask[box]
    area = mask & (with_it != without)
    if area.sum() < VISIBLE_PIXELS:
        return 0.0
    base = without.astype(np.float32)
    ring = binary_dilation(mask, iterations=3)
    noise = (base - gaussian_filter(base, 3))[ring].std()
    return float(np.abs(with_it[area].astype(float) - base[area]).mean() / max(noise, 1.0))


def draw_changes(
    scene: Scene, facts: tuple[Fact, ...], densities: dict[str, float], known: Mapping[str, Change]
) -> Rendering:
    """Adds the facts to the scene, those with `known` changes by these, and measures each one's contrast-to-noise
    against the picture without it."""
    a, t, n, changes = scene.anatomy, scene.tissue, scene.n, {}
    for f in facts:
        density = densities.get(f.finding, 1.0)
        changes[f.finding] = known.get(f.finding) or add_finding(scene.seed, a, t, f, n, density=density)
    picture = Rendering(scene, facts, changes, densities)
    ratios = {name: contrast_to_noise(picture.image, picture.removed(name), c.mask) for name, c in changes.items()}
    measured = (
        replace(f, cnr=round(r, 2), visible=r >= VISIBLE_CNR) for f, r in zip(facts, ratios.values(), strict=True)
    )
    return replace(picture, facts=tuple(measured))


def render(
    seed: int, facts: tuple[Fact, ...], *, densities: dict[str, float] | None = None, n: int = SIZE
) -> Rendering:
    """One case: the person and exposure of `seed`, with `facts`; `densities` scales contrasts (1 = clear)."""
    return draw_changes(build_scene(seed, n=n), facts, densities or {}, {})
