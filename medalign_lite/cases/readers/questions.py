"""Visual questions about pictures of any kind, in lists and in the hub's parquet layout (docs/DATA.md: what is read).

VQA-RAD (Lau et al. 2018): every image of the published test is in training too, with other questions. `splits="clean"`
leaves those out and the test as it is (METHOD.md D6); `"standard"` keeps both, and says so.

VQA-Med 2019 (Ben Abacha et al. 2019): lines `image|question|answer`, in the test `image|category|question|answer#and
another`. The first reference answer is read, without what stands in brackets as optional.

Options to choose from: PMC-VQA (Zhang et al. 2023; CSV), OmniMedVQA (Hu et al. 2024; JSON lists with option_A and so
on), and JSON lists with `options` as MMMU's medical subjects are shared (Yue et al. 2024). The answer is the text of
an option, its letter or both; a row where they differ is dropped.

Parquet, pictures inside: a row is `image` (or `image_1`) {bytes, path}, `question`, `answer`, perhaps `options`; the
split is in the file's name (train-00000-of-00001-*.parquet). Rows name no picture, so its pixels do: equal pixels are
one image, one case and one group, in every split. Page checksums are verified where a file has them; the hub's files
often have none, so compare their sha256 after a download.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import CaseError, Draft, Question, resolve_inside
from medalign_lite.cases.images import short_of
from medalign_lite.cases.pictures import save_picture
from medalign_lite.cases.readers import shared, sources
from medalign_lite.cases.readers.sources import Reader

RAD_FILES = {"trainset.json": "train", "testset.json": "test"}
RAD_PUBLIC = "VQA_RAD Dataset Public.json"
RAD_FOLDERS = ("images", "VQA_RAD Image Folder")


def read_vqa_rad(path: Path, *, root: Path | None = None, splits: str = "clean") -> Iterator[Draft]:
    """One Draft per image (with `splits="standard"` per image and split), and one per entry without an image."""
    folder = path.resolve()
    images = next((name for name in RAD_FOLDERS if (path / name).is_dir()), RAD_FOLDERS[0])
    asked, organs = [], {}
    for file in sorted(VQA_RAD.lists(path), key=lambda file: file.name, reverse=True):
        for row in sources.entries_of(file):
            entry = row[1] or {}
            split = RAD_FILES.get(file.name) or ("test" if "test" in str(entry.get("phrase_type", "")) else "train")
            asked += shared.ask([row], split, lambda entry: sources.file_name_in(entry, "image_name"), _rad_question)
            organs.setdefault(str(entry.get("image_name", "")).strip(), str(entry.get("image_organ", "image")).strip())

    def fields(image: str, remarks: shared.Remarks) -> dict:
        name = sources.safe_id(Path(image).stem)
        return {"id": name, "image": resolve_inside(folder, f"{images}/{image}"), "source": f"VQA-RAD {organs[image]}"}

    yield from shared.asked_cases(asked, fields, folder=folder, splits=splits)


def _rad_question(entry: dict, place: str) -> Question:
    kind = shared.answer_kind(sources.text_in(entry, "answer_type").upper())
    return Question(
        id=sources.safe_id(sources.text_in(entry, "qid", number=True)), text=sources.text_in(entry, "question"),
        answer=sources.text_in(entry, "answer", number=True), kind=kind, topic=sources.text_in(entry, "question_type"),
    )


VQA_RAD = Reader(
    "VQA-RAD", "a folder that holds trainset.json and testset.json, or 'VQA_RAD Dataset Public.json', beside its "
    "images", lambda path: sources.files_at(path, *RAD_FILES) or sources.files_at(path, RAD_PUBLIC), read_vqa_rad,
    options=("splits",),
)  # fmt: skip


MED_FILES = {"All_QA_Pairs_train.txt": "train", "All_QA_Pairs_val.txt": "val",
             "VQAMed2019_Test_Questions_w_Ref_Answers.txt": "test"}  # fmt: skip
MED_SUFFIXES = (".jpg", ".jpeg", ".png")


def read_vqa_med(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per image, and one per line without one."""
    asked, homes, folder = [], {}, path.resolve()
    for file in VQA_MED.lists(folder):
        rows, split = _med_lines(file), MED_FILES[file.name]
        found = list(shared.ask(rows, split, lambda row: sources.safe_id(row["image"]), _med_question))
        homes |= {entry.image: file.parent for entry in found if not isinstance(entry, Draft)}
        asked += found
    pictures = {home: sources.pictures_below(home, MED_SUFFIXES) for home in set(homes.values())}

    def fields(image: str, remarks: shared.Remarks) -> dict:
        found = sources.picture_named(folder, pictures[homes[image]], image, MED_SUFFIXES)
        return {"id": image, "image": found, "source": VQA_MED.layout}

    yield from shared.asked_cases(asked, fields, folder=folder)


@sources.telling
def _med_lines(file: Path) -> Iterator[sources.Row]:
    lines = sources.content_of(file).decode("utf-8-sig", errors="surrogateescape").splitlines()
    for number, line in enumerate(lines, start=1):
        parts, place = [part.strip() for part in line.split("|")], f"{file.name} line {number}"
        if len(parts) in (3, 4) and all(parts):
            topic = parts.pop(1) if len(parts) == 4 else "question"
            yield place, dict(zip(("image", "question", "answer", "topic"), [*parts, topic])), ""
        elif line.strip():
            yield place, None, "not image|question|answer, nor with a category in the second place"


def _med_question(row: dict, place: str) -> Question:
    first = row["answer"].split("#")[0]
    answer = re.sub(r"\s*\([^()]*\)\s*", " ", first).strip() or first.strip("() ")
    return Question(shared.question_id(row["question"]), row["question"], answer, shared.kind_of(answer), row["topic"])


VQA_MED = Reader(
    "VQA-Med 2019", "a folder with All_QA_Pairs_train.txt, ..._val.txt or VQAMed2019_Test_Questions_w_Ref_Answers.txt "
    "in it or below", lambda path: sources.files_at(path, *MED_FILES, *(f"*/{name}" for name in MED_FILES)),
    read_vqa_med,
)  # fmt: skip


PMC_COLUMNS = ("Figure_path", "Question", "Choice A", "Choice B", "Answer")
PMC_MORE = ("Choice C", "Choice D", "Answer_label")
CHOICE_PLACES = ("*.json", "QA_information/*.json", "QA_information/*/*.json")
IMAGE_KEYS = ("image_path", "image", "image_1", "Figure_path")
CHOICE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
SEVERAL = "asks about several pictures; a case is one"


def choice_lists(path: Path) -> list[Path]:
    """PMC-VQA's tables, else the JSON lists that offer options."""
    if tables := sources.tables_with(PMC_COLUMNS, path, "*.csv"):
        return tables
    starts = {file: sources.first_bytes(file, 2**16) for file in sources.files_at(path, *CHOICE_PLACES)}
    return [file for file, start in starts.items()
            if b'"question"' in start and (b'"option_A"' in start or b'"options"' in start)]  # fmt: skip


def read_choice(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per image, and one per row without one."""
    folder, asked = path.resolve(), []
    pictures = sources.pictures_below(folder, CHOICE_SUFFIXES)
    for file in choice_lists(path):
        table = file.suffix == ".csv"
        rows = sources.rows_of(file, PMC_COLUMNS, optional=PMC_MORE) if table else sources.entries_of(file)
        split = shared.split_named(file.stem, "train" if table else "test")
        asked += shared.ask(rows, split, _choice_image, _choice_question)

    def fields(image: str, remarks: shared.Remarks) -> dict:
        exact = resolve_inside(folder, image)
        found = exact if exact.is_file() else sources.the_one(folder, pictures.get(Path(image).name, []), image)
        name = sources.safe_id(shared.question_id(image)[1:] + "-" + Path(image).stem[:80])
        return {"id": name, "image": found, "source": CHOICE.layout}

    yield from shared.asked_cases(asked, fields, folder=folder)


def _choice_image(row: dict) -> str:
    several = [key for key in row if key.startswith("image_") and key[6:].isdigit() and key != "image_1" and row[key]]
    key = next((key for key in IMAGE_KEYS if row.get(key)), IMAGE_KEYS[0])
    if several or isinstance(row.get(key), list) and len(row[key]) != 1:
        raise CaseError(SEVERAL)
    return sources.text_in({key: row[key][0]} if isinstance(row.get(key), list) else row, key).removeprefix("./")


def _choice_question(row: dict, place: str) -> Question:
    text = sources.text_in(row, "Question" if "Question" in row else "question").replace("<image 1>", "").strip()
    options = shared.options_of(row)
    said = (row.get(key) for key in ("Answer", "Answer_label", "gt_answer", "answer"))
    answers = [answer for answer in said if isinstance(answer, str) and answer]
    topic = row.get("question_type") if isinstance(row.get("question_type"), str) else ""
    topic = topic if topic and "choice" not in topic and topic != "open" else "question"
    if not options and answers and row.get("question_type") == "open":  # MMMU has some
        return Question(shared.question_id(text), text, answers[0], shared.kind_of(answers[0]), topic)
    return shared.choice_question(shared.question_id(text, *options), text, options, answers, topic)


CHOICE = Reader(
    "multiple choice", "PMC-VQA's train.csv and test.csv, OmniMedVQA's QA_information/, or a JSON list with question, "
    "options and answer", choice_lists, read_choice,
)  # fmt: skip


HUB_COLUMNS, HUB_IMAGES = ("question", "answer"), ("image", "image_1")
FURTHER_IMAGES = tuple(f"image_{n}" for n in range(2, 8))
HUB_MORE = ("options", "question_type", *FURTHER_IMAGES)
MMMU = ("Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy",
        "Public_Health")  # fmt: skip
ROWS_AT_ONCE = 16  # pictures in memory
MAX_GROUP = 2**31  # bytes of a row group, unpacked


def parquet_lists(path: Path) -> list[Path]:
    """The parquet files."""
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    return sources.files_at(path, "*.parquet", "data/*.parquet", *(f"{name}/*.parquet" for name in MMMU))


def read_parquet(path: Path, *, root: Path, splits: str = "clean") -> Iterator[Draft]:
    """One Draft per picture, written to `root`/images (with `splits="standard"` per picture and split)."""
    root, asked = root.resolve(), []
    about: dict[str, tuple[str, ...]] = {}

    def image_of(row: dict) -> str:
        if any(row.get(name) for name in FURTHER_IMAGES):
            raise CaseError(SEVERAL)
        content = row["image"].get("bytes") if isinstance(row["image"], dict) else row["image"]
        picture = save_picture(content if isinstance(content, bytes) else b"", root / "images")
        about[picture.name] = picture.notes
        return picture.name

    for file in parquet_lists(path):
        asked += shared.ask(_parquet_rows(file), shared.split_named(file.stem), image_of, _parquet_question)

    def fields(image: str, remarks: shared.Remarks) -> dict:
        remarks.notes += about[image]
        return {"id": image, "image": root / "images" / f"{image}.png", "source": path.stem}

    yield from shared.asked_cases(asked, fields, folder=root, splits=splits)


def _parquet_question(row: dict, place: str) -> Question:
    text, answer = sources.text_in(row, "question").replace("<image 1>", "").strip(), sources.text_in(row, "answer")
    options = shared.options_of(row) if row.get("options") and row.get("question_type") != "open" else []
    if options:
        return shared.choice_question(shared.question_id(place), text, options, [answer], "question")
    return Question(shared.question_id(place), text, answer, shared.kind_of(answer), "question")


def _parquet_rows(file: Path) -> Iterator[sources.Row]:
    """Rows of the columns that are read; one fault where the file, or the rest of it, cannot be."""
    number = 0
    try:
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(file, page_checksum_verification=True, pre_buffer=False) as table:
            names = table.schema_arrow.names
            image = next((name for name in HUB_IMAGES if name in names), None)
            missing = [name for name in HUB_COLUMNS if name not in names] + [HUB_IMAGES[0]] * (image is None)
            if missing:
                raise CaseError(f"{file.name} has no column {', '.join(missing)}; needed are image, question, answer")
            groups = [table.metadata.row_group(n).total_byte_size for n in range(table.num_row_groups)]
            if max(groups, default=0) > MAX_GROUP:
                raise CaseError(f"{file.name} holds a row group of more than {MAX_GROUP >> 30} GB; write smaller ones")
            wanted = [*HUB_COLUMNS, image, *(name for name in HUB_MORE if name in names)]
            for batch in table.iter_batches(batch_size=ROWS_AT_ONCE, columns=wanted, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{file.name} row {number}", row | {"image": row[image]}, ""
    except ImportError:
        yield file.name, None, "reading parquet needs pyarrow: pip install -c constraints.txt -e '.[parquet]'"
    except CaseError as error:
        yield file.name, None, str(error)
    except Exception as error:  # decoders raise ArrowException, OSError, ValueError, UnicodeDecodeError, ...
        told = f"{file.name} is damaged ({short_of(error)}); download it again"
        yield f"{file.name} after row {number}", None, told


PARQUET = Reader(
    "visual questions in parquet", "a .parquet file, or a folder with some, of columns image, question and answer",
    parquet_lists, read_parquet, makes_files=True, options=("splits",),
)  # fmt: skip
