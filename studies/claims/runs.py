"""One run: an arm at one seed trained, examined, and written to one small file. Two processes share the runs.

What is finished is never done again, so a kill costs at most the two runs in hand.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from medalign_lite.evaluate.metrics import ratios
from medalign_lite.model.lvlm import Lvlm, load_adapter, load_lvlm
from medalign_lite.model.processes import run_shards
from medalign_lite.train.pairs import PairInputs
from medalign_lite.train.rounds import rounds
from medalign_lite.train.train import TrainingDiverged, train
from studies.claims import search, store
from studies.claims.exam import Exam
from studies.claims.lineup import ARMS, BASE, CONFIRMED, Arm, train_settings
from studies.claims.pool import SEARCHED, Pool, asking, make_pool
from studies.claims.store import Bench

SEARCH, RUN = "search", "runs"
FIRST = 3  # seeds of a tier that are run before the next tier
CURVES = ("margin", "margin_lesion", "margin_control")


@dataclass(frozen=True)
class Job:
    """A process' piece of work: one run of an arm, or one point of its search."""

    bench: Bench
    kind: str
    arm: str
    number: int
    point: dict | None = None


def plan(bench: Bench) -> list[list[Job]]:
    """What is left to do as far as is known now, in blocks that two processes share: a stop after any run leaves the
    most that can be said.

    Tier after tier: its search, then its first seeds, with which tests begin; the further seeds of the first two tiers,
    which hold our arms and their rivals, come before the others. Own weights are searched once the grid is
    known.
    """
    asked = [arm for arm in ARMS.values() if not bench.fresh or arm.name in CONFIRMED]
    tiers = [[arm for arm in asked if arm.tier == tier] for tier in range(1, bench.sizes.tier + 1)]
    return [block for some in (tiers[:2], tiers[2:]) for block in _blocks(bench, some) if block]


def _blocks(bench: Bench, tiers: Sequence[Sequence[Arm]]) -> list[list[Job]]:
    blocks = []
    for arms in tiers:
        if bench.sizes.search:
            blocks.append([Job(bench, SEARCH, arm.name, SEARCHED, point) for arm in arms
                           for point in search.missing_points(bench, arm)])
        blocks.append(_left(bench, arms, bench.numbers[:FIRST]))
    return blocks + [_left(bench, arms, bench.numbers[FIRST:]) for arms in tiers]


def _left(bench: Bench, arms: Sequence[Arm], numbers: Iterable[int]) -> list[Job]:
    """The runs of these arms that there is no result of, seed by seed; the base has one run, before the first."""
    jobs = [Job(bench, RUN, arm.name, 0 if arm.name == BASE else number) for number in numbers for arm in arms
            if arm.name != BASE or number == bench.numbers[0]]
    return [job for job in jobs if result(bench, ARMS[job.arm], job.number) is None]


def result(bench: Bench, arm: Arm, number: int) -> dict | None:
    """The arm's result at this seed, or None."""
    point = search.chosen(bench, arm)
    return None if point is None else store.read(bench, RUN, store.run_facts(bench, arm, point, number))


def do_all(bench: Bench, *, report: Callable[[], object], say: Callable = print) -> None:
    """Everything that is left, block after block, with a `report` after each. Raises as training and loading do."""
    began, done, last = time.monotonic(), 0, None
    while blocks := plan(bench):
        block, left = blocks[0], sum(map(len, blocks))
        if block == last:
            raise RuntimeError(f"the {block[0].kind} of {block[0].arm} gives no result: look at what was printed above")
        kind, names = block[0].kind, ", ".join(dict.fromkeys(job.arm for job in block))
        say(f"claims: {left} left at least; now the {kind} of {names}")
        _prepare(bench, search=kind != RUN, say=say)
        for wanted in sorted({job.number for job in block if job.arm != BASE}):
            make_pool(wanted, bench.sizes, model=bench.model, cache=bench.cache, seed=bench.seed, say=say)

        def tick(block=block, left=left, done=done) -> str:
            now = sum(map(_is_done, block))
            gone, each = time.monotonic() - began, (time.monotonic() - began) / max(done + now, 1)
            return f"claims: {done + now} done in {gone / 60:.0f} minutes, about {each * (left - now) / 60:.0f} left"

        run_shards(do, block, tick=tick, every=60.0)
        done, last = done + len(block), block
        report()
    say("claims: nothing left to run")


def _is_done(job: Job) -> bool:
    arm = ARMS[job.arm]
    if job.kind != RUN:
        return search.look(job.bench, arm, job.point) is not None
    return result(job.bench, arm, job.number) is not None


def do(job: Job) -> None:
    """The work of one job, written as soon as it is there."""
    desk, arm = _desk(job.bench, job.kind != RUN), ARMS[job.arm]
    if job.kind != RUN:
        desk.try_point(arm, job.point)
    else:
        desk.run(arm, search.chosen(job.bench, arm), job.number)


class Desk:
    """What one process keeps between its runs: the base, the exam with its image features, the pool in hand."""

    def __init__(self, bench: Bench, search: bool):
        self.bench, self.lvlm = bench, load_lvlm(bench.model)
        self.exam = _exam(bench, search=search)
        self.exam.open(self.lvlm)
        self.pool: tuple[int, Pool, PairInputs] | None = None

    def run(self, arm: Arm, point: dict, number: int) -> None:
        """Train and examine; a run that diverged is written as such."""
        facts, began = store.run_facts(self.bench, arm, point, number), time.monotonic()
        try:
            policy, curves = self._train(arm, point, number, store.name_of(facts))
        except TrainingDiverged as error:
            store.write(self.bench, RUN, facts, {"arm": arm.name, "number": number, "diverged": str(error)})
            return
        trained = time.monotonic()
        counts = self.exam.take(policy, arm.name)
        self._put_back(policy)
        seconds = {"train": round(trained - began), "exam": round(time.monotonic() - trained)}
        told = {"arm": arm.name, "number": number, "seconds": seconds, "curves": curves}
        packed = {split: store.pack(table) for split, table in counts.items()}
        store.write(self.bench, RUN, facts, told | {"counts": packed})

    def try_point(self, arm: Arm, point: dict) -> None:
        """Train and look at validation."""
        facts = store.search_facts(self.bench, arm, point, SEARCHED)
        told = {"arm": arm.name, "point": point}
        try:
            policy, _ = self._train(arm, point, SEARCHED, store.name_of(facts))
        except TrainingDiverged as error:
            store.write(self.bench, SEARCH, facts, told | {"val": {"fact_f1": None, "diverged": str(error)}})
            return
        table = self.exam.take(policy, arm.name, whole=False)["val"]
        self._put_back(policy)
        values = ratios(table.sum(axis=0), search.WATCHED)
        store.write(self.bench, SEARCH, facts, told | {"val": {k: round(float(v), 5) for k, v in values.items()}})

    def _train(self, arm: Arm, point: dict, number: int, name: str) -> tuple[Lvlm, dict]:
        if arm.name == BASE:
            return self.lvlm, {}
        settings, work = train_settings(arm, point, seed=number), self.bench.cache / "work" / name
        shutil.rmtree(work, ignore_errors=True)
        pool, inputs = self._pool(number)
        if arm.rounds > 1:
            preset = replace(asking(self.bench.sizes), train_pairs=self.bench.sizes.pairs // arm.rounds)
            folders = rounds(pool.cases, model=self.bench.model, preset=preset, settings=settings, count=arm.rounds,
                             folder=work, say=lambda line: None)
            policy = load_adapter(self.lvlm, folders[-1])
            shutil.rmtree(work)
            return policy, {}
        try:
            trained = train(self.lvlm, pool.draw(arm), settings, folder=work / "adapter", work=work / "train",
                            inputs=inputs, progress=False)
        except TrainingDiverged:
            self.lvlm = load_lvlm(self.bench.model)  # the adapters of a run that stopped are still on it
            self.exam.open(self.lvlm)
            self.pool = None
            raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return trained.lvlm, _curves(trained.log)

    def _put_back(self, policy: Lvlm) -> None:
        if policy is not self.lvlm:
            self.lvlm = replace(self.lvlm, model=policy.model.unload())

    def _pool(self, number: int) -> tuple[Pool, PairInputs]:
        if self.pool is None or self.pool[0] != number:
            bench = self.bench
            pool = make_pool(number, bench.sizes, model=bench.model, cache=bench.cache, seed=bench.seed,
                             say=lambda line: None)
            self.pool = (number, pool, PairInputs(self.lvlm))
        return self.pool[1:]


@lru_cache(maxsize=1)
def _desk(bench: Bench, search: bool) -> Desk:
    return Desk(bench, search)


def _exam(bench: Bench, *, search: bool) -> Exam:
    return Exam(bench, splits=("val",)) if search else Exam(bench)


def _prepare(bench: Bench, *, search: bool, say: Callable) -> None:
    """What the exam keeps on disk, made once before two processes read it."""
    exam = _exam(bench, search=search)
    if not exam.ready:
        exam.prepare(load_lvlm(bench.model), say=say)


def _curves(log: Sequence[dict]) -> dict[str, list[float]]:
    rows = [row for row in log if "loss" in row]
    return {name: [round(row[name], 3) for row in rows] for name in CURVES if rows and name in rows[0]}
