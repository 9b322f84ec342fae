"""Chest radiographs with labels and boxes in tables: labels are questions for what is there, boxes are lesions
(docs/DATA.md: what is read).

CheXpert (Irvin et al. 2019): frontal views are cases.

NIH ChestX-ray14 (Wang et al. 2017): labels were mined from reports by the data set's authors, so they are sometimes
wrong; asked are those listed, and as many that are not.

RSNA Pneumonia Detection (Shih et al. 2019): DICOM images named by patientId. A row is one box of an image, or says by
Target 0 that it has none. There is no split.

VinDr-CXR (Nguyen et al. 2022): a row a box and radiologist. A finding counts as present where two radiologists marked
it (in the consensus table, which names none: where it is listed); where one did, it is neither asked about nor a
lesion. Boxes are corners in pixels of the original image, so pictures must have its size. Patients are not told.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from medalign_lite.cases.case import Case, CaseError, Draft, Lesion, kept, resolve_inside
from medalign_lite.cases.pictures import DICOM, save_picture
from medalign_lite.cases.readers import shared, sources
from medalign_lite.cases.readers.sources import Reader

Rows = list[tuple[str, dict]]  # place, row

CHEXPERT_LABELS = (
    "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
    "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
CHEXPERT_COLUMNS = ("Path", "Cardiomegaly", "Pleural Effusion")
VIEW = "Frontal/Lateral"


def read_chexpert(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per row."""
    folder = path.resolve()
    for file in CHEXPERT.lists(folder):
        for place, row, fault in sources.rows_of(file, CHEXPERT_COLUMNS, optional=(VIEW, *CHEXPERT_LABELS)):
            if row and (row.get(VIEW) == "Lateral" or "lateral" in row["Path"].rsplit("/")[-1]):
                yield Draft(place, None, notes=(f"{place} left out: a lateral view",))
            else:
                yield shared.draft_of((place, row, fault), _chexpert, shared.split_named(file.stem), folder)


def _chexpert(row: dict, split: str, folder: Path, remarks: shared.Remarks) -> Case:
    parts = PurePosixPath(sources.text_in(row, "Path").replace("\\", "/")).parts
    patient = next((part for part in parts if re.fullmatch(r"patient\d+", part)), None)
    if patient is None:
        raise CaseError(f"Path {row['Path'][:80]!r} names no patient")
    places = [resolve_inside(folder, "/".join(parts[n:])) for n in (0, 1)]  # as written, or below its first folder
    found = [place for place in dict.fromkeys(places) if place.is_file()]
    if len(found) != 1:
        shown = row["Path"][:120]
        raise CaseError(f"{shown} fits two files" if found else f"no such image file: {shown}")
    questions = shared.label_questions({name: row.get(name, "") for name in CHEXPERT_LABELS})
    name = sources.safe_id("-".join([*parts[parts.index(patient) : -1], PurePosixPath(parts[-1]).stem]))
    return Case(name, patient, split, found[0], tuple(questions), source=CHEXPERT.layout, folder=folder)


CHEXPERT = Reader(
    "CheXpert", "a folder that holds train.csv or valid.csv with columns Path, Cardiomegaly, Pleural Effusion, ...",
    lambda path: sources.tables_with(CHEXPERT_COLUMNS, path, "*.csv"), read_chexpert,
)  # fmt: skip


NAME, LABELS, PATIENT = "Image Index", "Finding Labels", "Patient ID"
BOX_LABEL, NIH_BOX = "Finding Label", ("Bbox [x", "y", "w", "h]")
NIH_LABELS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia",
    "Infiltration", "Mass", "Nodule", "Pleural Thickening", "Pneumonia", "Pneumothorax",
)  # fmt: skip
SPELLED = {"Pleural_Thickening": "Pleural Thickening", "Infiltrate": "Infiltration"}


def nih_lists(path: Path) -> list[Path]:
    """The table of labels and the one of boxes, the first of each."""
    labels = sources.files_at(path, "Data_Entry*.csv")
    labels = labels or sources.files_at(path, "sample_labels.csv", "*/sample_labels.csv")
    return labels[:1] + sources.files_at(path, "BBox_List*.csv")[:1]


def read_nih(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per image that a table names, and one per row or table that cannot be read."""
    folder, entries, boxes = path.resolve(), {}, {}
    for file in nih_lists(folder):
        boxed = file.name.startswith("BBox")
        rows = sources.rows_of(file, (NAME, BOX_LABEL, *NIH_BOX) if boxed else (NAME, LABELS))
        found, faults = shared.grouped(rows, lambda row: sources.file_name_in(row, NAME))
        yield from faults
        if boxed:
            boxes = found
            continue
        for name, (first, *others) in found.items():
            entries[name] = first[1]
            for place, _ in others:
                yield Draft(place, None, (f"{name} was listed before; the first row is kept",))
    images, test_list = sources.pictures_below(folder, (".png",)), folder / "test_list.txt"
    listed = sources.content_of(test_list) if test_list.is_file() else b""
    held_out = set(listed.decode(errors="replace").split())
    for name in {**entries, **boxes}:
        split = "test" if name in held_out else "train"
        yield shared.draft(name, _nih, name, split, entries.get(name), boxes.get(name, []), images, folder)


def _nih(name: str, split: str, entry: dict | None, rows: Rows, images, folder: Path, remarks: shared.Remarks) -> Case:
    image = sources.picture_named(folder, images, name)
    lesions = kept(((f"lesion of {place}", row) for place, row in rows), _nih_lesion, remarks.faults)
    if entry is not None and not entry[LABELS]:
        raise CaseError(f"{LABELS} is empty; a picture without findings says No Finding")
    stated = [] if entry is None else [label for label in entry[LABELS].split("|") if label != "No Finding"]
    labels = kept((("label", label) for label in stated), _nih_label, remarks.faults)
    present = list(dict.fromkeys([*(lesion.label for lesion in lesions), *labels]))
    absent = [] if entry is None or remarks.faults else shared.choose_absent(name, NIH_LABELS, present)
    return Case(
        id=sources.safe_id(Path(name).stem), group=(entry or {}).get(PATIENT) or name.split("_")[0], split=split,
        image=image, questions=tuple(shared.presence_questions(present, absent)), lesions=tuple(lesions),
        source=NIH.layout, folder=folder,
    )


def _nih_lesion(row: dict) -> Lesion:
    return Lesion(_nih_label(row[BOX_LABEL]), sources.box_in(row, NIH_BOX))


def _nih_label(label: str) -> str:
    label = SPELLED.get(label, label)
    if label not in NIH_LABELS:
        raise CaseError(f"{label[:60]!r} is none of the data set's labels")
    return label


NIH = Reader(
    "NIH ChestX-ray14", "a folder with BBox_List_2017.csv, Data_Entry_2017.csv or sample_labels.csv, and the images "
    "somewhere below it", nih_lists, read_nih,
)  # fmt: skip


RSNA_BOX = ("x", "y", "width", "height")
RSNA_COLUMNS = ("patientId", *RSNA_BOX, "Target")
OPACITY = "Lung opacity"


def read_rsna(path: Path, *, root: Path) -> Iterator[Draft]:
    """One Draft per image; pictures are written to `root`/images."""
    folder = path.resolve()
    rows = sources.rows_of(RSNA.lists(folder)[0], RSNA_COLUMNS)
    images, faults = shared.grouped(rows, lambda row: sources.safe_id(row["patientId"]))
    yield from faults
    files = sources.pictures_below(folder, DICOM)
    for name, rows in images.items():
        yield shared.draft(name, _rsna, name, rows, files, folder, root.resolve())


def _rsna(name: str, rows: Rows, files, folder: Path, root: Path, remarks: shared.Remarks) -> Case:
    targets = {row["Target"] for _, row in rows}
    if targets not in ({"0"}, {"1"}):
        raise CaseError(f"Target is {', '.join(sorted(targets))[:60]!r}; 0 or 1 is read, one an image")
    picture = save_picture(sources.picture_named(folder, files, name, DICOM), root / "images")
    remarks.notes += picture.notes
    there = targets == {"1"}
    named = ((f"box of {place}", row) for place, row in rows if there)
    boxes = kept(named, lambda row: sources.box_in(row, RSNA_BOX), remarks.faults)
    questions = shared.presence_questions([OPACITY] if there else [], [] if there else [OPACITY])
    lesions = tuple(Lesion(OPACITY, box) for box in boxes)
    return Case(name, name, "train", picture.path, tuple(questions), None, lesions, None, RSNA.layout, root)


RSNA = Reader(
    "RSNA Pneumonia Detection", "a folder that holds stage_2_train_labels.csv and the DICOM images below it",
    lambda path: sources.tables_with(RSNA_COLUMNS, path, "*labels*.csv")[:1], read_rsna, makes_files=True,
)  # fmt: skip


VINDR_COLUMNS = ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max")
VINDR_SUFFIXES = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")
NO_FINDING = "No finding"
NOT_ASKED = ("Other lesion", "Other disease", "Other diseases")
AGREED = 2  # radiologists


def read_vindr(path: Path, *, root: Path) -> Iterator[Draft]:
    """One Draft per image of the tables; pictures are written to `root`/images."""
    folder, marked = path.resolve(), {}
    for table in VINDR.lists(folder):
        rows = sources.rows_of(table, VINDR_COLUMNS, optional=("rad_id",))
        found, faults = shared.grouped(rows, lambda row: sources.safe_id(row["image_id"]))
        yield from faults
        for name, rows in found.items():
            marked.setdefault(name, ("test" if "test" in table.stem else "train", []))[1].extend(rows)
    known = sorted({row["class_name"] for _, rows in marked.values() for _, row in rows} - {NO_FINDING, "", *NOT_ASKED})
    files = sources.pictures_below(folder, VINDR_SUFFIXES)
    for name, (split, rows) in marked.items():
        yield shared.draft(name, _vindr, name, split, rows, known, files, folder, root.resolve())


def _vindr(
    name: str, split: str, rows: Rows, known: list[str], files, folder: Path, root: Path, remarks: shared.Remarks
) -> Case:
    picture = save_picture(sources.picture_named(folder, files, name, VINDR_SUFFIXES), root / "images")
    remarks.notes += picture.notes
    readers: dict[str, set[str]] = {}
    for place, row in rows:
        if not row["class_name"]:
            raise CaseError(f"{place} names no class: what is in the image is in doubt")
        readers.setdefault(row["class_name"], set()).add(row.get("rad_id") or "consensus")
    found = readers.keys() - {NO_FINDING}
    agreed = {label for label in found if len(readers[label]) >= AGREED or "consensus" in readers[label]}
    alone = sorted(found - agreed)
    remarks.notes += [f"{label} of {name} not asked: one radiologist only marked it" for label in alone]
    boxed = ((f"lesion of {place}", row) for place, row in rows if row["class_name"] in agreed)
    lesions = kept(boxed, _vindr_lesion, remarks.faults)
    present = sorted(agreed - {*NOT_ASKED})
    absent = shared.choose_absent(name, [label for label in known if label not in found], present)
    return Case(
        id=name, group=name, split=split, image=picture.path, lesions=tuple(lesions), source=VINDR.layout, folder=root,
        questions=tuple(shared.presence_questions(present, absent)),
    )


def _vindr_lesion(row: dict) -> Lesion:
    left, top, right, bottom = sources.box_in(row, VINDR_COLUMNS[2:])
    return Lesion(row["class_name"], (left, top, right - left, bottom - top))


VINDR = Reader(
    "VinDr-CXR", "a folder with a CSV of columns image_id, class_name, x_min, y_min, x_max and y_max, and the images "
    "below it", lambda path: sources.tables_with(VINDR_COLUMNS, path, "*.csv", "annotations/*.csv"), read_vindr,
    makes_files=True,
)  # fmt: skip
