"""Your own pictures (DICOM, NIfTI, TIFF, PNG, JPEG) and one table of questions or reports: questions.csv or .jsonl.

A row names an `image` (a path from the table's folder) and has a `question` with its `answer`, a `report`, or a
`label` with a box `x`, `y`, `width`, `height` (or only a point `x`, `y`); rows of one image are one case. Further
columns, all optional:

| column    | what                                                                              |
|-----------|-----------------------------------------------------------------------------------|
| `frame`   | which frame, slice or page of the file, counted from 1                            |
| `patient` | who belongs together in a split; without it DICOM's patient, else the image       |
| `split`   | train, val or test; without it patients are divided                               |
| `kind`    | closed or open; without it closed for yes and no                                  |
| `topic`   | what the question is about: presence, side, modality, ...                         |

Nothing that identifies a patient is passed on: cases and groups are named by their pixels, faults by the table's line,
pictures are written anew with their pixels only. What the questions, answers and reports say is passed on as it is.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from medalign_lite.cases.case import (
    KINDS,
    SPLITS,
    Case,
    CaseError,
    CaseSet,
    Draft,
    Lesion,
    Question,
    collect,
    resolve_inside,
)
from medalign_lite.cases.dicom import is_dicom
from medalign_lite.cases.images import ImageError
from medalign_lite.cases.pictures import Picture, is_volume, save_picture
from medalign_lite.cases.readers.entries import HELD_OUT_FIRST, Remarks, draft, kind_of, load_lines, report_question
from medalign_lite.cases.readers.tables import number_in, rows_of

LAYOUT = "pictures with a table"
NEEDS = "a folder of pictures (DICOM too) that holds questions.csv or questions.jsonl with a column image"
MAKES_FILES = True
FILES = ("questions.csv", "questions.jsonl")
COLUMNS = ("image", "frame", "question", "answer", "report", "label", "x", "y", "width", "height", "patient", "split",
           "kind", "topic")  # fmt: skip
BOX = ("x", "y", "width", "height")
FILLED = ("question", "answer", "report", "label", *BOX)  # a line with none of these says nothing
LOOKED_AT = 2000  # files of a folder without a table
PATH_IN_BRACKETS = r" \(.*['/\\].*\)"  # what a decoder says may quote the file's name


@dataclass
class _Entry:
    """All rows about one image."""

    place: str
    rows: list[tuple[str, dict]] = field(default_factory=list)


def detect(path: Path) -> str | None:
    """Why `path` is in this layout, or None; DICOM or NIfTI without a table is as well, and `read` says what lacks."""
    found = [name for name in FILES if (path / name).is_file()]
    if found:
        return f"the folder holds {' and '.join(found)}"
    pictures = path.is_dir() and next(_medical(path), None)
    return f"the folder holds DICOM or NIfTI files, but neither {' nor '.join(FILES)}" if pictures else None


def read(path: Path, *, root: Path) -> Iterator[Draft]:
    """One Draft per image that the table names; pictures are written to `root`/images."""
    tables = [path / name for name in FILES if (path / name).is_file()]
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

    Errors as `cases.read_cases`. Keep them for `CASES=` with `cases.write_cases(root / "cases.jsonl", found.cases)`.
    """
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    rows = [(f"row {number}", *_checked(record)) for number, record in enumerate(records, start=1)]
    drafts = read_rows(rows, folder=Path(folder), root=Path(root))
    return collect(drafts, layout="DataFrame", reason=f"{len(records)} rows given", strict=strict)


def read_rows(rows: Iterable[tuple[str, dict | None, str]], *, folder: Path, root: Path) -> Iterator[Draft]:
    """One Draft per image of `rows`: (place, {column: text} or None, the fault where it is None)."""
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
    read_ones = [(entry, *_picture(key, folder, root)) for key, entry in entries.items()]
    groups = _groups((entry, picture) for entry, picture, _ in read_ones if picture)
    for entry, picture, fault in read_ones:
        if picture is None:
            yield Draft(entry.place, None, (fault,))
        else:
            yield draft(entry.place, _case, entry, picture, groups[picture.name], root)


def template(path: Path) -> str:
    """A questions.csv to fill in: a line for each DICOM or NIfTI file."""
    quoted = [file.relative_to(path).as_posix().replace('"', '""') for file in _medical(path)]
    return "".join(["image,frame,question,answer,report\n", *(f'"{name}",,,,\n' for name in quoted)])


def _medical(path: Path) -> Iterator[Path]:
    files = (file for file in sorted(path.rglob("*"))[:LOOKED_AT] if file.is_file())
    return (file for file in files if is_volume(file) or is_dicom(file))


def _rows(table: Path) -> Iterator[tuple[str, dict | None, str]]:
    if table.suffix == ".csv":
        yield from rows_of(table, ("image",))
        return
    for place, record, fault in load_lines(table):
        yield (place, *(_checked(record) if record is not None else (None, fault)))


def _checked(record: dict) -> tuple[dict | None, str]:
    """A record with its values as text: ({column: text}, "") or (None, fault)."""
    row = {}
    for name, value in record.items():
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # a column of whole numbers with gaps comes as 3.0
        if value is not None and (isinstance(value, bool) or not isinstance(value, str | int | float)):
            return None, f"{name} is a {type(value).__name__}; text or a number is read"
        row[str(name)] = "" if value is None else str(value).strip()
    if any(ord(letter) in range(0xD800, 0xE000) for value in row.values() for letter in value):
        return None, "half a character (a lone surrogate); save the table as UTF-8"
    return row, ""


def _picture(key: tuple[str, str], folder: Path, root: Path) -> tuple[Picture | None, str]:
    """The saved picture, or why there is none, in words that hold no file name."""
    name, frame = key
    try:
        if frame and not re.fullmatch(r"[0-9]{1,6}", frame):
            raise CaseError(f"frame {frame!r} is not a whole number, counted from 1")
        source = resolve_inside(folder.resolve(), name)
        return save_picture(source, root / "images", int(frame) if frame else None), ""
    except ImageError as error:
        told = str(error).removeprefix(f"{source}: ")
        return None, f"its image: {re.sub(PATH_IN_BRACKETS, '', told)}"
    except CaseError as error:
        return None, str(error).replace(repr(name), "of its image").replace(str(folder.resolve()), "the folder")


def _groups(read_ones: Iterable[tuple[_Entry, Picture]]) -> dict[str, str]:
    """{picture: group}: a patient's pictures are named by the smallest of their names, which tells nothing of whose."""
    patients: dict[str, set[str]] = {}
    for entry, picture in read_ones:
        stated = next((row["patient"] for _, row in entry.rows if row.get("patient")), None)
        who = f"table {stated}" if stated else picture.patient or f"picture {picture.name}"
        patients.setdefault(who, set()).add(picture.name)
    return {name: f"p-{min(names)}" for names in patients.values() for name in names}


def _case(entry: _Entry, picture: Picture, group: str, root: Path, remarks: Remarks) -> Case:
    remarks.notes += picture.notes
    splits = {row["split"] for _, row in entry.rows if row.get("split")}
    if not splits <= set(SPLITS):
        raise CaseError(f"split is {', '.join(sorted(splits))}; known are {', '.join(SPLITS)}")
    split = min(splits, key=lambda name: HELD_OUT_FIRST.index(name) if name in HELD_OUT_FIRST else -1, default="train")
    if len({row["patient"] for _, row in entry.rows if row.get("patient")}) > 1:
        raise CaseError("its rows name several patients: whose image it is is in doubt")
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
    return Case(
        id=picture.name,
        group=group,
        split=split,
        image=picture.path,
        questions=tuple(questions),
        lesions=tuple(lesions),
        source=picture.about,
        folder=root,
    )


def _question(row: dict, number: int) -> list[Question]:
    question, answer, report = row.get("question", ""), row.get("answer", ""), row.get("report", "")
    if bool(question) != bool(answer):
        raise CaseError("a question without an answer" if question else "an answer without a question")
    made = [replace(report_question(report), id=f"report{number}")] if report else []
    if question:
        kind = row.get("kind") or kind_of(answer)
        if kind not in KINDS or kind == "report":
            raise CaseError(f"kind is {kind!r}; known are closed and open (a report has its own column)")
        made.append(Question(f"q{number}", question, answer, kind, row.get("topic") or "question"))
    return made


def _lesion(row: dict) -> list[Lesion]:
    if not any(row.get(name) for name in ("label", *BOX)):
        return []
    if not row.get("label"):
        raise CaseError("a box without a label")
    if not row.get("width") and not row.get("height"):
        return [Lesion(row["label"], points=((number_in(row, "x"), number_in(row, "y")),))]
    return [Lesion(row["label"], tuple(number_in(row, name) for name in BOX))]
