"""NIH ChestX-ray14 (Wang et al. 2017): Data_Entry_2017.csv, BBox_List_2017.csv and the PNG images; its small sample has
sample_labels.csv in their place.

Questions ask for the labels of Data_Entry (mined from reports by the data set's authors, so sometimes wrong): those it
lists, and as many that it does not. Boxes [x, y, width, height] are lesions. Groups are patients.
"""

from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft, Lesion
from medalign_lite.cases.readers import shared, sources

LAYOUT = "NIH ChestX-ray14"
NEEDS = "a folder with BBox_List_2017.csv, Data_Entry_2017.csv or sample_labels.csv, and the images somewhere below it"
MAKES_FILES = False
NAME, LABELS, PATIENT = "Image Index", "Finding Labels", "Patient ID"
BOX_LABEL, BOX = "Finding Label", ("Bbox [x", "y", "w", "h]")
OBSERVATIONS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia",
    "Infiltration", "Mass", "Nodule", "Pleural Thickening", "Pneumonia", "Pneumothorax",
)  # fmt: skip
SPELLED = {"Pleural_Thickening": "Pleural Thickening", "Infiltrate": "Infiltration"}
TEST_LIST = "test_list.txt"


def lists(path: Path) -> list[Path]:
    """The table of labels and the one of boxes, the first of each."""
    labels = sources.files_at(path, "Data_Entry*.csv") or sources.files_at(
        path, "sample_labels.csv", "*/sample_labels.csv"
    )
    return labels[:1] + sources.files_at(path, "BBox_List*.csv")[:1]


def read(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per image that a table names, and one per row or table that cannot be read."""
    folder = path.resolve()
    entries, boxes = {}, {}
    for file in lists(folder):
        boxed = file.name.startswith("BBox")
        found, faults = shared.grouped(sources.rows_of(file, (NAME, BOX_LABEL, *BOX) if boxed else (NAME, LABELS)),
                                lambda row: sources.file_name_in(row, NAME))  # fmt: skip
        yield from faults
        if boxed:
            boxes = found
            continue
        for name, rows in found.items():
            entries[name] = rows[0][1]
            for place, _ in rows[1:]:
                yield Draft(place, None, (f"{name} was listed before; the first row is kept",))
    images = sources.pictures_below(folder, (".png",))
    listed = sources.content_of(path / TEST_LIST) if (path / TEST_LIST).is_file() else b""
    held_out = set(listed.decode(errors="replace").split())
    for name in {**entries, **boxes}:
        split, rows = "test" if name in held_out else "train", boxes.get(name, [])
        yield shared.draft(name, _case, name, split, entries.get(name), rows, images.get(name, []), folder)


def _case(
    name: str, split: str, entry: dict | None, rows: list[tuple[str, dict]], images: list[Path], folder: Path,
    remarks: shared.Remarks,
) -> Case:
    image = sources.the_one(folder, images, name)
    lesions = []
    for place, row in rows:
        try:
            lesions.append(Lesion(_observation(row[BOX_LABEL]), tuple(sources.number_in(row, key) for key in BOX)))
        except CaseError as error:
            remarks.faults.append(f"lesion of {place} dropped: {error}")
    present = [lesion.label for lesion in lesions]
    if entry is not None and not entry[LABELS]:
        raise CaseError(f"{LABELS} is empty; a picture without findings says No Finding")
    for label in () if entry is None else entry[LABELS].split("|"):
        try:
            present += [] if label == "No Finding" else [_observation(label)]
        except CaseError as error:
            remarks.faults.append(f"label dropped: {error}")
    present = list(dict.fromkeys(present))
    absent = [] if entry is None or remarks.faults else shared.choose_absent(name, OBSERVATIONS, present)
    return Case(
        id=sources.safe_id(Path(name).stem), group=(entry or {}).get(PATIENT) or name.split("_")[0], split=split,
        image=image, questions=tuple(shared.presence_questions(present, absent)), lesions=tuple(lesions), source=LAYOUT,
        folder=folder,
    )


def _observation(label: str) -> str:
    label = SPELLED.get(label, label)
    if label not in OBSERVATIONS:
        raise CaseError(f"{label[:60]!r} is none of the data set's labels")
    return label
