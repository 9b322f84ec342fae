"""VQA-Med 2019 (Ben Abacha et al. 2019): text with a line `image|question|answer`, and in the test
`image|category|question|answer#another answer`, beside the folders of images.

Of several reference answers the first is read, without what stands in brackets as optional.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import CaseError, Draft, Question
from medalign_lite.cases.readers import shared, sources

LAYOUT = "VQA-Med 2019"
NEEDS = ("a folder with All_QA_Pairs_train.txt, ..._val.txt or VQAMed2019_Test_Questions_w_Ref_Answers.txt in it or "
         "below")
MAKES_FILES = False
NAMES = {"All_QA_Pairs_train.txt": "train", "All_QA_Pairs_val.txt": "val",
         "VQAMed2019_Test_Questions_w_Ref_Answers.txt": "test"}  # fmt: skip
SUFFIXES = (".jpg", ".jpeg", ".png")


def lists(path: Path) -> list[Path]:
    """The lists, in the folder or one below it."""
    return sources.files_at(path, *NAMES, *(f"*/{name}" for name in NAMES))


def read(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per image, and one per line without one."""
    asked, homes, folder = [], {}, path.resolve()
    for file in lists(folder):
        found = list(shared.ask(_lines(file), NAMES[file.name], lambda row: sources.safe_id(row["image"]), _question))
        homes |= {entry.image: file.parent for entry in found if not isinstance(entry, Draft)}
        asked += found
    pictures = {home: sources.pictures_below(home, SUFFIXES) for home in set(homes.values())}

    def fields(image: str, remarks: shared.Remarks) -> dict:
        home = homes[image]
        found = shared.files_named(pictures[home], image, SUFFIXES)
        return {"id": image, "image": sources.the_one(folder, found, image), "source": LAYOUT}

    yield from shared.asked_cases(asked, fields, folder=folder)


def _lines(file: Path) -> Iterator[sources.Row]:
    try:
        lines = sources.content_of(file).decode("utf-8-sig", errors="surrogateescape").splitlines()
    except CaseError as error:
        yield file.name, None, str(error)
        return
    for number, line in enumerate(lines, start=1):
        parts = [part.strip() for part in line.split("|")]
        if not line.strip():
            continue
        if len(parts) not in (3, 4) or not all(parts):
            yield (
                f"{file.name} line {number}", None,
                "not image|question|answer, nor with a category in the second place",
            )
            continue
        topic = parts.pop(1) if len(parts) == 4 else "question"
        yield f"{file.name} line {number}", dict(zip(("image", "question", "answer", "topic"), [*parts, topic])), ""


def _question(row: dict, place: str) -> Question:
    first = row["answer"].split("#")[0]
    answer = re.sub(r"\s*\([^()]*\)\s*", " ", first).strip() or first.strip("() ")
    return Question(shared.question_id(row["question"]), row["question"], answer, shared.kind_of(answer), row["topic"])
