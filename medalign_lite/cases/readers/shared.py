"""What readers of data sets share: entries with their faults, one case an image, usual questions."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from string import ascii_uppercase

from medalign_lite.cases.case import Case, CaseError, Draft, Question
from medalign_lite.cases.images import ImageError
from medalign_lite.cases.readers.sources import Row
from medalign_lite.text.facts import FINDINGS
from medalign_lite.text.form import find_sections

HELD_OUT_FIRST = ("test", "val", "train")
SPLIT_WORDS = {"train": "train", "training": "train", "validation": "val", "validate": "val", "valid": "val",
               "val": "val", "dev": "val", "test": "test", "testing": "test"}  # fmt: skip
KINDS = {"CLOSED": "closed", "OPEN": "open"}
LEAK = "its image is also asked about in {held} and stays out of training (a leak of the split as published)"
TWICE = "kept: its image stands in training and in a held-out split, a leak as published"
REPORT_PROMPT = "Write a report of this image."
AFTERWARDS = re.compile(r"^[ \t]*(?:recommendation|notification)s?(?:\(s\))?[ \t]*:", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Asked:
    """One entry of a list of questions: the image it names, its split, its question or the fault that it has none."""

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


def draft(name: str, make: Callable[..., Case], *arguments, remarks: Remarks | None = None) -> Draft:
    """A Draft of the case that `make(*arguments, remarks)` returns, or of the CaseError or ImageError that it raises.
    `make` adds to `remarks` what it drops of the case, and what is to be said of it."""
    remarks = remarks or Remarks()
    try:
        return Draft(name, make(*arguments, remarks), tuple(remarks.faults), tuple(remarks.notes))
    except (CaseError, ImageError) as error:
        return Draft(name, None, (str(error), *remarks.faults), tuple(remarks.notes))


def draft_of(row: Row, make: Callable[..., Case], *arguments) -> Draft:
    """As `draft`, of the case that `make(entry, *arguments, remarks)` returns for the entry of a row that has one."""
    place, entry, fault = row
    return Draft(place, None, (fault,)) if entry is None else draft(place, make, entry, *arguments)


def grouped(rows: Iterable[Row], key: Callable[[dict], str]) -> tuple[dict[str, list[tuple[str, dict]]], list[Draft]]:
    """{key: its (place, row)} in the order of first rows, and a Draft for each row that has none or cannot be used."""
    found, faults = {}, []
    for place, row, fault in rows:
        try:
            if row is None:
                raise CaseError(fault)
            found.setdefault(key(row), []).append((place, row))
        except CaseError as error:
            faults.append(Draft(place, None, (str(error),)))
    return found, faults


def ask(
    rows: Iterable[Row], split: str, image_of: Callable[[dict], str], question_of: Callable[[dict, str], Question]
) -> Iterator[Asked | Draft]:
    """An entry for each row of a list of questions; a Draft for one without an image (or that `image_of` refuses)."""
    for place, row, fault in rows:
        image = None
        try:
            if row is None:
                raise CaseError(fault)
            image = image_of(row)
            yield Asked(image, split, place, question_of(row, place))
        except (CaseError, ImageError) as error:
            told = f"question of {place} dropped: {error}"
            yield Draft(place, None, (str(error),)) if image is None else Asked(image, split, place, None, told)


def asked_cases(
    asked: Iterable[Asked | Draft], fields: Callable[[str, Remarks], dict], *, folder: Path, splits: str = "clean"
) -> Iterator[Draft]:
    """One Draft an image, by the order of first entries, with all its questions; `fields(image, remarks)` gives the id,
    the image and what is more. `splits="clean"`: an image belongs to the most held-out split that asks about it, and
    its other questions are left out (METHOD.md D6). `"standard"`: the splits as published; an image in two of them
    comes twice, and each says so. Raises ValueError for another mode."""
    if splits not in ("clean", "standard"):
        raise ValueError(f"splits={splits!r}; known are clean, standard")
    asked = list(asked)
    yield from (entry for entry in asked if isinstance(entry, Draft))
    entries = [entry for entry in asked if isinstance(entry, Asked)]
    stands_in: dict[str, set[str]] = {}
    for entry in entries:
        stands_in.setdefault(entry.image, set()).add(entry.split)
    images: dict[tuple[str, str], tuple[list[Question], Remarks]] = {}
    for entry in entries:
        held = min(stands_in[entry.image], key=HELD_OUT_FIRST.index)
        split = entry.split if splits == "standard" else held
        questions, remarks = images.setdefault((entry.image, split), ([], Remarks()))
        if entry.split != split:
            remarks.notes.append(f"question of {entry.place} left out: {LEAK.format(held=held)}")
        elif entry.question is None:
            remarks.faults.append(entry.fault)
        elif any(entry.question.id == other.id for other in questions):
            remarks.faults.append(f"question of {entry.place} dropped: its id was used before for this image")
        else:
            questions.append(entry.question)

    def case_of(image: str, split: str, remarks: Remarks) -> Case:
        made = fields(image, remarks)
        common = {"group": made["id"], "split": split, "questions": tuple(images[image, split][0]), "folder": folder}
        twice = {"id": f"{made['id']}-{split}"} if splits == "standard" and len(stands_in[image]) > 1 else {}
        return Case(**common | made | twice)

    for (image, split), (_, remarks) in images.items():
        if splits == "standard" and len(stands_in[image]) > 1:
            remarks.notes.append(TWICE)
        yield draft(image, case_of, image, split, remarks=remarks)


def split_named(name: str, default: str = "train") -> str:
    """The split that a word of a file's name says."""
    return next((SPLIT_WORDS[word] for word in re.split(r"[\W_\d]+", name.lower()) if word in SPLIT_WORDS), default)


def left_out(number: int, study: str, which: str = "first") -> list[str]:
    """What is said of a study's views that are no case."""
    return [f"{number} more of {study} left out: a case is one image, the study's {which} view"] if number > 0 else []


def kind_of(answer: str) -> str:
    """`closed` for an answer that is yes or no, else `open`: for data sets that do not say."""
    return "closed" if re.fullmatch(r"\s*(yes|no)\s*\.?\s*", answer, re.IGNORECASE) else "open"


def answer_kind(answer_type: str) -> str:
    """The kind of question that a list calls CLOSED or OPEN; raises CaseError."""
    if answer_type not in KINDS:
        raise CaseError(f"answer_type {answer_type[:60]!r}, known are {', '.join(KINDS)}")
    return KINDS[answer_type]


def question_id(*texts: str) -> str:
    """An id for a question of a list that gives none."""
    return f"q{sha256(chr(0).join(texts).encode(errors='replace')).hexdigest()[:12]}"


def report_question(text: str) -> Question:
    """The request for a report, with `text` as its reference."""
    return Question("report", REPORT_PROMPT, text, "report", "report")


def presence_questions(present: Iterable[str], absent: Iterable[str]) -> list[Question]:
    """One closed question a label: is it there? `absent` are labels that were looked for and not found."""
    answers = [(label.lower(), "Yes") for label in present] + [(label.lower(), "No") for label in absent]
    return [
        Question(
            "presence-" + re.sub(r"\W+", "-", label).strip("-"), f"Does this image show {label}?", answer, "closed",
            "presence", label if label in FINDINGS else None,
        )
        for label, answer in answers
    ]


def label_questions(labels: dict[str, str]) -> list[Question]:
    """Questions from CheXpert's labels: 1 is present, 0 absent; uncertain (-1) and unmentioned ones are not asked."""
    return presence_questions([name for name, value in labels.items() if value in ("1", "1.0")],
                              [name for name, value in labels.items() if value in ("0", "0.0")])


def choice_question(identifier: str, text: str, options: Iterable[str], answers: Iterable[str], topic: str) -> Question:
    """A question of kind `choice`; each of `answers` is the right option's text or letter, and they must agree. Raises
    CaseError for fewer than two options or two alike, and where no option or more than one is the answer."""
    options = tuple(re.sub(rf"^\s*{letter}\s*[:.)]\s*", "", option).strip()
                    for letter, option in zip(ascii_uppercase, options))  # fmt: skip
    folded = [option.casefold().rstrip(". ") for option in options]
    if len(options) < 2 or not all(options) or len(set(folded)) < len(folded):
        raise CaseError(f"options {list(options)} are not two or more different texts")
    meant: set[str] = set()
    for answer in answers:
        said = answer.casefold().strip().rstrip(". ")
        lettered = re.fullmatch(r"\(?([a-z])\s*(?:[:.)]\s*(.*))?", said)
        if lettered and said not in folded and (letter := ascii_uppercase.find(lettered[1].upper())) < len(options):
            meant.add(options[letter])
            said = lettered[2] or said
        elif lettered and len(said) == 1:  # a letter that is also an option's text
            meant |= set(options[(at := ascii_uppercase.find(said.upper())) : at + 1])
        meant |= {option for option, known in zip(options, folded) if said == known}
    if len(meant) != 1:
        raise CaseError(f"answer {', '.join(answers)!r} names {'none' if not meant else 'several'} of the options")
    return Question(identifier, text, meant.pop(), "choice", topic, options=options)


def options_of(row: dict) -> list[str]:
    """The texts offered, in their order; a list that is written as text (as the hub has it) is read as one."""
    given = row.get("options")
    if isinstance(given, str) and len(given) < 10_000:
        try:
            given = ast.literal_eval(given)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise CaseError(f"options {given[:60]!r} are no list") from error
    if isinstance(given, dict):
        given = [given[key] for key in sorted(given)]
    if given is None:
        names = [name for letter in ascii_uppercase for name in (f"Choice {letter}", f"option_{letter}")]
        given = [row[name] for name in names if row.get(name)]
    if not isinstance(given, list) or not all(isinstance(option, str) for option in given):
        raise CaseError("options must be a list of texts")
    if any("<image" in option for option in given):
        raise CaseError("offers pictures to choose from; texts are read")
    return given


def choose_absent(name: str, known: Iterable[str], present: Iterable[str]) -> list[str]:
    """As many labels of `known` that are not `present` as are (at least one), drawn by `name`: yes and no balance."""
    present = set(present)
    absent = [label for label in known if label not in present]
    absent.sort(key=lambda label: sha256(f"{name} {label}".encode()).digest())
    return absent[: max(1, len(present))]


def describing_part(report: str) -> str:
    """The part of a radiology report that describes the picture, spaces and line ends made single. Its findings; its
    impression where it has none; all that asserts something where it names neither."""
    report = AFTERWARDS.split(report, maxsplit=1)[0]
    parts: dict[str, list[str]] = {"finding": [], "impression": [], "conclusion": [], "": []}
    section, end = "", 0
    for start, stop in find_sections(report):
        heading = report[end:start].strip().rsplit("\n", 1)[-1].lower()
        section = next((name for name in parts if name and name in heading), section)
        parts[section].append(" ".join(report[start:stop].split()))
        end = stop
    return next((text for found in parts.values() if (text := " ".join(filter(None, found)))), "")
