"""One file per data set layout, loaded by its name when it is used and imported by nobody else. Each has

- `LAYOUT`, its name; `NEEDS`, what it looks for, for the error that no layout fits;
- `MAKES_FILES`: whether its pictures have to be made (DICOM, parquet) and are written to `root`;
- `lists(path)`: the lists and tables of the folder that it would read, none where the layout does not fit;
- `read(path, *, root)`: yields one `cases.Draft` per entry and never raises for a bad one.

`make cases CASES=path` shows what is read from a folder.
"""

from collections.abc import Iterator
from importlib import import_module
from itertools import chain
from pathlib import Path
from types import ModuleType

from medalign_lite.cases.case import CaseError, CaseSet, Draft
from medalign_lite.cases.collect import collect
from medalign_lite.cases.readers import kit, sources  # the kit's own layout is no plug-in

# The order of asking. The table of your own pictures comes last: it also takes a folder of DICOM without any table.
NAMES = ("kit", "slake", "vqa_rad", "ms_cxr", "mimic_cxr", "r2gen", "padchest_gr", "nih", "chexpert", "rsna", "vindr",
         "vqa_med", "choice", "coco", "openi", "parquet", "table")  # fmt: skip
LOOKS_LIKE_A_LIST = ("*.csv", "*.tsv", "*.xlsx", "*.xls", "*.json", "*.jsonl", "*.parquet")


def reader(name: str) -> ModuleType:
    """The reader of that name."""
    return kit if name == "kit" else import_module(f"medalign_lite.cases.readers.{name}")


def detect(path: Path) -> tuple[ModuleType, str]:
    """The reader for `path` and the sentence that says why; raises CaseError where none fits."""
    if not path.exists():
        raise CaseError(f"{path}: no such file or folder; set CASES= to a case list or data set folder.")
    for module in map(reader, NAMES):
        if found := module.lists(path):
            names = [file.name for file in found[:3]]
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            return module, f"found {', '.join(names)}{more}"
    known = "; ".join(f"{module.LAYOUT} ({module.NEEDS})" for module in map(reader, NAMES))
    raise CaseError(f"{path}: no known case layout. Known are {known}. The kit's own is described in cases.py.")


def read_cases(
    path: Path | str, strict: bool = False, *, root: Path | str | None = None, check_files: bool = True, **options
) -> CaseSet:
    """Read every case under `path`, a file or folder in any layout of `medalign_lite.cases.readers`.

    A bad case is skipped and a bad question or lesion dropped, each listed with its reason; with `strict` the first
    one raises CaseError. Lists that the layout does not read are named in the notes. `root` is the folder that paths of
    the kit's own list are relative to and may not leave (default: that of the list); layouts whose pictures have to be
    made (DICOM, parquet) write them there and need it. `check_files=False` skips opening images and masks: for files
    that this kit has just rendered. `options` are the reader's own, as `splits="standard"` of VQA-RAD. Raises CaseError
    for an unknown layout, options that it does not have, and where no case is left."""
    path = Path(path)
    module, reason = detect(path)
    if module.MAKES_FILES and root is None:
        raise CaseError(f"{path} ({module.LAYOUT}): pictures have to be made; say where: read_cases(path, root=folder)")
    if unknown := options.keys() - getattr(module, "OPTIONS", set()):
        raise CaseError(f"{module.LAYOUT} has no {', '.join(sorted(unknown)).upper()}=; leave it out")
    drafts = module.read(path, root=None if root is None else Path(root), **options)
    everything = chain(drafts, _unread(path, module))
    return collect(everything, layout=module.LAYOUT, reason=reason, strict=strict, check_files=check_files)


def _unread(path: Path, module: ModuleType) -> Iterator[Draft]:
    """A note for each list beside those that the layout reads."""
    read = set(module.lists(path))
    for file in sources.files_at(path, *LOOKS_LIKE_A_LIST):
        if file not in read:
            yield Draft(
                file.name, None, notes=(f"{file.name} not read: a list that this layout ({module.LAYOUT}) has not",)
            )
