"""What a stage's result depends on, as hashes: source code, notebook, files, model, library versions.

`parts` gathers them; two equal `digest(parts)` mean the same result, and `differences` says in words why two are not.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import json
from pathlib import Path

from medalign_lite.files import ROOT, digest, file_sha256, plain, short, tree
from medalign_lite.run.dial import find_model

PACKAGE = ROOT / "medalign_lite"
CODE = (PACKAGE, ROOT / "studies")
# What only shows or runs things: changing it makes no saved result stale.
APPARATUS = ("medalign_lite/show/", "medalign_lite/run/", "medalign_lite/editors/widget.py")
COUNTED = ("medalign_lite/run/cohort.py",)  # but this decides which cases a stage sees
# Cells with these tags only show or practise; parameters count through their values.
UNCOUNTED_TAGS = {"parameters", "injected-parameters", "figure", "interactive", "exercise"}
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "numpy", "scipy", "scikit-image", "pillow")


def notebook_path(stage: str) -> Path:
    """The notebook that makes a stage has the stage's name."""
    return ROOT / "notebooks" / f"{stage}.ipynb"


def code_cells(notebook: Path, *, counted: bool = False) -> list[str]:
    """Sources of the code cells; `counted` = only those that can change a result."""
    cells = [c for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    if counted:
        cells = [c for c in cells if not UNCOUNTED_TAGS & set(c["metadata"].get("tags", []))]
    return ["".join(c["source"]) for c in cells]


def source_files(cells: list[str] | None, *, shown: bool = False) -> dict[str, str]:
    """{file: sha256} of our modules that the cells import, directly or not (None = the whole package).

    What only shows or runs things is left out, unless `shown`.
    """
    data = [p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc", ".js", ".css")]
    if cells is None:
        found = {p for p in PACKAGE.rglob("*.py") if shown or not _shows(p)}
    else:
        found, pending = set(), [path for cell in cells for path in _imports(cell, PACKAGE)]
        while pending:
            path = pending.pop()
            if path not in found and (shown or not _shows(path)):
                found.add(path)
                pending += _imports(path.read_text(encoding="utf-8"), path.parent)
    return {p.relative_to(ROOT).as_posix(): file_sha256(p) for p in sorted([*found, *data])}


def _shows(path: Path) -> bool:
    name = path.relative_to(ROOT).as_posix()
    return name.startswith(APPARATUS) and name not in COUNTED


@functools.cache  # the stages share most of their sources
def _imports(source: str, folder: Path) -> tuple[Path, ...]:
    """Files of this package that a piece of source imports; `folder` is what a relative import counts from."""
    plain = "\n".join("pass" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
    paths = []
    for node in ast.walk(ast.parse(plain)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = folder.relative_to(ROOT).parts
            above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [above, node.module]))
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            bare = ROOT.joinpath(*name.split("."))
            if any(root in (bare, *bare.parents) for root in CODE):
                packages = [bare, *(p for p in bare.parents if p != ROOT and ROOT in p.parents)]
                candidates = [bare.with_suffix(".py"), *(p / "__init__.py" for p in packages)]
                paths += [p for p in candidates if p.is_file()]
    return tuple(paths)


def model_revision(model: str) -> str | None:
    """The hub's commit for a model in the hub cache, else 12 digits over the folder's files; None if it is absent."""
    folder = find_model(model)
    if folder is None or folder.parent.name == "snapshots":
        return folder and folder.name
    stamp = tuple((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.iterdir()) if p.is_file())
    return _folder_digest(folder, stamp)


@functools.lru_cache
def _folder_digest(folder: Path, stamp: tuple) -> str:
    """Weights can be gigabytes: hashed once a process for each (names, sizes, times)."""
    return digest(tree(folder))[:12]


def versions() -> dict[str, str]:
    """Installed versions of the libraries that can change a number."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def parts(stage: str, *, parameters: dict, inputs: dict, files: list[str], model: str | None) -> dict:
    """Everything the stage's result depends on, JSON-ready; `inputs` maps an earlier stage to its outputs' digest."""
    notebook = notebook_path(stage)
    cells = code_cells(notebook, counted=True) if notebook.is_file() else None
    return {
        "stage": stage,
        "parameters": plain(parameters),
        "inputs": inputs,
        "files": {short(name): _unnamed(tree(Path(name))) for name in files},
        "model": model and {"name": short(model), "revision": model_revision(model)},
        "notebook": cells and digest(cells),
        "source": source_files(cells),
        "versions": versions(),
    }


def _unnamed(files: dict[str, dict]) -> dict[str, dict]:
    """A tree without its names, which may be a patient's; each still counts, with what the file holds."""
    return {digest([name, about["sha256"]])[:16]: about for name, about in files.items()}


def differences(old: dict, new: dict) -> str:
    """What changed between two `parts`, in words; empty if nothing did."""
    reasons = []
    for part, b in new.items():
        a = old.get(part)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            keys = [key for key in sorted({*a, *b}) if a.get(key) != b.get(key)]
            reasons.append(f"{part} changed: " + ", ".join(keys[:4]) + (" ..." if len(keys) > 4 else ""))
        else:
            reasons.append(f"{part} changed")
    return "; ".join(reasons)
