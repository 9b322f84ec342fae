"""Exercises, quizzes and tables: a wrong answer never passes, hints come one by one, nothing is run or lost."""

import ast
from types import SimpleNamespace

import ipywidgets as ipw
import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medalign_lite.cases.readers import read_cases
from medalign_lite.evaluate.metrics import Margins, Prediction, count, ratios
from medalign_lite.files import ROOT, read_json, write_json, write_jsonl
from medalign_lite.show.exercises import Quiz, check, quiz, same
from medalign_lite.show.tables import results_table, table
from studies.claims.store import committed_runs

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


NAMES = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
ANYWHERE = ("None", "0", "0.5", "1", "True", "False", "''", "[]", "{}", "1 / 0", "given[0]", "given")
# What else a learner may try, by exercise: expressions of its own arguments, each of them wrong.
WRONG = {
    "unseen_by_finding": ["dict.fromkeys((f.finding for c in cases for f in c.facts or () if not f.visible), 1)",
                          "Counter(f.finding for c in cases for f in c.facts or () if f.visible)"],
    "blind_accuracy": ["sum(answer == training_answers[0] for answer in test_answers) / len(test_answers)",
                       "sum(answer == training_answers[-1] for answer in test_answers) / len(test_answers)",
                       "max(map(test_answers.count, test_answers)) / len(test_answers)"],
    "phi_of": ["np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b))", "np.mean(np.equal(a, b))"],
    "mirrored": ["text.replace('right', 'left').replace('left', 'right')", "text.replace('right', 'left')"],
    "both_logps": ["tuple((torch.tensor(logits) / t).log_softmax(-1)[token] for t in (1, 0.8))",
                   "(torch.tensor(logits).log_softmax(-1)[token],) * 2"],
    "auc": ["np.mean(np.greater.outer(right, wrong))", "np.mean(np.greater_equal.outer(right, wrong))",
            "1 - np.mean(np.greater.outer(right, wrong))"],
    "returning": ["(sum(bool(a & b) for a, b in zip(greedy, sampled)), sum(map(len, greedy)))",
                  "(sum(map(len, sampled)), sum(map(len, greedy)))"],
    "entropy": ["(lambda p: -(p * p.log()).sum())(torch.tensor(logits).softmax(-1))",
                "(lambda p: -(p * p.log2()).sum())((torch.tensor(logits) / temperature).softmax(-1))"],
    "corrects_nothing": ["('left', 'right')", "('A left effusion.',) * 2", "('No effusion.', 'A right effusion.')",
                         "('A small left effusion.', 'A moderate right effusion.')"],
    "unseen_edits": ["len(pairs) - 1", "len(pairs)", "sum(len(a.split()) != len(b.split()) for a, b in pairs)",
                     "sum(bool(replacements_only(a, b)) for a, b in pairs)"],
    "in_a_span": ["any(max(token[0], s) <= min(token[1], e) for s, e, _ in spans)", "bool(spans)",
                  "any(s <= token[0] < e for s, e, _ in spans)",
                  "any(s <= token[0] and token[1] <= e for s, e, _ in spans)"],
    "without_no": ["text.replace('No ', '').replace('no ', '').replace('not ', '')", "text.replace('No ', '')"],
    "lesion_only": ["(lambda n: n and (min(n), max(n)))([row['lesion_pixels'] for row in rows if not row['control']])",
                    "(5, 9)", "(rows[-1]['lesion_pixels'], rows[0]['lesion_pixels'])"],
    "noise_inside": ["np.clip(image + sigma * rng.standard_normal(image.shape), 0, 255).astype(np.uint8)",
                     "(image + mask[..., None] * np.uint8(sigma)).astype(np.uint8)",
                     "np.clip(image + mask[..., None] * 20 * rng.standard_normal((64, 64, 1)), 0, 255).astype('u1')"],
    "roughness": ["float((grey - ndimage.median_filter(grey, 3)).mean())", "float(np.abs(grey - grey.mean()).mean())",
                  "float(np.abs(np.diff(grey)).mean())"],
    "grounding_probability": ["np.mean([l < c for _, l, c in gaps])", "np.mean([l < m for m, l, _ in gaps])", "0.625"],
    "share_with_lesion": ["first_loss / np.log(2) - 1", "(first_loss / np.log(2) - 1) / 0.1"],
    "joint": ["sp(beta * (chosen - rejected_lesion))", "sp(-0.1 * (chosen - rejected_lesion))", "sp(chosen)"],
    "side_heavy": ["torch.tensor([0.0, 3.0, 0.0, 0.0, 0.0])", "3.0 * (kinds > 0)", "kinds",
                   "package.token_weights(kinds, valid, background=1.0, kind=3.0)"],
    "smallest_kappa": ["0.05", "0.1", "0.2", "-0.1", "1e9", "float('nan')"],
    "scales": ["(alpha / rank, alpha / rank, alpha)", "(alpha / rank ** 0.5, 2.0, alpha * rank ** 0.5)"],
    "share_with_control": ["first_loss / np.log(2) - 1", "(first_loss / np.log(2) - 1) / 0.2"],
    "beside_cdpo": ["{'cdpo': 1.0, 'fire-mpo': 1.0}", "['cdpo', 'fire-mpo']", "{'cdpo': trained('cdpo', 10)}",
                    "{name: trained('cdpo', 10) for name in ('cdpo', 'fire-mpo')}",
                    "{name: trained(name, 9) for name in ('cdpo', 'fire-mpo')}"],
    "whole_and_killed": ["(True, True, True)", "(trained('a', 6),) * 2 + (3,)", "(trained('a', 6), trained('b', 6), 6)",
                         "(trained('a', 6), trained('c', 6, weights=b'other'), 3)",
                         "(trained('a', 6), trained('d', 3), 3)"],
    "closed_accuracy": ["results['base']['test']['closed_accuracy']['value']",
                        "np.mean([p.text == 'Yes.' for p in predictions if p.arm == arm])"],
    "paired_p": ["binomtest(sum(first), len(first)).pvalue", "0.03125",
                 "0.5 ** sum(a != b for a, b in zip(first, second))"],
    "left_by_silence": ["false * affirmed_aligned / affirmed", "false - affirmed + affirmed_aligned", "false"],
    "selectivity_gain": ["results['difference']['test']['grounding_selectivity']", "{'value': 0.0}"],
    "holm": ["[min(1.0, p * len(p_values)) for p in p_values]", "sorted(solution(p_values))", "p_values"],
    "own_claim": ["'dpo beats the base'", "against(BASE, 'dpo', CLOSED)", "against('dpo', BASE, 'fact_f1')"],
    "luck": ["0.8 * spread", "spread", "0.0"],
    "selectivity_and_probability": ["(np.subtract(lesion, control).mean(), 0.5)", "(0.0, 0.5)",
                                    "(np.subtract(control, lesion).mean(), np.mean(np.less(lesion, control)))"],
}  # fmt: skip
RIGHT = {  # solutions that train: here what training leaves behind is enough
    "beside_cdpo": "{name: trained(name, 10) for name in ('cdpo', 'fire-mpo')}",
    "whole_and_killed": "(trained('a', 6), trained('b', 6), 3)",
}
SHOWN = {"02_edits": ("PAIRS =", "def replacements_only"),  # lines that exercises rest on, by how they begin
         "04_losses": ("SAID =", "pieces =", "SPANS =", "kinds =", "valid =", "def learn")}  # fmt: skip


@pytest.fixture
def double():
    """Notebook 04 reckons in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", NAMES)
def test_an_exercise_takes_its_solution_and_nothing_wrong(name, tmp_path, double):
    """Each exercise is checked with the function of the solutions in place of the empty one, and with wrong ones."""
    notebook, solved = (code_of(ROOT / f"notebooks/{path}.ipynb") for path in (name, f"solutions/{name}_solutions"))
    known = known_to(name, tmp_path)
    shown = [line for line in notebook if ast.unparse(line).startswith(SHOWN.get(name, "no line"))]
    run([line for line in (*solved, *notebook) if isinstance(line, ast.Import | ast.ImportFrom)] + shown, known)
    run([line for line in solved if isinstance(line, ast.FunctionDef)], known)
    exercises = exercises_of(code_of(ROOT / f"notebooks/{name}.ipynb", "exercise"))
    assert len(exercises) == 4
    for empty, rest in exercises:
        if empty.name in RIGHT:
            run(ast.parse(f"def {empty.name}(pairs): return {RIGHT[empty.name]}").body, known)
        mark, answers = marked(rest, known)
        assert mark.right, (empty.name, mark)
        assert "to do" in marked([empty, *rest], known)[0].text
        known |= {"constants": answers, "solution": known[empty.name]}
        constants = [f"constants[{number}]" for number in range(len(answers))]
        tries = [("*given, **more", wrong) for wrong in (*ANYWHERE, *constants)]
        for head, wrong in [*tries, *((ast.unparse(empty.args), wrong) for wrong in WRONG[empty.name])]:
            mark, _ = marked([*ast.parse(f"def {empty.name}({head}): return {wrong}").body, *rest], known)
            assert not mark.right and "hint" in mark.text, (empty.name, wrong, mark)


def code_of(path, tag=None):
    """The lines of a notebook's code cells, or of those with a tag."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return [line for cell in cells if tag in (None, *cell.metadata.get("tags", []))
            for line in ast.parse(cell.source).body]


def exercises_of(lines):
    """[(empty function, its lines up to the check)]; quizzes are left out."""
    found = []
    for line in (line for line in lines if "quiz(" not in ast.unparse(line)):
        if isinstance(line, ast.FunctionDef) and isinstance(line.body[0], ast.Raise):
            found.append((line, []))
        elif found and "check(" not in "".join(map(ast.unparse, found[-1][1])):
            found[-1][1].append(line)
    return found


def run(lines, names):
    exec(compile(ast.Module(list(lines), []), "<notebook>", "exec"), names)


def marked(lines, known):
    """(the mark, the right values) of an exercise's lines, of which the last is the check."""
    names, call = dict(known), lines[-1].value
    run(lines[:-1], names)
    return tuple(eval(compile(ast.Expression(part), "<notebook>", "eval"), names) for part in (
        call, ast.parse(f"[*({ast.unparse(call.args[1])}).values()]", mode="eval").body))


def known_to(name, folder):
    """What the cells above a notebook's exercises have made, in small."""
    samples = read_cases(ROOT / "data_samples/cases").cases

    def trained(recipe, steps, weights=b"the same"):
        made = folder / f"{recipe}-{steps}"
        made.mkdir(exist_ok=True)
        write_json(made / "settings.json", {"recipe": {"name": recipe}})
        write_jsonl(made / "log.jsonl", [{"step": n + 1, "margin": float(n)} for n in range(steps)])
        (made / "adapter_model.safetensors").write_bytes(weights)
        return made

    made = {"np": np, "torch": torch, "samples": samples, "pool": [*range(24)], "trained": trained}
    if name == "06_evaluate":
        made |= evaluated([case for case in samples if case.split == "test"])
    if name == "07_claims":
        made |= {"results": committed_runs(), "found": read_json(ROOT / "docs/claims/claims.json")}
    return made


def evaluated(cases):
    """A base that always says no, and an aligned model that is always right and has two nats more of selectivity."""
    arms, asked = ("base", "grounded"), [(case, q) for case in cases for q in case.questions if q.kind == "closed"]
    said = [Prediction(case.id, q.id, text, arm) for case, q in asked for arm, text in zip(arms, ("No.", q.answer))]
    margins = [Margins(f"{case.id}-{arm}", case.id, arm, 3.0, 0.0, control) for case in cases
               for arm, control in zip(arms, (1.0, 3.0))]
    values = [ratios(count(cases, said, arm=arm).table.sum(axis=0))["closed_accuracy"] for arm in arms]
    results = {arm: {"test": {"closed_accuracy": {"value": value}}} for arm, value in zip(("base", "aligned"), values)}
    results["difference"] = {"test": {"grounding_selectivity": {"value": 2.0}}}
    return {"tested": {case.id: case for case in cases}, "predictions": said, "unseen": margins, "aligned": arms[1],
            "results": results, "stage": SimpleNamespace(seed=7)}
