"""The contract between notebooks: what a stage needs, what it writes, and how it proves both.

A notebook opens the stage that has its own name, and does its heavy work inside `jsonl`, `json` or `path`:

    stage = open_stage("02_edits", preset=PRESET, cases=CASES, model=MODEL, seed=SEED, out=OUT, needs=["01_rollout"])
    print(stage.summary())                                   # preset and why, folder, re-used or new

    rollouts = read_jsonl(stage.input("01_rollout", "rollouts.jsonl"))          # verified, or StageError
    records = stage.jsonl("records.jsonl", lambda: make_records(rollouts))      # list of dicts, computed once
    counts = stage.json("rejected.json", lambda: {"D1": 3})                     # any JSON value
    folder = stage.path("dpo", lambda part: train(part, stage.scratch("dpo")))  # file or folder, you write `part`

    stage.check("margin at start", margin, 0.0, tolerance=1e-6)                 # known values, raises if off
    stage.note(four_bit=lvlm.four_bit, device=str(lvlm.device))                 # goes into the manifest
    print(stage.finish())                                    # hashes, manifest, rename; a table of what was written

- A stage is complete when `OUT/<preset>/<stage>` was made from exactly the same things: parameters, seed, inputs,
  files, model, libraries, the notebook's code cells (not those tagged parameters, figure, interactive or exercise) and
  the package modules they import. Then saved outputs are loaded, nothing is computed, and `finish` writes nothing.
- Until `finish`, outputs lie in `OUT/<preset>/.work/<stage>`. If a run dies the next run of the same stage continues:
  finished outputs are kept, `part` is handed to the writer again as it was left, and `scratch` folders (checkpoints)
  survive. A stage made from other things starts from nothing.
- `finish` moves the folder: a path from before is gone, `stage.output(name)` gives the new one.
- `jsonl` and `json` always return what was read back from the file, so a fresh run and a re-run see the same values.
- A notebook that only reads (solutions) opens a stage of another name with `needs`, and never finishes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from medalign_lite import files
from medalign_lite.dials import DEFAULT_SEED, EMBEDDED, Preset
from medalign_lite.files import ROOT, path_of, read_json, read_jsonl, short, sync, tree, whole, write_json, write_jsonl
from medalign_lite.run import provenance
from medalign_lite.run.dial import dial, resolve

__all__ = ["Stage", "StageError", "open_stage", "read_json", "read_jsonl", "write_json", "write_jsonl"]

FORMATS = (".jsonl", ".json", ".png", ".safetensors", ".md")  # plain data, never pickle
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PATIENCE = 5.0  # seconds: a kernel whose runner was killed needs a moment to notice


class StageError(RuntimeError):
    """A stage is missing, stale, half-written or tampered with, or its folder cannot be written."""


@dataclass
class Stage:
    """One stage of one run; made by `open_stage`."""

    name: str
    preset: Preset
    reason: str
    model: str
    cases: Path | None
    seed: int
    run_folder: Path
    needs: tuple[str, ...]
    parts: dict
    command: str  # that makes this run
    complete: bool = False
    why: str = ""  # why it is not complete
    checks: list[dict] = field(default_factory=list)
    notes: dict = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    lock: IO | None = None

    @property
    def key(self) -> str:
        """Digest of everything the result depends on."""
        return files.digest(self.parts)

    @property
    def folder(self) -> Path:
        """Where the finished stage lies."""
        return self.run_folder / self.name

    @property
    def work(self) -> Path:
        """Where an unfinished stage is written."""
        return self.run_folder / ".work" / self.name

    def summary(self) -> str:
        """Lines for the set-up cell: preset and why, model, folder, whether saved outputs are re-used."""
        state = "finished before with the same inputs: saved outputs are re-used" if self.complete else self.why
        lines = {
            "preset": f"{self.preset.name} ({self.reason})", "model": short(self.model),
            "cases": short(self.cases) if self.cases else "phantom world", "seed": str(self.seed),
            "stage": f"{short(self.folder)}: {state}",
        }
        return "\n".join(f"{name:7} {text}" for name, text in lines.items())

    def input(self, stage: str, name: str) -> Path:
        """Path of an output of an earlier stage, which `open_stage` has verified."""
        if stage not in self.needs:
            raise StageError(f"{self.name} reads {stage} without saying so: add it to `needs` in open_stage")
        return _existing(self.run_folder / stage / name)

    def output(self, name: str) -> Path:
        """Path of an output of this stage, wherever it lies now."""
        return _existing((self.folder if self.complete else self.work) / name)

    def path(self, name: str, write: Callable[[Path], object]) -> Path:
        """Path of output `name`, a file or folder; `write(part)` makes it at `part` unless it is there already."""
        if self.complete:
            return self.output(name)
        final = self._working_folder() / name
        if not final.exists():
            part = final.with_name(f".part-{final.name}")  # same suffix: image writers go by it
            with _explained(self.run_folder):
                part.parent.mkdir(parents=True, exist_ok=True)
                write(part)
                if not part.exists():
                    raise StageError(f"stage {self.name}: the writer of {name} left nothing at {part}")
                sync(part)
                part.rename(final)
                self._save_seconds()
        return final

    def jsonl(self, name: str, compute: Callable[[], Iterable[dict]]) -> list[dict]:
        """Rows of output `name`, computed unless they are there already."""
        return read_jsonl(self.path(name, lambda part: write_jsonl(part, compute())))

    def json(self, name: str, compute: Callable[[], object]):
        """Value of output `name`, computed unless it is there already."""
        return read_json(self.path(name, lambda part: write_json(part, compute())))

    def scratch(self, name: str) -> Path:
        """A folder that survives a crash and goes when the stage is finished: checkpoints, partial results."""
        folder = self._working_folder() / ".scratch" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def check(self, name: str, value, expected=True, *, tolerance: float = 0.0) -> None:
        """Record a known value; raise StageError if `value` is further than `tolerance` from it."""
        value = value.item() if hasattr(value, "item") else value
        number = isinstance(expected, (int, float)) and not isinstance(expected, bool)
        ok = math.isclose(value, expected, rel_tol=0, abs_tol=tolerance) if number else bool(value == expected)
        self.checks.append({"name": name, "value": value, "expected": expected, "tolerance": tolerance, "ok": ok})
        if not ok:
            raise StageError(f"stage {self.name}: {name} is {value}, expected {expected} (tolerance {tolerance})")

    def note(self, **facts) -> None:
        """Facts for the manifest: 4-bit layers per tower, device, counts."""
        self.notes |= facts

    def publish(self, name: str) -> Path:
        """Copy an output to the run's own folder, in one step."""
        target = self.run_folder / Path(name).name
        with _explained(self.run_folder), whole(target) as part:
            shutil.copyfile(self.output(name), part)
        return target

    def finish(self) -> str:
        """Write the manifest, move the stage into place, return a table of outputs, seconds and peak memory."""
        if not self.complete:
            work = self._working_folder()
            seconds = self._save_seconds()
            with _explained(self.run_folder):
                shutil.rmtree(work / ".scratch", ignore_errors=True)
                outputs = tree(work)
                for name in outputs:
                    if Path(name).suffix not in FORMATS:
                        raise StageError(f"stage {self.name}: {name} is not one of {', '.join(FORMATS)}")
                sync(work)
                model = self.parts["model"] or {"name": None, "revision": None}
                write_json(work / "manifest.json", provenance.sealed({
                    "stage": self.name, "key": self.key, "preset": self.preset.name, "reason": self.reason,
                    "seed": self.seed, "model": model["name"], "model_revision": model["revision"],
                    "python": sys.version.split()[0], "seconds": round(seconds, 1), "peak_mb": round(files.peak_mb()),
                    "notes": self.notes, "checks": self.checks, "outputs": outputs, "made_from": self.parts,
                }))  # fmt: skip
                _promote(work, self.folder)
            self.complete, self.why, self.lock = True, "", None
        return provenance.table(self.folder)

    def _working_folder(self) -> Path:
        """The unfinished stage's folder, locked; one that belongs to another key is emptied first."""
        if self.lock is None:
            with _explained(self.run_folder):
                self.work.mkdir(parents=True, exist_ok=True)
                self.lock = _lock(self.work.with_name(f"{self.name}.lock"))
                if _state(self.work)["key"] != self.key:
                    shutil.rmtree(self.work)
                    self.work.mkdir()
                self._save_seconds()
        return self.work

    def _save_seconds(self) -> float:
        """Seconds of work on this stage so far, over all its runs; kept for the next one."""
        total = _state(self.work)["seconds"] + time.monotonic() - self.started
        self.started = time.monotonic()
        write_json(self.work / ".state.json", {"key": self.key, "seconds": total})
        return total


def open_stage(
    name: str, *, preset: str = "auto", cases: str = "", model: str = "", seed: int = DEFAULT_SEED, out: str = "",
    needs: Iterable[str] = (), files: Iterable[str | Path] = (), uses_model: bool = True,
    parameters: dict | None = None, recipe: str | None = None, rounds: int = 0,
) -> Stage:
    """Open stage `name` and verify the stages it needs. A stage that trains gives `recipe` (names with commas between
    them, "" = the preset's) and `rounds` (0 = the preset's); of any other they are no parameters. `files` are outside
    inputs (a folder of cases; empty names are left out), `parameters` what the result depends on beside the preset.
    Raises PresetError for bad parameters, StageError for a needed stage that is not there or sound."""
    if not (ROOT / EMBEDDED).is_dir():
        raise StageError(f"{ROOT} is an installed copy without models and cases; they are in the repository: clone it, "
                         "and work in it, or beside it where it is called medalign-lite")  # fmt: skip
    resolved = resolve(preset, cases=cases, model=model, recipe=recipe or "", rounds=rounds)
    run = provenance.run_folder(resolved.preset.name, out)
    shared = provenance.run_parameters(resolved, seed, training=recipe is not None)
    needs = tuple(needs)
    command = provenance.make_command(
        dial(resolved.preset), cases=cases, model=model, seed=seed, out=out, recipe=recipe or "", rounds=rounds
    )
    for needed in needs:
        if problem := provenance.unsound(run, needed, shared):
            raise StageError(f"{problem}; run `{command}`")
    if not uses_model:
        del shared["model"]
    parts = provenance.parts(
        name, parameters=shared | (parameters or {}),
        inputs={needed: provenance.outputs_digest(run / needed) for needed in needs},
        files=[str(path_of(file)) for file in files if str(file)],
        model=resolved.model if uses_model else None,
    )
    stage = Stage(
        name, resolved.preset, resolved.reason, resolved.model, resolved.cases, seed, run, needs, parts, command
    )
    if _state(stage.work)["key"] == stage.key and (stage.work / "manifest.json").exists():
        _promote(stage.work, stage.folder)  # killed between the manifest and the move
    stage.why = "" if stage.folder.exists() else "new"
    if not stage.why:
        problem = provenance.damage(stage.folder) or provenance.differences(
            provenance.read_manifest(stage.folder)["made_from"], stage.parts)
        stage.why = f"made again: {problem}" if problem else ""
    stage.complete = not stage.why
    return stage


def _promote(work: Path, folder: Path) -> None:
    """Move a finished working folder into place; the one that was there goes."""
    old = work.with_name(f"{work.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    work.rename(folder)
    (folder / ".state.json").unlink(missing_ok=True)
    shutil.rmtree(old, ignore_errors=True)


def _state(work: Path) -> dict:
    try:
        return read_json(work / ".state.json")
    except (OSError, ValueError):
        return {"key": None, "seconds": 0.0}


def _existing(path: Path) -> Path:
    if not path.exists():
        raise StageError(f"{short(path)} is not there: stage {path.parent.name} does not write it. A cell that adds an "
                         "output must not be tagged parameters, figure, interactive or exercise")
    return path


def _lock(path: Path) -> IO:
    """An open file that holds the lock until it is closed, or the process ends however it ends."""
    stream = path.open("a+")
    stop = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
            return stream
        except BlockingIOError:
            stream.seek(0)
            owner = stream.read().strip()
            if owner == str(os.getpid()):  # the same notebook opened its stage twice
                return stream
            if time.monotonic() > stop:
                raise StageError(f"process {owner} is working on stage {path.stem}: wait for it, or end it") from None
            time.sleep(0.2)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn a full or unwritable output folder into one sentence; any other error passes."""
    try:
        yield
    except OSError as error:
        place = Path(error.filename) if isinstance(error.filename, str) else None
        ours = place is not None and (place.is_relative_to(folder) or folder.is_relative_to(place))
        if error.errno not in FULL and not ours:
            raise
        advice = "free some space" if error.errno in FULL else "make it writable"
        raise StageError(f"cannot write to {folder}: {os.strerror(error.errno)}; {advice} or choose another folder "
                         "with OUT=, and run the same command again: outputs finished so far are kept") from error
