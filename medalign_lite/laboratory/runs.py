"""One run: an arm at one seed trained, examined, and written to one small file. Two processes share the runs.

What is finished is never done again, so a kill costs at most the two runs in hand.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from medalign_lite.laboratory import search, store
from medalign_lite.laboratory.exam import Exam
from medalign_lite.laboratory.lineup import ARMS, BASE, Arm, train_settings
from medalign_lite.laboratory.pool import SEARCHED, Pool, asking, make_pool
from medalign_lite.laboratory.store import Bench
from medalign_lite.lvlm import Lvlm, load_adapter, load_lvlm
from medalign_lite.metrics import ratios
from medalign_lite.pairs import PairInputs
from medalign_lite.rounds import rounds
from medalign_lite.shards import run_shards
from medalign_lite.train import TrainingDiverged, train

SEARCH, RUN = "search", "runs"
FIRST = 3  # seeds of a tier that are run before the next tier
CURVES = ("loss", "margin", "margin_lesion", "margin_control")


@dataclass(frozen=True)
class Job:
    """A process' piece of work: one run of an arm, or all that is left of its search."""

    bench: Bench
    kind: str
    arm: str
    number: int


def plan(bench: Bench) -> list[list[Job]]:
    """What is left to do, in blocks that share one pool: a stop after any run leaves the most that can be said.

    Tier after tier: its search, then its first seeds, with which tests begin; then the further seeds of all tiers.
    """
    tiers = [[arm for arm in ARMS.values() if arm.tier == tier] for tier in range(1, bench.sizes.tier + 1)]
    blocks = []
    for arms in tiers:
        if bench.sizes.search:
            blocks.append([Job(bench, SEARCH, arm.name, SEARCHED) for arm in arms if unfinished(bench, arm)])
        blocks += [_left(bench, arms, number) for number in range(1, min(FIRST, bench.sizes.seeds) + 1)]
    further = range(FIRST + 1, bench.sizes.seeds + 1)
    blocks += [_left(bench, arms, number) for number in further for arms in tiers]
    return [block for block in blocks if block]


def _left(bench: Bench, arms: Sequence[Arm], number: int) -> list[Job]:
    """The runs of these arms at one seed that there is no result of; the base has one run, with the first."""
    jobs = [Job(bench, RUN, arm.name, 0 if arm.name == BASE else number) for arm in arms
            if arm.name != BASE or number == 1]
    return [job for job in jobs if result(bench, ARMS[job.arm], job.number) is None]


def unfinished(bench: Bench, arm: Arm) -> bool:
    """Whether the arm's search has something left to try, now or once the arm that it is like has its settings."""
    waits = arm.like and arm.ours and search.chosen(bench, arm) is None
    return bool(waits or search.missing_points(bench, arm))


def result(bench: Bench, arm: Arm, number: int) -> dict | None:
    """The arm's result at this seed, or None."""
    point = search.chosen(bench, arm)
    return None if point is None else store.read(bench, RUN, store.run_facts(bench, arm, point, number))


def do_all(bench: Bench, *, report: Callable[[], object], say: Callable = print) -> None:
    """Everything that is left, block after block, with a `report` after each. Raises as training and loading do."""
    blocks = plan(bench)
    total, began = sum(map(len, blocks)), time.monotonic()
    say(f"claims: {total} pieces of work left" if total else "claims: nothing left to run")
    done = 0
    for block in blocks:
        number, kind = block[-1].number, block[-1].kind
        _prepare(bench, search=kind == SEARCH, say=say)
        for wanted in {job.number for job in block if job.arm != BASE}:
            make_pool(wanted, bench.sizes, model=bench.model, cache=bench.cache, seed=bench.seed, say=say)
        say(f"claims: {kind} of {', '.join(job.arm for job in block)}" + (f", seed {number}" if kind == RUN else ""))
        before = done

        def tick(block=block, before=before) -> str:
            now = before + sum(_is_done(job) for job in block)
            gone = time.monotonic() - began
            left = f", about {gone / now * (total - now) / 60:.0f} minutes left" if now else ""
            return f"claims: {now} of {total} done in {gone / 60:.0f} minutes{left}"

        run_shards(do, block, tick=tick, every=60.0)
        done += len(block)
        report()


def _is_done(job: Job) -> bool:
    arm = ARMS[job.arm]
    return not unfinished(job.bench, arm) if job.kind == SEARCH else result(job.bench, arm, job.number) is not None


def do(job: Job) -> None:
    """The work of one job; every result is written as soon as it is there."""
    desk, arm = _desk(job.bench, job.kind), ARMS[job.arm]
    if job.kind == RUN:
        if result(job.bench, arm, job.number) is None:
            desk.run(arm, search.chosen(job.bench, arm), job.number)
        return
    while arm.like and search.chosen(job.bench, arm) is None:
        time.sleep(5)  # the other process is at the arm that this one is like
    while points := search.missing_points(job.bench, arm):
        for point in points:
            desk.try_point(arm, point)
        if arm.name != BASE and search.base_line(job.bench) is None:
            desk.try_point(ARMS[BASE], {})


class Desk:
    """What one process keeps between its runs: the base, the exam with its image features, the pool in hand."""

    def __init__(self, bench: Bench, kind: str):
        self.bench, self.lvlm = bench, load_lvlm(bench.model)
        self.exam = _exam(bench, search=kind == SEARCH)
        self.exam.open(self.lvlm)
        self.pool: tuple[int, Pool, PairInputs] | None = None

    def run(self, arm: Arm, point: dict, number: int) -> None:
        """Train and examine; a run that diverged is written as such."""
        facts, began = store.run_facts(self.bench, arm, point, number), time.monotonic()
        try:
            policy, curves = self._train(arm, point, number)
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
            policy, _ = self._train(arm, point, SEARCHED)
        except TrainingDiverged as error:
            store.write(self.bench, SEARCH, facts, told | {"val": {"fact_f1": None, "diverged": str(error)}})
            return
        table = self.exam.take(policy, arm.name, whole=False)["val"]
        self._put_back(policy)
        values = ratios(table.sum(axis=0), search.WATCHED)
        store.write(self.bench, SEARCH, facts, told | {"val": {k: round(float(v), 5) for k, v in values.items()}})

    def _train(self, arm: Arm, point: dict, number: int) -> tuple[Lvlm, dict]:
        if arm.name == BASE:
            return self.lvlm, {}
        settings, work = train_settings(arm, point, seed=number), self.bench.cache / "work" / f"{arm.name}-{number}"
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
def _desk(bench: Bench, kind: str) -> Desk:
    return Desk(bench, kind)


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
