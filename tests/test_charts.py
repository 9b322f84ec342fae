"""Charts for the lesson: each says in words what it shows, none needs colour, and none fails where there is nothing."""

import numpy as np
import pytest

from medalign_lite.cases.images import read_image
from medalign_lite.cases.readers import read_cases
from medalign_lite.corruption.masks import find_masks
from medalign_lite.edits.truths import truth_of
from medalign_lite.files import ROOT
from medalign_lite.show import charts

EVIL = '"><script>alert(1)</script>'
SAMPLES = read_cases(ROOT / "data_samples/cases").cases
EMPTY = [
    lambda: charts.bars({}, xlabel="x"), lambda: charts.bars({}, xlabel="x", stacked=True, share=True),
    lambda: charts.gallery({}), lambda: charts.histograms({"x": {"a": [], "b": []}}), lambda: charts.edits([]),
    lambda: charts.marked_texts({}, label="x"), lambda: charts.scatter([], [], xlabel="x", ylabel="y", diagonal=True),
]  # fmt: skip


@pytest.mark.parametrize("draw", EMPTY)
def test_nothing_to_show_is_shown_as_nothing(draw):
    assert draw().png.startswith(b"\x89PNG")


def test_a_drawing_is_heard_and_runs_nothing():
    shown = charts.bars({EVIL: {"a": 1, "b": 3}, "two": {"a": 1, "b": 0}}, xlabel="x", stacked=True, share=True)
    assert "a 0.25, b 0.75" in shown.alt and shown.alt in repr(shown)
    assert "<script" not in shown._repr_html_() and 'alt="Bars' in shown._repr_html_()


def test_bars_are_told_apart_without_colour():
    from matplotlib.colors import to_rgb

    grey = [np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) for colour, _ in charts.FILLS]
    assert len({hatch for _, hatch in charts.FILLS}) == len(charts.FILLS)
    assert min(abs(a - b) for i, a in enumerate(grey) for b in grey[:i]) > 0.02


def test_the_clearest_error_is_a_finding_on_an_empty_side():
    asked = [(case, q) for case in SAMPLES for q in case.questions if q.kind == "report"]
    texts = ["A right nodule is seen." if "pacemaker" in case.findings else q.answer for case, q in asked]
    case, question, text = charts.clearest_error(asked, texts)
    assert not any(fact.side == "right" and fact.visible for fact in case.facts)
    assert truth_of(case, question).correct(text) is not None
    shown = charts.wrong_answer(case, question, text)
    assert "struck through" in shown.alt and "nodule" in shown.alt
    with pytest.raises(ValueError, match="none of 1 answers"):
        charts.clearest_error(asked[:1], [asked[0][1].answer])


def test_four_pictures_galleries_and_company_say_what_they_show():
    case = next(c for c in SAMPLES if "effusion" in c.findings)
    image, edit = read_image(case.image), truth_of(case, case.questions[0]).correct("No effusion is seen.")
    masks = find_masks(case, image, select=["effusion"], seed=1)
    shown = charts.four_pictures(image, masks, image, edit, ["No", " effusion"], [1.0, 0.0], about="effusion")
    assert "1 of 2 tokens" in shown.alt and "No becomes" in shown.alt
    assert "pacemaker" in charts.case_sheet(SAMPLES).alt
    phi = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert "a with b +0.50" in charts.company(["a", "b"], {"train": phi}).alt
    assert charts.pieces("no effusion", [(0, 2, -1), (3, 11, 1)]) == (["no", " ", "effusion"], [-1.0, 0.0, 1.0])
    assert charts.pieces("", []) == ([""], [])
