"""The annotation widget: driven through its actions, and by clicks and keys in a real browser."""

import json
from dataclasses import replace
from datetime import datetime

import pytest
from lab import MISSING, barriers, browser, lab, run_all
from test_edits import make_case, make_rollout

from medalign_lite.cases.case import Lesion
from medalign_lite.editors import notes
from medalign_lite.editors.notes import list_items, read_notes
from medalign_lite.editors.suggest import find_spans
from medalign_lite.editors.widget import HumanEditor

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)> A small left effusion."
SAID = ("A small left effusion is seen. No nodule.", "A small right effusion.", EVIL)


@pytest.fixture
def items(picture, tmp_path):
    case = make_case(image=picture, lesions=(Lesion("effusion", box=(5, 40, 12, 10)),), folder=tmp_path)
    return list_items([make_rollout(text, sample=i) for i, text in enumerate(SAID)], [case])


def test_actions_change_the_state_and_the_file(items, tmp_path):
    editor = HumanEditor(items, tmp_path / "notes")
    assert editor.state["total"] == 3 and not (tmp_path / "notes").exists() and len(editor.pictures) == 2
    editor.act({"do": "mark", "value": "right"})
    assert "say who you are" in editor.state["message"]
    editor.act({"do": "sign in", "name": "not a name!"})
    assert "initials" in editor.state["message"] and not editor.state["annotator"]
    editor.act({"do": "sign in", "name": " AB "})
    span = editor.state["spans"][0]
    assert (span["label"], span["tone"]) == ("small left effusion: present", "present")
    choice = next(c for c in span["choices"] if c["label"] == "right")
    editor.act({"do": "replace", "changes": choice["changes"]})
    assert editor.state["text"] == "A small right effusion is seen. No nodule." and editor.state["verdict"] == "wrong"
    assert editor.state["at"] == 0  # there may be more to correct
    editor.act({"do": "next open"})
    editor.act({"do": "reference"})
    assert editor.state["reference"] == "small right effusion"
    editor.act({"do": "mark", "value": "right"})
    assert editor.state["at"] == 2 and editor.state["reference"] is None
    assert editor.state["counts"] == {"right": 1, "wrong": 1, "unsure": 0}
    assert editor.state["marks"] == ["wrong", "right", ""]
    [changed, marked] = read_notes(tmp_path / "notes" / "AB.jsonl")
    assert changed.judgement.verdict == "wrong" and marked.saw_reference and not changed.saw_reference
    editor.act({"do": "undo"})
    assert editor.state["at"] == 1 and editor.state["verdict"] == ""
    editor.act({"do": "go", "to": 0})
    editor.act({"do": "restore", "start": 8, "end": 12})
    assert editor.state["verdict"] == "" and editor.state["text"] == SAID[0]
    for action in ({"do": "replace", "changes": [{"start": 0, "end": 999, "new": ""}]}, {"do": "mark", "value": "x"}):
        editor.act(action)
        assert editor.state["message"]


def test_it_goes_on_after_a_restart_and_keeps_people_apart(items, tmp_path):
    HumanEditor(items, tmp_path / "n", annotator="AB").act({"do": "mark", "value": "right"})
    editor = HumanEditor(items, tmp_path / "n", annotator="AB")
    assert editor.state["at"] == 1 and editor.state["marks"] == ["right", "", ""]
    editor.act({"do": "sign in", "name": "CD"})
    assert editor.state["at"] == 0 and editor.state["marks"] == ["", "", ""]
    editor.act({"do": "agreement"})
    assert "two annotators" in editor.state["agreement"][0][0]
    editor.act({"do": "mark", "value": "right"})
    assert editor.state["agreement"][1][:2] == ["AB and CD", "1"]


def test_notes_are_exported_and_imported(items, tmp_path):
    editor, sent = HumanEditor(items, tmp_path / "n", annotator="AB"), []
    editor.send = sent.append
    editor.act({"do": "mark", "value": "unsure"})
    editor.act({"do": "export"})
    other = HumanEditor(items, tmp_path / "m", annotator="AB")
    other.act({"do": "import", "text": sent[0]["export"]})
    assert other.state["marks"] == ["unsure", "", ""] and other.state["message"] == "1 new notes"
    other.act({"do": "import", "text": "no note\n"})
    assert "line 1 is no note" in other.state["message"]


def test_an_emoji_is_two_of_the_browsers_characters(items, tmp_path):
    item = replace(items[0], answer="\U0001fac1 A right effusion.")
    editor = HumanEditor([item], tmp_path / "n", annotator="AB")
    assert [span["start"] for span in editor.state["spans"]][:1] == [5]
    editor.act({"do": "replace", "changes": [{"start": 5, "end": 10, "new": "left"}]})
    assert editor.state["text"] == "\U0001fac1 A left effusion."
    assert editor.state["changes"] == [{"start": 5, "end": 10, "new": "left"}]


def test_two_windows_lose_nothing_and_a_clock_may_go_back(items, tmp_path, monkeypatch):
    one, two = (HumanEditor(items, tmp_path / "n", annotator="AB") for _ in range(2))
    one.act({"do": "mark", "value": "right"})
    two.act({"do": "go", "to": 1})
    two.act({"do": "mark", "value": "unsure"})
    assert HumanEditor(items, tmp_path / "n", annotator="AB").state["marks"] == ["right", "unsure", ""]

    class Earlier(datetime):
        """A clock that was set back."""

        @classmethod
        def now(cls, tz=None):
            return cls(2001, 1, 1, tzinfo=tz)

    monkeypatch.setattr(notes, "datetime", Earlier)
    one.act({"do": "go", "to": 0})
    one.act({"do": "mark", "value": "unsure"})
    exported = notes.export_notes(tmp_path / "n")
    notes.import_notes(tmp_path / "m", exported)
    assert HumanEditor(items, tmp_path / "m", annotator="AB").state["marks"] == ["unsure", "unsure", ""]


def test_broken_pictures_and_empty_lists_are_said(items, tmp_path):
    empty = HumanEditor([], tmp_path, annotator="AB")
    empty.act({"do": "mark", "value": "right"})
    assert "no answer" in empty.state["message"]
    items[0].case.image.write_bytes(b"")
    assert "x.png" in HumanEditor(items, tmp_path).state["trouble"]


@pytest.mark.parametrize(("facts", "said", "expected"), [
    ((), "A small left effusion.", {"right", "moderate", "large", "not there"}),
    ((), "No pleural effusion or nodule is seen.", {"left effusion", "right effusion", "left nodule", "right nodule"}),
    ((), "The heart is mildly enlarged.", {"moderate", "large", "not there"}),
    ((), "Yes", {"no"}), (None, "No.", {"yes"}), (None, "left lung", {"right"}), (None, "CT", set()),
    (None, "There is a small right pleural effusion.", {"left", "moderate", "large", "not there"}),
])  # fmt: skip
def test_spans_offer_corrections(facts, said, expected):
    spans = find_spans(said, make_case(facts=facts))
    assert {choice.label for span in spans for choice in span.choices} >= expected
    assert all(a.end <= b.start for a, b in zip(spans, spans[1:]))


CELLS = ("""
import json, numpy as np
from pathlib import Path
from medalign_lite.editors.notes import list_items
from medalign_lite.cases.case import Case, Fact, Lesion, Question
from medalign_lite.editors.widget import HumanEditor
from medalign_lite.model.rollout import Rollout
case = Case("c1", "g1", "train", Path("x.png"), (Question("r", "Describe this film.", "", "report", "report"),),
            (Fact("effusion", "right", size="small"),), (Lesion("effusion", box=(5, 40, 12, 10)),))
said = json.loads(Path("said.json").read_text())
items = list_items([Rollout(f"r{i}", "c1", "r", 0, text, [], [], {}) for i, text in enumerate(said)], [case])
""", 'HumanEditor(items, "notes")')  # fmt: skip


@pytest.mark.browser
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (apt-get install chromium-driver)")
def test_a_browser_clicks_types_undoes_and_finds_it_saved(items, tmp_path):
    (tmp_path / "said.json").write_text(json.dumps(SAID))
    journal = tmp_path / "notes" / "AB.jsonl"
    with lab(tmp_path, CELLS) as url, browser() as driver:
        page = Page(driver, url)
        page.sign_in("AB")
        assert not driver.find_elements("css selector", ".hm script, .hm .answer img")
        assert page.text(".verdict") == "not judged yet"

        page.first(".answer .span").click()  # a claim
        page.first(".choice", lambda node: node.text.endswith("right")).click()
        page.wait(lambda: page.text("ins") == "right")
        assert read_notes(journal)[-1].judgement.changes[0].new == "right"
        page.keys("z")
        page.wait(lambda: page.text(".verdict") == "not judged yet")
        last = read_notes(journal)[-1]
        assert last.action == "undo" and not last.judgement.changes

        page.keys("\ue004", "1")  # Tab, the first correction
        page.wait(lambda: page.text(".verdict") == "corrected")
        page.keys("x", "d", "d", "a", "b", "m")  # JupyterLab's own: cut, delete, insert, to Markdown
        page.hands().double_click(page.first(".answer .word", lambda node: node.text == "seen")).perform()
        page.wait(lambda: page.all(".hm input.new"))
        page.type("input.new", "visible", "\ue007")  # Enter
        page.wait(lambda: len(page.all("ins")) == 2)
        assert page.text(".result").startswith("Reads now A small right effusion is visible.")
        start, end = (page.first(".answer [data-start]", lambda node, word=word: node.text.strip() == word)
                      for word in ("is", "nodule"))
        page.hands().move_to_element(start).click_and_hold().move_to_element(end).release().perform()
        page.wait(lambda: page.text(".about q").strip("“”\"") == "is seen. No nodule")
        page.keys("\ue00c")  # Escape
        page.wait(lambda: page.all(".hm .panel.empty"))
        page.keys("w", "w", "e")  # any words by keys alone
        page.wait(lambda: page.text(".about q").strip("“”\"") == "small left effusion is")
        page.keys("w", "W")
        page.wait(lambda: page.text(".about q").strip("“”\"") == "is")
        assert barriers(driver, ".hm") == []
        page.keys("\ue00c", "n", "c")
        page.wait(lambda: "2 of 3 judged: 1 correct, 1 corrected" in page.text(".progress"))
        page.wait(lambda: page.text(".answer") == EVIL)
        page.keys("u", "o", "?")
        page.wait(lambda: "3 of 3 judged" in page.text(".progress"))
        assert page.all(".keys") and page.all(".jp-CodeCell") and len(page.all(".jp-Cell")) == len(CELLS)

        saved = journal.read_text()
        page = Page(driver, url)  # the page anew, with a new widget
        page.sign_in("AB")
        page.wait(lambda: "3 of 3 judged: 1 correct, 1 corrected, 1 unsure" in page.text(".progress"))
        page.keys("z", "z")
        page.wait(lambda: "1 of 3 judged: 0 correct, 1 corrected, 0 unsure" in page.text(".progress"))
        assert journal.read_text().startswith(saved)
        assert [note.action for note in read_notes(journal)][-2:] == ["undo", "undo"]


class Page:
    """A notebook with the widget in it, loaded and run."""

    def __init__(self, driver, url):
        self.driver = driver
        run_all(driver, url)
        self.wait(lambda: self.all(".hm header"))

    def hands(self):
        from selenium.webdriver import ActionChains

        return ActionChains(self.driver)

    def wait(self, until, seconds=240):
        from selenium.common.exceptions import StaleElementReferenceException as Stale
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, seconds, 0.1, ignored_exceptions=[Stale]).until(lambda _: until())

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def text(self, selector):
        found = self.all(f".hm {selector}")
        return found[0].text if found else ""

    def first(self, selector, wanted=bool):
        """The first node of the widget that is wanted, once there is one of this kind."""
        self.wait(lambda: self.all(f".hm {selector}"))
        return next(filter(wanted, self.all(f".hm {selector}")))

    def keys(self, *keys):
        """Pressed one after another; each has its effect before the next, as a person waits for it."""
        for key in keys:
            self.hands().send_keys(key).pause(0.4).perform()

    def type(self, selector, text, end):
        field = self.all(f".hm {selector}")[0]
        field.clear()
        field.send_keys(text + end)

    def sign_in(self, name):
        self.type("input.name", name, "\ue007")
        self.wait(lambda: name in self.driver.execute_script("return document.querySelector('.hm input.name').value")
                  and not self.all(".hm .wanted"))  # fmt: skip
