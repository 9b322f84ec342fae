"""Working copies of the notebooks, so that what learners write never meets git (`make lab`, `make instructor`).

    python -m studies.lesson.copies artifacts/lab [--instructor]

The copy has the repository's own shape, so that links to docs, results and figures hold: `docs`, `data_samples` and
`artifacts` are links to the real ones. A file that is there already is never overwritten.
"""

import re
import sys
from pathlib import Path

import nbformat

from medalign_lite.files import ROOT

LINKED = ("docs", "data_samples", "artifacts", "README.md", "medalign_lite")
EXERCISE = re.compile(r"\*\*Exercise (\d+)\b")
SOLUTION = re.compile(r"^## Exercise (\d+)\s*", re.M)


def main(arguments: list[str]) -> int:
    """Make the copy and say where it is."""
    folder, new = Path(arguments[0] if arguments else "artifacts/lab").resolve(), 0
    for page in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        target = folder / page.relative_to(ROOT)
        if ".ipynb_checkpoints" in page.parts or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        notebook = nbformat.read(page, as_version=4)
        solutions = page.parent / "solutions" / f"{page.stem}_solutions.ipynb"
        if "--instructor" in arguments and solutions.is_file():
            notebook = with_solutions(notebook, nbformat.read(solutions, as_version=4))
        nbformat.write(notebook, target)
        new += 1
    for name in LINKED:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(ROOT / name)
    print(f"{new} notebooks copied to {folder}; those that were there are as you left them")
    return 0


def with_solutions(notebook: nbformat.NotebookNode, solutions: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with the cells of each solution in place of the empty one; their set-up comes first, without the
    cell of parameters, which is the notebook's own."""
    setup, answers, number = [], {}, None
    for cell in solutions.cells[1:]:
        cell.id = f"s-{cell.id}"
        if cell.cell_type == "markdown" and (found := SOLUTION.search(cell.source)):
            number = int(found[1])
            cell.source = SOLUTION.sub(rf"**Solution {number}.** ", cell.source, count=1)
        if number is not None:
            answers.setdefault(number, []).append(cell)
        elif "parameters" not in cell.metadata.get("tags", []):
            setup.append(cell)
    cells, number = [], None
    for cell in notebook.cells:
        if found := EXERCISE.search(cell.source):
            number = int(found[1])
        if "exercise" not in cell.metadata.get("tags", []) or number not in answers:
            cells.append(cell)
            continue
        cells += [*setup, *answers.pop(number)]
        setup = []
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
