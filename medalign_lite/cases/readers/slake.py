"""SLAKE (Liu et al. 2021), as published and as its hub has it: train.json, validate.json or validation.json, test.json,
and imgs/<id>/{source.jpg,mask.png,detection.json}.

Lesions come from detection.json, boxes [x, y, width, height]. On CT and MRI mask.png holds the ids of mask.txt and
gives the outline inside each box; on X-rays mask.png is a picture with boxes drawn on it, so the box is all there is.
Which of the two it is shows in its values. Labels of healthy organs are not lesions; with `organs=True` they are marked
as lesions are.

English questions are read. With `languages=("en", "zh")` Chinese ones that are answered by yes or no are as well, with
Yes or No as their answer; nothing here scores other Chinese words. English questions alone decide an image's split.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from medalign_lite.cases.case import CaseError, Draft, Lesion, Question, kept, resolve_inside
from medalign_lite.cases.images import ImageError, image_size, read_labels
from medalign_lite.cases.readers import shared, sources
from medalign_lite.cases.readers.sources import Reader

FILES = {"test.json": "test", "validate.json": "val", "validation.json": "val", "train.json": "train"}
KEYS = ("qid", "img_name", "question", "answer", "q_lang", "answer_type", "content_type", "modality")
CHINESE = {"Yes": "是 是的 有 有的 存在 包含 能 可以 会 对 正确 属于".split(),
           "No": "不是 否 没有 无 不存在 不包含 不能 不可以 不会 不 不对 不属于 没".split()}  # fmt: skip
# What SLAKE marks is an organ or a lesion; these are all of its lesion labels (the tumours of mask.txt and the
# findings that its X-rays take from ChestX-ray8). Every other known label is an organ.
LESIONS = frozenset({
    "Brain Edema", "Brain Enhancing Tumor", "Brain Non-enhancing Tumor", "Kidney Cancer", "Liver Cancer", "Lung Cancer",
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltrate", "Infiltration", "Mass", "Nodule", "Pneumonia",
    "Pneumothorax",
})  # fmt: skip


def read(
    path: Path, *, root: Path | None = None, languages: tuple[str, ...] = ("en",), organs: bool = False
) -> Iterator[Draft]:
    """One Draft per image, one per question in another language, and one per entry or list that cannot be read."""
    asked, others, modalities = [], [], {}
    for file in sorted(SLAKE.lists(path), key=lambda file: list(FILES).index(file.name)):
        split, rows = FILES[file.name], []
        for place, entry, fault in sources.entries_of(file):
            language = (entry or {}).get("q_lang")
            if isinstance(language, str) and language not in languages:
                told = f"a question in the language {language[:8]}, read are {', '.join(languages)}"
                yield Draft(place, None, notes=(f"{place} left out: {told}",))
            elif language != "zh":
                rows.append((place, entry, fault))
                if isinstance(entry, dict) and isinstance(entry.get("modality"), str):
                    modalities.setdefault(str(entry.get("img_name")), entry["modality"])
            elif translated := _translated(entry):
                others += shared.ask([(place, translated, "")], split, _image, _question)
            else:
                yield Draft(place, None, notes=(f"{place} left out: a Chinese answer other than yes and no",))
        asked += shared.ask(rows, split, _image, _question)
    english: dict[str, set[str]] = {}
    for entry in asked:
        if isinstance(entry, shared.Asked):
            english.setdefault(entry.image, set()).add(entry.split)
    for entry in others:
        held = english.get(getattr(entry, "image", ""), set())
        if held and entry.split not in held:
            told = f"question of {entry.place} left out: {shared.LEAK.format(held=min(held))}"
            yield Draft(entry.place, None, notes=(told,))
        else:
            asked.append(entry)
    folder, labels = path.resolve(), path / "mask.txt"  # `id:label` a line; lines of another form are passed over
    known = sources.content_of(labels).decode("utf-8", errors="replace") if labels.is_file() else ""
    ids = {label.strip(): int(number) for number, label in re.findall(r"(?m)^(\d{1,6}):(.+)$", known)}
    wanted = LESIONS | ids.keys() if organs else LESIONS

    def fields(image: str, remarks: shared.Remarks) -> dict:
        name, modality = sources.safe_id(image.split("/")[0]), modalities.get(image, "")
        return {
            "id": name, "image": resolve_inside(folder, f"imgs/{image}"),
            "lesions": tuple(_lesions(folder, image, ids, wanted, remarks.faults)),
            "source": f"SLAKE {modality if modality.isprintable() and modality else 'image'}",
        }

    yield from shared.asked_cases(asked, fields, folder=folder)


def _image(entry: dict) -> str:
    image = entry.get("img_name")
    parts = image.split("/") if isinstance(image, str) else []
    if len(parts) != 2 or not all(parts) or image.startswith(".") or set(image) & set("\\\0"):
        raise CaseError(f"no img_name of the form <id>/source.jpg: {str(image)[:60]!r}")
    return image


def _question(entry: dict, place: str) -> Question:
    found = {key: sources.text_in(entry, key, number=key == "qid") for key in KEYS}
    kind = shared.answer_kind(found["answer_type"])
    return Question(sources.safe_id(found["qid"]), found["question"], found["answer"], kind, found["content_type"])


def _translated(entry: dict) -> dict | None:
    """A Chinese entry as a closed question with Yes or No, None where it is answered otherwise."""
    said = str(entry.get("answer", "")).strip(" 。.")
    answer = next((name for name, words in CHINESE.items() if said in words), None)
    return answer and entry | {"answer": answer, "answer_type": "CLOSED"}


def _lesions(
    folder: Path, image: str, ids: dict[str, int], wanted: Collection[str], faults: list[str]
) -> list[Lesion]:
    place = f"imgs/{image.split('/')[0]}"
    try:
        detections = sources.load_list(resolve_inside(folder, f"{place}/detection.json"))
        boxes = [pair for entry in detections for pair in entry.items()]
        mask = resolve_inside(folder, f"{place}/mask.png")
        outlines = _outlines(folder, image, mask, ids) if {label for label, _ in boxes} & wanted else {}
    except (CaseError, AttributeError, ImageError) as error:
        faults.append(f"lesions dropped: {error}")
        return []

    def lesion_of(marked: tuple[str, object]) -> Lesion | None:
        label, box = marked
        if label in wanted:
            number = outlines.get(label)
            drawn = None if number is None else mask.relative_to(folder).as_posix()
            return Lesion(label, sources.box_of(box), drawn, number)
        if label not in ids:
            raise CaseError("not a label of SLAKE's list of organs and lesions")
        return None

    return [one for one in kept(((f"lesion {pair[0]!r}", pair) for pair in boxes), lesion_of, faults) if one]


def _outlines(folder: Path, image: str, mask: Path, ids: dict[str, int]) -> dict[str, int]:
    """{label: its number in mask.png}, empty where that file holds other things than ids."""
    if not mask.is_file():
        return {}
    present = set(np.unique(read_labels(mask, image_size(resolve_inside(folder, f"imgs/{image}")))).tolist())
    if not present <= {0, *ids.values()}:
        return {}
    return {label: number for label, number in ids.items() if number in present}


SLAKE = Reader(
    "SLAKE", "a folder that holds imgs/ and train.json, validate.json (or validation.json) or test.json",
    lambda path: sources.files_at(path, *FILES) if (path / "imgs").is_dir() else [], read,
    options=("languages", "organs"),
)  # fmt: skip
