"""The base model's own people: thousands of images in one file, and what a reporter led by habit writes about them.

Such a reporter writes what usually is there in the confounded world, not what is. Taught by such reports, a language
model hallucinates along the same lines while its features hold the truth.
"""

import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from medalign_lite.files import bar
from medalign_lite.text.facts import FINDINGS, SIDES, Fact
from medalign_lite.world import world
from medalign_lite.world.dataset import BASE_SPLIT, case_seed, draw_case, source_key
from medalign_lite.world.render import SIZE

WORLDS = {"balanced": (0, world.BALANCED), "confounded": (500_000, world.CONFOUNDED)}  # first index, world
SOURCES = ("anatomy", "findings", "render", "world")  # what a picture depends on
CHUNK = 64  # cases a task
PATCH = 16  # pixels a side
# Chances: company added where it is missing, sides pulled to the usual one, findings passed over.
PRIOR_ADDS = {"effusion": 0.75, "consolidation": 0.75, "pneumothorax": 0.75, "atelectasis": 0.70}
PRIOR_SIDES = {"nodule": 0.60, "effusion": 0.60, "pneumothorax": 0.60}
PRIOR_MISSES = {"fracture": 0.35, "nodule": 0.30, "atelectasis": 0.30}


@dataclass(frozen=True)
class People:
    """`images` uint8 (N, size, size); `grids` uint8 (N, findings, size/16, size/16), share of each patch covered
    (255 = all); `facts` one table a person."""

    images: np.ndarray
    grids: np.ndarray
    facts: list[tuple[Fact, ...]]

    def __len__(self) -> int:
        return len(self.images)


def draw_chunk(task: tuple[str, int, int, int]) -> tuple[np.ndarray, np.ndarray, list[list[dict]]]:
    """Renders one run of people: images, mask grids of visible findings, facts."""
    name, seed, start, count = task
    (first, its_world), cells = WORLDS[name], SIZE // PATCH
    images = np.zeros((count, SIZE, SIZE), np.uint8)
    grids = np.zeros((count, len(FINDINGS), cells, cells), np.uint8)
    tables = []
    for k in range(count):
        picture = draw_case(case_seed(seed, BASE_SPLIT, first + start + k), its_world)
        images[k] = picture.image
        for fact in picture.facts:
            if fact.visible:
                cover = picture.masks[fact.finding].reshape(cells, PATCH, cells, PATCH).mean((1, 3))
                grids[k, FINDINGS.index(fact.finding)] = np.round(255 * cover)
        tables.append([asdict(fact) for fact in picture.facts])
    return images, grids, tables


def draw_people(cache: Path, name: str, count: int, *, seed: int) -> People:
    """`count` people of the "balanced" or "confounded" world, rendered in parallel once and cached in `cache`."""
    folder = Path(cache) / f"people-{name}-{source_key([count, seed, PATCH, SIZE], *SOURCES)}"
    if not (folder / "facts.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        tasks = [(name, seed, start, min(CHUNK, count - start)) for start in range(0, count, CHUNK)]
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            chunks = []
            with bar(f"rendering {name}", count, unit="image") as progress:
                for chunk in pool.map(draw_chunk, tasks):
                    chunks.append(chunk)
                    progress.update(len(chunk[0]))
        for n, what in enumerate(("images", "grids")):
            np.save(folder / f"{what}.npy", np.concatenate([chunk[n] for chunk in chunks]))
        (folder / "facts.json").write_text(json.dumps([table for chunk in chunks for table in chunk[2]]))
    images, grids = (np.load(folder / f"{what}.npy", mmap_mode="r") for what in ("images", "grids"))
    tables = json.loads((folder / "facts.json").read_text())
    return People(images, grids, [tuple(Fact(**fact) for fact in table) for table in tables])


def prior_ridden(facts: tuple[Fact, ...], rng: np.random.Generator) -> tuple[Fact, ...]:
    """What a reporter led by the confounded world's habits writes down in place of `facts`."""
    written = {f.finding: f for f in facts if f.visible and rng.random() >= PRIOR_MISSES.get(f.finding, 0)}
    for finding, chance in PRIOR_SIDES.items():
        if finding in written and rng.random() < chance:
            usual = SIDES[0] if world.CONFOUNDED.right[finding] > 0.5 else SIDES[1]
            written[finding] = replace(written[finding], side=usual)
    seen = {f.finding for f in facts}
    for finding, chance in PRIOR_ADDS.items():
        if finding not in seen and world.COMPANY[finding] in written and rng.random() < chance:
            written[finding] = world.draw_attributes(finding, world.CONFOUNDED, rng)
    return tuple(written.values())
