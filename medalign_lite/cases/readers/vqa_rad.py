"""VQA-RAD as published (Lau et al. 2018): trainset.json and testset.json, or the one public list, and an image folder.

The standard split goes by question: every test image is in training too, with other questions. Read for a run, the
test questions stay as they are, so that scores can be compared, and the training questions about their images are left
out: no image of the test is then seen in training (METHOD.md D6). `splits="standard"` keeps both, and says so.
"""

from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft, Question, resolve_inside
from medalign_lite.cases.readers.entries import (
    Asked,
    Image,
    Remarks,
    by_image,
    draft,
    entries_of,
    file_name_in,
    load_list,
    safe_id,
    text_in,
)

LAYOUT = "VQA-RAD"
NEEDS = "a folder that holds trainset.json and testset.json, or 'VQA_RAD Dataset Public.json', beside its images"
MAKES_FILES = False
SPLIT_FILES = {"train": "trainset.json", "test": "testset.json"}
PUBLIC_FILE = "VQA_RAD Dataset Public.json"
IMAGE_FOLDERS = ("images", "VQA_RAD Image Folder")
KINDS = {"CLOSED": "closed", "OPEN": "open"}


def detect(path: Path) -> str | None:
    """Why `path` is a VQA-RAD folder, or None."""
    files = [name for name in (*SPLIT_FILES.values(), PUBLIC_FILE) if (path / name).is_file()]
    return f"the folder holds {' and '.join(files)}" if files else None


def read(path: Path, *, root: Path | None = None, splits: str = "clean") -> Iterator[Draft]:
    """One Draft per image (with `splits="standard"` per image and split), and one per entry without an image."""
    folder = (root or path).resolve()
    images = next((path / name for name in IMAGE_FOLDERS if (path / name).is_dir()), path / IMAGE_FOLDERS[0])
    files = {split: path / name for split, name in SPLIT_FILES.items() if (path / name).is_file()}
    files = files or {None: path / PUBLIC_FILE}
    asked, organs = [], {}
    for split, file in files.items():
        for place, entry, fault in entries_of(file, lambda file=file: load_list(file)):
            try:
                if entry is None:
                    raise CaseError(fault)
                image = file_name_in(entry, "image_name")
                phrase = str(entry.get("phrase_type", ""))
                asked.append(_question(entry, image, place, split or ("test" if "test" in phrase else "train")))
                organs.setdefault(image, str(entry.get("image_organ", "image")).strip())
            except CaseError as error:
                yield Draft(place, None, (str(error),))
    for image in by_image(asked, splits=splits):
        yield draft(image.name, _case, image, images, folder, organs[image.name])


def _question(entry: dict, image: str, place: str, split: str) -> Asked:
    try:
        kind = text_in(entry, "answer_type").upper()
        if kind not in KINDS:
            raise CaseError(f"answer_type {kind!r}, known are {', '.join(KINDS)}")
        question = Question(
            id=safe_id(text_in(entry, "qid", number=True)),
            text=text_in(entry, "question"),
            answer=text_in(entry, "answer", number=True),
            kind=KINDS[kind],
            topic=text_in(entry, "question_type"),
        )
    except CaseError as error:
        return Asked(image, split, place, None, fault=f"question of {place} dropped: {error}")
    return Asked(image, split, place, question)


def _case(image: Image, images: Path, folder: Path, organ: str, remarks: Remarks) -> Case:
    remarks.add(image.remarks)
    name = Path(image.name).stem
    return Case(
        id=safe_id(f"{name}-{image.split}" if image.shared else name),
        group=name,
        split=image.split,
        image=resolve_inside(folder, str(images.absolute() / image.name)),
        questions=tuple(image.questions),
        source=f"VQA-RAD {organ}",
        folder=folder,
    )
