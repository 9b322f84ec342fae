"""IU X-ray as the Open-i service gives it (Demner-Fushman et al. 2016): one XML a report, PNG images beside them.

A report names its images by id; the first one (frontal, by the collection's order) is the case's picture. There is no
split and one study a patient.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft, resolve_inside
from medalign_lite.cases.readers.entries import Remarks, draft, first_bytes, report_question, safe_id

LAYOUT = "IU X-ray (Open-i XML)"
NEEDS = "a folder with Open-i's XML reports (ecgen-radiology/*.xml) and its PNG images"
MAKES_FILES = False
PLACES = ("*.xml", "ecgen-radiology/*.xml", "*/ecgen-radiology/*.xml")
SECTIONS = ("FINDINGS", "IMPRESSION")
MAX_BYTES = 2**20  # of a report; real ones have a few kilobytes


def detect(path: Path) -> str | None:
    """Why `path` is in Open-i's layout, or None."""
    files = _reports(path)
    if not files or not any(mark in first_bytes(files[0], MAX_BYTES) for mark in (b"parentImage", b"eCitation")):
        return None
    return f"{len(files)} XML reports, the first is {files[0].name}"


def read(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per report."""
    folder = (root or path).resolve()
    images = {file.stem: file for file in sorted(path.rglob("*.png"))}
    for file in _reports(path):
        yield draft(file.name, _case, file, images, folder)


def _reports(path: Path) -> list[Path]:
    return sorted({file for place in PLACES for file in path.glob(place)}) if path.is_dir() else []


def _case(file: Path, images: dict[str, Path], folder: Path, remarks: Remarks) -> Case:
    tree = _parse(file)
    parts = {part.get("Label", ""): " ".join("".join(part.itertext()).split()) for part in tree.iter("AbstractText")}
    report = next((parts[name] for name in SECTIONS if parts.get(name)), "")
    if not report:
        raise CaseError(f"no text under {' or '.join(SECTIONS)}")
    views = [view.get("id") or "" for view in tree.iter("parentImage")]
    if not views:
        raise CaseError("the report names no image")
    if views[0] not in images:
        raise CaseError(f"no such image file: {views[0]}.png is nowhere in the folder")
    if len(views) > 1:
        remarks.notes.append(
            f"{len(views) - 1} more of {file.name} left out: a case is one image, the study's first view"
        )
    group = re.match(r"CXR\d+", views[0])
    return Case(
        id=safe_id(views[0]),
        group=group[0] if group else views[0],
        split="train",
        image=resolve_inside(folder, str(images[views[0]].absolute())),
        questions=(report_question(report),),
        source=LAYOUT,
        folder=folder,
    )


def _parse(file: Path) -> ElementTree.Element:
    try:
        content = file.read_bytes()
        if len(content) > MAX_BYTES or b"<!ENTITY" in content:
            raise CaseError("longer than a report can be, or with entities of its own: not one of Open-i's files")
        return ElementTree.fromstring(content)
    except OSError as error:
        raise CaseError(f"cannot be read ({error.strerror}); check its permissions") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise CaseError(f"not complete XML ({error}); download it again") from error
