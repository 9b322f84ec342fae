"""Finished stages on disk: read them, and say in a sentence what is wrong with one."""

from __future__ import annotations

from pathlib import Path

from medalign_lite.dials import DEFAULT_SEED
from medalign_lite.files import ROOT, read_json
from medalign_lite.run import fingerprint
from medalign_lite.run.dial import Resolved

TRAINING = ("recipes", "rounds")  # fields of a preset that training alone depends on: no stage before it goes stale


def run_folder(preset: str, out: str = "") -> Path:
    """`OUT/<preset>`; a relative OUT counts from the repository, "" means ``artifacts``."""
    return ROOT / Path(out or "artifacts").expanduser() / preset


def make_command(
    preset: str, *, cases: str = "", model: str = "", seed: int = DEFAULT_SEED, out: str = "", recipe: str = "",
    rounds: int = 0,
) -> str:
    """The command that makes every stage of a run."""
    values = {"PRESET": preset, "CASES": cases, "MODEL": model, "OUT": out, "RECIPE": recipe}
    values["ROUNDS"] = str(rounds) if rounds else ""
    values["SEED"] = "" if seed == DEFAULT_SEED else str(seed)
    return " ".join(["make reproduce", *(f"{name}={value}" for name, value in values.items() if value)])


def run_parameters(resolved: Resolved, seed: int, *, training: bool) -> dict:
    """The numbers that every stage of one run shares, JSON-ready, paths relative to the repository inside it; those of
    `TRAINING` only where asked for."""
    cases = fingerprint.short(resolved.cases) if resolved.cases else ""  # not ".", which would be a folder
    places = {"model": fingerprint.short(resolved.model), "cases": cases}
    values = fingerprint.plain(vars(resolved.preset) | places | {"seed": seed})
    return {name: value for name, value in values.items() if training or name not in TRAINING}


def read_manifest(folder: Path) -> dict:
    """The manifest of a finished stage."""
    return read_json(folder / "manifest.json")


def outputs_digest(folder: Path) -> str:
    """Digest of what a finished stage wrote (not of how long it took)."""
    return fingerprint.digest(read_manifest(folder)["outputs"])


def damage(folder: Path) -> str:
    """What is wrong with a stage's files, in a sentence; "" if all are as they were written."""
    place = fingerprint.short(folder.parent)
    if not folder.is_dir():
        return f"stage {folder.name} has not been made in {place}"
    try:
        recorded = read_manifest(folder)["outputs"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"stage {folder.name} in {place} is half-written: it has no readable manifest.json"
    found = fingerprint.tree(folder)
    found.pop("manifest.json", None)
    for name in sorted({*recorded, *found}):
        if recorded.get(name) != found.get(name):
            how = "is gone" if name not in found else "was added" if name not in recorded else "was changed"
            return f"{fingerprint.short(folder / name)} {how} after stage {folder.name} was made"
    return ""


def unsound(run: Path, stage: str, parameters: dict) -> str:
    """Why `stage` in a run's folder is no use to a run with these parameters, or "".

    It is not there, damaged, made from other things than are there now, or one of its own inputs is unsound.
    """
    if problem := damage(run / stage):
        return problem
    old = read_manifest(run / stage)["made_from"]
    for needed in old["inputs"]:
        if problem := unsound(run, needed, parameters):
            return problem
    now = fingerprint.parts(
        stage,
        parameters={key: parameters.get(key, value) for key, value in old["parameters"].items()},
        inputs={needed: outputs_digest(run / needed) for needed in old["inputs"]},
        files=[str(ROOT / file) for file in old["files"]],
        model=old["model"] and old["model"]["name"],
    )
    changed = fingerprint.differences(old, now)
    return f"stage {stage} in {fingerprint.short(run)} is stale: {changed}" if changed else ""


def table(folder: Path) -> str:
    """What a finished stage wrote, as text: file, kB, first digits of the sha256; then seconds and peak memory."""
    manifest = read_manifest(folder)
    shown = list(manifest["outputs"].items())
    lines = [f"{name:40} {file['bytes'] / 1e3:10.1f} kB  {file['sha256'][:12]}" for name, file in shown[:12]]
    if len(shown) > 12:
        lines.append(f"... and {len(shown) - 12} more files, {sum(f['bytes'] for _, f in shown[12:]) / 1e6:.1f} MB")
    passed = f"{len(manifest['checks'])} known values hold" if manifest["checks"] else "no known values to check"
    lines.append(f"{passed} · {manifest['seconds']:.1f} s · peak {manifest['peak_mb']} MB")
    return "\n".join([fingerprint.short(folder), *lines])
