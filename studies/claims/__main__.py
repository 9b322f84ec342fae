"""``make claims``: run or resume every arm at every seed, then write claims.json, figures and docs/RESULTS.md.

    python -m studies.claims [SMALL=1] [CONFIRM=1] [SEED=7] [OUT=artifacts] [REPORT=1]

The full run takes hours, over as many occasions as it likes: what is finished is found again, under OUT/claims and in
docs/claims, and never repeated. SMALL=1 takes a quarter of an hour and leaves docs alone. REPORT=1 runs nothing and
writes the pages from what there is. CONFIRM=1 asks the published methods and the recommended recipe about fresh people,
ten seeds each (about eight hours of one core), and writes docs/RESULTS_CONFIRM.md.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from medalign_lite.dials import DEFAULT_SEED, EMBEDDED
from medalign_lite.evaluate.stats import dumps
from medalign_lite.files import ROOT
from medalign_lite.model.weights import ModelError
from medalign_lite.run.commands import exit_status, read_arguments
from medalign_lite.train.train import TrainingDiverged
from studies.claims import choice, page, pool, runs, store, verdicts

ALLOWED = {
    "SMALL": "1 = fewer people, the core arms, two seeds: about a quarter of an hour on two cores",
    "CONFIRM": "1 = people and seeds by which nothing was chosen, for the arms that a confirmation is about",
    "SEED": "a whole number, 0 or more",
    "OUT": "the folder that is written to; empty = artifacts",
    "REPORT": "1 = run nothing, write the pages from what there is",
}


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """NAME=value arguments. Raises ValueError that lists the allowed ones."""
    values = dict.fromkeys(ALLOWED, "") | read_arguments(arguments, ALLOWED)
    for name, text in values.items():
        pattern = {"SEED": r"\d{1,9}|", "OUT": r".*"}.get(name, r"[01]|")
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{name}={text!r} is not {ALLOWED[name]}")
    return values


def bench_of(values: dict[str, str]) -> store.Bench:
    """The bench of these arguments; a full run with the kit's seed is the one whose results are committed."""
    small, out = values["SMALL"] == "1", ROOT / Path(values["OUT"] or "artifacts").expanduser()
    seed = int(values["SEED"] or DEFAULT_SEED)
    fresh, kept = values["CONFIRM"] == "1", ROOT / "docs/claims"
    folder = out / ("claims" + "-small" * small + "-confirm" * fresh)
    sizes = pool.SMALL if small else pool.CONFIRM if fresh else pool.FULL
    return store.Bench(str(ROOT / EMBEDDED), sizes, seed, folder, kept, fresh)


def report(bench: store.Bench, *, say=print) -> dict:
    """Write claims.json, figures and page from what there is; what claims.json holds."""
    results = verdicts.collect(bench)
    judged = verdicts.judge(results)
    found = verdicts.claims_json(bench, results, judged, next(iter(choice.near(choice.behind(results))), None))
    page_name = f"RESULTS{'_CONFIRM' * bench.fresh}.md"
    folder, path = bench.out, bench.out / page_name
    if bench.committed:
        folder, path = bench.keep / "confirm" if bench.fresh else bench.keep, ROOT / "docs" / page_name
    figures = page.draw_figures(folder, found, results)
    for place in {folder, bench.out}:
        place.mkdir(parents=True, exist_ok=True)
        (place / "claims.json").write_text(dumps(found), encoding="utf-8")
    store.write_index(folder, bench, results)
    command = "make claims" + " SMALL=1" * (bench.sizes == pool.SMALL) + " CONFIRM=1" * bench.fresh
    page.write_page(path, bench=bench, results=results, found=found, judged=judged,
                    goal=verdicts.judge_goal(results, page.DEFAULT), others=verdicts.judge_others(results),
                    figures=figures, command=command)
    for one in judged:
        say(f"  {one.claim.id:3} {one.verdict:25} {one.claim.statement}")
    say(f"claims: {path} and {bench.out / 'claims.json'}")
    return found


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 done, 2 bad arguments, 1 a run that stopped, 130 interrupted."""

    def work() -> None:
        values = parse(arguments)
        bench = bench_of(values)
        if values["REPORT"] != "1":
            runs.do_all(bench, report=lambda: report(bench, say=lambda line: None))
        report(bench)

    return exit_status(work, refused=(ValueError, ModelError), stopped=(TrainingDiverged,))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
