"""VQA-RAD as published (Lau et al. 2018): trainset.json and testset.json, or the one public list, and an image folder.

The standard split goes by question: every test image is in training too, with other questions. Read for a run, the
test questions stay as they are, so that scores can be compared, and the training questions about their images are left
out: no image of the test is then seen in training (METHOD.md D6). `splits="standard"` keeps both, and says so.
"""

from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import CaseError, Draft, Question, resolve_inside
from medalign_lite.cases.readers import shared, sources

LAYOUT = "VQA-RAD"
NEEDS = "a folder that holds trainset.json and testset.json, or 'VQA_RAD Dataset Public.json', beside its images"
MAKES_FILES = False
OPTIONS = {"splits"}
SPLIT_FILES = {"trainset.json": "train", "testset.json": "test"}
PUBLIC_FILE = "VQA_RAD Dataset Public.json"
IMAGE_FOLDERS = ("images", "VQA_RAD Image Folder")
KINDS = {"CLOSED": "closed", "OPEN": "open"}


def lists(path: Path) -> list[Path]:
    """The two lists of the split, else the public one."""
    return sources.files_at(path, *SPLIT_FILES) or sources.files_at(path, PUBLIC_FILE)


def read(path: Path, *, root: Path | None = None, splits: str = "clean") -> Iterator[Draft]:
    """One Draft per image (with `splits="standard"` per image and split), and one per entry without an image."""
    folder = path.resolve()
    images = next((name for name in IMAGE_FOLDERS if (path / name).is_dir()), IMAGE_FOLDERS[0])
    asked, organs = [], {}
    for file in sorted(lists(path), key=lambda file: file.name, reverse=True):
        for row in sources.entries_of(file):
            entry = row[1] or {}
            split = SPLIT_FILES.get(file.name) or ("test" if "test" in str(entry.get("phrase_type", "")) else "train")
            asked += shared.ask([row], split, lambda entry: sources.file_name_in(entry, "image_name"), _question)
            organs.setdefault(str(entry.get("image_name", "")).strip(), str(entry.get("image_organ", "image")).strip())

    def fields(image: str, remarks: shared.Remarks) -> dict:
        name = sources.safe_id(Path(image).stem)
        return {"id": name, "image": resolve_inside(folder, f"{images}/{image}"), "source": f"VQA-RAD {organs[image]}"}

    yield from shared.asked_cases(asked, fields, folder=folder, splits=splits)


def _question(entry: dict, place: str) -> Question:
    kind = sources.text_in(entry, "answer_type").upper()
    if kind not in KINDS:
        raise CaseError(f"answer_type {kind[:60]!r}, known are {', '.join(KINDS)}")
    return Question(
        id=sources.safe_id(sources.text_in(entry, "qid", number=True)), text=sources.text_in(entry, "question"),
        answer=sources.text_in(entry, "answer", number=True), kind=KINDS[kind],
        topic=sources.text_in(entry, "question_type"),
    )
