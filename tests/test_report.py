"""The report is one inert file: complete, escaped, and unable to run or load anything, also in a real browser."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from medalign_lite.evaluate.stats import RESULT_METRICS
from medalign_lite.losses.recipes import RECIPES
from medalign_lite.show.charts import picture
from medalign_lite.show.failures import Failure
from medalign_lite.show.page import ABOUT, LIMITS, Report, run_facts, verdict, write_report

matplotlib.use("Agg")
CHROMIUM = "/usr/bin/chromium"
HOSTILE = (
    '</bdi></title><script>document.title="hacked"</script><img src=x onerror="document.title=\'hacked\'">'
    '<a href="javascript:alert(1)">x</a><meta http-equiv=refresh content="0;url=https://example.org"> {{ 7 * 7 }} '
    "\U0001f600 שלום مرحبا \u202e \x00 \ud800 $x^2$"
)


def entry(value, half=0.02, n=480):
    return {"value": value, "low": value - half, "high": value + half, "n": n}


NOTHING = {"value": None, "low": None, "high": None, "n": 0}


def made_up(f1=0.1, false=-0.15, half=0.02):
    changes = dict.fromkeys(RESULT_METRICS, 0.01) | {"fact_f1": f1, "hallucination_rate": false}
    block = {"base": {name: entry(0.5) for name in RESULT_METRICS},
             "aligned": {name: entry(0.5 + change) for name, change in changes.items()},
             "difference": {name: entry(change, half) for name, change in changes.items()}}
    return {arm: {split: block[arm] for split in ("test", "shifted")} for arm in block}


def unmeasured(*measured):
    full = made_up()
    return {arm: {split: {name: full[arm][split][name] if name in measured and split == "test" else NOTHING
                          for name in RESULT_METRICS} for split in full[arm]} for arm in full}  # fmt: skip


def full_page(folder, name="report.html"):
    figure = Figure(figsize=(3, 2))
    figure.subplots().plot([0, 1])
    png = picture(Figure(figsize=(1, 1)), "tile").png
    case = Failure(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, png, HOSTILE, ((0, 12, "false"),))
    change = {"fact_f1": entry(0.6)}, {"fact_f1": entry(-0.1)}
    return write_report(folder / name, Report(
        made_up(), run_facts(f"make reproduce PRESET={'x' * 99}", seed=7) | {"preset": "ci", "4-bit": HOSTILE}, HOSTILE,
        arms={HOSTILE: dict(zip(("aligned", "difference"), change, strict=True)), "dpo": {"aligned": {}},
              "base": {"aligned": {"fact_f1": entry(0.7)}}},
        shown=[case], failures=[case], reading=["It does look.", HOSTILE],
        pictures=[picture(figure, "Loss", HOSTILE, alt=HOSTILE)],
        controls={"blank": {a: {"test": {"fact_f1": entry(0.1)}} for a in ("base", "aligned", "difference")}},
        changed={"one finding taken out": made_up()},
        left_out={"Skipped cases: 1": [(HOSTILE, "zero bytes")], "Rejected records: 8": [("D4: too much", 8)]},
    ))  # fmt: skip


def test_the_page_is_self_contained_and_complete(tmp_path):
    page = full_page(tmp_path).read_text(encoding="utf-8")
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert set(re.findall(r'<img[^>]* src="([^"]{11})', page)) == {"data:image/"}
    assert not re.search(r"<(script|link|iframe|object)\b|@import|url\(", page)
    headings = re.findall(r'<h2 id="([^"]+)">', page)
    assert headings == ["recipes", "before-and-after", "what-the-numbers-say", "figures", "controls", "failures",
                        "all-results", "setup", "left-out", "limits"]
    assert re.findall(r'<a href="#([^"]+)">', page) == headings
    assert all(limit in page for limit in LIMITS["phantom"])
    assert "zero bytes" in page and "Rejected records: 8" in page and "<li>It does look.</li>" in page
    assert all(f">{name}</dt>" in page for name in ("date", "version", "command", "seed", "machine"))
    assert "{{ 7 * 7 }}" in page and "\x00" not in page
    assert not list(tmp_path.glob("*.part"))
    assert '<mark><span class="aside">[false: </span>&lt;/bdi&gt;&lt;/tit' in page


def test_the_first_table_has_a_row_an_arm_the_base_first_and_says_why_it_has_gaps(tmp_path):
    page = full_page(tmp_path).read_text(encoding="utf-8")
    table = page[page.index('id="recipes"') : page.index('id="before-and-after"')]
    rows = re.findall(r"<tr.*?</tr>", table, re.S)
    assert ["base" in rows[1], "(the aligned model)" in rows[2], "dpo" in rows[3]] == [True] * 3
    assert "▼ worse" in rows[2] and "worse" not in rows[1]
    assert "closed accuracy" not in table  # no arm was asked
    whole = {name: entry(0.5) for name in ("fact_f1", "closed_accuracy")}
    arms = {"base": {"aligned": whole}, "grounded": {"aligned": whole}, "dpo": {"aligned": {"fact_f1": entry(0.6)}}}
    path = write_report(tmp_path / "a.html", Report(made_up(), {}, "grounded", arms=arms))
    assert "dpo: asked for reports alone, to save time, so closed accuracy is not measured" in path.read_text()
    path = write_report(tmp_path / "b.html", Report(made_up(), {}, "grounded", arms={"base": {"aligned": whole}}))
    assert "asked for reports alone" not in path.read_text()


def test_every_recipe_is_said_in_a_line_and_ours_are_named_ours():
    assert set(RECIPES) < set(ABOUT)
    assert {name for name, line in ABOUT.items() if line.startswith("ours")} == {"grounded", "neutral-control"}


def test_the_same_run_gives_the_same_bytes_also_from_a_sorted_file(tmp_path):
    assert full_page(tmp_path, "a.html").read_bytes() == full_page(tmp_path, "b.html").read_bytes()
    results = made_up()
    turned = {arm: {split: dict(sorted(results[arm][split].items())) for split in ("shifted", "test")}
              for arm in sorted(results)}  # fmt: skip
    pages = [write_report(tmp_path / "r.html", Report(r, {})).read_text() for r in (results, turned)]
    assert pages[0] == pages[1]
    with pytest.raises(OSError):
        full_page(tmp_path / "missing")


@pytest.mark.parametrize(("f1", "false", "half", "said"), [
    (0.1, -0.1, 0.02, "Alignment helped."),
    (0.1, -0.01, 0.02, "helped in part"),
    (0.01, 0.01, 0.02, "not shown to help"),
    (-0.1, 0.1, 0.02, "did harm"),
    (-0.1, -0.1, 0.02, "is a trade"),
])  # fmt: skip
def test_the_verdict_follows_the_intervals(f1, false, half, said):
    assert said in verdict(made_up(f1, false, half))
    assert f"({f1:+.3f}, 95 % interval" in verdict(made_up(f1, false, half))


@pytest.mark.parametrize(("low", "high", "said"), [
    (0.01, 0.2, "helped with"), (-0.1, 0.2, "is not shown to help with"), (-0.2, -0.01, "did harm with"),
])
def test_where_only_questions_were_asked_the_verdict_is_theirs(low, high, said):
    results = unmeasured("choice_accuracy")
    results["difference"]["test"]["choice_accuracy"] |= {"low": low, "high": high}
    assert verdict(results).startswith(f"Alignment {said} questions; whether with findings is not measurable")


def test_real_data_says_what_cannot_be_measured(tmp_path):
    results = unmeasured("closed_accuracy", "open_recall")
    page = write_report(tmp_path / "r.html", Report(results, {}, limits=LIMITS["real"])).read_text()
    assert "not measurable: no structured truth" in verdict(results) and "closed accuracy went from" in verdict(results)
    assert page.count("not measurable: no structured truth") >= 5
    assert "no cases in this split" in page and "has never seen" in page
    assert "could be scored" in verdict(unmeasured())


def browse(page, profile, *flags):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
               "--disable-background-networking", "--disable-component-update", "--disable-sync",
               f"--user-data-dir={profile}", *flags, page.as_uri()]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


class Tags(HTMLParser):
    """The (tag, attributes) of a page as the browser ended up with it."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, attrs))


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which(CHROMIUM), reason=f"needs {CHROMIUM}: apt-get install chromium")
def test_hostile_text_is_shown_and_does_not_run(tmp_path):
    page = full_page(tmp_path)
    shot = tmp_path / "shot.png"
    dom = browse(page, tmp_path / "one", "--dump-dom")
    browse(page, tmp_path / "two", "--window-size=1100,1500", f"--screenshot={shot}")
    assert "<title>medalign-lite report</title>" in dom
    tags = Tags(dom).found
    assert {tag for tag, _ in tags}.isdisjoint({"script", "iframe"})
    assert all(dict(at)["href"].startswith("#") for tag, at in tags if tag == "a")
    assert all(value.startswith("data:image/png") for tag, at in tags for name, value in at if name == "src")
    assert not [at for _, at in tags for name, value in at if name.startswith("on") or value == "refresh"]
    pixels = np.asarray(Image.open(shot).convert("L"))
    assert pixels.shape == (1500, 1100) and pixels.std() > 5


def test_a_silent_arm_is_said_not_called_unmeasurable(tmp_path):
    results = made_up()
    for arm in ("aligned", "difference"):
        results[arm]["test"] = results[arm]["test"] | {"hallucination_rate": NOTHING, "fact_precision": NOTHING}
    assert verdict(results).startswith("One arm affirms no finding at all: on 480 test images fact F1 went from")
    page = write_report(tmp_path / "report.html", Report(results, {})).read_text(encoding="utf-8")
    assert "no structured truth" not in page
