"""``make claims``: run or resume the screening and the confirmation, then write claims.json, figures, docs/RESULTS.md.

    python -m studies.claims [SMALL=1] [SEED=7] [OUT=artifacts] [REPORT=1] [CASES=folder [MODEL=...] [PRESET=...]]

The full run takes hours, over as many occasions as it likes: what is finished is found again, under OUT/claims and in
docs/claims, and never repeated. SMALL=1 takes a quarter of an hour, takes its settings from the committed screening, or
while that is not complete the middle of each range, and leaves docs alone. REPORT=1 runs nothing and writes the page
from what there is. With CASES= the claims are asked of real images: see studies/real/lab.py.
"""

import re
import sys
from collections.abc import Sequence

from medalign_lite.dials import DEFAULT_SEED, EMBEDDED
from medalign_lite.evaluate.stats import dumps
from medalign_lite.files import ROOT, path_of
from medalign_lite.model.weights import ModelError
from medalign_lite.run.commands import exit_status, read_arguments
from studies.claims import choice, page, pool, runs, store, verdicts
from studies.real import lab

ALLOWED = {
    "SMALL": "1 = fewer people and arms, two seeds: about a quarter of an hour on two cores",
    "SEED": "a whole number, 0 or more",
    "OUT": "the folder that is written to; empty = artifacts",
    "REPORT": "1 = run nothing, write the page from what there is",
    "CASES": "a data set of real images; empty = the phantom's people",
    "MODEL": "with CASES=: a model folder or hub id; empty = the embedded model, tuned on a part of the images",
    "PRESET": "with CASES=: ci, workshop or full; empty = ci",
}


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """NAME=value arguments. Raises ValueError that lists the allowed ones."""
    values = dict.fromkeys(ALLOWED, "") | read_arguments(arguments, ALLOWED)
    patterns = {"SEED": r"\d{1,9}|", "SMALL": r"[01]|", "REPORT": r"[01]|"}
    for name, text in values.items():
        pattern = patterns.get(name, r".*")
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{name}={text!r} is not {ALLOWED[name]}")
    if (values["MODEL"] or values["PRESET"]) and not values["CASES"]:
        raise ValueError("MODEL= and PRESET= go with CASES=: the phantom's claims are about the embedded model")
    return values


def bench_of(values: dict[str, str]) -> store.Bench:
    """The bench of these arguments; a full run with the kit's seed is the one whose results are committed."""
    small, out = values["SMALL"] == "1", path_of(values["OUT"] or "artifacts")
    sizes, seed = pool.SMALL if small else pool.FULL, int(values["SEED"] or DEFAULT_SEED)
    return store.Bench(str(ROOT / EMBEDDED), sizes, seed, out / ("claims" + "-small" * small), ROOT / "docs/claims")


def report(kept: store.Store, *, say=print) -> dict:
    """Gather what there is, and write claims.json, figures and page from it; what claims.json holds."""
    kept.gather()
    bench, (chosen, results) = kept.bench, runs.collect(kept)
    judged = verdicts.judge(results, seeds=bench.sizes.seeds)
    found = page.Findings(bench, runs.trials(kept), runs.tried(kept), chosen, results, judged, [*kept.rows.values()])
    named = [] if choice.waiting(results, bench.sizes) else choice.near(choice.behind(results), chosen)
    told = verdicts.claims_json(chosen, results, judged, next(iter(named), None))
    folder, path = bench.out, bench.out / "RESULTS.md"
    if bench.committed:
        folder, path = bench.keep, ROOT / "docs" / "RESULTS.md"
    figures = page.draw_figures(folder, found, told)
    for place in {folder, bench.out}:
        place.mkdir(parents=True, exist_ok=True)
        (place / "claims.json").write_text(dumps(told), encoding="utf-8")
    page.write_page(path, found, told, figures, command="make claims" + " SMALL=1" * bool(bench.sizes.arms))
    for one, row in zip(judged, told["claims"], strict=True):
        say(f"  {one.claim.id:3} {row['verdict']:25} {one.claim.statement}")
    say(f"claims: {path} and {bench.out / 'claims.json'}")
    return told


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 done, 2 bad arguments, 1 a run that stopped, 130 interrupted."""

    def work() -> None:
        values = parse(arguments)
        if values["CASES"]:
            return lab.main(values)
        bench = bench_of(values)
        if values["REPORT"] != "1":
            runs.do_all(bench, report=lambda kept: report(kept, say=lambda line: None))
        report(store.Store(bench))

    return exit_status(work, refused=(ValueError, ModelError), stopped=())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
