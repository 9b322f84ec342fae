"""CheXpert (Irvin et al. 2019): train.csv, valid.csv and test.csv with a column Path and one a label, and the images.

Frontal views are cases; lateral ones are left out. Questions ask for the labels that are 1 (present) or 0 (absent);
uncertain (-1) and unmentioned ones are not asked. Groups are patients.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from medalign_lite.cases.case import Case, CaseError, Draft, resolve_inside
from medalign_lite.cases.readers import shared, sources

LAYOUT = "CheXpert"
NEEDS = "a folder that holds train.csv or valid.csv with columns Path, Cardiomegaly, Pleural Effusion, ..."
MAKES_FILES = False
OBSERVATIONS = (
    "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
    "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
NEEDED = ("Path", "Cardiomegaly", "Pleural Effusion")
VIEW = "Frontal/Lateral"


def lists(path: Path) -> list[Path]:
    """The tables that have the columns."""
    return sources.tables_with(NEEDED, path, "*.csv")


def read(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per row."""
    folder = path.resolve()
    for file in lists(folder):
        for place, row, fault in sources.rows_of(file, NEEDED, optional=(VIEW, *OBSERVATIONS)):
            if row and (row.get(VIEW) == "Lateral" or "lateral" in row["Path"].rsplit("/")[-1]):
                yield Draft(place, None, notes=(f"{place} left out: a lateral view",))
            else:
                yield shared.draft_of((place, row, fault), _case, shared.split_named(file.stem), folder)


def _case(row: dict, split: str, folder: Path, remarks: shared.Remarks) -> Case:
    parts = PurePosixPath(sources.text_in(row, "Path").replace("\\", "/")).parts
    patient = next((part for part in parts if re.fullmatch(r"patient\d+", part)), None)
    if patient is None:
        raise CaseError(f"Path {row['Path'][:80]!r} names no patient")
    # as written, or below its first folder
    places = [resolve_inside(folder, "/".join(parts[skipped:])) for skipped in (0, 1)]
    found = [place for place in dict.fromkeys(places) if place.is_file()]
    if len(found) != 1:
        raise CaseError(
            f"no such image file: {row['Path'][:120]}" if not found else f"{row['Path'][:120]} fits two files"
        )
    questions = shared.label_questions({name: row.get(name, "") for name in OBSERVATIONS})
    name = sources.safe_id("-".join([*parts[parts.index(patient) : -1], PurePosixPath(parts[-1]).stem]))
    return Case(name, patient, split, found[0], tuple(questions), source=LAYOUT, folder=folder)
