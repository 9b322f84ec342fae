"""MIMIC-CXR-JPG with its reports (Johnson et al. 2019): files/p10/p10000032/s50414267/<image>.jpg, and tables beside.

A study gives one case: its frontal view (PA before AP), its report where s50414267.txt lies beside the study's folder
(or in mimic-cxr-reports/ or reports/), and yes/no questions from the CheXpert table where there is one. Groups are
patients; splits are the published ones.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft, Question, resolve_inside
from medalign_lite.cases.readers import shared, sources

LAYOUT = "MIMIC-CXR-JPG"
NEEDS = "a folder that holds files/p10... and mimic-cxr-2.0.0-split.csv and -metadata.csv (or .csv.gz)"
MAKES_FILES = False
TABLES = {
    "split": ("dicom_id", "study_id", "subject_id", "split"), "metadata": ("dicom_id", "ViewPosition"),
    "chexpert": ("study_id",),
}
SPLITS = {"train": "train", "validate": "val", "test": "test"}
FRONTAL = ("PA", "AP")  # in order of preference
REPORT_FOLDERS = ("", "mimic-cxr-reports/", "reports/")
NOT_ASKED = ("subject_id", "study_id", "No Finding")


def lists(path: Path) -> list[Path]:
    """The tables, where there is one of splits and the images lie beside it."""
    found = {
        name: sources.files_at(path, f"mimic-cxr-*-{name}.csv", f"mimic-cxr-*-{name}.csv.gz")[:1] for name in TABLES
    }
    return [file for files in found.values() for file in files] if found["split"] and (path / "files").is_dir() else []


def read(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per study of the split table, and one per row or table that cannot be read."""
    files = {name: file for file in lists(path) for name in TABLES if f"-{name}.csv" in file.name}
    studies, faults = shared.grouped(sources.rows_of(files["split"], TABLES["split"]), _study)
    yield from faults
    others: dict[str, dict[str, dict]] = {"metadata": {}, "chexpert": {}}
    for name, found in others.items():
        for place, row, fault in sources.rows_of(files[name], TABLES[name]) if name in files else ():
            if row is None:
                yield Draft(place, None, (fault,))
            else:
                found[row[TABLES[name][0]]] = row["ViewPosition"] if name == "metadata" else row
    for study, rows in studies.items():
        labels = others["chexpert"].get(rows[0][1]["study_id"], {})
        yield shared.draft(study, _case, path.resolve(), [row for _, row in rows], others["metadata"], labels)


def _study(row: dict) -> str:
    if not all(re.fullmatch(r"[0-9]{1,9}", row[name]) for name in ("subject_id", "study_id")):
        raise CaseError("subject_id and study_id of the split table must be numbers")
    return f"s{row['study_id']}"


def _case(
    folder: Path, rows: list[dict], views: dict[str, str], labels: dict[str, str], remarks: shared.Remarks
) -> Case:
    splits, subjects = {row["split"] for row in rows}, {row["subject_id"] for row in rows}
    if len(splits) != 1 or not splits <= SPLITS.keys() or len(subjects) != 1:
        raise CaseError(f"split is {', '.join(sorted(splits))!r} of {len(subjects)} patients; one of each a study")
    subject, study = subjects.pop(), rows[0]["study_id"]
    place = f"p{subject[:2]}/p{subject}/s{study}"
    images = [(views.get(row["dicom_id"]), row["dicom_id"]) for row in rows]
    frontal = sorted((FRONTAL.index(view), image) for view, image in images if view in FRONTAL)
    if not frontal:
        raise CaseError("no frontal view (PA or AP) in the metadata table")
    remarks.notes += shared.left_out(len(rows) - 1, f"s{study}", "frontal")
    labels = {name: value for name, value in labels.items() if name and name not in NOT_ASKED}
    return Case(
        id=f"s{study}", group=f"p{subject}", split=SPLITS[splits.pop()],
        image=resolve_inside(folder, f"files/{place}/{sources.safe_id(frontal[0][1])}.jpg"),
        questions=(*_report(folder, place, remarks), *shared.label_questions(labels)),
        source=f"{LAYOUT} {FRONTAL[frontal[0][0]]}", folder=folder,
    )


def _report(folder: Path, place: str, remarks: shared.Remarks) -> list[Question]:
    """The study's report where it has one; one that says nothing of the picture is dropped, and its labels stay."""
    for name in REPORT_FOLDERS:
        try:
            file = resolve_inside(folder, f"{name}files/{place}.txt")
            if file.is_file():
                text = shared.describing_part(sources.content_of(file).decode("utf-8", errors="replace"))
                if not text:
                    raise CaseError(f"{file.name} asserts nothing")
                return [shared.report_question(text)]
        except CaseError as error:
            remarks.faults.append(f"report dropped: {error}")
    return []
