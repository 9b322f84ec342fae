"""``make reproduce``: the numbered notebooks in order, through the strict runner, each only if it has to run.

    python -m medalign_lite reproduce PRESET=ci SEED=7 OUT=artifacts

A notebook is up to date when its stage is sound, the pages it wrote are as they were written, and neither the
parameters, nor the notebook, nor a module it imports has changed. The record of that is ``notebooks/.runs.json``.
"""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from medalign_lite.dials import DEFAULT_SEED, EMBEDDED, PRESETS, PresetError
from medalign_lite.files import ROOT, digest, file_sha256, read_json, short, visible, write_json
from medalign_lite.losses.recipes import RECIPES
from medalign_lite.model.weights import WEIGHTS, find_model
from medalign_lite.run import notebook, provenance
from medalign_lite.run.commands import ArgumentError, OutOfMemory, command, read_arguments
from medalign_lite.run.dial import NAMES, Resolved, dial, gpu_memory_gb, resolve
from medalign_lite.run.provenance import damage, run_folder, run_parameters, unsound

ALLOWED = {
    "PRESET": f"one of {', '.join(NAMES)}; after commas numbers of its own, such as full,max_side=448",
    "CASES": "a cases.jsonl, or the folder of a known data set; empty = phantom cases",
    "MODEL": "a model folder or a hub id; empty = the preset's",
    "SEED": "a whole number, 0 or more, of at most 9 digits", "OUT": "the folder that is written to; empty = artifacts",
    "RECIPE": f"one or more of {', '.join(RECIPES)}, with commas; the last one is aligned; empty = the preset's",
    "ROUNDS": "how often the aligned policy answers and learns from its answers, 1 to 99; empty = the preset's (once)",
    "LESIONS": "for a COCO list: the categories that are lesions, with commas; empty = guessed from their names",
    "STRICT": "1 = the first bad case stops the run, 0 = it is skipped, counted and reported",
}
NUMBERS = {"SEED": (r"\d{1,9}", int), "ROUNDS": (r"[1-9]\d?", int), "STRICT": ("[01]", "1".__eq__)}

LARGEST_ON_CPU_GB = 2.0  # weights with which a run of a large preset without a GPU is still begun
OPTIONAL = ("RECIPE", "ROUNDS", "STRICT", "LESIONS")  # a notebook gets these only where it declares them


class ReproduceError(RuntimeError):
    """The run cannot start or go on; the message says why, and the next command."""


def parse(arguments: list[str]) -> dict[str, object]:
    """NAME=value arguments as notebook parameters; ArgumentError lists the allowed ones."""
    values = {"PRESET": "auto", "CASES": "", "MODEL": "", "SEED": DEFAULT_SEED, "OUT": ""}
    values |= {"RECIPE": "", "ROUNDS": 0, "STRICT": False, "LESIONS": ""}
    for name, text in read_arguments(arguments, ALLOWED).items():
        pattern, kind = NUMBERS.get(name, (".*", str))
        if not re.fullmatch(pattern, text, re.DOTALL | re.ASCII):
            raise ArgumentError(f"{name}={text!r} is not {ALLOWED[name]}")
        values[name] = kind(text)
    return values


def reproduce(values: dict, *, notebooks: Path = ROOT / "notebooks", say=print) -> Path:
    """Run what is not up to date; return the run's folder. Raises PresetError, NotebookError, OutOfMemory,
    ReproduceError."""
    told = {name: values[name.upper()] for name in ("cases", "model", "recipe", "rounds")}
    resolved = resolve(values["PRESET"], **told)
    say(f"{resolved.reason}: {resolved.preset.purpose}")
    chain = sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))
    if not chain:
        raise ReproduceError(f"{notebooks} holds no numbered notebooks; run from a complete clone")
    values = values | {"PRESET": dial(resolved.preset)}
    run = run_folder(resolved.preset.name, values["OUT"])
    _prepare(resolved, run)
    runs = _Runs(run, resolved, values)
    waiting = [path for path in chain if not runs.up_to_date(path)]
    for path in waiting:  # parameter errors come before anything runs
        notebook.check_parameters(path, runs.parameters(path))
    with notebook.headless_kernels() as kernels:
        for number, path in enumerate(chain):
            if runs.up_to_date(path):
                say(f"  {path.stem:14} up to date")
                continue
            later = [p for p in chain[number + 1 :] if p in waiting]
            seconds = runs.execute(path, later=later, kernels=kernels, say=say)
            say(f"  {path.stem:14} done in {_clock(seconds)}")
    return run


class _Runs:
    """The notebooks of one run: which have run, and running one."""

    def __init__(self, run: Path, resolved: Resolved, values: dict):
        self.run, self.values, self.resolved = run, values, resolved
        self.shared = run_parameters(resolved, values["SEED"], training=True)
        self.numbers = run_parameters(resolved, values["SEED"], training=False)
        self.record_path = run / "notebooks" / ".runs.json"
        self.record = _read_record(self.record_path)
        self.typical = resolved.preset == PRESETS["ci"] and resolved.cases is None  # what the notebooks' tables tell of

    def parameters(self, path: Path) -> dict:
        """The run's parameters that this notebook takes: all, but those of `OPTIONAL` only where they are declared."""
        return {k: v for k, v in self.values.items() if k not in OPTIONAL or k in notebook.parameters_of(path)}

    def key(self, path: Path) -> str:
        """Digest of all that shows in the executed notebook, figures and widgets included."""
        sources = provenance.source_files(provenance.code_cells(path), shown=True)
        return digest([self.parameters(path), self.numbers, file_sha256(path), sources])

    def up_to_date(self, path: Path) -> bool:
        """True if running the notebook again would change nothing."""
        old = self.record.get(path.stem)
        return (
            old is not None and old["key"] == self.key(path)
            and all((self.run / f).is_file() and file_sha256(self.run / f) == h for f, h in old["files"].items())
            and not unsound(self.run, path.stem, self.shared)
        )  # fmt: skip

    def execute(self, path: Path, *, later: list[Path], kernels: notebook.Kernels, say) -> float:
        """Run one notebook, with the kernel of the first of those `later` starting beside it; write its page, record
        it; return seconds."""
        from medalign_lite.show.page import write_html  # slow to import

        key, output = self.key(path), self.run / "notebooks" / path.name
        before = self._published()
        started = time.monotonic()
        with _ticking(path.stem, self.expected(path), sum(map(self.expected, later)), say) as heard:
            try:
                for one in [path, *later[:1]]:
                    kernels.start(one, (output.parent / one.name).with_suffix(".log"))
                values = self.parameters(path)
                executed = notebook.run_notebook(path, values, output, on_text=heard, kernels=kernels)
            except OutOfMemory as error:
                from medalign_lite.run.fit import advise  # imports torch

                raise OutOfMemory(f"{error}\nMemory: {advise(self.resolved)}") from None
        if problem := damage(self.run / path.stem):
            raise ReproduceError(f"{path.name} ran, but {problem}: it must end with stage.finish()")
        write_html(executed, output.with_suffix(".html"), folder=path.parent)
        seconds = time.monotonic() - started
        published = [name for name, stamp in self._published().items() if before.get(name) != stamp]
        files = [*published, f"notebooks/{path.name}", f"notebooks/{path.stem}.html"]
        longest = max(seconds, self.record.get(path.stem, {}).get("seconds", 0.0))  # a re-used stage takes seconds
        hashes = {name: file_sha256(self.run / name) for name in files}
        self.record[path.stem] = {"key": key, "seconds": round(longest, 1), "files": hashes}
        write_json(self.record_path, self.record)
        return seconds

    def expected(self, path: Path) -> float:
        """Seconds: as measured here before, else as the table in the notebook's first cell says where it speaks of this
        run; NaN where nobody knows."""
        if path.stem in self.record:
            return self.record[path.stem]["seconds"]
        return 60 * (notebook.typical_minutes(path) or 1.0) if self.typical else math.nan

    def _published(self) -> dict[str, int]:
        """Files in the run's own folder (results.json, report.html), with the time they were written."""
        return {p.name: p.stat().st_mtime_ns for p in self.run.iterdir() if p.is_file() and p.name[0] != "."}


@contextmanager
def _ticking(name: str, expected: float, later: float, say) -> Iterator[Callable[[str], None]]:
    """While a notebook runs, a line now and then: time so far, the last line it printed, about how long is left. Gives
    the function that is told what it prints."""
    started, last, stop = time.monotonic(), "", threading.Event()

    def heard(text: str) -> None:
        nonlocal last
        last = ([last] + [line.strip()[:70] for line in re.split(r"[\r\n]", text) if line.strip()])[-1]

    def about(seconds: float, what: str) -> str:
        return "" if math.isnan(seconds) else f", about {_clock(seconds)} {what}"

    def tick() -> None:
        while not stop.wait(5 if sys.stdout.isatty() else 20):
            passed = time.monotonic() - started
            left = max(expected - passed, 0) + later
            say(f"  {name:14} {_clock(passed)}{about(left, 'left')} · {visible(last)}")

    say(f"  {name:14} started{about(expected + later, 'to go')}")
    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        stop.set()
        thread.join()


def check_gpu(resolved: Resolved, found: Path | None) -> None:
    """Raise PresetError where a large model without a GPU, which would take weeks, is asked for; `found` is where it
    lies, as `find_model` says."""
    preset = resolved.preset
    if preset.needs_gpu and not gpu_memory_gb()[0]:
        size = sum(path.stat().st_size for path in found.glob(WEIGHTS)) / 1e9 if found else None
        if size is None or size > LARGEST_ON_CPU_GB:
            what = f"a model of {size:.1f} GB" if size else f"{short(resolved.model)}, which is not on this machine,"
            raise PresetError(f"PRESET={preset.name} is made for a GPU with {preset.min_gpu_gb:g} GB, and "
                              f"{gpu_memory_gb()[1]}: {what} would take weeks on a CPU. Take PRESET=ci, or a small "
                              "model with MODEL=")


def _prepare(resolved: Resolved, run: Path) -> None:
    """Before anything runs: no large model without a GPU, which would take weeks, is asked for, the model is whole, the
    folder can be written. Raises PresetError for the first, and ReproduceError."""
    found = find_model(resolved.model)
    check_gpu(resolved, found)
    if found is None:
        name = short(resolved.model)
        get = "`make base-model`" if name == EMBEDDED else f"`make models MODEL={name}`"
        raise ReproduceError(f"the model {name} is not complete on this machine, and nothing is fetched unasked; get "
                             f"it with {get}, or give a folder with MODEL=. `make doctor` says what is missing")
    try:
        (run / "notebooks").mkdir(parents=True, exist_ok=True)
        probe = run / ".probe"
        probe.write_bytes(b"0" * 4096)
        probe.unlink()
    except OSError as error:
        raise ReproduceError(f"cannot write to {run}: {os.strerror(error.errno)}; choose another folder "
                             "with OUT=") from error


def _read_record(path: Path) -> dict:
    """Which notebooks have run. Raises ReproduceError for a file that was cut off or is something else."""
    try:
        record = read_json(path) if path.exists() else {}
        if all({"key", "seconds", "files"} <= set(entry) for entry in record.values()):
            return record
        wrong = "it holds something else"
    except (ValueError, AttributeError, TypeError) as error:
        wrong = str(error)
    raise ReproduceError(f"{path} cannot be read ({wrong}): delete it; notebooks run again with their saved results")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@command(refused=(PresetError,), stopped=(ReproduceError, notebook.NotebookError, OutOfMemory),
         resume="what is finished is kept; run the same command again to go on")
def main(arguments: list[str]) -> None:
    """Exit status: 0 done, 2 bad arguments, 1 anything that stopped the run, 130 interrupted."""
    started = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: the kernel is stopped too
    run = reproduce(parse(arguments))
    print(f"finished in {_clock(time.monotonic() - started)}: {run}")
    for name in ("report.html", "results.json", "notebooks"):
        if (run / name).exists():
            print(f"  {run / name}")
