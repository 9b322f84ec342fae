"""VinDr-CXR (Nguyen et al. 2022): a table with a row a box and radiologist, and the images as DICOM, PNG or JPEG.

A finding counts as present where two radiologists marked it (in the consensus table, which names none: where it is
listed); where one did, it is neither asked about nor a lesion. Boxes are corners in pixels of the original image, so
pictures must have its size. Patients are not told: an image is a group.
"""

from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft, Lesion
from medalign_lite.cases.pictures import save_picture
from medalign_lite.cases.readers import shared, sources

LAYOUT = "VinDr-CXR"
NEEDS = "a folder with a CSV of columns image_id, class_name, x_min, y_min, x_max and y_max, and the images below it"
MAKES_FILES = True
COLUMNS = ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max")
SUFFIXES = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")
NO_FINDING = "No finding"
NOT_ASKED = ("Other lesion", "Other disease", "Other diseases")
AGREED = 2  # radiologists


def lists(path: Path) -> list[Path]:
    """The tables of boxes."""
    return sources.tables_with(COLUMNS, path, "*.csv", "annotations/*.csv")


def read(path: Path, *, root: Path) -> Iterator[Draft]:
    """One Draft per image of the tables; pictures are written to `root`/images."""
    folder, marked = path.resolve(), {}
    for table in lists(folder):
        found, faults = shared.grouped(
            sources.rows_of(table, COLUMNS, optional=("rad_id",)), lambda row: sources.safe_id(row["image_id"])
        )
        yield from faults
        for name, rows in found.items():
            marked.setdefault(name, ("test" if "test" in table.stem else "train", []))[1].extend(rows)
    known = sorted({row["class_name"] for _, rows in marked.values() for _, row in rows} - {NO_FINDING, "", *NOT_ASKED})
    files = sources.pictures_below(folder, SUFFIXES)
    for name, (split, rows) in marked.items():
        images = shared.files_named(files, name, SUFFIXES)
        yield shared.draft(name, _case, name, split, rows, known, images, folder, root.resolve())


def _case(
    name: str, split: str, rows: list[tuple[str, dict]], known: list[str], images: list[Path], folder: Path, root: Path,
    remarks: shared.Remarks,
) -> Case:
    picture = save_picture(sources.the_one(folder, images, name), root / "images")
    remarks.notes += picture.notes
    readers: dict[str, set[str]] = {}
    for place, row in rows:
        if not row["class_name"]:
            raise CaseError(f"{place} names no class: what is in the image is in doubt")
        readers.setdefault(row["class_name"], set()).add(row.get("rad_id") or "consensus")
    found = {label for label in readers if label != NO_FINDING}
    agreed = {label for label in found if len(readers[label]) >= AGREED or "consensus" in readers[label]}
    remarks.notes += [
        f"{label} of {name} not asked: one radiologist only marked it" for label in sorted(found - agreed)
    ]
    lesions = []
    for place, row in rows:
        if row["class_name"] in agreed:
            try:
                left, top, right, bottom = (sources.number_in(row, key) for key in COLUMNS[2:])
                lesions.append(Lesion(row["class_name"], (left, top, right - left, bottom - top)))
            except CaseError as error:
                remarks.faults.append(f"lesion of {place} dropped: {error}")
    present = sorted(agreed - {*NOT_ASKED})
    absent = shared.choose_absent(name, [label for label in known if label not in found], present)
    return Case(
        id=name, group=name, split=split, image=picture.path,
        questions=tuple(shared.presence_questions(present, absent)), lesions=tuple(lesions), source=LAYOUT, folder=root,
    )
