"""Your own pictures (DICOM, NIfTI, TIFF, PNG, JPEG) and one table of questions or reports: questions.csv or .jsonl.

A row names an `image` (a path from the table's folder) and has a `question` with its `answer`, a `report`, or a
`label` with a box `x`, `y`, `width`, `height` (or only a point `x`, `y`); rows of one image are one case. The further
columns, all optional, are described in docs/DATA.md.

Nothing that identifies a patient is passed on: cases and groups are named by their pixels, faults by the table's line,
pictures are written anew with their pixels only. What the questions, answers and reports say is passed on as it is.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from medalign_lite.cases.case import KINDS, SPLITS, Case, CaseError, CaseSet, Draft, Lesion, Question, resolve_inside
from medalign_lite.cases.collect import clean_text, collect, join_groups
from medalign_lite.cases.dicom import is_dicom
from medalign_lite.cases.images import ImageError
from medalign_lite.cases.pictures import Picture, is_volume, save_picture
from medalign_lite.cases.readers import shared, sources
from medalign_lite.cases.readers.sources import Reader

FILES = ("questions.csv", "questions.jsonl")
COLUMNS = ("image", "frame", "question", "answer", "report", "label", "x", "y", "width", "height", "patient", "split",
           "kind", "topic", "options")  # fmt: skip
BOX = ("x", "y", "width", "height")
FILLED = ("question", "answer", "report", "label", *BOX)  # a line with none of these says nothing
LOOKED_AT = 2000  # files of a folder without a table
ONE_FOR_ALL = "all DICOM files name one patient: where they are several, fill in a column `patient`"
PATH_IN_BRACKETS = r" \(.*['/\\].*\)"  # what a decoder says may quote the file's name


@dataclass
class _Entry:
    """All rows about one picture, and who they say it is of."""

    place: str
    rows: list[tuple[str, dict]] = field(default_factory=list)
    picture: Picture | None = None

    @property
    def patients(self) -> list[str]:
        return sorted({row["patient"] for _, row in self.rows if row.get("patient")})


def lists(path: Path) -> list[Path]:
    """The tables; else the first DICOM or NIfTI file, and `read` says that a table lacks."""
    return sources.files_at(path, *FILES) or (list(_medical(path))[:1] if path.is_dir() else [])


def read(path: Path, *, root: Path) -> Iterator[Draft]:
    """One Draft per image that the table names; pictures are written to `root`/images."""
    tables = sources.files_at(path, *FILES)
    if not tables:
        yield Draft(path.name, None, (
            f"pictures without a table: write {FILES[0]} into the folder, with columns image, question and answer (or "
            "report); `make cases CASES=` with this folder makes one to fill in. See docs/DATA.md",
        ))  # fmt: skip
        return
    rows = [entry for table in tables for entry in _rows(table)]
    yield from read_rows(rows, folder=path, root=root)


def read_frame(frame, *, folder: Path | str, root: Path | str, strict: bool = False) -> CaseSet:
    """Cases from a pandas DataFrame with the columns of a table; `image` counts from `folder`, pictures go to `root`.
    Errors as `cases.read_cases`. Keep them for `CASES=` with `cases.write_cases(root / "cases.jsonl", found.cases)`."""
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    rows = [(f"row {number}", *_checked(record)) for number, record in enumerate(records, start=1)]
    drafts = read_rows(rows, folder=Path(folder), root=Path(root))
    return collect(drafts, layout="DataFrame", reason=f"{len(records)} rows given", strict=strict)


def read_rows(rows: Iterable[tuple[str, dict | None, str]], *, folder: Path, root: Path) -> Iterator[Draft]:
    """One Draft per picture of `rows`: (place, {column: text} or None, the fault where it is None)."""
    root = root.resolve()
    entries: dict[tuple[str, str], _Entry] = {}
    for place, row, fault in rows:
        if row is not None and row.get("image") and not any(row.get(name) for name in FILLED):
            yield Draft(place, None, notes=("a line of the table that is not filled in",))
        elif row is not None and row.get("image"):
            entry = entries.setdefault((row["image"], row.get("frame", "")), _Entry(place))
            entry.rows.append((place, row))
        else:
            yield Draft(place, None, (fault or "the row names no image",))
    pictures: dict[str, _Entry] = {}  # the same pixels under two names are one
    for key, entry in entries.items():
        try:
            entry.picture = _picture(key, folder, root)
            if len(entry.patients) > 1:
                raise CaseError("its rows name several patients: whose image it is is in doubt")
        except CaseError as error:
            entry.picture = None
            yield Draft(entry.place, None, (str(error),))
            continue
        if (first := pictures.setdefault(entry.picture.name, entry)) is not entry:
            first.rows += entry.rows
    groups, why = _groups([entry for entry in entries.values() if entry.picture])
    for name, entry in pictures.items():
        yield shared.draft(entry.place, _case, entry, groups[name], why, root)


def template(path: Path) -> str:
    """A questions.csv to fill in: a line for each DICOM or NIfTI file."""
    names = [file.relative_to(path).as_posix().replace('"', '""') for file in _medical(path)]
    names = [f"./{name}" if name[0] in "=+-@" else name for name in names]  # which a spreadsheet takes for a formula
    return "".join(["image,frame,question,answer,report\n", *(f'"{name}",,,,\n' for name in names)])


def _medical(path: Path) -> Iterator[Path]:
    files = (file for file in sorted(path.rglob("*"))[:LOOKED_AT] if file.is_file() and not file.name.startswith("."))
    return (file for file in files if is_volume(file) or is_dicom(file))


def _rows(table: Path) -> Iterator[tuple[str, dict | None, str]]:
    if table.suffix == ".csv":
        rows = sources.rows_of(table, ("image",), optional=COLUMNS, numbers=("frame", *BOX))
    else:
        rows = sources.load_lines(table)
    for place, record, fault in rows:
        yield (place, *(_checked(record) if record is not None else (None, fault)))


def _checked(record: dict) -> tuple[dict | None, str]:
    """A record with its values as text, names of columns in lower case: ({column: text}, "") or (None, fault)."""
    row = {}
    for name, value in record.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, str | int | float)):
            return None, f"{name} is a {type(value).__name__}; text or a number is read"
        row[str(name).strip().lower()] = "" if value is None else str(value).strip()
    try:
        row = {name: value if name == "image" else clean_text(value) for name, value in row.items()}
    except CaseError as error:
        return None, str(error)
    if re.fullmatch(r"[0-9]{1,6}\.0*", row.get("frame", "")):  # a column of whole numbers with gaps comes as 3.0
        row["frame"] = row["frame"].split(".")[0]
    return row, ""


def _picture(key: tuple[str, str], folder: Path, root: Path) -> Picture:
    """The saved picture; raises CaseError in words that hold no file name."""
    name, frame = key
    try:
        if frame and not re.fullmatch(r"[0-9]{1,6}", frame):
            raise CaseError(f"frame {frame[:20]!r} is not a whole number, counted from 1")
        source = resolve_inside(folder, name)
        return save_picture(source, root / "images", int(frame) if frame else None)
    except ImageError as error:
        told = str(error).removeprefix(f"{source}: ")
        raise CaseError(f"its image: {re.sub(PATH_IN_BRACKETS, '', told)}") from error
    except CaseError as error:
        told = re.sub(r"(?:no such image file: )?path .* (?=leaves|is too|holds)", "the path of its image ", str(error))
        raise CaseError(told.replace(str(folder.resolve()), "the folder").replace(str(folder), "the folder")) from error


def _groups(entries: list[_Entry]) -> tuple[dict[str, str], str]:
    """{picture: group}, and what is to be said of all of them. Pictures that share a patient of the table, a patient of
    DICOM, or their pixels are one group, named by the smallest of its pictures, which tells nothing of whose. A DICOM
    patient that all files name, while the table names several, is no patient."""
    coded = {entry.picture.patient for entry in entries if entry.picture.patient}
    stated = {patient for entry in entries for patient in entry.patients}
    one = len(entries) > 2 and len(coded) == 1
    everybody = one and len(stated) > 1 and all(entry.patients for entry in entries)
    shared = []
    for entry in entries:
        patients = [f"table {patient}" for patient in entry.patients]
        if entry.picture.patient and not everybody:
            patients.append(f"coded {entry.picture.patient}")
        shared.append((entry.picture.name, *patients))
    joined, members = join_groups(shared), {}
    for group, entry in zip(joined, entries):
        members.setdefault(group, []).append(entry.picture.name)
    groups = {entry.picture.name: f"p-{min(members[group])}" for group, entry in zip(joined, entries)}
    return groups, ONE_FOR_ALL if one and not stated else ""


def _case(entry: _Entry, group: str, why: str, root: Path, remarks: shared.Remarks) -> Case:
    picture = entry.picture
    remarks.notes += [*picture.notes, *([f"{entry.place}: {why}"] if why else [])]
    splits = {row["split"] for _, row in entry.rows if row.get("split")}
    if not splits <= set(SPLITS):
        raise CaseError(f"split is {', '.join(sorted(splits))}; known are {', '.join(SPLITS)}")
    split = min(
        splits, key=lambda name: shared.HELD_OUT_FIRST.index(name) if name in shared.HELD_OUT_FIRST else -1,
        default="train",
    )
    questions, lesions = [], []
    for place, row in entry.rows:
        if row.get("split", split) not in ("", split):
            remarks.notes.append(f"{place} left out: its image is held out in {split}")
            continue
        try:
            made, lesion = _question(row, len(questions) + 1), _lesion(row)
        except CaseError as error:
            remarks.faults.append(f"{place} dropped: {error}")
            continue
        if not made and not lesion:
            remarks.faults.append(f"{place} dropped: neither question with answer, nor report, nor label with box")
        questions += made
        lesions += lesion
    if lesions and not questions:  # a list of boxes alone: it says what is there, not what is not
        questions = shared.presence_questions(dict.fromkeys(lesion.label for lesion in lesions), ())
    return Case(
        id=picture.name, group=group, split=split, image=picture.path, questions=tuple(questions),
        lesions=tuple(lesions), source=picture.about, folder=root,
    )


def _question(row: dict, number: int) -> list[Question]:
    question, answer, report = row.get("question", ""), row.get("answer", ""), row.get("report", "")
    if bool(question) != bool(answer):
        raise CaseError("a question without an answer" if question else "an answer without a question")
    made = [replace(shared.report_question(report), id=f"report{number}")] if report else []
    options = [option for option in row.get("options", "").split("|") if option.strip()]
    if question and options:
        made.append(shared.choice_question(f"q{number}", question, options, [answer], row.get("topic") or "question"))
    elif question:
        kind = row.get("kind") or shared.kind_of(answer)
        if kind not in KINDS or kind in ("report", "choice"):
            raise CaseError(f"kind is {kind!r}; known are closed and open (reports and options have their own columns)")
        made.append(Question(f"q{number}", question, answer, kind, row.get("topic") or "question"))
    return made


def _lesion(row: dict) -> list[Lesion]:
    if not any(row.get(name) for name in ("label", *BOX)):
        return []
    if not row.get("label"):
        raise CaseError("a box without a label")
    if not row.get("width") and not row.get("height"):
        return [Lesion(row["label"], points=(sources.box_in(row, BOX[:2]),))]
    return [Lesion(row["label"], sources.box_in(row, BOX))]


TABLE = Reader(
    "pictures with a table", "a folder of pictures (DICOM too) that holds questions.csv or questions.jsonl with a "
    "column image", lists, read, makes_files=True,
)  # fmt: skip
