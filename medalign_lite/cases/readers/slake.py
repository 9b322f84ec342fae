"""SLAKE as published (Liu et al. 2021): train/validate/test.json, imgs/<id>/{source.jpg,mask.png,detection.json}.

Lesions come from detection.json, boxes [x, y, width, height]. On CT and MRI mask.png holds the ids of mask.txt and
gives the outline inside each box; on X-rays mask.png is a picture with boxes drawn on it, so the box is all there is.
Which of the two it is shows in its values. Labels of healthy organs are not lesions.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from medalign_lite.cases.case import Case, CaseError, Draft, Lesion, Question, resolve_inside
from medalign_lite.cases.images import ImageError, image_size, read_labels
from medalign_lite.cases.readers.entries import LEAK, load_list, safe_id, text_in

LAYOUT = "SLAKE"
MAKES_FILES = False
NEEDS = "a folder that holds imgs/ and train.json, validate.json or test.json"
SPLIT_FILES = {"test": "test.json", "val": "validate.json", "train": "train.json"}  # an image in two stays held out
KINDS = {"CLOSED": "closed", "OPEN": "open"}
QUESTION_KEYS = ("qid", "img_name", "question", "answer", "q_lang", "answer_type", "content_type", "modality")

# What SLAKE marks is an organ or a lesion; these are all of its lesion labels (the tumours of mask.txt and the
# findings that its X-rays take from ChestX-ray8). Every other known label is an organ.
LESIONS = frozenset({
    "Brain Edema", "Brain Enhancing Tumor", "Brain Non-enhancing Tumor", "Kidney Cancer", "Liver Cancer", "Lung Cancer",
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltrate", "Infiltration", "Mass", "Nodule", "Pneumonia",
    "Pneumothorax",
})  # fmt: skip


def detect(path: Path) -> str | None:
    """Why `path` is a SLAKE folder, or None."""
    files = [name for name in SPLIT_FILES.values() if (path / name).is_file()]
    if files and (path / "imgs").is_dir():
        return f"the folder holds imgs/ and {', '.join(files)}"
    return None


def read(path: Path, *, root: Path | None = None, languages: tuple[str, ...] = ("en",)) -> Iterator[Draft]:
    """One Draft per image, with its questions in `languages`; a split file that cannot be read is one Draft as well."""
    folder = (root or path).resolve()
    by_image: dict[str, tuple[str, list[dict]]] = {}
    leaks: dict[str, list[str]] = {}
    for split, name in SPLIT_FILES.items():
        if not (path / name).is_file():
            continue
        try:
            entries = load_list(path / name)
        except CaseError as error:
            yield Draft(name, None, (str(error),))
            continue
        for number, entry in enumerate(entries, start=1):
            image = entry.get("img_name") if isinstance(entry, dict) else None
            if not isinstance(image, str) or not re.fullmatch(r"[^./\\\x00][^/\\\x00]*/[^/\\\x00]+", image):
                yield Draft(f"{name} entry {number}", None, (f"no img_name of the form <id>/source.jpg: {image!r}",))
                continue
            first_split, questions = by_image.setdefault(image, (split, []))
            if first_split == split:
                questions.append(entry)
            else:
                note = f"question {entry.get('qid')} of {name} left out: {LEAK.format(held=first_split)}"
                leaks.setdefault(image, []).append(note)
    ids = _read_ids(path / "mask.txt")
    for image, (split, entries) in by_image.items():
        yield _read_image_case(path, folder, image, split, entries, ids, languages, leaks.get(image, []))


def _read_image_case(path, folder, image, split, entries, ids, languages, notes) -> Draft:
    case_id = image.split("/")[0]
    faults, notes = [], list(notes)
    try:
        place = (path / "imgs" / case_id).absolute()
        source = resolve_inside(folder, str(path.absolute() / "imgs" / image))
        questions = _read_questions(entries, languages, faults, notes)
        lesions = _read_lesions(place, source, folder, ids, faults)
        stated = (entry.get("modality") for entry in entries)
        modality = next((name for name in stated if isinstance(name, str) and name.isprintable()), "image")
        return Draft(
            case_id,
            Case(
                id=safe_id(case_id), group=case_id, split=split, image=source, questions=tuple(questions), facts=None,
                lesions=tuple(lesions), source=f"SLAKE {modality}", folder=folder,
            ),
            tuple(faults),
            tuple(notes),
        )  # fmt: skip
    except (CaseError, ImageError) as error:
        return Draft(case_id, None, (str(error),), tuple(notes))


def _read_questions(
    entries: list[dict], languages: tuple[str, ...], faults: list[str], notes: list[str]
) -> list[Question]:
    questions, seen = [], set()
    for entry in entries:
        qid = entry.get("qid")
        try:
            found = {key: text_in(entry, key, number=key == "qid") for key in QUESTION_KEYS}
            if found["answer_type"] not in KINDS:
                raise CaseError(f"answer_type {found['answer_type']!r}, known are {', '.join(KINDS)}")
            if safe_id(found["qid"]) in seen:
                raise CaseError("its id was used before for this image")
        except CaseError as error:
            faults.append(f"question {qid!r} dropped: {error}")
            continue
        if found["q_lang"] not in languages:
            notes.append(f"question {qid} left out: language {found['q_lang']}, read are {', '.join(languages)}")
            continue
        seen.add(found["qid"])
        kind, topic = KINDS[found["answer_type"]], found["content_type"]
        questions.append(Question(found["qid"], found["question"], found["answer"], kind, topic))
    return questions


def _read_lesions(place: Path, source: Path, folder: Path, ids: dict[str, int], faults: list[str]) -> list[Lesion]:
    detections, outlines = place / "detection.json", resolve_inside(folder, str(place / "mask.png"))
    try:
        boxes = [pair for entry in load_list(detections) for pair in entry.items()]
    except (CaseError, AttributeError) as error:
        faults.append(f"lesions dropped: {error}")
        return []
    lesion_ids = {}
    if any(label in LESIONS for label, _ in boxes) and outlines.is_file():
        labels = read_labels(outlines, image_size(source))
        present = set(np.unique(labels).tolist())
        if present <= {0, *ids.values()}:
            lesion_ids = {label: number for label, number in ids.items() if number in present and label in LESIONS}
    mask = outlines.relative_to(folder).as_posix()
    lesions = []
    for label, box in boxes:
        if label in LESIONS:
            if not _is_box(box):
                faults.append(f"lesion {label!r} dropped: box {box!r} is not [x, y, width, height]")
                continue
            number = lesion_ids.get(label)
            lesions.append(Lesion(label, tuple(map(float, box)), None if number is None else mask, number))
        elif label not in ids:
            faults.append(f"lesion {label!r} dropped: not a label of SLAKE's list of organs and lesions")
    return lesions


def _is_box(box: object) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(type(value) in (int, float) for value in box)


def _read_ids(path: Path) -> dict[str, int]:
    """mask.txt, `id:label` a line, as {label: id}; lines of another form are passed over."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return {label.strip(): int(number) for number, label in re.findall(r"(?m)^(\d+):(.+)$", text)}

