"""COCO boxes and polygons (Lin et al. 2014): a JSON of images, annotations and categories, as drawing tools export it.

Annotations are lesions: their polygons, else the box [x, y, width, height] (of a run-length mask, too). Questions ask
for the categories that an image has, and for as many that it has not: the list is taken to be complete for its
categories. A further key `patient_id` of an image says which images belong together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft, Lesion
from medalign_lite.cases.images import ImageError
from medalign_lite.cases.pictures import Picture, save_picture
from medalign_lite.cases.readers.entries import (
    Remarks,
    choose_absent,
    draft,
    first_bytes,
    load_list,
    polygon_of,
    presence_questions,
    text_in,
)

LAYOUT = "COCO"
NEEDS = "a folder (or its annotations/, train/, valid/, test/) with a JSON of images, annotations and categories"
MAKES_FILES = True
PLACES = ("*.json", "annotations/*.json", "train/*.json", "valid/*.json", "val/*.json", "test/*.json")
KEYS = ("images", "annotations", "categories")
SPLIT_WORDS = {"test": "test", "valid": "val", "val": "val", "train": "train"}


@dataclass(frozen=True)
class _List:
    """One list: images as they stand there, {category id: name} and {image id: its annotations}."""

    file: Path
    split: str
    images: list[dict]
    categories: dict[int | str, str]
    by_image: dict[int | str, list[dict]]


def detect(path: Path) -> str | None:
    """Why `path` is in this layout, or None."""
    files = _files(path)
    return f"the folder holds {files[0].relative_to(path).as_posix()} with {', '.join(KEYS)}" if files else None


def read(path: Path, *, root: Path) -> Iterator[Draft]:
    """One Draft per image of the lists; pictures are written to `root`."""
    root = root.resolve()
    for file in _files(path):
        try:
            listed = _load(file)
        except CaseError as error:
            yield Draft(file.name, None, (str(error),))
            continue
        for number, image in enumerate(listed.images, start=1):
            yield draft(f"{file.name} image {number}", _case, image, listed, path, root)


def _files(path: Path) -> list[Path]:
    found = sorted({file for place in PLACES for file in path.glob(place)}) if path.is_dir() else []
    return [file for file in found if all(f'"{key}"'.encode() in first_bytes(file) for key in KEYS)]


def _load(file: Path) -> _List:
    content = load_list(file, dict)
    images, annotations, entries = (_objects(content, key) for key in KEYS)
    ids = [_key(entry, "id") for entry in images]
    categories = {_key(entry, "id"): text_in(entry, "name") for entry in entries}
    by_image: dict[int | str, list[dict]] = {}
    for entry in annotations:
        by_image.setdefault(_key(entry, "image_id"), []).append(entry)
    if len(set(ids)) < len(ids) or len(categories) < len(entries):
        raise CaseError(f"{file.name} uses an id twice: which annotation belongs to what is in doubt")
    if not by_image.keys() <= set(ids):
        raise CaseError(f"{file.name} has annotations of an image that it does not list; correct their image_id")
    words = [SPLIT_WORDS[word] for word in SPLIT_WORDS if word in file.stem or word == file.parent.name]
    return _List(file, words[0] if words else "train", images, categories, by_image)


def _objects(content: dict, key: str) -> list[dict]:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise CaseError(f"{key} must be a list of JSON objects")
    return entries


def _key(entry: dict, name: str) -> int | str:
    value = entry.get(name)
    if type(value) not in (int, str):
        raise CaseError(f"{name} is {value!r}; it must be a number or text")
    return value


def _case(image: dict, listed: _List, path: Path, root: Path, remarks: Remarks) -> Case:
    picture = _save(image, listed.file, path, root)
    stated = (image.get("width"), image.get("height"))
    if stated != (None, None) and stated != picture.size:
        raise CaseError(f"the list says {stated} pixels, the image has {picture.size}: boxes would not fit")
    remarks.notes += picture.notes
    lesions, labels = [], []
    for annotation in listed.by_image.get(image["id"], []):
        try:
            category = annotation.get("category_id")
            if type(category) not in (int, str) or category not in listed.categories:
                raise CaseError(f"category_id {category!r} is none of the list's categories")
            labels.append(listed.categories[category])
            lesions.append(_lesion(annotation, listed.categories[category]))
        except CaseError as error:
            remarks.faults.append(f"annotation {annotation.get('id')!r} dropped: {error}")
    present = list(dict.fromkeys(labels))
    absent = [] if remarks.faults else choose_absent(picture.name, listed.categories.values(), present)
    group = text_in(image, "patient_id", number=True) if "patient_id" in image else None
    return Case(
        id=picture.name,
        group=picture.name if group is None else f"patient-{sha256(group.encode()).hexdigest()[:12]}",
        split=listed.split,
        image=picture.path,
        questions=tuple(presence_questions(present, absent)),
        lesions=tuple(lesions),
        source=LAYOUT,
        folder=root,
    )


def _save(image: dict, file: Path, path: Path, root: Path) -> Picture:
    name = text_in(image, "file_name")
    if "\0" in name:
        raise CaseError("file_name holds a zero character")
    places = [file.parent / name, path / "images" / name, path / name]
    places += [path / folder / name for folder in SPLIT_WORDS]
    source = next((place for place in places if _is_inside(place, path)), None)
    if source is None:
        raise CaseError(f"no such image file: {name} is neither beside the list nor in images/")
    try:
        return save_picture(source, root / "images")
    except ImageError as error:
        raise CaseError(str(error)) from error


def _is_inside(place: Path, path: Path) -> bool:
    try:
        return place.resolve().is_relative_to(path.resolve()) and place.is_file()
    except OSError:  # a name that is too long
        return False


def _lesion(annotation: dict, label: str) -> Lesion:
    polygons = annotation.get("segmentation")
    if isinstance(polygons, list) and polygons:
        return Lesion(label, polygons=tuple(polygon_of(polygon) for polygon in polygons))
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
        raise CaseError(f"neither polygons nor a bbox of four numbers, got {box!r}")
    return Lesion(label, tuple(map(float, box)))

