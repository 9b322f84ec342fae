"""RSNA Pneumonia Detection (Shih et al. 2019): stage_2_train_labels.csv with boxes, DICOM images named by patientId.

A row is one box of an image, or says by Target 0 that it has none. The question is for lung opacity, boxes
[x, y, width, height] are lesions. There is no split.
"""

from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft, Lesion
from medalign_lite.cases.pictures import save_picture
from medalign_lite.cases.readers import shared, sources

LAYOUT = "RSNA Pneumonia Detection"
NEEDS = "a folder that holds stage_2_train_labels.csv and the DICOM images below it"
MAKES_FILES = True
BOX = ("x", "y", "width", "height")
COLUMNS = ("patientId", *BOX, "Target")
LABEL = "Lung opacity"


def lists(path: Path) -> list[Path]:
    """The table of boxes."""
    return sources.tables_with(COLUMNS, path, "*labels*.csv")[:1]


def read(path: Path, *, root: Path) -> Iterator[Draft]:
    """One Draft per image; pictures are written to `root`/images."""
    folder = path.resolve()
    images, faults = shared.grouped(
        sources.rows_of(lists(folder)[0], COLUMNS), lambda row: sources.safe_id(row["patientId"])
    )
    yield from faults
    files = sources.pictures_below(folder, (".dcm", ".dicom"))
    for name, rows in images.items():
        found = shared.files_named(files, name, (".dcm", ".dicom"))
        yield shared.draft(name, _case, name, rows, found, folder, root.resolve())


def _case(
    name: str, rows: list[tuple[str, dict]], files: list[Path], folder: Path, root: Path, remarks: shared.Remarks
) -> Case:
    targets = {row["Target"] for _, row in rows}
    if targets not in ({"0"}, {"1"}):
        raise CaseError(f"Target is {', '.join(sorted(targets))[:60]!r}; 0 or 1 is read, one an image")
    picture = save_picture(sources.the_one(folder, files, name), root / "images")
    remarks.notes += picture.notes
    lesions = []
    for place, row in rows if targets == {"1"} else ():
        try:
            lesions.append(Lesion(LABEL, tuple(sources.number_in(row, key) for key in BOX)))
        except CaseError as error:
            remarks.faults.append(f"box of {place} dropped: {error}")
    present = [LABEL] if targets == {"1"} else []
    questions = shared.presence_questions(present, [] if present else [LABEL])
    return Case(name, name, "train", picture.path, tuple(questions), None, tuple(lesions), None, LAYOUT, root)
