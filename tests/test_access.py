"""For everybody: axe finds nothing serious on the report and the widgets, and a keyboard is enough."""

import time

import pytest
from lab import MISSING, barriers, browser, lab, run_all, wait
from test_report import full_page

pytest.importorskip("axe_core_python", reason="part of the extra dev")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")]
CELLS = [
    """from pathlib import Path
from medalign_lite.files import ROOT
from medalign_lite.cases.images import read_image
from medalign_lite.cases.readers import read_cases
from medalign_lite.corruption.masks import lesion_mask
from medalign_lite.show import charts, exercises, tables, widgets
cases = read_cases(ROOT / "data_samples/cases").cases
case = next(case for case in cases if case.facts)
widgets.case_browser(cases)""",
    'widgets.token_heatmap({"one": (["No", " effusion"], {"gap": [0.5, -1.0], "KL": [0.0, 0.2]})})',
    "widgets.corruption_explorer(read_image(case.image), lesion_mask(case), id=case.id, seed=7)",
    'exercises.quiz("Which word hurts most?", ["small", "no", "left"], right="no", why="It hides a finding.")',
    "charts.case_sheet(cases)",
    'widgets.ask_box(lambda case, text: "No.", cases, "Is there an effusion?")',
    'tables.table({"base": {"fact F1": 0.7}, "aligned": {"fact F1": None}}, title="test")',
]


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_the_report(tmp_path, width, scheme):
    page = full_page(tmp_path)
    with browser(width) as driver:
        media = {"media": "", "features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                               {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
        driver.get(page.as_uri())
        driver.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert barriers(driver, "body") == []
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width


def test_axe_finds_nothing_serious_on_widgets_and_a_keyboard_is_enough(tmp_path, monkeypatch):
    from selenium.webdriver.common.keys import Keys

    monkeypatch.delenv("MEDALIGN_HEADLESS", raising=False)
    with lab(tmp_path, CELLS) as url, browser() as driver:
        run_all(driver, url)
        wait(lambda: driver.find_elements("css selector", ".widget-radio-box input"), "the quiz")
        wait(lambda: driver.find_elements("css selector", ".jp-RenderedHTMLCommon caption"), "the table")
        assert barriers(driver, ".jp-Notebook .jp-Cell-outputArea") == []
        assert all(image.get_attribute("alt") for image in driver.find_elements("css selector", ".jp-OutputArea img"))
        wait(lambda: answered_by_keys(driver, Keys), "the quiz's answer")


def answered_by_keys(driver, keys):
    """Whether the quiz says *right* after its second option and its button were reached and pressed by keys alone."""
    first = driver.find_elements("css selector", ".widget-radio-box input")[0]
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus()", first)
    for key in (keys.TAB, keys.SPACE, keys.TAB, keys.TAB, keys.SPACE):  # not the arrows: JupyterLab takes them
        driver.switch_to.active_element.send_keys(key)
    time.sleep(1)
    return any("✓ right" in said.text for said in driver.find_elements("css selector", "[role=status]"))
