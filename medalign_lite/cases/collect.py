"""From a reader's drafts to the cases that are kept: texts cleaned, files opened, groups joined, the rest counted."""

import re
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256

from scipy.cluster.hierarchy import DisjointSet

from medalign_lite.cases.case import Case, CaseError, CaseSet, Draft, Question, changed_images, kept, lesion_pixels
from medalign_lite.cases.images import ImageError, read_image, read_mask
from medalign_lite.files import visible

MAX_TEXT = 50_000  # characters of a question, an answer or a report
IMAGE_MARKER = "<image>"  # where lists in LLaVA's manner put the picture
# What a terminal obeys: control characters (C0, C1) and overrides of direction; tabs and line ends stay.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def collect(
    drafts: Iterable[Draft], *, layout: str = "", reason: str = "", strict: bool = False, check_files: bool = True
) -> CaseSet:
    """Check a reader's drafts and keep the good ones; arguments and errors as in `readers.read_cases`. Groups that
    share a picture (its pixels; only with `check_files`) are joined (METHOD.md D6)."""
    cases, skipped, dropped, notes, pixels = [], [], [], [], []
    seen: set[str] = set()
    for draft in drafts:
        case, faults, told = draft.case, list(draft.faults), list(draft.notes)
        try:
            if case is None and faults:
                raise CaseError(faults[0])
            if case is not None:
                case, more = _check(case, seen, check_files, faults, told)
                cases.append(case)
                pixels.append(more)
                dropped += [_entry(case.id, fault) for fault in faults]
        except (CaseError, ImageError) as error:
            skipped.append(_entry(draft.id, str(error)))
        notes += [_entry(draft.id, note) for note in told]
        if strict and (skipped or dropped):
            problem = (skipped or dropped)[0]
            raise CaseError(f"case {problem['id']}: {problem['reason']} (without STRICT=1 it would be left out)")
    if not cases:
        examples = "; ".join(f"{entry['id']}: {entry['reason']}" for entry in skipped[:3]) or "the list is empty"
        raise CaseError(f"no usable case was found ({layout}): {examples}. Correct the list, then run again.")
    groups = join_groups([(case.group, f"pixels {key}" if key else case.group) for case, key in zip(cases, pixels)])
    notes += [
        _entry(case.id, f"group {case.group} joined to {group}: both hold one picture, or one patient's")
        for case, group in zip(cases, groups) if group != case.group
    ]
    cases = [case if case.group == group else replace(case, group=group) for case, group in zip(cases, groups)]
    return CaseSet(tuple(cases), skipped, layout, reason, dropped, notes)


def _entry(name: str, reason: str) -> dict:
    return {"id": visible(name)[:200], "reason": visible(reason)[:1000]}


def _check(case: Case, seen: set[str], check_files: bool, faults: list[str], notes: list[str]) -> tuple[Case, str]:
    """The case as it is kept, and a name of its picture's pixels ("" where files are not checked); raises CaseError."""
    if case.id in seen:
        raise CaseError("this id was used before in the list; the first case with it is kept")
    case = _with_clean_texts(case, faults, notes)
    case, pixels = _check_files(case, faults) if check_files else (case, "")
    if not case.questions:
        raise CaseError("; ".join(["no usable question", *faults]))
    seen.add(case.id)
    return case, pixels


def _with_clean_texts(case: Case, faults: list[str], notes: list[str]) -> Case:
    """The case without questions and lesions whose text nobody can use; see `clean_text`."""
    for value in (case.id, case.group, case.source):
        if clean_text(value) != value:
            raise CaseError(f"{value[:60]!r} holds control characters; correct it in the list")
    asked = ((f"question {question.id!r}", question) for question in case.questions)
    questions = kept(asked, lambda question: _with_clean_text(question, case.id, notes), faults)

    def labelled(lesion):
        if not (label := clean_text(lesion.label)):
            raise CaseError("its label holds control characters only")
        return replace(lesion, label=label)

    lesions = kept(((f"lesion {lesion.label[:60]!r}", lesion) for lesion in case.lesions), labelled, faults)
    return replace(case, questions=tuple(questions), lesions=tuple(lesions))


def _with_clean_text(question: Question, case: str, notes: list[str]) -> Question:
    found = {name: clean_text(getattr(question, name)) for name in ("text", "answer", "topic")}
    found |= {"options": tuple(map(clean_text, question.options))}
    if any(getattr(question, name) != text for name, text in found.items()):
        notes.append(f"question {question.id} of {case} kept: its control characters became spaces")
    marked = found["text"].split(IMAGE_MARKER)
    if len(marked) == 2 and not all(part.strip() for part in marked):  # in front of the text or behind it
        found["text"] = "".join(marked).strip()
        notes.append(f"question {question.id} of {case} kept: its marker {IMAGE_MARKER} was taken out")
    texts = (found["text"], found["answer"], *found["options"])
    if any(IMAGE_MARKER in text for text in texts):
        raise CaseError(f"it holds the marker {IMAGE_MARKER} within a text or several times")
    if not all(texts):
        raise CaseError("nothing is left of a text but markers and control characters")
    return replace(question, **found | {"topic": found["topic"] or "question"})


def clean_text(text: str) -> str:
    """Text with spaces for its control characters; raises CaseError for half a character and for MAX_TEXT."""
    if len(text) > MAX_TEXT:
        raise CaseError(f"a text of {len(text)} characters; at most {MAX_TEXT} are read")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CaseError("half a character (a lone surrogate); save the list as UTF-8") from error
    return CONTROL.sub(" ", text).strip() if CONTROL.search(text) else text


def join_groups(shared: Iterable[tuple[str, ...]]) -> list[str]:
    """For each case a name of its group: of all that it shares a name with, directly or through others, the first one.
    Each entry holds the names (patient, picture, ...) that a case goes by; the first of them may name the group."""
    shared = list(shared)
    joined = DisjointSet({name for names in shared for name in names})
    for names in shared:
        for name in names[1:]:
            joined.merge(names[0], name)
    firsts: dict[str, str] = {}
    return [firsts.setdefault(joined[names[0]], names[0]) for names in shared]


def _check_files(case: Case, faults: list[str]) -> tuple[Case, str]:
    """The case without its unusable lesions, and a name of its picture's pixels. Raises ImageError or CaseError where
    the image, a changed one or a fact's mask is unusable: the picture or its truth is in doubt, and the case goes."""
    image = read_image(case.image)
    size = image.size
    for path in changed_images(case):
        if (other := read_image(path).size) != size:
            raise CaseError(f"{path}: the changed image is {other} pixels, the image {size}; render both alike")
    for fact in case.facts or ():
        if fact.mask is not None:
            read_mask(case.folder / fact.mask, size)

    def checked(lesion):
        lesion = lesion if lesion.box is None else replace(lesion, box=check_box(lesion.box, size))
        if lesion.outlined:
            lesion_pixels(lesion, folder=case.folder, size=size)
        for x, y in lesion.points:
            if not (0 <= x < size[0] and 0 <= y < size[1]):
                raise CaseError(f"point [{x:g}, {y:g}] is outside the image of {size[0]}x{size[1]} pixels")
        return lesion

    good = kept(((f"lesion {lesion.label!r}", lesion) for lesion in case.lesions), checked, faults)
    return replace(case, lesions=tuple(good)), sha256(repr(size).encode() + image.tobytes()).hexdigest()


def check_box(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box (x, y, width, height) in pixels that lies in an image of `size` (width, height), clipped by up to a pixel.
    Raises CaseError for a negative, reversed or empty box, one outside the image, and one that covers all of it."""
    x, y, width, height = box
    shown = f"box [{x:g}, {y:g}, {width:g}, {height:g}] in an image of {size[0]}x{size[1]}"
    if width <= 0 or height <= 0:
        raise CaseError(f"{shown}: negative or reversed; a box is [x, y, width, height] from the top left corner")
    if x < -1 or y < -1 or x + width > size[0] + 1 or y + height > size[1] + 1:
        raise CaseError(f"{shown}: leaves the image; boxes are in pixels of the upright image, [x, y, width, height]")
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + width, float(size[0])), min(y + height, float(size[1]))
    if right - left < 1 or bottom - top < 1:
        raise CaseError(f"{shown}: less than one pixel inside the image")
    if (right - left, bottom - top) == (float(size[0]), float(size[1])):
        raise CaseError(f"{shown}: covers the whole image; a lesion must leave healthy pixels")
    return left, top, right - left, bottom - top
