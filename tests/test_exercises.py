"""Exercises, quizzes and tables: a wrong answer never passes, hints come one by one, nothing is run or lost."""

import ast

import ipywidgets as ipw
import nbformat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medalign_lite.cases.readers import read_cases
from medalign_lite.files import ROOT
from medalign_lite.show.exercises import Quiz, check, quiz, same
from medalign_lite.show.tables import results_table, table

EVIL = "<script>alert(1)</script>"


@pytest.mark.parametrize(("answer", "right"), [
    (0.6932, 0.693), (np.float64(0.693), 0.693), (np.array([1.0, 2.0]), [1, 2]), ((1, "a"), [1, "a"]), (3, 3.0),
    ({"base": 0.5}, {"base": 0.5}), ({"a", "b"}, {"b", "a"}), ("left", "left"), (np.True_, True), (None, None),
    (((5, 9), None), ((5, 9), None)),
])  # fmt: skip
def test_a_right_answer_is_right(answer, right):
    assert check(answer, right, hints=("look",)).right


@pytest.mark.parametrize(("answer", "right"), [
    (0.7, 0.693), (float("nan"), 0.693), (float("nan"), float("nan")), (None, 0.0), ("0.693", 0.693), (True, 1),
    (1, True), ([1, 2, 3], [1, 2]), ([1], [1, 2]), ([], [0]), ({}, {"a": 1}), ({"a": 1, "b": 2}, {"a": 1}),
    ((5, 9), ((5, 9), None)), (((5, 8), None), ((5, 9), None)),
    ("lef", "left"), (0, ""), (0, None), (set(), {"a"}), (["a"], {"a"}), ("ab", ["a", "b"]), (print, 1.0), (1j, 1.0),
    (float("inf"), 1.0), ({0: 5.0, 1: 6.0}, [0, 1]),
])  # fmt: skip
def test_a_wrong_answer_never_passes(answer, right):
    assert not check(answer, right, hints=("look",)).right


@given(st.floats(allow_nan=True), st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_pass_only_within_the_tolerance(said, wanted):
    assert same(said, wanted, 1e-3) == bool(abs(said - wanted) <= 1e-3)


def test_hints_come_one_after_the_other_and_the_last_stays():
    said = [repr(check(0, 1, hints=("first of these", "second of these"))) for _ in range(3)]
    assert ["hint 1: first" in said[0], "hint 2: second" in said[1], "hint 2: second" in said[2]] == [True] * 3


def test_a_function_is_called_on_every_case_and_what_it_raises_is_told():
    def half(x):
        return x / 2

    def unfilled(x):
        raise NotImplementedError("exercise 1: a half")

    hints = ("divide", "by two")
    assert check(half, {(4,): 2, (3,): 1.5}, hints=hints).right
    assert "with 3 it gives 1.5" in check(half, {(4,): 2, (3,): 1}, hints=hints).text
    assert check(unfilled, {(4,): 2}, hints=hints).text == "to do: exercise 1: a half"
    assert "TypeError" in check(lambda: 1, {(4,): 2}, hints=hints).text
    assert not check(lambda x: None, {(4,): 2}, hints=hints).right


def test_a_mark_shows_text_and_does_not_run_it():
    mark = check(lambda x: EVIL, {(1,): 2}, hints=(EVIL,))
    assert "<script" not in mark._repr_html_() and 'role="status"' in mark._repr_html_() and "✗" in repr(mark)


def test_a_quiz_marks_itself_in_text(monkeypatch):
    monkeypatch.setenv("MEDALIGN_HEADLESS", "1")
    asked = quiz("Which?", ["no", "small", "left", "seen"], right="no", why="It hides a finding.")
    assert isinstance(asked, Quiz) and "b) small" in repr(asked)
    assert asked.answer("a").right and asked.answer("no").right and "hides" in repr(asked.answer("a"))
    assert asked.answer(" A ").right and asked.answer("No").right
    assert not any(asked.answer(choice).right for choice in ("b", "small", "", "x", None, "n"))
    with pytest.raises(ValueError, match="must be one of"):
        quiz("Which?", ["no"], right="yes", why="")


def test_a_quiz_marks_itself_with_widgets(monkeypatch):
    monkeypatch.delenv("MEDALIGN_HEADLESS", raising=False)
    title, choice, button, said = quiz(EVIL, ["no", "small"], right="no", why=EVIL).children
    assert isinstance(choice, ipw.RadioButtons) and choice.value is None
    button.click()
    assert "Choose first" in said.value
    choice.value = "small"
    button.click()
    assert "✗" in said.value
    choice.value = "no"
    button.click()
    assert "✓" in said.value and "<script" not in said.value + title.value


def test_tables_are_text_and_html_with_the_same_cells():
    entry = {"value": 0.8, "low": 0.75, "high": float("nan"), "n": 9}
    shown = table({"base": {"F1": entry, "n": 9}, EVIL: {"F1": None, "note": "a\nb"}}, title="test")
    assert repr(shown).splitlines()[2].split() == ["base", "0.800", "[0.750,", "–]", "9", "–"]
    html = shown._repr_html_()
    assert "<script" not in html and "<caption>test</caption>" in html and html.count("<tr>") == 3
    assert 'scope="row"' in html and "a b" in html
    assert repr(table([])) == "" and table([])._repr_html_()


def test_results_are_shown_as_far_as_they_were_measured():
    known = {"value": 0.1, "low": None, "high": None, "n": 4}
    nothing = known | {"value": None, "n": 0}
    results = dict.fromkeys(("base", "aligned", "difference"), {"test": {"fact_f1": known, "yes_ratio": nothing}})
    assert repr(results_table(results)).splitlines()[-1].split() == ["fact", "F1", "0.100", "0.100", "0.100", "4"]
    results = dict.fromkeys(results, {"test": {"fact_f1": nothing}})
    assert "no case could be scored" in repr(results_table(results))


WRONG = ("return None", "return 0", "return ''", "raise ValueError('x')")


def code_of(path, tag=None):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return [ast.parse(cell.source).body for cell in cells if tag in (None, *cell.metadata.get("tags", []))]


@pytest.mark.parametrize("name", ["00_start", "01_rollout", "02_edits", "03_corruption"])
def test_an_exercise_takes_its_solution_and_nothing_wrong(name):
    """Each exercise cell is run with the function of the solutions in place of the empty one, and with wrong ones."""
    notebook, solved = ROOT / f"notebooks/{name}.ipynb", ROOT / f"notebooks/solutions/{name}_solutions.ipynb"
    known = {"samples": read_cases(ROOT / "data_samples/cases").cases}
    lines = [line for body in (*code_of(notebook), *code_of(solved)) for line in body]
    shown = [line for line in lines if ast.unparse(line).startswith(("PAIRS =", "def replacements_only"))]
    run([line for line in lines if isinstance(line, ast.Import | ast.ImportFrom)] + shown, known)
    functions = {line.name: line for body in code_of(solved) for line in body if isinstance(line, ast.FunctionDef)}
    exercises = [body for body in code_of(notebook, "exercise") if isinstance(body[0], ast.FunctionDef)]
    assert len(exercises) == 4
    for empty, *rest in exercises:
        assert marked(rest, [functions[empty.name]], dict(known)).right, empty.name
        for line in WRONG:
            assert not marked(rest, ast.parse(f"def {empty.name}(*a, **k): {line}").body, dict(known)).right, line


def run(lines, names):
    exec(compile(ast.Module(list(lines), []), "<notebook>", "exec"), names)


def marked(rest, function, names):
    run([*function, *rest[:-1]], names)
    return eval(compile(ast.Expression(rest[-1].value), "<notebook>", "eval"), names)
