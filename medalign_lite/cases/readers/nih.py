"""NIH ChestX-ray14 (Wang et al. 2017): Data_Entry_2017.csv, BBox_List_2017.csv and the PNG images.

Questions ask for the labels of Data_Entry (mined from reports by the data set's authors, so sometimes wrong): those it
lists, and as many that it does not. Boxes [x, y, width, height] are lesions. Groups are patients.
"""

from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft, Lesion, resolve_inside
from medalign_lite.cases.readers.entries import (
    Remarks,
    choose_absent,
    draft,
    file_name_in,
    presence_questions,
    safe_id,
)
from medalign_lite.cases.readers.tables import number_in, rows_of

LAYOUT = "NIH ChestX-ray14"
NEEDS = "a folder that holds BBox_List_2017.csv or Data_Entry_2017.csv, and the images somewhere below it"
MAKES_FILES = False
NAME, LABELS, PATIENT = "Image Index", "Finding Labels", "Patient ID"
BOX_LABEL, BOX = "Finding Label", ("Bbox [x", "y", "w", "h]")
OBSERVATIONS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia",
    "Infiltration", "Mass", "Nodule", "Pleural Thickening", "Pneumonia", "Pneumothorax",
)  # fmt: skip
SPELLED = {"Pleural_Thickening": "Pleural Thickening", "Infiltrate": "Infiltration"}
TEST_LIST = "test_list.txt"


def detect(path: Path) -> str | None:
    """Why `path` is in this layout, or None."""
    files = [file.name for file in (_table(path, "BBox_List"), _table(path, "Data_Entry")) if file]
    return f"the folder holds {' and '.join(files)}" if files else None


def read(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per image that a table names, and one per table that cannot be read."""
    folder = (root or path).resolve()
    entries: dict[str, dict] = {}
    boxes: dict[str, list[tuple[str, dict]]] = {}
    for start, needed in (("Data_Entry", (NAME, LABELS)), ("BBox_List", (NAME, BOX_LABEL, *BOX))):
        file = _table(path, start)
        for place, row, fault in rows_of(file, needed) if file else ():
            try:
                if row is None:
                    raise CaseError(fault)
                name = file_name_in(row, NAME)
            except CaseError as error:
                yield Draft(place, None, (str(error),))
                continue
            if start == "BBox_List":
                boxes.setdefault(name, []).append((place, row))
            elif name in entries:
                yield Draft(place, None, (f"{name} was listed before; the first row is kept",))
            else:
                entries[name] = row
    images = {file.name: file for file in sorted(path.rglob("*.png"))}
    held_out = _names(path / TEST_LIST)
    for name in {**entries, **boxes}:
        split = "test" if name in held_out else "train"
        yield draft(name, _case, name, split, entries.get(name), boxes.get(name, []), images, folder)


def _table(path: Path, start: str) -> Path | None:
    return next(iter(sorted(path.glob(f"{start}*.csv"))), None)


def _names(path: Path) -> set[str]:
    return set(path.read_text(encoding="utf-8", errors="replace").split()) if path.is_file() else set()


def _case(
    name: str,
    split: str,
    entry: dict | None,
    rows: list[tuple[str, dict]],
    images: dict[str, Path],
    folder: Path,
    remarks: Remarks,
) -> Case:
    if name not in images:
        raise CaseError(f"no such image file: {name} is nowhere below the folder")
    lesions = []
    for place, row in rows:
        try:
            lesions.append(Lesion(_observation(row[BOX_LABEL]), tuple(number_in(row, key) for key in BOX)))
        except CaseError as error:
            remarks.faults.append(f"lesion of {place} dropped: {error}")
    present = [lesion.label for lesion in lesions]
    listed = [] if entry is None else [label for label in entry[LABELS].split("|") if label != "No Finding"]
    for label in listed:
        try:
            present.append(_observation(label))
        except CaseError as error:
            remarks.faults.append(f"label dropped: {error}")
    present = list(dict.fromkeys(present))
    if entry is not None and not entry[LABELS]:
        raise CaseError(f"{LABELS} is empty; a picture without findings says No Finding")
    absent = [] if entry is None or remarks.faults else choose_absent(name, OBSERVATIONS, present)
    return Case(
        id=safe_id(Path(name).stem),
        group=(entry or {}).get(PATIENT) or name.split("_")[0],
        split=split,
        image=resolve_inside(folder, str(images[name].absolute())),
        questions=tuple(presence_questions(present, absent)),
        lesions=tuple(lesions),
        source=LAYOUT,
        folder=folder,
    )


def _observation(label: str) -> str:
    label = SPELLED.get(label, label)
    if label not in OBSERVATIONS:
        raise CaseError(f"{label!r} is none of the data set's labels")
    return label
