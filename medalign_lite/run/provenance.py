"""Where a stage's result comes from: what it depends on, as hashes, and finished stages on disk, held against that.

`parts` gathers source code, notebook, files, model and library versions; two equal `digest(parts)` mean the same
result, and `differences` says in words why two are not. `damage` and `unsound` say in a sentence what is wrong with a
stage. A plugin (a reader of a layout, an editor) counts where it is used, not where it could be.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.metadata
import json
from pathlib import Path

from medalign_lite.dials import DEFAULT_SEED
from medalign_lite.files import ROOT, digest, file_sha256, path_of, plain, read_json, short, tree
from medalign_lite.model.weights import model_revision
from medalign_lite.run.dial import Resolved

PACKAGE = ROOT / "medalign_lite"
CODE = (PACKAGE, ROOT / "studies")
# What only shows or runs things: changing it makes no saved result stale.
APPARATUS = ("medalign_lite/show/", "medalign_lite/run/", "medalign_lite/editors/")
COUNTED = ("medalign_lite/run/cohort.py",)  # but this decides which cases a stage sees
PLUGINS = ("medalign_lite/cases/readers/", "medalign_lite/cases/dicom.py")  # counted where CASES= is in their layout
READERS = PACKAGE / "cases/readers/__init__.py"  # finds the reader that is used
# Cells with these tags only show or practise; parameters count through their values.
UNCOUNTED_TAGS = {"parameters", "injected-parameters", "figure", "interactive", "exercise"}
DATA = (".json", ".txt", ".j2")  # package data that a module of the same folder reads
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "numpy", "scipy", "scikit-image", "pillow")
TRAINING = ("recipes", "rounds")  # fields of a preset that training alone depends on: no stage before it goes stale


def code_cells(notebook: Path, *, counted: bool = False) -> list[str]:
    """Sources of the code cells; `counted` = only those that can change a result."""
    cells = [c for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    if counted:
        cells = [c for c in cells if not UNCOUNTED_TAGS & set(c["metadata"].get("tags", []))]
    return ["".join(c["source"]) for c in cells]


def source_files(cells: list[str] | None, *, shown: bool = False, cases: str = "") -> dict[str, str]:
    """{file: sha256} of our modules that the cells import, directly or not (None = the whole package). What only shows
    or runs things is left out, unless `shown`; of the plugins only the reader of `cases` is in, a parameter CASES= that
    the cells read themselves, with what it imports."""

    def plugin(path: Path) -> bool:
        return path != READERS and path.relative_to(ROOT).as_posix().startswith(PLUGINS)

    pending = list(PACKAGE.rglob("*.py")) if cells is None else [path for cell in cells for path in _imports(cell)]
    found, pending = set(), [path for path in pending if not plugin(path)]
    while pending:
        path = pending.pop()
        name = path.relative_to(ROOT).as_posix()
        if path not in found and (shown or name in COUNTED or not name.startswith(APPARATUS)):
            found.add(path)
            imported = _imports(path.read_text(encoding="utf-8"))
            pending += [inner for inner in imported if plugin(path) or not plugin(inner)]
            pending += _readers(cases) if path == READERS else []
    folders = {path.parent for path in found if path.name != "__init__.py"}
    data = [p for folder in folders for p in folder.iterdir() if p.is_file() and p.suffix in DATA]
    return {p.relative_to(ROOT).as_posix(): file_sha256(p) for p in sorted([*found, *data]) if p.stat().st_size}


def _readers(cases: str) -> list[Path]:
    """The reader of the kit's own lists, and that of CASES= where there is something to read."""
    kit, path = PACKAGE / "cases/readers/kit.py", path_of(cases)
    if not cases or not path.exists():
        return [kit]
    from medalign_lite.cases import readers  # imaging libraries, which a run with nothing to do does without

    return [kit, readers.detect(path)[0].file]


@functools.cache  # the stages share most of their sources
def _imports(source: str) -> tuple[Path, ...]:
    """Files of ours that a piece of source imports; none of ours says so relatively."""
    plain = "\n".join("pass" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
    try:
        tree = ast.parse(plain)
    except SyntaxError:  # a cell in another language, or one that fails when it is run
        return ()
    names, paths = [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    for name in names:
        bare = ROOT.joinpath(*name.split("."))
        if any(root in (bare, *bare.parents) for root in CODE):
            packages = [bare, *(p for p in bare.parents if p != ROOT and ROOT in p.parents)]
            candidates = [bare.with_suffix(".py"), *(p / "__init__.py" for p in packages)]
            paths += [p for p in candidates if p.is_file()]
    return tuple(paths)


def versions() -> dict[str, str]:
    """Installed versions of the libraries that can change a number."""
    found = dict.fromkeys(LIBRARIES, "absent")
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def parts(stage: str, *, parameters: dict, inputs: dict, files: list[str], model: str | None) -> dict:
    """Everything the stage's result depends on, JSON-ready; `inputs` maps an earlier stage to its outputs' digest."""
    notebook = ROOT / "notebooks" / f"{stage}.ipynb"
    cells = code_cells(notebook, counted=True) if notebook.is_file() else None
    cases = "" if inputs else parameters.get("cases", "")  # a stage with inputs has its cases from the first one
    return {
        "stage": stage, "parameters": plain(parameters), "inputs": inputs,
        "files": {short(name): {  # a file's name may be a patient's: it counts, but is not kept
            digest([path, about["sha256"]])[:16]: about for path, about in tree(Path(name)).items()} for name in files},
        "model": model and {"name": short(model), "revision": model_revision(model)},
        "notebook": cells and digest(cells), "source": source_files(cells, cases=cases), "versions": versions(),
    }


def differences(old: dict, new: dict) -> str:
    """What changed between two `parts`, in words; empty if nothing did."""
    reasons = []
    for part, (a, b) in {part: (old.get(part), b) for part, b in new.items() if old.get(part) != b}.items():
        both = isinstance(a, dict) and isinstance(b, dict)
        keys = [key for key in sorted({*a, *b}) if a.get(key) != b.get(key)] if both else []
        told = ": " + ", ".join(keys[:4]) + " ..." * (len(keys) > 4) if keys else ""
        reasons.append(f"{part} changed{told}")
    return "; ".join(reasons)


def run_folder(preset: str, out: str = "") -> Path:
    """`OUT/<preset>`; a relative OUT counts from the repository, "" means ``artifacts``."""
    return path_of(out or "artifacts") / preset


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
    cases = short(resolved.cases) if resolved.cases else ""  # not ".", which would be a folder
    places = {"model": short(resolved.model), "cases": cases}
    values = plain(vars(resolved.preset) | places | {"seed": seed})
    return {name: value for name, value in values.items() if training or name not in TRAINING}


def read_manifest(folder: Path) -> dict:
    """The manifest of a finished stage."""
    return read_json(folder / "manifest.json")


def sealed(manifest: dict) -> dict:
    """The manifest with a digest of all that it says."""
    return manifest | {"seal": digest(plain(manifest))}


def outputs_digest(folder: Path) -> str:
    """Digest of what a finished stage wrote (not of how long it took)."""
    return digest(read_manifest(folder)["outputs"])


def damage(folder: Path) -> str:
    """What is wrong with a stage's files, in a sentence; "" if all are as they were written."""
    place = short(folder.parent)
    if not folder.is_dir():
        return f"stage {folder.name} has not been made in {place}"
    try:
        manifest = read_manifest(folder)
        recorded, seal = manifest["outputs"], manifest.pop("seal")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"stage {folder.name} in {place} is half-written: it has no readable manifest.json"
    if digest(manifest) != seal:
        return f"{short(folder / 'manifest.json')} was changed after stage {folder.name} was made"
    found = tree(folder)
    found.pop("manifest.json", None)
    for name in sorted({*recorded, *found}):
        if recorded.get(name) != found.get(name):
            how = "is gone" if name not in found else "was added" if name not in recorded else "was changed"
            return f"{short(folder / name)} {how} after stage {folder.name} was made"
    return ""


def unsound(run: Path, stage: str, parameters: dict) -> str:
    """Why `stage` in a run's folder is no use to a run with these parameters, or "". It is not there, damaged, made
    from other things than are there now, or one of its own inputs is unsound."""
    if problem := damage(run / stage):
        return problem
    old = read_manifest(run / stage)["made_from"]
    for needed in old["inputs"]:
        if problem := unsound(run, needed, parameters):
            return problem
    now = parts(
        stage, parameters={key: parameters.get(key, value) for key, value in old["parameters"].items()},
        inputs={needed: outputs_digest(run / needed) for needed in old["inputs"]},
        files=[str(ROOT / file) for file in old["files"]], model=old["model"] and old["model"]["name"],
    )
    changed = differences(old, now)
    return f"stage {stage} in {short(run)} is stale: {changed}" if changed else ""


def table(folder: Path) -> str:
    """What a finished stage wrote, as text: file, kB, first digits of the sha256; then seconds and peak memory."""
    manifest = read_manifest(folder)
    shown = list(manifest["outputs"].items())
    lines = [f"{name:40} {file['bytes'] / 1e3:10.1f} kB  {file['sha256'][:12]}" for name, file in shown[:12]]
    if len(shown) > 12:
        lines.append(f"... and {len(shown) - 12} more files, {sum(f['bytes'] for _, f in shown[12:]) / 1e6:.1f} MB")
    held = {0: "no known value to check", 1: "the one known value holds"}
    passed = held.get(len(manifest["checks"]), f"all {len(manifest['checks'])} known values hold")
    lines.append(f"{passed} · {manifest['seconds']:.1f} s · peak {manifest['peak_mb']} MB")
    return "\n".join([short(folder), *lines])
