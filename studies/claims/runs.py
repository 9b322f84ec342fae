"""One run: a setting trained on a pool, examined, and written to one small file. Two processes share the runs.

The screening, on validation, comes before the confirmation of what it chooses, and arms that a claim needs go through
it together, with all seeds, so that a stop after any run leaves the most verdicts. What is finished is never done
again: a kill costs at most the two runs in hand.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import product

from medalign_lite.evaluate.metrics import ratios
from medalign_lite.model.lvlm import Lvlm, load_lvlm
from medalign_lite.model.processes import run_shards
from medalign_lite.train.pairs import PairInputs
from medalign_lite.train.train import TrainingDiverged, train
from studies.claims import screening, store
from studies.claims.exam import Exam
from studies.claims.lineup import BASE, CONTROLS, CORE, METHODS, MIRRORS, Setting
from studies.claims.pool import FULL, Pool, make_pool
from studies.claims.screening import WATCHED, Trial
from studies.claims.store import CONFIRMATION, SCREENING, Bench, Store

POOLS_IN_HAND = 2
AT_ONCE = 40  # runs between two reports


@dataclass(frozen=True)
class Job:
    """A process' piece of work. `setting` None is the base itself; `number` is its pool's and its seed; `bench` is what
    all runs of one call have in common, here or in the laboratory on real images."""

    bench: object
    kind: str
    arm: str
    setting: Setting | None
    number: int


def trials(kept: Store) -> list[Trial]:
    """Every trial of the screening, with its figures where it was run. A small run takes the committed screening."""
    return screening.wanted_trials(partial(tried, kept))


def tried(kept: Store, setting: Setting | None = None, pool: int = 0) -> dict | None:
    """The figures of a setting on validation, or None; those of the base where none is named."""
    row = kept.get(store.facts_of(replace(kept.bench, sizes=FULL), setting, pool, SCREENING))
    return row and row["val"]


def arms(kept: Store) -> dict[str, Setting]:
    """{arm: setting} of the confirmation, as far as the screening has chosen them; of a small run those of the
    committed screening when it has chosen them all, else the middle of their ranges."""
    found, wanted = screening.candidates(trials(kept), tried(kept)), kept.bench.sizes.arms
    if not wanted:
        return found
    every = found if set(wanted) <= set(found) else screening.middle()
    return {arm: every[arm] for arm in wanted}


def plan(kept: Store) -> list[Job]:
    """What is left to do as far as is known now."""
    bench, every = kept.bench, trials(kept)
    if bench.sizes.arms:
        return _confirmations(kept, [bench.sizes.arms])
    count, seen, share = Counter(t.name for t in every), Counter(), []
    for trial in every:  # those of each method and of the factors side by side, so that a stop finds all begun
        seen[trial.name] += 1
        share.append(seen[trial.name] / count[trial.name])
    found = [Job(bench, SCREENING, BASE, None, 0)] if tried(kept) is None else []
    for trial in (every[n] for n in sorted(range(len(every)), key=share.__getitem__)):
        if trial.figures is None:
            found.append(Job(bench, SCREENING, trial.name or "factors", trial.setting, trial.pool))
    return found or _confirmations(kept, _groups(arms(kept)))


def _groups(every: Iterable[str]) -> list[list[str]]:
    """The arms in the order in which they are confirmed: what claims need together stands together."""
    core, mirrors, source = [*CORE, *CONTROLS], ["mirror", "mask-dpo", "unmirrored"], ["dpo-counterfactual"]
    levels = [arm for arm in every if arm not in (*METHODS, *CONTROLS, *MIRRORS)]
    first = [core, mirrors, levels, source]
    return [*first, [arm for arm in (*METHODS, *MIRRORS) if not any(arm in group for group in first)]]


def _confirmations(kept: Store, groups: Iterable[Sequence[str]]) -> list[Job]:
    """The runs that there is no result of: the base, then group by group, seed by seed; arms that have chosen the same
    setting share theirs."""
    chosen, once = arms(kept), {(None, 0): Job(kept.bench, CONFIRMATION, BASE, None, 0)}
    for group in groups:
        for number, arm in product(kept.bench.sizes.numbers, group):
            once.setdefault((chosen[arm], number), Job(kept.bench, CONFIRMATION, arm, chosen[arm], number))
    return [job for job in once.values() if confirmed(kept, job.setting, job.number) is None]


def confirmed(kept: Store, setting: Setting | None, number: int) -> dict | None:
    """The result of a setting at this seed, or None."""
    return kept.get(store.facts_of(kept.bench, setting, number, CONFIRMATION))


def collect(kept: Store) -> tuple[dict[str, Setting], dict[str, dict[int, dict]]]:
    """({arm: setting} of the confirmation, {arm: {seed: result}} of what there is); the base has one run, number 0."""
    chosen = arms(kept)
    found = {BASE: {0: confirmed(kept, None, 0)}} | {
        arm: {number: confirmed(kept, setting, number) for number in kept.bench.sizes.numbers}
        for arm, setting in chosen.items()}
    return chosen, {arm: {number: run for number, run in some.items() if run and "counts" in run}
                    for arm, some in found.items()}


def do_all(bench: Bench, *, report: Callable[[Store], object], say: Callable = print) -> None:
    """Everything that is left, some at a time, with a `report` after each. Raises as training and loading do."""
    kept, began = Store(bench), time.monotonic()
    first = len(kept.rows)

    def told(wanted: int) -> str:
        kept.refresh()
        return progress(len(kept.rows), first=first, wanted=wanted, began=began)

    while left := plan(kept):
        before = len(kept.rows)
        block = [job for job in left if job.kind == left[0].kind][:AT_ONCE]
        say(f"claims: {len(left)} runs left of the {block[0].kind}")
        Exam(bench, block[0].kind).prepare(say=say)
        for wanted in sorted({job.number for job in block if job.setting}):
            make_pool(wanted, bench, say=say)
        run_shards(do, block, tick=partial(told, before + len(left)), every=60.0)
        kept.refresh()
        if len(kept.rows) == before:
            raise RuntimeError(f"{block[0].arm} gives no result: look at what was printed above")
        report(kept)
    say("claims: nothing left to run")


def progress(done: int, *, first: int, wanted: int, began: float) -> str:
    """A line: runs done since `first`, the minutes since `began` (of time.monotonic), and those to come."""
    gone = (time.monotonic() - began) / 60
    to_come = gone / max(done - first, 1) * (wanted - done)
    return f"claims: {done - first} done in {gone:.0f} minutes, about {to_come:.0f} left"


def do(job: Job) -> None:
    """The work of one job, written as soon as it is there."""
    desk_of(job.bench, job.kind).run(job)


class Desk:
    """What one process keeps between its runs: the base, the exam with its image features, the pools in hand."""

    def __init__(self, bench: Bench, kind: str):
        self.bench, self.kind, self.lvlm, self.exam = bench, kind, load_lvlm(bench.model), Exam(bench, kind)
        self.exam.open(self.lvlm)
        self.pools: dict[int, tuple[Pool, PairInputs]] = {}

    def run(self, job: Job) -> None:
        """Train and examine; a run that diverged is written as such."""
        facts, began = store.facts_of(self.bench, job.setting, job.number, self.kind), time.monotonic()
        told = {"kind": self.kind, "arm": job.arm, "number": job.number}
        try:
            policy = self._train(job.setting, job.number, store.name_of(facts)) if job.setting else self.lvlm
        except TrainingDiverged as error:
            lost = {"diverged": str(error)} | ({"val": dict.fromkeys(WATCHED)} if self.kind == SCREENING else {})
            store.write(self.bench, facts, told | lost)
            return
        trained = time.monotonic()
        tables = self.exam.take(policy, job.arm)
        if policy is not self.lvlm:
            self.lvlm = replace(self.lvlm, model=policy.model.unload())
        told["seconds"] = [round(trained - began), round(time.monotonic() - trained)]  # training, exam
        if self.kind == SCREENING:
            figures = ratios(tables["val"].sum(axis=0), WATCHED)
            told["val"] = {name: round(float(value), 5) for name, value in figures.items()}
        else:
            told["counts"] = {split: store.pack(table) for split, table in tables.items()}
        store.write(self.bench, facts, told)

    def _train(self, setting: Setting, number: int, name: str) -> Lvlm:
        work = self.bench.cache / "work" / name
        shutil.rmtree(work, ignore_errors=True)
        pool, inputs = self._pool(number)
        try:
            return train(self.lvlm, pool.draw(setting), setting.training(number), folder=work / "adapter",
                         work=work / "train", inputs=inputs, progress=False).lvlm
        except TrainingDiverged:
            self.lvlm = load_lvlm(self.bench.model)  # the adapters of a run that stopped are still on it
            self.exam.open(self.lvlm)
            self.pools = {}
            raise
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _pool(self, number: int) -> tuple[Pool, PairInputs]:
        if number not in self.pools:
            while len(self.pools) >= POOLS_IN_HAND:
                self.pools.pop(next(iter(self.pools)))
            self.pools[number] = make_pool(number, self.bench, say=lambda line: None), PairInputs(self.lvlm)
        return self.pools[number]


desk_of = lru_cache(maxsize=1)(Desk)  # a process' own
