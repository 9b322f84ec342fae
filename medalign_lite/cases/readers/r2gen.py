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
        entries = annotation.get(split, [])
        place = f"{split} of {FILE}"
        if not isinstance(entries, list):
            yield Draft(place, None, (f"{place} is a JSON {type(entries).__name__}, not a list",))
            continue
        rows = sources.entries_of(Path(place), entries)
        yield from (shared.draft_of(row, _case, split, path.resolve()) for row in rows)


def _case(entry: dict, split: str, folder: Path, remarks: shared.Remarks) -> Case:
    name = sources.safe_id(sources.text_in(entry, "id"))
    views = entry.get("image_path")
    if not isinstance(views, list) or not views or not isinstance(views[0], str):
        raise CaseError(f"image_path must be a list of file names, got {str(views)[:60]!r}")
    remarks.notes += shared.left_out(len(views) - 1, f"study {name}")
    if "subject_id" in entry:  # MIMIC-CXR in this layout names the patient
        group = sources.text_in(entry, "subject_id", number=True)
    else:
        group = name.split("_")[0]  # CXR2384_IM-0942
    return Case(
        id=name, group=group, split=split, image=resolve_inside(folder, f"images/{views[0]}"),
        questions=(shared.report_question(sources.text_in(entry, "report")),), source=LAYOUT, folder=folder,
    )
