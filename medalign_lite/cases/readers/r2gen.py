"""Reports in R2Gen's layout (Chen et al. 2020), as IU X-ray is shared: annotation.json and images/.

The list has an entry a study: `id`, `report`, and `image_path` with one or two views. A case is one image, so the first
view (frontal, by the data set's order) is read and the others are counted.
"""

from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft, resolve_inside
from medalign_lite.cases.readers import shared, sources

LAYOUT = "IU X-ray (R2Gen)"
NEEDS = "a folder that holds annotation.json with train, val and test, beside images/"
MAKES_FILES = False
FILE = "annotation.json"
SPLITS = ("test", "val", "train")


def lists(path: Path) -> list[Path]:
    """The one list."""
    return sources.files_at(path, FILE)


def read(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per study."""
    try:
        annotation = sources.load_list(path / FILE, dict)
    except CaseError as error:
        yield Draft(FILE, None, (str(error),))
        return
    for split in SPLITS:
        for place, entry, fault in sources.entries_of(
            Path(f"{split} of {FILE}"), lambda split=split: _list(annotation, split)
        ):
            if entry is None:
                yield Draft(place, None, (fault,))
            else:
                yield shared.draft(place, _case, entry, split, path.resolve())


def _list(annotation: dict, split: str) -> list:
    entries = annotation.get(split, [])
    if not isinstance(entries, list):
        raise CaseError(f"{split} of {FILE} is a JSON {type(entries).__name__}, not a list")
    return entries


def _case(entry: dict, split: str, folder: Path, remarks: shared.Remarks) -> Case:
    name = sources.safe_id(sources.text_in(entry, "id"))
    views = entry.get("image_path")
    if not isinstance(views, list) or not views or not isinstance(views[0], str):
        raise CaseError(f"image_path must be a list of file names, got {str(views)[:60]!r}")
    if len(views) > 1:
        remarks.notes.append(
            f"{len(views) - 1} more of study {name} left out: a case is one image, the study's first view"
        )
    if "subject_id" in entry:  # MIMIC-CXR in this layout names the patient
        group = sources.text_in(entry, "subject_id", number=True)
    else:
        group = name.split("_")[0]  # CXR2384_IM-0942
    return Case(
        id=name, group=group, split=split, image=resolve_inside(folder, f"images/{views[0]}"),
        questions=(shared.report_question(sources.text_in(entry, "report")),), source=LAYOUT, folder=folder,
    )
