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
from medalign_lite.model.weights import WEIGHTS, ModelError, check_folder, locate
from medalign_lite.run.commands import command
from medalign_lite.run.dial import Resolved, gpu_memory_gb, resolve
from medalign_lite.run.notebook import typical_minutes
from medalign_lite.run.provenance import run_folder, versions
from medalign_lite.run.reproduce import parse

TRIAL_SECONDS, SECONDS_A_GB = 300, 60  # before a trial of the model is given up; loading takes the most


@dataclass(frozen=True)
class Line:
    """One thing looked at: its state (ok, warn, fail), what was found, and the next step unless it is ok."""

    name: str
    state: str
    found: str
    next_step: str = ""


def _line(name: str, holds: bool, found: str, next_step: str, *, state: str = "fail") -> Line:
    """What is ok where it holds, and else in another state with a next step."""
    return Line(name, "ok", found) if holds else Line(name, state, found, next_step)


def examine(*, preset: str = "auto", cases: str = "", model: str = "", out: str = "") -> list[Line]:
    """Look at this machine for a run with these parameters; raises PresetError if they are no run at all."""
    resolved = resolve(preset, cases=cases, model=model)
    folder, about_model, floor = run_folder(resolved.preset.name, out), _model(resolved), python_floor()
    trial = start_trial(resolved) if about_model.state == "ok" else None  # meanwhile the rest is looked at
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    place = nearest(folder)
    free = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    told = resolved.preset == PRESETS["ci"] and resolved.cases is None  # what the notebooks' tables speak of
    minutes = sum(typical_minutes(path) or 0 for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    time = [Line("time", "ok", f"about {minutes:.0f} minutes on two cores, by the notebooks' tables")] if told else []
    return [
        _line("python", sys.version_info >= tuple(map(int, floor.split("."))),
              f"{sys.version.split()[0]} at {sys.executable}",
              f"the pinned packages need {floor} or newer: `make env PYTHON=path`"),
        *_libraries(), _four_bit(),
        _line("cores", cores >= 2, f"{cores}", "the minutes in the notebooks are for two cores: expect twice as many",
              state="warn"),
        _gpu(resolved),
        _line("output", free, f"{short(folder)} can be written" if free else f"{place} cannot be written",
              "choose another folder with OUT="),
        about_model, *_fit(resolved, folder), *([end_trial(trial, resolved)] if trial else []), *time,
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


def _libraries() -> list[Line]:
    wanted, found = {name.lower(): version for name, version in pinned().items()}, versions()
    lines = []
    for name, version in found.items():
        if version == "absent":
            lines.append(Line(name, "fail", "not installed", "`make env`"))
        else:
            tested = version.split("+")[0] == wanted[name]
            told = version if tested else f"{version}; tested with {wanted[name]}"
            lines.append(_line(name, tested, told, "`make env` installs the tested version", state="warn"))
    for name, harm, then in (("torchvision", "beside a CPU build of torch it fails to import",
                              ": image processors then use Pillow"),
                             ("kernels", "makes bitsandbytes reach for a hub on some CPUs", "")):
        if find_spec(name) and "+cpu" in found["torch"]:
            lines.append(Line(name, "warn", harm, f"`{sys.executable} -m pip uninstall {name}`{then}"))
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
    found = f"forward and gradient work on {device}" if works else f"no gradient on {device}"
    return _line("4-bit layers", works, found, "`make env` installs the tested bitsandbytes")


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
    step = (f"turn down: PRESET={with_changes(preset, fit.change)}" if fit.change else
            "no single number makes it fit: take a smaller preset or model")
    free = shutil.disk_usage(nearest(folder)).free / 1e9
    room = (f"{free:.0f} GB free, at most {fit.disk_gb:.0f} needed" if free >= fit.disk_gb else
            f"{free:.1f} GB free, up to {fit.disk_gb:.0f} needed")
    pictures = f"max_side={preset.max_side}: {fit.image_tokens} tokens each, and never fewer than {FLOOR}"
    return [
        Line("pictures", "ok", pictures),
        _line("memory", fit.fits, f"{found}; most of it {fit.largest}" if fit.fits else found, step,
              state="fail" if gpu_memory_gb()[0] else "warn"),  # an upper end, and a CPU's memory gives way
        _line("disk", free >= fit.disk_gb, room, "free some, set OUT= to another disk, or turn down max_new_tokens",
              state="warn"),
    ]  # fmt: skip


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
    files = locate(resolved.model)[0].glob(WEIGHTS)
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


@command(refused=(PresetError,))
def main(arguments: list[str]) -> int:
    """Print the lines; exit status 1 if one of them is a failure, 2 for bad arguments."""
    values = parse(arguments)
    lines = examine(**{name.lower(): values[name] for name in ("PRESET", "CASES", "MODEL", "OUT")})
    print(as_text(lines))
    failed = [line.name for line in lines if line.state == "fail"]
    print(f"\nnot ready: {', '.join(failed)}" if failed else "\nready: `make reproduce`")
    return 1 if failed else 0
