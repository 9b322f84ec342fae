"""The kit's own layout: cases.jsonl, one JSON object a line; the example is in `medalign_lite/cases/case.py`."""

import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path

from medalign_lite.cases.case import KINDS, SPLITS, Case, CaseError, Draft, Lesion, Question, kept, resolve_inside
from medalign_lite.cases.readers import sources
from medalign_lite.cases.readers.sources import Reader
from medalign_lite.text.facts import FINDINGS, SIDES, SIZES, ZONES, Fact

# Ids become file names.
SAFE_ID = re.compile(r"[^\s/\\.\x00-\x1f\x7f-\x9f\ud800-\udfff][^/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,127}")


def lists(path: Path) -> list[Path]:
    """The list: `path` itself or the one in it."""
    return [path] if path.is_file() and path.suffix == ".jsonl" else sources.files_at(path, "cases.jsonl")


def read(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per line of the list; a byte-order mark, CRLF ends and blank lines are fine."""
    file = lists(path)[0]
    folder = (root or file.parent).resolve()
    for place, record, fault in sources.load_lines(file):
        name = place
        try:
            if record is None:
                raise CaseError(fault)
            if isinstance(record.get("id"), str):
                name = record["id"]
            yield _draft(record, folder)
        except CaseError as error:
            yield Draft(name, None, (f"{error} ({place})" if name != place else str(error),))


def _draft(record: dict, folder: Path) -> Draft:
    _check_keys(record, Case, "case")
    identifier = _identifier(record, "id")
    faults: list[str] = []
    unique: dict[str, Question] = {}
    for question in kept(_numbered(record["questions"], "question"), read_question, faults):
        if unique.setdefault(question.id, question) is not question:
            faults.append(f"question {question.id!r} dropped: its id was used before in this case")
    facts, marks = record.get("facts"), _numbered(record.get("lesions") or [], "lesion")
    lesions = kept(marks, lambda mark: read_lesion(mark, folder), faults)
    hidden = _text(record, "hidden", optional=True)
    case = Case(
        id=identifier, group=_text(record, "group"), split=_choice(record, "split", SPLITS),
        image=resolve_inside(folder, _text(record, "image")), questions=tuple(unique.values()),
        facts=None if facts is None else tuple(read_fact(fact, folder) for fact in _list(facts, "facts")),
        lesions=tuple(lesions), hidden=None if hidden is None else resolve_inside(folder, hidden),
        source=_text(record, "source", optional=True) or "", folder=folder,
    )
    return Draft(identifier, case, tuple(faults))


def read_question(record: dict) -> Question:
    """One question from its JSON object; raises CaseError."""
    _check_keys(record, Question, "question")
    options = tuple(_text({"option": option}, "option") for option in _list(record.get("options") or [], "options"))
    if (record["kind"] == "choice") != bool(options) or options and record["answer"] not in options:
        raise CaseError("kind choice needs options with the answer among them, and other kinds have none")
    return Question(
        id=_identifier(record, "id"), text=_text(record, "text"), answer=_text(record, "answer"),
        kind=_choice(record, "kind", KINDS), topic=_text(record, "topic"),
        finding=_choice(record, "finding", FINDINGS, optional=True), visible=_flag(record, "visible"), options=options,
    )


def read_fact(record: dict, folder: Path) -> Fact:
    """One fact from its JSON object; raises CaseError."""
    _check_keys(record, Fact, "fact")
    return Fact(
        finding=_choice(record, "finding", FINDINGS), side=_choice(record, "side", SIDES, optional=True),
        zone=_choice(record, "zone", ZONES, optional=True), size=_choice(record, "size", SIZES, optional=True),
        visible=_flag(record, "visible"), cnr=None if record.get("cnr") is None else _number(record["cnr"], "cnr"),
        mask=_file(record, "mask", folder), removed=_file(record, "removed", folder),
        moved=_file(record, "moved", folder),
    )


def read_lesion(record: dict, folder: Path) -> Lesion:
    """One lesion from its JSON object; raises CaseError. Whether it lies in the image is checked with the image."""
    _check_keys(record, Lesion, "lesion")
    box, mask, label_id = record.get("box"), _file(record, "mask", folder), record.get("label_id")
    polygons = tuple(sources.polygon_of(entry) for entry in _list(record.get("polygons") or [], "polygons"))
    points = tuple(_point(entry) for entry in _list(record.get("points") or [], "points"))
    if box is None and mask is None and not polygons and not points:
        raise CaseError("neither box nor mask nor polygons nor points; give one of them")
    if box is not None and (not isinstance(box, list) or len(box) != 4):
        raise CaseError(f"box {box!r} is not [x, y, width, height]")
    if label_id is not None and (type(label_id) is not int or mask is None):
        raise CaseError(f"label_id {label_id!r} must be an integer that occurs in a mask")
    box = None if box is None else tuple(_number(value, "box") for value in box)
    made_by = _text(record, "made_by", optional=True)
    return Lesion(_text(record, "label"), box, mask, label_id, polygons, points, made_by)


def _point(entry: object) -> tuple[float, float]:
    if not isinstance(entry, list) or len(entry) != 2:
        raise CaseError(f"point {entry!r} is not [x, y]")
    return _number(entry[0], "points"), _number(entry[1], "points")


def _numbered(entries: object, what: str) -> Iterator[tuple[str, object]]:
    return ((f"{what} {number}", entry) for number, entry in enumerate(_list(entries, f"{what}s"), start=1))


def _check_keys(record: object, made: type, what: str) -> None:
    """Raise CaseError unless the record holds the fields of the dataclass that is made of it, and no others."""
    if not isinstance(record, dict):
        raise CaseError(f"a {what} must be a JSON object, not {type(record).__name__}")
    known = [field for field in fields(made) if field.name != "folder"]
    needed = {field.name for field in known if field.default is MISSING}
    optional = {field.name for field in known} - needed
    missing, unknown = sorted(needed - record.keys()), sorted(record.keys() - needed - optional)
    if missing:
        raise CaseError(f"{what} without {', '.join(missing)}; needed are {', '.join(sorted(needed))}")
    if unknown:
        raise CaseError(f"{what} with unknown {', '.join(unknown)}; optional are {', '.join(sorted(optional))}")


def _list(value: object, what: str) -> list:
    if not isinstance(value, list):
        raise CaseError(f"{what} must be a JSON list, not {type(value).__name__}")
    return value


def _text(record: dict, key: str, *, optional: bool = False) -> str | None:
    value = record.get(key)
    if value is None and optional:
        return None
    if not isinstance(value, str) or not value.strip():
        raise CaseError(f"{key} must be text and not empty, got {str(value)[:60]!r}")
    return value


def _identifier(record: dict, key: str) -> str:
    value = _text(record, key)
    if not SAFE_ID.fullmatch(value):
        raise CaseError(f"{key} {value[:130]!r} cannot name a file: no slash, no dot in front, at most 128 characters")
    return value


def _choice(record: dict, key: str, allowed: tuple[str, ...], *, optional: bool = False) -> str | None:
    value = record.get(key)
    if value is None and optional:
        return None
    if not isinstance(value, str) or value not in allowed:
        raise CaseError(f"{key} is {str(value)[:60]!r}; allowed are {', '.join(allowed)}")
    return value


def _flag(record: dict, key: str) -> bool:
    value = record.get(key, True)
    if not isinstance(value, bool):
        raise CaseError(f"{key} must be true or false, got {value!r}")
    return value


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise CaseError(f"{what} holds {value!r}, which is not a number")
    if abs(value) > sys.float_info.max:
        raise CaseError(f"{what} holds a number that is too large")
    return float(value)


def _file(record: dict, key: str, folder: Path) -> str | None:
    name = _text(record, key, optional=True)
    if name is not None:
        resolve_inside(folder, name)
    return name


KIT = Reader("medalign-lite cases.jsonl", "a .jsonl file, or a folder that holds cases.jsonl", lists, read)
