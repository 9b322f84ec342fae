"""Renders worlds of cases: on demand, in parallel, cached in a folder as PNG files and `cases.jsonl`.

Splits differ in seed range (so in anatomy), in phrase bank, and in world.
"""

import json
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from medalign_lite.cases.case import Case, CaseSet, Question, write_cases
from medalign_lite.cases.pictures import save_png
from medalign_lite.cases.readers import read_cases
from medalign_lite.files import bar, sync
from medalign_lite.text.facts import Fact
from medalign_lite.world import world
from medalign_lite.world.questions import questions as questions_about
from medalign_lite.world.render import SIZE, Rendering, render

SPLITS = {  # name -> (number that keeps its seeds apart, world, phrase bank)
    "train": (1, world.CONFOUNDED, "pool"),  # the alignment pool: rollouts, edits
    "val": (2, world.CONFOUNDED, "pool"),  # choices
    "test": (3, world.CONFOUNDED, "test"),  # results
    "shifted": (4, world.SHIFTED, "test"),  # results where priors mislead
}
BASE_SPLIT = 0  # the embedded LVLM's own people, of both worlds, in the words of the bank "base"
CHANGED = ("test", "shifted")  # splits of which some people are also rendered with one finding gone, and moved
CHANGED_PEOPLE = 200  # of each of these splits, the first ones
SEEDS_PER_SPLIT = 1_000_000


def case_seed(seed: int, split: int, index: int) -> int:
    """Seed of one person; no two splits share one."""
    return (seed * 10 + split) * SEEDS_PER_SPLIT + index


def draw_case(seed: int, its_world: world.World, *, size: int = SIZE) -> Rendering:
    """Draws one person's facts and renders them; a function of the arguments."""
    rng = np.random.default_rng([seed, 3])
    facts = world.draw_facts(its_world, rng)
    return render(seed, facts, densities=world.draw_densities(facts, rng), n=size)


def make_case(plan: tuple[str, int, int, int, int, Path]) -> Case:
    """Renders and writes one case: image, lesion masks, the same picture without lesions (`hidden`), and, of the first
    people of a held-out split, without one finding and with it on the other side."""
    split, index, seed, count, size, folder = plan
    number, its_world, bank = SPLITS[split]
    name, seed = f"{split}-{index:05d}", case_seed(seed, number, index)
    picture = draw_case(seed, its_world, size=size)
    questions = questions_about(picture.facts, np.random.default_rng([seed, 4]), bank, count)
    facts = tuple(replace(f, mask=f"masks/{name}-{f.finding}.png") for f in picture.facts)
    if split in CHANGED and index < CHANGED_PEOPLE:
        facts = change_one(picture, facts, questions, name=name, folder=folder, seed=seed)
    for fact in facts:
        save_png(picture.masks[fact.finding].astype(np.uint8) * 255, folder / fact.mask)
    image, hidden = folder / f"images/{name}.png", folder / f"hidden/{name}.png"
    save_png(picture.image, image)
    if facts:
        save_png(picture.removed(), hidden)
    return Case(name, name, split, image, questions, facts, (), hidden if facts else None, "phantom", folder)


def change_one(
    picture: Rendering, facts: tuple[Fact, ...], questions: Iterable[Question], *, name: str, folder: Path, seed: int
) -> tuple[Fact, ...]:
    """The facts, one of which has got its pictures `removed` and `moved`, written to `folder`: a seeded one of those
    that can be seen, and that a question is about where there is one. It is not moved where that would hide something,
    or bring something to light."""
    about = {question.finding for question in questions}
    seen = [fact for fact in facts if fact.visible]
    able = [fact for fact in seen if fact.finding in about] or seen
    if not able:
        return facts
    chosen = able[int(np.random.default_rng([seed, 5]).integers(len(able)))]
    pictures = {"removed": picture.removed(chosen.finding)}
    other = picture.moved(chosen.finding) if chosen.side else picture
    if chosen.side and [f.visible for f in other.facts] == [f.visible for f in picture.facts]:
        pictures["moved"] = other.image
    paths = {kind: f"changed/{name}-{chosen.finding}-{kind}.png" for kind in pictures}
    for kind, pixels in pictures.items():
        save_png(pixels, folder / paths[kind])
    return tuple(replace(fact, **paths) if fact == chosen else fact for fact in facts)


def source_key(request: object, *modules: str) -> str:
    """Names what rendered files depend on: the request and the source of the phantom's modules (default: all)."""
    paths = [Path(__file__).parent / f"{name}.py" for name in modules] or sorted(Path(__file__).parent.glob("*.py"))
    source = b"".join(path.read_bytes() for path in paths)
    return sha256(json.dumps(request).encode() + source).hexdigest()[:12]


def build_cases(cache: Path, counts: dict[str, int], **options) -> CaseSet:
    """The cases of `build_world`, which takes the same options."""
    return read_cases(build_world(cache, counts, **options), check_files=False)


def build_world(
    cache: Path, counts: dict[str, int], *, seed: int, questions: int = 4, size: int = SIZE, workers: int | None = None
) -> Path:
    """Renders `counts` = {split: images}, size x size pixels, into a folder of `cache`; a world that is there already
    is re-used. A killed run leaves the folder without its `cases.jsonl`, so it is rendered again, as is one that lost
    images. Raises ValueError for an unknown split."""
    if unknown := set(counts) - set(SPLITS):
        raise ValueError(f"unknown split {sorted(unknown)}; the phantom world has {', '.join(SPLITS)}")
    folder = Path(cache) / f"phantom-{source_key([sorted(counts.items()), seed, questions, size])}"
    images = sum(1 for _ in (folder / "images").glob("*.png"))
    if not (folder / "cases.jsonl").is_file() or images < sum(counts.values()):
        render_folder(folder, counts, seed=seed, questions=questions, size=size, workers=workers)
    return folder


def render_folder(
    folder: Path, counts: dict[str, int], *, seed: int, questions: int, size: int = SIZE, workers: int | None = None
) -> None:
    """Renders `counts` = {split: images} into `folder`, in parallel, `cases.jsonl` last."""
    plans = [(split, i, seed, questions, size, folder) for split, count in counts.items() for i in range(count)]
    # A process that has freed one large array keeps the smaller ones that it frees: glibc hands back, and fetches again
    # page by page, what is free beyond twice the largest block freed so far.
    keep_memory = partial(np.empty, 2**24, np.uint8)
    with ProcessPoolExecutor(workers or os.cpu_count(), initializer=keep_memory) as pool:
        cases = []
        with bar("rendering", len(plans), unit="case") as shown:
            for case in pool.map(make_case, plans, chunksize=8):
                cases.append(case)
                shown.update()
    sync(folder)
    write_cases(folder / "cases.jsonl", cases)
