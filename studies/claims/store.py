"""Results: one line a run in one file an arm, each named by a hash of all that its numbers depend on.

A run writes a small file under OUT; `gather` brings finished ones into `docs/claims`, where they are kept with the
code: what was measured on one occasion is found on the next. Runs of another state of model, world or edition are left
out there. Counts are packed: per image, compressed.
"""

import base64
import json
import lzma
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from medalign_lite.dials import DEFAULT_SEED, EMBEDDED
from medalign_lite.evaluate.metrics import COLUMNS
from medalign_lite.files import ROOT, digest, read_json, read_jsonl, write_jsonl, write_text
from medalign_lite.model.weights import model_revision
from medalign_lite.run.provenance import source_files, versions
from medalign_lite.world.dataset import SPLITS, make_case
from medalign_lite.world.render import SIZE
from studies.claims.lineup import Setting
from studies.claims.pool import FRESH, FULL, POOL_SEEDS, Sizes

EDITION = 2  # to be raised when a change of code changes what a run gives: older results are then not used any more
SCREENING, CONFIRMATION = "screening", "confirmation"
UNIT = 100  # what is measured is kept in hundredths
COUNTED = (
    "claims", "claims_right", "claims_hallucinated", "facts", "facts_found", "closed", "closed_right", "selectivity_n",
    "flipped", "flipped_n", "invariant", "invariant_n", "kl_tokens", "edit_answers", "changes", "changed_lesion",
    "changed_control", "asked_about", "changed_only", "right_falls",
)  # fmt: skip
MEASURED = {"selectivity": "selectivity_n", "kl": "kl_tokens", "edit_distance": "edit_answers",
            "right_fall": "right_falls"}  # and their counters
SHOWN, QUESTIONS = 8, 4  # people of each split by whom a world is known, and questions to each


@dataclass(frozen=True)
class Bench:
    """What all runs of one call have in common. `keep`: the committed folder, which is read too."""

    model: str
    sizes: Sizes
    seed: int
    out: Path
    keep: Path

    @property
    def fresh(self) -> int:
        """The seed by which the people of the confirmation are drawn: nobody of them was asked in a screening."""
        return self.seed * POOL_SEEDS + FRESH

    @property
    def cache(self) -> Path:
        """Pictures, answers and other things that can be made again."""
        return self.out / "cache"

    @property
    def committed(self) -> bool:
        """Whether its results are those of docs/RESULTS.md: the full run with the kit's own seed."""
        return self.sizes == FULL and self.seed == DEFAULT_SEED

    @property
    def facts(self) -> dict:
        """What every run's result depends on: model, world, edition and seed."""
        return {"edition": EDITION, "model": model_revision(self.model), "world": world_digest(), "seed": self.seed}

    @property
    def state(self) -> str:
        """A digest of that."""
        return digest(self.facts)[:12]


def kits_own() -> Bench:
    """The bench whose results are committed."""
    return Bench(str(ROOT / EMBEDDED), FULL, DEFAULT_SEED, ROOT / "artifacts" / "claims", ROOT / "docs" / "claims")


class Store:
    """All results that there are, by name; `refresh` looks for new ones."""

    def __init__(self, bench: Bench):
        self.bench, self.rows, self.state = bench, {}, bench.state
        for path in self._files():
            self.rows |= {row["name"]: row for row in read_jsonl(path) if row["state"] == self.state}
        self.refresh()

    def refresh(self) -> None:
        """Read what was written under OUT since."""
        for path in self.bench.out.glob("runs/*.json"):
            if path.stem not in self.rows:
                row = read_json(path)
                self.rows |= {path.stem: row} if row["state"] == self.state else {}

    def get(self, facts: Mapping) -> dict | None:
        """The result of these facts, or None."""
        return self.rows.get(name_of(facts))

    def gather(self) -> None:
        """Write all into `keep`, a file an arm, where these are the results that are committed."""
        if not self.bench.committed:
            return
        files = {}
        for name in sorted(self.rows, key=lambda name: (self.rows[name]["number"], name)):
            row = self.rows[name]
            files.setdefault(self.bench.keep / row["kind"] / f"{row['arm'].replace('=', '-')}.jsonl", []).append(row)
        for path, rows in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_jsonl(path, rows)
        for path in set(self._files()) - set(files):
            path.unlink()

    def _files(self) -> list[Path]:
        return sorted(path for kind in (SCREENING, CONFIRMATION) for path in (self.bench.keep / kind).glob("*.jsonl"))


def committed_runs() -> dict[str, dict[int, dict]]:
    """{arm: {seed: row}} of the committed confirmation, counts per image in each (`unpack`); the base has number 0."""
    rows = [row for path in sorted((ROOT / "docs/claims" / CONFIRMATION).glob("*.jsonl")) for row in read_jsonl(path)]
    found: dict[str, dict[int, dict]] = {}
    for row in (row for row in rows if "counts" in row):
        found.setdefault(row["arm"], {})[row["number"]] = row
    return found


def facts_of(bench: Bench, setting: Setting | None, number: int, kind: str) -> dict:
    """All that the result of one run depends on, JSON-ready; `setting` None is the base itself."""
    sizes = bench.sizes
    asked = {"val": sizes.val, "margins": sizes.val_margins} if kind == SCREENING else {
        "people": bench.fresh, "test": sizes.test, "shifted": sizes.shifted, "margins": sizes.margins,
        "drift": sizes.drift}
    common = bench.facts | {"asked": asked}
    if setting is None:
        return common
    settings = setting.training(number)
    told = {k: v for k, v in asdict(settings).items() if k not in ("recipe", "overrides")}
    recipe = {k: v for k, v in asdict(settings.resolved_recipe()).items() if k != "name"}
    learnt = {"pool": sizes.pool, "pairs": sizes.pairs, "kind": setting.pairs, "evidence": setting.evidence}
    return common | {"settings": told, "recipe": recipe, "learnt": learnt, "number": number}


def name_of(facts: Mapping) -> str:
    """What a run is called."""
    return digest(facts)[:16]


def write(bench: Bench, facts: Mapping, result: Mapping) -> None:
    """Keep a result under OUT, whole or not at all."""
    (bench.out / "runs").mkdir(parents=True, exist_ok=True)
    row = {"name": name_of(facts), "state": bench.state, **result, "made": made()}
    write_text(bench.out / "runs" / f"{row['name']}.json", json.dumps(row) + "\n")


def pack(table: np.ndarray) -> str:
    """Counts (images, COLUMNS) as text: the number of images, the COUNTED columns as bytes, then the MEASURED ones in
    hundredths where something was measured, compressed."""
    parts = [np.array([len(table)], "<u4"), np.stack([table[:, COLUMNS.index(name)] for name in COUNTED]).astype("u1")]
    for name, counter in MEASURED.items():
        values = table[table[:, COLUMNS.index(counter)] > 0, COLUMNS.index(name)]
        parts.append(np.clip(np.round(values * UNIT), -(2**15), 2**15 - 1).astype("<i2"))
    return base64.b85encode(lzma.compress(b"".join(part.tobytes() for part in parts), lzma.FORMAT_ALONE)).decode()


@lru_cache(maxsize=1024)
def unpack(text: str) -> np.ndarray:
    """Counts (images, COLUMNS) from `pack`, read-only; columns that were not kept are 0.

    Which of two margins is the lower one follows from their difference, one record an image; nearer than half a
    hundredth of a nat is a tie."""
    data = lzma.decompress(base64.b85decode(text))
    images, read = int(np.frombuffer(data, "<u4", 1)[0]), 4
    table = np.zeros((images, len(COLUMNS)))
    for name in COUNTED:
        table[:, COLUMNS.index(name)] = np.frombuffer(data, "u1", images, offset=read)
        read += images
    for name, counter in MEASURED.items():
        there = table[:, COLUMNS.index(counter)] > 0
        table[there, COLUMNS.index(name)] = np.frombuffer(data, "<i2", there.sum(), offset=read) / UNIT
        read += 2 * int(there.sum())
    there, gaps = (table[:, COLUMNS.index(name)] for name in ("selectivity_n", "selectivity"))
    table[:, COLUMNS.index("evidence_lower")] = there * (1 + np.sign(gaps)) / 2
    table.flags.writeable = False
    return table


@lru_cache(maxsize=1)
def world_digest() -> str:
    """What the phantom world makes: pixels and words of SHOWN people of each split, one seed. Its code may change."""
    shown = []
    with TemporaryDirectory(prefix="medalign-") as folder:
        plans = ((split, i, DEFAULT_SEED, QUESTIONS, SIZE, Path(folder)) for split in SPLITS for i in range(SHOWN))
        for case in map(make_case, plans):
            words = [(q.id, q.text, q.answer, q.kind, q.topic, q.finding, q.visible) for q in case.questions]
            truth = [(f.finding, f.side, f.zone, f.size, f.visible) for f in case.facts]
            paths = [case.image, case.hidden, *(path for f in case.facts for path in (f.mask, f.removed, f.moved))]
            pixels = [Image.open(Path(folder, path)).tobytes() if path else b"" for path in paths]
            shown.append([case.id, words, truth, [sha256(data).hexdigest() for data in pixels]])
    return digest(shown)[:12]


def made() -> dict:
    """When, where and by which code a result was made, so that a page can say so."""
    return {"day": datetime.now(UTC).date().isoformat(), "machine": machine(), "code": code(), "versions": versions()}


@lru_cache(maxsize=1)
def code() -> str:
    """A digest of the package, without what only shows or runs things."""
    return digest(source_files(None))[:12]


@lru_cache(maxsize=1)
def machine() -> str:
    """The processor's name and the number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
