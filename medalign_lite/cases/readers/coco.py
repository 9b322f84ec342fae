"""COCO boxes, polygons and run-length masks (Lin et al. 2014): a JSON of images, annotations and categories, as drawing
tools export it.

Annotations are lesions: their polygons or mask, else the box [x, y, width, height]. Which categories are lesions the
user says (`lesions`, the variable LESIONS=); unsaid, all are but those that name an organ or a device, and it is told.
Questions ask for the categories of lesions that an image has, and for as many that it has not: the list is taken to be
complete for them. A further key `patient_id` of an image says which images belong together.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from medalign_lite.cases.case import Case, CaseError, Draft, Lesion, kept, resolve_inside
from medalign_lite.cases.images import MAX_PIXELS
from medalign_lite.cases.pictures import save_picture, save_png
from medalign_lite.cases.readers import shared, sources
from medalign_lite.cases.readers.sources import Reader

FOLDERS = ("train", "valid", "val", "test")
KEYS = ("images", "annotations", "categories")
NO_LESION = re.compile(
    r"\b(?:lungs?|hearts?|livers?|kidneys?|spleens?|airways?|tracheas?|bronch\w+|aort\w+|ribs?|"
    r"clavicles?|scapulas?|bones?|vertebra\w*|spines?|diaphragms?|mediastin\w+|brains?|bladders?|stomachs?|pancreas|colons?|"
    r"bowels?|breasts?|prostates?|body|thora\w+|background|tubes?|catheters?|lines?|wires?|leads?|electrodes?|"
    r"pacemakers?|devices?|clips?|stents?|ports?|drains?|markers?|implants?)$"
)  # fmt: skip
LARGE = 0.4  # of the picture: more than lesions cover


@dataclass(frozen=True)
class _List:
    """One list: folders that may hold its pictures, images as they stand there, {category id: name}, names of lesions,
    {image id: annotations}."""

    places: list[str]
    split: str
    images: list[dict]
    categories: dict[int | str, str]
    lesions: frozenset[str]
    by_image: dict[int | str, list[dict]]


def lists(path: Path) -> list[Path]:
    """The JSON files that hold the three keys."""
    found = sources.files_at(path, "*.json", "annotations/*.json", *(f"{name}/*.json" for name in FOLDERS))
    return [file for file in found if all(f'"{key}"'.encode() in sources.first_bytes(file, 2**28) for key in KEYS)]


def read(path: Path, *, root: Path, lesions: tuple[str, ...] = ()) -> Iterator[Draft]:
    """One Draft per image of the lists; pictures are written to `root`."""
    folder = path.resolve()
    for file in lists(folder):
        try:
            listed = _load(file, folder, {name.casefold() for name in lesions})
        except CaseError as error:
            yield Draft(file.name, None, (str(error),))
            continue
        taken = ", ".join(sorted(listed.lesions)) or "none"
        left = ", ".join(sorted({*listed.categories.values()} - listed.lesions)) or "none"
        how = "as LESIONS= says" if lesions else "guessed from their names: say which with LESIONS=, commas between"
        yield Draft(file.name, None, notes=(f"categories taken for lesions ({taken}), and not ({left}): {how}",))
        for number, image in enumerate(listed.images, start=1):
            yield shared.draft(f"{file.name} image {number}", _case, image, listed, folder, root.resolve())


def _load(file: Path, folder: Path, wanted: set[str]) -> _List:
    content = sources.load_list(file, dict)
    images, annotations, entries = (content.get(key) for key in KEYS)
    for key, some in zip(KEYS, (images, annotations, entries)):
        if not isinstance(some, list) or not all(isinstance(entry, dict) for entry in some):
            raise CaseError(f"{key} must be a list of JSON objects")
    ids = [_key(entry, "id") for entry in images]
    categories = {_key(entry, "id"): sources.text_in(entry, "name") for entry in entries}
    by_image: dict[int | str, list[dict]] = {}
    for entry in annotations:
        by_image.setdefault(_key(entry, "image_id"), []).append(entry)
    if len(set(ids)) < len(ids) or len(categories) < len(entries):
        raise CaseError(f"{file.name} uses an id twice: which annotation belongs to what is in doubt")
    if not by_image.keys() <= set(ids):
        raise CaseError(f"{file.name} has annotations of an image that it does not list; correct their image_id")
    if unknown := wanted - {name.casefold() for name in categories.values()}:
        raise CaseError(f"LESIONS= names {', '.join(sorted(unknown))}; {file.name} has "
                        f"{', '.join(categories.values())}")
    organs = {name for name in categories.values() if NO_LESION.search(name.lower().replace("_", " "))}
    lesions = {name for name in categories.values() if (name.casefold() in wanted if wanted else name not in organs)}
    split = shared.split_named(file.stem, shared.split_named(file.parent.name))
    own = [place.name for place in folder.iterdir() if shared.split_named(place.name, "") == split]
    places = [file.parent.relative_to(folder).as_posix(), "images", ".", *own, *(f"images/{place}" for place in own)]
    return _List(places, split, images, categories, frozenset(lesions), by_image)


def _key(entry: dict, name: str) -> int | str:
    value = entry.get(name)
    if type(value) not in (int, str):
        raise CaseError(f"{name} is {str(value)[:60]!r}; it must be a number or text")
    return value


def _case(image: dict, listed: _List, folder: Path, root: Path, remarks: shared.Remarks) -> Case:
    name = sources.text_in(image, "file_name")  # in one of its list's folders, never in that of another split
    places = dict.fromkeys(resolve_inside(folder, f"{part}/{name}") for part in listed.places)
    found = sources.the_one(folder, [place for place in places if place.is_file()], name[:120])
    picture = save_picture(found, root / "images")
    stated = (image.get("width"), image.get("height"))
    if stated != (None, None) and stated != picture.size:
        raise CaseError(f"the list says {str(stated)[:60]} pixels, the image has {picture.size}: boxes would not fit")
    remarks.notes += picture.notes
    labels: dict[str, bool] = {}

    def lesion_of(annotation: dict) -> Lesion | None:
        category = annotation.get("category_id")
        if type(category) not in (int, str) or category not in listed.categories:
            raise CaseError(f"category_id {str(category)[:60]!r} is none of the list's categories")
        label = listed.categories[category]
        if label not in listed.lesions:
            return None
        labels[label] = True
        return _lesion(annotation, label, picture.size, root, remarks)

    annotations = listed.by_image.get(image["id"], [])
    named = ((f"annotation {str(annotation.get('id'))[:20]!r}", annotation) for annotation in annotations)
    lesions = [lesion for lesion in kept(named, lesion_of, remarks.faults) if lesion]
    present = list(labels)
    absent = [] if remarks.faults else shared.choose_absent(picture.name, sorted(listed.lesions), present)
    group = sources.text_in(image, "patient_id", number=True) if "patient_id" in image else None
    return Case(
        id=picture.name,
        group=picture.name if group is None else f"patient-{sha256(group.encode(errors='replace')).hexdigest()[:12]}",
        split=listed.split, image=picture.path, questions=tuple(shared.presence_questions(present, absent)),
        lesions=tuple(lesions), source=COCO.layout, folder=root,
    )


def _lesion(annotation: dict, label: str, size: tuple[int, int], root: Path, remarks: shared.Remarks) -> Lesion:
    drawn = annotation.get("segmentation")
    if isinstance(drawn, dict):
        pixels = decode_rle(drawn, size)
        name = f"masks/{sha256(repr(size).encode() + np.packbits(pixels).tobytes()).hexdigest()[:16]}.png"
        save_png(pixels.astype(np.uint8) * 255, root / name)
        lesion, share = Lesion(label, mask=name), pixels.mean()
    elif isinstance(drawn, list) and drawn:
        polygons = tuple(sources.polygon_of(polygon) for polygon in drawn)
        corners = [np.reshape(polygon, (-1, 2)).T for polygon in polygons]
        areas = [abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2 for x, y in corners]
        lesion, share = Lesion(label, polygons=polygons), sum(areas) / (size[0] * size[1])
    else:
        box = sources.box_of(annotation.get("bbox"))
        lesion, share = Lesion(label, box), box[2] * box[3] / (size[0] * size[1])
    if share > LARGE:
        remarks.notes.append(f"{label} covers {share:.0%} of an image: rather an organ than a lesion? see LESIONS=")
    return lesion


def decode_rle(drawn: dict, size: tuple[int, int]) -> np.ndarray:
    """A run-length mask as bool (H, W) for an image of `size` (width, height); raises CaseError. `counts` are lengths
    of runs of 0 and 1 in turn, column after column; as text five bits a character, each from the third on as the
    difference to the last but one."""
    counts, width, height = drawn.get("counts"), *size
    if drawn.get("size") != [height, width] or width * height > MAX_PIXELS:
        raise CaseError(f"its mask is of size {str(drawn.get('size'))[:40]}, the image [{height}, {width}]")
    if isinstance(counts, str):
        counts = _unpacked(counts)
    if not isinstance(counts, list) or not all(type(count) is int and 0 <= count <= MAX_PIXELS for count in counts):
        raise CaseError("counts of its mask are no list of run lengths")
    if sum(counts) != width * height:
        raise CaseError(f"the runs of its mask cover {sum(counts)} pixels, the image has {width * height}")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def _unpacked(text: str) -> list[int]:
    counts, value, shift = [], 0, 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise CaseError("counts of its mask are no run lengths")
        value, shift = value | (bits & 31) << shift, shift + 5
        if not bits & 32:
            value -= (bits >> 4 & 1) << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, shift = 0, 0
    return counts


COCO = Reader(
    "COCO", "a folder (or its annotations/, train/, valid/, test/) with a JSON of images, annotations and categories",
    lists, read, makes_files=True, options=("lesions",),
)  # fmt: skip
