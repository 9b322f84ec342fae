"""VinDr-CXR (Nguyen et al. 2022): a table with a row a box and radiologist, and the images as DICOM, PNG or JPEG.

A finding counts as present where two radiologists marked it (in the consensus table, which names none: where it is
listed); where one did, it is neither asked about nor a lesion. Boxes are corners in pixels of the original image, so
pictures must have its size. Patients are not told: an image is a group.
"""

from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft, Lesion
from medalign_lite.cases.images import ImageError
from medalign_lite.cases.pictures import save_picture
from medalign_lite.cases.readers.entries import (
    Remarks,
    choose_absent,
    draft,
    first_bytes,
    presence_questions,
    safe_id,
)
from medalign_lite.cases.readers.tables import number_in, rows_of

LAYOUT = "VinDr-CXR"
NEEDS = "a folder with a CSV of columns image_id, class_name, x_min, y_min, x_max and y_max, and the images below it"
MAKES_FILES = True
COLUMNS = ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max")
SUFFIXES = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")
NO_FINDING = "No finding"
NOT_ASKED = ("Other lesion", "Other disease", "Other diseases")
AGREED = 2  # radiologists


def detect(path: Path) -> str | None:
    """Why `path` is in this layout, or None."""
    files = _tables(path)
    return f"the folder holds {files[0].name} with image_id, class_name and corners of boxes" if files else None


def read(path: Path, *, root: Path) -> Iterator[Draft]:
    """One Draft per image of the tables; pictures are written to `root`/images."""
    root = root.resolve()
    marked: dict[str, tuple[str, list[tuple[str, dict]]]] = {}
    for table in _tables(path):
        split = "test" if "test" in table.stem else "train"
        for place, row, fault in rows_of(table, COLUMNS):
            try:
                if row is None:
                    raise CaseError(fault)
                name = safe_id(row["image_id"])
            except CaseError as error:
                yield Draft(place, None, (str(error),))
                continue
            marked.setdefault(name, (split, []))[1].append((place, row))
    known = sorted({row["class_name"] for _, rows in marked.values() for _, row in rows} - {NO_FINDING, "", *NOT_ASKED})
    files = {file.stem: file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES}
    for name, (split, rows) in marked.items():
        yield draft(name, _case, name, split, rows, known, files, root)


def _tables(path: Path) -> list[Path]:
    found = sorted([*path.glob("*.csv"), *path.glob("annotations/*.csv")]) if path.is_dir() else []
    return [file for file in found if set(COLUMNS) <= set(_header(file))]


def _header(file: Path) -> list[str]:
    line = first_bytes(file, 2**16).removeprefix(b"\xef\xbb\xbf").split(b"\n")[0].decode("utf-8", errors="replace")
    return [name.strip().strip('"') for name in line.split(",")]


def _case(
    name: str,
    split: str,
    rows: list[tuple[str, dict]],
    known: list[str],
    files: dict[str, Path],
    root: Path,
    remarks: Remarks,
) -> Case:
    if name not in files:
        raise CaseError(f"no such image file: {name} with {', '.join(SUFFIXES)} is nowhere below the folder")
    try:
        picture = save_picture(files[name], root / "images")
    except ImageError as error:
        raise CaseError(str(error)) from error
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
                left, top, right, bottom = (number_in(row, key) for key in COLUMNS[2:])
                lesions.append(Lesion(row["class_name"], (left, top, right - left, bottom - top)))
            except CaseError as error:
                remarks.faults.append(f"lesion of {place} dropped: {error}")
    present = sorted(agreed - {*NOT_ASKED})
    absent = choose_absent(name, [label for label in known if label not in found], present)
    return Case(
        id=name,
        group=name,
        split=split,
        image=picture.path,
        questions=tuple(presence_questions(present, absent)),
        lesions=tuple(lesions),
        source=LAYOUT,
        folder=root,
    )
