"""MS-CXR (Boecking et al. 2022): sentences of MIMIC-CXR reports with boxes, MS_CXR_Local_Alignment_v1.*.csv.

The pictures are MIMIC-CXR-JPG's, under files/ beside the table. A finding's phrases are the reference of a question for
a description of it, its boxes [x, y, w, h] are lesions. Groups are patients; splits are those of the table, if it says.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft, Lesion, Question, resolve_inside
from medalign_lite.cases.images import image_size
from medalign_lite.cases.readers import shared, sources

LAYOUT = "MS-CXR"
NEEDS = "a folder that holds MS_CXR_Local_Alignment_v1.*.csv and MIMIC-CXR-JPG's files/"
MAKES_FILES = False
BOX = ("x", "y", "w", "h")
COLUMNS = ("category_name", "label_text", "path", "dicom_id", *BOX)
MORE = ("image_width", "image_height", "split")


def lists(path: Path) -> list[Path]:
    """The newest table of phrases."""
    return sources.files_at(path, "MS_CXR_Local_Alignment_v*.csv")[-1:]


def read(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per picture."""
    images, faults = shared.grouped(
        sources.rows_of(lists(path)[0], COLUMNS, optional=MORE), lambda row: sources.safe_id(row["dicom_id"])
    )
    yield from faults
    for name, rows in images.items():
        yield shared.draft(name, _case, name, rows, path.resolve())


def _case(name: str, rows: list[tuple[str, dict]], folder: Path, remarks: shared.Remarks) -> Case:
    places = {row["path"] for _, row in rows}
    patient = re.search(r"(?:^|/)(p\d{5,9})/", min(places))
    splits = {row.get("split", "") for _, row in rows}
    if len(places) != 1 or len(splits) != 1 or not patient:
        raise CaseError(f"its rows name {len(places)} paths, {len(splits)} splits, or no patient in the path")
    image = resolve_inside(folder, places.pop())
    size = image_size(image)
    phrases: dict[str, list[str]] = {}
    lesions = []
    for place, row in rows:
        try:
            stated = (row.get("image_width"), row.get("image_height"))
            if stated[0] and stated != tuple(map(str, size)):
                raise CaseError(f"the table says {stated} pixels, the image has {size}: boxes would not fit")
            label, phrase = sources.text_in(row, "category_name"), sources.text_in(row, "label_text")
            lesions.append(Lesion(label, tuple(sources.number_in(row, key) for key in BOX)))
            if phrase not in phrases.setdefault(label, []):
                phrases[label].append(phrase)
        except CaseError as error:
            remarks.faults.append(f"{place} dropped: {error}")
    questions = [
        Question(shared.question_id(label), f"Describe the {label.lower()} in this image.", " ".join(said), "open",
                 "description")
        for label, said in phrases.items()
    ]
    split = shared.SPLIT_WORDS.get(splits.pop() or "train", "train")
    return Case(name, patient[1], split, image, tuple(questions), None, tuple(lesions), None, LAYOUT, folder)
