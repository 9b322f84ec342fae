"""Tables of comma-separated values, plain or gzipped, as rows of text; a damaged one is one sentence."""

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from medalign_lite.cases.case import CaseError

MAX_BYTES = 2**30  # of an unpacked table


def rows_of(path: Path, needed: Iterable[str]) -> Iterator[tuple[str, dict[str, str] | None, str]]:
    """(place, row, fault) of each row of a CSV file with a header; values are stripped, a missing one is "".

    Fields are parted by commas, or by semicolons or tabs where the header has more of those (spreadsheets do so in many
    countries).

    A row with more fields than columns is a fault, as is a file that cannot be read as UTF-8 CSV, or lacks a needed
    column: its row is None. Columns without a name are left out.
    """
    try:
        columns, lines = _parse(path)
        missing = [name for name in needed if name not in columns]
        named = [name for name in columns if name]
        if missing:
            raise CaseError(f"{path.name} has no column {', '.join(missing)}; it has {', '.join(named[:12]) or 'none'}")
        if len(set(named)) < len(named):
            raise CaseError(f"{path.name} has two columns of one name; rename one of them")
    except CaseError as error:
        yield path.name, None, str(error)
        return
    for number, fields in lines:
        place = f"{path.name} line {number}"
        if len(fields) > len(columns):  # which field is which cannot be told
            yield place, None, "more fields than the header; put text with commas in quotes"
        else:
            row = dict(zip(columns, [field.strip() for field in fields], strict=False))
            yield place, {name: row.get(name, "") for name in named}, ""


def number_in(row: dict, key: str) -> float:
    """The finite number under `key`; raises CaseError."""
    try:
        value = float(row.get(key, ""))
    except (TypeError, ValueError) as error:
        raise CaseError(f"{key} is {row.get(key)!r}, which is not a number") from error
    if not math.isfinite(value):
        raise CaseError(f"{key} is {row.get(key)!r}, which is not finite")
    return value


def _parse(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header and (line number, fields) of every row that is not blank."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            with gzip.open(io.BytesIO(content)) as stream:
                content = stream.read(MAX_BYTES)
        text = content.decode("utf-8-sig")
        header = text.split("\n", 1)[0]
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
        lines = [(reader.line_num, fields) for fields in reader if any(field.strip() for field in fields)]
    except OSError as error:
        raise CaseError(f"{path.name} cannot be read ({error.strerror or error}); copy it again") from error
    except UnicodeDecodeError as error:
        raise CaseError(f"{path.name} is not UTF-8 at byte {error.start}; save it as CSV in UTF-8") from error
    except (csv.Error, EOFError, zlib.error) as error:
        raise CaseError(f"{path.name} is not complete CSV ({error}); save it again") from error
    if not lines:
        raise CaseError(f"{path.name} is empty")
    return [name.strip() for name in lines[0][1]], lines[1:]
