"""What people say of a model's answers: right, unsure, or which words to replace; kept action by action on disk.

Each annotator has a journal, `FOLDER/NAME.jsonl`: a line for every action, with the whole judgement after it, written
before the next action is possible. The last line of an answer counts; an undo is a line too. So a stopped session goes
on where it stopped, and who said what, when, stays on record.

An answer is known by picture, question and words (`Item.key`): notes hold for it in any run, and for no other.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from medalign_lite.cases.case import Case, Question
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.files import digest, file_sha256, write_text
from medalign_lite.text.spans import Change

MARKS = ("right", "unsure")
ACTIONS = ("replace", "mark", "clear", "undo")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
LONGEST = 2000  # characters of one replacement


class NoteError(ValueError):
    """A note, name or file that cannot be used; the message says what and where."""


@dataclass(frozen=True)
class Judgement:
    """What somebody says of one answer. Changes do not overlap and are in reading order."""

    mark: str | None = None  # one of MARKS
    changes: tuple[Change, ...] = ()

    @property
    def verdict(self) -> str | None:
        """right, wrong or unsure; None where nothing is said yet."""
        return self.mark or ("wrong" if self.changes else None)


@dataclass(frozen=True)
class Note:
    """One action and the judgement after it: a line of a journal. `time` is UTC, ISO 8601, and may go back, as clocks
    do; `order` counts the annotator's actions, and decides which is the last."""

    item: str
    annotator: str
    time: str
    action: str  # one of ACTIONS
    judgement: Judgement
    answer: str  # as it was judged, so that a journal can be read alone
    saw_reference: bool = False
    order: int = 0


@dataclass(frozen=True)
class Item:
    """One answer to look at."""

    key: str
    case: Case
    question: Question
    answer: str


def item_key(case: Case, question: Question, answer: str) -> str:
    """16 hexadecimal digits over the picture's bytes, the question's words and the answer's. Reads the picture."""
    return digest([_picture(case.image), question.text, answer])[:16]


_picture = cache(file_sha256)


def list_items(rollouts: Iterable[Rollout], cases: Iterable[Case]) -> list[Item]:
    """The answers as items, in their order; one that comes twice, one cut off, and one about what cannot be seen are
    left out."""
    by_id = {case.id: case for case in cases}
    found: dict[str, Item] = {}
    for rollout in rollouts:
        case = by_id[rollout.case_id]
        question = next(q for q in case.questions if q.id == rollout.question_id)
        if question.visible and rollout.text.strip() and rollout.decoding.get("finished", True):
            key = item_key(case, question, rollout.text)
            found.setdefault(key, Item(key, case, question, rollout.text))
    return list(found.values())


# Actions: a judgement and what is done to it


def replace_words(said: Judgement, answer: str, changes: Iterable[Change]) -> Judgement:
    """With these changes; earlier ones that they touch are gone, and so is the mark. Raises NoteError for characters
    outside the answer, changes that overlap, or a replacement that changes nothing."""
    new = tuple(sorted(changes))
    for change in new:
        _check_change(change, answer)
        if answer[change.start : change.end] == change.new:
            raise NoteError("the replacement says the same as the words it replaces")
    if not new or any(_touch(a, b) for a, b in zip(new, new[1:])):
        raise NoteError("no change, or changes of the same words")
    kept = (old for old in said.changes if not any(_touch(old, change) for change in new))
    return Judgement(None, tuple(sorted([*kept, *new])))


def restore_words(said: Judgement, start: int, end: int) -> Judgement:
    """Without the changes within [start, end)."""
    here = Change(start, end, "")
    return replace(said, changes=tuple(change for change in said.changes if not _touch(change, here)))


def mark(said: Judgement, value: str) -> Judgement:
    """Marked; "right" takes the changes back, "unsure" leaves them (they give no record)."""
    if value not in MARKS:
        raise NoteError(f"an answer is marked {' or '.join(MARKS)}, not {value!r}")
    return Judgement(value, () if value == "right" else said.changes)


def _touch(a: Change, b: Change) -> bool:
    return max(a.start, b.start) < min(a.end, b.end)


def _check_change(change: Change, answer: str) -> None:
    if not 0 <= change.start < change.end <= len(answer):
        raise NoteError(f"characters {change.start} to {change.end} are not in an answer of {len(answer)}")
    if len(change.new) > LONGEST:
        raise NoteError(f"a replacement of more than {LONGEST} characters")


# Journals


class Journal:
    """The notes of one annotator, in `folder`/`annotator`.jsonl; the file appears with the first action."""

    def __init__(self, folder: Path | str, annotator: str):
        """Reads what is there. Raises NoteError for a name that is no file name, and as `read_notes`."""
        if not NAME.fullmatch(annotator):
            raise NoteError("a name or initials of up to 32 letters, digits, - and _, please; no patient's, no e-mail")
        self.annotator, self.path = annotator, Path(folder) / f"{annotator}.jsonl"
        self.refresh()

    def refresh(self) -> None:
        """Read what is on the disk now: the same annotator may have another window open."""
        self.notes = read_notes(self.path) if self.path.exists() else []

    def judgement(self, key: str) -> Judgement:
        """The last one of this answer."""
        return next((note.judgement for note in reversed(self.notes) if note.item == key), Judgement())

    def write(self, item: Item, action: str, said: Judgement, *, saw_reference: bool = False) -> None:
        """Add a line and wait until it is on the disk."""
        self.refresh()
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        order = 1 + max((note.order for note in self.notes), default=0)
        note = Note(item.key, self.annotator, now, action, said, item.answer, saw_reference, order)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(self.path)
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(_line(note))
            file.flush()
            os.fsync(file.fileno())
        self.notes.append(note)

    def undo(self, items: Mapping[str, Item]) -> str | None:
        """Take back the last action that is not taken back yet, on any of `items`; returns its key, None if none is."""
        done: list[Note] = []
        for note in self.notes:
            if note.item in items:
                done.pop() if note.action == "undo" else done.append(note)
        if not done:
            return None
        key = done[-1].item
        before = [note.judgement for note in done[:-1] if note.item == key]
        self.write(items[key], "undo", before[-1] if before else Judgement())
        return key


def read_notes(path: Path | str) -> list[Note]:
    """The notes of a journal or an export. A last line that was cut off is left out. Raises NoteError for any other
    line that is no note, with its number."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    return parse_notes(text, name=str(path))


def parse_notes(text: str, *, name: str) -> list[Note]:
    """As `read_notes`, of text that calls itself `name`."""
    lines, notes = text.split("\n"), []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            notes.append(_note({"order": number} | json.loads(line)))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if number == len(lines):
                break
            raise NoteError(f"{name} line {number} is no note: {error}; take the line out, or the file away") from error
    return notes


def read_journals(folder: Path | str) -> dict[str, list[Note]]:
    """{annotator: notes} of every journal in the folder. Raises NoteError as `read_notes`."""
    return {path.stem: read_notes(path) for path in sorted(Path(folder).glob("*.jsonl")) if NAME.fullmatch(path.stem)}


def last_judgements(notes: Iterable[Note]) -> dict[str, Note]:
    """{answer's key: the note that counts}, of one annotator; answers on which all was taken back are left out."""
    last = {note.item: note for note in notes}
    return {key: note for key, note in last.items() if note.judgement.verdict}


def export_notes(folder: Path | str) -> str:
    """All journals of the folder as one JSONL text."""
    return "".join(_line(note) for notes in read_journals(folder).values() for note in notes)


def import_notes(folder: Path | str, text: str) -> int:
    """Put exported notes into the journals of their annotators; returns how many were new. Notes that are there already
    are left alone; a journal stays in the order of its actions. Raises NoteError for a line that is no note or an
    annotator's name that is no file name; then nothing is written."""
    new: dict[str, list[Note]] = {}
    for note in parse_notes(text if text.endswith("\n") else text + "\n", name="the import"):
        new.setdefault(note.annotator, []).append(note)
    added = 0
    for journal in [Journal(folder, name) for name in new]:  # all are read before one is written
        there = set(journal.notes)
        if fresh := [note for note in dict.fromkeys(new[journal.annotator]) if note not in there]:
            journal.path.parent.mkdir(parents=True, exist_ok=True)
            ordered = sorted([*journal.notes, *fresh], key=lambda note: (note.order, note.time))
            write_text(journal.path, "".join(map(_line, ordered)))
            added += len(fresh)
    return added


def _drop_torn_line(path: Path) -> None:
    """Take out a last line that was cut off, by a crash or a full disk; end one that lacks its end alone."""
    whole, end, last = path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"")
    try:
        if last and json.loads(last):
            with path.open("ab") as file:
                file.write(b"\n")
    except ValueError:
        os.truncate(path, len(whole + end))


def _line(note: Note) -> str:
    return json.dumps(asdict(note), ensure_ascii=False) + "\n"


def _note(row: dict) -> Note:
    """The note of a line. Raises ValueError, TypeError or KeyError for what is none."""
    note = Note(**row)
    said = note.judgement
    changes = tuple(Change(int(c["start"]), int(c["end"]), c["new"]) for c in said["changes"])
    note = replace(note, judgement=Judgement(said["mark"], changes))
    texts = (note.item, note.annotator, note.time, note.answer, *(change.new for change in changes))
    if not all(isinstance(text, str) for text in texts) or not isinstance(note.saw_reference, bool) \
            or not isinstance(note.order, int):
        raise ValueError("a field of the wrong kind")
    if note.action not in ACTIONS or said["mark"] not in (None, *MARKS) or not NAME.fullmatch(note.annotator):
        raise ValueError("an unknown action, mark or name")
    datetime.fromisoformat(note.time)
    for change in changes:
        _check_change(change, note.answer)
    if any(_touch(a, b) for a, b in zip(changes, changes[1:])) or list(changes) != sorted(changes):
        raise ValueError("changes that overlap or are out of order")
    return note
