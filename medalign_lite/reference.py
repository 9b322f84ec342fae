"""The reference's log-probabilities and hidden states, computed once per data set, kept on disk under a verified key.

With its hidden states kept, the exact full-vocabulary KL needs the output head alone: training runs no reference
forward. One safetensors file per (image, answer) side, so that recipes which read the same sides share it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from medalign_lite.lvlm import Lvlm, base_of
from medalign_lite.pairs import Pair, PairInputs, Row
from medalign_lite.prefix import Batch
from medalign_lite.recipes import EVERYWHERE, NOWHERE, Reads
from medalign_lite.scoring import LiveReference, Reference, rows_of


class ReferenceMismatch(ValueError):
    """Cached reference values were made from another model, processor, text or image."""


class ReferenceCache:
    """Reference values of every row of a data set, by side; a `ReferenceSource` for `scoring.score`."""

    def __init__(self, lvlm: Lvlm, inputs: PairInputs, folder: Path):
        self.lvlm, self.inputs, self.folder = lvlm, inputs, Path(folder)
        self._rows: dict[tuple[str, str, str], Reference] = {}

    def fill(self, pairs: Sequence[Pair], sides: Mapping[tuple[str, str], Reads], *, name: str, batch_size: int = 16,
             progress=None) -> None:
        """Load or compute the sides of `pairs`; `name` tells data sets apart, and `progress(n)` counts rows done.

        Hidden states are kept (float32) for sides where F and R are read. Raises ReferenceMismatch where a file was
        made from other things than these.
        """
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
            hidden = kept.hidden.to(self.lvlm.device) if any(read.kl) else None
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
            tensors["hidden"] = torch.cat([r.hidden for r in found]).float().cpu()
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        save_file(tensors, partial, metadata={"key": json.dumps(self._key(rows))})
        partial.replace(path)

    def _load(self, path: Path, rows: Sequence[Row]) -> None:
        with safe_open(path, framework="pt") as file:
            made_from = json.loads((file.metadata() or {}).get("key", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        different = [name for name, value in self._key(rows).items() if made_from.get(name) != value]
        if different:
            raise ReferenceMismatch(
                f"{path} was made from another {' and another '.join(different)}; delete it to compute it again, "
                "or name another folder"
            )
        counts = tensors["tokens"].tolist()
        hidden = tensors["hidden"].split(counts) if "hidden" in tensors else [None] * len(counts)
        for row, logp, states in zip(rows, tensors["logp"].split(counts), hidden, strict=True):
            self._rows[row.pair.id, row.image, row.answer] = Reference(logp, states)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
