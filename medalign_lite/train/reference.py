"""The reference's log-probabilities and hidden states, computed once per data set, kept on disk under a verified key.

With its hidden states kept, the exact full-vocabulary KL needs the output head alone: training runs no reference
forward. One safetensors file per (image, answer) side, so that recipes which read the same sides share it; hidden
states stay in the file, and a batch reads those of its own rows.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from medalign_lite.files import whole
from medalign_lite.losses.recipes import EVERYWHERE, NOWHERE, Reads
from medalign_lite.model.lvlm import Lvlm, base_of
from medalign_lite.train.pairs import Pair, PairInputs, Row
from medalign_lite.train.prefix import Batch
from medalign_lite.train.scoring import LiveReference, Reference, rows_of


class ReferenceMismatch(ValueError):
    """Cached reference values were made from another model, processor, text or image."""


class ReferenceCache:
    """Reference values of every row of a data set, by side; a `ReferenceSource` for `scoring.score`."""

    def __init__(self, lvlm: Lvlm, inputs: PairInputs, folder: Path):
        self.lvlm, self.inputs, self.folder = lvlm, inputs, Path(folder)
        self._rows: dict[tuple[str, str, str], _Kept] = {}

    def fill(self, pairs: Sequence[Pair], sides: Mapping[tuple[str, str], Reads], *, name: str, batch_size: int = 16,
             progress=None) -> None:
        """Load or compute the sides of `pairs`; `name` tells data sets apart, and `progress(n)` counts rows done.
        Hidden states are kept, as the model makes them, for sides where F and R are read. Raises ReferenceMismatch
        where a file was made from other things than these."""
        for (image, answer), read in sides.items():
            rows, hidden = [row for _, row in rows_of(pairs, {(image, answer): read})], any(read.kl)
            path, fuller = (self.folder / f"{name}-{image}-{answer}{end}.safetensors" for end in ("", "-hidden"))
            path = fuller if hidden or fuller.exists() else path
            if rows and not path.exists():
                self._write(path, rows, hidden=hidden, batch_size=batch_size, progress=progress)
            elif rows and progress:
                progress(len(rows))
            if rows:
                self._load(path, rows)

    def read(self, rows: Sequence[Row], batch: Batch, reads: Sequence[Reads]) -> list[Reference]:
        """Reference values of each row, on the model's device. Raises KeyError for a row that `fill` has not seen."""
        found = []
        for row, read in zip(rows, reads, strict=True):
            kept = self._rows[row.pair.id, row.image, row.answer]
            hidden = kept.hidden().to(self.lvlm.device) if any(read.kl) else None
            found.append(Reference(kept.logp.to(self.lvlm.device), hidden))
        return found

    def _key(self, rows: Sequence[Row]) -> dict[str, str]:
        """What the values depend on: model revision and dtype, image processor, record ids, token ids and pixels."""
        texts = "".join(f"{row.pair.id} {self.inputs.fingerprint(row)} " for row in rows)
        return {
            "model": f"{self.lvlm.name} {self.lvlm.revision}",
            "dtype": f"{base_of(self.lvlm.model).dtype}, 4-bit layers {self.lvlm.four_bit}",
            "processor": _digest(self.lvlm.processor.image_processor.to_json_string()),
            "records, token ids and images": _digest(texts),
        }

    def _write(self, path: Path, rows: Sequence[Row], *, hidden: bool, batch_size: int, progress) -> None:
        live, found, read = LiveReference(self.lvlm.model), [], Reads(kl=EVERYWHERE if hidden else NOWHERE)
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            found += live.read(batch, self.inputs.batch(batch), [read] * len(batch))
            if progress:
                progress(len(batch))
        logp = [values.logp for values in found]
        tensors = {"logp": torch.cat(logp).cpu(), "tokens": torch.tensor([len(values) for values in logp])}
        if hidden:
            tensors["hidden"] = torch.cat([r.hidden for r in found]).cpu()
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole(path) as part:
            save_file(tensors, part, metadata={"key": json.dumps(self._key(rows))})

    def _load(self, path: Path, rows: Sequence[Row]) -> None:
        file = safe_open(path, framework="pt")  # stays open for as long as its rows are read
        made_from = json.loads((file.metadata() or {}).get("key", "{}"))
        different = [name for name, value in self._key(rows).items() if made_from.get(name) != value]
        if different:
            raise ReferenceMismatch(f"{path} was made from another {' and another '.join(different)}; delete it to "
                                    "compute it again, or name another folder")
        counts, start = file.get_tensor("tokens").tolist(), 0
        for row, logp in zip(rows, file.get_tensor("logp").split(counts), strict=True):
            self._rows[row.pair.id, row.image, row.answer] = _Kept(logp, file, start)
            start += len(logp)


@dataclass(frozen=True)
class _Kept:
    """One row's log p (n,), and where its hidden states begin in the file."""

    logp: torch.Tensor
    file: safe_open
    start: int

    def hidden(self) -> torch.Tensor:
        """(n, D), read from the file."""
        return self.file.get_slice("hidden")[self.start : self.start + len(self.logp)]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
