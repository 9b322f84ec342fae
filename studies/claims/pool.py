"""The data: people who are asked about, and for each seed people of its own that are learnt from.

The exam's people (validation, test, shifted) are the same for all seeds. A seed's pool is other people, the base
model's own answers about them, their edits and the corrupted pictures: `Pool.draw` gives an arm its pairs.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from medalign_lite.cases.case import Case
from medalign_lite.cases.images import read_image, read_mask
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.corruption.corrupt import INSIDE, corrupt
from medalign_lite.dials import PRESETS
from medalign_lite.edits.records import build_records, read_records, write_records
from medalign_lite.files import kept, read_jsonl, whole, write_jsonl
from medalign_lite.model.lvlm import decoder
from medalign_lite.model.rollout import own_answers
from medalign_lite.text.diff import diff_spans
from medalign_lite.train.data import choose_pairs, pairs_of, pictures_of
from medalign_lite.train.pairs import Pair
from medalign_lite.world.dataset import build_cases
from studies.claims.lineup import PAIRS, Setting
from studies.claims.mirror import MIRRORED, mirror_pairs

POOL_SEEDS = 1000  # a pool's people are drawn with the run's seed times this, plus the number of the pool
FRESH = 500  # the number by which people for the confirmation are drawn; no pool has it
FIRST_SEED = 11  # of the confirmation, and its pool's number; lower ones are pools that settings are tried on


@dataclass(frozen=True)
class Sizes:
    """How many images of each kind, pairs for margins on each split (in a screening `val_margins`), and seeds of the
    confirmation; `arms` names those that are confirmed, all where it is empty."""

    pool: int = 320
    val: int = 300
    val_margins: int = 100
    test: int = 1000
    shifted: int = 1000
    margins: int = 300
    drift: int = 100
    seeds: int = 10
    pairs: int = PAIRS
    arms: tuple[str, ...] = ()

    @property
    def numbers(self) -> range:
        """The seeds."""
        return range(FIRST_SEED, FIRST_SEED + self.seeds)


FULL = Sizes()
SMALL = Sizes(pool=150, val=60, val_margins=20, test=200, shifted=200, margins=60, drift=40, seeds=2, pairs=160,
              arms=("dpo", "dpo-reference", "fire-mpo", "cdpo", "same-image", "whole-noise"))


@dataclass(frozen=True)
class Pool:
    """One seed's people and pairs. `corrected` holds ids of pairs that repair an error of the model; every arm learns
    from `count` pairs, the budget or as many as there are repairs."""

    cases: tuple[Case, ...]
    pairs: tuple[Pair, ...]
    corrected: frozenset[str]
    seed: int
    count: int
    folder: Path

    def draw(self, setting: Setting) -> list[Pair]:
        """The pairs to learn from, with the images that are seen: as many for each setting, if there are."""
        if setting.pairs in MIRRORED:
            return self._mirrored(setting.pairs)
        wanted = [pair for pair in self.pairs if (pair.id in self.corrected) != (setting.pairs == "counterfactual")]
        chosen = choose_pairs(wanted, self.count, seed=self.seed)
        if setting.pairs == "reference":
            spans = [(p, *diff_spans(p.gold, p.rejected)) for p in chosen if p.gold and p.gold != p.rejected]
            chosen = [replace(p, chosen=p.gold, spans_chosen=a, spans_rejected=b) for p, a, b in spans]
        return [_seen(pair, setting.evidence, seed=self.seed) for pair in chosen]

    def _mirrored(self, kind: str) -> list[Pair]:
        count = round(MIRRORED[kind] * self.count)
        found = mirror_pairs(self.cases, kind, count=count, seed=self.seed, folder=self.folder / "without")
        repairs = [pair for pair in self.pairs if pair.id in self.corrected]
        return found if count == self.count else found + choose_pairs(repairs, self.count - count, seed=self.seed)


def make_pool(number: int, bench, *, say: Callable = print) -> Pool:
    """The pool of this number, made or read back for a `store.Bench`; what is finished of it is kept in its cache."""
    sizes, model, cache, seed = bench.sizes, bench.model, bench.cache, bench.seed
    preset = replace(PRESETS["ci"], n_pool=sizes.pool, train_pairs=sizes.pairs, corruption="noise")
    own_seed = seed * POOL_SEEDS + number
    people = build_cases(cache, {"train": sizes.pool}, seed=own_seed, questions=preset.questions_per_case).cases
    folder = cache / f"pool-{seed}-{number}-{sizes.pool}-{sizes.pairs}"
    folder.mkdir(parents=True, exist_ok=True)
    answers = kept(folder / "answers.jsonl", lambda part: write_jsonl(part, map(asdict, own_answers(
        people, model=model, preset=preset, seed=own_seed, scratch=folder / "asked"))))
    made = read_records(kept(folder / "records.jsonl", lambda part: write_records(part, build_records(
        [Rollout(**row) for row in read_jsonl(answers)], people, decode=decoder(model), seed=own_seed)[0])))
    repairs = {record.id for record in made if record.source == "corrected"}
    sides = ([record for record in made if (record.id in repairs) == wanted] for wanted in (True, False))
    records = [record for side in sides for record in choose_pairs(side, sizes.pairs, seed=own_seed)]
    images = kept(folder / "pairs.jsonl", lambda part: write_jsonl(part, pictures_of(
        records, people, folder, method="noise", seed=own_seed, say=say)))
    pairs = pairs_of(records, read_jsonl(images), people, folder=folder)["train"]
    say(f"pool {number}: {len(made)} pairs about {len(people)} people, {len(repairs)} repair an error")
    return Pool(people, tuple(pairs), frozenset(repairs), own_seed, min(sizes.pairs, len(repairs)), folder)


def _seen(pair: Pair, evidence: str, *, seed: int) -> Pair:
    """The pair with another corrupted image, where it has one at all."""
    if evidence == "lesion" or pair.lesion is None:
        return pair
    if evidence == "same":
        return replace(pair, lesion=pair.clean)
    method = "whole_noise" if evidence == "whole" else "inpaint"

    def instead(shown: Path) -> Path:  # the clean picture corrupted by another method there (or everywhere), kept
        path = shown.with_name(f"{method}-{shown.name}")
        if not path.exists():
            clean, masks = read_image(Path(pair.clean)), shown.parents[1] / "masks"
            inside = method in INSIDE
            mask = read_mask(masks / f"{shown.stem}-{shown.parent.name}.png", clean.size) if inside else None
            with whole(path, synced=False) as part:
                corrupt(clean, mask, method=method, id=shown.stem, seed=seed).save(part, "PNG", compress_level=1)
        return path

    lesion = instead(Path(pair.lesion))
    if evidence == "whole" or not pair.control:
        return replace(pair, lesion=lesion)
    return replace(pair, lesion=lesion, control=instead(Path(pair.control)))
