"""One file per data set layout, each with the same few names:

- `LAYOUT`, its name; `NEEDS`, what it looks for, for the error that no layout fits;
- `MAKES_FILES`: whether its pictures have to be made (DICOM, parquet) and are written to `root`;
- `detect(path)`: why `path` has this layout, or None;
- `read(path, *, root)`: yields one `cases.Draft` per entry and never raises for a bad one.

`make cases CASES=path` shows what is read from a folder.
"""

from pathlib import Path
from types import ModuleType

from medalign_lite.cases.case import CaseError, CaseSet, collect
from medalign_lite.cases.readers import coco, kit, mimic_cxr, nih, openi, parquet, r2gen, slake, table, vindr, vqa_rad

# The order of asking. The table of your own pictures comes last: it also takes a folder of DICOM without any table.
READERS = (kit, slake, vqa_rad, mimic_cxr, r2gen, nih, vindr, coco, openi, parquet, table)


def detect(path: Path) -> tuple[ModuleType, str]:
    """The reader for `path` and the sentence that says why; raises CaseError where none fits."""
    if not path.exists():
        raise CaseError(f"{path}: no such file or folder; set CASES= to a case list or data set folder.")
    for reader in READERS:
        reason = reader.detect(path)
        if reason is not None:
            return reader, reason
    known = "; ".join(f"{reader.LAYOUT} ({reader.NEEDS})" for reader in READERS)
    raise CaseError(f"{path}: no known case layout. Known are {known}. The kit's own is described in cases.py.")


def read_cases(
    path: Path | str, strict: bool = False, *, root: Path | str | None = None, check_files: bool = True, **options
) -> CaseSet:
    """Read every case under `path`, a file or folder in any layout of `medalign_lite.cases.readers`.

    A bad case is skipped and a bad question or lesion dropped, each listed with its reason; with `strict` the first
    one raises CaseError. `root` is the folder that paths are relative to and may not leave (default: that of the
    list); layouts whose pictures have to be made (DICOM, parquet) write them there and need it. `check_files=False`
    skips opening images and masks: for files that this kit has just rendered. `options` are the reader's own, as
    `splits="standard"` of VQA-RAD. Raises CaseError for an unknown layout and where no case is left.
    """
    path = Path(path)
    module, reason = detect(path)
    if module.MAKES_FILES and root is None:
        raise CaseError(f"{path} ({module.LAYOUT}): pictures have to be made; say where: read_cases(path, root=folder)")
    drafts = module.read(path, root=None if root is None else Path(root), **options)
    return collect(drafts, layout=module.LAYOUT, reason=reason, strict=strict, check_files=check_files)
