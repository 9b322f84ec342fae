"""Chest radiographs with reports (docs/DATA.md: what is read). A case is one image; further views are counted.

IU X-ray in R2Gen's layout (Chen et al. 2020): an entry a study, `image_path` with one or two views, of which the first
is the frontal one, by the data set's order.

IU X-ray as the Open-i service gives it (Demner-Fushman et al. 2016): one XML a report, which names its images by id;
the first one is the case's. There is no split and one study a patient.

MIMIC-CXR-JPG with its reports (Johnson et al. 2019): files/p10/p10000032/s50414267/<image>.jpg, and tables beside. A
study's view is PA before AP; its report s50414267.txt lies beside its folder, or in mimic-cxr-reports/ or reports/.

MS-CXR (Boecking et al. 2022): sentences of MIMIC-CXR reports with boxes [x, y, w, h]. A finding's phrases are the
reference of a question for a description of it.

PadChest-GR (de Castro et al. 2024): an entry lists all findings of a study, present and absent, as sentences: together
they are its reference report. Boxes [x1, y1, x2, y2] count from 0 to 1 of the picture's sides.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft, Lesion, Question, kept, resolve_inside
from medalign_lite.cases.images import image_size
from medalign_lite.cases.readers import shared, sources
from medalign_lite.cases.readers.sources import Reader

R2GEN_FILE = "annotation.json"


def read_r2gen(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per study."""
    try:
        annotation = sources.load_list(path / R2GEN_FILE, dict)
    except CaseError as error:
        yield Draft(R2GEN_FILE, None, (str(error),))
        return
    for split in shared.HELD_OUT_FIRST:
        entries, place = annotation.get(split, []), f"{split} of {R2GEN_FILE}"
        if not isinstance(entries, list):
            yield Draft(place, None, (f"{place} is a JSON {type(entries).__name__}, not a list",))
            continue
        rows = sources.entries_of(Path(place), entries)
        yield from (shared.draft_of(row, _r2gen, split, path.resolve()) for row in rows)


def _r2gen(entry: dict, split: str, folder: Path, remarks: shared.Remarks) -> Case:
    name = sources.safe_id(sources.text_in(entry, "id"))
    views = entry.get("image_path")
    if not isinstance(views, list) or not views or not isinstance(views[0], str):
        raise CaseError(f"image_path must be a list of file names, got {str(views)[:60]!r}")
    remarks.notes += shared.left_out(len(views) - 1, f"study {name}")
    group = name.split("_")[0]  # CXR2384_IM-0942
    if "subject_id" in entry:  # MIMIC-CXR in this layout names the patient
        group = sources.text_in(entry, "subject_id", number=True)
    return Case(
        id=name, group=group, split=split, image=resolve_inside(folder, f"images/{views[0]}"),
        questions=(shared.report_question(sources.text_in(entry, "report")),), source=R2GEN.layout, folder=folder,
    )


R2GEN = Reader(
    "IU X-ray (R2Gen)", "a folder that holds annotation.json with train, val and test, beside images/",
    lambda path: sources.files_at(path, R2GEN_FILE), read_r2gen,
)  # fmt: skip


OPENI_PLACES = ("*.xml", "ecgen-radiology/*.xml", "*/ecgen-radiology/*.xml")
SECTIONS = ("FINDINGS", "IMPRESSION")
MAX_XML = 2**20  # bytes of a report; real ones have a few kilobytes


def openi_lists(path: Path) -> list[Path]:
    """The reports, where the first of them is one of Open-i's."""
    files = sources.files_at(path, *OPENI_PLACES)
    start = sources.first_bytes(files[0], MAX_XML) if files else b""
    return files if b"parentImage" in start or b"eCitation" in start else []


def read_openi(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per report."""
    folder = path.resolve()
    images = sources.pictures_below(folder, (".png",))
    yield from (shared.draft(file.name, _openi, file, images, folder) for file in openi_lists(folder))


def _openi(file: Path, images: dict[str, list[Path]], folder: Path, remarks: shared.Remarks) -> Case:
    tree = _parse(file)
    parts = {part.get("Label", ""): " ".join("".join(part.itertext()).split()) for part in tree.iter("AbstractText")}
    report = next((parts[name] for name in SECTIONS if parts.get(name)), "")
    if not report:
        raise CaseError(f"no text under {' or '.join(SECTIONS)}")
    views = [view.get("id") or "" for view in tree.iter("parentImage")]
    if not views:
        raise CaseError("the report names no image")
    remarks.notes += shared.left_out(len(views) - 1, file.name)
    group = re.match(r"CXR\d+", views[0])
    return Case(
        id=sources.safe_id(views[0]), group=group[0] if group else views[0], split="train",
        image=sources.picture_named(folder, images, f"{views[0]}.png"), questions=(shared.report_question(report),),
        source=OPENI.layout, folder=folder,
    )


def _parse(file: Path) -> ElementTree.Element:
    content = sources.content_of(file)
    if len(content) > MAX_XML or b"<!ENTITY" in content:
        raise CaseError("longer than a report can be, or with entities of its own: not one of Open-i's files")
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise CaseError(f"not complete XML ({error}); download it again") from error


OPENI = Reader(
    "IU X-ray (Open-i XML)", "a folder with Open-i's XML reports (ecgen-radiology/*.xml) and its PNG images",
    openi_lists, read_openi,
)  # fmt: skip


TABLES = {
    "split": ("dicom_id", "study_id", "subject_id", "split"), "metadata": ("dicom_id", "ViewPosition"),
    "chexpert": ("study_id",),
}
FRONTAL = ("PA", "AP")  # in order of preference
REPORT_FOLDERS = ("", "mimic-cxr-reports/", "reports/")
NOT_ASKED = ("subject_id", "study_id", "No Finding")


def mimic_lists(path: Path) -> list[Path]:
    """The tables, where there is one of splits and the images lie beside it."""
    places = {name: (f"mimic-cxr-*-{name}.csv", f"mimic-cxr-*-{name}.csv.gz") for name in TABLES}
    found = {name: sources.files_at(path, *patterns)[:1] for name, patterns in places.items()}
    return [file for files in found.values() for file in files] if found["split"] and (path / "files").is_dir() else []


def read_mimic(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per study of the split table, and one per row or table that cannot be read."""
    files = {name: file for file in mimic_lists(path) for name in TABLES if f"-{name}.csv" in file.name}
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
        yield shared.draft(study, _mimic, path.resolve(), [row for _, row in rows], others["metadata"], labels)


def _study(row: dict) -> str:
    if not all(re.fullmatch(r"[0-9]{1,9}", row[name]) for name in ("subject_id", "study_id")):
        raise CaseError("subject_id and study_id of the split table must be numbers")
    return f"s{row['study_id']}"


def _mimic(folder: Path, rows: list[dict], views: dict, labels: dict, remarks: shared.Remarks) -> Case:
    splits, subjects = {row["split"] for row in rows}, {row["subject_id"] for row in rows}
    if len(splits) != 1 or not splits <= {"train", "validate", "test"} or len(subjects) != 1:
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
        id=f"s{study}", group=f"p{subject}", split=shared.SPLIT_WORDS[splits.pop()],
        image=resolve_inside(folder, f"files/{place}/{sources.safe_id(frontal[0][1])}.jpg"),
        questions=(*_mimic_report(folder, place, remarks), *shared.label_questions(labels)),
        source=f"{MIMIC_CXR.layout} {FRONTAL[frontal[0][0]]}", folder=folder,
    )


def _mimic_report(folder: Path, place: str, remarks: shared.Remarks) -> list[Question]:
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


MIMIC_CXR = Reader(
    "MIMIC-CXR-JPG", "a folder that holds files/p10... and mimic-cxr-2.0.0-split.csv and -metadata.csv (or .csv.gz)",
    mimic_lists, read_mimic,
)  # fmt: skip


MS_BOX = ("x", "y", "w", "h")
MS_COLUMNS = ("category_name", "label_text", "path", "dicom_id", *MS_BOX)
MS_MORE = ("image_width", "image_height", "split")


def read_ms_cxr(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per picture."""
    rows = sources.rows_of(MS_CXR.lists(path)[0], MS_COLUMNS, optional=MS_MORE)
    images, faults = shared.grouped(rows, lambda row: sources.safe_id(row["dicom_id"]))
    yield from faults
    yield from (shared.draft(name, _ms_cxr, name, rows, path.resolve()) for name, rows in images.items())


def _ms_cxr(name: str, rows: list[tuple[str, dict]], folder: Path, remarks: shared.Remarks) -> Case:
    places = {row["path"] for _, row in rows}
    patient = re.search(r"(?:^|/)(p\d{5,9})/", min(places))
    splits = {row.get("split", "") for _, row in rows}
    if len(places) != 1 or len(splits) != 1 or not patient:
        raise CaseError(f"its rows name {len(places)} paths, {len(splits)} splits, or no patient in the path")
    image = resolve_inside(folder, places.pop())
    size = image_size(image)

    def phrase_of(row: dict) -> tuple[Lesion, str]:
        stated = (row.get("image_width"), row.get("image_height"))
        if stated[0] and stated != tuple(map(str, size)):
            raise CaseError(f"the table says {stated} pixels, the image has {size}: boxes would not fit")
        label, phrase = sources.text_in(row, "category_name"), sources.text_in(row, "label_text")
        return Lesion(label, sources.box_in(row, MS_BOX)), phrase

    found = kept(rows, phrase_of, remarks.faults)
    said = dict.fromkeys((lesion.label, phrase) for lesion, phrase in found)  # in order, each once
    questions = [
        Question(shared.question_id(label), f"Describe the {label.lower()} in this image.",
                 " ".join(phrase for name, phrase in said if name == label), "open", "description")
        for label in dict.fromkeys(label for label, _ in said)
    ]  # fmt: skip
    split, lesions = shared.SPLIT_WORDS.get(splits.pop() or "train", "train"), tuple(lesion for lesion, _ in found)
    return Case(name, patient[1], split, image, tuple(questions), None, lesions, None, MS_CXR.layout, folder)


MS_CXR = Reader(
    "MS-CXR", "a folder that holds MS_CXR_Local_Alignment_v1.*.csv and MIMIC-CXR-JPG's files/",
    lambda path: sources.files_at(path, "MS_CXR_Local_Alignment_v*.csv")[-1:], read_ms_cxr,
)  # fmt: skip


PATIENTS = "master_table.csv"
PADCHEST_COLUMNS = ("ImageID", "PatientID", "split")


def padchest_lists(path: Path) -> list[Path]:
    """The newest reports and the table of patients."""
    reports = sources.files_at(path, "grounded_reports_*.json")[-1:]
    return [*reports, *sources.files_at(path, PATIENTS)] if reports else []


def read_padchest_gr(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per study."""
    folder, patients = path.resolve(), {}
    reports, *tables = padchest_lists(folder)
    for place, row, fault in (row for table in tables for row in sources.rows_of(table, PADCHEST_COLUMNS)):
        if row is None:
            yield Draft(place, None, (fault,))
        elif {name: row[name] for name in PADCHEST_COLUMNS}.items() - patients.setdefault(row["ImageID"], row).items():
            yield Draft(place, None, (f"contradicts an earlier row about {row['ImageID']}; the first is kept",))
    images = sources.pictures_below(folder, (".png", ".jpg"))
    yield from (shared.draft_of(row, _padchest, patients, images, folder) for row in sources.entries_of(reports))


def _padchest(entry: dict, patients: dict[str, dict], images: dict, folder: Path, remarks: shared.Remarks) -> Case:
    name = sources.file_name_in(entry, "ImageID")
    row = patients.get(name)
    if row is None:
        raise CaseError(f"{name} is not in {PATIENTS}: whose picture it is is not known")
    image = sources.picture_named(folder, images, name)
    size = image_size(image)
    findings = entry.get("findings")
    if not isinstance(findings, list) or not all(isinstance(finding, dict) for finding in findings):
        raise CaseError("findings must be a list of JSON objects")
    sentences = [sources.text_in(finding, "sentence_en") for finding in findings]
    numbered = ((f"boxes of finding {number}", finding) for number, finding in enumerate(findings, start=1))
    boxed = kept(numbered, lambda finding: _padchest_lesions(finding, size), remarks.faults)
    told = " ".join(sentence.rstrip(". ") + "." for sentence in sentences)
    return Case(
        id=sources.safe_id(Path(name).stem), group=f"patient-{row['PatientID']}" if row["PatientID"] else name,
        split=shared.SPLIT_WORDS.get(row["split"].lower(), "train"), image=image,
        questions=(shared.report_question(told),) if sentences else (),
        lesions=tuple(lesion for some in boxed for lesion in some), source=PADCHEST_GR.layout, folder=folder,
    )


def _padchest_lesions(finding: dict, size: tuple[int, int]) -> list[Lesion]:
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


PADCHEST_GR = Reader(
    "PadChest-GR", "a folder that holds grounded_reports_*.json and master_table.csv, and the images below it",
    padchest_lists, read_padchest_gr,
)  # fmt: skip
