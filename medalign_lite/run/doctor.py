"""``make doctor``: is this machine ready, line by line, and what to do about each line that is not.

The same lines are shown in notebook 00. Nothing is changed and nothing is fetched.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from medalign_lite.cases.case import CaseError
from medalign_lite.dials import EMBEDDED, PRESETS, PresetError
from medalign_lite.files import ROOT, short
from medalign_lite.model.weights import ModelError, check_folder, locate
from medalign_lite.run.commands import exit_status
from medalign_lite.run.dial import Resolved, gpu_memory_gb, resolve
from medalign_lite.run.notebook import typical_minutes
from medalign_lite.run.provenance import run_folder, versions
from medalign_lite.run.reproduce import ReproduceError, parse

TRIAL_SECONDS, SECONDS_A_GB = 300, 60  # before a trial of the model is given up; loading takes the most


@dataclass(frozen=True)
class Line:
    """One thing looked at: its state (ok, warn, fail), what was found, and the next step unless it is ok."""

    name: str
    state: str
    found: str
    next_step: str = ""


def examine(*, preset: str = "auto", cases: str = "", model: str = "", out: str = "") -> list[Line]:
    """Look at this machine for a run with these parameters; raises PresetError if they are no run at all."""
    resolved = resolve(preset, overrides={"cases": cases, "model": model})
    folder, about_model = run_folder(resolved.preset.name, out), _model(resolved)
    trial = start_trial(resolved) if about_model.state == "ok" else None  # meanwhile the rest is looked at
    return [
        _python(), *_libraries(), _four_bit(), _cores(), _gpu(resolved), _writable(folder), about_model,
        *_fit(resolved, folder), *([end_trial(trial, resolved)] if trial else []), *_time(resolved),
        Line("preset", "ok", f"{resolved.preset.name}: {resolved.reason}"),
    ]


def as_text(lines: Iterable[Line]) -> str:
    """The lines as a table for a terminal or a notebook."""
    rows = []
    for line in lines:
        rows.append(f"{line.state:4}  {line.name:14} {line.found}")
        if line.next_step:
            rows.append(f"{'':20} -> {line.next_step}")
    return "\n".join(rows)


def in_short(lines: Iterable[Line]) -> str:
    """One line where all is right; else the lines that are not, and how many are."""
    lines = list(lines)
    wrong = [line for line in lines if line.state != "ok"]
    chosen = next((line.found for line in lines if line.name == "preset"), "")
    told = f"{len(lines) - len(wrong)} of {len(lines)} checks are ok; preset {chosen}"
    return "\n".join(filter(None, [as_text(wrong), told]))


def pinned() -> dict[str, str]:
    """{package: version} of constraints.txt: the set that was tested together."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, flags=re.MULTILINE))


def python_floor() -> str:
    """The oldest Python that pyproject.toml allows, such as 3.11.5."""
    return re.search(r'^requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)[1]


def _python() -> Line:
    about, wanted = f"{sys.version.split()[0]} at {sys.executable}", python_floor()
    if sys.version_info < tuple(map(int, wanted.split("."))):
        return Line("python", "fail", about, f"the pinned packages need {wanted} or newer: `make env PYTHON=path`")
    return Line("python", "ok", about)


def _libraries() -> list[Line]:
    wanted = {name.lower(): version for name, version in pinned().items()}
    lines = []
    for name, version in versions().items():
        pin = wanted[name]
        if version == "absent":
            lines.append(Line(name, "fail", "not installed", "`make env`"))
        elif version.split("+")[0] != pin:
            lines.append(Line(name, "warn", f"{version}; tested with {pin}", "`make env` installs the tested version"))
        else:
            lines.append(Line(name, "ok", version))
    if find_spec("torchvision") and "+cpu" in versions()["torch"]:
        step = f"`{sys.executable} -m pip uninstall torchvision`: image processors then use Pillow"
        lines.append(Line("torchvision", "warn", "beside a CPU build of torch it fails to import", step))
    if find_spec("kernels") and "+cpu" in versions()["torch"]:
        step = f"`{sys.executable} -m pip uninstall kernels`"
        lines.append(Line("kernels", "warn", "makes bitsandbytes reach for a hub on some CPUs", step))
    return lines


def _four_bit() -> Line:
    """A 4-bit layer on this machine's processor: does a gradient come back to its input?"""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it offers a faster kernel from a hub
    try:
        import torch
        from bitsandbytes.nn import Linear4bit

        device = "cuda" if gpu_memory_gb()[0] else "cpu"
        layer = Linear4bit(64, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4").to(device)
        x = torch.ones(2, 64, device=device, requires_grad=True)  # (B, D)
        layer(x).sum().backward()
        works = x.grad is not None and bool(x.grad.abs().sum() > 0)
    except Exception as error:  # whatever breaks here is what the person needs to read
        return Line("4-bit layers", "fail", f"{type(error).__name__}: {error}", "`make env`, then `make doctor` again")
    if not works:
        return Line("4-bit layers", "fail", f"no gradient on {device}", "`make env` installs the tested bitsandbytes")
    return Line("4-bit layers", "ok", f"forward and gradient work on {device}")


def _cores() -> Line:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if cores < 2:
        return Line("cores", "warn", f"{cores}", "the minutes in the notebooks are for two cores: expect twice as many")
    return Line("cores", "ok", f"{cores}")


def _gpu(resolved: Resolved) -> Line:
    memory, about = gpu_memory_gb()
    if not resolved.preset.needs_gpu or memory:
        return Line("GPU", "ok", about)
    step = f"preset {resolved.preset.name} is made for a GPU: without one take PRESET=ci, or a very small model"
    with contextlib.suppress(ModelError, CaseError, ValueError, OSError):
        from medalign_lite.run.fit import CONTEXT_GB, examine_fit

        fit = examine_fit(resolved, on_gpu=True)
        about += f"; of a GPU {fit.worst} would need about {fit.need_gb[fit.worst] + CONTEXT_GB:.1f} GB"
    return Line("GPU", "warn", about, step)


def _fit(resolved: Resolved, folder: Path) -> list[Line]:
    """Whether the run fits, from the model's configuration alone: pictures, memory and disk."""
    from medalign_lite.model.loading import FLOOR
    from medalign_lite.run.fit import examine_fit, with_changes

    preset = resolved.preset
    try:
        fit = examine_fit(resolved)
    except (ModelError, CaseError, ValueError, OSError) as error:
        return [Line("memory", "warn", f"cannot be told: {error}", "mend what fails first, then ask again")]
    found = f"{fit.worst} needs about {fit.need_gb[fit.worst]:.1f} of {fit.there_gb:.1f} GB ({fit.where})"
    state = "fail" if gpu_memory_gb()[0] else "warn"  # the need is an upper end, and a CPU's memory gives way
    if fit.fits:
        memory = Line("memory", "ok", f"{found}; most of it {fit.largest}")
    elif fit.change is None:
        memory = Line("memory", state, found, "no single number makes it fit: take a smaller preset or model")
    else:
        memory = Line("memory", state, found, f"turn down: PRESET={with_changes(preset, fit.change)}")
    free = shutil.disk_usage(nearest(folder)).free / 1e9
    disk = Line("disk", "ok", f"{free:.0f} GB free, at most {fit.disk_gb:.0f} needed")
    if free < fit.disk_gb:
        step = "free some, set OUT= to another disk, or turn down max_new_tokens"
        disk = Line("disk", "warn", f"{free:.1f} GB free, up to {fit.disk_gb:.0f} needed", step)
    pictures = f"max_side={preset.max_side}: {fit.image_tokens} tokens each, and never fewer than {FLOOR}"
    return [Line("pictures", "ok", pictures), memory, disk]


def _time(resolved: Resolved) -> list[Line]:
    """How long the run takes, where the notebooks' tables speak of it."""
    if resolved.preset != PRESETS["ci"] or resolved.cases is not None:
        return []
    minutes = sum(typical_minutes(path) or 0 for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    return [Line("time", "ok", f"about {minutes:.0f} minutes on two cores, by the notebooks' tables")]


def _writable(folder: Path) -> Line:
    place = nearest(folder)
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return Line("output", "ok", f"{short(folder)} can be written")
    return Line("output", "fail", f"{place} cannot be written", "choose another folder with OUT=")


def _model(resolved: Resolved) -> Line:
    try:
        folder, name, _ = locate(resolved.model)
        check_folder(folder)
    except ModelError as error:
        embedded = resolved.model == str(ROOT / EMBEDDED)
        return Line("model", "fail", str(error), "`make base-model` trains it" if embedded else "")
    size = sum(p.stat().st_size for p in folder.iterdir() if p.is_file()) / 1e6
    return Line("model", "ok", f"{name}, complete, {size:.0f} MB")


def start_trial(resolved: Resolved) -> subprocess.Popen | None:
    """One picture through all that a run does with the model (`trial.py`), in a process of its own; None where the
    model is made for a GPU that is not here."""
    if resolved.preset.needs_gpu and not gpu_memory_gb()[0]:
        return None
    arguments = [resolved.model, str(resolved.preset.max_side), str(resolved.cases or "")]
    return subprocess.Popen([sys.executable, "-m", "medalign_lite.run.trial", *arguments], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True, cwd=ROOT)


def end_trial(process: subprocess.Popen, resolved: Resolved, *, seconds: float | None = None) -> Line:
    """What became of it: the model is used exactly, or refused in a sentence."""
    files = locate(resolved.model)[0].glob("*.safetensors")
    seconds = seconds or TRIAL_SECONDS + SECONDS_A_GB * sum(path.stat().st_size for path in files) / 1e9
    try:
        said = process.communicate(timeout=seconds)[0].strip()
        told = json.loads(said.splitlines()[-1]) if said else {
            "refused": f"the trial was killed (exit status {process.returncode}): most likely memory ran out"}
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        told = {"refused": f"the trial with one picture did not end within {seconds:.0f} s"}
    if "refused" in told:
        return Line("trial", "fail", told["refused"], "another model (docs/MODELS.md), or a smaller max_side")
    width, height = told.pop("size")
    return Line("trial", "ok", f"one picture of {width} x {height} pixels became " + (
        "{tokens} tokens, was answered, scored (within {off:.0e} nats of a plain pass) and learnt from: {seconds:.0f} "
        "s, {mb} MB".format(**told)))


def nearest(folder: Path) -> Path:
    """The folder itself or the first one above it that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def main(arguments: list[str]) -> int:
    """Print the lines; exit status 1 if one of them is a failure, 2 for bad arguments."""

    def work() -> int:
        values = parse(arguments)
        lines = examine(**{name.lower(): values[name] for name in ("PRESET", "CASES", "MODEL", "OUT")})
        print(as_text(lines))
        failed = [line.name for line in lines if line.state == "fail"]
        print(f"\nnot ready: {', '.join(failed)}" if failed else "\nready: `make reproduce`")
        return 1 if failed else 0

    return exit_status(work, refused=(PresetError, ReproduceError))
