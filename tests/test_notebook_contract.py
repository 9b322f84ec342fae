"""Every notebook follows the skeleton: title and table, parameters, set-up, closed sections, save, exercises."""

import ast
import re
import statistics

import nbformat
import pytest

from medalign_lite.dials import DEFAULT_SEED
from medalign_lite.files import ROOT
from medalign_lite.run.notebook import parameters_of, typical_minutes

STAGES = ("00_start", "01_rollout", "02_edits", "03_corruption", "04_losses", "05_train", "06_evaluate", "07_claims")
FOLDER = ROOT / "notebooks"
NUMBERED = sorted(FOLDER.glob("*.ipynb"))
SOLUTIONS = sorted((FOLDER / "solutions").glob("*.ipynb"))
STANDARD = {"PRESET": "auto", "CASES": "", "MODEL": "", "SEED": DEFAULT_SEED, "OUT": ""}
TAGS = {"parameters", "figure", "interactive", "exercise"}
MEDIAN, LONGEST, TOGETHER = 8, 20, 1500  # lines of code: of a notebook's cells, of any cell, of the eight notebooks
HOLDS = re.compile(r"^\s*assert |stage\.check\(", re.MULTILINE)
KIND_OF_DATA = r"\bif\b.*\bfacts is (not )?None|[!=]= ['\"]phantom['\"]|stage\.cases\b"
SET_BY_HAND = r"(\{[^{}\n]*:[<>^]?\d+(\.\d+)?[a-z%]?\}.*){2}"  # columns' widths in an f-string
FORBIDDEN = {
    r"^\s*[!%]": "a shell command or magic", r"\bpip install\b": "an installation", r"\blogin\(": "a login",
    r"\.cuda\(": ".cuda(): use the model's device", r"\bglobals\(|\bsetattr\(": "globals tricks",
    r"""["']/(home|root|work|tmp|Users|mnt|content)\b""": "an absolute path",
    r"\bpickle\b|torch\.(save|load)\(": "a pickle",
}

pytestmark = pytest.mark.skipif(not NUMBERED, reason="there are no notebooks yet")
numbered = pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)
every = pytest.mark.parametrize("path", [*NUMBERED, *SOLUTIONS], ids=lambda path: f"{path.parent.name}/{path.stem}")


def read(path):
    return nbformat.read(path, as_version=4)


def tags(cell):
    return set(cell.metadata.get("tags", []))


def code(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def text(path):
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def sections(path):
    """[(heading, cells)] for each `## ` heading."""
    found = []
    for cell in read(path).cells:
        heading = re.search(r"^## (.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else None
        if heading:
            found.append((heading[1].strip(), []))
        if found:
            found[-1][1].append(cell)
    return found


def test_the_notebooks_have_the_names_of_their_stages_and_solutions_and_are_short():
    assert tuple(path.stem for path in NUMBERED) == STAGES
    assert {path.stem[:2] for path in SOLUTIONS} == {stage[:2] for stage in STAGES}
    assert sum(len(cell.source.splitlines()) for path in NUMBERED for cell in code(path)) <= TOGETHER


@numbered
def test_it_opens_with_title_table_and_what_you_will_see(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    table = [line for line in first.source.splitlines() if line.strip().startswith("|")]
    heads = [head.strip(" *").lower() for head in table[0].strip("|").split("|")]
    assert heads == ["needs", "writes", "minutes", "memory", "downloads"] and typical_minutes(path) is not None
    bullets = first.source.partition("You will see")[2]
    assert len(re.findall(r"^[-*] ", bullets, re.MULTILINE)) == 3


@numbered
def test_parameters_are_the_standard_ones(path):
    parameters = parameters_of(path)
    assert {name: parameters[name] for name in STANDARD} == STANDARD
    assert list(parameters)[: len(STANDARD)] == list(STANDARD)
    more = {"00_start": ["STRICT", "LESIONS"], "05_train": ["RECIPE", "ROUNDS"]}
    assert list(parameters)[len(STANDARD) :] == more.get(path.stem, [])
    assert "parameters" in tags(code(path)[0]), "the parameters come before any other code"


@numbered
def test_the_set_up_cell_opens_its_own_stage_and_says_what_was_chosen(path):
    setup = code(path)[1].source
    assert re.search(rf'open_stage\(\s*"{path.stem}"', setup) and "import" in setup
    assert "print(stage.summary())" in setup


@numbered
def test_sections_are_numbered_and_closed(path):
    counted = [(heading, cells) for heading, cells in sections(path) if re.match(r"\d", heading)]
    assert [int(re.match(r"\d+", heading)[0]) for heading, _ in counted] == list(range(1, len(counted) + 1))
    assert len(counted) >= 3
    for heading, cells in counted:
        if re.search(r"\b(save|exercises?)\b", heading, re.IGNORECASE):
            continue
        assert any("What you should see" in c.source for c in cells if c.cell_type == "markdown"), heading
        held = [c for c in cells if c.cell_type == "code" and HOLDS.search(c.source)]
        assert held, f"{heading}: nothing is asserted"


@numbered
def test_a_static_figure_comes_before_each_widget(path):
    figure = False
    for cell in code(path):
        figure |= "figure" in tags(cell)
        assert figure or "interactive" not in tags(cell)
        if "interactive" in tags(cell):
            figure = False


@numbered
def test_four_exercises_that_check_themselves(path):
    assert re.findall(r"\*\*Exercise (\d+)", text(path)) == ["1", "2", "3", "4"]
    practised = "\n".join(cell.source for cell in code(path) if "exercise" in tags(cell))
    assert len(re.findall(r"(?<!stage\.)\bcheck\(", practised)) >= 4
    assert "quiz(" in practised, "a question that marks itself"
    assert re.search(r"\bpredict", practised + text(path), re.IGNORECASE), "a question before the cell is run"
    assert f"solutions/{path.stem}" in text(path), "a link to the solutions"


@numbered
def test_it_ends_with_what_to_remember_and_the_way_on(path):
    last = read(path).cells[-1]
    assert last.cell_type == "markdown" and re.match(r"## What to remember$", last.source, re.MULTILINE)
    assert len(re.findall(r"^- ", last.source, re.MULTILINE)) == 3
    following = STAGES[STAGES.index(path.stem) + 1 :][:1]
    assert all(f"]({stage}.ipynb)" in last.source for stage in following), "a link to the next notebook"


@numbered
def test_one_idea_a_cell_saved_once_the_papers_told_from_ours_and_tables_by_the_package(path):
    lengths = [len(cell.source.splitlines()) for cell in code(path)]
    assert statistics.median(lengths) <= MEDIAN, f"median {statistics.median(lengths)} lines"
    assert sum("stage.finish()" in cell.source for cell in code(path)) == 1
    assert re.search(r"\bpaper's\b|\bthe paper\b", text(path)) and re.search(r"\bours\b|\bour\b", text(path))
    for number, cell in enumerate(code(path)):
        assert not re.search(SET_BY_HAND, cell.source), f"cell {number}: a table set by an f-string"
        assert not re.search(KIND_OF_DATA, cell.source), f"cell {number}: a branch on the kind of data"


@every
def test_cells_are_short_plain_and_known(path):
    for number, cell in enumerate(read(path).cells):
        where = f"{path.name} cell {number}"
        assert tags(cell) <= TAGS, where
        if cell.cell_type != "code":
            continue
        assert len(cell.source.splitlines()) <= LONGEST, f"{where}: more than {LONGEST} lines"
        for pattern, what in FORBIDDEN.items():
            assert not re.search(pattern, cell.source, re.MULTILINE), f"{where}: {what}"
        ast.parse(cell.source)


@every
def test_it_is_committed_without_outputs(path):
    for cell in code(path):
        assert not cell.outputs and cell.execution_count is None
    assert all(cell.get("id") for cell in read(path).cells)


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solutions_read_stages_and_write_none(path):
    assert not any(".finish()" in cell.source for cell in code(path))
    assert not any("NotImplementedError" in cell.source for cell in code(path))
    assert any(re.search(r"^\s*assert ", cell.source, re.MULTILINE) for cell in code(path))
