"""Data sets in the layouts that they are shared in. `READERS` are asked in their order whether a folder is theirs.

`make cases CASES=path` shows what is read from a folder.
"""

from itertools import chain
from pathlib import Path

from medalign_lite.cases.case import CaseError, CaseSet, Draft
from medalign_lite.cases.collect import collect
from medalign_lite.cases.readers import coco, kit, labels, questions, reports, slake, sources, table
from medalign_lite.cases.readers.sources import Reader

# The table of your own pictures comes last: it also takes a folder of DICOM without any table.
READERS = (
    kit.KIT, slake.SLAKE, questions.VQA_RAD, reports.MS_CXR, reports.MIMIC_CXR, reports.R2GEN, reports.PADCHEST_GR,
    labels.NIH, labels.CHEXPERT, labels.RSNA, labels.VINDR, questions.VQA_MED, questions.CHOICE, coco.COCO,
    reports.OPENI, questions.PARQUET, table.TABLE,
)  # fmt: skip
LOOKS_LIKE_A_LIST = ("*.csv", "*.tsv", "*.xlsx", "*.xls", "*.json", "*.jsonl", "*.parquet")


def detect(path: Path) -> tuple[Reader, str]:
    """The reader for `path` and the sentence that says why; raises CaseError where none fits."""
    if not path.exists():
        raise CaseError(f"{path}: no such file or folder; set CASES= to a case list or data set folder.")
    for reader in READERS:
        if found := reader.lists(path):
            names = [file.name for file in found[:3]]
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            return reader, f"found {', '.join(names)}{more}"
    known = "; ".join(f"{reader.layout} ({reader.needs})" for reader in READERS)
    raise CaseError(f"{path}: no known case layout. Known are {known}. The kit's own is described in cases.py.")


def read_cases(
    path: Path | str, strict: bool = False, *, root: Path | str | None = None, check_files: bool = True, **options
) -> CaseSet:
    """Read every case under `path`, a file or folder in the layout of one of `READERS`.

    A bad case is skipped and a bad question or lesion dropped, each listed with its reason; with `strict` the first
    one raises CaseError. Lists that the layout does not read are named in the notes. `root` is the folder that paths of
    the kit's own list are relative to and may not leave (default: that of the list); layouts whose pictures have to be
    made (DICOM, parquet) write them there and need it. `check_files=False` skips opening images and masks: for files
    that this kit has just rendered. `options` are the reader's own, as `splits="standard"` of VQA-RAD. Raises CaseError
    for an unknown layout, options that it does not have, and where no case is left."""
    path = Path(path)
    reader, reason = detect(path)
    if reader.makes_files and root is None:
        raise CaseError(f"{path} ({reader.layout}): pictures have to be made; say where: read_cases(path, root=folder)")
    if unknown := options.keys() - set(reader.options):
        raise CaseError(f"{reader.layout} has no {', '.join(sorted(unknown)).upper()}=; leave it out")
    drafts = reader.read(path, root=None if root is None else Path(root), **options)
    told, read = f"not read: a list that this layout ({reader.layout}) has not", reader.lists(path)
    unread = [file.name for file in sources.files_at(path, *LOOKS_LIKE_A_LIST) if file not in read]
    everything = chain(drafts, (Draft(name, None, notes=(f"{name} {told}",)) for name in unread))
    return collect(everything, layout=reader.layout, reason=reason, strict=strict, check_files=check_files)
