"""Result files: one small JSON file a run, named by a hash of all that its numbers depend on.

A run is looked for under OUT, where it is written, and in `docs/claims`, where finished work is kept with the code:
what was measured on one occasion is found on the next. Counts are packed: per image, compressed.
"""

import ast
import base64
import io
import json
import lzma
import os
import platform
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from medalign_lite.cases.case import Case
from medalign_lite.dials import DEFAULT_SEED
from medalign_lite.evaluate.metrics import COLUMNS
from medalign_lite.files import digest, write_text
from medalign_lite.model.weights import model_revision
from medalign_lite.run.provenance import PACKAGE, versions
from medalign_lite.world.dataset import SPLITS, make_case, make_folders
from medalign_lite.world.render import SIZE
from studies.claims.lineup import BASE, Arm, train_settings
from studies.claims.pool import CONFIRM, FRESH, FULL, POOL_SEEDS, Sizes

EDITION = 1  # to be raised when a change of code changes what a run gives: older results are then not used any more
UNIT = 100  # what is measured is kept in hundredths
COUNTED = (
    "claims", "claims_right", "claims_hallucinated", "facts", "facts_found", "closed", "closed_right", "selectivity_n",
    "flipped", "flipped_n", "invariant", "invariant_n", "kl_tokens", "edit_answers",
)  # fmt: skip
MEASURED = {"selectivity": "selectivity_n", "kl": "kl_tokens", "edit_distance": "edit_answers"}  # and their counters
# since 29 November 2026, after all that is in a file of before; what a file lacks is 0
LATER_COUNTED = ("changes", "changed_lesion", "changed_control", "asked_about", "changed_only", "right_falls")
LATER_MEASURED = {"right_fall": "right_falls"}
LATER = (*LATER_COUNTED, *LATER_MEASURED)
SHOWN, QUESTIONS = 8, 4  # people of each split by whom a world is known, and questions to each


@dataclass(frozen=True)
class Bench:
    """What all runs of one call have in common. `keep`: the committed folder, which is read too. `fresh`: test and
    shifted are people whom no choice was made by, and the seeds are others too: a confirmation."""

    model: str
    sizes: Sizes
    seed: int
    out: Path
    keep: Path
    fresh: bool = False

    @property
    def people(self) -> int:
        """The seed by which the exam's people are drawn."""
        return self.seed * POOL_SEEDS + FRESH if self.fresh else self.seed

    @property
    def numbers(self) -> range:
        """The seeds of the runs."""
        first = CONFIRM.seeds + 1 if self.fresh else 1
        return range(first, first + self.sizes.seeds)

    @property
    def cache(self) -> Path:
        """Pictures, answers and other things that can be made again."""
        return self.out / "cache"

    @property
    def committed(self) -> bool:
        """Whether its results are those of docs/RESULTS.md: the full run (or confirmation) with the kit's own seed."""
        return self.sizes == (CONFIRM if self.fresh else FULL) and self.seed == DEFAULT_SEED


def run_facts(bench: Bench, arm: Arm, point: dict, number: int) -> dict:
    """All that the result of one run depends on, JSON-ready."""
    return _facts(bench, arm, point, number) | {
        "asked": {name: getattr(bench.sizes, name) for name in ("test", "shifted", "margins", "drift")}
        | ({"people": bench.people} if bench.fresh else {})
    }


def search_facts(bench: Bench, arm: Arm, point: dict, number: int) -> dict:
    """All that one point of a search depends on."""
    return _facts(bench, arm, point, number) | {"asked": {"val": bench.sizes.val}}


def _facts(bench: Bench, arm: Arm, point: dict, number: int) -> dict:
    common = {"edition": EDITION, "model": model_revision(bench.model), "world": world_digest(), "seed": bench.seed}
    if arm.name == BASE:
        return common | {"arm": BASE}
    settings = train_settings(arm, point, seed=number)
    told = {k: v for k, v in asdict(settings).items() if k not in ("recipe", "overrides")}
    recipe = {k: v for k, v in asdict(settings.resolved_recipe()).items() if k != "name"}
    learnt = {"pool": bench.sizes.pool, "pairs": bench.sizes.pairs, "kind": arm.pairs, "evidence": arm.evidence}
    return common | {"settings": told, "recipe": recipe, "learnt": learnt | {"rounds": arm.rounds}, "number": number}


def name_of(facts: dict) -> str:
    """What the files of a run are called."""
    return digest(facts)[:16]


def path_of(bench: Bench, kind: str, facts: dict) -> Path:
    """Where the result of these facts is, or is to be written; `kind` is runs or search."""
    name = f"{name_of(facts)}.json"
    kept = bench.keep / kind / name
    return kept if kept.is_file() else bench.out / kind / name


def read(bench: Bench, kind: str, facts: dict) -> dict | None:
    """The result of these facts, or None. Raises ValueError for a file whose contents are of other facts."""
    path = path_of(bench, kind, facts)
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    if digest(found["facts"]) != digest(facts):
        raise ValueError(f"{path} is not what its name says; delete it, and it is measured again")
    return found


def write(bench: Bench, kind: str, facts: dict, result: Mapping) -> Path:
    """Keep a result under OUT, whole or not at all, and in `keep` if it is one of those that are committed."""
    text = json.dumps({"facts": facts, **result, "made": _made()}) + "\n"
    for folder in (bench.keep, bench.out) if bench.committed else (bench.out,):
        path = folder / kind / f"{name_of(facts)}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return path


def write_index(folder: Path, bench: Bench, results: Mapping[str, Mapping[int, dict]]) -> None:
    """index.json beside claims.json: which file holds each arm at each seed, {arm: {seed: name}}."""
    names = {arm: {number: path_of(bench, "runs", run["facts"]).name for number, run in found.items()}
             for arm, found in results.items() if found}
    (folder / "index.json").write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")


def read_index(folder: Path) -> dict[str, dict[int, dict]]:
    """{arm: {seed: result}} as they were when claims.json was written, whatever has changed since."""
    names = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return {arm: {int(number): json.loads((folder / "runs" / name).read_text(encoding="utf-8"))
                  for number, name in found.items()} for arm, found in names.items()}


def pack(table: np.ndarray) -> str:
    """Counts (images, COLUMNS) as text: the number of images, the COUNTED columns as bytes, then the MEASURED ones in
    hundredths where something was measured, the same of what came LATER, compressed."""
    parts = [np.array([len(table)], "<u4")]
    for counted, measured in ((COUNTED, MEASURED), (LATER_COUNTED, LATER_MEASURED)):
        parts.append(np.stack([table[:, COLUMNS.index(name)] for name in counted]).astype("u1"))
        for name, counter in measured.items():
            values = table[table[:, COLUMNS.index(counter)] > 0, COLUMNS.index(name)]
            parts.append(np.clip(np.round(values * UNIT), -(2**15), 2**15 - 1).astype("<i2"))
    return base64.b85encode(lzma.compress(b"".join(part.tobytes() for part in parts), lzma.FORMAT_ALONE)).decode()


@lru_cache(maxsize=1024)
def unpack(text: str) -> np.ndarray:
    """Counts (images, COLUMNS) from `pack`, read-only; columns that were not kept are 0.

    Which of two margins is the lower one follows from their difference, one record an image; nearer than half a
    hundredth of a nat is a tie.
    """
    data = lzma.decompress(base64.b85decode(text))
    images, whole = int(np.frombuffer(data, "<u4", 1)[0]), 4
    table = np.zeros((images, len(COLUMNS)))
    for counted, measured in ((COUNTED, MEASURED), (LATER_COUNTED, LATER_MEASURED)):
        if whole == len(data):
            break
        for name in counted:
            table[:, COLUMNS.index(name)] = np.frombuffer(data, "u1", images, offset=whole)
            whole += images
        for name, counter in measured.items():
            there = table[:, COLUMNS.index(counter)] > 0
            table[there, COLUMNS.index(name)] = np.frombuffer(data, "<i2", there.sum(), offset=whole) / UNIT
            whole += 2 * int(there.sum())
    there, gaps = (table[:, COLUMNS.index(name)] for name in ("selectivity_n", "selectivity"))
    table[:, COLUMNS.index("evidence_lower")] = there * (1 + np.sign(gaps)) / 2
    table.flags.writeable = False
    return table


@lru_cache(maxsize=1)
def world_digest() -> str:
    """What the phantom world makes: pixels and words of SHOWN people of each split, one seed. Its code may change."""
    with TemporaryDirectory(prefix="medalign-") as folder:
        plans = ((split, i, DEFAULT_SEED, QUESTIONS, SIZE, Path(folder)) for split in SPLITS for i in range(SHOWN))
        make_folders(Path(folder))
        return digest([_shown(make_case(plan), Path(folder)) for plan in plans])[:12]


def _shown(case: Case, folder: Path) -> list:
    """A case's words, what is true of it, and the pixels of each of its pictures."""
    words = [(q.id, q.text, q.answer, q.kind, q.topic, q.finding, q.visible) for q in case.questions]
    truth = [(f.finding, f.side, f.zone, f.size, f.visible) for f in case.facts]
    paths = [case.image, case.hidden, *(path for f in case.facts for path in (f.mask, f.removed, f.moved))]
    pixels = [Image.open(folder / path).tobytes() if path else b"" for path in paths]
    return [case.id, words, truth, [sha256(data).hexdigest() for data in pixels]]


@lru_cache(maxsize=1)
def code_digest() -> str:
    """The same of the whole package: told with each result, so that a page can say what was measured by which code."""
    apart = ("readers",)
    return _code_digest(p for p in sorted(PACKAGE.rglob("*.py")) if not set(p.relative_to(PACKAGE).parts) & set(apart))


def _code_digest(paths: Iterable[Path]) -> str:
    return digest([_without_words(path.read_text(encoding="utf-8")) for path in paths])[:12]


def _without_words(source: str) -> str:
    """The code without comments, docstrings and empty lines, the same under every version of Python."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            first, last = node.body[0].lineno, node.body[0].end_lineno
            lines[first - 1 : last] = [""] * (last - first + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _made() -> dict:
    return {
        "day": datetime.now(UTC).date().isoformat(), "machine": machine(), "code": code_digest(), "versions": versions()
    }


@lru_cache(maxsize=1)
def machine() -> str:
    """The processor's name and the number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
