"""PadChest-GR (de Castro et al. 2024): grounded_reports_*.json, master_table.csv and PNG images below the folder.

An entry lists all findings of a study, present and absent, as sentences: together they are its reference report (in
English). Boxes [x1, y1, x2, y2] count from 0 to 1 of the picture's sides; those of the first reader are lesions. Groups
are patients; splits are the master table's.
"""

from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft, Lesion
from medalign_lite.cases.images import image_size
from medalign_lite.cases.readers import shared, sources

LAYOUT = "PadChest-GR"
NEEDS = "a folder that holds grounded_reports_*.json and master_table.csv, and the images below it"
MAKES_FILES = False
TABLE = "master_table.csv"
COLUMNS = ("ImageID", "PatientID", "split")


def lists(path: Path) -> list[Path]:
    """The newest reports and the table of patients."""
    reports = sources.files_at(path, "grounded_reports_*.json")[-1:]
    return [*reports, *sources.files_at(path, TABLE)] if reports else []


def read(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per study."""
    folder, patients = path.resolve(), {}
    reports, *tables = lists(folder)
    for place, row, fault in (row for table in tables for row in sources.rows_of(table, COLUMNS)):
        if row is None:
            yield Draft(place, None, (fault,))
        elif {name: row[name] for name in COLUMNS}.items() - patients.setdefault(row["ImageID"], row).items():
            yield Draft(place, None, (f"contradicts an earlier row about {row['ImageID']}; the first is kept",))
    images = sources.pictures_below(folder, (".png", ".jpg"))
    yield from (shared.draft_of(row, _case, patients, images, folder) for row in sources.entries_of(reports))


def _case(
    entry: dict, patients: dict[str, dict], images: dict[str, list[Path]], folder: Path, remarks: shared.Remarks
) -> Case:
    name = sources.file_name_in(entry, "ImageID")
    row = patients.get(name)
    if row is None:
        raise CaseError(f"{name} is not in {TABLE}: whose picture it is is not known")
    image = sources.the_one(folder, images.get(name, []), name)
    size = image_size(image)
    findings = entry.get("findings")
    if not isinstance(findings, list) or not all(isinstance(finding, dict) for finding in findings):
        raise CaseError("findings must be a list of JSON objects")
    sentences, lesions = [sources.text_in(finding, "sentence_en") for finding in findings], []
    for number, finding in enumerate(findings, start=1):
        try:
            lesions += _lesions(finding, size)
        except CaseError as error:
            remarks.faults.append(f"boxes of finding {number} dropped: {error}")
    told = " ".join(sentence.rstrip(". ") + "." for sentence in sentences)
    questions = (shared.report_question(told),) if sentences else ()
    return Case(
        id=sources.safe_id(Path(name).stem), group=f"patient-{row['PatientID']}" if row["PatientID"] else name,
        split=shared.SPLIT_WORDS.get(row["split"].lower(), "train"), image=image, questions=questions,
        lesions=tuple(lesions), source=LAYOUT, folder=folder,
    )


def _lesions(finding: dict, size: tuple[int, int]) -> list[Lesion]:
    labels, boxes = finding.get("labels") or [], finding.get("boxes") or []
    if not isinstance(boxes, list) or not isinstance(labels, list) or not all(isinstance(x, str) for x in labels):
        raise CaseError("boxes and labels must be lists")
    lesions = []
    for left, top, right, bottom in map(sources.box_of, boxes):
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise CaseError(f"box {[left, top, right, bottom]} is not [x1, y1, x2, y2] from 0 to 1")
        box = (left * size[0], top * size[1], (right - left) * size[0], (bottom - top) * size[1])
        lesions.append(Lesion(", ".join(labels) or sources.text_in(finding, "sentence_en"), box))
    return lesions
