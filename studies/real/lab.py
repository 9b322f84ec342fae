"""``make claims CASES=folder``: the method's claims on real images, with any model and data set that the kit reads.

    python -m studies.claims CASES=path [MODEL=folder-or-hub-id] [PRESET=ci|workshop|full] [SMALL=1] [SEED=7] [OUT=...]

A base is tuned on one half of the training images (or is MODEL), answers the questions of the other half, its wrong
answers are repaired by the gold answers, and every arm of `arms.py` learns from these pairs. Settings are tried on
validation; test is asked once, with all seeds. What is finished is found again: a kill costs the runs in hand.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path

from medalign_lite.cases.case import CaseError
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.corruption.pictures import corrupt_all
from medalign_lite.dials import DEFAULT_SEED, EMBEDDED, Preset
from medalign_lite.edits.records import build_records, read_records, write_records
from medalign_lite.evaluate.metrics import ratios
from medalign_lite.files import (
    ROOT,
    digest,
    kept,
    path_of,
    peak_mb,
    read_json,
    read_jsonl,
    short,
    write_json,
    write_jsonl,
)
from medalign_lite.model.lvlm import decoder, load_lvlm
from medalign_lite.model.processes import run_shards
from medalign_lite.model.rollout import own_answers
from medalign_lite.model.weights import find_model, model_revision
from medalign_lite.run.dial import resolve
from medalign_lite.run.reproduce import check_gpu
from medalign_lite.train.data import choose_pairs, pairs_of
from medalign_lite.train.pairs import Pair
from medalign_lite.train.train import NothingLearnt, TrainingDiverged, train
from studies.claims import runs as phantom
from studies.claims import store, verdicts
from studies.claims.hypotheses import CLOSED, OPEN
from studies.claims.lineup import BASE, Setting
from studies.real import arms, page
from studies.real.base import TuneSettings, tuned_base
from studies.real.cohort import Cohort, read_cohort
from studies.real.exam import EXACT, Exam

EDITION = 1  # to be raised when a change of code changes what a run gives
TRIAL, FINAL = "trial", "final"
SHOWN = {"lesion": "noise", "same": "noise", "removed": "inpaint"}  # the setting's evidence: how it is corrupted
SCORED = (CLOSED, OPEN, "choice_accuracy")
WHOLE_SLAKE = 642  # images: the results of this data set are committed
KEEP = ROOT / "docs" / "claims" / "slake"
AT_ONCE = 20  # runs between two reports


@dataclass(frozen=True)
class Bench:
    """What all runs of one call have in common; `tuned`: the base is the embedded model, tuned here; `keep` is where
    rows are kept with the code."""

    cohort: Cohort
    model: str
    preset: Preset
    seed: int
    seeds: int
    folder: Path
    keep: Path | None
    tuned: bool

    @cached_property
    def state(self) -> str:
        """A digest of all that every result depends on."""
        return digest({"edition": EDITION, "cases": self.cohort.key, "model": model_revision(self.model), "seed":
                       self.seed, "preset": asdict(self.preset)})[:12]

    @property
    def numbers(self) -> range:
        """The seeds."""
        return range(11, 11 + self.seeds)

    def exam(self, split: str) -> Exam:
        """The exam of a split; the evidence is damaged in the test alone."""
        return Exam(self.cohort, split, self.folder / f"exam-{split}", seed=self.seed, damages=split == "test")


@dataclass(frozen=True)
class Job(phantom.Job):
    """A process' piece of work, on a `Bench` of this module."""

    @property
    def name(self) -> str:
        """What its result is called."""
        told = None if self.setting is None else asdict(self.setting)
        return digest([self.bench.state, self.kind, told, self.number])[:16]


def bench_of(values: Mapping[str, str], *, say: Callable = print) -> Bench:
    """Read the cases, and make or take the base. Raises CaseError, ValueError and as loading does."""
    path, small, seed = path_of(values["CASES"]), values["SMALL"] == "1", int(values["SEED"] or DEFAULT_SEED)
    resolved, out = resolve(values["PRESET"] or "ci", model=values["MODEL"]), path_of(values["OUT"] or "artifacts")
    preset = resolved.preset
    check_gpu(resolved, find_model(resolved.model))
    cohort = read_cohort(path, out=out, model=preset.model, seed=seed, answer_tokens=preset.max_new_tokens,
                         most=24 if small else 0, max_side=preset.max_side)
    if empty := [part for part, cases in cohort.parts.items() if not cases]:
        raise CaseError(f"{path}: no images for {', '.join(empty)}; every part needs some")
    if not any(q.kind in EXACT for case in cohort.parts["val"] for q in case.questions):
        raise CaseError(f"{path}: no short answers among its validation questions: settings could not be compared; for "
                        "reports there is `make reproduce`")
    sizes = {part: f"{len(cases)} images, {sum(len(c.questions) for c in cases)} questions"
             for part, cases in cohort.parts.items()}
    say(f"claims: {cohort.layout}; " + "; ".join(f"{part}: {told}" for part, told in sizes.items()))
    folder, model, tuned = out / "claims" / f"real-{cohort.key}", preset.model, preset.model == EMBEDDED
    whole = sum(map(len, cohort.parts.values())) == WHOLE_SLAKE and cohort.layout == "SLAKE"
    kept_here = whole and seed == DEFAULT_SEED and not (small or values["MODEL"] or values["PRESET"])
    if tuned:
        settings = TuneSettings(passes=4 if small else 56, seed=seed)
        made_from = digest([asdict(settings), model_revision(str(ROOT / EMBEDDED))])[:8]
        model = str(tuned_base(cohort.parts["base"], folder / f"base-{made_from}", settings))
    return Bench(cohort, model, preset, seed, 2 if small else 10, folder, KEEP if kept_here else None, tuned)


def pool_pairs(bench: Bench, *, say: Callable = lambda line: None) -> dict[str, list[Pair]]:
    """{how the evidence is corrupted: the repairs of the base's wrong answers about the pool}, made once."""
    cases, folder, seed = bench.cohort.parts["pool"], bench.folder / f"pool-{bench.state}", bench.seed
    folder.mkdir(parents=True, exist_ok=True)
    answers = kept(folder / "answers.jsonl", lambda part: write_jsonl(part, map(asdict, own_answers(
        cases, model=bench.model, preset=bench.preset, seed=seed, scratch=folder / "asked"))))
    records = read_records(kept(folder / "records.jsonl", lambda part: write_records(part, _records(
        bench, read_jsonl(answers), folder))))
    by_id = {case.id: case for case in cases}
    jobs = [(bench.cohort.marked(by_id[r.case_id], r.evidence or ()), r.evidence) for r in records]
    found = {}
    for method in dict.fromkeys(SHOWN.values()):
        rows = read_jsonl(kept(folder / f"{method}.jsonl", lambda part, method=method: write_jsonl(
            part, corrupt_all(jobs, folder / method, method=method, seed=seed, say=say))))
        rows = [{"id": record.id} | row for record, row in zip(records, rows, strict=True)]
        found[method] = pairs_of(records, rows, cases, folder=folder / method)["train"]
    return found


def _records(bench: Bench, answers: Sequence[Mapping], folder: Path) -> list:
    """Sound repairs with the evidence that their questions are about; rejected.json counts the others."""
    cases = bench.cohort.parts["pool"]
    made, rejected = build_records([Rollout(**row) for row in answers], cases, decode=decoder(bench.model),
                                   seed=bench.seed, counterfactual_share=0.0)
    asked = {(case.id, q.id): bench.cohort.evidence(case, q) or None for case in cases for q in case.questions}
    write_json(folder / "rejected.json", dict(Counter(rejected).most_common()))
    if not made:
        raise CaseError("no wrong answer of the base could be repaired: there is nothing to learn from; more questions "
                        "with yes/no or short answers give more")
    return [replace(record, evidence=asked[record.case_id, record.question_id]) for record in made]


# --- jobs -------------------------------------------------------------------------------------------------------------
def results(bench: Bench) -> dict[str, dict]:
    """{name: row} of what is finished in this state."""
    rows = [read_json(path) for path in (bench.folder / "runs").glob("*.json")]
    if bench.keep:
        rows += [row for path in bench.keep.glob("*.jsonl") for row in read_jsonl(path)]
    return {row["name"]: row for row in rows if row["state"] == bench.state}


def trials(bench: Bench) -> list[Job]:
    """Every setting that is tried on validation, after the base itself."""
    return [Job(bench, TRIAL, BASE, None, 0)] + [Job(bench, TRIAL, arm, setting, 0) for arm in arms.SEARCHED
                                                 for setting in arms.settings_to_try(arm, bench.preset)]


def chosen(bench: Bench, done: Mapping[str, Mapping]) -> dict[str, Setting]:
    """{arm: setting} for the test; {} while validation is not complete. One setting needs no trial."""
    found, every = {}, trials(bench)
    for arm in arms.SEARCHED:
        own = [job for job in every if job.arm == arm]
        figures = [done[job.name].get("val") for job in own if job.name in done]
        if len(own) > 1 and len(figures) < len(own):
            return {}
        scores = [-1.0 if told is None else arms.score(told) for told in figures] or [0.0]
        found[arm] = own[scores.index(max(scores))].setting
    best = phantom.arms(store.Store(store.kits_own())).get("best")  # none where its screening is not complete
    return arms.with_control(found | ({arms.PHANTOM: best} if best else {}))


def plan(bench: Bench, done: Mapping[str, Mapping]) -> list[Job]:
    """What is left to do as far as is known now: the base, the trials, then the test seed by seed."""
    every = trials(bench)
    wanted = [Job(bench, FINAL, BASE, None, 0)] + (every if len(every) > len(arms.SEARCHED) + 1 else [])
    wanted += [Job(bench, FINAL, arm, setting, number) for number in bench.numbers
               for arm, setting in chosen(bench, done).items()]
    return list({job.name: job for job in wanted if job.name not in done}.values())


def do(job: Job) -> None:
    """The work of one job, written as soon as it is there."""
    desk_of(job.bench.folder, job.bench.state).run(job)


class Desk:
    """What one process keeps between its runs of one state."""

    def __init__(self, folder: Path, state: str):
        self.folder, self.state, self.lvlm, self.exams, self.pairs = folder, state, None, {}, {}

    def run(self, job: Job) -> None:
        """Train and examine."""
        bench, began = job.bench, time.monotonic()
        self.lvlm = self.lvlm or load_lvlm(bench.model, seed=bench.seed, max_side=bench.preset.max_side)
        row = {"name": job.name, "state": bench.state, "kind": job.kind, "arm": job.arm, "number": job.number}
        exam = self._exam(bench, "val" if job.kind == TRIAL else "test")
        try:
            policy = self._train(job) if job.setting else self.lvlm
        except (TrainingDiverged, NothingLearnt) as error:
            self.lvlm, self.exams = None, {}  # the adapters of a run that stopped are still on it
            self._write(bench, row | {"diverged": str(error), "val": None})
            return
        trained = time.monotonic()
        told = exam.take(policy, job.arm)
        if job.setting:
            self.lvlm = replace(self.lvlm, model=policy.model.unload())
        elif job.kind == FINAL:
            told |= {"baselines": exam.baselines(self.lvlm, [*bench.cohort.parts["base"], *bench.cohort.parts["pool"]])}
        row["seconds"] = [round(trained - began), round(time.monotonic() - trained)]
        self._write(bench, row | ({"val": figures_of(told["counts"])} if job.kind == TRIAL else told))

    def _exam(self, bench: Bench, split: str) -> Exam:
        if split not in self.exams:
            self.exams[split] = bench.exam(split)
            self.exams[split].open(self.lvlm, bench.preset)
        return self.exams[split]

    def _train(self, job: Job):
        bench, setting, work = job.bench, job.setting, job.bench.folder / "work" / job.name
        shutil.rmtree(work, ignore_errors=True)
        self.pairs = self.pairs or pool_pairs(bench)
        pairs = choose_pairs(self.pairs[SHOWN[setting.evidence]], bench.preset.train_pairs, seed=job.number)
        if setting.evidence == "same":
            pairs = [replace(pair, lesion=pair.clean if pair.lesion else None) for pair in pairs]
        try:
            return train(self.lvlm, pairs, arms.training(setting, bench.preset, job.number), folder=work / "adapter",
                         work=work / "train", progress=False).lvlm
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _write(self, bench: Bench, row: Mapping) -> None:
        (self.folder / "runs").mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "runs" / f"{row['name']}.json", dict(row) | {"made": store.made()})


desk_of = lru_cache(maxsize=1)(Desk)  # a process' own


def figures_of(counts: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """What settings are compared by, as far as such questions were asked."""
    table = verdicts.counts_of({"counts": counts}, "val").sum(axis=0)
    return {name: float(value) for name, value in ratios(table, SCORED).items() if value == value}


# --- everything -------------------------------------------------------------------------------------------------------
def main(values: Mapping[str, str], *, say: Callable = print) -> None:
    """All that is left, some at a time, with a report after each; REPORT=1 writes the page of what was reported."""
    if values["REPORT"] == "1":
        say(f"claims: {_page_again(values)}")
        return
    bench = bench_of(values, say=say)
    bench.exam("test").prepare()
    pairs = pool_pairs(bench, say=say)["noise"]
    say(f"claims: {len(pairs)} wrong answers repaired, {sum(p.lesion is not None for p in pairs)} with evidence")
    began, first, path = time.monotonic(), len(results(bench)), None
    while left := plan(bench, results(bench)):
        block = [job for job in left if job.kind == left[0].kind][:AT_ONCE]
        say(f"claims: {len(left)} runs known to be left, {block[0].kind}s first; {peak_mb() / 1024:.1f} GB held")
        before = len(results(bench))
        told = partial(phantom.progress, first=first, wanted=before + len(left), began=began)
        run_shards(do, block, tick=lambda told=told: told(len(results(bench))), every=60.0)
        if len(results(bench)) == before:
            raise RuntimeError(f"{block[0].arm} gives no result: look at what was printed above")
        path = report(bench, say=say)
    say(f"claims: {path or report(bench, say=say)}")


def _page_again(values: Mapping[str, str]) -> Path:
    """The newest report on these cases under OUT, else the committed one; its page written anew."""
    found = sorted(path_of(values["OUT"] or "artifacts").glob("claims/real-*/report/about.json"),
                   key=lambda path: path.stat().st_mtime)
    folder = found[-1].parent if found else KEEP
    path = folder / "RESULTS.md" if found else ROOT / "docs" / "RESULTS_SLAKE.md"
    page.write_page(path, folder)
    return path


def report(bench: Bench, *, say: Callable = lambda line: None) -> Path:
    """Gather the rows of the jobs that are wanted now, and write the page from them; where it is. Committed rows of
    another state (a base that another machine tuned) stay: then the report lies under OUT."""
    done, folder, path = results(bench), bench.folder / "report", bench.folder / "report" / "RESULTS.md"
    about = KEEP / "about.json"
    if bench.keep and (not about.exists() or read_json(about)["state"] == bench.state):
        folder, path = bench.keep, ROOT / "docs" / "RESULTS_SLAKE.md"
    elif bench.keep:
        say(f"claims: {short(KEEP)} holds results of another base and stays as it is")
    settings = chosen(bench, done)
    wanted = [*trials(bench), Job(bench, FINAL, BASE, None, 0), *(
        Job(bench, FINAL, arm, setting, number) for arm, setting in settings.items() for number in bench.numbers)]
    by_arm: dict[str, list[dict]] = {}
    for job in sorted((job for job in wanted if job.name in done), key=lambda job: (job.kind, job.number, job.name)):
        by_arm.setdefault(job.arm, []).append(done[job.name])
    folder.mkdir(parents=True, exist_ok=True)
    for arm, rows in by_arm.items():
        write_jsonl(folder / f"{arm}.jsonl", rows)
    for stray in {*folder.glob("*.jsonl")} - {folder / f"{arm}.jsonl" for arm in by_arm}:
        stray.unlink()
    pairs = pool_pairs(bench)["noise"]
    write_json(folder / "about.json", {
        "state": bench.state, "layout": bench.cohort.layout, "tuned": bench.tuned, "model": short(bench.model),
        "revision": model_revision(bench.model), "preset": bench.preset.name, "seeds": bench.seeds,
        "whole": bench.keep is not None, "near_copies": bench.cohort.near_copies(),
        "parts": {p: [len(c), sum(len(x.questions) for x in c)] for p, c in bench.cohort.parts.items()},
        "test": bench.exam("test").facts, "settings": {arm: asdict(setting) for arm, setting in settings.items()},
        "pairs": {"all": len(pairs), "evidence": sum(p.lesion is not None for p in pairs)},
        "tried": _tried(bench, done),
    })  # fmt: skip
    page.write_page(path, folder)
    return path


def _tried(bench: Bench, done: Mapping[str, Mapping]) -> dict[str, list]:
    """{arm: (setting in words, its figures on validation) of what was tried}."""
    found: dict[str, list] = {}
    for job in (job for job in trials(bench) if job.name in done):
        found.setdefault(job.arm, []).append([job.setting.says if job.setting else "", done[job.name].get("val")])
    return found
