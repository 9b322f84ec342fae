"""Lists, tables and pictures of a data set's folder as readers find them: with limits, and a fault for each bad row.

A row or entry is handed on as (place, record, fault): where it stands, and either itself or why it cannot be used.
"""

import csv
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from inspect import getfile
from pathlib import Path

from medalign_lite.cases.case import CaseError, Draft, resolve_inside
from medalign_lite.files import file_sha256

MAX_COORDINATE = 1e6  # pixels; no picture is that large
MAX_BYTES = 2**28  # of a list or table, unpacked
MAX_ROW_LINES = 500  # a field in quotes may go over lines
ID_CHARACTERS = re.compile(r"[A-Za-z0-9][\w.()+-]{0,127}", re.ASCII)
LINE_END = re.compile(r"\r\n|\n|\r")
Row = tuple[str, dict | None, str]


@dataclass(frozen=True)
class Reader:
    """How one layout is known and read. `needs`: what it looks for, for the error that none fits. `lists(path)`: the
    lists and tables of a folder that it would read, none where the layout does not fit. `read(path, root=..., **own)`
    yields one Draft an entry and never raises for a bad one; `options` are the arguments of its own. With `makes_files`
    its pictures have to be made (DICOM, parquet) and are written to `root`."""

    layout: str
    needs: str
    lists: Callable[[Path], list[Path]]
    read: Callable[..., Iterator[Draft]]
    makes_files: bool = False
    options: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """Where it is written."""
        return Path(getfile(self.read))


def telling(read: Callable[..., Iterator[Row]]) -> Callable[..., Iterator[Row]]:
    """Rows of `read(path, ...)`; the CaseError by which it ends is a fault of the whole file, and the last of them."""

    @wraps(read)
    def rows(path: Path, *arguments, **options) -> Iterator[Row]:
        try:
            yield from read(path, *arguments, **options)
        except CaseError as error:
            yield path.name, None, str(error)

    return rows


def files_at(path: Path, *patterns: str) -> list[Path]:
    """Regular files of a folder that match, hidden ones left out, sorted."""
    found = {file for pattern in patterns for file in path.glob(pattern)} if path.is_dir() else set()
    return sorted(file for file in found if not file.name.startswith(".") and file.is_file())


def content_of(path: Path) -> bytes:
    """The bytes of a list, unpacked where its name ends in .gz; raises CaseError, also for more than MAX_BYTES."""
    try:
        if not path.is_file():  # a folder, pipe or device is not opened
            raise CaseError(f"{path.name} is no file that can be read")
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise CaseError(f"{path.name} cannot be read ({why}); copy it again from the data set") from error
    if len(content) > MAX_BYTES:
        raise CaseError(f"{path.name} holds more than {MAX_BYTES // 2**20} MB; divide it")
    return content


def first_bytes(path: Path, count: int) -> bytes:
    """Up to `count` bytes of a file, none where it cannot be read: for telling layouts apart."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            return stream.read(count)
    except (OSError, EOFError, zlib.error):
        return b""


def tables_with(columns: Iterable[str], path: Path, *patterns: str) -> list[Path]:
    """The CSV files of a folder that match and have these columns, in any case."""

    def header(file: Path) -> set[str]:  # of a file that is no CSV whatever its first line gives
        line = LINE_END.split(first_bytes(file, 2**16).decode("utf-8-sig", errors="replace"), maxsplit=1)[0]
        return {name.strip().strip('"').lower() for name in line.split(max(",;\t", key=line.count))}

    return [file for file in files_at(path, *patterns) if {name.lower() for name in columns} <= header(file)]


def pictures_below(path: Path, suffixes: Iterable[str]) -> dict[str, list[Path]]:
    """{file name, its ending in lower case: all files of that name} below a folder. Hidden places are left out; a link
    to a folder in it counts."""
    roots = [path, *(place for place in sorted(path.iterdir()) if place.is_symlink() and place.is_dir())]
    found: dict[str, list[Path]] = {}
    for file in (file for root in roots for file in sorted(root.rglob("*"))):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if file.name.lower().endswith(tuple(suffixes)) and not hidden and file.is_file():
            found.setdefault(file.stem + file.suffix.lower(), []).append(file)
    return found


def the_one(path: Path, found: Iterable[Path], name: str) -> Path:
    """The picture among the files `found` that may be `name`'s; which of several is meant is never guessed. Copies,
    equal to the byte, are one. Raises CaseError for none, for several, and as `resolve_inside`."""
    found = list(found)
    if not found:
        raise CaseError(f"no such image file: {name} is nowhere below the folder")
    if len(found) > 1 and len({file_sha256(file) for file in found}) > 1:
        shown = ", ".join(file.relative_to(path).as_posix() for file in found[:4])
        why = "which is meant is not guessed: move the others away"
        raise CaseError(f"{name} fits {len(found)} files ({shown}); {why}")
    return resolve_inside(path, found[0].relative_to(path).as_posix())


def picture_named(path: Path, pictures: dict[str, list[Path]], name: str, endings: Iterable[str] = ("",)) -> Path:
    """`the_one` of the files of `pictures_below` that are called `name` with one of the endings."""
    return the_one(path, [file for end in endings for file in pictures.get(name + end, [])], name)


def parse_json(text: str):
    """json.loads, with numbers of any length: those that no picture needs become floats, infinite ones too."""
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 19 else float(digits))


def load_list(path: Path, kind: type = list) -> list | dict:
    """A JSON file that holds a list (or another `kind`); raises CaseError that names the file and the fault."""
    try:
        content = parse_json(content_of(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, CaseError):
            raise
        why = f"is not complete JSON in UTF-8 ({error}); copy it again from the data set"
        raise CaseError(f"{path.name} {why}") from error
    if not isinstance(content, kind):
        raise CaseError(f"{path.name} holds a JSON {type(content).__name__}, not a {kind.__name__}")
    return content


@telling
def entries_of(path: Path, records: list | None = None) -> Iterator[Row]:
    """Each object of a JSON list (or of `records`); what is no object, or no list at all, is a fault."""
    for number, record in enumerate(load_list(path) if records is None else records, start=1):
        fault = "" if isinstance(record, dict) else f"a JSON {type(record).__name__} where an object was expected"
        yield f"{path.name} entry {number}", None if fault else record, fault


@telling
def load_lines(path: Path) -> Iterator[Row]:
    """Each line of a JSONL file that is not blank; a byte-order mark and CRLF ends are fine."""
    for number, line in enumerate(content_of(path).removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        record, fault = None, ""
        try:
            record = parse_json(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            fault = f"not valid UTF-8 at byte {error.start}; save the list as UTF-8"
        except (ValueError, RecursionError) as error:
            fault = f"not one complete JSON object ({error}); the line may be cut off"
        if not fault and not isinstance(record, dict):
            fault = f"a JSON {type(record).__name__} where an object was expected"
        yield f"line {number} of {path.name}", None if fault else record, fault


@telling
def rows_of(
    path: Path, needed: Iterable[str], *, optional: Iterable[str] = (), numbers: Iterable[str] = ()
) -> Iterator[Row]:
    """Each row of a CSV file with a header, plain or gzipped; values are stripped, a missing one is "".

    Names of columns count in any case. Fields are parted by commas, or by semicolons or tabs where the header has more
    of those (spreadsheets do so in many countries; in the columns `numbers` a comma is then a decimal point). Each row
    is parsed by itself: a stray quote, too many fields or bytes that are no UTF-8 cost that row. A file that cannot be
    read at all, or lacks a needed column, is one fault. Columns without a name are left out."""
    content = content_of(path)
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # as spreadsheets call "Unicode text"
    text = content.decode("utf-16", "replace") if wide else content.decode("utf-8-sig", "surrogateescape")
    lines = LINE_END.split(text)
    start = next((n for n, line in enumerate(lines) if line.strip()), None)
    if start is None:
        raise CaseError(f"{path.name} is empty")
    delimiter = max(",;\t", key=lines[start].count)
    known = {name.casefold(): name for name in (*needed, *optional)}
    columns = [name.strip() for name in _fields(lines[start], delimiter) or []]
    columns = [known.get(name.casefold(), name) for name in columns]
    named = [name for name in columns if name]
    missing = [name for name in needed if name not in columns]
    if missing:
        raise CaseError(f"{path.name} has no column {', '.join(missing)}; it has {', '.join(named[:12]) or 'none'}")
    if len(set(named)) < len(named):
        raise CaseError(f"{path.name} has two columns of one name; rename one of them")
    at = start + 1
    while at < len(lines):
        place, fields, used = f"{path.name} line {at + 1}", *_row(lines, at, delimiter, len(columns))
        at += used
        if fields is None:
            yield place, None, "not one complete row of CSV (a stray quote?); put text with quotes in quotes, doubled"
        elif len(fields) > len(columns):  # which field is which cannot be told
            yield place, None, "more fields than the header; put text with commas in quotes"
        elif any(not value.isascii() and re.search("[\ud800-\udfff]", value) for value in fields):
            yield place, None, "not UTF-8; save the table as CSV in UTF-8"
        elif any(value.strip() for value in fields):
            row = dict.fromkeys(named, "") | dict(zip(columns, [value.strip() for value in fields]))
            row.pop("", None)
            if delimiter != ",":
                row |= {name: row[name].replace(",", ".") for name in numbers if name in row}
            yield place, row, ""


def _row(lines: list[str], at: int, delimiter: str, width: int) -> tuple[list[str] | None, int]:
    """The fields of the row that begins at a line, and how many lines it takes; None for a line that is none."""
    text, quotes = lines[at], lines[at].count('"')
    used = 1
    while quotes % 2 and used < MAX_ROW_LINES and at + used < len(lines):
        quotes += lines[at + used].count('"')
        used += 1
    if used > 1:
        text = "\n".join(lines[at : at + used])
    fields = None if quotes % 2 else _fields(text, delimiter)
    if fields is None or (used > 1 and len(fields) != width):
        return None, 1  # the next line is a row of its own again
    return fields, used


def _fields(text: str, delimiter: str) -> list[str] | None:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), [])
    except csv.Error:
        return None


def text_in(entry: dict, key: str, *, number: bool = False) -> str:
    """The text under `key`, stripped; with `number` an integer counts as its digits. Raises CaseError."""
    value = entry.get(key)
    if number and type(value) is int:
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise CaseError(f"{key} must be text and not empty, got {str(value)[:60]!r}")
    return value.strip()


def file_name_in(entry: dict, key: str) -> str:
    """A plain file name under `key`: no folder, so it cannot leave the image folder. Raises CaseError."""
    name = text_in(entry, key)
    if re.search(r"[/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]", name) or name.startswith(".") or len(name) > 200:
        raise CaseError(f"{key} {name[:60]!r} is not a plain file name")
    return name


def box_in(row: dict, keys: Iterable[str]) -> tuple[float, ...]:
    """The finite numbers under these keys; raises CaseError."""
    values = {key: row.get(key, "") for key in keys}
    for key, value in values.items():
        try:
            values[key] = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise CaseError(f"{key} is {str(row.get(key))[:60]!r}, which is not a number") from error
        if not math.isfinite(values[key]):
            raise CaseError(f"{key} is {str(row.get(key))[:60]!r}, which is not finite")
    return tuple(values.values())


def box_of(value: object) -> tuple[float, ...]:
    """A list of four finite numbers; raises CaseError."""
    if not _are_coordinates(value) or len(value) != 4:
        raise CaseError(f"box {str(value)[:60]} is not four numbers")
    return tuple(map(float, value))


def polygon_of(value: object) -> tuple[float, ...]:
    """A polygon [x1, y1, x2, y2, x3, y3, ...] of at least three corners; raises CaseError."""
    if not _are_coordinates(value) or len(value) < 6 or len(value) % 2:
        raise CaseError("its polygon is not a list [x1, y1, x2, y2, x3, y3, ...] of numbers")
    return tuple(map(float, value))


def _are_coordinates(value: object) -> bool:
    return isinstance(value, list) and all(type(one) in (int, float) and abs(one) < MAX_COORDINATE for one in value)


def safe_id(text: str) -> str:
    """`text` where it can name a file, else CaseError."""
    if not ID_CHARACTERS.fullmatch(text):
        raise CaseError(f"id {text[:130]!r} cannot name a file: letters, digits and . _ + - ( ) only, at most 128")
    return text
