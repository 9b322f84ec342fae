"""The base model's own people as plain arrays: thousands of images in one file, for training from scratch."""

import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from medalign_lite.files import bar
from medalign_lite.text.facts import FINDINGS, Fact
from medalign_lite.world import world
from medalign_lite.world.dataset import BASE_SPLIT, case_seed, draw_case, source_key
from medalign_lite.world.render import SIZE

WORLDS = {"balanced": (0, world.BALANCED), "confounded": (500_000, world.CONFOUNDED)}  # first index, world
SOURCES = ("anatomy", "findings", "render", "world")  # what a picture depends on
CHUNK = 64  # cases a task


@dataclass(frozen=True)
class People:
    """`images` uint8 (N, size, size); `grids` uint8 (N, findings, size/16, size/16), share of each patch covered
    (255 = all); `facts` one table a person."""

    images: np.ndarray
    grids: np.ndarray
    facts: list[tuple[Fact, ...]]

    def __len__(self) -> int:
        return len(self.images)


def draw_chunk(task: tuple[str, int, int, int, int]) -> tuple[np.ndarray, np.ndarray, list[list[dict]]]:
    """Renders one run of people: images, mask grids of visible findings, facts."""
    name, seed, start, count, patch = task
    first, its_world = WORLDS[name]
    cells = SIZE // patch
    images = np.zeros((count, SIZE, SIZE), np.uint8)
    grids = np.zeros((count, len(FINDINGS), cells, cells), np.uint8)
    tables = []
    for k in range(count):
        picture = draw_case(case_seed(seed, BASE_SPLIT, first + start + k), its_world)
        images[k] = picture.image
        for fact in picture.facts:
            if fact.visible:
                cover = picture.masks[fact.finding].reshape(cells, patch, cells, patch).mean((1, 3))
                grids[k, FINDINGS.index(fact.finding)] = np.round(255 * cover)
        tables.append([asdict(fact) for fact in picture.facts])
    return images, grids, tables


def draw_people(
    cache: Path, name: str, count: int, *, seed: int, patch: int = 16, workers: int | None = None
) -> People:
    """`count` people of the "balanced" or "confounded" world, rendered in parallel once and cached in `cache`."""
    key = source_key([count, seed, patch, SIZE], *SOURCES)
    folder = Path(cache) / f"people-{name}-{key}"
    if not (folder / "facts.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        tasks = [(name, seed, start, min(CHUNK, count - start), patch) for start in range(0, count, CHUNK)]
        with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
            chunks = []
            with bar(f"rendering {name}", count, unit="image") as progress:
                for chunk in pool.map(draw_chunk, tasks):
                    chunks.append(chunk)
                    progress.update(len(chunk[0]))
        np.save(folder / "images.npy", np.concatenate([c[0] for c in chunks]))
        np.save(folder / "grids.npy", np.concatenate([c[1] for c in chunks]))
        (folder / "facts.json").write_text(json.dumps([table for c in chunks for table in c[2]]))
    tables = json.loads((folder / "facts.json").read_text())
    return People(
        images=np.load(folder / "images.npy", mmap_mode="r"),
        grids=np.load(folder / "grids.npy", mmap_mode="r"),
        facts=[tuple(Fact(**fact) for fact in table) for table in tables],
    )
