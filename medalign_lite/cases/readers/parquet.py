"""Visual questions in the hub's parquet layout, pictures inside: VQA-RAD, PathVQA, SLAKE and others like them, and the
medical subjects of MMMU (Yue et al. 2024), whose questions have options.

A row is `image` (or `image_1`) {bytes, path}, `question`, `answer`, perhaps `options`; the split is in the file's name
(train-00000-of-00001-*.parquet). Rows name no picture, so its pixels do: equal pixels are one image, one case and one
group, in every split. Page checksums are verified where a file has them; the hub's files often have none, so compare
their sha256 after a download.
"""

from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import CaseError, Draft, Question
from medalign_lite.cases.pictures import save_picture
from medalign_lite.cases.readers import shared, sources

LAYOUT = "visual questions in parquet"
NEEDS = "a .parquet file, or a folder with some, of columns image, question and answer"
MAKES_FILES = True
OPTIONS = {"splits"}
COLUMNS, IMAGES = ("question", "answer"), ("image", "image_1")
MORE = ("options", "question_type", *(f"image_{n}" for n in range(2, 8)))
MEDICAL = ("Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy",
           "Public_Health")  # fmt: skip
ROWS_AT_ONCE = 16  # pictures in memory
MAX_GROUP = 2**31  # bytes of a row group, unpacked


def lists(path: Path) -> list[Path]:
    """The parquet files."""
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    return sources.files_at(path, "*.parquet", "data/*.parquet", *(f"{name}/*.parquet" for name in MEDICAL))


def read(path: Path, *, root: Path, splits: str = "clean") -> Iterator[Draft]:
    """One Draft per picture, written to `root`/images (with `splits="standard"` per picture and split)."""
    root, asked = root.resolve(), []
    about: dict[str, tuple[str, ...]] = {}

    def image_of(row: dict) -> str:
        if any(row.get(name) for name in MORE if name.startswith("image_")):
            raise CaseError("asks about several pictures; a case is one")
        content = row["image"].get("bytes") if isinstance(row["image"], dict) else row["image"]
        picture = save_picture(content if isinstance(content, bytes) else b"", root / "images")
        about[picture.name] = picture.notes
        return picture.name

    for file in lists(path):
        asked += shared.ask(_rows(file), shared.split_named(file.stem), image_of, _question)

    def fields(image: str, remarks: shared.Remarks) -> dict:
        remarks.notes += about[image]
        return {"id": image, "group": image, "image": root / "images" / f"{image}.png", "source": path.stem}

    yield from shared.asked_cases(asked, fields, folder=root, splits=splits)


def _question(row: dict, place: str) -> Question:
    text, answer = sources.text_in(row, "question").replace("<image 1>", "").strip(), sources.text_in(row, "answer")
    options = shared.options_of(row) if row.get("options") and row.get("question_type") != "open" else []
    if options:
        return shared.choice_question(shared.question_id(place), text, options, [answer], "question")
    return Question(shared.question_id(place), text, answer, shared.kind_of(answer), "question")


def _rows(file: Path) -> Iterator[sources.Row]:
    """Rows of the columns that are read; one fault where the file, or the rest of it, cannot be."""
    number = 0
    try:
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(file, page_checksum_verification=True, pre_buffer=False) as table:
            names = table.schema_arrow.names
            image = next((name for name in IMAGES if name in names), None)
            missing = [name for name in COLUMNS if name not in names] + [IMAGES[0]] * (image is None)
            if missing:
                raise CaseError(f"{file.name} has no column {', '.join(missing)}; needed are image, "
                                f"{', '.join(COLUMNS)}")
            groups = [table.metadata.row_group(n).total_byte_size for n in range(table.num_row_groups)]
            if max(groups, default=0) > MAX_GROUP:
                raise CaseError(f"{file.name} holds a row group of more than {MAX_GROUP // 2**30} GB; write smaller "
                                "ones")
            wanted = [*COLUMNS, image, *(name for name in MORE if name in names)]
            for batch in table.iter_batches(batch_size=ROWS_AT_ONCE, columns=wanted, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{file.name} row {number}", row | {"image": row[image]}, ""
    except ImportError:
        yield file.name, None, "reading parquet needs pyarrow: pip install -c constraints.txt -e '.[parquet]'"
    except CaseError as error:
        yield file.name, None, str(error)
    except Exception as error:  # decoders raise ArrowException, OSError, ValueError, UnicodeDecodeError, ...
        short = (str(error).splitlines() or [type(error).__name__])[0][:120]
        yield f"{file.name} after row {number}", None, f"{file.name} is damaged ({short}); download it again"
