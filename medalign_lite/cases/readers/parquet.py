"""Visual questions in the hub's parquet layout, pictures inside: VQA-RAD, PathVQA, SLAKE and others like them.

A row is `image` {bytes, path}, `question`, `answer`; the split is in the file's name (train-00000-of-00001-*.parquet).
Rows name no picture, so its bytes do: equal bytes are one image, one case and one group, in every split. Page checksums
are verified where a file has them; the hub's files often have none, so compare their sha256 after a download.
"""

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from medalign_lite.cases.case import Case, CaseError, Draft, Question
from medalign_lite.cases.readers.entries import Asked, Image, Remarks, by_image, draft, kind_of, text_in

LAYOUT = "visual questions in parquet"
NEEDS = "a .parquet file, or a folder with some, of columns image, question and answer"
MAKES_FILES = True
COLUMNS = ("image", "question", "answer")
SPLIT_WORDS = {"train": "train", "training": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val",
               "test": "test"}  # fmt: skip
SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}
ROWS_AT_ONCE = 64  # pictures in memory


def detect(path: Path) -> str | None:
    """Why `path` is in this layout, or None."""
    files = _files(path)
    if not files:
        return None
    return f"{len(files)} parquet file{'s' * (len(files) > 1)}, the first is {files[0].name}"


def read(path: Path, *, root: Path, splits: str = "clean") -> Iterator[Draft]:
    """One Draft per picture, written to `root`/images (with `splits="standard"` per picture and split)."""
    root = root.resolve()
    (root / "images").mkdir(parents=True, exist_ok=True)
    asked: list[Asked] = []
    for file in _files(path):
        split = next((SPLIT_WORDS[word] for word in re.split(r"\W|_", file.stem) if word in SPLIT_WORDS), "train")
        number = 0
        try:
            for number, row in enumerate(_rows(file), start=1):
                place = f"{file.name} row {number}"
                try:
                    asked.append(_asked(row, root, split, place))
                except CaseError as error:
                    yield Draft(place, None, (str(error),))
        except CaseError as error:
            yield Draft(f"{file.name} after row {number}", None, (str(error),))
    for image in by_image(asked, splits=splits):
        yield draft(image.name, _case, image, root, path.stem)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    return sorted([*path.glob("*.parquet"), *path.glob("data/*.parquet")])


def _rows(file: Path) -> Iterator[dict]:
    """Rows of the three columns; raises CaseError where the file, or the rest of it, cannot be read."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise CaseError("reading parquet needs pyarrow: pip install -c constraints.txt -e '.[parquet]'") from error
    try:
        with pyarrow.parquet.ParquetFile(file, page_checksum_verification=True) as table:
            missing = [name for name in COLUMNS if name not in table.schema_arrow.names]
            if missing:
                raise CaseError(f"{file.name} has no column {', '.join(missing)}; needed are {', '.join(COLUMNS)}")
            for batch in table.iter_batches(batch_size=ROWS_AT_ONCE, columns=list(COLUMNS), use_threads=False):
                yield from batch.to_pylist()
    except CaseError:
        raise
    except Exception as error:  # decoders raise ArrowException, OSError, ValueError, UnicodeDecodeError, ...
        short = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise CaseError(f"{file.name} is damaged ({short}); download it again") from error


def _asked(row: dict, root: Path, split: str, place: str) -> Asked:
    image = row["image"]
    content = image.get("bytes") if isinstance(image, dict) else image
    suffixes = [end for magic, end in SUFFIXES.items() if isinstance(content, bytes) and content.startswith(magic)]
    if not suffixes:
        raise CaseError("image holds no PNG or JPEG bytes")
    name = sha256(content).hexdigest()[:16] + suffixes[0]
    file = root / "images" / name
    if not file.is_file():
        partial = file.with_suffix(".partial")
        partial.write_bytes(content)
        partial.replace(file)
    try:
        answer = text_in(row, "answer")
        number = f"q{sha256(place.encode()).hexdigest()[:12]}"  # rows bring no id
        question = Question(number, text_in(row, "question"), answer, kind_of(answer), "question")
    except CaseError as error:
        return Asked(name, split, place, None, fault=f"question of {place} dropped: {error}")
    return Asked(name, split, place, question)


def _case(image: Image, root: Path, source: str, remarks: Remarks) -> Case:
    remarks.add(image.remarks)
    name = Path(image.name).stem
    return Case(
        id=f"{name}-{image.split}" if image.shared else name,
        group=name,
        split=image.split,
        image=root / "images" / image.name,
        questions=tuple(image.questions),
        source=source,
        folder=root,
    )
