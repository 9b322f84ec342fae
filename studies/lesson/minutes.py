"""Minutes of a class: TEACHING's tables, from the notebooks' texts and an executed run (`make figures`).

    python -m studies.lesson.minutes [artifacts/ci]

A section takes as long as it is read, at the rates below; running it takes what papermill wrote into the executed
notebooks (kept in docs/figures/minutes.json), or what a notebook's first table says where none was executed. A plan's
rows in docs/TEACHING.md name notebooks and sections; their minutes are written here, and what is left is for questions.
tests/test_lesson.py compares them.
"""

import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import nbformat

from medalign_lite.files import ROOT, read_json, write_json, write_text
from medalign_lite.run.notebook import typical_minutes

WORDS, LINES, FIGURE, QUIZ, EXERCISE = 150, 20, 1.0, 1.0, 5.0  # words and lines of code a minute; minutes for each
TEACHING, MEASURED = ROOT / "docs/TEACHING.md", ROOT / "docs/figures/minutes.json"
NOTEBOOKS = {path.stem[:2]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
SECTION = re.compile(r"^## (\d+) ", re.M)
NAMED = re.compile(r"\b(\d\d) [\w ]+: (\d[\d, ]*)(?:; exercise (\d[\d, ]*))?")
PLAN = re.compile(r"(<!-- plan of (\d+) minutes: make figures -->\n)(.*?)(<!-- end of plan -->)", re.S)
TABLE = re.compile(r"(<!-- minutes: make figures -->\n).*?(<!-- end of minutes -->)", re.S)


def main(arguments: list[str]) -> int:
    """Read what the run took, where there is one, and write the tables."""
    run = Path(arguments[0] if arguments else ROOT / "artifacts/ci")
    found = {path.stem: seconds_of(path) for path in sorted((run / "notebooks").glob("[0-9]*.ipynb"))}
    if found:
        write_json(MEASURED, found)
    write_text(TEACHING, written(TEACHING.read_text(encoding="utf-8")))
    print(f"{TEACHING.name}: minutes of {len(found) or 'no'} executed notebooks")
    return 0


def sections_of(path: Path) -> dict[str, list]:
    """{number of a section: its cells}; "" for what stands before the first."""
    found, number = {"": []}, ""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            heading = SECTION.match(cell.source)
            number = heading[1] if heading else "end"
        found.setdefault(number, []).append(cell)
    return found


def reading(path: Path) -> dict[str, float]:
    """{section: minutes to read it aloud, look at its figures and answer its quiz}."""

    def minutes(cell) -> float:
        if cell.cell_type == "markdown":
            return len(cell.source.split()) / WORDS
        figure = "figure" in cell.metadata.get("tags", [])
        return len(cell.source.splitlines()) / LINES + FIGURE * figure + QUIZ * ("quiz(" in cell.source)

    return {number: sum(map(minutes, cells)) for number, cells in sections_of(path).items() if number.isdecimal()}


def seconds_of(path: Path) -> dict[str, float]:
    """{section: seconds that its cells ran}, of an executed notebook."""
    return {number: round(sum(cell.metadata.get("papermill", {}).get("duration") or 0 for cell in cells), 1)
            for number, cells in sections_of(path).items()}


def machine(path: Path, measured: Mapping[str, Mapping[str, float]]) -> float:
    """Minutes that the notebook runs."""
    return sum(measured[path.stem].values()) / 60 if path.stem in measured else typical_minutes(path)


def written(text: str) -> str:
    """TEACHING's text with its tables as they should be. Raises ValueError where a plan has no time for questions."""
    measured = read_json(MEASURED) if MEASURED.is_file() else {}
    text = TABLE.sub(lambda match: match[1] + by_section(measured) + match[2], text)
    return PLAN.sub(lambda match: match[1] + plan(match[3], int(match[2]), measured) + match[4], text)


def by_section(measured: Mapping) -> str:
    """The table of every notebook: minutes of its sections, together, and of the machine."""
    lines = ["| notebook | minutes, section by section | together | it runs |", "|---|---|---:|---:|"]
    for path in NOTEBOOKS.values():
        minutes = reading(path)
        each = " · ".join(f"{number}: {value:.0f}" for number, value in minutes.items())
        lines.append(f"| {path.stem} | {each} | {sum(minutes.values()):.0f} | {machine(path, measured):.1f} |")
    return "\n".join(lines) + "\n"


def plan(table: str, total: int, measured: Mapping) -> str:
    """A plan's rows with their minutes; the row of questions gets what is left of `total`."""

    def shown(number: str, sections: str, exercises: str) -> float:  # minutes of some of one notebook
        minutes = reading(NOTEBOOKS[number])
        return sum(minutes[n] for n in re.findall(r"\d+", sections)) + EXERCISE * len(re.findall(r"\d+", exercises))

    rows = [line.split("|")[1:-1] for line in table.strip().splitlines()]
    for row in rows[2:]:
        if named := NAMED.findall(row[1]):
            row[0] = f" {math.ceil(sum(shown(*one) for one in named))} "
            row[2] = f" {sum(machine(NOTEBOOKS[number], measured) for number, _, _ in named):.1f} "
    questions = next(row for row in rows if row[1].strip().startswith("questions"))
    left = total - sum(int(row[0]) for row in rows[2:] if row is not questions)
    if left < 5:
        raise ValueError(f"the plan of {total} minutes leaves {left} for questions: name fewer sections in {TEACHING}")
    questions[0] = f" {left} "
    return "".join("|" + "|".join(row) + "|\n" for row in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
