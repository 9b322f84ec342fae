"""The widgets are built and driven through their traits; text from a model is shown, never run."""

import base64
import re
from collections import namedtuple
from io import BytesIO

import ipywidgets as ipw
import numpy as np
import pytest
from PIL import Image

from medalign_lite.cases.case import Case, Lesion, Question
from medalign_lite.corruption.corrupt import METHODS
from medalign_lite.show import widgets
from medalign_lite.show.figures import SIDE, named, outlined
from medalign_lite.text.facts import Fact

EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(1)> שלום'


def parts(widget, kind):
    """All parts of a kind, in reading order."""
    found = [widget] if isinstance(widget, kind) else []
    return found + [part for child in getattr(widget, "children", ()) for part in parts(child, kind)]


def html(widget):
    return "".join(part.value for part in parts(widget, ipw.HTML))


def pixels(picture):
    return base64.b64decode(re.search(r'base64,([^"]+)', picture.value)[1])


def labelled(widget, description):
    return next(w for w in parts(widget, ipw.Widget) if getattr(w, "description", None) == description)


@pytest.fixture
def cases(picture, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"")
    questions = (Question("r", EVIL, EVIL, "report", "report"),)
    lesion = (Lesion("spot", box=(10, 10, 20, 20)),)
    effusion = (Fact("effusion", "left", None, "small"), Fact("nodule", visible=False))
    return [Case("a", "a", "test", picture, questions, effusion, lesion, folder=tmp_path),
            Case("b", "b", "shifted", picture, questions, None, lesion, folder=tmp_path),
            Case("c", "c", "test", tmp_path / "broken.png", questions, (), (), folder=tmp_path)]


def test_case_browser_filters_shows_and_escapes(cases):
    browser = widgets.case_browser(cases, {("a", "r"): {"base": EVIL}})
    assert "one of 3" in html(browser) and "small left effusion; nodule (too faint to see)" in html(browser)
    assert html(browser).count("&lt;script&gt;") == 3 and "<script" not in html(browser)
    labelled(browser, "Split").value = "shifted"
    assert "one of 1" in html(browser) and "no structured truth; lesions: " in html(browser)
    labelled(browser, "Finding").value = "fracture"
    assert "No case fits" in html(browser) and "No case fits" in html(widgets.case_browser([]))


def test_case_browser_draws_lesions_when_asked_and_goes_on_after_a_broken_picture(cases):
    browser = widgets.case_browser(cases)
    picture = parts(browser, widgets.Picture)[0]
    with_lesions = picture.value
    labelled(browser, "Show lesions").value = False
    assert picture.value != with_lesions
    labelled(browser, "Case").value = 3
    assert "broken.png" in html(browser) and "truth: no finding" in html(browser)
    assert Image.open(BytesIO(pixels(picture))).size == (SIDE, SIDE)


def test_token_heatmap_switches_answer_and_series():
    answers = {"one": (["a", EVIL], {"Δ": [1.0, -2.0], "KL": [0.0, 0.5]}), "two": (["c"], {"KL": [0.25]})}
    view = widgets.token_heatmap(answers)
    assert "-2.0000" in html(view) and "<script" not in html(view)
    parts(view, ipw.ToggleButtons)[0].value = "KL"
    assert "+0.5000" in html(view)
    labelled(view, "Answer").value = "two"
    assert "+0.2500" in html(view) and parts(view, ipw.ToggleButtons)[0].value == "KL"


Pair = namedtuple("Pair", "id question source chosen rejected spans_chosen spans_rejected")


def test_edit_diff_marks_spans_and_filters():
    side = Pair("1", EVIL, "corrected", "a left lung", "a right lung", ((2, 6, "side"),), ((2, 7, "side"),))
    zone = Pair("2", "?", "counterfactual", EVIL, "low", ((0, 8, "zone"),), ((0, 3, EVIL),))
    view = widgets.edit_diff([side, zone])
    assert ">left</b>" in html(view) and ">right</b>" in html(view) and "line-through" in html(view)
    labelled(view, "Source").value = "counterfactual"
    assert "one of 1" in html(view) and "<script" not in html(view) and "<img" not in html(view)
    labelled(view, "Kind").value = "side"
    assert "No record fits" in html(view)


def test_corruption_explorer_runs_every_method_and_asks():
    image = Image.fromarray(np.random.default_rng(0).integers(60, 200, (64, 64, 3), dtype=np.uint8))
    lesion, control = np.zeros((2, 64, 64), bool)
    lesion[10:20, 10:20] = control[40:50, 40:50] = True
    asked = []
    view = widgets.corruption_explorer(image, lesion, control, id="a", seed=7, ask=lambda p: asked.append(p) or EVIL)
    assert 90 <= int(re.search(r"(\d+) of 4096 pixels changed", html(view))[1]) <= 100  # noise may round to 0
    shown = parts(view, widgets.Picture)[1]
    for method in METHODS:
        before = shown.value
        labelled(view, "Method").value = method
        assert method == METHODS[0] or shown.value != before
    labelled(view, "Method").value = "black"
    labelled(view, "Strength").value = 0.0
    assert "0 of 4096 pixels changed" in html(view)
    labelled(view, "Strength").value = 1.0
    parts(view, ipw.ToggleButtons)[0].value = "control"
    labelled(view, "Ask the model").click()
    changed = np.any(np.asarray(asked[0]) != np.asarray(image), axis=-1)
    assert changed[control].all() and not changed[~control].any()
    assert "&lt;script&gt;" in html(view) and "<script" not in html(view)


def test_lesions_are_called_by_name_in_places_of_their_own():
    masks = {name: np.zeros((64, 64), bool) for name in ("left effusion", "nodule", "none")}
    masks["left effusion"][30:40, 30:40] = masks["nodule"][32:42, 30:40] = True
    image = Image.new("L", (64, 64), 128)
    plain, told = (np.asarray(named(image, some)) for some in ({}, masks))
    rows = np.nonzero((told == 0).all(axis=-1).any(axis=1))[0]
    assert told.shape == (SIDE, SIDE, 3) and not (plain == 0).any()
    assert np.count_nonzero(np.diff(rows) > 1) == 1  # two black labels, one above the other
    wide = outlined(Image.new("L", (100, 40)), np.ones((40, 100), bool), None)
    assert wide.size == (SIDE, round(SIDE * 0.4)) and wide.mode == "RGB"


def test_the_ask_box_asks_about_the_first_case_and_escapes_the_answer(cases):
    asked = []
    box = widgets.ask_box(lambda case, text: asked.append((case.id, text)) or EVIL, cases[:2], "Is there one?")
    labelled(box, "Question").value = "Is there an effusion?"  # what Enter does
    assert asked == [("a", "Is there an effusion?")]
    assert "&lt;script&gt;" in html(box) and "<script" not in html(box) and 'role="status"' in html(box)
    labelled(box, "Case").value = cases[1]
    labelled(box, "Ask").click()
    assert asked[-1] == ("b", "Is there an effusion?") and 'alt="The image of case b"' in html(box)
