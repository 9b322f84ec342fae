"""What a case is: one image, its questions, and what is known to be true of it; reading, writing and splitting.

The kit's own layout is a file `cases.jsonl`: one JSON object a line, paths relative to the file's folder
(wrapped here for reading; `facts`, `lesions`, `hidden` and `source` may be left out):

    {"id": "p7", "group": "patient7", "split": "test", "image": "images/p7.png",
     "questions": [{"id": "q1", "text": "Is there an effusion?", "answer": "yes", "kind": "closed",
                    "topic": "presence", "finding": "effusion", "visible": true}],
     "facts": [{"finding": "effusion", "side": "left", "size": "small", "mask": "masks/p7_effusion.png",
                "removed": "images/p7_without_effusion.png", "moved": "images/p7_effusion_right.png"}],
     "lesions": [{"label": "Effusion", "box": [20, 110, 40, 30]}],
     "hidden": "images/p7_hidden.png", "source": "my hospital"}

`facts` is null where nobody wrote down the whole truth of the picture (real data); `lesions` then says where
lesions are: by `box` `[x, y, width, height]` in pixels from the top left, by `mask` PNG, by `polygons`
`[[x1, y1, x2, y2, x3, y3, ...], ...]`, or where they agree if there are several. `points` `[[x, y], ...]` alone only
say where to look: `make masks` outlines them with a segmenter (medalign_lite/run/masks.py).
A question of kind `choice` has `options`, its answer is the text of the right one: see `prompt_of`.
Other layouts are read by `medalign_lite/cases/readers/`.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from string import ascii_uppercase

import numpy as np
from skimage.draw import polygon2mask

from medalign_lite.cases.images import ImageError, read_mask
from medalign_lite.files import write_jsonl
from medalign_lite.text.facts import Fact

SPLITS = ("train", "val", "test", "shifted")  # train is the pool that alignment learns from
KINDS = ("report", "closed", "open", "choice")


class CaseError(ValueError):
    """A case list or case that cannot be used; the message says what, where and what to do."""


@dataclass(frozen=True)
class Lesion:
    """Where a lesion is: `box` (x, y, width, height) in pixels from the top left, `mask` a PNG path, or `polygons`.

    `label_id` is the number that marks this lesion in a mask PNG that holds several labels; None: a plain mask.
    A polygon is (x1, y1, x2, y2, ...), several are one lesion in pieces. With two of the three the lesion is where they
    agree. `points` (x, y) in it are for a segmenter; `made_by` names the segmenter that drew the mask, if one did."""

    label: str
    box: tuple[float, float, float, float] | None = None
    mask: str | None = None
    label_id: int | None = None
    polygons: tuple[tuple[float, ...], ...] = ()
    points: tuple[tuple[float, float], ...] = ()
    made_by: str | None = None

    @property
    def outlined(self) -> bool:
        """False where only points say where it is: such a lesion has no pixels yet."""
        return bool(self.box or self.mask or self.polygons)


@dataclass(frozen=True)
class Question:
    """A prompt with its reference answer; `visible` is False where it asks about what cannot be seen: never scored.
    `options` are what a question of kind `choice` offers, lettered A, B, C ...; `answer` is one of them."""

    id: str
    text: str
    answer: str
    kind: str
    topic: str
    finding: str | None = None
    visible: bool = True
    options: tuple[str, ...] = ()


def prompt_of(question: Question) -> str:
    """The question as a model is asked it: its text, and below it the lettered options where it has some."""
    return "\n".join([question.text, *(f"{letter}. {text}" for letter, text in zip(ascii_uppercase, question.options))])


@dataclass(frozen=True)
class Case:
    """One image; `group` is the patient or anatomy that splits and bootstraps go by (METHOD.md D6). `facts` is None for
    real data. `hidden` is the same picture rendered without its lesions, where there is one. Mask paths of facts and
    lesions are relative to `folder`."""

    id: str
    group: str
    split: str
    image: Path
    questions: tuple[Question, ...]
    facts: tuple[Fact, ...] | None = None
    lesions: tuple[Lesion, ...] = ()
    hidden: Path | None = None
    source: str = ""
    folder: Path = Path(".")

    @property
    def findings(self) -> tuple[str, ...]:
        """What is there: findings of the table of facts, and labels of lesions."""
        return tuple(dict.fromkeys([fact.finding for fact in self.facts or ()] + [x.label for x in self.lesions]))

    @property
    def frontal(self) -> bool:
        """Whether the patient's right is known to be on the picture's left: of real pictures nobody wrote it down."""
        return self.facts is not None


@dataclass(frozen=True)
class CaseSet:
    """What was read: `skipped` lists whole cases, `dropped` single questions and lesions of kept cases. `notes` lists
    what is no fault: left out by rule (a question about a held-out image), or worth a look (burned-in text). All three
    hold {"id": ..., "reason": ...}. `layout` names the layout, `reason` why it was taken for that."""

    cases: tuple[Case, ...]
    skipped: list[dict] = field(default_factory=list)
    layout: str = ""
    reason: str = ""
    dropped: list[dict] = field(default_factory=list)
    notes: list[dict] = field(default_factory=list)


@dataclass(frozen=True)
class Draft:
    """What a reader makes of one entry: a case with its dropped parts, or no case and one fault that says why. Without
    case and fault it is no entry, and has notes only. `notes` are sentences that are no faults; each ends in ": " and
    the words under which they are counted."""

    id: str
    case: Case | None
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def kept(named: Iterable[tuple[str, object]], make: Callable, faults: list[str]) -> list:
    """What `make` makes of each of (its name, it). One that it refuses, by CaseError or ImageError, is a sentence in
    `faults`, and the others stay."""
    made = []
    for name, one in named:
        try:
            made.append(make(one))
        except (CaseError, ImageError) as error:
            faults.append(f"{name} dropped: {error}")
    return made


def count_notes(notes: Iterable[dict]) -> str:
    """The notes in one sentence, counted under the words after their first ": "; empty where there are none."""
    counted = Counter(note["reason"].split(": ", 1)[-1] for note in notes)
    return "; ".join(f"{number} x {words}" for words, number in counted.most_common())


def changed_images(case: Case) -> list[Path]:
    """The case's pictures other than its own: without its lesions, without one finding, with one elsewhere."""
    names = [name for fact in case.facts or () for name in (fact.removed, fact.moved) if name]
    return [*([case.hidden] if case.hidden else []), *(case.folder / name for name in names)]


def lesion_pixels(lesion: Lesion, *, folder: Path, size: tuple[int, int]) -> np.ndarray:
    """The pixels of one lesion as bool (H, W) for an image of `size` (width, height): where its marks agree. Raises
    ImageError for an unusable mask, and CaseError where the marks share no pixel, polygons cover none or all of the
    image, or the lesion has points only."""
    if not lesion.outlined:
        raise CaseError(f"lesion {lesion.label!r} is marked by points only; `make masks` outlines it")
    pixels = np.ones(size[::-1], bool)
    if lesion.box is not None:
        x, y, width, height = lesion.box
        pixels[:] = False
        pixels[int(np.floor(y)) : int(np.ceil(y + height)), int(np.floor(x)) : int(np.ceil(x + width))] = True
    if lesion.polygons:
        inside = np.zeros_like(pixels)
        for polygon in lesion.polygons:  # pixel 0 spans 0 to 1, so its centre is at one half
            inside |= polygon2mask(inside.shape, np.reshape(polygon, (-1, 2))[:, ::-1] - 0.5)
        if not inside.any() or inside.all():
            raise CaseError(f"its polygon covers {'all' if inside.any() else 'none'} of the image")
        pixels &= inside
    if lesion.mask is not None:
        pixels &= read_mask(folder / lesion.mask, size, value=lesion.label_id)
    if not pixels.any():
        what = f"{lesion.mask}: nothing of the mask" if lesion.mask else "nothing of the polygons"
        where = "the polygons" if lesion.box is None else f"box {list(lesion.box)}"
        raise CaseError(f"{what} lies inside {where}; correct one of them")
    return pixels


def resolve_inside(folder: Path, name: str) -> Path:
    """The absolute path of `name` in `folder`; backslashes count as slashes where nothing has that name. Links are
    followed and may not leave the folder, but a place directly in it may be a link to a folder elsewhere (pictures on
    another disk). Raises CaseError for a path that leaves, leads to itself, or can be none."""
    if "\0" in name:
        raise CaseError(f"path {name!r} holds a zero character; correct it in the list")
    try:
        root = folder.resolve()
        path = Path(os.path.normpath(root / name))
        if "\\" in name and not path.exists():
            path = Path(os.path.normpath(root / name.replace("\\", "/")))
        if not path.is_relative_to(root):
            raise CaseError(f"path {name!r} leaves the case folder {folder}; copy the file into it")
        first = root.joinpath(*path.relative_to(root).parts[:1])
        linked = first.is_symlink() and first.is_dir()
        found = path.resolve(strict=True) if path.exists() else path.resolve()
        if not found.is_relative_to(first.resolve() if linked else root):
            raise CaseError(f"path {name!r} leaves the case folder {folder} by a link; copy the file into it")
        return path if linked else found
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, CaseError):
            raise
        why = "is too long, leads to itself or is none"
        raise CaseError(f"no such image file: path {name[:80]!r} {why}; correct it in the list") from error


def write_cases(path: Path | str, cases: Iterable[Case], *, root: Path | str | None = None) -> None:
    """Write the kit's own layout (see above); a later read_cases needs the same `root` (default: the file's folder).
    Raises CaseError for a file outside `root`. The file appears whole or not at all."""
    path = Path(path)
    folder = (path.parent if root is None else Path(root)).resolve()
    records = [_record(case, folder) for case in cases]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, records)


def assign_splits(groups: Iterable[str], *, fractions: dict[str, float], seed: int) -> dict[str, str]:
    """Give every group one split, in about these fractions of the groups: {group: split} (METHOD.md D6). `fractions`
    must name known splits and sum to 1, else ValueError. Depends on the set of groups, not their order."""
    unknown = set(fractions) - set(SPLITS)
    if unknown or abs(sum(fractions.values()) - 1) > 1e-9:
        raise ValueError(f"fractions {fractions}: use splits among {SPLITS} and a sum of 1")
    names = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    ends = np.round(np.cumsum(list(fractions.values())) * len(names)).astype(int)
    parts = zip(fractions, [0, *ends[:-1]], ends, strict=True)
    return {names[i]: split for split, start, end in parts for i in order[start:end]}


def find_leaks(cases: Iterable[Case]) -> dict[str, tuple[str, ...]]:
    """Groups of the training split that also occur in a held-out one: {group: its splits} (METHOD.md D6)."""
    splits: dict[str, set[str]] = {}
    for case in cases:
        splits.setdefault(case.group, set()).add(case.split)
    return {group: tuple(s for s in SPLITS if s in found) for group, found in splits.items()
            if "train" in found and len(found) > 1}  # fmt: skip


def _record(case: Case, folder: Path) -> dict:
    record = asdict(replace(case, folder=Path()))
    del record["folder"]
    record["image"] = _relative(case.image, folder)
    record["source"] = record["source"] or None  # the reader refuses empty text
    record["hidden"] = None if case.hidden is None else _relative(case.hidden, folder)
    for question in record["questions"]:
        if not question["options"]:
            del question["options"]
    for entry in [*(record["facts"] or ()), *record["lesions"]]:
        for name in ("mask", "removed", "moved"):
            if entry.get(name) is not None:
                entry[name] = _relative(case.folder / entry[name], folder)
    return record


def _relative(path: Path, folder: Path) -> str:
    absolute = path if path.is_relative_to(folder) else path.resolve()  # below a linked folder it stays as it is named
    if not absolute.is_relative_to(folder):
        raise CaseError(f"{path} is outside {folder}; give write_cases a root that holds all files")
    return absolute.relative_to(folder).as_posix()
