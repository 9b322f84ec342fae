"""What the readers of published data sets share: lists from files, questions with their faults, one case an image.

An entry of such a data set asks one question about one image; a case has all questions about its image.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft, Question
from medalign_lite.text.facts import FINDINGS

HELD_OUT_FIRST = ("test", "val", "train")
SPLIT_MODES = ("clean", "standard")
LEAK = "its image is also asked about in {held} and stays out of training (a leak of the split as published)"
MAX_COORDINATE = 1e6  # pixels; no picture is that large
REPORT_PROMPT = "Write a report of this image."
ID_CHARACTERS = re.compile(r"[A-Za-z0-9][\w.()+-]{0,127}", re.ASCII)


@dataclass(frozen=True)
class Asked:
    """One entry: the image it names, the split it stands in, its question or the fault that it has none."""

    image: str
    split: str
    place: str
    question: Question | None
    fault: str = ""


@dataclass
class Remarks:
    """What is said of one entry: parts dropped for a `fault`, and `notes` that are none (see `cases.Draft`)."""

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: "Remarks") -> None:
        self.faults += other.faults
        self.notes += other.notes


@dataclass
class Image:
    """All that a data set asks about one image; `split` is the one that it is read for."""

    name: str
    split: str
    shared: bool = False  # also stands in another split
    questions: list[Question] = field(default_factory=list)
    remarks: Remarks = field(default_factory=Remarks)


def by_image(asked: Iterable[Asked], *, splits: str = "clean") -> list[Image]:
    """Entries gathered by image, images in the order of their first entry.

    `splits="clean"`: an image belongs to the most held-out split that asks about it, and its other questions are left
    out (METHOD.md D6). `"standard"`: the splits as published; an image in two of them comes twice, and each says so.
    Raises ValueError for another mode.
    """
    if splits not in SPLIT_MODES:
        raise ValueError(f"splits={splits!r}; known are {', '.join(SPLIT_MODES)}")
    asked = list(asked)
    found: dict[str, set[str]] = {}
    for entry in asked:
        found.setdefault(entry.image, set()).add(entry.split)
    images: dict[tuple[str, str], Image] = {}
    for entry in asked:
        held = min(found[entry.image], key=HELD_OUT_FIRST.index)
        split = entry.split if splits == "standard" else held
        shared = len(found[entry.image]) > 1
        image = images.setdefault((entry.image, split), Image(entry.image, split, shared and splits == "standard"))
        if entry.split != split:
            image.remarks.notes.append(f"question of {entry.place} left out: {LEAK.format(held=held)}")
        elif entry.question is None:
            image.remarks.faults.append(entry.fault)
        elif any(entry.question.id == other.id for other in image.questions):
            image.remarks.faults.append(f"question of {entry.place} dropped: its id was used before for this image")
        else:
            image.questions.append(entry.question)
    for image in images.values():
        if image.shared:
            image.remarks.notes.append(
                "kept: its image stands in training and in a held-out split, a leak as published"
            )
    return list(images.values())


def first_bytes(path: Path, count: int = -1) -> bytes:
    """Up to `count` bytes of a file (default: all), none where it cannot be read: for telling layouts apart."""
    try:
        with path.open("rb") as stream:
            return stream.read(count)
    except OSError:
        return b""


def load_list(path: Path, kind: type = list) -> list | dict:
    """A JSON file that holds a list (or another `kind`); raises CaseError that names the file and the fault."""
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise CaseError(f"{path.name} cannot be read ({error.strerror}); copy it again from the data set") from error
    except (ValueError, RecursionError) as error:
        raise CaseError(
            f"{path.name} is not complete JSON in UTF-8 ({error}); copy it again from the data set"
        ) from error
    if not isinstance(content, kind):
        raise CaseError(f"{path.name} holds a JSON {type(content).__name__}, not a {kind.__name__}")
    return content


def text_in(entry: dict, key: str, *, number: bool = False) -> str:
    """The text under `key`, stripped; with `number` an integer counts as its digits. Raises CaseError."""
    value = entry.get(key)
    if number and type(value) is int:
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise CaseError(f"{key} must be text and not empty, got {value!r}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CaseError(f"{key} holds half a character (a lone surrogate)") from error
    return value.strip()


def file_name_in(entry: dict, key: str) -> str:
    """A plain file name under `key`: no folder, so it cannot leave the image folder. Raises CaseError."""
    name = text_in(entry, key)
    if re.search(r"[/\\\x00]", name) or name.startswith("."):
        raise CaseError(f"{key} {name!r} is not a plain file name")
    return name


def polygon_of(value: object) -> tuple[float, ...]:
    """A polygon [x1, y1, x2, y2, x3, y3, ...] of at least three corners; raises CaseError."""
    fine = isinstance(value, list) and len(value) >= 6 and len(value) % 2 == 0
    if not fine or not all(type(number) in (int, float) and abs(number) < MAX_COORDINATE for number in value):
        raise CaseError("its polygon is not a list [x1, y1, x2, y2, x3, y3, ...] of numbers")
    return tuple(map(float, value))


def safe_id(text: str) -> str:
    """`text` where it can name a file, else CaseError."""
    if not ID_CHARACTERS.fullmatch(text):
        raise CaseError(f"id {text!r} cannot name a file: letters, digits and . _ + - ( ) only, at most 128")
    return text


def kind_of(answer: str) -> str:
    """`closed` for an answer that is yes or no, else `open`: for data sets that do not say."""
    return "closed" if re.fullmatch(r"\s*(yes|no)\s*\.?\s*", answer, re.IGNORECASE) else "open"


def report_question(text: str) -> Question:
    """The request for a report, with `text` as its reference."""
    return Question("report", REPORT_PROMPT, text, "report", "report")


def presence_questions(present: Iterable[str], absent: Iterable[str]) -> list[Question]:
    """One closed question a label: is it there? `absent` are labels that were looked for and not found."""
    answers = [(label, "Yes") for label in present] + [(label, "No") for label in absent]
    return [
        Question(
            id="presence-" + re.sub(r"\W+", "-", label.lower()).strip("-"),
            text=f"Does this image show {label.lower()}?",
            answer=answer,
            kind="closed",
            topic="presence",
            finding=label.lower() if label.lower() in FINDINGS else None,
        )
        for label, answer in answers
    ]


def draft(name: str, make: Callable[..., Case], *arguments) -> Draft:
    """A Draft of the case that `make(*arguments, remarks)` returns, or of the CaseError that it raises.

    `make` adds to `remarks` what it drops of the case, and what is to be said of it.
    """
    remarks = Remarks()
    try:
        case = make(*arguments, remarks)
    except CaseError as error:
        return Draft(name, None, (str(error), *remarks.faults), tuple(remarks.notes))
    return Draft(name, case, tuple(remarks.faults), tuple(remarks.notes))


def entries_of(path: Path, records: Callable[[], list]) -> Iterator[tuple[str, dict | None, str]]:
    """(place, record, fault) of each object of a list; what is no object, or no list at all, is a fault."""
    try:
        found = records()
    except CaseError as error:
        yield path.name, None, str(error)
        return
    for number, record in enumerate(found, start=1):
        place = f"{path.name} entry {number}"
        fault = "" if isinstance(record, dict) else f"a JSON {type(record).__name__} where an object was expected"
        yield place, None if fault else record, fault


def choose_absent(name: str, known: Iterable[str], present: Iterable[str]) -> list[str]:
    """As many labels of `known` that are not `present` as are (at least one), drawn by `name`: yes and no balance."""
    present = set(present)
    absent = [label for label in known if label not in present]
    absent.sort(key=lambda label: sha256(f"{name} {label}".encode()).digest())
    return absent[: max(1, len(present))]


def load_lines(path: Path) -> Iterator[tuple[str, dict | None, str]]:
    """(place, record, fault) of each line of a JSONL file that is not blank; a record is None where it has a fault."""
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        yield path.name, None, f"cannot be read ({error.strerror}); check its permissions"
        return
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        place = f"{path.name} line {number}"
        try:
            record = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield place, None, f"not valid UTF-8 at byte {error.start}; save the list as UTF-8"
        except (ValueError, RecursionError) as error:
            yield place, None, f"not one complete JSON object ({error}); the line may be cut off"
        else:
            fault = "" if isinstance(record, dict) else f"a JSON {type(record).__name__} where an object was expected"
            yield place, None if fault else record, fault
