"""IU X-ray as the Open-i service gives it (Demner-Fushman et al. 2016): one XML a report, PNG images beside them.

A report names its images by id; the first one (frontal, by the collection's order) is the case's picture. There is no
split and one study a patient.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft
from medalign_lite.cases.readers import shared, sources

LAYOUT = "IU X-ray (Open-i XML)"
NEEDS = "a folder with Open-i's XML reports (ecgen-radiology/*.xml) and its PNG images"
MAKES_FILES = False
PLACES = ("*.xml", "ecgen-radiology/*.xml", "*/ecgen-radiology/*.xml")
SECTIONS = ("FINDINGS", "IMPRESSION")
MAX_BYTES = 2**20  # of a report; real ones have a few kilobytes


def lists(path: Path) -> list[Path]:
    """The reports, where the first of them is one of Open-i's."""
    files = sources.files_at(path, *PLACES)
    start = sources.first_bytes(files[0], MAX_BYTES) if files else b""
    return files if b"parentImage" in start or b"eCitation" in start else []


def read(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per report."""
    folder = path.resolve()
    images = sources.pictures_below(folder, (".png",))
    for file in lists(folder):
        yield shared.draft(file.name, _case, file, images, folder)


def _case(file: Path, images: dict[str, list[Path]], folder: Path, remarks: shared.Remarks) -> Case:
    tree = _parse(file)
    parts = {part.get("Label", ""): " ".join("".join(part.itertext()).split()) for part in tree.iter("AbstractText")}
    report = next((parts[name] for name in SECTIONS if parts.get(name)), "")
    if not report:
        raise CaseError(f"no text under {' or '.join(SECTIONS)}")
    views = [view.get("id") or "" for view in tree.iter("parentImage")]
    if not views:
        raise CaseError("the report names no image")
    remarks.notes += shared.left_out(len(views) - 1, file.name)
    group = re.match(r"CXR\d+", views[0])
    return Case(
        id=sources.safe_id(views[0]), group=group[0] if group else views[0], split="train",
        image=sources.the_one(folder, images.get(f"{views[0]}.png", []), f"{views[0]}.png"),
        questions=(shared.report_question(report),), source=LAYOUT, folder=folder,
    )


def _parse(file: Path) -> ElementTree.Element:
    content = sources.content_of(file)
    if len(content) > MAX_BYTES or b"<!ENTITY" in content:
        raise CaseError("longer than a report can be, or with entities of its own: not one of Open-i's files")
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise CaseError(f"not complete XML ({error}); download it again") from error
