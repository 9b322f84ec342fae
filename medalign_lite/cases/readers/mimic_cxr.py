"""MIMIC-CXR-JPG with its reports (Johnson et al. 2019): files/p10/p10000032/s50414267/<image>.jpg, and tables beside.

A study gives one case: its frontal view (PA before AP), its report where s50414267.txt lies beside the study's folder
(or in mimic-cxr-reports/ or reports/), and yes/no questions from the CheXpert table where there is one. Groups are
patients; splits are the published ones.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft, Question, resolve_inside
from medalign_lite.cases.readers.entries import Remarks, draft, presence_questions, report_question, safe_id
from medalign_lite.cases.readers.report_text import describing_part
from medalign_lite.cases.readers.tables import rows_of

LAYOUT = "MIMIC-CXR-JPG"
NEEDS = "a folder that holds files/p10... and mimic-cxr-2.0.0-split.csv and -metadata.csv (or .csv.gz)"
MAKES_FILES = False
TABLES = {
    "split": ("dicom_id", "study_id", "subject_id", "split"),
    "metadata": ("dicom_id", "ViewPosition"),
    "chexpert": ("study_id",),
}
SPLITS = {"train": "train", "validate": "val", "test": "test"}
FRONTAL = ("PA", "AP")  # in order of preference
REPORT_FOLDERS = ("", "mimic-cxr-reports", "reports")
NOT_ASKED = ("subject_id", "study_id", "No Finding")
MAX_REPORT_BYTES = 2**20


def detect(path: Path) -> str | None:
    """Why `path` is in this layout, or None."""
    table = _table(path, "split")
    if table and (path / "files").is_dir():
        return f"the folder holds files/ and {table.name}"
    return None


def read(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per study of the split table, and one per row or table that cannot be read."""
    folder = (root or path).resolve()
    tables: dict[str, list[dict]] = {}
    for name, needed in TABLES.items():
        file = _table(path, name)
        for place, row, fault in rows_of(file, needed) if file else ():
            if row is not None:
                tables.setdefault(name, []).append(row)
            else:
                yield Draft(place, None, (fault,))
    views = {row["dicom_id"]: row["ViewPosition"] for row in tables.get("metadata", [])}
    labels = {row["study_id"]: row for row in tables.get("chexpert", [])}
    studies: dict[tuple[str, str], list[dict]] = {}
    for row in tables.get("split", []):
        subject, study = row["subject_id"], row["study_id"]
        if re.fullmatch(r"[0-9]{1,9}", subject) and re.fullmatch(r"[0-9]{1,9}", study):
            studies.setdefault((subject, study), []).append(row)
        else:
            yield Draft(f"study {study!r}", None, ("subject_id and study_id of the split table must be numbers",))
    for (subject, study), rows in studies.items():
        yield draft(f"s{study}", _case, path, folder, (subject, study), rows, views, labels.get(study, {}))


def _table(path: Path, name: str) -> Path | None:
    return next((file for file in sorted(path.glob(f"mimic-cxr-*-{name}.csv*")) if file.is_file()), None)


def _case(
    path: Path,
    folder: Path,
    who: tuple[str, str],
    rows: list[dict],
    views: dict[str, str],
    labels: dict[str, str],
    remarks: Remarks,
) -> Case:
    subject, study = who
    splits = {row["split"] for row in rows}
    if len(splits) != 1 or not splits <= SPLITS.keys():
        raise CaseError(f"split is {', '.join(sorted(splits))!r}; known are {', '.join(SPLITS)}, one a study")
    place = Path("files") / f"p{subject[:2]}" / f"p{subject}" / f"s{study}"
    images = [(views.get(row["dicom_id"]), row["dicom_id"]) for row in rows]
    frontal = sorted((FRONTAL.index(view), image) for view, image in images if view in FRONTAL)
    if not frontal:
        raise CaseError("no frontal view (PA or AP) in the metadata table")
    if len(rows) > 1:
        remarks.notes.append(
            f"{len(rows) - 1} more of s{study} left out: a case is one image, the study's frontal view"
        )
    questions = [*_report(path, place), *_label_questions(labels)]
    return Case(
        id=f"s{study}",
        group=f"p{subject}",
        split=SPLITS[splits.pop()],
        image=resolve_inside(folder, str(path.absolute() / place / f"{safe_id(frontal[0][1])}.jpg")),
        questions=tuple(questions),
        source=f"{LAYOUT} {FRONTAL[frontal[0][0]]}",
        folder=folder,
    )


def _report(path: Path, place: Path) -> list[Question]:
    for name in REPORT_FOLDERS:
        file = path / name / place.with_suffix(".txt")
        if file.is_file():
            with file.open("rb") as stream:
                text = describing_part(stream.read(MAX_REPORT_BYTES).decode("utf-8", errors="replace"))
            if not text:
                raise CaseError(f"{file.name} has neither findings nor impression")
            return [report_question(text)]
    return []


def _label_questions(labels: dict) -> list[Question]:
    """Questions from CheXpert's labels: 1 is present, 0 absent; uncertain (-1) and unmentioned ones are not asked."""
    asked = {name: value for name, value in labels.items() if name and name not in NOT_ASKED}
    present = [name for name, value in asked.items() if value in ("1", "1.0")]
    return presence_questions(present, [name for name, value in asked.items() if value in ("0", "0.0")])
