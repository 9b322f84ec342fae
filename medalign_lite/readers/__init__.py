"""One file per data set layout. Each has LAYOUT (its name), `detect(path)` and `read(path, *, root)`.

`detect` returns why the path has this layout, or None; `read` yields one `cases.Draft` per entry and never raises
for a bad entry.
"""

from pathlib import Path
from types import ModuleType

from medalign_lite.cases import CaseError
from medalign_lite.readers import kit, slake

READERS = (kit, slake)


def detect(path: Path) -> tuple[ModuleType, str]:
    """The reader for `path` and the sentence that says why; raises CaseError where none fits."""
    if not path.exists():
        raise CaseError(f"{path}: no such file or folder; set CASES= to a case list or data set folder.")
    for reader in READERS:
        reason = reader.detect(path)
        if reason is not None:
            return reader, f"{reader.LAYOUT}: {reason}"
    known = "; ".join(f"{reader.LAYOUT} ({reader.NEEDS})" for reader in READERS)
    raise CaseError(f"{path}: no known case layout. Known are {known}. The kit's own is described in cases.py.")
