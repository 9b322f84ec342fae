"""Questions with options to choose from: PMC-VQA (Zhang et al. 2023; CSV), OmniMedVQA (Hu et al. 2024; JSON lists with
option_A, option_B, ...), and JSON lists with `options` as MMMU's medical subjects are shared (Yue et al. 2024).

The answer is given as the text of an option, as its letter or both; a row where they differ is dropped. OmniMedVQA has
no splits: its images are divided.
"""

from collections.abc import Iterator
from pathlib import Path

from medalign_lite.cases.case import CaseError, Draft, Question, resolve_inside
from medalign_lite.cases.readers import shared, sources

LAYOUT = "multiple choice"
NEEDS = ("PMC-VQA's train.csv and test.csv, OmniMedVQA's QA_information/, or a JSON list with question, options and "
         "answer")
MAKES_FILES = False
COLUMNS = ("Figure_path", "Question", "Choice A", "Choice B", "Answer")
MORE = ("Choice C", "Choice D", "Answer_label")
PLACES = ("*.json", "QA_information/*.json", "QA_information/*/*.json")
IMAGE_KEYS = ("image_path", "image", "image_1", "Figure_path")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def lists(path: Path) -> list[Path]:
    """PMC-VQA's tables, else the JSON lists that offer options."""

    def offers(start: bytes) -> bool:
        return b'"question"' in start and (b'"option_A"' in start or b'"options"' in start)

    tables = sources.tables_with(COLUMNS, path, "*.csv")
    return tables or [file for file in sources.files_at(path, *PLACES) if offers(sources.first_bytes(file, 2**16))]


def read(path: Path, *, root: Path | None = None) -> Iterator[Draft]:
    """One Draft per image, and one per row without one."""
    folder = path.resolve()
    pictures = sources.pictures_below(folder, SUFFIXES)
    asked = []
    for file in lists(path):
        rows = sources.rows_of(file, COLUMNS, optional=MORE) if file.suffix == ".csv" else sources.entries_of(file)
        asked += shared.ask(
            rows, shared.split_named(file.stem, "test" if file.suffix == ".json" else "train"), _image, _question
        )

    def fields(image: str, remarks: shared.Remarks) -> dict:
        exact = resolve_inside(folder, image)
        found = exact if exact.is_file() else sources.the_one(folder, pictures.get(Path(image).name, []), image)
        return {
            "id": sources.safe_id(shared.question_id(image)[1:] + "-" + Path(image).stem[:80]), "image": found,
            "source": LAYOUT,
        }

    yield from shared.asked_cases(asked, fields, folder=folder)


def _image(row: dict) -> str:
    several = [key for key in row if key.startswith("image_") and key[6:].isdigit() and key != "image_1" and row[key]]
    key = next((key for key in IMAGE_KEYS if row.get(key)), IMAGE_KEYS[0])
    if several or isinstance(row.get(key), list) and len(row[key]) != 1:
        raise CaseError("asks about several pictures; a case is one")
    return sources.text_in({key: row[key][0]} if isinstance(row.get(key), list) else row, key).removeprefix("./")


def _question(row: dict, place: str) -> Question:
    text = sources.text_in(row, "Question" if "Question" in row else "question").replace("<image 1>", "").strip()
    options = shared.options_of(row)
    answers = [
        row[key] for key in ("Answer", "Answer_label", "gt_answer", "answer")
        if isinstance(row.get(key), str) and row[key]
    ]
    topic = row.get("question_type") if isinstance(row.get("question_type"), str) else ""
    topic = topic if topic and "choice" not in topic and topic != "open" else "question"
    if not options and answers and row.get("question_type") == "open":  # MMMU has some
        return Question(shared.question_id(text), text, answers[0], shared.kind_of(answers[0]), topic)
    return shared.choice_question(shared.question_id(text, *options), text, options, answers, topic)
